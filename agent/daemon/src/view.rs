//! What this node knows of the cluster: the link's resources, and who answers for an address. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use weft_dns::records::DnsService;
use weft_link::message::{Address, ApiObject, Peer, Resource, Service, resource::Body};
use weft_trace::Names;

use crate::resolve;
use crate::translate::outside_addresses;

/// The committed view. Every node holds all of the cluster's Services and addresses: what is many is held small.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    services: BTreeMap<String, Held>,
    peers: BTreeMap<String, Peer>,
    objects: BTreeMap<String, ApiObject>,
    addresses: BTreeMap<String, IpAddr>,
    pods: HashMap<IpAddr, Pod>,
    nodes: HashMap<IpAddr, String>,
    frontends: HashMap<(IpAddr, u16, u8), Arc<weft_trace::Service>>,
    node_ports: HashMap<(u16, u8), Arc<weft_trace::Service>>,
    /// Names of the Services that concern the network around the cluster: few, and looked at after every change.
    outward: BTreeSet<String>,
    /// Names of nodes that have Pods, each once in memory.
    node_names: HashSet<Arc<str>>,
}

/// A Service as it came, encoded: there are many, and few of them are asked for.
#[derive(Clone, Debug)]
struct Held {
    /// All but the endpoints, then the endpoints: encoded messages that follow each other are one.
    bytes: Box<[u8]>,
    /// Where the endpoints begin: there are ten times as many, and fewer ask for them.
    endpoints_at: usize,
}

impl Held {
    fn new(mut service: Service) -> Self {
        let endpoints = Service { endpoints: std::mem::take(&mut service.endpoints), ..Service::default() };
        let mut bytes = service.encode_to_vec();
        let endpoints_at = bytes.len();
        bytes.extend(endpoints.encode_to_vec());
        Self { bytes: bytes.into(), endpoints_at }
    }

    fn without_endpoints(&self) -> Service {
        read(&self.bytes[..self.endpoints_at])
    }

    fn whole(&self) -> Service {
        read(&self.bytes)
    }
}

fn read(bytes: &[u8]) -> Service {
    let service = Service::decode(bytes);
    // They were encoded here.
    debug_assert!(service.is_ok(), "{service:?}");
    service.unwrap_or_default()
}

/// Whose an address is.
#[derive(Clone, Debug)]
struct Pod {
    /// Namespace and name.
    pod: Box<str>,
    node: Arc<str>,
}

impl View {
    /// A resource is there, or changed.
    pub(crate) fn put(&mut self, resource: Resource) {
        self.remove(&resource.name);
        let name = resource.name;
        match resource.body {
            Some(Body::Address(address)) => {
                if let Some(ip) = address_of(&address.address) {
                    let node = self.node_name(&address.node);
                    self.pods.insert(ip, Pod { pod: address.pod.into(), node });
                    self.addresses.insert(name, ip);
                }
            }
            Some(Body::Peer(peer)) => {
                for ip in peer.addresses.iter().filter_map(address_of) {
                    self.nodes.insert(ip, peer.node.clone());
                }
                self.peers.insert(name, peer);
            }
            Some(Body::Service(service)) => {
                self.index_service(&service);
                if is_outward(&service) {
                    self.outward.insert(name.clone());
                }
                self.services.insert(name, Held::new(service));
            }
            Some(Body::Object(object)) => {
                self.objects.insert(name, object);
            }
            None => {}
        }
    }

    /// A resource is gone. What is answered of a Service is without its endpoints.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Resource> {
        let body = if let Some(held) = self.services.remove(name) {
            let service = held.without_endpoints();
            self.unindex_service(&service);
            self.outward.remove(name);
            Body::Service(service)
        } else if let Some(object) = self.objects.remove(name) {
            Body::Object(object)
        } else if let Some(peer) = self.peers.remove(name) {
            for ip in peer.addresses.iter().filter_map(address_of) {
                self.nodes.remove(&ip);
            }
            Body::Peer(peer)
        } else {
            let ip = self.addresses.remove(name)?;
            Body::Address(address(ip, &self.pods.remove(&ip)?))
        };
        Some(Resource { name: name.to_owned(), body: Some(body) })
    }

    fn node_name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.node_names.get(name) {
            return known.clone();
        }
        let new: Arc<str> = name.into();
        self.node_names.insert(new.clone());
        new
    }

    fn index_service(&mut self, service: &Service) {
        for port in &service.ports {
            let (Ok(number), Ok(protocol)) = (u16::try_from(port.port), u8::try_from(port.protocol)) else {
                continue;
            };
            let named = Arc::new(weft_trace::Service {
                namespace: service.namespace.clone(),
                name: service.name.clone(),
                port: port.name.clone(),
            });
            for ip in addresses(service) {
                self.frontends.insert((ip, number, protocol), named.clone());
            }
            if let Ok(node_port @ 1..) = u16::try_from(port.node_port) {
                self.node_ports.insert((node_port, protocol), named);
            }
        }
    }

    fn unindex_service(&mut self, service: &Service) {
        for port in &service.ports {
            let (Ok(number), Ok(protocol)) = (u16::try_from(port.port), u8::try_from(port.protocol)) else {
                continue;
            };
            for ip in addresses(service) {
                self.frontends.remove(&(ip, number, protocol));
            }
            if let Ok(node_port) = u16::try_from(port.node_port) {
                self.node_ports.remove(&(node_port, protocol));
            }
        }
    }

    /// Everything.
    pub(crate) fn resources(&self) -> impl Iterator<Item = Resource> {
        self.resources_after(None)
    }

    /// What comes after a name, in the order of the names; everything, without one.
    pub(crate) fn resources_after(&self, name: Option<&str>) -> impl Iterator<Item = Resource> {
        // Each kind's names have a beginning of their own, so the kinds follow each other: they are in this order.
        let after = || (name.map_or(Unbounded, Excluded), Unbounded);
        let addresses = self
            .addresses
            .range::<str, _>(after())
            .filter_map(|(name, ip)| Some((name, Body::Address(address(*ip, self.pods.get(ip)?)))));
        let objects =
            self.objects.range::<str, _>(after()).map(|(name, it)| (name, Body::Object(it.clone())));
        let peers = self.peers.range::<str, _>(after()).map(|(name, it)| (name, Body::Peer(it.clone())));
        let services =
            self.services.range::<str, _>(after()).map(|(name, held)| (name, Body::Service(held.whole())));
        let all = addresses.chain(objects).chain(peers).chain(services);
        all.map(|(name, body)| Resource { name: name.clone(), body: Some(body) })
    }

    /// The names of everything.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        let names = self.services.keys().chain(self.peers.keys());
        names.chain(self.objects.keys()).chain(self.addresses.keys())
    }

    /// One object of the API.
    pub(crate) fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<&Bytes> {
        self.objects.get(&object_name(kind, namespace, name)).map(|object| &object.json)
    }

    /// All objects of a kind.
    pub(crate) fn objects<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a ApiObject> + 'a {
        self.objects.values().filter(move |object| object.kind == kind)
    }

    /// One Service, without its endpoints.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<Service> {
        self.services.get(&service_name(namespace, name)).map(Held::without_endpoints)
    }

    /// A Service as it came.
    pub(crate) fn with_endpoints(&self, namespace: &str, name: &str) -> Option<Service> {
        self.services.get(&service_name(namespace, name)).map(Held::whole)
    }

    /// The Service at an address and port, as [`Names`] has it.
    pub(crate) fn service_at(&self, destination: SocketAddr, protocol: u8) -> Option<weft_trace::Service> {
        Names::service(self, destination, protocol)
    }

    /// An address of a Pod `NS/NAME`, IPv4 before IPv6, and the node it runs on.
    pub(crate) fn place_of(&self, pod: &str) -> Option<(IpAddr, String)> {
        let places = self.pods.iter().filter(|(_, found)| *found.pod == *pod);
        places.map(|(ip, found)| (*ip, (*found.node).to_owned())).min()
    }

    /// All addresses of a Pod `NS/NAME`.
    pub(crate) fn addresses_of(&self, pod: &str) -> Vec<IpAddr> {
        self.pods.iter().filter(|(_, found)| *found.pod == *pod).map(|(ip, _)| *ip).collect()
    }

    /// A node, as the others see it.
    pub(crate) fn peer(&self, node: &str) -> Option<&Peer> {
        self.peers.get(&format!("peer/{node}"))
    }

    /// All nodes.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// What cluster DNS must know of each Service.
    pub(crate) fn records(&self) -> impl Iterator<Item = DnsService> {
        self.services.values().map(|held| {
            let service = held.without_endpoints();
            // Only a headless Service's endpoints have names through it.
            resolve::record(&if service.cluster_ips.is_empty() { held.whole() } else { service })
        })
    }

    /// The Services that are announced, or answer health checks, whole.
    pub(crate) fn outward(&self) -> impl Iterator<Item = Service> {
        self.outward.iter().filter_map(|name| self.services.get(name)).map(Held::whole)
    }

    /// The Services of a namespace, without their endpoints.
    pub(crate) fn services_of(&self, namespace: &str) -> impl Iterator<Item = Service> {
        let names = service_name(namespace, "");
        let from = self.services.range::<str, _>((Included(names.as_str()), Unbounded));
        from.take_while(move |(name, _)| name.starts_with(&names)).map(|(_, held)| held.without_endpoints())
    }
}

fn address(ip: IpAddr, pod: &Pod) -> Address {
    let bytes = match ip {
        IpAddr::V4(v4) => Bytes::copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => Bytes::copy_from_slice(&v6.octets()),
    };
    Address { address: bytes, pod: pod.pod.clone().into(), node: (*pod.node).to_owned() }
}

fn service_name(namespace: &str, name: &str) -> String {
    format!("service/{namespace}/{name}")
}

impl Names for View {
    fn pod(&self, address: IpAddr) -> Option<(String, String)> {
        let found = self.pods.get(&address.to_canonical())?;
        Some((found.pod.clone().into(), (*found.node).to_owned()))
    }

    fn node(&self, address: IpAddr) -> Option<String> {
        self.nodes.get(&address.to_canonical()).cloned()
    }

    fn service(&self, destination: SocketAddr, protocol: u8) -> Option<weft_trace::Service> {
        let ip = destination.ip().to_canonical();
        if let Some(service) = self.frontends.get(&(ip, destination.port(), protocol)) {
            return Some(weft_trace::Service::clone(service));
        }
        // A NodePort is on every node's addresses, and on loopback of the node itself.
        (ip.is_loopback() || self.nodes.contains_key(&ip))
            .then(|| self.node_ports.get(&(destination.port(), protocol)))
            .flatten()
            .map(|service| weft_trace::Service::clone(service))
    }
}

fn is_outward(service: &Service) -> bool {
    !service.announcer.is_empty() || service.health_check_node_port != 0
}

/// The addresses of a Service, inside and outside.
fn addresses(service: &Service) -> impl Iterator<Item = IpAddr> {
    service.cluster_ips.iter().filter_map(address_of).chain(outside_addresses(service))
}

/// The name of an object within the view.
pub(crate) fn object_name(kind: &str, namespace: &str, name: &str) -> String {
    format!("object/{kind}/{namespace}/{name}")
}

/// An address of the link, 4 or 16 bytes in network order.
pub(crate) fn address_of(bytes: &Bytes) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(&bytes[..]) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(&bytes[..]).ok().map(|v6| IpAddr::from(v6).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_link::message::{Endpoint, Port};

    fn web() -> Resource {
        Resource {
            name: "service/default/web".into(),
            body: Some(Body::Service(Service {
                namespace: "default".into(),
                name: "web".into(),
                cluster_ips: vec![Bytes::from_static(&[10, 96, 0, 7])],
                ports: vec![Port { name: "http".into(), protocol: 6, port: 80, node_port: 30080 }],
                load_balancer_ips: vec![Bytes::from_static(&[198, 51, 100, 9])],
                ..Default::default()
            })),
        }
    }

    #[test]
    fn a_service_is_found_by_cluster_address_and_node_port() {
        let mut view = View::default();
        view.put(web());
        view.put(Resource {
            name: "peer/node-1".into(),
            body: Some(Body::Peer(Peer {
                node: "node-1".into(),
                addresses: vec![Bytes::from_static(&[192, 0, 2, 1])],
                pod_cidrs: Vec::new(),
                ..Peer::default()
            })),
        });
        let found = |text: &str| Names::service(&view, text.parse().unwrap(), 6).map(|s| s.name);
        assert_eq!(found("10.96.0.7:80").as_deref(), Some("web"));
        assert_eq!(found("198.51.100.9:80").as_deref(), Some("web"));
        assert_eq!(found("192.0.2.1:30080").as_deref(), Some("web"));
        assert_eq!(found("127.0.0.1:30080").as_deref(), Some("web"));
        assert_eq!(found("198.51.100.1:30080"), None);
        assert_eq!(Names::service(&view, "10.96.0.7:80".parse().unwrap(), 17), None);
    }

    #[test]
    fn what_goes_takes_its_index_rows_along() {
        let mut view = View::default();
        view.put(web());
        view.put(Resource {
            name: "address/10.244.0.2".into(),
            body: Some(Body::Address(Address {
                address: Bytes::from_static(&[10, 244, 0, 2]),
                pod: "default/a".into(),
                node: "node-1".into(),
            })),
        });
        assert!(view.pod("10.244.0.2".parse().unwrap()).is_some());
        view.remove("address/10.244.0.2");
        view.remove("service/default/web");
        assert!(view.pod("10.244.0.2".parse().unwrap()).is_none());
        assert!(view.frontends.is_empty() && view.node_ports.is_empty());
    }

    #[test]
    fn everything_comes_out_as_it_came_in() {
        let Some(Body::Service(service)) = web().body else { panic!("no Service") };
        let endpoint = |last: u8| Endpoint {
            address: Bytes::copy_from_slice(&[10, 244, 1, last]),
            ports: [("http".to_owned(), 8080)].into(),
            node: "node-1".into(),
            pod: format!("default/web-{last}"),
            ready: true,
            ..Default::default()
        };
        let service = Service { endpoints: vec![endpoint(1), endpoint(2)], ..service };
        let object = ApiObject {
            kind: "Pod".into(),
            namespace: "default".into(),
            name: "a".into(),
            json: Bytes::from_static(b"{}"),
        };
        let address = |bytes: &'static [u8]| Address {
            address: Bytes::from_static(bytes),
            pod: "default/a".into(),
            node: "node-1".into(),
        };
        let peer = Peer { node: "node-2".into(), ..Default::default() };
        let mut all: Vec<Resource> = [
            ("service/default/web", Body::Service(service.clone())),
            ("peer/node-2", Body::Peer(peer)),
            ("object/Pod/default/a", Body::Object(object)),
            ("address/10.244.0.2", Body::Address(address(&[10, 244, 0, 2]))),
            ("address/fd00::", Body::Address(address(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))),
        ]
        .map(|(name, body)| Resource { name: name.into(), body: Some(body) })
        .into();
        let mut view = View::default();
        all.iter().rev().cloned().for_each(|resource| view.put(resource));
        let mut out: Vec<Resource> = view.resources().collect();
        let sort = |all: &mut Vec<Resource>| all.sort_by(|a, b| a.name.cmp(&b.name));
        sort(&mut all);
        sort(&mut out);
        assert_eq!(out, all);
        for (place, resource) in all.iter().enumerate() {
            let rest: Vec<Resource> = view.resources_after(Some(&resource.name)).collect();
            assert_eq!(rest, all[place + 1..], "after {}", resource.name);
        }
        assert_eq!(view.names().count(), 5);
        assert_eq!(view.with_endpoints("default", "web"), Some(service.clone()));
        assert_eq!(view.service("default", "web"), Some(Service { endpoints: Vec::new(), ..service }));
        let (web, other) = ("service/default/web", "service/default-2/web");
        view.put(Resource { name: other.into(), ..all.iter().find(|it| it.name == web).unwrap().clone() });
        assert_eq!((view.services_of("default").count(), view.services_of("def").count()), (1, 0));
        view.remove(other);
        for resource in &all {
            assert_eq!(view.remove(&resource.name).map(|gone| gone.name), Some(resource.name.clone()));
        }
        assert!(
            view.outward.is_empty()
                && view.resources().next().is_none()
                && view.pods.is_empty()
                && view.frontends.is_empty()
        );
    }
}
