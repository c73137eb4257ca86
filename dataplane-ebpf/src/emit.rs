//! Events: a row in the ring buffer for each flow that begins and each drop. A full ring costs the event, and is counted.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use weft_dataplane_abi::address::{FAMILY_V4, FAMILY_V6};
use weft_dataplane_abi::config::FLOW_EVENTS;
use weft_dataplane_abi::conntrack::FLOW_SOURCE;
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::event::{EVENT_AT_CONNECT, EVENT_SERVICE, EVENT_SOURCE, FlowEvent, Verdict};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::socket::SOCKET_REVERSE;
use weft_dataplane_abi::station::Station;

use crate::before;
use crate::context::Context;
use crate::maps::{self, EVENTS};
use crate::parse::Packet;
use crate::walk::Walk;
use crate::words::{clear, copy};

/// Room for an event, all zero but for the time; none when the ring is full, which is counted. It must be submitted.
#[inline(always)]
pub(crate) fn room() -> Option<RingBufEntry<FlowEvent>> {
    let Some(mut entry) = EVENTS.reserve::<FlowEvent>(0) else {
        maps::count(Counter::EventsLost);
        return None;
    };
    clear(entry.as_mut_ptr());
    // SAFETY: the room is zeroed, which is a valid event; the clock is only read.
    unsafe { (*entry.as_mut_ptr()).time_ns = bpf_ktime_get_ns() };
    Some(entry)
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
    let Some(mut entry) = room() else { return };
    // SAFETY: the room is a valid event.
    let event = unsafe { &mut *entry.as_mut_ptr() };
    common(walk, event);
    event.socket_cookie = cookie;
    event.verdict = Verdict::Forwarded as u8;
    event.station = Station::Translate as u8;
    event.tcp_flags = packet.tcp_flags;
    let (tuple, first) = (&walk.scratch.tuple, &walk.scratch.first);
    if first.service_id != 0 {
        event.flags |= EVENT_SERVICE;
        copy(&mut event.service, &tuple.destination);
        event.service_port = tuple.destination_port;
        copy(&mut event.backend, &first.to.destination);
        event.backend_port = first.to.destination_port;
    } else if let Some(row) = at_connect {
        event.flags |= EVENT_SERVICE | EVENT_AT_CONNECT;
        // SAFETY: a row reused under us names another Service in this one event; no row has pointers.
        let (address, port, service_id, backend_id) =
            unsafe { ((*row).address, (*row).port, (*row).service_id, (*row).backend_id) };
        copy(&mut event.service, &address);
        event.service_port = port;
        copy(&mut event.backend, &first.to.destination);
        event.backend_port = first.to.destination_port;
        event.service_id = service_id;
        event.backend_id = backend_id;
    }
    if first.flags & FLOW_SOURCE != 0 {
        event.flags |= EVENT_SOURCE;
        copy(&mut event.translated_source, &first.to.source);
        event.translated_source_port = first.to.source_port;
    }
    entry.submit(0);
}

/// A packet ends here.
#[inline(always)]
pub(crate) fn dropped<C: Context>(walk: &Walk<C>, station: Station, reason: Reason) {
    let cookie = socket_cookie(walk);
    let Some(mut entry) = room() else { return };
    // SAFETY: the room is a valid event.
    let event = unsafe { &mut *entry.as_mut_ptr() };
    common(walk, event);
    event.socket_cookie = cookie;
    event.verdict = Verdict::Dropped as u8;
    event.station = station as u8;
    event.reason = reason as u8;
    if walk.scratch.first.service_id != 0 {
        event.flags |= EVENT_SERVICE;
        copy(&mut event.service, &walk.scratch.tuple.destination);
        event.service_port = walk.scratch.tuple.destination_port;
    }
    entry.submit(0);
}

#[inline(always)]
fn common<C: Context>(walk: &Walk<C>, event: &mut FlowEvent) {
    let tuple = &walk.scratch.tuple;
    copy(&mut event.source, &tuple.source);
    copy(&mut event.destination, &tuple.destination);
    event.source_port = tuple.source_port;
    event.destination_port = tuple.destination_port;
    event.protocol = tuple.protocol;
    event.family = if tuple.source.is_v4() { FAMILY_V4 } else { FAMILY_V6 };
    event.hook = walk.hook as u8;
    event.ifindex = walk.ifindex();
    event.packet_bytes = walk.packet_bytes();
    event.service_id = walk.scratch.first.service_id;
    event.backend_id = walk.scratch.first.backend_id;
    event.netns_cookie = match walk.scratch.netns_cookie {
        0 if walk.hook == Hook::FromPod => maps::endpoint(&tuple.source).map_or(0, |pod| pod.netns_cookie),
        known => known,
    };
}

/// The sender's socket, when it is on this machine.
#[inline(always)]
fn socket_cookie<C: Context>(walk: &Walk<C>) -> u64 {
    match walk.hook {
        Hook::FromPod | Hook::ToPod | Hook::ToOverlay | Hook::ToUplink => walk.context.socket_cookie(),
        _ => 0,
    }
}

/// What the socket's process had asked for.
#[inline(always)]
fn balanced_at_connect(
    walk: &mut Walk,
    cookie: u64,
) -> Option<*const weft_dataplane_abi::socket::SocketFlow> {
    let scratch = &mut *walk.scratch;
    let key = &mut scratch.socket_key;
    key.cookie = cookie;
    copy(&mut key.address, &scratch.tuple.destination);
    key.port = scratch.tuple.destination_port;
    key.protocol = scratch.tuple.protocol;
    key.direction = SOCKET_REVERSE;
    key.reserved = 0;
    before::socket_flow(&scratch.socket_key)
}
