//! The tunnel's key: where a packet is to go, and where one came from. The outer addresses are of IPv4 where both nodes have
//! one, else of IPv6, whatever the packet inside is of.
//!
//! Most packets pass the tunnel's device by: they get the outer one here, and where their flow is under way they lose it at the
//! uplink.

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    __sk_buff, BPF_ADJ_ROOM_ENCAP_L2_SHIFT, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L2_ETH,
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO,
    BPF_F_ADJ_ROOM_NO_CSUM_RESET, BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, bpf_tunnel_key,
};
use aya_ebpf::helpers::{
    bpf_csum_level, bpf_get_hash_recalc, bpf_get_prandom_u32, bpf_redirect, bpf_redirect_neigh,
    bpf_skb_adjust_room, bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key,
};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::{ENCRYPTED, TUNNEL_BY_DEVICE};
use weft_dataplane_abi::conntrack::{FLOW_DIRECT, Flow};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be32;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{OVERLAY_VNI, ROUTE_POD, ROUTE_TUNNEL};
use weft_dataplane_abi::sip::Sip;
use weft_dataplane_abi::station::Station;

use crate::context::{Context as _, Editable as _, Inside};
use crate::dry::dry;
use crate::outer::{self, Head, OUTER_BYTES, Outer, Sender, UDP_BYTES, WITHIN_MTU_BYTES};
use crate::parse::{self, L3, Packet, TCP, UDP};
use crate::verdict::{Step, Verdict, drop};
use crate::walk::{Walk, is_this_node};
use crate::{maps, route, table, track, translate};

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
/// Over IPv4 the tunnel has no checksum of its own (RFC 7348, section 5): what is inside has one.
const NO_CHECKSUM: u64 = BPF_F_ZERO_CSUM_TX as u64;

/// What becomes of a large segment does not change: Pods leave room for the tunnel.
const FIXED: u64 = BPF_F_ADJ_ROOM_FIXED_GSO as u64;
/// A frame inside IPv4 and UDP, for what cuts large segments.
const PUT_IN: u64 = FIXED
    | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 as u64
    | BPF_F_ADJ_ROOM_ENCAP_L4_UDP as u64
    | BPF_F_ADJ_ROOM_ENCAP_L2_ETH as u64
    | (L3 as u64) << BPF_ADJ_ROOM_ENCAP_L2_SHIFT;
/// What the device found about checksums is still known.
const TAKE_OUT: u64 = FIXED | BPF_F_ADJ_ROOM_NO_CSUM_RESET as u64;
/// What comes out is of IPv6. Kernels before 6.3 refuse that, and then it is their device's.
const TAKE_OUT_IPV6: u64 = TAKE_OUT | BPF_F_ADJ_ROOM_DECAP_L3_IPV6 as u64;
/// `BPF_CSUM_LEVEL_DEC`: one checksum fewer is known to be right.
const ONE_FEWER: u64 = 2;

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

/// Whether this is a packet to a node's end of the tunnel, by its port. It is no flow.
#[inline(always)]
fn is_outer(walk: &Walk) -> bool {
    let tuple = &walk.scratch.tuple;
    tuple.protocol == UDP && tuple.destination_port.get() == walk.config.overlay_port
}

/// Whether it is to this node's end.
#[inline(always)]
pub(crate) fn arrives(walk: &Walk) -> bool {
    is_outer(walk) && is_this_node(walk.config, &walk.scratch.tuple.destination)
}

/// Whether it is this node's own to another one's.
#[inline(always)]
pub(crate) fn leaves(walk: &Walk) -> bool {
    let tuple = &walk.scratch.tuple;
    is_outer(walk) && is_this_node(walk.config, &tuple.source) && maps::node(&tuple.destination).is_some()
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
        unsafe {
            bpf_skb_set_tunnel_key(
                walk.context,
                (&raw mut key).cast(),
                size_of::<KeyV4>() as u32,
                NO_CHECKSUM,
            )
        }
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

/// Puts the packet into the tunnel and on its way to the node of the row in force; nothing when that is for the tunnel's device
/// to do, and then nothing has changed.
#[inline(always)]
pub(crate) fn put_in(walk: &Walk, marks: [u32; 3]) -> Step<Option<Verdict>> {
    if is_by_device(walk) {
        return Ok(None);
    }
    let flow = walk.flow();
    // SAFETY: the context is valid for the whole program.
    let source_port = outer::source_port(unsafe { bpf_get_hash_recalc(walk.context) });
    let Some((bytes, longest_bytes)) = lengths(walk) else { return Ok(None) };
    let Some((macs, _)) = outer::next_hop(walk, flow, ROUTE_TUNNEL, longest_bytes, source_port) else {
        return Ok(None);
    };
    let Some(first) = parse::at::<u16>(walk, L3) else { return Ok(None) };
    // SAFETY: within the packet; frames are aligned to two bytes.
    let first = unsafe { *first };
    let head = Head {
        source: walk.config.node_v4.v4_wire(),
        destination: flow.way_words[3],
        overlay_port: walk.config.overlay_port,
        source_port,
        // SAFETY: a number.
        identification: unsafe { bpf_get_prandom_u32() } as u16,
        bytes,
        tos: outer::type_of_service(walk.is_v6(), first),
        marks,
        protocol: walk.context.protocol(),
    };
    if !adjust(walk.context, OUTER_BYTES as i32, PUT_IN) {
        return Ok(None);
    }
    let Some(packet) = parse::at::<Outer>(walk, 0) else {
        return drop(Station::Route, Reason::RewriteFailed);
    };
    // SAFETY: as above.
    let packet = unsafe { &mut *packet };
    outer::write(packet, &head);
    walk.context.sum_changed(outer::added_sum(packet));
    route::frame(walk, macs)?;
    maps::count(Counter::Encapsulated);
    let uplink = walk.config.uplink_ifindex;
    let answer = if walk.scratch.neighbours_are_fresh != 0 {
        // SAFETY: only takes note of the device.
        unsafe { bpf_redirect(uplink, 0) }
    } else {
        // SAFETY: without parameters the kernel looks up route and neighbour itself, and keeps that one fresh.
        unsafe { bpf_redirect_neigh(uplink, core::ptr::null_mut(), 0, 0) }
    };
    Ok(Some(Verdict::redirected(answer)))
}

/// What came by the tunnel to this node's uplink: what is of a flow under way to a Pod here goes on to it. All else is the
/// tunnel's device's, as it came.
#[inline(always)]
pub(crate) fn arrive(walk: &mut Walk) -> Step<Verdict> {
    let Some((flow, packet)) = taken_out(walk) else { return Ok(Verdict::Next) };
    maps::count(Counter::Decapsulated);
    track::meet(walk, flow, packet);
    translate::apply(walk, packet)?;
    route::leave(walk)
}

/// Takes the outer packet off, if the one inside is to go on from here.
#[inline(always)]
fn taken_out(walk: &mut Walk) -> Option<(&'static mut Flow, &'static mut Packet)> {
    // SAFETY: the context is valid for the whole program.
    let to_host = unsafe { (*walk.context).pkt_type } == 0;
    if is_by_device(walk) || !to_host || !Inside(walk.context).pull(L3) {
        return None;
    }
    let Sender { origin, met_congestion } = outer::sender(walk)?;
    let mut inside = Walk {
        context: Inside(walk.context),
        hook: Hook::FromOverlay,
        config: walk.config,
        epoch: walk.epoch,
        origin,
        row: walk.row,
        // SAFETY: the walk outside waits until this one is over.
        scratch: unsafe { &mut *(&raw mut *walk.scratch) },
    };
    let packet = outer::plain_headers(&mut inside)?;
    let flow = track::settled(&inside, packet)?;
    let is_here = u32::from(flow.way) == ROUTE_POD && flow.flags & FLOW_DIRECT == 0;
    // Of UDP the kernel keeps in mind that a large one was in a tunnel, and would look for it.
    if !is_here || packet.protocol == UDP && gso_bytes(walk.context) != 0 {
        return None;
    }
    let first = parse::at::<u16>(&inside, L3)?;
    // SAFETY: within the packet; frames are aligned to two bytes. What does not speak of congestion is lost where there is some.
    if met_congestion && !outer::speaks_of_congestion(inside.is_v6(), unsafe { *first }) {
        return None;
    }
    let flags = if inside.is_v6() { TAKE_OUT_IPV6 } else { TAKE_OUT };
    let protocol = inside.context.protocol();
    if !adjust(walk.context, -(OUTER_BYTES as i32), flags) {
        return None;
    }
    // SAFETY: the context is valid; where the device knows of no checksum, the helper says so. The queue was the outer packet's.
    unsafe {
        bpf_csum_level(walk.context, ONE_FEWER);
        (*walk.context).queue_mapping = 0;
    }
    if let Some(place) = parse::at::<u16>(walk, L3 - 2) {
        // SAFETY: within the packet; frames are aligned to two bytes.
        unsafe { *place = protocol as u16 };
    }
    if met_congestion {
        outer::mark_congestion(walk);
    }
    (walk.hook, walk.origin) = (Hook::FromOverlay, origin);
    Some((flow, packet))
}

/// Whether all of the tunnel goes by its device: where nodes encrypt, or as it is set, and what only looks. So does what has a VLAN's
/// tag, which belongs inside.
#[inline(always)]
fn is_by_device(walk: &Walk) -> bool {
    // SAFETY: the context is valid for the whole program.
    let tagged = unsafe { (*walk.context).vlan_present } != 0;
    walk.config.flags & (ENCRYPTED | TUNNEL_BY_DEVICE) != 0 || tagged || dry()
}

/// Length of the packet without its frame, and of the longest that leaves for it, with the outer one: bytes. None of what does
/// not fit into another packet.
#[inline(always)]
fn lengths(walk: &Walk) -> Option<(u16, u16)> {
    let bytes = walk.packet_bytes() - L3 as u32;
    if bytes + OUTER_BYTES as u32 > 0xffff {
        return None;
    }
    let payload_bytes = gso_bytes(walk.context);
    if payload_bytes == 0 {
        return Some((bytes as u16, (bytes + WITHIN_MTU_BYTES as u32) as u16));
    }
    let packet = &walk.scratch.packet;
    let header_bytes = if packet.protocol == TCP {
        let header = parse::at::<[u16; 7]>(walk, packet.l4())?;
        // SAFETY: within the packet; headers are aligned to two bytes. The first four bits count words.
        u32::from(u16::from_be(unsafe { (*header)[6] }) >> 12) * 4
    } else {
        UDP_BYTES as u32
    };
    let longest_bytes = (packet.l4() - L3 + WITHIN_MTU_BYTES) as u32 + header_bytes + payload_bytes;
    Some((bytes as u16, longest_bytes.min(0xffff) as u16))
}

/// Payload of each packet that a large segment is cut into, bytes; 0 of one that is not cut.
#[inline(always)]
fn gso_bytes(skb: *mut __sk_buff) -> u32 {
    // SAFETY: the context is valid for the whole program.
    unsafe { (*skb).gso_size }
}

/// Makes room behind the frame's header, or takes it away; false when the kernel does not, and then nothing has changed.
#[inline(always)]
fn adjust(skb: *mut __sk_buff, bytes: i32, flags: u64) -> bool {
    // SAFETY: the helper checks the lengths; pointers into the packet are taken after it.
    unsafe { bpf_skb_adjust_room(skb, bytes, BPF_ADJ_ROOM_MAC, flags) == 0 }
}
