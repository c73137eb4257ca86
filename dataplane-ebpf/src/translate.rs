//! Station *translate*: puts a flow's new ends into the packet. Checksums are changed by their difference. The header of IPv6
//! is written by `ipv6.rs`.

use aya_ebpf::helpers::bpf_l4_csum_replace;
use weft_dataplane_abi::conntrack::{FLOW_DESTINATION, FLOW_SOURCE, Tuple};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::station::Station;

use crate::context::{Context, Editable};
use crate::parse::{self, ICMP, Ipv4, L3, Message, Packet, Piece, TCP, UDP};
use crate::verdict::{Step, Verdict, drop};
use crate::walk::Walk;
use crate::{ipv6, maps};

/// `BPF_F_PSEUDO_HDR`: the change is of the pseudo-header.
pub(crate) const PSEUDO_HEADER: u64 = 1 << 4;
/// `BPF_F_MARK_MANGLED_0`: a UDP checksum of 0 means none and stays.
const ZERO_MEANS_NONE: u64 = 1 << 5;

const FAILED: Verdict = Verdict::Drop(Station::Translate, Reason::RewriteFailed);

/// Sums differences of 32-bit words, with the carry brought round.
#[inline(always)]
pub(crate) const fn difference(sum: u64, old: u32, new: u32) -> u64 {
    sum + !old as u64 + new as u64
}

/// Folds a sum of differences to 32 bits.
#[inline(always)]
pub(crate) const fn folded(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// A header checksum after a difference (RFC 1624).
#[inline(always)]
pub(crate) const fn checksum_after(checksum: u16, difference: u32) -> u16 {
    let sum = (!checksum) as u64 + (difference & 0xffff) as u64 + (difference >> 16) as u64;
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

/// Two ports as the first word of a TCP or UDP header.
#[inline(always)]
pub(crate) const fn word(source: u16, destination: u16) -> u32 {
    let (s, d) = (source.to_ne_bytes(), destination.to_ne_bytes());
    u32::from_ne_bytes([s[0], s[1], d[0], d[1]])
}

/// Puts the flow's new ends into the packet, where they differ.
#[inline(always)]
pub(crate) fn apply<C: Editable>(walk: &mut Walk<C>, packet: &Packet) -> Step<()> {
    let flow = walk.flow();
    if flow.flags & (FLOW_SOURCE | FLOW_DESTINATION) == 0 {
        return Ok(());
    }
    let (old, new) = (&walk.scratch.tuple, &flow.to);
    let addresses = addresses_difference(walk, old, new);
    let ports_old = word(old.source_port.wire(), old.destination_port.wire());
    let ports_new = word(new.source_port.wire(), new.destination_port.wire());
    let with_ports = packet.piece != Piece::Later && packet.ports_may_change();
    let with_checksum = with_ports || packet.message != Message::None;
    if with_checksum {
        C::checksum(walk, packet, addresses, ports_old, ports_new)?;
    }
    addresses_into(walk, addresses, new)?;
    if with_ports && ports_old != ports_new {
        ports_into(walk, packet, ports_new)?;
    }
    maps::count(Counter::PacketsTranslated);
    Ok(())
}

/// The difference of the addresses, folded.
#[inline(always)]
pub(crate) fn addresses_difference<C: Context>(walk: &Walk<C>, old: &Tuple, new: &Tuple) -> u32 {
    if walk.is_v6() {
        let sum = ipv6::difference(0, &old.source, &new.source);
        return ipv6::folded(ipv6::difference(sum, &old.destination, &new.destination));
    }
    let sum = difference(0, old.source.v4_wire(), new.source.v4_wire());
    folded(difference(sum, old.destination.v4_wire(), new.destination.v4_wire()))
}

/// The transport checksum. First of all, since the helper invalidates pointers into the packet.
#[inline(always)]
pub(crate) fn checksum(
    walk: &Walk,
    packet: &Packet,
    addresses: u32,
    ports_old: u32,
    ports_new: u32,
) -> Step<()> {
    let (offset, flags) = match packet.protocol {
        TCP => (packet.l4() + 16, 0),
        UDP => (packet.l4() + 6, ZERO_MEANS_NONE),
        _ => (packet.l4() + 2, 0),
    };
    let offset = offset as u32;
    let (ports_old, ports_new) = (u64::from(ports_old), u64::from(ports_new));
    let before = tcp_checksum(walk, packet).map(|checksum| {
        // SAFETY: within the packet; headers are aligned to two bytes.
        unsafe { *checksum }
    });
    if packet.protocol != ICMP {
        // SAFETY: the helper checks the offset; a size of 0 says that `to` is a difference.
        let answer = unsafe {
            bpf_l4_csum_replace(walk.context, offset, 0, u64::from(addresses), flags | PSEUDO_HEADER)
        };
        if answer != 0 {
            return drop(Station::Translate, Reason::RewriteFailed);
        }
    }
    if ports_old != ports_new {
        if let Some(before) = before
            && ports_counted(
                walk,
                packet,
                before,
                addresses,
                difference(0, ports_old as u32, ports_new as u32),
            )
        {
            return Ok(());
        }
        // SAFETY: as above; a size of 4 says that both are words of the header. Of ICMP the one that is the identifier differs.
        let answer = unsafe { bpf_l4_csum_replace(walk.context, offset, ports_old, ports_new, flags | 4) };
        if answer != 0 {
            return drop(Station::Translate, Reason::RewriteFailed);
        }
    }
    Ok(())
}

/// The same where the checksum is whole, of TCP or UDP.
#[inline(always)]
pub(crate) fn whole_checksum<C: Context>(
    walk: &Walk<C>,
    packet: &Packet,
    addresses: u32,
    ports_old: u32,
    ports_new: u32,
) -> Step<()> {
    let is_udp = packet.protocol == UDP;
    let offset = packet.l4() + if is_udp { 6 } else { 16 };
    let place = parse::at::<u16>(walk, offset).ok_or(FAILED)?;
    // SAFETY: within the packet; headers are aligned to two bytes.
    let before = unsafe { *place };
    if is_udp && before == 0 {
        return Ok(());
    }
    let after = checksum_after(before, folded(difference(u64::from(addresses), ports_old, ports_new)));
    // Of UDP 0 means none (RFC 768).
    // SAFETY: as above.
    unsafe { *place = if is_udp && after == 0 { 0xffff } else { after } };
    Ok(())
}

/// TCP's checksum.
#[inline(always)]
fn tcp_checksum(walk: &Walk, packet: &Packet) -> Option<*mut u16> {
    if packet.protocol != TCP { None } else { parse::at(walk, packet.l4() + 16) }
}

/// Has the ports' difference count in TCP's checksum after the addresses' does, and says whether that is done. Whether the
/// checksum is whole, or the device or the other end will do the rest of it and only the addresses count yet, the kernel knows;
/// what the helper made of it tells. Asking it a second time would cost as much as all of the rest of this station.
#[inline(always)]
fn ports_counted(walk: &Walk, packet: &Packet, before: u16, addresses: u32, ports: u64) -> bool {
    let Some(checksum) = tcp_checksum(walk, packet) else { return false };
    // SAFETY: within the packet; headers are aligned to two bytes.
    let after = unsafe { *checksum };
    let whole = same(after, checksum_after(before, addresses));
    let partial = same(after, !checksum_after(!before, addresses));
    if whole == partial {
        return false;
    }
    if whole {
        // SAFETY: as above.
        unsafe { *checksum = checksum_after(after, folded(ports)) };
    }
    true
}

/// Whether two sums are one: there are two zeros.
#[inline(always)]
const fn same(one: u16, other: u16) -> bool {
    one == other || (one == 0 && other == 0xffff) || (one == 0xffff && other == 0)
}

/// The IP header's addresses, and its checksum where it has one.
#[inline(always)]
pub(crate) fn addresses_into<C: Editable>(walk: &Walk<C>, difference: u32, to: &Tuple) -> Step<()> {
    if walk.is_v6() {
        ipv6::sum_changed(walk, difference);
        return ipv6::addresses_into(walk, L3, &to.source, &to.destination).ok_or(FAILED);
    }
    let ip = parse::at::<Ipv4>(walk, L3).ok_or(FAILED)?;
    // SAFETY: within the packet, aligned as the type says.
    unsafe {
        (*ip).checksum = checksum_after((*ip).checksum, difference);
        (*ip).source = to.source.v4_wire();
        (*ip).destination = to.destination.v4_wire();
    }
    Ok(())
}

#[inline(always)]
fn ports_into<C: Context>(walk: &Walk<C>, packet: &Packet, ports: u32) -> Step<()> {
    let bytes = ports.to_ne_bytes();
    let (source, destination) =
        (u16::from_ne_bytes([bytes[0], bytes[1]]), u16::from_ne_bytes([bytes[2], bytes[3]]));
    let header = parse::at::<[u16; 4]>(walk, packet.l4()).ok_or(FAILED)?;
    // SAFETY: within the packet; headers are aligned to two bytes.
    unsafe {
        match packet.message {
            Message::None => {
                (*header)[0] = source;
                (*header)[1] = destination;
            }
            Message::Ask => (*header)[2] = source,
            _ => (*header)[2] = destination,
        }
    }
    Ok(())
}
