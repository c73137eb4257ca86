//! Flow events: from the ring buffer to a stream with names instead of numbers. What they mean is `agent/trace`'s.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use weft_dataplane_abi::address::FAMILY_V6;
use weft_dataplane_abi::event::{EVENT_AT_CONNECT, EVENT_SERVICE, EVENT_SOURCE, FlowEvent, Verdict};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::maps;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::station::Station;
use zerocopy::FromBytes as _;

use crate::tables::{self, TableError};

/// One new flow or one drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// It went on; otherwise it was dropped.
    pub forwarded: bool,
    /// Decided at connect; otherwise by the per-packet programs.
    pub at_connect: bool,
    /// Seen by a socket hook, before there is a packet.
    pub socket_hook: bool,
    /// Name of the program, for example `from_pod`.
    pub hook: &'static str,
    /// Name of the station, for example `balance`.
    pub station: &'static str,
    /// Why it was dropped; empty when forwarded.
    pub reason: &'static str,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags of the packet; 0 for others.
    pub tcp_flags: u8,
    /// Sender; unspecified with port 0 while the socket is not bound.
    pub source: SocketAddr,
    /// Destination as sent.
    pub destination: SocketAddr,
    /// The Service's address, when it went through one.
    pub service: Option<SocketAddr>,
    /// The chosen endpoint, when it went through a Service.
    pub backend: Option<SocketAddr>,
    /// Source it left with, when that was replaced.
    pub translated_source: Option<SocketAddr>,
    /// Number of the Service row; 0 for none.
    pub service_id: u32,
    /// Cookie of the sender's network namespace; 0 when unknown.
    pub netns_cookie: u64,
    /// Cookie of the sender's socket; 0 when unknown. Joins the event of a socket hook with that of the first packet.
    pub socket_cookie: u64,
    /// Device the program ran on; 0 at socket hooks.
    pub ifindex: u32,
    /// Length of the packet; 0 at socket hooks.
    pub packet_bytes: u32,
}

impl From<&FlowEvent> for Event {
    fn from(row: &FlowEvent) -> Self {
        let ip = |address: weft_dataplane_abi::address::Address| match address.ip() {
            IpAddr::V6(v6) if v6.is_unspecified() && row.family != FAMILY_V6 => IpAddr::from([0; 4]),
            other => other,
        };
        let hook = Hook::try_from(row.hook);
        let through_service = row.flags & EVENT_SERVICE != 0;
        let service = SocketAddr::new(ip(row.service), row.service_port.get());
        let backend = SocketAddr::new(ip(row.backend), row.backend_port.get());
        let translated = SocketAddr::new(ip(row.translated_source), row.translated_source_port.get());
        Self {
            monotonic_ns: row.time_ns,
            forwarded: row.verdict == Verdict::Forwarded as u8,
            at_connect: row.flags & EVENT_AT_CONNECT != 0,
            socket_hook: hook.is_ok_and(Hook::is_socket),
            hook: hook.map_or("unknown", Hook::text),
            station: Station::try_from(row.station).map_or("unknown", Station::text),
            reason: match Reason::try_from(row.reason) {
                Ok(Reason::None) => "",
                Ok(reason) => reason.text(),
                Err(_) => "unknown",
            },
            protocol: row.protocol,
            tcp_flags: row.tcp_flags,
            source: SocketAddr::new(ip(row.source), row.source_port.get()),
            destination: SocketAddr::new(ip(row.destination), row.destination_port.get()),
            service: through_service.then_some(service),
            backend: (through_service && row.backend_id != 0).then_some(backend),
            translated_source: (row.flags & EVENT_SOURCE != 0).then_some(translated),
            service_id: row.service_id,
            netns_cookie: row.netns_cookie,
            socket_cookie: row.socket_cookie,
            ifindex: row.ifindex,
            packet_bytes: row.packet_bytes,
        }
    }
}

/// Why events cannot be read.
#[derive(Debug, Error)]
pub enum EventsError {
    /// The ring could not be opened.
    #[error(transparent)]
    Open(#[from] TableError),
    /// The ring could not be waited for.
    #[error("cannot wait for events")]
    Wait(#[source] io::Error),
}

/// The stream of events. There is one ring: two streams would share its events between them.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
    /// There were events, and time was given for more of them.
    gathered: bool,
    unreadable: u64,
}

/// How long events gather before they are read: while some wait to be read, a new one wakes nobody, which would cost a new flow
/// more than all of its walk.
const GATHERING: Duration = Duration::from_millis(5);

impl Events {
    pub(crate) fn open(directory: &Path) -> Result<Self, EventsError> {
        let ring: RingBuf<MapData> = tables::open(directory, &maps::EVENTS)?;
        // SAFETY: the ring owns its descriptor, which nobody replaces or closes while it lives in the `AsyncFd`.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        Ok(Self {
            ring: ring.map_err(|error| EventsError::Wait(error.into()))?,
            gathered: false,
            unreadable: 0,
        })
    }

    /// The next event, some milliseconds after it was made. Cancel-safe.
    ///
    /// # Errors
    /// The ring can no longer be waited for.
    pub async fn next(&mut self) -> Result<Event, EventsError> {
        loop {
            if !self.gathered {
                drop(self.ring.readable().await.map_err(EventsError::Wait)?);
                tokio::time::sleep(GATHERING).await;
                self.gathered = true;
            }
            let mut ready = self.ring.readable_mut().await.map_err(EventsError::Wait)?;
            while let Some(item) = ready.get_inner_mut().next() {
                match FlowEvent::read_from_bytes(&item) {
                    Ok(row) => return Ok(Event::from(&row)),
                    Err(_) => self.unreadable += 1,
                }
            }
            self.gathered = false;
            ready.clear_ready();
        }
    }

    /// Events of another length than this build knows.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_dataplane_abi::address::Address;
    use weft_dataplane_abi::order::Be16;

    #[test]
    fn rows_become_names() {
        let row = FlowEvent {
            destination: Address::from(IpAddr::from([10, 96, 0, 7])),
            destination_port: Be16::new(80),
            service: Address::from(IpAddr::from([10, 96, 0, 7])),
            service_port: Be16::new(80),
            backend: Address::from(IpAddr::from([10, 244, 1, 3])),
            backend_port: Be16::new(8080),
            backend_id: 3,
            flags: EVENT_SERVICE | EVENT_AT_CONNECT,
            verdict: Verdict::Forwarded as u8,
            station: Station::Socket as u8,
            hook: Hook::Connect4 as u8,
            family: 2,
            protocol: 6,
            ..FlowEvent::default()
        };
        let event = Event::from(&row);
        assert!(event.forwarded && event.at_connect && event.socket_hook);
        assert_eq!((event.hook, event.station, event.reason), ("connect4", "socket", ""));
        assert_eq!(event.source.to_string(), "0.0.0.0:0");
        assert_eq!(event.backend.map(|to| to.to_string()).as_deref(), Some("10.244.1.3:8080"));
    }
}
