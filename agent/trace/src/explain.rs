//! Addresses to names.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use crate::flow::{Event, Flow, Party, Service};

/// Who answers for an address. Implemented by whatever holds the node's view of the cluster.
pub trait Names {
    /// `NS/NAME` of the Pod at an address, and the node it runs on.
    fn pod(&self, address: IpAddr) -> Option<(String, String)>;
    /// The node that has an address as its own.
    fn node(&self, address: IpAddr) -> Option<String>;
    /// The Service behind an address, port and IP protocol number: a cluster address, or a NodePort on a node.
    fn service(&self, destination: SocketAddr, protocol: u8) -> Option<Service>;
}

/// Puts names to an event that `node` saw.
pub fn explain(event: &Event, node: &str, names: &impl Names) -> Flow {
    let mut source = party(event.source, names);
    if source.pod.is_none()
        && let Some(pod) = &event.source_pod
    {
        source.pod = Some(pod.clone());
        source.node = Some(node.to_owned());
    }
    Flow {
        time: time_text(event.unix_ns),
        node: node.to_owned(),
        verdict: event.verdict,
        path: event.path,
        hook: event.hook.clone(),
        station: event.station.clone(),
        reason: event.reason.clone(),
        protocol: protocol_text(event.protocol),
        source,
        destination: party(event.destination, names),
        service: names.service(event.destination, event.protocol),
        backend: event.backend.map(|address| party(address, names)),
    }
}

/// Who has an address.
pub fn party(address: SocketAddr, names: &impl Names) -> Party {
    match names.pod(address.ip()) {
        Some((pod, node)) => Party { address, pod: Some(pod), node: Some(node) },
        None => Party { address, pod: None, node: names.node(address.ip()) },
    }
}

fn time_text(unix_ns: i64) -> String {
    match Timestamp::from_nanosecond(i128::from(unix_ns)) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => format!("{unix_ns}ns"),
    }
}

/// A protocol as people call it.
#[must_use]
pub fn protocol_text(protocol: u8) -> String {
    match protocol {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
