//! Station *parse*: Ethernet, IPv4 and the start of what it carries. Reads and checks; knows no map.
//!
//! IPv6 is let pass untouched for now; what is needed is a second reader here that fills the same tuple.

use aya_ebpf::helpers::bpf_skb_pull_data;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::order::{Be16, Be32};
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::station::Station;

use crate::verdict::{Step, Verdict};
use crate::walk::Walk;
use crate::words::clear;

/// EtherType of IPv4, as it stands in memory.
const ETH_IPV4: u32 = 0x0800u16.to_be() as u32;
/// Offset of the network header in bytes.
pub(crate) const L3: usize = 14;
/// IPv4 header without options.
const IP_BYTES: usize = 20;
/// What is read of a transport header: TCP's fixed part; others are shorter.
const TRANSPORT_BYTES: usize = 20;

/// IP protocol numbers.
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// TCP flags (RFC 9293).
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

const ICMP_ECHO_REPLY: u8 = 0;
const ICMP_UNREACHABLE: u8 = 3;
const ICMP_ECHO: u8 = 8;
const ICMP_TIME_EXCEEDED: u8 = 11;
const ICMP_PARAMETER: u8 = 12;

/// Whether a packet is part of a larger one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// It is whole.
    Whole,
    /// The first fragment, with the ports.
    First,
    /// A later one, without.
    Later,
}

/// What was read besides the ends.
pub(crate) struct Packet {
    /// Offset of the transport header in bytes.
    pub(crate) l4: usize,
    /// IP protocol number.
    pub(crate) protocol: u8,
    /// TCP flags; 0 for others.
    pub(crate) tcp_flags: u8,
    /// ICMP type; 255 for others.
    pub(crate) icmp_type: u8,
    /// Fragment or not.
    pub(crate) piece: Piece,
    /// Identification of the fragments.
    pub(crate) identification: u16,
    /// Whether the protocol has ports, or what stands for one.
    pub(crate) has_ports: bool,
}

impl Packet {
    /// Whether it is an ICMP error, which carries the start of the packet it is about.
    #[inline(always)]
    pub(crate) const fn is_error(&self) -> bool {
        matches!(self.icmp_type, ICMP_UNREACHABLE | ICMP_TIME_EXCEEDED | ICMP_PARAMETER)
    }

    /// Whether it is an echo request.
    #[inline(always)]
    pub(crate) const fn is_echo(&self) -> bool {
        self.icmp_type == ICMP_ECHO
    }
}

/// A place in the packet, when it is long enough.
#[inline(always)]
pub(crate) fn at<T>(walk: &Walk, offset: usize) -> Option<*mut T> {
    // SAFETY: the context is valid; the two bounds are checked before the pointer is handed out.
    let (data, end) = unsafe { ((*walk.skb).data as usize, (*walk.skb).data_end as usize) };
    let place = data + offset;
    if place + size_of::<T>() > end { None } else { Some(place as *mut T) }
}

/// The part of an IPv4 header that is read at once.
#[repr(C, packed(2))]
#[derive(Clone, Copy)]
pub(crate) struct Ipv4 {
    pub(crate) version_length: u8,
    pub(crate) tos: u8,
    pub(crate) total_bytes: u16,
    pub(crate) identification: u16,
    pub(crate) fragment: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) checksum: u16,
    pub(crate) source: u32,
    pub(crate) destination: u32,
}

const MALFORMED: Verdict = Verdict::Drop(Station::Parse, Reason::Malformed);

/// Makes a packet's first bytes linear, as many of them as it has. Never more than is to be read: a segment on its way out
/// shares its payload with the sender's queue, and the kernel copies what is asked for of that.
#[inline(always)]
pub(crate) fn linear(walk: &Walk, bytes: usize) -> Step<()> {
    // SAFETY: the context is valid.
    let (there, all) = unsafe { ((*walk.skb).data_end - (*walk.skb).data, (*walk.skb).len) };
    let wanted = if all < bytes as u32 { all } else { bytes as u32 };
    // SAFETY: the helper checks the length; pointers into the packet are taken after it.
    if there < wanted && unsafe { bpf_skb_pull_data(walk.skb, wanted) } != 0 {
        return Err(MALFORMED);
    }
    Ok(())
}

/// Reads the headers into the walk's tuple. What is not IPv4 passes.
#[inline(always)]
pub(crate) fn headers(walk: &mut Walk) -> Step<Packet> {
    // SAFETY: the context is valid.
    let protocol = unsafe { (*walk.skb).protocol };
    let tuple = &mut walk.scratch.tuple;
    clear(tuple);
    if protocol != ETH_IPV4 {
        return Err(Verdict::Next);
    }
    linear(walk, L3 + IP_BYTES + TRANSPORT_BYTES)?;
    let ip: *const Ipv4 = at(walk, L3).ok_or(MALFORMED)?;
    // SAFETY: within the packet, and its fields are aligned to two bytes as the type says.
    let ip = unsafe { *ip };
    let header_bytes = usize::from(ip.version_length & 0x0f) * 4;
    if ip.version_length >> 4 != 4 || header_bytes < IP_BYTES {
        return Err(MALFORMED);
    }
    if header_bytes > IP_BYTES {
        linear(walk, L3 + header_bytes + TRANSPORT_BYTES)?;
    }
    let fragment = u16::from_be(ip.fragment);
    let piece = match (fragment & 0x1fff, fragment & 0x2000) {
        (0, 0) => Piece::Whole,
        (0, _) => Piece::First,
        _ => Piece::Later,
    };
    let tuple = &mut walk.scratch.tuple;
    tuple.source = Address::from_v4_wire(ip.source);
    tuple.destination = Address::from_v4_wire(ip.destination);
    tuple.protocol = ip.protocol;
    let mut packet = Packet {
        l4: L3 + header_bytes,
        protocol: ip.protocol,
        tcp_flags: 0,
        icmp_type: 255,
        piece,
        identification: ip.identification,
        has_ports: matches!(ip.protocol, TCP | UDP),
    };
    if piece != Piece::Later {
        transport(walk, &mut packet)?;
    }
    Ok(packet)
}

/// Reads the ports, or what stands for them.
#[inline(always)]
fn transport(walk: &mut Walk, packet: &mut Packet) -> Step<()> {
    match packet.protocol {
        TCP => {
            let segment: *const [u16; 8] = at(walk, packet.l4).ok_or(MALFORMED)?;
            // SAFETY: within the packet; headers are aligned to two bytes.
            let (source, destination, flags) = unsafe { ((*segment)[0], (*segment)[1], (*segment)[6]) };
            walk.scratch.tuple.source_port = Be16::from_wire(source);
            walk.scratch.tuple.destination_port = Be16::from_wire(destination);
            packet.tcp_flags = (u16::from_be(flags) & 0xff) as u8;
        }
        UDP => {
            let datagram: *const [u16; 4] = at(walk, packet.l4).ok_or(MALFORMED)?;
            // SAFETY: as above.
            let (source, destination) = unsafe { ((*datagram)[0], (*datagram)[1]) };
            walk.scratch.tuple.source_port = Be16::from_wire(source);
            walk.scratch.tuple.destination_port = Be16::from_wire(destination);
        }
        ICMP => {
            let message: *const [u16; 4] = at(walk, packet.l4).ok_or(MALFORMED)?;
            // SAFETY: as above.
            let (kind, identifier) = unsafe { ((*message)[0], (*message)[2]) };
            packet.icmp_type = (u16::from_be(kind) >> 8) as u8;
            match packet.icmp_type {
                ICMP_ECHO => walk.scratch.tuple.source_port = Be16::from_wire(identifier),
                ICMP_ECHO_REPLY => walk.scratch.tuple.destination_port = Be16::from_wire(identifier),
                _ => return Ok(()),
            }
            packet.has_ports = true;
        }
        _ => {}
    }
    Ok(())
}

/// The identification of an IPv4 packet as fragments are known by.
#[inline(always)]
pub(crate) const fn identification(raw: u16) -> Be32 {
    Be32::new(u16::from_be(raw) as u32)
}
