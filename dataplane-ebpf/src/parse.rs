//! Station *parse*: Ethernet, IPv4 and the start of what either family carries. Reads and checks; knows no map. IPv6's reader
//! stands in `ipv6.rs`, and fills the same tuple.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::bpf_skb_pull_data;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::conntrack::Tuple;
use weft_dataplane_abi::order::{Be16, Be32};
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::station::Station;

use crate::context::Context;
use crate::ipv6;
use crate::verdict::{Step, Verdict};
use crate::walk::Walk;
use crate::words::clear;

/// EtherTypes as they stand in memory.
pub(crate) const ETH_IPV4: u32 = 0x0800u16.to_be() as u32;
pub(crate) const ETH_IPV6: u32 = 0x86ddu16.to_be() as u32;
/// Offset of the network header in bytes.
pub(crate) const L3: usize = 14;
/// IPv4 header without options.
pub(crate) const IP_BYTES: usize = 20;
/// What is read of a transport header: TCP's fixed part; others are shorter.
pub(crate) const TRANSPORT_BYTES: usize = 20;

/// IP protocol numbers.
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP6: u8 = 58;
pub(crate) const SCTP: u8 = 132;

/// TCP flags (RFC 9293).
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Types of SCTP's chunks (RFC 9260, section 3.2).
const SCTP_INIT: u8 = 1;
const SCTP_INIT_ACK: u8 = 2;
const SCTP_ABORT: u8 = 6;
const SCTP_SHUTDOWN_COMPLETE: u8 = 14;

const ICMP_ECHO_REPLY: u8 = 0;
const ICMP_UNREACHABLE: u8 = 3;
const ICMP_ECHO: u8 = 8;
const ICMP_TIME_EXCEEDED: u8 = 11;
const ICMP_PARAMETER: u8 = 12;

/// What an ICMP message of either family is here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// None: the packet is of another protocol.
    None,
    /// An echo request.
    Ask,
    /// An echo reply.
    Answer,
    /// An error, which carries the start of the packet it is about.
    Error,
    /// Anything else.
    Other,
}

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

/// What was read besides the ends. It stands in the scratch: what is read back from there is to the verifier any packet, of
/// whatever family and protocol, and it follows one and not twenty of them through the stations.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    /// See [`Packet::l4`]; a byte, which has its bound in itself.
    l4: u8,
    /// IP protocol number.
    pub(crate) protocol: u8,
    /// TCP flags, and of SCTP those that say the same of a connection as its first chunk; 0 for others.
    pub(crate) tcp_flags: u8,
    /// What it is of ICMP.
    pub(crate) message: Message,
    /// Fragment or not.
    pub(crate) piece: Piece,
    /// Identification of the fragments.
    pub(crate) identification: Be32,
    /// Whether the protocol has ports, or what stands for one.
    pub(crate) has_ports: bool,
}

impl Packet {
    /// One whose transport header was not read yet.
    #[inline(always)]
    pub(crate) const fn new(l4: u8, protocol: u8, piece: Piece, identification: Be32) -> Self {
        let has_ports = matches!(protocol, TCP | UDP | SCTP);
        Self { l4, protocol, tcp_flags: 0, message: Message::None, piece, identification, has_ports }
    }

    /// Offset of the transport header in bytes.
    #[inline(always)]
    pub(crate) const fn l4(&self) -> usize {
        self.l4 as usize
    }

    /// Whether it has ports that may be replaced. Those of SCTP are not: its checksum covers the whole packet.
    #[inline(always)]
    pub(crate) const fn ports_may_change(&self) -> bool {
        self.has_ports && self.protocol != SCTP
    }

    /// Whether it is an ICMP error.
    #[inline(always)]
    pub(crate) fn is_error(&self) -> bool {
        self.message == Message::Error
    }
}

/// A place in the packet, when it is long enough.
#[inline(always)]
pub(crate) fn at<T>(walk: &Walk<impl Context>, offset: usize) -> Option<*mut T> {
    at_of(walk.context, offset)
}

/// The same before there is a walk.
#[inline(always)]
pub(crate) fn at_of<T>(context: impl Context, offset: usize) -> Option<*mut T> {
    let (data, end) = context.bounds();
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

pub(crate) const MALFORMED: Verdict = Verdict::Drop(Station::Parse, Reason::Malformed);

/// Makes a packet's first bytes linear, as many of them as it has. Never more than is to be read: a segment on its way out
/// shares its payload with the sender's queue, and the kernel copies what is asked for of that.
#[inline(always)]
pub(crate) fn linear(walk: &Walk, bytes: usize) -> Step<()> {
    linear_of(walk.context, bytes)
}

/// The same before there is a walk.
#[inline(always)]
pub(crate) fn linear_of(skb: *mut __sk_buff, bytes: usize) -> Step<()> {
    // SAFETY: the context is valid.
    let (there, all) = unsafe { ((*skb).data_end - (*skb).data, (*skb).len) };
    let wanted = if all < bytes as u32 { all } else { bytes as u32 };
    // SAFETY: the helper checks the length; pointers into the packet are taken after it.
    if there < wanted && unsafe { bpf_skb_pull_data(skb, wanted) } != 0 {
        return Err(MALFORMED);
    }
    Ok(())
}

/// Reads the headers into the walk's tuple. What is no IP passes.
#[inline(always)]
pub(crate) fn headers(walk: &mut Walk) -> Step<&'static mut Packet> {
    // SAFETY: the context is valid.
    let protocol = unsafe { (*walk.context).protocol };
    let tuple = &mut walk.scratch.tuple;
    clear(tuple);
    if protocol != ETH_IPV4 {
        return if protocol == ETH_IPV6 { ipv6::headers(walk) } else { Err(Verdict::Next) };
    }
    ipv4(walk)
}

/// Reads those of IPv4 into the tuple, which is clear.
#[inline(always)]
pub(crate) fn ipv4<C: Context>(walk: &mut Walk<C>) -> Step<&'static mut Packet> {
    pulled(walk, L3 + IP_BYTES + TRANSPORT_BYTES)?;
    let ip: *const Ipv4 = at(walk, L3).ok_or(MALFORMED)?;
    // SAFETY: within the packet, and its fields are aligned to two bytes as the type says.
    let ip = unsafe { *ip };
    let header_bytes = usize::from(ip.version_length & 0x0f) * 4;
    if ip.version_length >> 4 != 4 || header_bytes < IP_BYTES {
        return Err(MALFORMED);
    }
    if header_bytes > IP_BYTES {
        pulled(walk, L3 + header_bytes + TRANSPORT_BYTES)?;
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
    // The upper half is for IPv6's.
    let identification = Be32::new(u32::from(u16::from_be(ip.identification)));
    let mut packet = Packet::new((L3 + header_bytes) as u8, ip.protocol, piece, identification);
    if piece != Piece::Later && ip.protocol != ICMP6 {
        transport(walk.context, &mut walk.scratch.tuple, &mut packet)?;
    }
    put(&raw mut walk.scratch.packet, &packet);
    Ok(in_scratch(walk))
}

#[inline(always)]
fn pulled<C: Context>(walk: &Walk<C>, bytes: usize) -> Step<()> {
    if walk.context.pull(bytes) { Ok(()) } else { Err(MALFORMED) }
}

/// Writes a packet field by field, which the compiler does not see through.
#[inline(always)]
pub(crate) fn put(to: *mut Packet, packet: &Packet) {
    // SAFETY: callers give the room in their scratch.
    unsafe {
        (&raw mut (*to).l4).write_volatile(packet.l4);
        (&raw mut (*to).identification).write_volatile(packet.identification);
        (&raw mut (*to).protocol).write_volatile(packet.protocol);
        (&raw mut (*to).tcp_flags).write_volatile(packet.tcp_flags);
        (&raw mut (*to).message).write_volatile(packet.message);
        (&raw mut (*to).piece).write_volatile(packet.piece);
        (&raw mut (*to).has_ports).write_volatile(packet.has_ports);
    }
}

/// The packet as it was put.
#[inline(always)]
pub(crate) fn in_scratch<C>(walk: &mut Walk<C>) -> &'static mut Packet {
    let room = &raw mut walk.scratch.packet;
    // SAFETY: a field of the scratch that nothing else touches until the walk ends.
    unsafe { &mut *room }
}

/// Reads the ports, or what stands for them.
#[inline(always)]
pub(crate) fn transport<C: Context>(context: C, tuple: &mut Tuple, packet: &mut Packet) -> Step<()> {
    match packet.protocol {
        TCP => {
            let segment: *const [u16; 8] = at_of(context, packet.l4()).ok_or(MALFORMED)?;
            // SAFETY: within the packet; headers are aligned to two bytes.
            let (source, destination, flags) = unsafe { ((*segment)[0], (*segment)[1], (*segment)[6]) };
            tuple.source_port = Be16::from_wire(source);
            tuple.destination_port = Be16::from_wire(destination);
            packet.tcp_flags = (u16::from_be(flags) & 0xff) as u8;
        }
        UDP => {
            let datagram: *const [u16; 4] = at_of(context, packet.l4()).ok_or(MALFORMED)?;
            // SAFETY: as above.
            let (source, destination) = unsafe { ((*datagram)[0], (*datagram)[1]) };
            tuple.source_port = Be16::from_wire(source);
            tuple.destination_port = Be16::from_wire(destination);
        }
        SCTP => {
            let chunk: *const [u16; 8] = at_of(context, packet.l4()).ok_or(MALFORMED)?;
            // SAFETY: as above.
            let (source, destination, kind) = unsafe { ((*chunk)[0], (*chunk)[1], (*chunk)[6]) };
            tuple.source_port = Be16::from_wire(source);
            tuple.destination_port = Be16::from_wire(destination);
            packet.tcp_flags = as_tcp_flags((u16::from_be(kind) >> 8) as u8);
        }
        ICMP | ICMP6 => {
            let message: *const [u16; 4] = at_of(context, packet.l4()).ok_or(MALFORMED)?;
            // SAFETY: as above.
            let (kind, identifier) = unsafe { ((*message)[0], (*message)[2]) };
            let kind = (u16::from_be(kind) >> 8) as u8;
            packet.message = if packet.protocol == ICMP { message_v4(kind) } else { ipv6::message(kind) };
            match packet.message {
                Message::Ask => tuple.source_port = Be16::from_wire(identifier),
                Message::Answer => tuple.destination_port = Be16::from_wire(identifier),
                _ => return Ok(()),
            }
            packet.has_ports = true;
        }
        _ => {}
    }
    Ok(())
}

/// What a packet's first chunk of SCTP says of its association, as TCP would of a connection.
#[inline(always)]
const fn as_tcp_flags(chunk: u8) -> u8 {
    match chunk {
        SCTP_INIT => SYN,
        SCTP_INIT_ACK => SYN | ACK,
        SCTP_ABORT => RST,
        SCTP_SHUTDOWN_COMPLETE => FIN | ACK,
        _ => ACK,
    }
}

#[inline(always)]
const fn message_v4(kind: u8) -> Message {
    match kind {
        ICMP_ECHO => Message::Ask,
        ICMP_ECHO_REPLY => Message::Answer,
        ICMP_UNREACHABLE | ICMP_TIME_EXCEEDED | ICMP_PARAMETER => Message::Error,
        _ => Message::Other,
    }
}
