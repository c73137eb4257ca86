//! Flows and connected sockets as the tables hold them.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;

use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::conntrack::{
    FLOW_DESTINATION, FLOW_DIRECT, FLOW_NODE_PORT, FLOW_PORT_ALLOCATED, FLOW_SOURCE, FLOW_TWIN, Flow,
    TCP_SEEN_ACK, TCP_SEEN_FIN, TCP_SEEN_RST, Tuple,
};
use weft_dataplane_abi::maps;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::socket::{SOCKET_REVERSE, SocketFlow, SocketKey};
use zerocopy::FromBytes as _;

use super::Table;
use super::decode::way_text;
use crate::flow_table::FlowTable;
use crate::tables::{self, TableError};

const TCP: u8 = 6;

/// A tracked flow, both of its directions together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracked {
    /// IP protocol number.
    pub protocol: u8,
    /// Who began it, as it arrives.
    pub source: SocketAddr,
    /// Where it was meant to go.
    pub destination: SocketAddr,
    /// Source it leaves with.
    pub to_source: SocketAddr,
    /// Destination it leaves with.
    pub to_destination: SocketAddr,
    /// Its source is replaced.
    pub source_replaced: bool,
    /// Its destination is replaced.
    pub destination_replaced: bool,
    /// Its source port is out of Weft's own range.
    pub port_allocated: bool,
    /// It came by a node port.
    pub node_port: bool,
    /// Its packets go as they came to the node of `to_destination`, which answers: no answer passes here.
    pub direct: bool,
    /// Number of the Service row that balanced it; 0 for none.
    pub service_id: u32,
    /// In a word: `opening`, `established`, `closing`, `reset` for TCP, `unanswered` or `answered` for others; `direct`
    /// where another node answers, and a client that has not ended it is all that is known.
    pub state: &'static str,
    /// Where its packets go.
    pub way: &'static str,
    /// Milliseconds since its last packet in either direction.
    pub idle_ms: u64,
    /// Packets there.
    pub packets: u64,
    /// Bytes there, with network headers.
    pub bytes: u64,
    /// Packets back.
    pub answer_packets: u64,
    /// Bytes back.
    pub answer_bytes: u64,
    /// The row of the answers has gone: the table was full.
    pub half: bool,
}

/// A socket that was given a backend at connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connected {
    /// The socket's cookie, as `ss -e` shows it (`sk:`, in hexadecimal).
    pub cookie: u64,
    /// IP protocol number.
    pub protocol: u8,
    /// What its process asked for.
    pub destination: SocketAddr,
    /// What it got.
    pub to_destination: SocketAddr,
    /// Number of the Service row; 0 for none.
    pub service_id: u32,
    /// Milliseconds since then.
    pub age_ms: u64,
}

/// The table of flows.
pub struct Flows {
    table: Option<Table>,
    rows: FlowTable,
    now_ns: u64,
}

impl Flows {
    /// Opens it below a directory of pins.
    ///
    /// # Errors
    /// It is not pinned there.
    pub fn open(maps: &Path) -> Result<Self, TableError> {
        Ok(Self { table: Table::open(maps, maps::FLOWS.name)?, rows: tables::flows(maps)?, now_ns: now_ns() })
    }

    /// Gives flows until the taker has enough, each once. Those that `wanted` does not want cost no second look-up; it sees
    /// them without their answers.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn each(
        &self,
        wanted: impl Fn(&Tracked) -> bool,
        mut take: impl FnMut(Tracked) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        let Some(table) = &self.table else { return Ok(()) };
        table.rows(|key, value| {
            let (Ok(key), Ok(flow)) = (Tuple::read_from_bytes(key), Flow::read_from_bytes(value)) else {
                return ControlFlow::Continue(());
            };
            if flow.flags & FLOW_TWIN != 0 {
                return ControlFlow::Continue(());
            }
            let mut tracked = tracked(&key, &flow, self.now_ns);
            if !wanted(&tracked) {
                return ControlFlow::Continue(());
            }
            if tracked.direct {
                answered_elsewhere(&mut tracked, &flow);
                return take(tracked);
            }
            let twin_key = Tuple { protocol: key.protocol, ..flow.to.reversed() };
            let twin = self.rows.find(&twin_key);
            answered(&mut tracked, &flow, twin.as_ref(), self.now_ns);
            take(tracked)
        })
    }
}

fn socket(address: Address, port: Be16) -> SocketAddr {
    SocketAddr::new(address.ip(), port.get())
}

fn tracked(key: &Tuple, flow: &Flow, now_ns: u64) -> Tracked {
    Tracked {
        protocol: key.protocol,
        source: socket(key.source, key.source_port),
        destination: socket(key.destination, key.destination_port),
        to_source: socket(flow.to.source, flow.to.source_port),
        to_destination: socket(flow.to.destination, flow.to.destination_port),
        source_replaced: flow.flags & FLOW_SOURCE != 0,
        destination_replaced: flow.flags & FLOW_DESTINATION != 0,
        port_allocated: flow.flags & FLOW_PORT_ALLOCATED != 0,
        node_port: flow.flags & FLOW_NODE_PORT != 0,
        direct: flow.flags & FLOW_DIRECT != 0,
        service_id: flow.service_id,
        state: "",
        way: way_text(flow.way),
        idle_ms: since_ms(now_ns, flow.seen_ns),
        packets: flow.packets,
        bytes: flow.bytes,
        answer_packets: 0,
        answer_bytes: 0,
        half: true,
    }
}

fn answered(tracked: &mut Tracked, flow: &Flow, twin: Option<&Flow>, now_ns: u64) {
    if let Some(twin) = twin {
        tracked.half = false;
        tracked.answer_packets = twin.packets;
        tracked.answer_bytes = twin.bytes;
        tracked.idle_ms = tracked.idle_ms.min(since_ms(now_ns, twin.seen_ns));
    }
    let (there, back) = (flow.tcp_seen, twin.map_or(0, |twin| twin.tcp_seen));
    tracked.state = match tracked.protocol {
        TCP if (there | back) & TCP_SEEN_RST != 0 => "reset",
        TCP if (there | back) & TCP_SEEN_FIN != 0 => "closing",
        TCP if there & TCP_SEEN_ACK != 0 => "established",
        TCP => "opening",
        _ if tracked.answer_packets == 0 => "unanswered",
        _ => "answered",
    };
}

/// What there is to say of a flow whose answers leave by another node.
fn answered_elsewhere(tracked: &mut Tracked, flow: &Flow) {
    tracked.half = false;
    tracked.state = match flow.tcp_seen {
        seen if seen & TCP_SEEN_RST != 0 => "reset",
        seen if seen & TCP_SEEN_FIN != 0 => "closing",
        _ => "direct",
    };
}

/// Gives sockets that were given a backend until the taker has enough.
///
/// # Errors
/// The table cannot be read.
pub fn connected(maps: &Path, mut take: impl FnMut(Connected) -> ControlFlow<()>) -> Result<(), TableError> {
    let Some(table) = Table::open(maps, maps::SOCKET_FLOWS.name)? else { return Ok(()) };
    let now_ns = now_ns();
    table.rows(|key, value| {
        let (Ok(key), Ok(row)) = (SocketKey::read_from_bytes(key), SocketFlow::read_from_bytes(value)) else {
            return ControlFlow::Continue(());
        };
        if key.direction != SOCKET_REVERSE {
            return ControlFlow::Continue(());
        }
        take(Connected {
            cookie: key.cookie,
            protocol: key.protocol,
            destination: socket(row.address, row.port),
            to_destination: socket(key.address, key.port),
            service_id: row.service_id,
            age_ms: since_ms(now_ns, row.chosen_ns),
        })
    })
}

/// Nanoseconds of the clock that rows are stamped by, or a little more.
fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs())
}

const fn since_ms(now_ns: u64, then_ns: u64) -> u64 {
    now_ns.saturating_sub(then_ns) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_told_by_both_of_its_rows() {
        let key = Tuple { protocol: TCP, ..Tuple::default() };
        let mut flow = Flow { seen_ns: 5_000_000, packets: 3, ..Flow::default() };
        let state = |flow: &Flow, twin: Option<&Flow>| {
            let mut row = tracked(&key, flow, 9_000_000);
            answered(&mut row, flow, twin, 9_000_000);
            (row.state, row.idle_ms, row.half)
        };
        assert_eq!(state(&flow, None), ("opening", 4, true));
        flow.tcp_seen = TCP_SEEN_ACK;
        let mut twin = Flow { seen_ns: 8_000_000, tcp_seen: TCP_SEEN_ACK, ..Flow::default() };
        assert_eq!(state(&flow, Some(&twin)), ("established", 1, false));
        twin.tcp_seen |= TCP_SEEN_FIN;
        assert_eq!(state(&flow, Some(&twin)).0, "closing");
        twin.tcp_seen |= TCP_SEEN_RST;
        assert_eq!(state(&flow, Some(&twin)).0, "reset");
        flow.flags = FLOW_DIRECT;
        for (seen, state) in [(TCP_SEEN_ACK, "direct"), (TCP_SEEN_FIN, "closing"), (TCP_SEEN_RST, "reset")] {
            flow.tcp_seen = seen;
            let mut row = tracked(&key, &flow, 9_000_000);
            answered_elsewhere(&mut row, &flow);
            assert_eq!((row.direct, row.state, row.half, row.idle_ms), (true, state, false, 4));
        }
    }
}
