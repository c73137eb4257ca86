//! What the uplink's driver may send back out at once: packets of flows that are under way and whose way leads off this node by
//! the device that they came by. All else is the stack's, where flows begin (`walk.rs`): a packet is handed up as it came, and
//! no row knows of it.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::bpf_xdp_adjust_head;
use weft_dataplane_abi::config::{ENCRYPTED, TUNNEL_BY_DEVICE};
use weft_dataplane_abi::conntrack::{FLOW_DIRECT, ORIGIN_UPLINK, Tuple};
use weft_dataplane_abi::counter::{Counter, dropped_by};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::ROUTE_TUNNEL;
use weft_dataplane_abi::station::Station;

use crate::context::Context as _;
use crate::outer::{self, Head, OUTER_BYTES, Outer, WITHIN_MTU_BYTES, short};
use crate::parse::{self, L3, Packet, TCP, UDP};
use crate::walk::{Walk, is_this_node};
use crate::{balance, emit, ipv6, maps, native, route, track, translate};

/// A frame as the driver holds it.
type Frame = Walk<*mut xdp_md>;

/// Odd, and half of its bits are set: 2^32 by the golden ratio. Neighbouring flows are far apart then.
const SPREAD: u32 = 0x9e37_79b9;

/// Runs at the driver.
#[inline(always)]
pub(crate) fn run(context: *mut xdp_md) -> u32 {
    let (Some(config), Some(scratch)) = (maps::config(), maps::scratch()) else {
        return xdp_action::XDP_PASS;
    };
    // The agent does not attach this then; nothing may leave in clear while it takes it off.
    if config.flags & ENCRYPTED != 0 {
        return xdp_action::XDP_PASS;
    }
    // SAFETY: the row of settings is always there. Volatile: it must be read now and not later.
    let epoch = unsafe { (&raw const config.epoch).read_volatile() };
    let Some(to) = parse::at_of::<[u16; 3]>(context, 0) else {
        return xdp_action::XDP_PASS;
    };
    // SAFETY: within the frame; frames are aligned to two bytes.
    let to = unsafe { *to };
    let row = &raw mut scratch.first;
    let mut it = Walk { context, hook: Hook::FromUplink, config, epoch, origin: 0, row, scratch };
    let Some(sender) = outer::sender(&it) else {
        return match carried(&mut it, to) {
            Some(action) => action,
            None => xdp_action::XDP_PASS,
        };
    };
    // The stack's programs tell the packet inside.
    if sender.met_congestion || config.flags & TUNNEL_BY_DEVICE != 0 {
        return xdp_action::XDP_PASS;
    }
    it.origin = sender.origin;
    if !head_moved(context, OUTER_BYTES as i32) {
        return xdp_action::XDP_PASS;
    }
    if let Some(action) = carried(&mut it, to) {
        return action;
    }
    // What was before the frame is there still.
    if head_moved(context, -(OUTER_BYTES as i32)) { xdp_action::XDP_PASS } else { lost(&mut it) }
}

/// A packet that is no longer as it came and cannot go on either: it is told as `from_uplink`'s.
#[inline(always)]
fn lost(it: &mut Frame) -> u32 {
    it.scratch.first.service_id = 0;
    it.scratch.first.backend_id = 0;
    it.scratch.netns_cookie = 0;
    maps::count_row(dropped_by(it.hook));
    emit::dropped(it, Station::Translate, Reason::RewriteFailed);
    xdp_action::XDP_ABORTED
}

/// Moves the frame's beginning; false when there is no room.
#[inline(always)]
fn head_moved(context: *mut xdp_md, bytes: i32) -> bool {
    // SAFETY: the helper checks the bounds; pointers into the frame are taken after it.
    unsafe { bpf_xdp_adjust_head(context, bytes) == 0 }
}

/// Whether the driver has left room before the frame for what the tunnel adds.
#[inline(always)]
fn has_room(context: *mut xdp_md) -> bool {
    head_moved(context, -(OUTER_BYTES as i32)) && head_moved(context, OUTER_BYTES as i32)
}

/// Carries the packet on, of which the frame was for the device with this address; none when it is the stack's, and then nothing
/// has changed.
#[inline(always)]
fn carried(it: &mut Frame, to: [u16; 3]) -> Option<u32> {
    let packet = outer::plain_headers(it)?;
    if it.origin == 0 {
        arrives(it, packet)?;
    }
    let flow = track::under_way(it, packet)?;
    let bytes = ip_bytes(it)?;
    let is_direct = flow.flags & FLOW_DIRECT != 0;
    if is_direct && it.origin != 0 || !is_whole(it, packet, bytes) {
        return None;
    }
    let way = u32::from(flow.way);
    let more = if way == ROUTE_TUNNEL { WITHIN_MTU_BYTES as u16 } else { 0 };
    let source_port = source_port(it, if is_direct { &it.scratch.tuple } else { &flow.to });
    let (macs, own) = outer::next_hop(it, flow, way, bytes.checked_add(more)?, source_port)?;
    // A switch that does not know yet where a frame's device is sends it to all.
    if to != own {
        return None;
    }
    if way == ROUTE_TUNNEL && (it.config.flags & TUNNEL_BY_DEVICE != 0 || !has_room(it.context)) {
        return None;
    }
    // From here on nothing can fail that has not been looked at.
    track::meet(it, flow, packet);
    if changed(it, packet, bytes, is_direct, macs).is_none() {
        return Some(lost(it));
    }
    maps::count(Counter::XdpCarried);
    Some(xdp_action::XDP_TX)
}

/// Gives the packet, whose row is in force, its new ends, the tunnel's headers and the next hop's addresses.
#[inline(always)]
fn changed(it: &mut Frame, packet: &Packet, bytes: u16, is_direct: bool, macs: [u32; 3]) -> Option<()> {
    translate::apply(it, packet).ok()?;
    if u32::from(it.flow().way) == ROUTE_TUNNEL {
        wrap(it, bytes, is_direct)?;
    }
    route::frame(it, macs).ok()
}

/// Whether what comes by the uplink itself is ours to look at, asked as the stack's program does.
#[inline(always)]
fn arrives(it: &mut Frame, packet: &Packet) -> Option<()> {
    if native::is_for_us(it) {
        it.origin = ORIGIN_UPLINK;
        return Some(());
    }
    let ours = if is_this_node(it.config, &it.scratch.tuple.destination) {
        balance::outward_here(it).is_some() || route::may_be_ours(it, packet)
    } else {
        balance::given(it).is_some()
    };
    ours.then_some(())
}

/// Length of the packet by its own header, bytes, if all of it is there.
#[inline(always)]
fn ip_bytes(it: &Frame) -> Option<u16> {
    let length = parse::at::<[u16; 3]>(it, L3)?;
    // SAFETY: within the frame; frames are aligned to two bytes.
    let length = unsafe { *length };
    let bytes = if it.is_v6() {
        u16::from_be(length[2]).checked_add(ipv6::IP_BYTES as u16)?
    } else {
        u16::from_be(length[1])
    };
    (it.packet_bytes() >= u32::from(bytes) + L3 as u32).then_some(bytes)
}

/// Sum over what a transport checksum takes of the IP header.
#[inline(always)]
fn pseudo_header(is_v6: bool, ends: &Tuple, protocol: u8, bytes: u16) -> u64 {
    let rest = u64::from(u16::from(protocol).to_be()) + u64::from(bytes.to_be());
    if is_v6 {
        return ipv6::sum(&ends.source) + ipv6::sum(&ends.destination) + rest;
    }
    u64::from(ends.source.v4_wire()) + u64::from(ends.destination.v4_wire()) + rest
}

/// The transport checksum.
#[inline(always)]
fn checksum(it: &Frame, packet: &Packet, at: usize) -> Option<u16> {
    let offset = at + packet.l4() + if packet.protocol == TCP { 16 } else { 6 };
    let place = parse::at::<u16>(it, offset)?;
    // SAFETY: within the frame; headers are aligned to two bytes.
    Some(unsafe { *place })
}

/// Transport bytes of a packet of so many.
#[inline(always)]
fn transport_bytes(packet: &Packet, bytes: u16) -> Option<u16> {
    bytes.checked_sub((packet.l4() - L3) as u16)
}

/// Whether the transport checksum is one. A virtual device hands over packets that no wire has seen, whose checksum somebody
/// else was to finish: there stands the sum over the pseudo-header. One in 65,536 others looks the same.
#[inline(always)]
fn is_whole(it: &Frame, packet: &Packet, bytes: u16) -> bool {
    let (Some(transport), Some(there)) = (transport_bytes(packet, bytes), checksum(it, packet, 0)) else {
        return false;
    };
    let unfinished = short(pseudo_header(it.is_v6(), &it.scratch.tuple, packet.protocol, transport));
    there != unfinished || packet.protocol == UDP && there == 0
}

/// The tunnel's source port for a packet that leaves with these ends, host order.
#[inline(always)]
fn source_port(it: &Frame, ends: &Tuple) -> u16 {
    let sum = u32::from(short(pseudo_header(it.is_v6(), ends, ends.protocol, 0)));
    let ports = translate::word(ends.source_port.wire(), ends.destination_port.wire());
    outer::source_port((ports ^ sum << 16 ^ sum).wrapping_mul(SPREAD))
}

/// Puts the packet, which has its new ends, into the tunnel, with room for the outer frame's addresses.
#[inline(always)]
fn wrap(it: &mut Frame, bytes: u16, is_direct: bool) -> Option<()> {
    let is_v6 = it.is_v6();
    let ip = parse::at::<u16>(it, L3)?;
    // SAFETY: within the frame; frames are aligned to two bytes.
    let ip = unsafe { *ip };
    let ends = if is_direct { &it.scratch.tuple } else { &it.flow().to };
    let head = Head {
        source: it.config.node_v4.v4_wire(),
        destination: it.flow().way_words[3],
        overlay_port: it.config.overlay_port,
        source_port: source_port(it, ends),
        identification: it.flow().packets as u16,
        bytes,
        tos: outer::type_of_service(is_v6, ip),
        marks: if is_direct { route::DIRECT } else { route::WALKED },
        protocol: it.context.protocol(),
    };
    if !head_moved(it.context, -(OUTER_BYTES as i32)) {
        return None;
    }
    let frame = parse::at::<Outer>(it, 0)?;
    // SAFETY: within the frame; frames are aligned to two bytes.
    outer::write(unsafe { &mut *frame }, &head);
    Some(())
}
