//! Ports of the node that lead to its Pods, as rows of Services with one backend: what the CNI plugin `portmap` does by
//! iptables. Pure.
//!
//! A port without an address of its own is at the node's address of each family the Pod has, and at the loopback address for
//! the node's own processes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::desired::{Endpoint, Protocol, Service, ServiceName, ServicePort, ServiceType};
use crate::pods::PodLink;

/// A port of the node that leads to a Pod (`hostPort`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// Protocol.
    pub protocol: Protocol,
    /// The address it is at (`hostIP`); `None`, or unspecified: all of the node's.
    pub ip: Option<IpAddr>,
    /// Port of the node, host byte order.
    pub port: u16,
    /// Port of the Pod, host byte order.
    pub to: u16,
}

/// What stands for a Pod's host ports among the Services: one of them for all addresses of the node, and one for each
/// address that ports name.
pub(crate) fn services(pod: &PodLink, config: &Config) -> Vec<Service> {
    let mut by_address: BTreeMap<(Option<IpAddr>, bool), Service> = BTreeMap::new();
    for port in &pod.host_ports {
        for ip in &pod.ips {
            let v6 = ip.is_ipv6();
            let at = port.ip.map(|at| at.to_canonical());
            let named = at.filter(|at| !at.is_unspecified());
            if at.is_some_and(|at| at.is_ipv6() != v6) {
                continue;
            }
            let service = by_address.entry((named, v6)).or_insert_with(|| empty(pod, named, v6, config));
            service.ports.push(ServicePort {
                name: String::new(),
                protocol: port.protocol,
                port: port.port,
                node_port: 0,
                endpoints: vec![Endpoint::ready(*ip, port.to, &config.node.name)],
            });
        }
    }
    by_address.into_values().collect()
}

fn empty(pod: &PodLink, named: Option<IpAddr>, v6: bool, config: &Config) -> Service {
    let (name, all) = match named {
        Some(ip) => (format!("{}@{ip}", pod.name), vec![ip]),
        None => {
            let loopback = if v6 { IpAddr::from(Ipv6Addr::LOCALHOST) } else { Ipv4Addr::LOCALHOST.into() };
            let name = if v6 { format!("{}@v6", pod.name) } else { pod.name.clone() };
            (name, config.node_address(v6).into_iter().chain([loopback]).collect())
        }
    };
    let (cluster_ips, external_ips) = all.into_iter().partition(IpAddr::is_loopback);
    Service {
        name: ServiceName::of_pod(&pod.namespace, &name),
        kind: ServiceType::HostPort,
        cluster_ips,
        external_ips,
        ..Service::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Node;
    use crate::rows::wanted;

    fn rows(host_ports: Vec<HostPort>) -> Vec<(String, u16, u8, u32, u16)> {
        let ips = ["10.244.1.5", "fd00:244:1::5"].map(|ip| ip.parse().expect("an address")).into();
        let pod = PodLink {
            namespace: "default".into(),
            name: "web-0".into(),
            ips,
            host_ports,
            ..PodLink::default()
        };
        let addresses = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().expect("an address")).into();
        let node = Node { name: "node-1".into(), addresses, pod_cidrs: Vec::new(), ..Node::default() };
        let config = Config::new(node, "/nowhere".into());
        let all = services(&pod, &config);
        assert!(all.iter().all(|service| service.name.is_of_pod()));
        let rows = all.iter().flat_map(|service| wanted(service, "node-1"));
        let words = rows.map(|row| {
            assert_eq!(row.backends.len(), 1, "{row:?}");
            let place = row.backends[0].0;
            assert_eq!(place.ip.is_ipv6(), row.key.address.ip().is_ipv6(), "{row:?}");
            (row.key.address.ip().to_string(), row.key.port.get(), row.key.protocol, row.flags, place.port)
        });
        let mut words: Vec<_> = words.collect();
        words.sort();
        words
    }

    fn port(ip: Option<&str>) -> HostPort {
        let ip = ip.map(|ip| ip.parse().expect("an address"));
        HostPort { protocol: Protocol::Udp, ip, port: 8053, to: 53 }
    }

    #[test]
    fn a_port_is_at_all_addresses_of_the_node_and_on_its_loopback() {
        use weft_dataplane_abi::service::SERVICE_OUTWARD;
        let row = |ip: &str, flags| (ip.to_owned(), 8053, 17, flags, 53);
        let everywhere = rows(vec![port(None)]);
        assert_eq!(
            everywhere,
            [
                row("127.0.0.1", 0),
                row("192.0.2.1", SERVICE_OUTWARD),
                row("2001:db8::1", SERVICE_OUTWARD),
                row("::1", 0)
            ]
        );
        assert_eq!(rows(vec![port(Some("0.0.0.0"))]), everywhere[..2]);
        assert_eq!(rows(vec![port(Some("::"))]), everywhere[2..]);
    }

    #[test]
    fn a_port_at_an_address_is_there_alone() {
        use weft_dataplane_abi::service::SERVICE_OUTWARD;
        assert_eq!(
            rows(vec![port(Some("198.51.100.7")), port(Some("127.0.0.1"))]),
            [
                ("127.0.0.1".to_owned(), 8053, 17, 0, 53),
                ("198.51.100.7".to_owned(), 8053, 17, SERVICE_OUTWARD, 53)
            ]
        );
    }
}
