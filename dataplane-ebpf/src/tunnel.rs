//! The tunnel's key: where a packet is to go, and where one came from. The outer addresses are of IPv4 where both nodes have
//! one, else of IPv6, whatever the packet inside is of.

use aya_ebpf::bindings::{BPF_F_TUNINFO_IPV6, bpf_tunnel_key};
use aya_ebpf::helpers::{bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::order::Be32;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::OVERLAY_VNI;
use weft_dataplane_abi::sip::Sip;
use weft_dataplane_abi::station::Station;

use crate::parse::UDP;
use crate::table;
use crate::verdict::{Step, drop};
use crate::walk::{Walk, is_this_node};

/// The head of `bpf_tunnel_key`, which the kernel takes for the whole of it: identifier and IPv4 remote, host order.
#[repr(C)]
struct KeyV4 {
    id: u32,
    remote: u32,
}

/// As much of it as a remote of IPv6 needs, as it stands in a packet; up to `tunnel_label`.
#[repr(C)]
struct RemoteV6 {
    id: u32,
    remote: [u32; 4],
    tos_ttl: [u8; 2],
    ext: u16,
}

/// All of it.
#[repr(C)]
struct KeyV6 {
    head: RemoteV6,
    label: u32,
    local: [u32; 4],
}

const _: () = assert!(size_of::<RemoteV6>() == 24 && size_of::<KeyV6>() == size_of::<bpf_tunnel_key>());

const IPV6: u64 = BPF_F_TUNINFO_IPV6 as u64;

/// The other end of the tunnel by which a packet came, as [`Walk::origin`] and in full; nothing when it came by none.
#[inline(always)]
pub(crate) fn other_end(walk: &mut Walk) -> Option<()> {
    let mut key = KeyV4 { id: 0, remote: 0 };
    // SAFETY: the key is as long as said; the helper writes within it.
    if unsafe { bpf_skb_get_tunnel_key(walk.context, (&raw mut key).cast(), size_of::<KeyV4>() as u32, 0) }
        == 0
    {
        walk.origin = key.remote;
        walk.scratch.outer = Address::from_v4_wire(key.remote.to_be());
        return Some(());
    }
    let mut key = RemoteV6 { id: 0, remote: [0; 4], tos_ttl: [0; 2], ext: 0 };
    let bytes = size_of::<RemoteV6>() as u32;
    // SAFETY: as above.
    if unsafe { bpf_skb_get_tunnel_key(walk.context, (&raw mut key).cast(), bytes, IPV6) } != 0 {
        return None;
    }
    let [a, b, c, d] = key.remote;
    let outer =
        Address { words: [Be32::from_wire(a), Be32::from_wire(b), Be32::from_wire(c), Be32::from_wire(d)] };
    walk.origin = in_short(&outer);
    walk.scratch.outer = outer;
    Some(())
}

/// Whether this is a packet of the tunnel itself, to or from this node's address: the kernel's device has it, and it is no flow.
#[inline(always)]
pub(crate) fn is_outer(walk: &Walk, ours: &Address) -> bool {
    let tuple = &walk.scratch.tuple;
    let to_tunnel = tuple.protocol == UDP && tuple.destination_port.get() == walk.config.overlay_port;
    to_tunnel && is_this_node(walk.config, ours)
}

/// An address of IPv6 in one word: nobody outside can find another that has the same. Never 0 nor all ones, which mean
/// something else.
#[inline(always)]
fn in_short(address: &Address) -> u32 {
    let [upper, lower] = address.halves();
    let mut hash = Sip::new(table::flow_seed());
    hash.word(upper);
    hash.word(lower);
    (hash.finish() >> 33) as u32 | 1
}

/// Gives a packet the key of the node with this address, which stands as in a flow's row.
#[inline(always)]
pub(crate) fn to(walk: &Walk, words: &[u32; 4]) -> Step<()> {
    let answer = if words[0] == 0 {
        let mut key = KeyV4 { id: OVERLAY_VNI, remote: u32::from_be(words[3]) };
        // SAFETY: the key is as long as said; the helper reads within it.
        unsafe { bpf_skb_set_tunnel_key(walk.context, (&raw mut key).cast(), size_of::<KeyV4>() as u32, 0) }
    } else {
        // The address by which the other node knows this one: the kernel might choose another of its device.
        let own = &walk.config.node_v6.words;
        let mut key = KeyV6 {
            head: RemoteV6 {
                id: OVERLAY_VNI,
                remote: [words[0], words[1], words[2], words[3]],
                tos_ttl: [0; 2],
                ext: 0,
            },
            label: 0,
            local: [own[0].wire(), own[1].wire(), own[2].wire(), own[3].wire()],
        };
        // SAFETY: as above.
        unsafe {
            bpf_skb_set_tunnel_key(walk.context, (&raw mut key).cast(), size_of::<KeyV6>() as u32, IPV6)
        }
    };
    if answer == 0 { Ok(()) } else { drop(Station::Route, Reason::TunnelKeyFailed) }
}
