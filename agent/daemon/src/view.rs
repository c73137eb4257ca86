//! What this node knows of the cluster: the link's resources, and who answers for an address. Pure.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use weft_link::message::{ApiObject, Peer, Resource, Service, resource::Body};
use weft_trace::Names;

use crate::translate::outside_addresses;

/// The committed view.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    resources: BTreeMap<String, Resource>,
    pods: HashMap<IpAddr, (String, String)>,
    nodes: HashMap<IpAddr, String>,
    frontends: HashMap<(IpAddr, u16, u8), weft_trace::Service>,
    node_ports: HashMap<(u16, u8), weft_trace::Service>,
}

impl View {
    /// A resource is there, or changed.
    pub(crate) fn put(&mut self, resource: Resource) {
        self.remove(&resource.name.clone());
        self.index(&resource);
        self.resources.insert(resource.name.clone(), resource);
    }

    /// A resource is gone.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Resource> {
        let resource = self.resources.remove(name)?;
        match &resource.body {
            Some(Body::Address(address)) => {
                address_of(&address.address).and_then(|ip| self.pods.remove(&ip));
            }
            Some(Body::Peer(peer)) => {
                peer.addresses.iter().filter_map(address_of).for_each(|ip| {
                    self.nodes.remove(&ip);
                });
            }
            Some(Body::Service(service)) => self.unindex_service(service),
            Some(Body::Object(_)) | None => {}
        }
        Some(resource)
    }

    fn index(&mut self, resource: &Resource) {
        match &resource.body {
            Some(Body::Address(address)) => {
                if let Some(ip) = address_of(&address.address) {
                    self.pods.insert(ip, (address.pod.clone(), address.node.clone()));
                }
            }
            Some(Body::Peer(peer)) => {
                for ip in peer.addresses.iter().filter_map(address_of) {
                    self.nodes.insert(ip, peer.node.clone());
                }
            }
            Some(Body::Service(service)) => self.index_service(service),
            Some(Body::Object(_)) | None => {}
        }
    }

    fn index_service(&mut self, service: &Service) {
        for port in &service.ports {
            let (Ok(number), Ok(protocol)) = (u16::try_from(port.port), u8::try_from(port.protocol)) else {
                continue;
            };
            let named = weft_trace::Service {
                namespace: service.namespace.clone(),
                name: service.name.clone(),
                port: port.name.clone(),
            };
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

    /// Everything, in the order of the names.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.resources.values()
    }

    /// One object of the API.
    pub(crate) fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<&Bytes> {
        match &self.resources.get(&object_name(kind, namespace, name))?.body {
            Some(Body::Object(object)) => Some(&object.json),
            _ => None,
        }
    }

    /// All objects of a kind.
    pub(crate) fn objects<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a ApiObject> + 'a {
        self.resources.values().filter_map(move |resource| match &resource.body {
            Some(Body::Object(object)) if object.kind == kind => Some(object),
            _ => None,
        })
    }

    /// One Service.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        match &self.resources.get(&format!("service/{namespace}/{name}"))?.body {
            Some(Body::Service(service)) => Some(service),
            _ => None,
        }
    }

    /// A node, as the others see it.
    pub(crate) fn peer(&self, node: &str) -> Option<&Peer> {
        match &self.resources.get(&format!("peer/{node}"))?.body {
            Some(Body::Peer(peer)) => Some(peer),
            _ => None,
        }
    }

    /// All Services.
    pub(crate) fn services(&self) -> impl Iterator<Item = &Service> {
        const PREFIX: &str = "service/";
        let named =
            self.resources.range(PREFIX.to_owned()..).take_while(|(name, _)| name.starts_with(PREFIX));
        named.filter_map(|(_, resource)| match &resource.body {
            Some(Body::Service(service)) => Some(service),
            _ => None,
        })
    }
}

impl Names for View {
    fn pod(&self, address: IpAddr) -> Option<(String, String)> {
        self.pods.get(&address.to_canonical()).cloned()
    }

    fn node(&self, address: IpAddr) -> Option<String> {
        self.nodes.get(&address.to_canonical()).cloned()
    }

    fn service(&self, destination: SocketAddr, protocol: u8) -> Option<weft_trace::Service> {
        let ip = destination.ip().to_canonical();
        if let Some(service) = self.frontends.get(&(ip, destination.port(), protocol)) {
            return Some(service.clone());
        }
        // A NodePort is on every node's addresses, and on loopback of the node itself.
        (ip.is_loopback() || self.nodes.contains_key(&ip))
            .then(|| self.node_ports.get(&(destination.port(), protocol)).cloned())
            .flatten()
    }
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
    use weft_link::message::{Address, Port};

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
}
