//! The tunnel's outer packet, read and written by hand: what of a flow under way need not go through the tunnel's device. As that
//! device writes it: IPv4 without options, time to live 64, no checksum (RFC 7348, section 5). All else is the device's.

use aya_ebpf::helpers::bpf_fib_lookup;
use weft_dataplane_abi::address::{FAMILY_V4, FAMILY_V6};
use weft_dataplane_abi::conntrack::Flow;
use weft_dataplane_abi::route::{
    OVERLAY_MAC, OVERLAY_SOURCE_MAC, OVERLAY_VNI, ROUTE_NATIVE, ROUTE_OUTSIDE, ROUTE_TUNNEL,
};

use crate::context::{Context, Editable};
use crate::ipv6;
use crate::parse::{self, ETH_IPV4, ETH_IPV6, IP_BYTES, Ipv4, L3, Packet, Piece, TCP, UDP};
use crate::translate::{self, folded};
use crate::walk::Walk;
use crate::words::clear;

pub(crate) const UDP_BYTES: usize = 8;
/// What the tunnel puts before a frame: Ethernet, IPv4, UDP and its own header.
pub(crate) const OUTER_BYTES: usize = L3 + IP_BYTES + UDP_BYTES + 8;
/// What of the way's MTU the tunnel needs: the outer frame's header is not in it, the one of the frame inside is.
pub(crate) const WITHIN_MTU_BYTES: usize = IP_BYTES + UDP_BYTES + 8 + L3;
/// `VXLAN_HF_VNI`: the identifier counts.
const VNI_COUNTS: u32 = 0x0800_0000;
/// Bits of the type of service in which routers say that they are congested, and "they are" (RFC 3168).
const ECN: u8 = 3;
const CONGESTED: u8 = 3;
const ECN_CAPABLE: u8 = 2;
/// Time to live of outer packets.
const TTL: u8 = 64;
/// Source ports of the tunnel: those of the node's own sockets, of which the kernel's device takes its own by the flow, too.
const PORT_FIRST: u32 = 32_768;
const PORTS: u64 = 60_999 - PORT_FIRST as u64;

/// The outer packet and the Ethernet header of the frame inside, in words of two bytes.
pub(crate) type Outer = [u16; (OUTER_BYTES + L3) / 2];

/// What differs from one outer packet to the next. Addresses as they stand in memory.
pub(crate) struct Head {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    /// [`Walk::config`]'s port of the tunnel, host order.
    pub(crate) overlay_port: u16,
    /// See [`source_port`], host order.
    pub(crate) source_port: u16,
    /// Identification, host order.
    pub(crate) identification: u16,
    /// Length of the packet inside, bytes.
    pub(crate) bytes: u16,
    /// Its type of service.
    pub(crate) tos: u8,
    /// Addresses of the frame inside.
    pub(crate) marks: [u32; 3],
    /// Its EtherType, as it stands in memory.
    pub(crate) protocol: u32,
}

/// Who sent a packet of the tunnel.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    /// As [`Flow::origin`] has it: an address, and none of the numbers that stand for something else there.
    pub(crate) origin: u32,
    /// A router on the way was congested.
    pub(crate) met_congestion: bool,
}

/// The node that sends by the tunnel, if this is a packet that one of our programs put in and nothing about it is special.
/// Whether it is a node the flow's row tells.
#[inline(always)]
pub(crate) fn sender<C: Context>(it: &Walk<C>) -> Option<Sender> {
    if it.context.protocol() != ETH_IPV4 {
        return None;
    }
    let ip = parse::at::<Ipv4>(it, L3)?;
    // SAFETY: within the packet, aligned as the type says.
    let ip = unsafe { &*ip };
    let whole = u16::from_be(ip.fragment) & 0x3fff == 0;
    let (source, destination) = (u32::from_be(ip.source), ip.destination);
    let met_congestion = ip.tos & ECN == CONGESTED;
    if ip.version_length != 0x45 || ip.protocol != UDP || !whole || is_martian(source) {
        return None;
    }
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
    let ours = ours && mac(25, OVERLAY_MAC) && mac(28, OVERLAY_SOURCE_MAC);
    ours.then_some(Sender { origin: source, met_congestion })
}

/// Whether no host sends with this source, host order: one of this network, of loopback, of many or of nobody (RFC 1122,
/// section 3.2.1.3). The kernel's stack refuses them, and some of these numbers are no address in a flow's row.
#[inline(always)]
const fn is_martian(source: u32) -> bool {
    matches!(source >> 24, 0 | 127 | 224..)
}

/// The tunnel's source port for a flow with this hash, host order: the one that the kernel's device gives it.
#[inline(always)]
pub(crate) const fn source_port(hash: u32) -> u16 {
    let hash = hash ^ hash << 16;
    (PORT_FIRST + ((hash as u64 * PORTS) >> 32) as u32) as u16
}

/// Reads headers that have no fragments, no options and no extension headers, of TCP or UDP.
#[inline(always)]
pub(crate) fn plain_headers<C: Context>(it: &mut Walk<C>) -> Option<&'static mut Packet> {
    clear(&raw mut it.scratch.tuple);
    let packet = match it.context.protocol() {
        ETH_IPV4 => parse::ipv4(it).ok()?,
        ETH_IPV6 => ipv6::plain(it)?,
        _ => return None,
    };
    let l4 = if it.is_v6() { ipv6::L4 } else { L3 + IP_BYTES };
    let plain = packet.piece == Piece::Whole && packet.l4() == l4;
    (plain && matches!(packet.protocol, TCP | UDP)).then_some(packet)
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

/// The two addresses of a frame that a packet of the flow gets on by, asked of the kernel's routes and neighbours; none if it
/// leads elsewhere than out of the uplink, if `bytes` are too many for the way, or if the neighbour is not known. What goes by the tunnel does so from `source_port`,
/// host order. Also the device's own address.
#[inline(always)]
pub(crate) fn next_hop<C: Context>(
    it: &Walk<C>,
    flow: &Flow,
    way: u32,
    bytes: u16,
    source_port: u16,
) -> Option<([u32; 3], [u16; 3])> {
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
    let by_tunnel = way == ROUTE_TUNNEL;
    let ports = if by_tunnel { [source_port.to_be(), it.config.overlay_port.to_be()] } else { [0; 2] };
    let mut lookup = Lookup {
        family: if v6 { FAMILY_V6 } else { FAMILY_V4 },
        protocol: if by_tunnel { UDP } else { 0 },
        ports,
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
        unsafe { bpf_fib_lookup(it.context.raw(), (&raw mut lookup).cast(), size_of::<Lookup>() as i32, 0) };
    if answer != 0 || lookup.ifindex != it.config.uplink_ifindex {
        return None;
    }
    // The kernel answers with the source first.
    let [a, b, c, d, e, f] = lookup.macs;
    Some(([translate::word(d, e), translate::word(f, a), translate::word(b, c)], [a, b, c]))
}

/// Writes all but the outer frame's addresses.
#[inline(always)]
pub(crate) fn write(outer: &mut Outer, head: &Head) {
    outer[6] = ETH_IPV4 as u16;
    outer[7] = u16::from_ne_bytes([0x45, congestion(head.tos)]);
    outer[8] = head.bytes.wrapping_add(WITHIN_MTU_BYTES as u16).to_be();
    outer[9] = head.identification.to_be();
    outer[10] = 0;
    outer[11] = u16::from_ne_bytes([TTL, UDP]);
    outer[12] = 0;
    (outer[13], outer[14]) = halves(head.source);
    (outer[15], outer[16]) = halves(head.destination);
    outer[17] = head.source_port.to_be();
    outer[18] = head.overlay_port.to_be();
    outer[19] = head.bytes.wrapping_add((UDP_BYTES + 8 + L3) as u16).to_be();
    outer[20] = 0;
    (outer[21], outer[22]) = halves(VNI_COUNTS.to_be());
    (outer[23], outer[24]) = halves((OVERLAY_VNI << 8).to_be());
    (outer[25], outer[26]) = halves(head.marks[0]);
    (outer[27], outer[28]) = halves(head.marks[1]);
    (outer[29], outer[30]) = halves(head.marks[2]);
    outer[31] = head.protocol as u16;
    let mut sum = 0;
    let mut i = 7;
    while i < 17 {
        sum += u64::from(outer[i]);
        i += 1;
    }
    outer[12] = !short(sum);
}

/// The outer type of service: what the inner one says of congestion, as the kernel's device has it.
#[inline(always)]
const fn congestion(tos: u8) -> u8 {
    if tos & ECN == CONGESTED { ECN_CAPABLE } else { tos & ECN }
}

/// The sum over what [`write`] has added behind the outer frame's header.
#[inline(always)]
pub(crate) const fn added_sum(outer: &Outer) -> u32 {
    // The IP header's is zero by its checksum.
    let mut sum = 0;
    let mut i = 17;
    while i < outer.len() {
        sum += outer[i] as u64;
        i += 1;
    }
    folded(sum)
}

/// Whether a packet speaks of congestion, by the first two bytes of its IP header (RFC 3168).
#[inline(always)]
pub(crate) const fn speaks_of_congestion(is_v6: bool, first: u16) -> bool {
    type_of_service(is_v6, first) & ECN != 0
}

/// Tells such a packet that a router was congested (RFC 6040, section 4.2).
#[inline(always)]
pub(crate) fn mark_congestion<C: Editable>(it: &Walk<C>) {
    let Some(header) = parse::at::<Ipv4>(it, L3) else { return };
    let is_v6 = it.is_v6();
    // SAFETY: within the packet; headers of both families begin with two bytes that are aligned to as many.
    let first = unsafe { *header.cast::<u16>() };
    let marked = first | (u16::from(CONGESTED) << if is_v6 { 4 } else { 0 }).to_be();
    let change = folded(translate::difference(0, u32::from(first), u32::from(marked)));
    // SAFETY: as above.
    unsafe { *header.cast::<u16>() = marked };
    if is_v6 {
        it.context.sum_changed(change);
    } else {
        // SAFETY: as above.
        unsafe { (*header).checksum = translate::checksum_after((*header).checksum, change) };
    }
}

/// The type of service of an IP header, of which these are the first two bytes.
#[inline(always)]
pub(crate) const fn type_of_service(is_v6: bool, first: u16) -> u8 {
    let first = u16::from_be(first);
    (if is_v6 { first >> 4 } else { first }) as u8
}

/// Folds a sum to 16 bits.
#[inline(always)]
pub(crate) const fn short(sum: u64) -> u16 {
    let sum = folded((sum & 0xffff_ffff) + (sum >> 32)) as u64;
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// A word as it stands in memory, in two.
#[inline(always)]
const fn halves(word: u32) -> (u16, u16) {
    let [a, b, c, d] = word.to_ne_bytes();
    (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]))
}
