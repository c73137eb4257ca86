//! Events: a row in the ring buffer for each flow that begins and each drop. A full ring costs the event, and is counted.

use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_ktime_get_ns};
use weft_dataplane_abi::address::{FAMILY_V4, FAMILY_V6};
use weft_dataplane_abi::config::FLOW_EVENTS;
use weft_dataplane_abi::conntrack::FLOW_SOURCE;
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::event::{EVENT_AT_CONNECT, EVENT_SERVICE, EVENT_SOURCE, FlowEvent, Verdict};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::socket::{SOCKET_REVERSE, SocketKey};
use weft_dataplane_abi::station::Station;

use crate::maps::{self, EVENTS, SOCKET_FLOWS};
use crate::parse::Packet;
use crate::walk::Walk;

const EVENT_WORDS: usize = size_of::<FlowEvent>() / size_of::<u64>();
const _: () = assert!(EVENT_WORDS * size_of::<u64>() == size_of::<FlowEvent>());

/// Reserves an event, lets it be filled and sends it.
#[inline(always)]
pub(crate) fn send(fill: impl FnOnce(&mut FlowEvent)) {
    let Some(mut entry) = EVENTS.reserve::<FlowEvent>(0) else {
        maps::count(Counter::EventsLost);
        return;
    };
    // SAFETY: zeroed bytes are a valid event, and the pointer is the reserved room.
    unsafe {
        let event = entry.as_mut_ptr();
        // Word by word: the compiler's own way is a loop over bytes.
        let mut word = 0;
        while word < EVENT_WORDS {
            event.cast::<u64>().add(word).write_volatile(0);
            word += 1;
        }
        fill(&mut *event);
        (*event).time_ns = bpf_ktime_get_ns();
    }
    entry.submit(0);
}

/// A flow begins.
#[inline(always)]
pub(crate) fn begun(walk: &mut Walk, packet: &Packet) {
    if walk.config.flags & FLOW_EVENTS == 0 {
        return;
    }
    let cookie = socket_cookie(walk);
    let at_connect = if cookie != 0 && walk.scratch.first.service_id == 0 {
        balanced_at_connect(walk, cookie)
    } else {
        None
    };
    let tcp_flags = packet.tcp_flags;
    send(|event| {
        common(walk, event);
        event.socket_cookie = cookie;
        event.verdict = Verdict::Forwarded as u8;
        event.station = Station::Translate as u8;
        event.tcp_flags = tcp_flags;
        let scratch = &*walk.scratch;
        let first = &scratch.first;
        if first.service_id != 0 {
            event.flags |= EVENT_SERVICE;
            event.service = scratch.tuple.destination;
            event.service_port = scratch.tuple.destination_port;
            event.backend = first.to.destination;
            event.backend_port = first.to.destination_port;
        } else if let Some(row) = at_connect {
            event.flags |= EVENT_SERVICE | EVENT_AT_CONNECT;
            event.service = row.address;
            event.service_port = row.port;
            event.backend = first.to.destination;
            event.backend_port = first.to.destination_port;
            event.service_id = row.service_id;
            event.backend_id = row.backend_id;
        }
        if first.flags & FLOW_SOURCE != 0 {
            event.flags |= EVENT_SOURCE;
            event.translated_source = first.to.source;
            event.translated_source_port = first.to.source_port;
        }
    });
}

/// A packet ends here.
#[inline(always)]
pub(crate) fn dropped(walk: &Walk, station: Station, reason: Reason) {
    let cookie = socket_cookie(walk);
    send(|event| {
        common(walk, event);
        event.socket_cookie = cookie;
        event.verdict = Verdict::Dropped as u8;
        event.station = station as u8;
        event.reason = reason as u8;
        if walk.scratch.first.service_id != 0 {
            event.flags |= EVENT_SERVICE;
            event.service = walk.scratch.tuple.destination;
            event.service_port = walk.scratch.tuple.destination_port;
        }
    });
}

#[inline(always)]
fn common(walk: &Walk, event: &mut FlowEvent) {
    let scratch = &*walk.scratch;
    event.source = scratch.tuple.source;
    event.destination = scratch.tuple.destination;
    event.source_port = scratch.tuple.source_port;
    event.destination_port = scratch.tuple.destination_port;
    event.protocol = scratch.tuple.protocol;
    event.family = if scratch.tuple.source.is_v4() { FAMILY_V4 } else { FAMILY_V6 };
    event.hook = walk.hook as u8;
    event.ifindex = walk.ifindex();
    event.packet_bytes = walk.packet_bytes();
    event.service_id = scratch.first.service_id;
    event.backend_id = scratch.first.backend_id;
    if walk.hook == Hook::FromPod
        && let Some(endpoint) = maps::endpoint(&scratch.tuple.source)
    {
        event.netns_cookie = endpoint.netns_cookie;
    }
}

/// The sender's socket, when it is on this machine.
#[inline(always)]
fn socket_cookie(walk: &Walk) -> u64 {
    match walk.hook {
        // SAFETY: reads from the packet's socket, if there is one.
        Hook::FromPod | Hook::ToPod | Hook::ToOverlay => unsafe { bpf_get_socket_cookie(walk.skb.cast()) },
        _ => 0,
    }
}

/// What the socket's process had asked for.
#[inline(always)]
fn balanced_at_connect(
    walk: &mut Walk,
    cookie: u64,
) -> Option<&'static weft_dataplane_abi::socket::SocketFlow> {
    let scratch = &mut *walk.scratch;
    scratch.socket_key = SocketKey {
        cookie,
        address: scratch.tuple.destination,
        port: scratch.tuple.destination_port,
        protocol: scratch.tuple.protocol,
        direction: SOCKET_REVERSE,
        reserved: 0,
    };
    // SAFETY: a row reused under us names another Service in this one event; no row has pointers.
    SOCKET_FLOWS.get_ptr(&scratch.socket_key).map(|row| unsafe { &*row })
}
