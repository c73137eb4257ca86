//! ICMP errors: they carry the start of a packet as we sent it, and must reach the one who sent it, as it was sent.
//!
//! Only errors without IP options or extension headers, outside and inside, are translated; others about translated flows are
//! dropped.

use aya_ebpf::helpers::bpf_l4_csum_replace;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::conntrack::{FLOW_DIRECT, FLOW_NODE_PORT, FLOW_TWIN};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{ROUTE_NATIVE, ROUTE_OUTSIDE, ROUTE_TUNNEL};
use weft_dataplane_abi::station::Station;

use crate::ipv6::{self, Ipv6};
use crate::maps;
use crate::native;
use crate::origin;
use crate::parse::{self, ICMP, ICMP6, Ipv4, L3, MALFORMED, Packet, SCTP, TCP, UDP};
use crate::route;
use crate::translate::{
    PSEUDO_HEADER, addresses_difference, addresses_into, checksum_after, difference, folded, word,
};
use crate::verdict::{Step, Verdict, drop};
use crate::walk::{Walk, is_this_node};
use crate::words::{clear, copy};

const IPV4_BYTES: usize = 20;
/// The error's own header, before the packet it is about.
const ERROR_BYTES: usize = 8;
/// What is read of the transport header inside.
const PORTS_BYTES: usize = 8;
const NO_OPTIONS: u8 = 0x45;

/// Where the parts of an error are, in a packet whose IP headers have so many bytes.
#[derive(Clone, Copy)]
struct Places {
    l4: usize,
    inner_l3: usize,
    inner_l4: usize,
}

impl Places {
    const fn of(ip_bytes: usize) -> Self {
        let inner_l3 = L3 + ip_bytes + ERROR_BYTES;
        Self { l4: L3 + ip_bytes, inner_l3, inner_l4: inner_l3 + ip_bytes }
    }
}

const V4: Places = Places::of(IPV4_BYTES);
const V6: Places = Places::of(ipv6::IP_BYTES);

/// What is known of the packet inside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Its ends.
    Read,
    /// It is one that is not translated.
    Other,
    /// It is too short to say.
    Cut,
}

/// Brings an error to the one whose packet it is about.
#[inline(always)]
pub(crate) fn error(walk: &mut Walk, packet: &Packet) -> Step<Verdict> {
    origin::is_true(walk)?;
    match inside(walk, packet)? {
        Inside::Read => {}
        Inside::Other => return nobody(walk),
        Inside::Cut => return cut_off(walk),
    }
    // A Pod may complain about what was sent to it, and about nobody else's packets.
    if walk.hook == Hook::FromPod && walk.scratch.twin_key.source != walk.scratch.tuple.source {
        return nobody(walk);
    }
    // The outside may complain to whom it heard, and of nobody else's packets.
    let sent_on = walk.hook == Hook::FromOverlay && origin::is_direct(walk);
    let outside = walk.hook == Hook::FromUplink || sent_on;
    if outside && walk.scratch.twin_key.destination != walk.scratch.tuple.destination {
        return nobody(walk);
    }
    let Some(flow) = maps::flow(&walk.scratch.twin_key) else {
        return nobody(walk);
    };
    // At other addresses than the node's it heard Services, and what Pods sent to other nodes'.
    if outside
        && !is_this_node(walk.config, &walk.scratch.tuple.destination)
        && flow.flags & (FLOW_NODE_PORT | FLOW_TWIN) != FLOW_NODE_PORT
        && !native::has_seen(walk)
    {
        return nobody(walk);
    }
    copy(&mut walk.scratch.twin.to, &flow.to);
    if flow.flags & FLOW_DIRECT != 0 {
        return send_on(walk);
    }
    translate(walk)?;
    maps::count(Counter::ErrorsTranslated);
    if walk.hook == Hook::ToPod {
        return Ok(Verdict::Next);
    }
    route::find(walk);
    route::leave(walk)
}

/// An error about an answer that another node has sent goes there as it came.
#[inline(always)]
fn send_on(walk: &mut Walk) -> Step<Verdict> {
    if walk.hook != Hook::FromUplink {
        return nobody(walk);
    }
    let scratch = &mut *walk.scratch;
    copy(&mut scratch.first.to, &scratch.twin.to);
    scratch.first.flags = FLOW_DIRECT;
    route::find(walk);
    route::still_direct(walk)?;
    route::leave(walk)
}

/// Reads the packet inside: the ends with which its answers would have come.
#[inline(always)]
fn inside(walk: &mut Walk, packet: &Packet) -> Step<Inside> {
    clear(&mut walk.scratch.twin_key);
    let places = if walk.is_v6() { V6 } else { V4 };
    if packet.l4() != places.l4 {
        return Ok(Inside::Other);
    }
    parse::linear(walk, places.inner_l4 + PORTS_BYTES)?;
    if walk.is_v6() {
        let Some(ip) = parse::at::<Ipv6>(walk, V6.inner_l3) else { return Ok(Inside::Cut) };
        let key = &mut walk.scratch.twin_key;
        // SAFETY: within the packet, aligned as the type says.
        unsafe {
            key.source = ipv6::address((*ip).destination);
            key.destination = ipv6::address((*ip).source);
            key.protocol = (*ip).next;
        }
        return Ok(ports(walk, V6.inner_l4, ICMP6));
    }
    let Some(ip) = parse::at::<Ipv4>(walk, V4.inner_l3) else { return Ok(Inside::Cut) };
    // SAFETY: as above.
    let ip = unsafe { *ip };
    if ip.version_length != NO_OPTIONS {
        return Ok(Inside::Other);
    }
    let key = &mut walk.scratch.twin_key;
    key.source = Address::from_v4_wire(ip.destination);
    key.destination = Address::from_v4_wire(ip.source);
    key.protocol = ip.protocol;
    Ok(ports(walk, V4.inner_l4, ICMP))
}

/// Reads the ports inside, or what stands for them.
#[inline(always)]
fn ports(walk: &mut Walk, at: usize, icmp: u8) -> Inside {
    let Some(ports) = parse::at::<[u16; PORTS_BYTES / 2]>(walk, at) else { return Inside::Cut };
    // SAFETY: within the packet; headers are aligned to two bytes.
    let ports = unsafe { *ports };
    let key = &mut walk.scratch.twin_key;
    let (source, destination) = match key.protocol {
        TCP | UDP | SCTP => (ports[0], ports[1]),
        protocol if protocol == icmp => (ports[2], 0),
        _ => (0, 0),
    };
    key.source_port = Be16::from_wire(destination);
    key.destination_port = Be16::from_wire(source);
    Inside::Read
}

/// An error that does not hold what it is about: the host judges what comes from outside.
#[inline(always)]
fn cut_off(walk: &Walk) -> Step<Verdict> {
    if walk.hook == Hook::FromUplink { Ok(Verdict::Next) } else { Err(MALFORMED) }
}

/// An error about no flow of ours: the host's own from outside and to a Pod, elsewhere on its way like any packet but not
/// out of the cluster.
#[inline(always)]
fn nobody(walk: &mut Walk) -> Step<Verdict> {
    if matches!(walk.hook, Hook::FromUplink | Hook::ToPod) {
        return Ok(Verdict::Next);
    }
    let scratch = &mut *walk.scratch;
    copy(&mut scratch.first.to, &scratch.tuple);
    route::find(walk);
    match u32::from(walk.scratch.first.way) {
        ROUTE_OUTSIDE => drop(Station::Track, Reason::ErrorAboutNothing),
        ROUTE_TUNNEL | ROUTE_NATIVE if walk.hook == Hook::FromOverlay => {
            drop(Station::Route, Reason::NotHere)
        }
        _ => route::leave(walk),
    }
}

/// Outside, the destination becomes who sent the packet inside, and the source the address that was asked, if the error
/// is from there. Inside, the packet becomes what was sent.
#[inline(always)]
fn translate(walk: &mut Walk) -> Step<()> {
    let scratch = &mut *walk.scratch;
    copy(&mut scratch.first.to, &scratch.tuple);
    let (was, is) = (&scratch.twin_key, &scratch.twin.to);
    copy(&mut scratch.first.to.destination, &is.destination);
    if scratch.tuple.source == was.source {
        copy(&mut scratch.first.to.source, &is.source);
    }
    let (old, new) = match was.protocol {
        TCP | UDP => (
            word(was.destination_port.wire(), was.source_port.wire()),
            word(is.destination_port.wire(), is.source_port.wire()),
        ),
        _ => (u32::from(was.destination_port.wire()), u32::from(is.destination_port.wire())),
    };
    let (was, is, to) = (&walk.scratch.twin_key, &walk.scratch.twin.to, &walk.scratch.first.to);
    let outer = addresses_difference(walk, &walk.scratch.tuple, to);
    let inner = addresses_difference(walk, was, is);
    if walk.is_v6() {
        // This checksum knows the addresses before it, and nothing inside makes up for those there.
        change_checksum(walk, V6.l4, outer, true)?;
        let change = folded(difference(u64::from(inner), old, new));
        change_checksum(walk, V6.l4, change, false)?;
        addresses_into(walk, outer, to)?;
        ipv6::addresses_into(walk, V6.inner_l3, &is.destination, &is.source).ok_or(MALFORMED)?;
        return ports_into(walk, V6.inner_l4, ICMP6);
    }
    if old != new {
        // The addresses inside and the checksum of the header inside cancel out; the ports do not.
        change_checksum(walk, V4.l4, folded(difference(0, old, new)), false)?;
    }
    addresses_into(walk, outer, to)?;
    let ip = parse::at::<Ipv4>(walk, V4.inner_l3).ok_or(MALFORMED)?;
    // SAFETY: within the packet, aligned as the type says.
    unsafe {
        (*ip).checksum = checksum_after((*ip).checksum, inner);
        (*ip).source = is.destination.v4_wire();
        (*ip).destination = is.source.v4_wire();
    }
    ports_into(walk, V4.inner_l4, ICMP)
}

/// Changes the error's checksum by a difference, of what comes with it or of its pseudo-header.
#[inline(always)]
fn change_checksum(walk: &Walk, l4: usize, change: u32, pseudo: bool) -> Step<()> {
    let flags = if pseudo { PSEUDO_HEADER } else { 0 };
    // SAFETY: the helper checks the offset; a size of 0 says that `to` is a difference.
    match unsafe { bpf_l4_csum_replace(walk.context, (l4 + 2) as u32, 0, u64::from(change), flags) } {
        0 => Ok(()),
        _ => drop(Station::Translate, Reason::RewriteFailed),
    }
}

#[inline(always)]
fn ports_into(walk: &Walk, at: usize, icmp: u8) -> Step<()> {
    let is = &walk.scratch.twin.to;
    let ports = parse::at::<[u16; PORTS_BYTES / 2]>(walk, at).ok_or(MALFORMED)?;
    // SAFETY: within the packet; headers are aligned to two bytes.
    unsafe {
        match walk.scratch.twin_key.protocol {
            TCP | UDP => {
                (*ports)[0] = is.destination_port.wire();
                (*ports)[1] = is.source_port.wire();
            }
            protocol if protocol == icmp => (*ports)[2] = is.destination_port.wire(),
            _ => {}
        }
    }
    Ok(())
}
