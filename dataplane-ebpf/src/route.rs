//! Station *route*: where the destination is, which source the flow leaves with, and the way out.

use aya_ebpf::bindings::bpf_check_mtu_flags::BPF_MTU_CHK_SEGS;
use aya_ebpf::helpers::{bpf_check_mtu, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer};
use aya_ebpf::maps::lpm_trie::Key;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::DIRECT_RETURN;
use weft_dataplane_abi::conntrack::{FLOW_DIRECT, FLOW_PORT_ALLOCATED};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{
    OVERLAY_DIRECT_MAC, OVERLAY_MAC, OVERLAY_SOURCE_MAC, ROUTE_HOST, ROUTE_LOCKED, ROUTE_NATIVE,
    ROUTE_NOWHERE, ROUTE_OUTSIDE, ROUTE_POD, ROUTE_SERVICE, ROUTE_TUNNEL, Route, RouteKey,
};
use weft_dataplane_abi::station::Station;

use crate::balance::is_node_port;
use crate::context::Context;
use crate::maps::{self, ROUTES};
use crate::parse::{self, Packet, UDP};
use crate::verdict::{Step, Verdict, drop};
use crate::walk::Walk;
use crate::words::copy;
use crate::{native, refuse, tunnel};

/// Finds where the packet's new destination is, for the row in force.
#[inline(always)]
pub(crate) fn find(walk: &mut Walk) {
    let flow = walk.flow();
    if let Some(endpoint) = maps::endpoint(&flow.to.destination) {
        let (to, from) = (endpoint.mac, endpoint.gateway_mac);
        flow.way = ROUTE_POD as u8;
        flow.way_words[0] = u32::from_ne_bytes([to[0], to[1], to[2], to[3]]);
        flow.way_words[1] = u32::from_ne_bytes([to[4], to[5], from[0], from[1]]);
        flow.way_words[2] = u32::from_ne_bytes([from[2], from[3], from[4], from[5]]);
        flow.way_words[3] = endpoint.ifindex;
        return;
    }
    match of(&mut walk.scratch.route_key, &flow.to.destination) {
        Some(route) => {
            // What goes on as it came from outside has another node's mark, which only the tunnel carries.
            let marked = flow.flags & FLOW_DIRECT != 0 && route.kind == ROUTE_NATIVE;
            flow.way = if marked { ROUTE_TUNNEL } else { route.kind } as u8;
            flow.way_words[0] = route.tunnel.words[0].wire();
            flow.way_words[1] = route.tunnel.words[1].wire();
            flow.way_words[2] = route.tunnel.words[2].wire();
            flow.way_words[3] = route.tunnel.words[3].wire();
        }
        None => flow.way = ROUTE_OUTSIDE as u8,
    }
}

/// The route of an address, with room for the key.
#[inline(always)]
pub(crate) fn of(key: &mut RouteKey, address: &Address) -> Option<&'static Route> {
    key.prefix_bits = 128;
    copy(&mut key.address, address);
    // SAFETY: the two are laid out alike; aya's own is packed, which makes it a copy of bytes.
    let key = unsafe { &*core::ptr::from_ref(key).cast::<Key<Address>>() };
    ROUTES.get(key)
}

/// A route that leads nowhere ends the walk of a new flow, with the reason.
#[inline(always)]
pub(crate) fn must_lead_on(walk: &Walk) -> Step<()> {
    match u32::from(walk.scratch.first.way) {
        ROUTE_SERVICE => drop(Station::Route, Reason::NoService),
        ROUTE_NOWHERE => drop(Station::Route, Reason::NoSuchPod),
        ROUTE_LOCKED => drop(Station::Route, Reason::NoKey),
        _ => Ok(()),
    }
}

/// What another node sends must be for this one.
#[inline(always)]
pub(crate) fn must_be_here(walk: &Walk) -> Step<()> {
    must_lead_on(walk)?;
    match u32::from(walk.scratch.first.way) {
        ROUTE_TUNNEL | ROUTE_NATIVE | ROUTE_OUTSIDE => drop(Station::Route, Reason::NotHere),
        _ => Ok(()),
    }
}

/// What a Pod may begin: not what leads nowhere, nor the tunnel's port of a node.
#[inline(always)]
pub(crate) fn from_pod_may(walk: &Walk) -> Step<()> {
    must_lead_on(walk)?;
    let to = &walk.scratch.first.to;
    let to_tunnel = to.protocol == UDP && to.destination_port.get() == walk.config.overlay_port;
    if to_tunnel && maps::node(&to.destination).is_some() {
        return drop(Station::Route, Reason::PodToTunnel);
    }
    Ok(())
}

/// What the node may begin by this device: nothing that leads back to itself.
#[inline(always)]
pub(crate) fn from_node_may(walk: &Walk) -> Step<()> {
    must_lead_on(walk)?;
    match u32::from(walk.scratch.first.way) {
        ROUTE_HOST => drop(Station::Route, Reason::NodeToItself),
        _ => Ok(()),
    }
}

/// The source a Pod's flow leaves with: the node's to the outside, the overlay's to itself, else its own.
#[inline(always)]
pub(crate) fn source_for_pod(walk: &mut Walk) -> Step<()> {
    let scratch = &mut *walk.scratch;
    let kind = u32::from(scratch.first.way);
    if kind == ROUTE_OUTSIDE {
        return leave_as(walk, of_node(walk));
    }
    if kind == ROUTE_POD && scratch.first.to.destination == scratch.tuple.source {
        return leave_as(walk, of_overlay(walk));
    }
    Ok(())
}

/// The source the node's own flow leaves with, when a Service led it out of the cluster.
#[inline(always)]
pub(crate) fn source_for_node(walk: &mut Walk) -> Step<()> {
    match u32::from(walk.scratch.first.way) {
        ROUTE_OUTSIDE => leave_as(walk, of_node(walk)),
        _ => Ok(()),
    }
}

/// The source a client's flow leaves with: its own to what is here, and to another node's Pod which that node is to answer
/// for; else one whose answers come back here.
#[inline(always)]
pub(crate) fn source_for_client(walk: &mut Walk) -> Step<()> {
    let is_direct = walk.hook == Hook::FromUplink && walk.config.flags & DIRECT_RETURN != 0;
    match u32::from(walk.scratch.first.way) {
        ROUTE_TUNNEL | ROUTE_NATIVE if is_direct => {
            // A neighbour, too, hears by the tunnel what it is to answer: only that carries the mark.
            walk.scratch.first.way = ROUTE_TUNNEL as u8;
            walk.scratch.first.flags |= FLOW_DIRECT;
            Ok(())
        }
        ROUTE_TUNNEL | ROUTE_NATIVE => leave_as(walk, of_overlay(walk)),
        ROUTE_OUTSIDE => leave_as(walk, of_node(walk)),
        _ => Ok(()),
    }
}

/// A flow that another node is to answer for goes by the tunnel, or nowhere: nothing of it is translated here.
#[inline(always)]
pub(crate) fn still_direct(walk: &Walk) -> Step<()> {
    let flow = walk.flow();
    if flow.flags & FLOW_DIRECT != 0 && u32::from(flow.way) != ROUTE_TUNNEL {
        return drop(Station::Route, Reason::NoSuchPod);
    }
    Ok(())
}

/// What comes from outside must fit into a tunnel of IPv6, which nobody cuts: the kernel does that for one of IPv4 alone.
#[inline(always)]
pub(crate) fn must_fit(walk: &mut Walk, packet: &Packet) -> Step<()> {
    let flow = walk.flow();
    if u32::from(flow.way) != ROUTE_TUNNEL || flow.way_words[0] == 0 {
        return Ok(());
    }
    let mut longest_bytes = 0;
    // SAFETY: the context is valid; the helper writes the device's MTU.
    let answer = unsafe {
        bpf_check_mtu(
            walk.context.cast(),
            walk.config.overlay_ifindex,
            &raw mut longest_bytes,
            0,
            BPF_MTU_CHK_SEGS.into(),
        )
    };
    // Below 0 the device is not there, as the packet's way will find out.
    if answer <= 0 { Ok(()) } else { Err(refuse::too_large(walk, packet, longest_bytes)) }
}

/// This node's address of the packet's family.
#[inline(always)]
fn of_node(walk: &Walk) -> &'static Address {
    if walk.is_v6() { &walk.config.node_v6 } else { &walk.config.node_v4 }
}

/// The same inside the overlay.
#[inline(always)]
fn of_overlay(walk: &Walk) -> &'static Address {
    if walk.is_v6() { &walk.config.overlay_v6 } else { &walk.config.overlay_v4 }
}

/// The flow that begins leaves with this address of the node's and a port of its range.
#[inline(always)]
fn leave_as(walk: &mut Walk, own: &Address) -> Step<()> {
    if own.is_zero() {
        return drop(Station::Route, Reason::FamilyUnsupported);
    }
    let first = &mut walk.scratch.first;
    copy(&mut first.to.source, own);
    first.flags |= FLOW_PORT_ALLOCATED;
    Ok(())
}

/// Whether a packet to this node from outside can be a translated flow's: by port, so that the host's own costs no look-up.
#[inline(always)]
pub(crate) fn may_be_ours<C>(walk: &Walk<C>, packet: &Packet) -> bool {
    // Of SCTP a masqueraded flow keeps its port.
    if !packet.ports_may_change() {
        return true;
    }
    let config = walk.config;
    let port = walk.scratch.tuple.destination_port;
    let translated = config.source_port_first <= port.get() && port.get() <= config.source_port_last;
    translated || is_node_port(config, port)
}

/// Sends the packet on its way.
#[inline(always)]
pub(crate) fn leave(walk: &Walk) -> Step<Verdict> {
    let at_egress = matches!(walk.hook, Hook::ToOverlay);
    let flow = walk.flow();
    let words = &flow.way_words;
    match u32::from(flow.way) {
        ROUTE_POD if at_egress => {
            frame(walk, [words[0], words[1] & low_half() | WALKED[1] & !low_half(), WALKED[2]])?;
            // SAFETY: only takes note of the device.
            Ok(Verdict::redirected(unsafe { bpf_redirect(words[3], 0) }))
        }
        ROUTE_POD => {
            frame(walk, [words[0], words[1], words[2]])?;
            // SAFETY: as above.
            Ok(Verdict::redirected(unsafe { bpf_redirect_peer(words[3], 0) }))
        }
        ROUTE_TUNNEL => {
            // Only what came from outside goes on as it came.
            let direct = matches!(walk.hook, Hook::FromUplink) && flow.flags & FLOW_DIRECT != 0;
            let marks = if direct { DIRECT } else { WALKED };
            if !at_egress && let Some(verdict) = tunnel::put_in(walk, marks)? {
                return Ok(verdict);
            }
            tunnel::to(walk, words)?;
            frame(walk, marks)?;
            if at_egress {
                return Ok(Verdict::Next);
            }
            // SAFETY: as above.
            Ok(Verdict::redirected(unsafe { bpf_redirect(walk.config.overlay_ifindex, 0) }))
        }
        ROUTE_OUTSIDE => {
            let uplink = walk.config.uplink_ifindex;
            // SAFETY: without parameters the kernel looks up route and neighbour itself.
            Ok(Verdict::redirected(unsafe { bpf_redirect_neigh(uplink, core::ptr::null_mut(), 0, 0) }))
        }
        ROUTE_NATIVE => Ok(native::send(walk)),
        ROUTE_HOST => Ok(Verdict::Next),
        ROUTE_SERVICE => drop(Station::Route, Reason::NoService),
        ROUTE_LOCKED => drop(Station::Route, Reason::NoKey),
        _ => drop(Station::Route, Reason::NoSuchPod),
    }
}

/// The two addresses of a frame in the tunnel, as they stand in memory.
pub(crate) const WALKED: [u32; 3] = in_tunnel(OVERLAY_SOURCE_MAC);
/// The same of one that the other node is to balance.
pub(crate) const DIRECT: [u32; 3] = in_tunnel(OVERLAY_DIRECT_MAC);

const fn in_tunnel(from: [u8; 6]) -> [u32; 3] {
    let to = OVERLAY_MAC;
    [
        u32::from_ne_bytes([to[0], to[1], to[2], to[3]]),
        u32::from_ne_bytes([to[4], to[5], from[0], from[1]]),
        u32::from_ne_bytes([from[2], from[3], from[4], from[5]]),
    ]
}

/// What of a word stands first in memory.
#[inline(always)]
const fn low_half() -> u32 {
    u32::from_ne_bytes([0xff, 0xff, 0, 0])
}

/// Writes the frame's two addresses.
#[inline(always)]
pub(crate) fn frame<C: Context>(walk: &Walk<C>, words: [u32; 3]) -> Step<()> {
    let Some(frame) = parse::at::<[u16; 6]>(walk, 0) else {
        return drop(Station::Route, Reason::RewriteFailed);
    };
    let half = |word: u32, at: usize| {
        let bytes = word.to_ne_bytes();
        u16::from_ne_bytes([bytes[2 * at], bytes[2 * at + 1]])
    };
    // SAFETY: within the packet; frames are aligned to two bytes.
    unsafe {
        (*frame)[0] = half(words[0], 0);
        (*frame)[1] = half(words[0], 1);
        (*frame)[2] = half(words[1], 0);
        (*frame)[3] = half(words[1], 1);
        (*frame)[4] = half(words[2], 0);
        (*frame)[5] = half(words[2], 1);
    }
    Ok(())
}
