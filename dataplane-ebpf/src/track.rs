//! Station *track*: finds a packet's flow, or begins one and gives it a reverse tuple that no other flow has.

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns};
use weft_dataplane_abi::conntrack::{
    FLOW_DESTINATION, FLOW_DIRECT, FLOW_PORT_ALLOCATED, FLOW_SOURCE, FLOW_TWIN, Flow, ICMP_IDLE_SECONDS,
    TCP_CLOSED_SECONDS_MIN, TCP_CLOSING_SECONDS, TCP_IDLE_SECONDS, TCP_SEEN_ACK, TCP_SEEN_FIN, TCP_SEEN_RST,
    TCP_SEEN_SYN, UDP_IDLE_SECONDS, mirrored,
};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::dry::Known;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::station::Station;

use crate::context::Context;
use crate::dry::{self, dry};
use crate::maps::{self, EEXIST};
use crate::parse::{ACK, FIN, Message, Packet, RST, SCTP, SYN, TCP, UDP};
use crate::verdict::{Step, drop};
use crate::walk::{Walk, is_this_node};
use crate::words::{copy, reverse, set};
use crate::{balance, before, emit};

/// `BPF_NOEXIST`: insert only where nothing is.
const NOEXIST: u64 = 1;
/// How many source ports are tried for one flow.
const SOURCE_PORTS_TRIED_MAX: u32 = 16;
/// Source ports of a sender that keeps its own address.
const OWN_PORT_FIRST: u32 = 1_024;
const OWN_PORT_LAST: u32 = 65_535;
const SECOND_NS: u64 = 1_000_000_000;
/// A row is as if it had been seen so long ago when its flow's other direction was: its neighbours are looked after then.
const STALE_NS: u64 = 2 * SECOND_NS;
/// After so many packets of one direction (a power of two) the other direction's row is looked after.
const PACKETS_BETWEEN_LOOKS: u64 = 64;

/// 2^32 ns: 4.3 seconds.
const PERIOD_BITS: u32 = 32;

/// What is known of a packet's flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Everything: its row holds all that the packet needs.
    Settled,
    /// The flow, but not where it goes now, or whether this sender may send it.
    Unsettled,
    /// Nothing: it begins.
    Nothing,
}

/// Finds the flow; its row is in force then. When there is none, the row that begins leaves with the packet's own ends.
#[inline(always)]
pub(crate) fn find(walk: &mut Walk, packet: &Packet) -> Found {
    set(&mut walk.scratch.older.protocol, 0);
    let Some(flow) = maps::flow(&walk.scratch.tuple) else {
        return nothing(walk, Known::New);
    };
    // What was sent on once is not sent on again, or two nodes could send it round for ever.
    if walk.hook == Hook::FromOverlay && flow.flags & FLOW_DIRECT != 0 {
        return nothing(walk, Known::Anew);
    }
    if must_begin_anew(walk, flow, packet) {
        copy(&mut walk.scratch.older, &flow.to);
        return nothing(walk, Known::Anew);
    }
    let settled = flow.epoch == walk.epoch && flow.origin == walk.origin;
    meet(walk, flow, packet);
    if settled { Found::Settled } else { Found::Unsettled }
}

/// The row of a flow about which nothing is left to find out, and which does not begin. Nothing of it changes: whoever does not
/// carry the packet after all leaves it to the programs of the stack.
#[inline(always)]
pub(crate) fn settled<C: Context>(walk: &Walk<C>, packet: &Packet) -> Option<&'static mut Flow> {
    if packet.tcp_flags & SYN != 0 {
        return None;
    }
    let flow = maps::flow(&walk.scratch.tuple)?;
    let ours = flow.epoch == walk.epoch && flow.origin == walk.origin;
    (ours && !(packet.protocol == UDP && is_gone(flow))).then_some(flow)
}

/// The same, while nobody need look after its neighbours: see [`neighbours_are_fresh`].
#[inline(always)]
pub(crate) fn under_way<C: Context>(walk: &Walk<C>, packet: &Packet) -> Option<&'static mut Flow> {
    let flow = settled(walk, packet)?;
    // SAFETY: reads a clock.
    neighbours_are_fresh(flow, unsafe { bpf_ktime_get_coarse_ns() }).then_some(flow)
}

/// Whether the kernel has looked after the neighbours that a direction's packets go by. It does so with one packet in every
/// [`PERIOD_BITS`], and with each after a second's silence.
#[inline(always)]
fn neighbours_are_fresh(flow: &Flow, now: u64) -> bool {
    now >> PERIOD_BITS == flow.seen_ns >> PERIOD_BITS && now.wrapping_sub(flow.seen_ns) <= SECOND_NS
}

/// Finds the flow if its row has all these flags, whoever sends.
#[inline(always)]
pub(crate) fn find_as(walk: &mut Walk, packet: &Packet, flags: u16) -> bool {
    match maps::flow(&walk.scratch.tuple) {
        Some(flow) if flow.flags & flags == flags => {
            meet(walk, flow, packet);
            true
        }
        _ => false,
    }
}

/// What was found out about an unsettled flow holds for the packets that follow.
#[inline(always)]
pub(crate) fn settle(walk: &mut Walk) {
    let flow = walk.flow();
    flow.origin = walk.origin;
    flow.epoch = walk.epoch;
}

#[inline(always)]
fn nothing(walk: &mut Walk, known: Known) -> Found {
    if dry() {
        dry::knows(known);
    }
    let scratch = &mut *walk.scratch;
    copy(&mut scratch.first.to, &scratch.tuple);
    Found::Nothing
}

/// Puts a row in force and notes that one more packet has passed.
#[inline(always)]
pub(crate) fn meet<C: Context>(walk: &mut Walk<C>, flow: &'static mut Flow, packet: &Packet) {
    if dry() {
        // A copy is in force: what is found out about it is nobody else's.
        dry::knows(if flow.epoch == walk.epoch && flow.origin == walk.origin {
            Known::Settled
        } else {
            Known::Unsettled
        });
        return copy(&mut walk.scratch.first, flow);
    }
    // SAFETY: reads a clock.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let silent_ns = now.wrapping_sub(flow.seen_ns);
    walk.scratch.neighbours_are_fresh = neighbours_are_fresh(flow, now).into();
    flow.seen_ns = now;
    flow.packets = flow.packets.wrapping_add(1);
    flow.bytes = flow.bytes.wrapping_add(u64::from(walk.packet_bytes()));
    if matches!(packet.protocol, TCP | SCTP) {
        flow.tcp_seen |= seen(packet.tcp_flags);
    }
    if flow.packets % PACKETS_BETWEEN_LOOKS == 0 || silent_ns > SECOND_NS {
        look_after_other(walk, flow, now);
    }
    walk.row = flow;
}

/// A full bucket lets the row go that was not seen for longest. One direction may be silent while the other speaks: its row is
/// seen with the other's, and one that is gone is written again.
#[inline(always)]
fn look_after_other<C>(walk: &mut Walk<C>, flow: &Flow, now: u64) {
    if flow.flags & FLOW_DIRECT != 0 {
        return;
    }
    let scratch = &mut *walk.scratch;
    reverse(&mut scratch.twin_key, &flow.to);
    if let Some(other) = maps::flow(&scratch.twin_key) {
        // Seen, but nothing of it has gone by its neighbours.
        let stale = now.saturating_sub(STALE_NS);
        if other.seen_ns < stale {
            other.seen_ns = stale;
        }
        return;
    }
    reverse(&mut scratch.twin.to, &scratch.tuple);
    other_row(&mut scratch.twin, flow, now);
    if maps::put_flow(&scratch.twin_key, &scratch.twin, NOEXIST).is_ok() {
        maps::count(Counter::FlowsMended);
    }
}

/// Fills the row of the other direction, all but the ends it leaves with.
#[inline(always)]
fn other_row(other: &mut Flow, flow: &Flow, now: u64) {
    set(&mut other.seen_ns, now.saturating_sub(STALE_NS));
    set(&mut other.packets, 0);
    set(&mut other.bytes, 0);
    set(&mut other.service_id, flow.service_id);
    set(&mut other.backend_id, flow.backend_id);
    set(&mut other.generation, flow.generation);
    set(&mut other.origin, 0);
    set(&mut other.epoch, 0);
    set(&mut other.flags, mirrored(flow.flags));
    set(&mut other.tcp_seen, 0);
    set(&mut other.way, 0);
}

/// A UDP flow leaves a backend that is gone. A connection begins with a SYN, and stays with its backend to its end: a row
/// that such a SYN meets is left over from an older one with the same ends, unless it is a SYN sent twice.
#[inline(always)]
fn must_begin_anew(walk: &mut Walk, flow: &Flow, packet: &Packet) -> bool {
    match packet.protocol {
        TCP | SCTP if packet.tcp_flags & (SYN | ACK | RST) == SYN => {
            let over = is_left_over(walk, flow);
            if over {
                maps::count(Counter::FlowsReplaced);
            }
            over || is_gone(flow)
        }
        UDP if is_gone(flow) => {
            maps::count(Counter::BackendsReplaced);
            true
        }
        _ => false,
    }
}

#[inline(always)]
fn is_gone(flow: &Flow) -> bool {
    let first = flow.flags & FLOW_TWIN == 0;
    first && flow.backend_id != 0 && !balance::still_there(flow.backend_id, flow.generation)
}

/// Whether the connection of a row has ended. One that lives is not ended by a SYN: it may be one that was sent twice and
/// came late, or somebody else's; the backend knows (RFC 5961, section 4).
#[inline(always)]
fn is_left_over(walk: &mut Walk, flow: &Flow) -> bool {
    if flow.flags & FLOW_TWIN != 0 {
        return true;
    }
    if flow.tcp_seen & !TCP_SEEN_SYN == 0 {
        return false;
    }
    if is_closing(flow) {
        return true;
    }
    // Answers of such a flow are not seen here; the node that answers knows.
    if flow.flags & FLOW_DIRECT != 0 {
        return false;
    }
    reverse(&mut walk.scratch.twin_key, &flow.to);
    maps::flow(&walk.scratch.twin_key).is_none_or(|twin| is_closing(twin))
}

#[inline(always)]
const fn is_closing(flow: &Flow) -> bool {
    flow.tcp_seen & (TCP_SEEN_FIN | TCP_SEEN_RST) != 0
}

#[inline(always)]
const fn seen(tcp_flags: u8) -> u8 {
    let mut seen = 0;
    if tcp_flags & SYN != 0 {
        seen |= TCP_SEEN_SYN;
    } else if tcp_flags & RST == 0 {
        seen |= TCP_SEEN_ACK;
    }
    if tcp_flags & FIN != 0 {
        seen |= TCP_SEEN_FIN;
    }
    if tcp_flags & RST != 0 {
        seen |= TCP_SEEN_RST;
    }
    seen
}

/// Begins a flow from the walk's old ends to its new ones, and tells it.
#[inline(always)]
pub(crate) fn begin(walk: &mut Walk, packet: &Packet) -> Step<()> {
    write(walk, packet)?;
    emit::begun(walk, packet);
    Ok(())
}

/// Takes the reverse tuple, then writes both rows.
#[inline(always)]
pub(crate) fn write(walk: &mut Walk, packet: &Packet) -> Step<()> {
    // SAFETY: reads a clock.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let bytes = u64::from(walk.packet_bytes());
    let has_ports = packet.ports_may_change() && packet.message != Message::Answer;
    if !follow_older(walk, has_ports) && has_ports && walk.scratch.first.flags & FLOW_PORT_ALLOCATED != 0 {
        draw_source_port(walk);
    }
    if walk.scratch.first.flags & FLOW_DIRECT != 0 {
        return write_direct(walk, packet, now, bytes);
    }
    let scratch = &mut *walk.scratch;
    let (tuple, first) = (&scratch.tuple, &mut scratch.first);
    if first.to.destination != tuple.destination || first.to.destination_port != tuple.destination_port {
        first.flags |= FLOW_DESTINATION;
    }
    if first.to.source != tuple.source || first.to.source_port != tuple.source_port {
        first.flags |= FLOW_SOURCE;
    }
    first.seen_ns = now;
    first.packets = 1;
    first.bytes = bytes;
    first.origin = walk.origin;
    first.epoch = if first.way == 0 { 0 } else { walk.epoch };
    set(&mut first.tcp_seen, seen(packet.tcp_flags));
    reverse(&mut scratch.twin.to, tuple);
    other_row(&mut scratch.twin, first, now);
    reverse(&mut scratch.twin_key, &first.to);
    if !maps::put_both(&scratch.tuple, first, &scratch.twin_key, &scratch.twin) {
        take_reverse(walk, has_ports, now)?;
        let scratch = &mut *walk.scratch;
        if maps::put_flow(&scratch.tuple, &scratch.first, 0).is_err() {
            maps::remove_flow(&scratch.twin_key);
            return drop(Station::Track, Reason::FlowTableBusy);
        }
    }
    let scratch = &mut *walk.scratch;
    maps::count(Counter::FlowsBegun);
    if scratch.first.flags & FLOW_PORT_ALLOCATED != 0 && is_this_node(walk.config, &scratch.first.to.source) {
        maps::count(Counter::Masqueraded);
    }
    Ok(())
}

/// What begins in place of a flow that is over leaves by the port that one had, if it goes to the same end: a connection may
/// wait there for stray packets (TIME-WAIT), and lets itself be followed only by one with the same sender's clock (RFC 6191).
/// If it goes elsewhere, the old answers have no place here any more. Says whether the source port is settled.
#[inline(always)]
fn follow_older(walk: &mut Walk, has_ports: bool) -> bool {
    let scratch = &mut *walk.scratch;
    let (older, first) = (&scratch.older, &mut scratch.first);
    if older.protocol == 0 {
        return false;
    }
    if has_ports
        && older.source == first.to.source
        && older.destination == first.to.destination
        && older.destination_port == first.to.destination_port
    {
        if older.source_port != first.to.source_port {
            first.flags |= FLOW_PORT_ALLOCATED;
            first.to.source_port = older.source_port;
        }
        return true;
    }
    reverse(&mut scratch.twin_key, older);
    maps::remove_flow(&scratch.twin_key);
    false
}

/// Writes the one row of a flow whose answers do not come here.
#[inline(always)]
fn write_direct(walk: &mut Walk, packet: &Packet, now: u64, bytes: u64) -> Step<()> {
    let scratch = &mut *walk.scratch;
    let first = &mut scratch.first;
    first.seen_ns = now;
    first.packets = 1;
    first.bytes = bytes;
    first.origin = walk.origin;
    first.epoch = walk.epoch;
    set(&mut first.tcp_seen, seen(packet.tcp_flags));
    if maps::put_flow(&scratch.tuple, &scratch.first, 0).is_err() {
        return drop(Station::Track, Reason::FlowTableBusy);
    }
    maps::count(Counter::FlowsBegun);
    maps::count(Counter::DirectSent);
    Ok(())
}

/// Inserts the twin, whose key is set. Where a live flow has the tuple already, other source ports are tried.
#[inline(always)]
fn take_reverse(walk: &mut Walk, has_ports: bool, now: u64) -> Step<()> {
    if take(walk, now, false)? {
        return Ok(());
    }
    if has_ports {
        let first = &mut walk.scratch.first;
        first.flags |= FLOW_PORT_ALLOCATED | FLOW_SOURCE;
        set(&mut walk.scratch.twin.flags, mirrored(first.flags));
        let (mut conflicts, mut spare, mut is_free) = (1, None, false);
        // Looks only: what is found is taken once, below, so that the verifier need not follow that sixteen times.
        for _ in 0..SOURCE_PORTS_TRIED_MAX {
            draw_source_port(walk);
            let scratch = &mut *walk.scratch;
            scratch.twin_key.destination_port = scratch.first.to.source_port;
            match maps::flow(&scratch.twin_key) {
                Some(other) if !is_over(other, scratch.tuple.protocol, now) => {
                    conflicts += 1;
                    if may_be_followed(other, now) {
                        spare = Some(scratch.first.to.source_port);
                    }
                }
                _ => {
                    is_free = true;
                    break;
                }
            }
        }
        maps::count_by(Counter::SourcePortConflicts, conflicts);
        if !is_free && let Some(port) = spare {
            let scratch = &mut *walk.scratch;
            scratch.first.to.source_port = port;
            scratch.twin_key.destination_port = port;
        }
        if take(walk, now, !is_free)? {
            return Ok(());
        }
    }
    drop(Station::Track, Reason::SourcePortsExhausted)
}

/// Takes the twin's tuple if it is free, or this flow's own from before, or of a flow that is over, or in need of one that
/// may be followed; that one's other row goes, too.
#[inline(always)]
fn take(walk: &mut Walk, now: u64, in_need: bool) -> Step<bool> {
    let scratch = &mut *walk.scratch;
    if before::bridging() {
        // Whoever has the tuple in the other layout has it here, too.
        let _ = maps::flow(&scratch.twin_key);
    }
    match maps::put_flow(&scratch.twin_key, &scratch.twin, NOEXIST) {
        Ok(()) => return Ok(true),
        Err(EEXIST) => {}
        Err(_) => return drop(Station::Track, Reason::FlowTableBusy),
    }
    let Some(other) = maps::flow(&scratch.twin_key) else {
        return Ok(false);
    };
    if other.to != scratch.twin.to {
        if !is_over(other, scratch.tuple.protocol, now) && !(in_need && may_be_followed(other, now)) {
            return Ok(false);
        }
        reverse(&mut scratch.other_key, &other.to);
        maps::remove_flow(&scratch.other_key);
    }
    if maps::put_flow(&scratch.twin_key, &scratch.twin, 0).is_err() {
        return drop(Station::Track, Reason::FlowTableBusy);
    }
    Ok(true)
}

/// Draws from the range that is for this alone where the address is one of the node's; a sender that keeps its own address may
/// have any port that is nobody's in particular, since its own sockets meet the table, too.
#[inline(always)]
fn draw_source_port(walk: &mut Walk) {
    // SAFETY: draws a number.
    let random = unsafe { bpf_get_prandom_u32() };
    let scratch = &mut *walk.scratch;
    let is_nodes = scratch.first.to.source != scratch.tuple.source
        || matches!(walk.hook, Hook::ToPod | Hook::ToOverlay | Hook::ToUplink);
    let (first, last) = if is_nodes {
        (u32::from(walk.config.source_port_first), u32::from(walk.config.source_port_last))
    } else {
        (OWN_PORT_FIRST, OWN_PORT_LAST)
    };
    let ports = last.wrapping_sub(first).wrapping_add(1);
    let offset = (u64::from(random) * u64::from(ports)) >> 32;
    scratch.first.to.source_port = Be16::new((first + offset as u32) as u16);
}

/// Whether a connection has ended so long ago that its ports may be used where there are no others. The other side may still
/// know it: that costs the new one a second SYN, and not the packet.
#[inline(always)]
fn may_be_followed(flow: &Flow, now: u64) -> bool {
    is_closing(flow) && now.wrapping_sub(flow.seen_ns) > TCP_CLOSED_SECONDS_MIN * SECOND_NS
}

/// Whether nothing is to be expected of a row any more. Its other direction is asked by what it has seen itself: both
/// directions of a living flow are seen within the time.
#[inline(always)]
fn is_over(flow: &Flow, protocol: u8, now: u64) -> bool {
    let closing = is_closing(flow) || flow.tcp_seen & TCP_SEEN_ACK == 0;
    let limit_seconds = match protocol {
        TCP | SCTP if closing => TCP_CLOSING_SECONDS,
        TCP | SCTP => TCP_IDLE_SECONDS,
        UDP => UDP_IDLE_SECONDS,
        _ => ICMP_IDLE_SECONDS,
    };
    now.wrapping_sub(flow.seen_ns) > limit_seconds * SECOND_NS
}
