//! Rows of the live tables with names: what `agentctl service`, `conntrack`, `nat` and `map` print, one JSON object a line.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::flow::Party;

/// One port of a Service at one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRow {
    /// `NS/NAME`; empty for a row whose Service the node does not know (any more).
    pub service: String,
    /// `ClusterIP`, `NodePort` or `LoadBalancer`.
    pub kind: String,
    /// `TCP`, `UDP`, …
    pub protocol: String,
    /// `ADDRESS:PORT`; `*:PORT` on every node.
    pub frontend: String,
    /// The policy is `Local`: only backends of this node stand in the row.
    pub local: bool,
    /// The row is for those inside the cluster; those outside have another.
    pub inside: bool,
    /// Session affinity, seconds; 0 for none.
    pub affinity_seconds: u32,
    /// Number of the row, as other tables name it.
    pub id: u32,
    /// Its backends.
    pub backends: Vec<Party>,
}

/// A tracked flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowRow {
    /// `TCP`, `UDP`, `ICMP`, …
    pub protocol: String,
    /// Who began it.
    pub source: Party,
    /// Where it was meant to go.
    pub destination: Party,
    /// `NS/NAME` of the Service that balanced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Where it goes instead; with `direct` the backend that this node would choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Party>,
    /// Source it leaves with instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translated_source: Option<SocketAddr>,
    /// Its source port is out of Weft's own range.
    pub port_allocated: bool,
    /// It came by a node port.
    pub node_port: bool,
    /// Its packets go as they came to the backend's node, which chooses the backend and answers the client itself.
    #[serde(default)]
    pub direct: bool,
    /// `opening`, `established`, `closing`, `reset`; `unanswered`, `answered`; `direct` while another node answers.
    pub state: String,
    /// Where its packets go: `pod`, `tunnel`, `outside`, `host`.
    pub way: String,
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
}

/// A translation: of a flow's packets, or of a socket's address at connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NatRow {
    /// `packet`, or `connect`.
    pub at: String,
    /// `TCP`, `UDP`, …
    pub protocol: String,
    /// Who sends; nobody for a socket, whose address the table does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Party>,
    /// Where it was meant to go.
    pub destination: Party,
    /// Source it leaves with instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translated_source: Option<SocketAddr>,
    /// Destination it leaves with instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translated_destination: Option<Party>,
    /// `NS/NAME` of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The socket's cookie, as `ss -e` shows it; for a socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// Milliseconds since its last packet, or since the connect.
    pub idle_ms: u64,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableRow {
    /// Its name.
    pub name: String,
    /// Its kind, as the kernel calls it.
    pub kind: String,
    /// Rows in use; none for a ring.
    pub rows: Option<u64>,
    /// Rows it holds; bytes for a ring.
    pub capacity: u64,
    /// Bytes of a row, key and value.
    pub row_bytes: u64,
    /// Kernel memory it takes, bytes.
    pub memory_bytes: u64,
    /// What happens when it is full.
    pub when_full: String,
    /// Who has most of its rows; of tables that are nearly full, or when it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<OwnerRow>,
}

impl TableRow {
    /// How full it is, in per cent; none for a ring.
    #[must_use]
    pub fn percent(&self) -> Option<u64> {
        Some(self.rows? * 100 / self.capacity.max(1))
    }
}

/// An owner's part of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerRow {
    /// A Pod, a node, a Service, or an address that is none of them.
    pub owner: String,
    /// Rows.
    pub rows: u64,
}

/// A row of any table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RawRow {
    /// Named fields of the key.
    pub key: Value,
    /// Named fields of the value.
    pub value: Value,
}

/// The last line: what was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tail {
    /// Rows that would have been wanted, too.
    pub left_off: u64,
}
