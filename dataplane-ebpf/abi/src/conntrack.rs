//! Flows: what was decided for a flow's first packet and holds for the rest of it.
//!
//! Every flow has two rows: the *first* row under the tuple as the client sends it, and its *twin* under the tuple as
//! the other end answers. Each holds the tuple its packets leave with, so that one look-up translates in either
//! direction, and the twin's key is `first.to` reversed. Flows that nothing translates have both rows too: they occupy
//! their reverse tuple, so that no translated flow can take it. Only flows that another node answers have no twin.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Address;
use crate::order::Be16;

/// The ends of a packet: key of the map `flows` (with the protocol) and the ends a flow's packets leave with.
/// For ICMP echo the port of the end that asks is the echo identifier, the other is 0. Aligned so that the programs copy
/// it in five steps.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Tuple {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<Tuple>() == 40);

impl Tuple {
    /// The tuple of the packets that answer.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
            reserved: [0; 3],
        }
    }
}

/// [`Flow::flags`]: this row is the twin, its packets are the answers.
pub const FLOW_TWIN: u16 = 1 << 0;
/// [`Flow::flags`]: packets leave with another source address or port.
pub const FLOW_SOURCE: u16 = 1 << 1;
/// [`Flow::flags`]: packets leave with another destination address or port.
pub const FLOW_DESTINATION: u16 = 1 << 2;
/// [`Flow::flags`]: the source port was allocated from Weft's range.
pub const FLOW_PORT_ALLOCATED: u16 = 1 << 3;
/// [`Flow::flags`]: came from outside, by a node port or by an address of a Service that the outside knows.
pub const FLOW_NODE_PORT: u16 = 1 << 4;
/// [`Flow::flags`]: packets go to the node of their backend as they came from outside, and that node answers the client.
/// `to` names the backend that this node would choose; there is no twin, since no answer passes here.
pub const FLOW_DIRECT: u16 = 1 << 5;

/// [`Flow::tcp_seen`]: a SYN passed in this direction.
pub const TCP_SEEN_SYN: u8 = 1 << 0;
/// [`Flow::tcp_seen`]: a segment that is neither SYN nor RST passed in this direction.
pub const TCP_SEEN_ACK: u8 = 1 << 1;
/// [`Flow::tcp_seen`]: a FIN passed in this direction.
pub const TCP_SEEN_FIN: u8 = 1 << 2;
/// [`Flow::tcp_seen`]: a RST passed in this direction.
pub const TCP_SEEN_RST: u8 = 1 << 3;

/// [`Flow::origin`]: by the uplink, from another node's Pod that is routed natively. No address of a node.
pub const ORIGIN_UPLINK: u32 = u32::MAX;

/// How long a TCP connection may be silent before its tuple may be taken by another, seconds (RFC 5382: at least 2 h 4 min).
pub const TCP_IDLE_SECONDS: u64 = 8_000;
/// The same for a TCP connection that did not get past its SYN, or that saw FIN or RST: longer than Linux keeps its end in
/// TIME-WAIT (60 s, by a timer that may be 2 s late), which would not take a stranger's connection with the same ends.
pub const TCP_CLOSING_SECONDS: u64 = 65;
/// The same for a TCP connection that saw FIN or RST, where all source ports that were tried are in use.
pub const TCP_CLOSED_SECONDS_MIN: u64 = 10;
/// The same for UDP (RFC 4787: at least 2 min).
pub const UDP_IDLE_SECONDS: u64 = 180;
/// The same for ICMP echo.
pub const ICMP_IDLE_SECONDS: u64 = 30;

/// A flow's row in the map `flows`, whose key is [`Tuple`] (`flow_table.rs`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Flow {
    /// The tuple packets of this direction leave with; the protocol is the key's.
    pub to: Tuple,
    /// Last packet of this direction, nanoseconds of `CLOCK_MONOTONIC_COARSE`; the row's creation before the first.
    pub seen_ns: u64,
    /// Packets of this direction.
    pub packets: u64,
    /// Bytes of this direction, network header included.
    pub bytes: u64,
    /// [`crate::service::Service::id`] it was balanced by; 0 for none.
    pub service_id: u32,
    /// Its backend; 0 for none.
    pub backend_id: u32,
    /// [`crate::backend::Backend::generation`] when it was chosen.
    pub generation: u32,
    /// Who was found to be allowed to send this direction's packets: the interface of the Pod with the source address, the
    /// tunnel's other end (IPv4 in host order, or a keyed hash of IPv6), or [`ORIGIN_UPLINK`]; 0 where nothing is checked.
    pub origin: u32,
    /// [`crate::config::Config::epoch`] in which `origin` and `way` were found; 0 before that.
    pub epoch: u32,
    /// `FLOW_*`.
    pub flags: u16,
    /// `TCP_SEEN_*` of this direction.
    pub tcp_seen: u8,
    /// Where this direction's packets go, `ROUTE_*`; 0 before that was looked for.
    pub way: u8,
    /// How they get there. To a Pod of this node: the two addresses that its frames begin with, as they stand in memory, and
    /// the interface of the host's end of its veth. Into the tunnel, or natively: the other node's [`Address`].
    pub way_words: [u32; 4],
    /// A field that another build might have added.
    #[cfg(feature = "other-layout")]
    pub other: u64,
}

/// What a new flow costs is mostly the memory that it touches: with its key a row is 144 bytes.
#[cfg(not(feature = "other-layout"))]
const _: () = assert!(size_of::<Tuple>() + size_of::<Flow>() == 144);

/// The flags of a flow's other row.
#[inline(always)]
#[must_use]
pub const fn mirrored(flags: u16) -> u16 {
    let source = if flags & FLOW_DESTINATION != 0 { FLOW_SOURCE } else { 0 };
    let destination = if flags & FLOW_SOURCE != 0 { FLOW_DESTINATION } else { 0 };
    (flags & !(FLOW_SOURCE | FLOW_DESTINATION)) ^ FLOW_TWIN | source | destination
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    #[test]
    fn what_one_direction_does_to_its_source_the_other_does_to_its_destination() {
        let flags = FLOW_SOURCE | FLOW_NODE_PORT;
        assert_eq!(mirrored(flags), FLOW_TWIN | FLOW_DESTINATION | FLOW_NODE_PORT);
        assert_eq!(mirrored(mirrored(flags)), flags);
    }

    #[test]
    fn a_tuple_reversed_twice_is_itself() {
        let tuple = Tuple {
            source: Address::from(Ipv4Addr::new(10, 244, 0, 5)),
            destination: Address::from(Ipv4Addr::new(10, 96, 0, 1)),
            source_port: Be16::new(40_000),
            destination_port: Be16::new(443),
            protocol: 6,
            reserved: [0; 3],
        };
        assert_eq!(tuple.reversed().source_port.get(), 443);
        assert_eq!(tuple.reversed().reversed(), tuple);
    }
}
