//! What the node's kernel should know, in plain Rust: Services, peers, addresses. Knows neither maps nor the API's objects.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A node, this one or another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Name of the Node object.
    pub name: String,
    /// Addresses on the underlay, at most one per family is used.
    pub addresses: Vec<IpAddr>,
    /// Ranges its Pods take their addresses from.
    pub pod_cidrs: Vec<IpNet>,
    /// Where the tunnel to it ends.
    pub end: TunnelEnd,
}

/// Where the tunnel to a node ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelEnd {
    /// At its address on the underlay.
    #[default]
    Underlay,
    /// At its address inside the encryption ([`inner_address`]).
    Inner(IpAddr),
    /// Nowhere: nodes encrypt, and this one has no key yet. What is for it is dropped.
    Locked,
}

/// A node's address inside the encryption: the first of its first IPv4 Pod range, which no Pod gets. It stands in the outer
/// header of the tunnel, and is routed into the device that encrypts, and nowhere else.
#[must_use]
pub fn inner_address(pod_cidrs: &[IpNet]) -> Option<IpAddr> {
    pod_cidrs.iter().find(|range| range.addr().is_ipv4()).map(IpNet::network)
}

/// Another node, as this one must know it.
pub type Peer = Node;

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP, number 6.
    Tcp,
    /// UDP, number 17.
    Udp,
    /// SCTP, number 132.
    Sctp,
}

impl Protocol {
    /// The IANA protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol of an IANA number, `None` for one that carries no Service.
    #[must_use]
    pub const fn of_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// The protocol of an API name (`TCP`, `UDP`, `SCTP`; empty counts as `TCP`).
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "" | "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// What names of Pods' host ports begin with.
const POD: &str = "pod/";

/// Namespace and name of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ServiceName {
    /// Builds the pair.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// What stands for a Pod's host ports: no Service has such a name.
    #[must_use]
    pub fn of_pod(namespace: &str, pod: &str) -> Self {
        Self::new(namespace, format!("{POD}{pod}"))
    }

    /// Whether it stands for a Pod's host ports.
    #[must_use]
    pub fn is_of_pod(&self) -> bool {
        self.name.starts_with(POD)
    }
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What kind of addresses a Service has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceType {
    /// Only an address inside the cluster.
    #[default]
    ClusterIp,
    /// Also a port on every node.
    NodePort,
    /// Also an outside address.
    LoadBalancer,
    /// No Service but ports of this node that lead to one of its Pods: see [`crate::HostPort`].
    HostPort,
}

/// A Service with everything behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: ServiceName,
    /// Kind of addresses.
    pub kind: ServiceType,
    /// Addresses inside the cluster, one per family; none for a headless Service, which then has no rows.
    pub cluster_ips: Vec<IpAddr>,
    /// Addresses outside of it that are routed to the nodes, or are theirs.
    pub external_ips: Vec<IpAddr>,
    /// Addresses outside of it that a load balancer brings to the nodes.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Which clients from outside may use those of the load balancer; `None`: all.
    pub source_ranges: Option<Vec<IpNet>>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Outside traffic only reaches endpoints of the node it came to, and keeps its source address.
    pub external_local: bool,
    /// Inside traffic only reaches endpoints of its own node.
    pub internal_local: bool,
    /// Seconds a client stays with one endpoint; 0 for no affinity.
    pub affinity_seconds: u32,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name, empty for a Service's only port.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port number on the Service's addresses, host byte order.
    pub port: u16,
    /// Port number on every node, host byte order; 0 for none.
    pub node_port: u16,
    /// Who serves this port.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint of a Service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address.
    pub ip: IpAddr,
    /// Port number, host byte order.
    pub port: u16,
    /// Node it runs on, empty when unknown. The name of a node should be one allocation, however many endpoints it has.
    pub node: Arc<str>,
    /// Takes new connections.
    pub ready: bool,
    /// Answers, whether or not it is terminating.
    pub serving: bool,
    /// Its Pod is being deleted.
    pub terminating: bool,
    /// Whether it is meant for this node; `None`: nothing is said of nodes.
    pub for_node: Option<bool>,
    /// Whether it is meant for this node's zone; `None`: nothing is said of zones.
    pub for_zone: Option<bool>,
}

impl Endpoint {
    /// A ready endpoint.
    #[must_use]
    pub fn ready(ip: IpAddr, port: u16, node: &str) -> Self {
        Self {
            ip,
            port,
            node: node.into(),
            ready: true,
            serving: true,
            terminating: false,
            for_node: None,
            for_zone: None,
        }
    }
}

/// Who has an address: for identities and for the names in events.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// A Pod.
    Pod {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Node it runs on.
        node: String,
    },
    /// A node itself.
    Node {
        /// Name.
        name: String,
    },
}

/// A complete view: what `Change::ReplaceAll` carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Services by name.
    pub services: BTreeMap<ServiceName, Arc<Service>>,
    /// Other nodes by name.
    pub peers: BTreeMap<String, Peer>,
    /// Owners by address.
    pub addresses: BTreeMap<IpAddr, Owner>,
}

/// One thing that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A complete view: what is not in it is removed. Nothing adopted from before a restart is removed before one came.
    ReplaceAll(Box<Desired>),
    /// A Service is there, or has become so.
    PutService(Arc<Service>),
    /// A Service is gone.
    RemoveService(ServiceName),
    /// Another node is there, or has become so.
    PutPeer(Peer),
    /// Another node is gone.
    RemovePeer(String),
    /// An address belongs to somebody.
    PutAddress(IpAddr, Owner),
    /// An address belongs to nobody any more.
    RemoveAddress(IpAddr),
}

impl Desired {
    /// Takes a change in.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::ReplaceAll(all) => *self = *all,
            Change::PutService(service) => {
                self.services.insert(service.name.clone(), service);
            }
            Change::RemoveService(name) => {
                self.services.remove(&name);
            }
            Change::PutPeer(peer) => {
                self.peers.insert(peer.name.clone(), peer);
            }
            Change::RemovePeer(name) => {
                self.peers.remove(&name);
            }
            Change::PutAddress(ip, owner) => {
                self.addresses.insert(ip, owner);
            }
            Change::RemoveAddress(ip) => {
                self.addresses.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_found_by_number_and_by_name() {
        for (protocol, number, name) in
            [(Protocol::Tcp, 6, "TCP"), (Protocol::Udp, 17, "UDP"), (Protocol::Sctp, 132, "SCTP")]
        {
            assert_eq!((protocol.number(), Protocol::of_number(number)), (number, Some(protocol)));
            assert_eq!((protocol.to_string().as_str(), Protocol::of_name(name)), (name, Some(protocol)));
        }
        assert_eq!((Protocol::of_number(1), Protocol::of_name("ICMP")), (None, None));
    }
}
