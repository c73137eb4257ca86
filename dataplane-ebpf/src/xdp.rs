//! What the uplink's driver may send back out at once: packets of flows that are under way and whose way leads off this node by
//! the device that they came by. All else is the stack's, where flows begin (`walk.rs`): a packet is handed up as it came, and
//! no row knows of it.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::{bpf_fib_lookup, bpf_xdp_adjust_head};
use weft_dataplane_abi::address::{FAMILY_V4, FAMILY_V6};
use weft_dataplane_abi::config::ENCRYPTED;
use weft_dataplane_abi::conntrack::{FLOW_DIRECT, Flow, ORIGIN_UPLINK, Tuple};
use weft_dataplane_abi::counter::{Counter, dropped_by};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{
    OVERLAY_MAC, OVERLAY_SOURCE_MAC, OVERLAY_VNI, ROUTE_NATIVE, ROUTE_OUTSIDE, ROUTE_TUNNEL,
};
use weft_dataplane_abi::station::Station;

use crate::context::Context as _;
use crate::parse::{self, ETH_IPV4, ETH_IPV6, Ipv4, L3, Packet, Piece, TCP, UDP};
use crate::translate::folded;
use crate::walk::{Walk, is_this_node};
use crate::words::clear;
use crate::{balance, emit, ipv6, maps, native, route, track, translate};

/// A frame as the driver holds it.
type Frame = Walk<*mut xdp_md>;

const IP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;
/// What the tunnel puts before a frame: Ethernet, IPv4, UDP and its own header.
const OUTER_BYTES: usize = L3 + IP_BYTES + UDP_BYTES + 8;
/// `VXLAN_HF_VNI`: the identifier counts.
const VNI_COUNTS: u32 = 0x0800_0000;
/// Bits of the type of service in which routers say that they are congested, and "they are" (RFC 3168).
const ECN: u8 = 3;
const CONGESTED: u8 = 3;
const ECN_CAPABLE: u8 = 2;
/// Time to live of outer packets, as the kernel's tunnel has it by default.
const OUTER_TTL: u8 = 64;
/// Source ports of the tunnel: those of the node's own sockets, of which the kernel's tunnel takes its own by the flow, too.
const OUTER_PORT_FIRST: u32 = 32_768;
const OUTER_PORTS: u32 = 60_999 - OUTER_PORT_FIRST + 1;

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
    let Some(sender) = tunnels(&it) else {
        return match carried(&mut it, to) {
            Some(action) => action,
            None => xdp_action::XDP_PASS,
        };
    };
    it.origin = sender;
    if !head(context, OUTER_BYTES as i32) {
        return xdp_action::XDP_PASS;
    }
    if let Some(action) = carried(&mut it, to) {
        return action;
    }
    // What was before the frame is there still.
    if head(context, -(OUTER_BYTES as i32)) { xdp_action::XDP_PASS } else { lost(&mut it) }
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
fn head(context: *mut xdp_md, bytes: i32) -> bool {
    // SAFETY: the helper checks the bounds; pointers into the frame are taken after it.
    unsafe { bpf_xdp_adjust_head(context, bytes) == 0 }
}

/// Whether the driver has left room before the frame for what the tunnel adds.
#[inline(always)]
fn has_room(context: *mut xdp_md) -> bool {
    head(context, -(OUTER_BYTES as i32)) && head(context, OUTER_BYTES as i32)
}

/// The outer packet of the tunnel, up to the addresses of the frame inside. In words of two bytes.
type Outer = [u16; OUTER_BYTES / 2 + 6];

/// The node that sends by the tunnel, as [`Flow::origin`] has it, if this is a frame of it that came out of one of our
/// programs. Whether it is a node the flow's row tells.
#[inline(always)]
fn tunnels(it: &Frame) -> Option<u32> {
    if it.context.protocol() != ETH_IPV4 {
        return None;
    }
    let ip = parse::at::<Ipv4>(it, L3)?;
    // SAFETY: within the frame, aligned as the type says.
    let ip = unsafe { &*ip };
    let whole = u16::from_be(ip.fragment) & 0x3fff == 0;
    if ip.version_length != 0x45 || ip.protocol != UDP || !whole || ip.tos & ECN == CONGESTED {
        return None;
    }
    let (source, destination) = (ip.source, ip.destination);
    if destination != it.config.node_v4.v4_wire() {
        return None;
    }
    let outer = parse::at::<Outer>(it, 0)?;
    // SAFETY: as above.
    let outer = unsafe { &*outer };
    let pair = |at: usize| u32::from(u16::from_be(outer[at])) << 16 | u32::from(u16::from_be(outer[at + 1]));
    let ours = u16::from_be(outer[18]) == it.config.overlay_port
        && pair(21) == VNI_COUNTS
        && pair(23) == OVERLAY_VNI << 8;
    let mac = |at: usize, of: [u8; 6]| {
        outer[at] == u16::from_ne_bytes([of[0], of[1]])
            && outer[at + 1] == u16::from_ne_bytes([of[2], of[3]])
            && outer[at + 2] == u16::from_ne_bytes([of[4], of[5]])
    };
    (ours && mac(25, OVERLAY_MAC) && mac(28, OVERLAY_SOURCE_MAC)).then(|| u32::from_be(source))
}

/// Carries the packet on, of which the frame was for the device with this address; none when it is the stack's, and then nothing
/// has changed.
#[inline(always)]
fn carried(it: &mut Frame, to: [u16; 3]) -> Option<u32> {
    let packet = headers(it)?;
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
    let outer = if way == ROUTE_TUNNEL { OUTER_BYTES as u16 } else { 0 };
    let (macs, own) = next_hop(it, flow, way, bytes.checked_add(outer)?)?;
    // A switch that does not know yet where a frame's device is sends it to all.
    if to != own {
        return None;
    }
    if way == ROUTE_TUNNEL && !has_room(it.context) {
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
        wrap(it, packet, bytes, is_direct)?;
    }
    route::frame(it, macs).ok()
}

/// Reads what has no fragments, no options and no extension headers, of TCP or UDP.
#[inline(always)]
fn headers(it: &mut Frame) -> Option<&'static mut Packet> {
    clear(&raw mut it.scratch.tuple);
    let packet = match it.context.protocol() {
        ETH_IPV4 => parse::ipv4(it).ok()?,
        ETH_IPV6 => ipv6::plain(it)?,
        _ => return None,
    };
    let l4 = if it.is_v6() { ipv6::L4 } else { L3 + IP_BYTES };
    let plain = packet.piece == Piece::Whole && packet.l4() == l4;
    (plain && packet.ports_may_change()).then_some(packet)
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

/// Folds a sum to 16 bits.
#[inline(always)]
const fn short(sum: u64) -> u16 {
    let sum = folded((sum & 0xffff_ffff) + (sum >> 32)) as u64;
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
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

/// `bpf_fib_lookup`: what the kernel is asked, and what it answers.
#[repr(C)]
struct Lookup {
    family: u8,
    protocol: u8,
    ports: [u16; 2],
    /// Length of the packet, bytes; answered by the route's MTU.
    bytes: u16,
    ifindex: u32,
    tos: u32,
    source: [u32; 4],
    destination: [u32; 4],
    vlan: u32,
    macs: [u16; 6],
}

const _: () = assert!(size_of::<Lookup>() == 64);

/// The frame's two addresses by which the packet gets on, asked of the kernel's routes and neighbours; none if it leads
/// elsewhere than out of this device, is too long for the way, or if the neighbour is not known. Also the device's own address.
#[inline(always)]
fn next_hop(it: &Frame, flow: &Flow, way: u32, bytes: u16) -> Option<([u32; 3], [u16; 3])> {
    let (v6, source, destination) = match way {
        ROUTE_OUTSIDE => {
            let (source, destination) = (ipv6::words(&flow.to.source), ipv6::words(&flow.to.destination));
            (it.is_v6(), source, destination)
        }
        ROUTE_NATIVE => (it.is_v6(), ipv6::words(&flow.to.source), flow.way_words),
        // A tunnel of IPv6 is the kernel's.
        ROUTE_TUNNEL if flow.way_words[0] == 0 => (false, ipv6::words(&it.config.node_v4), flow.way_words),
        _ => return None,
    };
    let place = |words: [u32; 4]| if v6 { words } else { [words[3], 0, 0, 0] };
    let mut lookup = Lookup {
        family: if v6 { FAMILY_V6 } else { FAMILY_V4 },
        protocol: 0,
        ports: [0; 2],
        bytes,
        ifindex: it.config.uplink_ifindex,
        tos: 0,
        source: place(source),
        destination: place(destination),
        vlan: 0,
        macs: [0; 6],
    };
    // SAFETY: the context is valid; the helper reads and writes within the size.
    let answer =
        unsafe { bpf_fib_lookup(it.context.cast(), (&raw mut lookup).cast(), size_of::<Lookup>() as i32, 0) };
    if answer != 0 || lookup.ifindex != it.config.uplink_ifindex {
        return None;
    }
    // The kernel answers with the source first.
    let [a, b, c, d, e, f] = lookup.macs;
    Some(([translate::word(d, e), translate::word(f, a), translate::word(b, c)], [a, b, c]))
}

/// Puts the packet, which has its new ends, into the tunnel: a frame for another node, and room for the outer one's addresses.
#[inline(always)]
fn wrap(it: &mut Frame, packet: &Packet, bytes: u16, is_direct: bool) -> Option<()> {
    let is_v6 = it.is_v6();
    let ip = parse::at::<[u16; 4]>(it, L3)?;
    // SAFETY: within the frame; frames are aligned to two bytes.
    let ip = unsafe { *ip };
    let ends = if is_direct { &it.scratch.tuple } else { &it.flow().to };
    let hash = short(pseudo_header(is_v6, ends, packet.protocol, 0))
        ^ ends.source_port.wire()
        ^ ends.destination_port.wire();
    let packets = it.flow().packets as u16;
    let inside = packet_sum(it, is_v6, ends, packet, bytes, ip);
    let to = it.flow().way_words[3];
    let (source, overlay_port) = (it.config.node_v4.v4_wire(), it.config.overlay_port);
    if !head(it.context, -(OUTER_BYTES as i32)) {
        return None;
    }
    // Frame inside: its addresses; its type stands already.
    let marks = if is_direct { route::DIRECT } else { route::WALKED };
    let outer = parse::at::<Outer>(it, 0)?;
    // SAFETY: as above.
    let outer = unsafe { &mut *outer };
    let mut sum = inside;
    let mut i = 0;
    while i < 3 {
        let [a, b, c, d] = marks[i].to_ne_bytes();
        outer[25 + 2 * i] = u16::from_ne_bytes([a, b]);
        outer[26 + 2 * i] = u16::from_ne_bytes([c, d]);
        i += 1;
    }
    let udp_bytes = (bytes + (UDP_BYTES + 8 + L3) as u16).to_be();
    let port = OUTER_PORT_FIRST + ((u32::from(hash) * OUTER_PORTS) >> 16);
    outer[6] = ETH_IPV4 as u16;
    outer[7] = u16::from_ne_bytes([0x45, congestion(is_v6, ip)]);
    outer[8] = (bytes + (OUTER_BYTES) as u16).to_be();
    outer[9] = hash.wrapping_add(packets).to_be();
    outer[10] = 0;
    outer[11] = u16::from_ne_bytes([OUTER_TTL, UDP]);
    outer[12] = 0;
    (outer[13], outer[14]) = halves(source);
    (outer[15], outer[16]) = halves(to);
    outer[17] = (port as u16).to_be();
    outer[18] = overlay_port.to_be();
    outer[19] = udp_bytes;
    outer[20] = 0;
    (outer[21], outer[22]) = halves(VNI_COUNTS.to_be());
    (outer[23], outer[24]) = halves((OVERLAY_VNI << 8).to_be());
    let mut header = 0;
    i = 7;
    while i < 17 {
        header += u64::from(outer[i]);
        i += 1;
    }
    outer[12] = !short(header);
    if packet.protocol == UDP && checksum(it, packet, OUTER_BYTES)? == 0 {
        return Some(());
    }
    sum += u64::from(source) + u64::from(to) + u64::from(u16::from(UDP).to_be()) + u64::from(udp_bytes);
    i = 17;
    while i < 31 {
        sum += u64::from(outer[i]);
        i += 1;
    }
    outer[20] = match !short(sum) {
        0 => 0xffff,
        sum => sum,
    };
    Some(())
}

/// Sum over the packet inside with the type of its frame. Its transport checksum makes up for all that this one is over, and
/// so does an IPv4 header's for the header.
#[inline(always)]
fn packet_sum(it: &Frame, is_v6: bool, ends: &Tuple, packet: &Packet, bytes: u16, ip: [u16; 4]) -> u64 {
    let transport = transport_bytes(packet, bytes).unwrap_or(0);
    let missing = !short(pseudo_header(is_v6, ends, packet.protocol, transport));
    let mut sum = u64::from(missing) + u64::from(it.context.protocol() as u16);
    if is_v6 {
        sum += u64::from(ip[0]) + u64::from(ip[1]) + u64::from(ip[2]) + u64::from(ip[3]);
        sum += ipv6::sum(&ends.source) + ipv6::sum(&ends.destination);
    }
    sum
}

/// The outer type of service: what the inner one says of congestion, as the kernel's tunnel has it.
#[inline(always)]
fn congestion(is_v6: bool, ip: [u16; 4]) -> u8 {
    let tos = if is_v6 { u16::from_be(ip[0]) >> 4 } else { u16::from_be(ip[0]) } as u8 & ECN;
    if tos == CONGESTED { ECN_CAPABLE } else { tos }
}

/// A word as it stands in memory, in two.
#[inline(always)]
const fn halves(word: u32) -> (u16, u16) {
    let [a, b, c, d] = word.to_ne_bytes();
    (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]))
}
