//! What the live tables and counters say, in words an operator reads. Reads only.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use weft_dataplane_abi::conntrack::{FLOW_DESTINATION, FLOW_NODE_PORT, FLOW_SOURCE, FLOW_TWIN, Flow, Tuple};
use weft_dataplane_abi::counter::{Counter, dropped_by, seen_by};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::service::{SCOPE_INSIDE, SCOPE_NODE, SCOPE_V6, ServiceKey};

use crate::plan::Planner;
use crate::tables::{TableError, Tables};

/// One row of the Service table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceEntry {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// Its address; unspecified for a NodePort, which is on every node address.
    pub address: IpAddr,
    /// Port, host byte order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Whether this is a NodePort.
    pub node_port: bool,
    /// Number of the row, as events name it.
    pub id: u32,
    /// Whom it leads to.
    pub backends: Vec<SocketAddr>,
}

/// One direction of a tracked flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEntry {
    /// IP protocol number.
    pub protocol: u8,
    /// Source as it arrives.
    pub source: SocketAddr,
    /// Destination as it arrives.
    pub destination: SocketAddr,
    /// Source it leaves with, when it is replaced.
    pub translated_source: Option<SocketAddr>,
    /// Destination it leaves with, when it is replaced.
    pub translated_destination: Option<SocketAddr>,
    /// `namespace/name` of the Service it was balanced by.
    pub service: Option<String>,
    /// Came in by a NodePort.
    pub node_port: bool,
    /// This is the direction of the answers.
    pub answers: bool,
    /// Packets of this direction.
    pub packets: u64,
    /// Bytes of this direction, network header included.
    pub bytes: u64,
}

/// Fill of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// Which table.
    pub table: String,
    /// Rows in use.
    pub rows: usize,
    /// Rows it holds.
    pub capacity: usize,
}

/// The address of a Service row; unspecified, of its family, for a port of every node.
pub(crate) fn front(key: &ServiceKey) -> IpAddr {
    match (key.scope & SCOPE_NODE != 0, key.scope & SCOPE_V6 != 0) {
        (false, _) => key.address.ip(),
        (true, false) => IpAddr::from([0; 4]),
        (true, true) => IpAddr::from([0; 16]),
    }
}

pub(crate) fn services(planner: &Planner) -> Vec<ServiceEntry> {
    let mut entries: Vec<ServiceEntry> = planner
        .service_rows()
        // What those inside get is the Service's other row again.
        .filter(|(_, key, _)| key.scope & SCOPE_INSIDE == 0)
        .map(|(name, key, row)| {
            let backends = row.backends.iter().filter_map(|id| planner.backend(*id));
            ServiceEntry {
                namespace: name.namespace.clone(),
                name: name.name.clone(),
                address: front(key),
                port: key.port.get(),
                protocol: key.protocol,
                node_port: key.scope & SCOPE_NODE != 0,
                id: row.value.id,
                backends: backends.map(|backend| SocketAddr::new(backend.ip, backend.port)).collect(),
            }
        })
        .collect();
    entries.sort();
    entries
}

pub(crate) fn flow((key, flow): &(Tuple, Flow), planner: &Planner) -> FlowEntry {
    let source = SocketAddr::new(flow.to.source.ip(), flow.to.source_port.get());
    let destination = SocketAddr::new(flow.to.destination.ip(), flow.to.destination_port.get());
    FlowEntry {
        protocol: key.protocol,
        source: SocketAddr::new(key.source.ip(), key.source_port.get()),
        destination: SocketAddr::new(key.destination.ip(), key.destination_port.get()),
        translated_source: (flow.flags & FLOW_SOURCE != 0).then_some(source),
        translated_destination: (flow.flags & FLOW_DESTINATION != 0).then_some(destination),
        service: planner.port_of(flow.service_id).map(|port| port.service.to_string()),
        node_port: flow.flags & FLOW_NODE_PORT != 0,
        answers: flow.flags & FLOW_TWIN != 0,
        packets: flow.packets,
        bytes: flow.bytes,
    }
}

/// Every counter by name; a hook's are `seen_<hook>` and `dropped_<hook>`.
pub(crate) fn counters(tables: &Tables) -> Result<BTreeMap<String, u64>, TableError> {
    let mut all = BTreeMap::new();
    for counter in Counter::ALL {
        all.insert(counter.text().to_owned(), tables.counter(*counter as u32)?);
    }
    for hook in Hook::ALL {
        all.insert(format!("seen_{}", hook.text()), tables.counter(seen_by(*hook))?);
        all.insert(format!("dropped_{}", hook.text()), tables.counter(dropped_by(*hook))?);
    }
    Ok(all)
}
