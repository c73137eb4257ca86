//! Station *route*: where the destination is, which source the flow leaves with, and the way out.

use aya_ebpf::bindings::bpf_tunnel_key;
use aya_ebpf::helpers::{
    bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key,
};
use aya_ebpf::maps::lpm_trie::Key;
use core::mem::MaybeUninit;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::conntrack::FLOW_PORT_ALLOCATED;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{
    OVERLAY_MAC, OVERLAY_SOURCE_MAC, OVERLAY_VNI, ROUTE_HOST, ROUTE_NOWHERE, ROUTE_OUTSIDE, ROUTE_SERVICE,
    ROUTE_TUNNEL,
};
use weft_dataplane_abi::station::Station;

use crate::balance::is_node_port;
use crate::maps::{self, ROUTES};
use crate::parse::{self, Packet, UDP};
use crate::verdict::{Step, Verdict, drop};
use crate::walk::Walk;

/// [`Way::kind`]: a Pod of this node. The others are `ROUTE_*`.
pub(crate) const LOCAL: u32 = 0;
const TUNNEL_TTL: u8 = 64;
/// A key without an IPv6 remote: the kernel's own size of it before fields were added at its end.
const TUNNEL_KEY_BYTES: u32 = size_of::<bpf_tunnel_key>() as u32;

/// Where a packet goes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Way {
    /// [`LOCAL`] or `ROUTE_*`.
    pub(crate) kind: u32,
    /// Host's end of the Pod's veth, for [`LOCAL`].
    pub(crate) ifindex: u32,
    /// The other node, for a tunnel.
    pub(crate) tunnel: Address,
    /// The Pod's MAC, for [`LOCAL`].
    pub(crate) mac: [u8; 6],
    /// Its gateway's.
    pub(crate) gateway_mac: [u8; 6],
}

/// Finds where the packet's new destination is.
#[inline(always)]
pub(crate) fn find(walk: &mut Walk) {
    let scratch = &mut *walk.scratch;
    if let Some(endpoint) = maps::endpoint(&scratch.to.destination) {
        scratch.way.kind = LOCAL;
        scratch.way.ifindex = endpoint.ifindex;
        scratch.way.mac = endpoint.mac;
        scratch.way.gateway_mac = endpoint.gateway_mac;
        return;
    }
    let key = Key::new(128, scratch.to.destination);
    match ROUTES.get(&key) {
        Some(route) => {
            scratch.way.kind = route.kind;
            scratch.way.tunnel = route.tunnel;
        }
        None => scratch.way.kind = ROUTE_OUTSIDE,
    }
}

/// A route that leads nowhere ends the walk of a new flow, with the reason.
#[inline(always)]
pub(crate) fn must_lead_on(walk: &Walk) -> Step<()> {
    match walk.scratch.way.kind {
        ROUTE_SERVICE => drop(Station::Route, Reason::NoService),
        ROUTE_NOWHERE => drop(Station::Route, Reason::NoSuchPod),
        _ => Ok(()),
    }
}

/// What a Pod may begin: not what leads nowhere, nor the tunnel's port of a node.
#[inline(always)]
pub(crate) fn from_pod_may(walk: &Walk) -> Step<()> {
    must_lead_on(walk)?;
    let to = &walk.scratch.to;
    let to_tunnel = to.protocol == UDP && to.destination_port.get() == walk.config.overlay_port;
    if to_tunnel && maps::node(&to.destination).is_some() {
        return drop(Station::Route, Reason::PodToTunnel);
    }
    Ok(())
}

/// The source a Pod's flow leaves with: the node's to the outside, the overlay's to itself, else its own.
#[inline(always)]
pub(crate) fn source_for_pod(walk: &mut Walk) {
    let scratch = &mut *walk.scratch;
    if scratch.way.kind == ROUTE_OUTSIDE {
        scratch.to.source = walk.config.node_v4;
        scratch.flags |= FLOW_PORT_ALLOCATED;
    } else if scratch.way.kind == LOCAL && scratch.to.destination == scratch.tuple.source {
        scratch.to.source = walk.config.overlay_v4;
        scratch.flags |= FLOW_PORT_ALLOCATED;
    }
}

/// The source the node's own flow leaves with, when a Service led it out of the cluster.
#[inline(always)]
pub(crate) fn source_for_node(walk: &mut Walk) {
    let scratch = &mut *walk.scratch;
    if scratch.way.kind == ROUTE_OUTSIDE {
        scratch.to.source = walk.config.node_v4;
        scratch.flags |= FLOW_PORT_ALLOCATED;
    }
}

/// The source a client's flow leaves with: its own to what is here, else one whose answers come back here.
#[inline(always)]
pub(crate) fn source_for_client(walk: &mut Walk) {
    let scratch = &mut *walk.scratch;
    match scratch.way.kind {
        ROUTE_TUNNEL => scratch.to.source = walk.config.overlay_v4,
        ROUTE_OUTSIDE => scratch.to.source = walk.config.node_v4,
        _ => return,
    }
    scratch.flags |= FLOW_PORT_ALLOCATED;
}

/// Whether a packet to this node from outside can be a translated flow's: by port, so that the host's own costs no look-up.
#[inline(always)]
pub(crate) fn may_be_ours(walk: &Walk, packet: &Packet) -> bool {
    if !packet.has_ports {
        return true;
    }
    let config = walk.config;
    let port = walk.scratch.tuple.destination_port;
    let translated = config.source_port_first <= port.get() && port.get() <= config.source_port_last;
    translated || is_node_port(config, port)
}

/// The tunnel takes packets from nodes only.
#[inline(always)]
pub(crate) fn tunnel_source_is_node(walk: &Walk) -> Step<()> {
    let mut key = MaybeUninit::<bpf_tunnel_key>::zeroed();
    // SAFETY: the key is as long as said, and zeroed before; the helper writes within it.
    let (answer, remote) = unsafe {
        let answer = bpf_skb_get_tunnel_key(walk.skb, key.as_mut_ptr(), TUNNEL_KEY_BYTES, 0);
        (answer, (*key.as_ptr()).__bindgen_anon_1.remote_ipv4)
    };
    if answer == 0 && maps::node(&Address::from_v4_wire(remote.to_be())).is_some() {
        return Ok(());
    }
    drop(Station::Parse, Reason::UnknownTunnelSource)
}

/// Sends the packet on its way.
#[inline(always)]
pub(crate) fn leave(walk: &Walk) -> Step<Verdict> {
    let at_egress = matches!(walk.hook, Hook::ToOverlay);
    let way = &walk.scratch.way;
    match way.kind {
        LOCAL if at_egress => {
            frame(walk, way.mac, OVERLAY_SOURCE_MAC)?;
            // SAFETY: only takes note of the device.
            Ok(Verdict::redirected(unsafe { bpf_redirect(way.ifindex, 0) }))
        }
        LOCAL => {
            frame(walk, way.mac, way.gateway_mac)?;
            // SAFETY: as above.
            Ok(Verdict::redirected(unsafe { bpf_redirect_peer(way.ifindex, 0) }))
        }
        ROUTE_TUNNEL => {
            tunnel_key(walk)?;
            frame(walk, OVERLAY_MAC, OVERLAY_SOURCE_MAC)?;
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
        ROUTE_HOST => Ok(Verdict::Next),
        ROUTE_SERVICE => drop(Station::Route, Reason::NoService),
        _ => drop(Station::Route, Reason::NoSuchPod),
    }
}

/// Writes the frame's two addresses.
#[inline(always)]
fn frame(walk: &Walk, destination: [u8; 6], source: [u8; 6]) -> Step<()> {
    let Some(frame) = parse::at::<[u16; 6]>(walk, 0) else {
        return drop(Station::Route, Reason::RewriteFailed);
    };
    let pair = |mac: [u8; 6], i: usize| u16::from_ne_bytes([mac[i], mac[i + 1]]);
    // SAFETY: within the packet; frames are aligned to two bytes.
    unsafe {
        (*frame)[0] = pair(destination, 0);
        (*frame)[1] = pair(destination, 2);
        (*frame)[2] = pair(destination, 4);
        (*frame)[3] = pair(source, 0);
        (*frame)[4] = pair(source, 2);
        (*frame)[5] = pair(source, 4);
    }
    Ok(())
}

#[inline(always)]
fn tunnel_key(walk: &Walk) -> Step<()> {
    let mut key = MaybeUninit::<bpf_tunnel_key>::zeroed();
    // SAFETY: a zeroed key is a valid one; the helper reads as much as is said.
    let answer = unsafe {
        let fields = &mut *key.as_mut_ptr();
        fields.tunnel_id = OVERLAY_VNI;
        fields.tunnel_ttl = TUNNEL_TTL;
        fields.__bindgen_anon_1.remote_ipv4 = u32::from_be(walk.scratch.way.tunnel.v4_wire());
        bpf_skb_set_tunnel_key(walk.skb, key.as_mut_ptr(), TUNNEL_KEY_BYTES, 0)
    };
    if answer == 0 { Ok(()) } else { drop(Station::Route, Reason::TunnelKeyFailed) }
}
