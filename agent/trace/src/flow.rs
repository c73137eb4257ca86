//! An event as the dataplane reports it, and a flow as a person reads it.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// What became of a packet or a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It went on.
    Forwarded,
    /// It ended here.
    Dropped,
}

/// Which half of the dataplane saw the flow first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// The socket hooks, at connect or sendmsg.
    Socket,
    /// The per-packet programs.
    Packet,
}

/// One flow event, addresses only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Wall clock, nanoseconds since 1970-01-01 UTC.
    pub unix_ns: i64,
    /// Verdict.
    pub verdict: Verdict,
    /// Which path.
    pub path: Path,
    /// Program that saw it, for example `from_pod`.
    pub hook: String,
    /// Station that decided, for example `balance`.
    pub station: String,
    /// Drop reason, empty when forwarded.
    pub reason: String,
    /// IP protocol number.
    pub protocol: u8,
    /// Sender; port 0 where the protocol has none, address unspecified where the socket is not bound yet.
    pub source: SocketAddr,
    /// Where the sender meant it to go.
    pub destination: SocketAddr,
    /// Where it went instead, when a Service was in front.
    pub backend: Option<SocketAddr>,
    /// The Pod whose process made the socket, as `NS/NAME`, where the source address does not say it yet.
    pub source_pod: Option<String>,
}

/// One end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Address, `IP:PORT`.
    pub address: SocketAddr,
    /// `NS/NAME` of the Pod that has the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Node that has the address, or that the Pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// The Service a flow went through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of the port, empty when the Service has one port without a name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub port: String,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)?;
        if self.port.is_empty() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// A flow, explained. One JSON object per line in `agentctl trace -o json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// RFC 3339, UTC, microseconds.
    pub time: String,
    /// The node that saw it.
    pub node: String,
    /// Verdict.
    pub verdict: Verdict,
    /// Path.
    pub path: Path,
    /// Program.
    pub hook: String,
    /// Station.
    pub station: String,
    /// Drop reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// `TCP`, `UDP`, `ICMP`, or the protocol's number.
    pub protocol: String,
    /// Sender.
    pub source: Party,
    /// Destination as sent.
    pub destination: Party,
    /// Service that the destination names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// The chosen backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Party>,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.pod, &self.node) {
            (Some(pod), Some(node)) => write!(f, "{pod} ({}, {node})", self.address),
            (Some(pod), None) => write!(f, "{pod} ({})", self.address),
            (None, Some(node)) => write!(f, "node {node} ({})", self.address),
            (None, None) => self.address.fmt(f),
        }
    }
}

impl fmt::Display for Flow {
    /// One line, for a terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Forwarded => "forwarded",
            Verdict::Dropped => "DROPPED",
        };
        let path = match self.path {
            Path::Socket => "socket",
            Path::Packet => "packet",
        };
        write!(f, "{} {} {verdict} {path} {} {} -> ", self.time, self.node, self.protocol, self.source)?;
        match &self.service {
            Some(service) => write!(f, "service {service} ({})", self.destination.address)?,
            None => self.destination.fmt(f)?,
        }
        if let Some(backend) = &self.backend {
            write!(f, " -> {backend}")?;
        }
        match self.verdict {
            Verdict::Dropped => write!(f, " at {}/{}: {}", self.hook, self.station, self.reason),
            Verdict::Forwarded => Ok(()),
        }
    }
}
