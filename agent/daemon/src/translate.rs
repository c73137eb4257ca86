//! The link's resources in the words of the dataplane and of DNS. Pure.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use weft_dataplane::desired::{self, Change, Desired, Owner, Protocol, ServiceName, ServiceType, TunnelEnd};
use weft_link::message::{Address, Peer, Resource, Service, resource::Body};

use crate::cipher;
use crate::view::address_of;

/// Names of nodes, each once in memory. Bounded by the nodes that the endpoints of the cluster ever named.
#[derive(Debug, Default)]
pub(crate) struct NodeNames(Mutex<HashSet<Arc<str>>>);

impl NodeNames {
    fn one(&self, name: &str) -> Arc<str> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        names.insert(new.clone());
        new
    }
}

/// What this node is, for telling its own rows from the others'.
pub(crate) struct Local<'a> {
    /// This node's name.
    pub(crate) node: &'a str,
    /// Its zone; empty: unknown.
    pub(crate) zone: &'a str,
    /// Nodes encrypt what they send each other.
    pub(crate) encrypted: bool,
    /// Service addresses the node answers itself: its rows are not the balancer's.
    pub(crate) answered_here: &'a [IpAddr],
    /// Names that endpoints share.
    pub(crate) names: &'a NodeNames,
}

/// A complete view.
pub(crate) fn whole(resources: impl Iterator<Item = Resource>, local: &Local<'_>) -> Desired {
    let mut desired = Desired::default();
    for change in resources.filter_map(|resource| put(&resource, local)) {
        desired.apply(change);
    }
    desired
}

/// What a resource that is there, or changed, means for the dataplane.
pub(crate) fn put(resource: &Resource, local: &Local<'_>) -> Option<Change> {
    match resource.body.as_ref()? {
        Body::Service(message) => Some(match service(message, local) {
            Some(service) => Change::PutService(service.into()),
            None => Change::RemoveService(name(message)),
        }),
        Body::Peer(message) if message.node != local.node => {
            Some(Change::PutPeer(peer(message, local.encrypted)))
        }
        Body::Address(message) => address(message),
        Body::Peer(_) | Body::Object(_) => None,
    }
}

/// What a resource that is gone means for the dataplane.
pub(crate) fn removed(resource: &Resource, local: &Local<'_>) -> Option<Change> {
    match resource.body.as_ref()? {
        Body::Service(message) => Some(Change::RemoveService(name(message))),
        Body::Peer(message) if message.node != local.node => Some(Change::RemovePeer(message.node.clone())),
        Body::Address(message) => address_of(&message.address).map(Change::RemoveAddress),
        Body::Peer(_) | Body::Object(_) => None,
    }
}

fn name(service: &Service) -> ServiceName {
    ServiceName::new(&service.namespace, &service.name)
}

fn service(message: &Service, local: &Local<'_>) -> Option<desired::Service> {
    let kind = match message.r#type.as_str() {
        "ExternalName" => return None,
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer,
        _ => ServiceType::ClusterIp,
    };
    let cluster_ips: Vec<IpAddr> = exact(message.cluster_ips.iter().filter_map(address_of));
    if cluster_ips.iter().any(|ip| local.answered_here.contains(ip)) {
        return None;
    }
    let load_balancer_ips: BTreeSet<IpAddr> =
        message.load_balancer_ips.iter().filter_map(address_of).collect();
    Some(desired::Service {
        name: name(message),
        kind,
        cluster_ips,
        external_ips: outside_addresses(message).filter(|ip| !load_balancer_ips.contains(ip)).collect(),
        load_balancer_ips: load_balancer_ips.into_iter().collect(),
        // What is not understood lets nobody in.
        source_ranges: (!message.source_ranges.is_empty())
            .then(|| message.source_ranges.iter().filter_map(|range| range.trim().parse().ok()).collect()),
        ports: exact(message.ports.iter().filter_map(|port| service_port(message, port, local))),
        external_local: message.external_local,
        internal_local: message.internal_local,
        affinity_seconds: message.affinity_seconds,
    })
}

/// The addresses outside the cluster at which a Service is reached, each once.
pub(crate) fn outside_addresses(message: &Service) -> impl Iterator<Item = IpAddr> {
    let all: BTreeSet<IpAddr> =
        message.load_balancer_ips.iter().chain(&message.external_ips).filter_map(address_of).collect();
    all.into_iter()
}

fn service_port(
    message: &Service,
    port: &weft_link::message::Port,
    local: &Local<'_>,
) -> Option<desired::ServicePort> {
    let endpoints = message.endpoints.iter().filter_map(|endpoint| {
        Some(desired::Endpoint {
            ip: address_of(&endpoint.address)?,
            port: u16::try_from(*endpoint.ports.get(&port.name)?).ok()?,
            node: local.names.one(&endpoint.node),
            ready: endpoint.ready || message.publish_not_ready,
            serving: endpoint.serving,
            terminating: endpoint.terminating,
            for_node: named(&endpoint.node_hints, local.node),
            for_zone: named(&endpoint.zone_hints, local.zone),
        })
    });
    Some(desired::ServicePort {
        name: port.name.clone(),
        protocol: Protocol::of_number(u8::try_from(port.protocol).ok()?)?,
        port: u16::try_from(port.port).ok()?,
        node_port: u16::try_from(port.node_port).ok()?,
        endpoints: exact(endpoints),
    })
}

/// All, without room for more: they are kept, and there are very many.
fn exact<T>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = items.collect();
    all.shrink_to_fit();
    all
}

/// Whether a list names somebody; `None`: it names nobody.
fn named(list: &[String], name: &str) -> Option<bool> {
    (!list.is_empty()).then(|| list.iter().any(|named| named == name))
}

fn peer(message: &Peer, encrypted: bool) -> desired::Peer {
    desired::Peer {
        name: message.node.clone(),
        addresses: message.addresses.iter().filter_map(address_of).collect(),
        pod_cidrs: message.pod_cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect(),
        end: if encrypted { cipher::end_of(message) } else { TunnelEnd::Underlay },
    }
}

fn address(message: &Address) -> Option<Change> {
    let ip = address_of(&message.address)?;
    let (namespace, name) = message.pod.split_once('/')?;
    let owner = Owner::Pod { namespace: namespace.into(), name: name.into(), node: message.node.clone() };
    Some(Change::PutAddress(ip, owner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    use bytes::Bytes;
    use weft_link::message::{Endpoint, Port};

    static NAMES: LazyLock<NodeNames> = LazyLock::new(NodeNames::default);
    static LOCAL: LazyLock<Local<'static>> = LazyLock::new(|| Local {
        node: "node-1",
        encrypted: false,
        zone: "zone-1",
        answered_here: &[],
        names: &NAMES,
    });

    fn web() -> Service {
        Service {
            namespace: "default".into(),
            name: "web".into(),
            r#type: "NodePort".into(),
            cluster_ips: vec![Bytes::from_static(&[10, 96, 0, 7])],
            ports: vec![
                Port { name: "http".into(), protocol: 6, port: 80, node_port: 30080 },
                Port { name: "dns".into(), protocol: 17, port: 53, node_port: 0 },
            ],
            endpoints: vec![Endpoint {
                address: Bytes::from_static(&[10, 244, 1, 3]),
                ports: [("http".to_owned(), 8080)].into(),
                node: "node-2".into(),
                pod: "default/web-1".into(),
                ready: true,
                serving: true,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn resource(service: Service) -> Resource {
        Resource { name: "service/default/web".into(), body: Some(Body::Service(service)) }
    }

    #[test]
    fn each_port_has_the_endpoints_that_serve_it() {
        let Some(Change::PutService(service)) = put(&resource(web()), &LOCAL) else { panic!("no Service") };
        assert_eq!(service.kind, ServiceType::NodePort);
        assert_eq!(service.ports[0].endpoints[0].port, 8080);
        assert_eq!((service.ports.capacity(), service.ports[0].endpoints.capacity()), (2, 1));
        assert!(service.ports[1].endpoints.is_empty());
        let Some(Change::PutService(again)) = put(&resource(web()), &LOCAL) else { panic!("no Service") };
        let node = |service: &desired::Service| service.ports[0].endpoints[0].node.clone();
        assert!(Arc::ptr_eq(&node(&service), &node(&again)), "a node's name is there once");
    }

    #[test]
    fn hints_are_for_this_node_and_its_zone_or_for_others() {
        let hints = |zones: &[&str], nodes: &[&str]| {
            let mut message = web();
            let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
            (message.endpoints[0].zone_hints, message.endpoints[0].node_hints) = (texts(zones), texts(nodes));
            let Some(Change::PutService(service)) = put(&resource(message), &LOCAL) else {
                panic!("no Service")
            };
            (service.ports[0].endpoints[0].for_zone, service.ports[0].endpoints[0].for_node)
        };
        assert_eq!(hints(&[], &[]), (None, None));
        assert_eq!(hints(&["zone-2", "zone-1"], &["node-2"]), (Some(true), Some(false)));
        assert_eq!(hints(&["zone-2"], &["node-1"]), (Some(false), Some(true)));
    }

    #[test]
    fn what_the_node_answers_itself_is_not_balanced() {
        let here = ["10.96.0.7".parse().unwrap()];
        let local =
            Local { node: "node-1", encrypted: false, zone: "zone-1", answered_here: &here, names: &NAMES };
        assert!(matches!(put(&resource(web()), &local), Some(Change::RemoveService(_))));
        let external = Service { r#type: "ExternalName".into(), ..web() };
        assert!(matches!(put(&resource(external), &LOCAL), Some(Change::RemoveService(_))));
    }

    #[test]
    fn outside_addresses_are_taken_once_whoever_gave_them() {
        let two = |last: [u8; 2]| last.map(|n| Bytes::copy_from_slice(&[192, 0, 2, n])).to_vec();
        let message = Service { load_balancer_ips: two([9, 8]), external_ips: two([7, 9]), ..web() };
        let Some(Change::PutService(service)) = put(&resource(message), &LOCAL) else { panic!("no Service") };
        let texts = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&service.external_ips), ["192.0.2.7"]);
        assert_eq!(texts(&service.load_balancer_ips), ["192.0.2.8", "192.0.2.9"], "its ranges guard these");
        assert_eq!(service.source_ranges, None);
    }

    #[test]
    fn ranges_that_are_not_understood_let_nobody_in() {
        let ranges = |texts: &[&str]| {
            let source_ranges = texts.iter().map(ToString::to_string).collect();
            let message = Service { source_ranges, ..web() };
            let Some(Change::PutService(service)) = put(&resource(message), &LOCAL) else {
                panic!("no Service")
            };
            service.source_ranges.clone()
        };
        assert_eq!(ranges(&[" 10.0.0.0/8", "?"]), Some(vec!["10.0.0.0/8".parse().unwrap()]));
        assert_eq!(ranges(&["?"]), Some(Vec::new()));
    }

    #[test]
    fn the_own_node_is_no_peer() {
        let peer = |node: &str| Resource {
            name: format!("peer/{node}"),
            body: Some(Body::Peer(Peer { node: node.into(), ..Default::default() })),
        };
        assert!(put(&peer("node-1"), &LOCAL).is_none());
        assert!(matches!(put(&peer("node-2"), &LOCAL), Some(Change::PutPeer(_))));
        assert!(matches!(removed(&peer("node-2"), &LOCAL), Some(Change::RemovePeer(_))));
    }
}
