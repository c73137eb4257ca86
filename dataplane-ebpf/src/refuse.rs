//! Station *balance*, when there is nobody to balance to: the sender hears at once what a host says where nobody listens,
//! a reset (RFC 9293, section 3.10.7.1) or "port unreachable" (RFC 1122, section 4.1.3.1; RFC 4443, section 3.1). And station
//! *route*, when a packet is longer than its way takes: the sender hears how long one may be (RFC 1191, section 4; RFC 4443,
//! section 3.2). The packet itself becomes the answer and goes back where it came from.

use aya_ebpf::bindings::{BPF_F_INGRESS, bpf_adj_room_mode};
use aya_ebpf::helpers::{
    bpf_ktime_get_coarse_ns, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer,
    bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_pull_data,
};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{OVERLAY_MAC, OVERLAY_RETURN_MAC};
use weft_dataplane_abi::station::Station;

use crate::ipv6::{self, Ipv6};
use crate::parse::{self, ACK, FIN, ICMP, ICMP6, Ipv4, L3, Packet, Piece, RST, SCTP, SYN, TCP, UDP};
use crate::translate::{checksum_after, difference, folded, word};
use crate::verdict::Verdict;
use crate::walk::Walk;

/// The largest initial number of hops that is usual.
const TTL: u8 = 64;
const IPV4_BYTES: u32 = 20;
const IPV6_BYTES: u32 = ipv6::IP_BYTES as u32;
const V4_L4: usize = L3 + IPV4_BYTES as usize;
/// What an answer tells of what its IP header carries, and the header of an error itself.
const QUOTED_BYTES: u32 = 8;
const ERROR_BYTES: u32 = 8;
/// The same of a fragment of IPv6, whose own header comes first.
const QUOTED_FRAGMENT_BYTES: u32 = 16;
/// Type 3, code 3, as they stand in memory.
const PORT_UNREACHABLE: u16 = u16::from_ne_bytes([3, 3]);
/// The same of ICMPv6: type 1, code 4 (RFC 4443, section 3.1).
const PORT_UNREACHABLE_6: u16 = u16::from_ne_bytes([1, 4]);
/// Type 3, code 4 (RFC 1191).
const FRAGMENTATION_NEEDED: u16 = u16::from_ne_bytes([3, 4]);
/// Type 2, code 0 (RFC 4443, section 3.2).
const PACKET_TOO_BIG: u16 = u16::from_ne_bytes([2, 0]);
/// The bit of IPv4's fragment field that forbids cutting.
const DO_NOT_CUT: u16 = 0x4000;
/// How many words of 16 bits a TCP header without options has.
const TCP_WORDS: usize = 10;

/// Errors that one CPU sends in a second, at most (RFC 1812, section 4.3.2.8; the kernel's own limit is the same). Resets
/// are no larger than what they answer and are not counted.
const ERRORS_PER_SECOND_MAX: u32 = 1_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Answers, where the protocol has an answer and the packet is a plain one; the others end without a word.
#[inline(always)]
pub(crate) fn at_once(walk: &mut Walk, packet: &Packet, reason: Reason) -> Verdict {
    let plain = packet.piece == Piece::Whole && packet.l4() == if walk.is_v6() { ipv6::L4 } else { V4_L4 };
    let answer = match packet.protocol {
        TCP if plain => reset(walk, packet),
        UDP | SCTP if plain && may_send_error(walk) => unreachable(walk),
        _ => None,
    };
    match answer.and_then(|()| back(walk)) {
        Some(()) => Verdict::Refused(Station::Balance, reason),
        None => Verdict::Drop(Station::Balance, reason),
    }
}

/// Answers a packet that is longer than its way takes with the length that is not, bytes without the frame. One of IPv4 that
/// may be cut ends without a word: to cut it is not in a program's power.
#[inline(always)]
pub(crate) fn too_large(walk: &mut Walk, packet: &Packet, longest_bytes: u32) -> Verdict {
    let told = may_hear_of_length(walk, packet) && may_send_error(walk);
    let answer = if told { quoted_too_large(walk, longest_bytes.to_be()) } else { None };
    match answer.and_then(|()| back(walk)) {
        Some(()) => Verdict::Refused(Station::Route, Reason::TooLarge),
        None => Verdict::Drop(Station::Route, Reason::TooLarge),
    }
}

/// Routers do not cut what is of IPv6; what is of IPv4 says whether they may.
#[inline(always)]
fn may_hear_of_length(walk: &Walk, packet: &Packet) -> bool {
    if walk.is_v6() {
        return true;
    }
    let Some(ip) = parse::at::<Ipv4>(walk, L3) else { return false };
    // SAFETY: within the packet, aligned as the type says.
    packet.l4() == V4_L4 && unsafe { (*ip).fragment } & DO_NOT_CUT.to_be() != 0
}

/// Whether this CPU has errors left to send in this second.
#[inline(always)]
fn may_send_error(walk: &mut Walk) -> bool {
    // SAFETY: reads a clock.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let scratch = &mut *walk.scratch;
    if now.wrapping_sub(scratch.errors_since_ns) > SECOND_NS {
        scratch.errors_since_ns = now;
        scratch.errors_sent = 0;
    }
    scratch.errors_sent = scratch.errors_sent.saturating_add(1);
    scratch.errors_sent <= ERRORS_PER_SECOND_MAX
}

/// A SYN, or a bare acknowledgement of a connection nobody knows, becomes its reset. Both ends change places, which no
/// checksum notices.
#[inline(always)]
fn reset(walk: &Walk, packet: &Packet) -> Option<()> {
    if packet.tcp_flags & RST != 0 {
        return None;
    }
    let carried_bytes = carried_bytes(walk)?;
    let header = parse::at::<[u16; TCP_WORDS]>(walk, packet.l4())?;
    // SAFETY: within the packet; headers are aligned to two bytes.
    let old = unsafe { *header };
    let header_bytes = u32::from(u16::from_be(old[6]) >> 12) * 4;
    if carried_bytes != header_bytes {
        return None;
    }
    let length = u32::from(packet.tcp_flags & SYN != 0) + u32::from(packet.tcp_flags & FIN != 0);
    let (sequence, acknowledged) = (word(old[2], old[3]), word(old[4], old[5]));
    let (sequence_new, acknowledged_new, flags) = if packet.tcp_flags & ACK != 0 {
        (acknowledged, 0, RST)
    } else {
        (0, u32::from_be(sequence).wrapping_add(length).to_be(), RST | ACK)
    };
    let flags_new = (u16::from_be(old[6]) & 0xf000 | u16::from(flags)).to_be();
    let change = difference(0, sequence, sequence_new);
    let change = difference(change, acknowledged, acknowledged_new);
    let change = folded(difference(change, word(old[6], old[7]), word(flags_new, 0)));
    // SAFETY: the helper checks the offset; a size of 0 says that `to` is a difference.
    if unsafe { bpf_l4_csum_replace(walk.context, packet.l4() as u32 + 16, 0, u64::from(change), 0) } != 0 {
        return None;
    }
    let header = parse::at::<[u16; TCP_WORDS]>(walk, packet.l4())?;
    let (sequence, acknowledged) = (halves(sequence_new), halves(acknowledged_new));
    // SAFETY: as above.
    unsafe {
        (*header)[0] = old[1];
        (*header)[1] = old[0];
        (*header)[2] = sequence.0;
        (*header)[3] = sequence.1;
        (*header)[4] = acknowledged.0;
        (*header)[5] = acknowledged.1;
        (*header)[6] = flags_new;
        (*header)[7] = 0;
    }
    turn(walk)
}

/// Bytes that the IP header says it carries.
#[inline(always)]
fn carried_bytes(walk: &Walk) -> Option<u32> {
    // SAFETY: within the packet, aligned as the types say.
    unsafe {
        if walk.is_v6() {
            let ip = parse::at::<Ipv6>(walk, L3)?;
            return Some(u32::from(u16::from_be((*ip).payload_bytes)));
        }
        let ip = parse::at::<Ipv4>(walk, L3)?;
        u32::from(u16::from_be((*ip).total_bytes)).checked_sub(IPV4_BYTES)
    }
}

/// The IP header's ends change places, and it has all hops before it.
#[inline(always)]
fn turn(walk: &Walk) -> Option<()> {
    // SAFETY: within the packet, aligned as the types say.
    unsafe {
        if walk.is_v6() {
            let (source, destination) = (&walk.scratch.tuple.source, &walk.scratch.tuple.destination);
            ipv6::addresses_into(walk, L3, destination, source)?;
            let ip = parse::at::<Ipv6>(walk, L3)?;
            (*ip).hops = TTL;
            return Some(());
        }
        let ip = parse::at::<Ipv4>(walk, L3)?;
        let (source, old, new) =
            ((*ip).source, u16::from_ne_bytes([(*ip).ttl, TCP]), u16::from_ne_bytes([TTL, TCP]));
        (*ip).checksum =
            checksum_after((*ip).checksum, folded(difference(0, u32::from(old), u32::from(new))));
        (*ip).ttl = TTL;
        (*ip).source = (*ip).destination;
        (*ip).destination = source;
    }
    Some(())
}

#[inline(always)]
const fn halves(word: u32) -> (u16, u16) {
    let bytes = word.to_ne_bytes();
    (u16::from_ne_bytes([bytes[0], bytes[1]]), u16::from_ne_bytes([bytes[2], bytes[3]]))
}

/// The datagram becomes the error that says that nobody listens.
#[inline(always)]
fn unreachable(walk: &Walk) -> Option<()> {
    if walk.is_v6() {
        const QUOTED: usize = (IPV6_BYTES + QUOTED_BYTES) as usize;
        let sum = quote::<{ QUOTED / 2 }>(walk, IPV6_BYTES)?;
        return error_v6(walk, PORT_UNREACHABLE_6, 0, QUOTED, sum);
    }
    const QUOTED: usize = (IPV4_BYTES + QUOTED_BYTES) as usize;
    let sum = quote::<{ QUOTED / 2 }>(walk, IPV4_BYTES)?;
    error_v4(walk, PORT_UNREACHABLE, 0, sum)
}

/// The packet becomes the error that says how long it may be, in network order.
#[inline(always)]
fn quoted_too_large(walk: &Walk, longest: u32) -> Option<()> {
    if walk.is_v6() {
        const QUOTED: usize = (IPV6_BYTES + QUOTED_FRAGMENT_BYTES) as usize;
        let sum = quote::<{ QUOTED / 2 }>(walk, IPV6_BYTES)?;
        return error_v6(walk, PACKET_TOO_BIG, longest, QUOTED, sum);
    }
    const QUOTED: usize = (IPV4_BYTES + QUOTED_BYTES) as usize;
    let sum = quote::<{ QUOTED / 2 }>(walk, IPV4_BYTES)?;
    error_v4(walk, FRAGMENTATION_NEEDED, longest, sum)
}

/// Cuts the packet to the words that an error quotes, and makes room for an IP and an ICMP header before them; their sum.
#[inline(always)]
fn quote<const WORDS: usize>(walk: &Walk, ip_bytes: u32) -> Option<u64> {
    let (quoted_bytes, room_bytes) = (2 * WORDS as u32, ip_bytes + ERROR_BYTES);
    // SAFETY: the helpers check what they are given; pointers into the packet are taken after them.
    let answer = unsafe {
        bpf_skb_change_tail(walk.context, L3 as u32 + quoted_bytes, 0)
            | bpf_skb_adjust_room(walk.context, room_bytes as i32, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, 0)
            | bpf_skb_pull_data(walk.context, L3 as u32 + room_bytes + quoted_bytes)
    };
    if answer != 0 {
        return None;
    }
    sum_of_quoted::<WORDS>(walk, L3 + room_bytes as usize)
}

/// The sum of the quoted words, not folded.
#[inline(always)]
fn sum_of_quoted<const WORDS: usize>(walk: &Walk, at: usize) -> Option<u64> {
    let quoted = parse::at::<[u16; WORDS]>(walk, at)?;
    let mut sum = 0;
    let mut i = 0;
    while i < WORDS {
        // SAFETY: within the packet; headers are aligned to two bytes.
        sum += u64::from(unsafe { (&raw const (*quoted)[i]).read_volatile() });
        i += 1;
    }
    Some(sum)
}

/// The error's own header: type and code, and the word behind the checksum.
#[inline(always)]
fn error_into(walk: &Walk, at: usize, kind: u16, rest: u32, sum: u64) -> Option<()> {
    let header = parse::at::<[u16; ERROR_BYTES as usize / 2]>(walk, at)?;
    // SAFETY: within the packet; headers are aligned to two bytes.
    unsafe {
        (*header)[0] = kind;
        (*header)[1] = checksum_after(0xffff, folded(sum + u64::from(kind) + u64::from(rest)));
        ((*header)[2], (*header)[3]) = halves(rest);
    }
    Some(())
}

#[inline(always)]
fn error_v4(walk: &Walk, kind: u16, rest: u32, sum: u64) -> Option<()> {
    let (asked, client) = (&walk.scratch.tuple.destination, &walk.scratch.tuple.source);
    let (source, destination) = (asked.v4_wire(), client.v4_wire());
    error_into(walk, V4_L4, kind, rest, sum)?;
    let total_bytes = ((IPV4_BYTES + ERROR_BYTES + IPV4_BYTES + QUOTED_BYTES) as u16).to_be();
    let first = u16::from_ne_bytes([0x45, 0]);
    let hops = u16::from_ne_bytes([TTL, ICMP]);
    let sum = u64::from(first)
        + u64::from(total_bytes)
        + u64::from(hops)
        + u64::from(source)
        + u64::from(destination);
    let ip = parse::at::<Ipv4>(walk, L3)?;
    // SAFETY: within the packet, aligned as the type says.
    unsafe {
        (*ip).version_length = 0x45;
        (*ip).tos = 0;
        (*ip).total_bytes = total_bytes;
        (*ip).identification = 0;
        (*ip).fragment = 0;
        (*ip).ttl = TTL;
        (*ip).protocol = ICMP;
        (*ip).checksum = checksum_after(0xffff, folded(sum));
        (*ip).source = source;
        (*ip).destination = destination;
    }
    Some(())
}

#[inline(always)]
fn error_v6(walk: &Walk, kind: u16, rest: u32, quoted_bytes: usize, sum: u64) -> Option<()> {
    let (asked, client) = (&walk.scratch.tuple.destination, &walk.scratch.tuple.source);
    let payload_bytes = (ERROR_BYTES as u16 + quoted_bytes as u16).to_be();
    let next = u16::from_ne_bytes([0, ICMP6]);
    let pseudo = ipv6::sum(asked) + ipv6::sum(client) + u64::from(payload_bytes) + u64::from(next);
    error_into(walk, ipv6::L4, kind, rest, sum + pseudo)?;
    let ip = parse::at::<Ipv6>(walk, L3)?;
    // SAFETY: within the packet, aligned as the type says.
    unsafe {
        (*ip).version_class_flow = (6u32 << 28).to_be();
        (*ip).payload_bytes = payload_bytes;
        (*ip).next = ICMP6;
        (*ip).hops = TTL;
    }
    ipv6::addresses_into(walk, L3, asked, client)
}

/// Sends the answer back: into the Pod, out of the uplink, or up into the node's stack.
#[inline(always)]
fn back(walk: &Walk) -> Option<()> {
    let frame = parse::at::<[u16; 6]>(walk, 0)?;
    // SAFETY: within the packet; frames are aligned to two bytes.
    unsafe {
        let old = *frame;
        let up = walk.hook == Hook::ToOverlay;
        let (to, from) = (OVERLAY_MAC, OVERLAY_RETURN_MAC);
        (*frame)[0] = if up { u16::from_ne_bytes([to[0], to[1]]) } else { old[3] };
        (*frame)[1] = if up { u16::from_ne_bytes([to[2], to[3]]) } else { old[4] };
        (*frame)[2] = if up { u16::from_ne_bytes([to[4], to[5]]) } else { old[5] };
        (*frame)[3] = if up { u16::from_ne_bytes([from[0], from[1]]) } else { old[0] };
        (*frame)[4] = if up { u16::from_ne_bytes([from[2], from[3]]) } else { old[1] };
        (*frame)[5] = if up { u16::from_ne_bytes([from[4], from[5]]) } else { old[2] };
    }
    let device = walk.ifindex();
    // SAFETY: each only takes note of the device.
    let answer = unsafe {
        match walk.hook {
            Hook::FromPod => bpf_redirect_peer(device, 0),
            Hook::ToOverlay => bpf_redirect(device, u64::from(BPF_F_INGRESS)),
            // Sent on by another node: the client hears it from here.
            Hook::FromOverlay => bpf_redirect_neigh(walk.config.uplink_ifindex, core::ptr::null_mut(), 0, 0),
            _ => bpf_redirect(device, 0),
        }
    };
    matches!(Verdict::redirected(answer), Verdict::Redirect).then_some(())
}
