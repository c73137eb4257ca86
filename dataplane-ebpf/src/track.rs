//! Station *track*: finds a packet's flow, or begins one and gives it a reverse tuple that no other flow has.

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns};
use weft_dataplane_abi::conntrack::{
    FLOW_DESTINATION, FLOW_PORT_ALLOCATED, FLOW_SOURCE, FLOW_TWIN, Flow, ICMP_IDLE_SECONDS,
    TCP_CLOSING_SECONDS, TCP_IDLE_SECONDS, TCP_SEEN_ACK, TCP_SEEN_FIN, TCP_SEEN_RST, TCP_SEEN_SYN,
    UDP_IDLE_SECONDS,
};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::station::Station;

use crate::maps::{self, FLOWS};
use crate::parse::{ACK, FIN, Packet, RST, SYN, TCP, UDP};
use crate::verdict::{Step, drop};
use crate::walk::{Walk, copy};
use crate::{balance, emit};

/// `BPF_NOEXIST`: insert only where nothing is.
const NOEXIST: u64 = 1;
/// The kernel's "there is one".
const EEXIST: i32 = -17;
/// How many source ports are tried for one flow.
const SOURCE_PORTS_TRIED_MAX: u32 = 16;
const SECOND_NS: u64 = 1_000_000_000;

/// Finds the flow and takes its new ends; false when it must begin, and then the new ends are the old ones.
#[inline(always)]
pub(crate) fn find(walk: &mut Walk, packet: &Packet) -> bool {
    let bytes = u64::from(walk.packet_bytes());
    let scratch = &mut *walk.scratch;
    let Some(flow) = maps::flow(&scratch.tuple) else {
        copy(&mut scratch.to, &scratch.tuple);
        return false;
    };
    if must_begin_anew(flow, packet) {
        scratch.twin_key = flow.to.reversed();
        // A row that is gone already is what is wanted.
        let _ = FLOWS.remove(&scratch.twin_key);
        let _ = FLOWS.remove(&scratch.tuple);
        copy(&mut scratch.to, &scratch.tuple);
        return false;
    }
    // SAFETY: reads a clock.
    flow.seen_ns = unsafe { bpf_ktime_get_coarse_ns() };
    flow.packets = flow.packets.wrapping_add(1);
    flow.bytes = flow.bytes.wrapping_add(bytes);
    if packet.protocol == TCP {
        flow.tcp_seen |= seen(packet.tcp_flags);
    }
    copy(&mut scratch.to, &flow.to);
    scratch.flags = flow.flags;
    true
}

/// Whether there is a row for the packet's ends with all these flags. Changes nothing.
#[inline(always)]
pub(crate) fn is_known_as(walk: &Walk, flags: u16) -> bool {
    maps::flow(&walk.scratch.tuple).is_some_and(|flow| flow.flags & flags == flags)
}

/// A connection begins with a SYN: a row that has seen more, or that waits for answers, is left over from an older one
/// with the same ends. A UDP flow leaves a backend that is gone.
#[inline(always)]
fn must_begin_anew(flow: &Flow, packet: &Packet) -> bool {
    let first = flow.flags & FLOW_TWIN == 0;
    let gone = first && flow.backend_id != 0 && !balance::still_there(flow.backend_id, flow.generation);
    match packet.protocol {
        TCP if packet.tcp_flags & (SYN | ACK | RST) == SYN => {
            let stale = !first || flow.tcp_seen & !TCP_SEEN_SYN != 0;
            if stale {
                maps::count(Counter::FlowsReplaced);
            }
            stale || gone
        }
        UDP if gone => {
            maps::count(Counter::BackendsReplaced);
            true
        }
        _ => false,
    }
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

/// Begins a flow from the walk's old ends to its new ones: takes the reverse tuple, then writes both rows and tells it.
#[inline(always)]
pub(crate) fn begin(walk: &mut Walk, packet: &Packet) -> Step<()> {
    // SAFETY: reads a clock.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let bytes = u64::from(walk.packet_bytes());
    let has_ports = packet.has_ports && (packet.icmp_type == 255 || packet.is_echo());
    if has_ports && walk.scratch.flags & FLOW_PORT_ALLOCATED != 0 {
        draw_source_port(walk);
    }
    let scratch = &mut *walk.scratch;
    let mut rewrites = 0;
    if scratch.to.destination != scratch.tuple.destination
        || scratch.to.destination_port != scratch.tuple.destination_port
    {
        rewrites |= FLOW_DESTINATION;
    }
    scratch.twin.to = scratch.tuple.reversed();
    scratch.twin.seen_ns = now;
    scratch.twin.packets = 0;
    scratch.twin.bytes = 0;
    scratch.twin.service_id = scratch.service_id;
    scratch.twin.backend_id = scratch.backend_id;
    scratch.twin.generation = scratch.generation;
    scratch.twin.ifindex = 0;
    scratch.twin.flags = scratch.flags | FLOW_TWIN | rewrites;
    scratch.twin.tcp_seen = 0;
    scratch.twin.reserved = [0; 5];
    take_reverse(walk, has_ports, now)?;

    let ifindex = walk.ifindex();
    let scratch = &mut *walk.scratch;
    if scratch.to.source != scratch.tuple.source || scratch.to.source_port != scratch.tuple.source_port {
        rewrites |= FLOW_SOURCE;
    }
    scratch.flags |= rewrites;
    scratch.first = scratch.twin;
    scratch.first.to = scratch.to;
    scratch.first.packets = 1;
    scratch.first.bytes = bytes;
    scratch.first.ifindex = ifindex;
    scratch.first.flags = scratch.flags;
    scratch.first.tcp_seen = seen(packet.tcp_flags);
    if FLOWS.insert(&scratch.tuple, &scratch.first, 0).is_err() {
        return drop(Station::Track, Reason::FlowTableFull);
    }
    maps::count(Counter::FlowsBegun);
    if scratch.flags & FLOW_PORT_ALLOCATED != 0 && scratch.to.source == walk.config.node_v4 {
        maps::count(Counter::Masqueraded);
    }
    emit::begun(walk, packet);
    Ok(())
}

/// Inserts the twin. Where a live flow has the tuple already, another source port is tried.
#[inline(always)]
fn take_reverse(walk: &mut Walk, has_ports: bool, now: u64) -> Step<()> {
    for _ in 0..SOURCE_PORTS_TRIED_MAX {
        let scratch = &mut *walk.scratch;
        scratch.twin_key = scratch.to.reversed();
        match FLOWS.insert(&scratch.twin_key, &scratch.twin, NOEXIST) {
            Ok(()) => return Ok(()),
            Err(EEXIST) => {}
            Err(_) => return drop(Station::Track, Reason::FlowTableFull),
        }
        let free = match maps::flow(&scratch.twin_key) {
            None => false,
            Some(other) => other.to == scratch.twin.to || is_over(other, scratch.tuple.protocol, now),
        };
        if free {
            if FLOWS.insert(&scratch.twin_key, &scratch.twin, 0).is_err() {
                return drop(Station::Track, Reason::FlowTableFull);
            }
            return Ok(());
        }
        if !has_ports {
            break;
        }
        maps::count(Counter::SourcePortConflicts);
        walk.scratch.flags |= FLOW_PORT_ALLOCATED;
        walk.scratch.twin.flags |= FLOW_PORT_ALLOCATED;
        draw_source_port(walk);
    }
    drop(Station::Track, Reason::SourcePortsExhausted)
}

#[inline(always)]
fn draw_source_port(walk: &mut Walk) {
    // SAFETY: draws a number.
    let random = unsafe { bpf_get_prandom_u32() };
    let first = u32::from(walk.config.source_port_first);
    let ports = u32::from(walk.config.source_port_last).wrapping_sub(first).wrapping_add(1);
    let offset = (u64::from(random) * u64::from(ports)) >> 32;
    walk.scratch.to.source_port = Be16::new((first + offset as u32) as u16);
}

/// Whether nothing is to be expected of a row any more. Its other direction is asked by what it has seen itself: both
/// directions of a living flow are seen within the time.
#[inline(always)]
fn is_over(flow: &Flow, protocol: u8, now: u64) -> bool {
    let closing = flow.tcp_seen & (TCP_SEEN_FIN | TCP_SEEN_RST) != 0 || flow.tcp_seen & TCP_SEEN_ACK == 0;
    let limit_seconds = match protocol {
        TCP if closing => TCP_CLOSING_SECONDS,
        TCP => TCP_IDLE_SECONDS,
        UDP => UDP_IDLE_SECONDS,
        _ => ICMP_IDLE_SECONDS,
    };
    now.wrapping_sub(flow.seen_ns) > limit_seconds * SECOND_NS
}
