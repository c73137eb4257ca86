//! What the cluster's names stand for: a table of Services, changed one at a time. It must not know the wire.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// A Service as DNS sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsService {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Cluster addresses; none for headless and ExternalName.
    pub cluster_ips: Box<[IpAddr]>,
    /// Ports of the Service.
    pub ports: Box<[DnsPort]>,
    /// Endpoints.
    pub endpoints: Box<[DnsEndpoint]>,
    /// CNAME target, for an ExternalName Service.
    pub external_name: Option<String>,
    /// Has no cluster address: its name stands for its endpoints.
    pub headless: bool,
    /// Endpoints that are not ready are answered too.
    pub publish_not_ready: bool,
}

impl DnsService {
    /// Namespace and name.
    fn owner(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    /// The addresses that have a name by it.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.cluster_ips.iter().copied().chain(self.endpoints.iter().map(|end| end.address))
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsPort {
    /// Name; unnamed ports have no SRV record.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port on the cluster address.
    pub port: u16,
}

/// The protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The label of SRV names: `_tcp`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "_tcp",
            Self::Udp => "_udp",
            Self::Sctp => "_sctp",
        }
    }
}

/// An endpoint of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsEndpoint {
    /// Address.
    pub address: IpAddr,
    /// Its own name within the Service; empty: made from the address.
    pub hostname: String,
    /// Pod behind it, `NS/NAME`; empty: none.
    pub pod: String,
    /// Takes new connections.
    pub ready: bool,
    /// Port at the endpoint by the Service port's name.
    pub ports: Vec<(String, u16)>,
}

impl DnsEndpoint {
    /// The endpoint's label within the Service: its hostname, or its address with dashes.
    pub fn label(&self) -> String {
        if self.hostname.is_empty() { dashed(self.address) } else { self.hostname.to_ascii_lowercase() }
    }
}

/// An address as a DNS label: `10-244-0-7`, `fd00-244--7`.
pub fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The reverse of [`dashed`].
pub fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse().ok().map(IpAddr::V4);
    v4.or_else(|| label.replace('-', ":").parse().ok().map(IpAddr::V6))
}

/// All Services of the cluster. Bounded by their number.
#[derive(Clone, Debug)]
pub struct Records {
    domain: String,
    services: HashMap<String, BTreeMap<String, Arc<DnsService>>>,
    /// Who gives an address names, in the order of the Services: mostly one.
    reverse: HashMap<IpAddr, Vec<Reverse>>,
    serial: u32,
}

/// A Service that gives an address a name.
#[derive(Clone, Debug)]
struct Reverse {
    service: Arc<DnsService>,
    /// The label within the Service, for an endpoint's address.
    label: Option<Box<str>>,
}

impl Reverse {
    fn owner(&self) -> (&str, &str) {
        self.service.owner()
    }

    /// Without the cluster domain.
    fn name(&self) -> String {
        let (namespace, name) = self.owner();
        match &self.label {
            None => format!("{name}.{namespace}.svc"),
            Some(label) => format!("{label}.{name}.{namespace}.svc"),
        }
    }
}

impl Records {
    /// An empty table of a cluster domain, for example `cluster.local`.
    pub fn new(domain: &str) -> Self {
        Self {
            domain: domain.trim_matches('.').to_ascii_lowercase(),
            services: HashMap::new(),
            reverse: HashMap::new(),
            serial: 1,
        }
    }

    /// The cluster domain, lower case, without a final dot.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Raised with every change; the serial of the zone.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Sets a Service. One that is there already is replaced.
    pub fn put(&mut self, service: DnsService) {
        self.remove(&service.namespace, &service.name);
        let service = Arc::new(service);
        let clusters = service.cluster_ips.iter().map(|ip| (*ip, None));
        let ends = service.endpoints.iter().map(|end| (end.address, Some(end.label().into())));
        for (address, label) in clusters.chain(ends) {
            let all = self.reverse.entry(address).or_insert_with(|| Vec::with_capacity(1));
            if let Err(place) = all.binary_search_by(|other| other.owner().cmp(&service.owner())) {
                all.insert(place, Reverse { service: service.clone(), label });
            }
        }
        let namespace = self.services.entry(service.namespace.clone()).or_default();
        namespace.insert(service.name.clone(), service);
    }

    /// Removes a Service, if it is there.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        self.serial = self.serial.wrapping_add(1);
        let Some(services) = self.services.get_mut(namespace) else { return };
        let removed = services.remove(name);
        if services.is_empty() {
            self.services.remove(namespace);
        }
        for address in removed.iter().flat_map(|service| service.addresses()) {
            if let Some(all) = self.reverse.get_mut(&address) {
                all.retain(|other| other.owner() != (namespace, name));
                if all.is_empty() {
                    self.reverse.remove(&address);
                }
            }
        }
    }

    /// Removes every Service.
    pub fn clear(&mut self) {
        self.serial = self.serial.wrapping_add(1);
        self.services.clear();
        self.reverse.clear();
    }

    /// A Service by name.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Arc<DnsService>> {
        self.services.get(namespace)?.get(name)
    }

    /// Whether any Service is in the namespace.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.services.contains_key(namespace)
    }

    /// The names of an address, without the cluster domain, for example `web.default.svc`.
    pub fn names_of(&self, address: IpAddr) -> impl Iterator<Item = String> {
        self.reverse.get(&address).into_iter().flatten().map(Reverse::name)
    }

    /// How many Services there are.
    pub fn len(&self) -> usize {
        self.services.values().map(BTreeMap::len).sum()
    }

    /// Whether there is no Service.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, ip: &str, endpoint: &str) -> DnsService {
        DnsService {
            namespace: "default".into(),
            name: name.into(),
            cluster_ips: [ip.parse().unwrap()].into(),
            endpoints: [DnsEndpoint {
                address: endpoint.parse().unwrap(),
                hostname: String::new(),
                pod: String::new(),
                ready: true,
                ports: vec![],
            }]
            .into(),
            ..DnsService::default()
        }
    }

    #[test]
    fn reverse_names_follow_the_services() {
        let mut records = Records::new("Cluster.Local.");
        assert_eq!(records.domain(), "cluster.local");
        records.put(service("a", "10.96.0.1", "10.244.0.1"));
        records.put(service("b", "10.96.0.2", "10.244.0.1"));
        let names =
            |records: &Records, ip: &str| -> Vec<String> { records.names_of(ip.parse().unwrap()).collect() };
        assert_eq!(names(&records, "10.96.0.1"), ["a.default.svc"]);
        assert_eq!(names(&records, "10.244.0.1"), ["10-244-0-1.a.default.svc", "10-244-0-1.b.default.svc"]);
        records.put(service("a", "10.96.0.9", "10.244.0.2"));
        assert!(names(&records, "10.96.0.1").is_empty());
        assert_eq!(names(&records, "10.244.0.1"), ["10-244-0-1.b.default.svc"]);
        let serial = records.serial();
        records.remove("default", "a");
        records.remove("default", "b");
        assert!(records.is_empty() && !records.has_namespace("default") && records.reverse.is_empty());
        assert!(records.serial() > serial);
    }

    #[test]
    fn addresses_are_labels_and_back() {
        for text in ["10.244.0.7", "fd00:244::7", "::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(undashed(&dashed(address)), Some(address));
        }
        assert_eq!(undashed("web"), None);
    }
}
