//! Station *parse*, second half: who sent a packet, and whether he may.

use aya_ebpf::bindings::bpf_tunnel_key;
use aya_ebpf::helpers::bpf_skb_get_tunnel_key;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::OVERLAY_SOURCE_MAC;
use weft_dataplane_abi::station::Station;

use crate::maps;
use crate::parse;
use crate::verdict::{Step, Verdict, drop};
use crate::walk::Walk;

/// The head of `bpf_tunnel_key`, which the kernel takes for the whole of it: identifier and IPv4 remote.
#[repr(C)]
pub(crate) struct TunnelKey {
    pub(crate) id: u32,
    /// The other end, host order.
    pub(crate) remote: u32,
}

/// Its size as the kernel knows it: `offsetof(struct bpf_tunnel_key, remote_ipv6[1])`.
pub(crate) const TUNNEL_KEY_BYTES: u32 = size_of::<TunnelKey>() as u32;

impl TunnelKey {
    /// As the helpers take it.
    #[inline(always)]
    pub(crate) fn raw(&mut self) -> *mut bpf_tunnel_key {
        core::ptr::from_mut(self).cast()
    }
}

/// A packet out of the tunnel: the node it came from, not checked yet.
#[inline(always)]
pub(crate) fn of_tunnel(walk: &mut Walk) -> Step<()> {
    let mut key = TunnelKey { id: 0, remote: 0 };
    // SAFETY: the key is as long as said; the helper writes within it.
    if unsafe { bpf_skb_get_tunnel_key(walk.skb, key.raw(), TUNNEL_KEY_BYTES, 0) } != 0 {
        return drop(Station::Parse, Reason::UnknownTunnelSource);
    }
    walk.origin = key.remote;
    Ok(())
}

/// A Pod speaks with its own address only, and the tunnel takes packets from nodes only. What this finds is kept with
/// the flow; packets of other origin are looked at again.
#[inline(always)]
pub(crate) fn is_true(walk: &Walk) -> Step<()> {
    match walk.hook {
        Hook::FromPod => match maps::endpoint(&walk.scratch.tuple.source) {
            Some(endpoint) if endpoint.ifindex == walk.origin => Ok(()),
            _ => drop(Station::Parse, Reason::ForeignSource),
        },
        Hook::FromOverlay => match maps::node(&Address::from_v4_wire(walk.origin.to_be())) {
            Some(_) => Ok(()),
            None => drop(Station::Parse, Reason::UnknownTunnelSource),
        },
        _ => Ok(()),
    }
}

/// What another of our programs has sent on to this device bears the overlay's source MAC: its walk is over.
#[inline(always)]
pub(crate) fn not_yet_walked(walk: &Walk) -> Step<()> {
    let Some(frame) = parse::at::<[u16; 6]>(walk, 0) else { return Err(Verdict::Next) };
    // SAFETY: within the packet; frames are aligned to two bytes.
    let (first, last) = unsafe { ((*frame)[3], (*frame)[5]) };
    let mac = OVERLAY_SOURCE_MAC;
    if first == u16::from_ne_bytes([mac[0], mac[1]]) && last == u16::from_ne_bytes([mac[4], mac[5]]) {
        return Err(Verdict::Next);
    }
    Ok(())
}
