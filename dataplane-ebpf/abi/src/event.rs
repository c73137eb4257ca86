//! The flow event: one row of the ring buffer for each new flow and each drop.
//!
//! A flow balanced at connect gives two events: one of a socket hook, at connect, and one of a packet hook, with its first
//! packet. Both carry the socket's cookie and the Service, so that a reader can make one of them; the first has no source
//! port yet, the second is missing when no packet passes a packet hook (backends in the node's own network).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;
use crate::numbered::numbered;
use crate::order::Be16;

numbered! {
    /// What became of it.
    Verdict {
        /// A new flow passes.
        Forwarded = 1, "forwarded";
        /// A packet or connection was dropped.
        Dropped = 2, "dropped";
    }
}

/// [`FlowEvent::flags`]: `service` and `backend` are set.
pub const EVENT_SERVICE: u8 = 1 << 0;
/// [`FlowEvent::flags`]: `translated_source` is set.
pub const EVENT_SOURCE: u8 = 1 << 1;
/// [`FlowEvent::flags`]: balanced at connect; clear: by the per-packet path.
pub const EVENT_AT_CONNECT: u8 = 1 << 2;

/// One event.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowEvent {
    /// When, nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Network namespace of the Pod or process that sent it; 0 when unknown.
    pub netns_cookie: u64,
    /// Its socket; 0 when unknown.
    pub socket_cookie: u64,
    /// cgroup of the process, at socket hooks; 0 otherwise.
    pub cgroup_id: u64,
    /// Source as sent; zero at connect while the socket is not bound.
    pub source: Address,
    /// Destination as the process or the packet had it.
    pub destination: Address,
    /// Address of the Service, when one was chosen from; for a node port the address that was asked.
    pub service: Address,
    /// The backend.
    pub backend: Address,
    /// Source it leaves with, when translated.
    pub translated_source: Address,
    /// Source port as sent.
    pub source_port: Be16,
    /// Destination port as sent.
    pub destination_port: Be16,
    /// The Service's port.
    pub service_port: Be16,
    /// The backend's port.
    pub backend_port: Be16,
    /// Source port it leaves with, when translated.
    pub translated_source_port: Be16,
    /// `EVENT_*`.
    pub flags: u8,
    /// [`Verdict`].
    pub verdict: u8,
    /// [`crate::station::Station`] that dropped it; for flows that pass, the last one.
    pub station: u8,
    /// [`crate::reason::Reason`].
    pub reason: u8,
    /// [`crate::hook::Hook`].
    pub hook: u8,
    /// [`crate::address::FAMILY_V4`] or [`crate::address::FAMILY_V6`].
    pub family: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags of the packet (RFC 9293's byte: FIN 1, SYN 2, RST 4, PSH 8, ACK 16).
    pub tcp_flags: u8,
    /// Zero.
    pub reserved: [u8; 6],
    /// Interface the program runs on; 0 at socket hooks.
    pub ifindex: u32,
    /// [`crate::service::Service::id`]; 0 for none.
    pub service_id: u32,
    /// Index of the backend; 0 for none.
    pub backend_id: u32,
    /// Length of the packet in bytes; 0 at socket hooks.
    pub packet_bytes: u32,
}

const _: () = assert!(size_of::<FlowEvent>() == 152);
