//! ICMP errors: they carry the start of a packet as we sent it, and must reach the one who sent it, as it was sent.
//!
//! Only errors without IP options, outside and inside, are translated; others about translated flows are dropped.

use aya_ebpf::helpers::bpf_l4_csum_replace;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::conntrack::{FLOW_NODE_PORT, FLOW_TWIN};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{ROUTE_OUTSIDE, ROUTE_TUNNEL};
use weft_dataplane_abi::station::Station;

use crate::maps;
use crate::origin;
use crate::parse::{self, ICMP, Ipv4, L3, Packet, TCP, UDP};
use crate::route;
use crate::translate::{addresses_into, checksum_after, difference, folded, word};
use crate::verdict::{Step, Verdict, drop};
use crate::walk::{Walk, is_this_node};
use crate::words::{clear, copy};

const IP_BYTES: usize = 20;
/// The outer header without options, then the error's own eight bytes.
const L4: usize = L3 + IP_BYTES;
const INNER_L3: usize = L4 + 8;
const INNER_L4: usize = INNER_L3 + IP_BYTES;
const NO_OPTIONS: u8 = 0x45;

const MALFORMED: Verdict = Verdict::Drop(Station::Parse, Reason::Malformed);

/// Brings an error to the one whose packet it is about.
#[inline(always)]
pub(crate) fn error(walk: &mut Walk, packet: &Packet) -> Step<Verdict> {
    origin::is_true(walk)?;
    if packet.l4 != L4 {
        return nobody(walk);
    }
    parse::linear(walk, INNER_L4 + 8)?;
    let Some(inner) = parse::at::<Ipv4>(walk, INNER_L3) else { return cut_off(walk) };
    // SAFETY: within the packet, aligned as the type says.
    let inner = unsafe { *inner };
    if inner.version_length != NO_OPTIONS {
        return nobody(walk);
    }
    let Some(ports) = parse::at::<[u16; 4]>(walk, INNER_L4) else { return cut_off(walk) };
    // SAFETY: within the packet; headers are aligned to two bytes.
    let ports = unsafe { *ports };
    let (source_port, destination_port) = match inner.protocol {
        TCP | UDP => (ports[0], ports[1]),
        ICMP => (ports[2], 0),
        _ => (0, 0),
    };
    // The answers to the packet inside would have come with these ends.
    let key = &mut walk.scratch.twin_key;
    clear(key);
    key.source = Address::from_v4_wire(inner.destination);
    key.destination = Address::from_v4_wire(inner.source);
    key.source_port = Be16::from_wire(destination_port);
    key.destination_port = Be16::from_wire(source_port);
    key.protocol = inner.protocol;
    // A Pod may complain about what was sent to it, and about nobody else's packets.
    if walk.hook == Hook::FromPod && walk.scratch.twin_key.source != walk.scratch.tuple.source {
        return nobody(walk);
    }
    // The outside may complain to whom it heard, and of nobody else's packets.
    let outside = walk.hook == Hook::FromUplink;
    if outside && walk.scratch.twin_key.destination != walk.scratch.tuple.destination {
        return nobody(walk);
    }
    let Some(flow) = maps::flow(&walk.scratch.twin_key) else {
        return nobody(walk);
    };
    // At other addresses than the node's it heard Services only.
    if outside
        && !is_this_node(walk.config, &walk.scratch.tuple.destination)
        && flow.flags & (FLOW_NODE_PORT | FLOW_TWIN) != FLOW_NODE_PORT
    {
        return nobody(walk);
    }
    copy(&mut walk.scratch.twin.to, &flow.to);
    translate(walk, inner.protocol)?;
    maps::count(Counter::ErrorsTranslated);
    if walk.hook == Hook::ToPod {
        return Ok(Verdict::Next);
    }
    route::find(walk);
    route::leave(walk)
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
        ROUTE_TUNNEL if walk.hook == Hook::FromOverlay => drop(Station::Route, Reason::NotHere),
        _ => route::leave(walk),
    }
}

/// Outside, the destination becomes who sent the packet inside, and the source the address that was asked, if the error
/// is from there. Inside, the packet becomes what was sent.
#[inline(always)]
fn translate(walk: &mut Walk, protocol: u8) -> Step<()> {
    let scratch = &mut *walk.scratch;
    copy(&mut scratch.first.to, &scratch.tuple);
    let (was, is) = (&scratch.twin_key, &scratch.twin.to);
    copy(&mut scratch.first.to.destination, &is.destination);
    if scratch.tuple.source == was.source {
        copy(&mut scratch.first.to.source, &is.source);
    }
    let (source, destination) = (scratch.first.to.source.v4_wire(), scratch.first.to.destination.v4_wire());
    let outer = difference(0, scratch.tuple.source.v4_wire(), source);
    let outer = folded(difference(outer, scratch.tuple.destination.v4_wire(), destination));

    let (old, new) = match protocol {
        TCP | UDP => (
            word(was.destination_port.wire(), was.source_port.wire()),
            word(is.destination_port.wire(), is.source_port.wire()),
        ),
        _ => (u32::from(was.destination_port.wire()), u32::from(is.destination_port.wire())),
    };
    if old != new {
        // The inner addresses and the inner header's checksum cancel out; the ports do not.
        // SAFETY: the helper checks the offset.
        let answer =
            unsafe { bpf_l4_csum_replace(walk.skb, (L4 + 2) as u32, u64::from(old), u64::from(new), 4) };
        if answer != 0 {
            return drop(Station::Translate, Reason::RewriteFailed);
        }
    }
    addresses_into(walk, outer, source, destination)?;
    inner_into(walk, protocol)
}

#[inline(always)]
fn inner_into(walk: &Walk, protocol: u8) -> Step<()> {
    let (was, is) = (&walk.scratch.twin_key, &walk.scratch.twin.to);
    let change = difference(0, was.destination.v4_wire(), is.destination.v4_wire());
    let change = folded(difference(change, was.source.v4_wire(), is.source.v4_wire()));
    let ip = parse::at::<Ipv4>(walk, INNER_L3).ok_or(MALFORMED)?;
    // SAFETY: within the packet, aligned as the type says.
    unsafe {
        (*ip).checksum = checksum_after((*ip).checksum, change);
        (*ip).source = is.destination.v4_wire();
        (*ip).destination = is.source.v4_wire();
    }
    let ports = parse::at::<[u16; 4]>(walk, INNER_L4).ok_or(MALFORMED)?;
    // SAFETY: within the packet; headers are aligned to two bytes.
    unsafe {
        match protocol {
            TCP | UDP => {
                (*ports)[0] = is.destination_port.wire();
                (*ports)[1] = is.source_port.wire();
            }
            ICMP => (*ports)[2] = is.destination_port.wire(),
            _ => {}
        }
    }
    Ok(())
}
