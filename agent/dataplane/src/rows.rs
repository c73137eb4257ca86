//! Map rows as this crate holds them, and what one Service, peer or node means in rows. Pure: ids are arguments.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::backend::Backend;
use weft_dataplane_abi::endpoint::{Endpoint as EndpointRow, NETNS_NODE, Netns};
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::route::{
    NODE_SELF, Node as NodeRow, ROUTE_HOST, ROUTE_LOCKED, ROUTE_NATIVE, ROUTE_NOWHERE, ROUTE_SERVICE,
    ROUTE_TUNNEL, Route, RouteKey,
};
use weft_dataplane_abi::service::{
    SCOPE_CLUSTER, SCOPE_INSIDE, SCOPE_NODE, SCOPE_V6, SERVICE_LOCAL, SERVICE_OUTWARD, SERVICE_SOURCES,
    SOURCE_KEY_BITS, Service as ServiceValue, ServiceKey, SourceKey, SourceRange,
};

use crate::choices;
use crate::config::Config;
use crate::desired::{Endpoint, Peer, Service, ServicePort, ServiceType, TunnelEnd};
use crate::reach::Reach;

/// A Service row together with its slots: `backends[i]` is the backend of slot `i`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRow {
    /// The row; its `backend_count` is the length of `backends`.
    pub value: ServiceValue,
    /// Ids of backends, by slot.
    pub backends: Vec<u32>,
    /// Map `sources`: the ranges it lets in, each once.
    pub sources: Box<[RouteKey]>,
    /// Whether this agent has filled its table of choices: one before it may have been killed on the way.
    pub filled: bool,
}

/// A set of rows: all of the kernel's, or those of one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Maps `services` and `slots`.
    pub services: HashMap<ServiceKey, ServiceRow>,
    /// Map `backends`: only rows that stand for a ready backend.
    pub backends: HashMap<u32, Backend>,
    /// Map `routes`.
    pub routes: HashMap<RouteKey, Route>,
    /// Map `nodes`.
    pub nodes: HashMap<Address, NodeRow>,
    /// Map `endpoints`.
    pub endpoints: HashMap<Address, EndpointRow>,
    /// Map `netns`.
    pub netns: HashMap<u64, Netns>,
}

/// Where an endpoint is: what distinguishes the backends of one Service row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Address.
    pub ip: IpAddr,
    /// Port, host byte order.
    pub port: u16,
}

/// One row a Service wants, before ids are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its key.
    pub key: ServiceKey,
    /// `SERVICE_*`.
    pub flags: u32,
    /// Seconds of affinity, 0 for none.
    pub affinity_seconds: u32,
    /// Its backends in slot order, each with the name of its node.
    pub backends: Vec<(Place, Arc<str>)>,
    /// The ranges it lets in, each once; only with [`SERVICE_SOURCES`].
    pub sources: Box<[RouteKey]>,
}

/// The rows a Service wants on the node called `local`. A headless Service wants none.
#[must_use]
pub fn wanted(service: &Service, local: &str) -> Vec<Wanted> {
    let mut rows = Vec::new();
    if service.cluster_ips.is_empty() && service.kind != ServiceType::HostPort {
        return rows;
    }
    let families =
        [false, true].into_iter().filter(|v6| service.cluster_ips.iter().any(|ip| ip.is_ipv6() == *v6));
    for port in &service.ports {
        let row = |front: Front, number: u16, inside: u8, only_local: bool| {
            let v6 = front.is_v6();
            Wanted {
                key: service_key(front, number, port.protocol.number(), inside),
                // Where nobody serves on any node, the policy is not what is in the way.
                flags: if only_local && !serving(port, v6, None).is_empty() { SERVICE_LOCAL } else { 0 },
                affinity_seconds: service.affinity_seconds,
                backends: serving(port, v6, only_local.then_some(local)),
                sources: Box::default(),
            }
        };
        rows.extend(
            service.cluster_ips.iter().map(|ip| row(Front::At(*ip), port.port, 0, service.internal_local)),
        );
        let outside = service.load_balancer_ips.iter().chain(&service.external_ips);
        let given = outside.map(|ip| (Front::At(*ip), port.port));
        let nodes = families.clone().filter(|_| port.node_port != 0);
        for (front, number) in given.chain(nodes.map(|v6| (Front::Nodes { v6 }, port.node_port))) {
            let mut outer = row(front, number, 0, service.external_local);
            if matches!(front, Front::At(_)) {
                outer.flags |= SERVICE_OUTWARD;
            }
            if let Some(ranges) = &service.source_ranges
                && matches!(front, Front::At(ip) if service.load_balancer_ips.contains(&ip))
            {
                outer.flags |= SERVICE_SOURCES;
                outer.sources = each_once(ranges);
            }
            outer.flags |= choices::flags(outer.backends.len());
            rows.push(outer);
            if service.external_local {
                // The policy is for the outside: Pods and nodes reach every backend there, as kube-proxy has it.
                rows.push(row(front, number, SCOPE_INSIDE, false));
            }
        }
    }
    rows
}

/// Where a Service row is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// At an address.
    At(IpAddr),
    /// At every node's address of a family.
    Nodes {
        /// IPv6.
        v6: bool,
    },
}

impl Front {
    /// Whether it is of IPv6.
    #[must_use]
    pub const fn is_v6(self) -> bool {
        match self {
            Self::At(ip) => ip.is_ipv6(),
            Self::Nodes { v6 } => v6,
        }
    }
}

/// The key of a Service row; `inside`: 0 or [`SCOPE_INSIDE`].
#[must_use]
pub fn service_key(front: Front, port: u16, protocol: u8, inside: u8) -> ServiceKey {
    let (address, scope) = match front {
        Front::At(ip) => (Address::from(ip), SCOPE_CLUSTER),
        Front::Nodes { v6: false } => (Address::ZERO, SCOPE_NODE),
        Front::Nodes { v6: true } => (Address::ZERO, SCOPE_NODE | SCOPE_V6),
    };
    ServiceKey { address, port: Be16::new(port), protocol, scope: scope | inside }
}

/// The endpoints that take connections: the ready ones, or, when there are none, those that terminate but still serve
/// (as Kubernetes does, KEP-1669). One that terminates is ready only where its Service publishes all. Of the ready ones of all
/// nodes the near ones, where that is known of each. Sorted, without doubles.
fn serving(port: &ServicePort, v6: bool, only_on: Option<&str>) -> Vec<(Place, Arc<str>)> {
    let pick = |takes: fn(&Endpoint) -> bool| {
        let all = port.endpoints.iter().filter(|endpoint| endpoint.ip.is_ipv6() == v6 && takes(endpoint));
        let near = if only_on.is_none() { near(&all) } else { None };
        let mut picked: Vec<_> = all
            .filter(|endpoint| only_on.is_none_or(|node| *endpoint.node == *node))
            .filter(|endpoint| near.is_none_or(|near| near(endpoint) == Some(true)))
            .map(|endpoint| (Place { ip: endpoint.ip, port: endpoint.port }, endpoint.node.clone()))
            .collect();
        picked.sort();
        picked.dedup_by_key(|(place, _)| *place);
        picked
    };
    let ready = pick(|endpoint| endpoint.ready);
    if ready.is_empty() { pick(|endpoint| endpoint.serving && endpoint.terminating) } else { ready }
}

/// What tells of an endpoint whether it is near.
type Near = fn(&Endpoint) -> Option<bool>;

/// What to choose among endpoints by: those meant for this node, else those meant for its zone, if there are any and if each
/// endpoint says whom it is meant for; else nothing, and all are as good (as kube-proxy does, KEP-2433 and KEP-3015).
fn near<'a>(all: &(impl Iterator<Item = &'a Endpoint> + Clone)) -> Option<Near> {
    let known: [Near; 2] = [|endpoint| endpoint.for_node, |endpoint| endpoint.for_zone];
    let holds =
        |near: &Near| all.clone().all(|e| near(e).is_some()) && all.clone().any(|e| near(e) == Some(true));
    known.into_iter().find(holds)
}

/// Ranges as rows name them, each once.
fn each_once(ranges: &[IpNet]) -> Box<[RouteKey]> {
    let mut ranges: Vec<IpNet> = ranges.iter().map(IpNet::trunc).collect();
    ranges.sort();
    ranges.dedup();
    ranges.into_iter().map(route_key).collect()
}

/// The key of a range in the table of a row's sources.
#[must_use]
pub fn source_key(service_id: u32, range: &RouteKey) -> SourceKey {
    SourceKey {
        prefix_bits: SOURCE_KEY_BITS + range.prefix_bits,
        range: SourceRange { service_id, address: range.address },
    }
}

/// The key of a range in the routing table.
#[must_use]
pub fn route_key(range: IpNet) -> RouteKey {
    let bits = u32::from(range.prefix_len());
    RouteKey {
        prefix_bits: if range.addr().is_ipv4() { bits + 96 } else { bits },
        address: Address::from(range.network()),
    }
}

/// The rows of another node: its addresses, and the ways to its Pods.
#[must_use]
pub fn of_peer(peer: &Peer, index: u32, reach: &Reach) -> Rows {
    let mut rows = Rows::default();
    for ip in &peer.addresses {
        rows.nodes.insert(Address::from(*ip), NodeRow { index, flags: 0 });
    }
    if let TunnelEnd::Inner(inner) = peer.end {
        rows.nodes.insert(Address::from(inner), NodeRow { index, flags: 0 });
    }
    for range in &peer.pod_cidrs {
        let (kind, tunnel) = match reach.way(peer, range) {
            Some((carriage, by)) if carriage.is_tunnel() => (ROUTE_TUNNEL, Address::from(by)),
            Some((_, by)) => (ROUTE_NATIVE, Address::from(by)),
            None if peer.end == TunnelEnd::Locked => (ROUTE_LOCKED, Address::ZERO),
            None => continue,
        };
        rows.routes.insert(route_key(*range), Route { kind, node_index: index, tunnel });
    }
    rows
}

/// The rows of this node itself; `cookie` is its network namespace's.
#[must_use]
pub fn of_this_node(config: &Config, index: u32, cookie: u64) -> Rows {
    let mut rows = Rows::default();
    let route = |kind| Route { kind, node_index: index, tunnel: Address::ZERO };
    for range in config.cluster_cidrs.iter().chain(&config.node.pod_cidrs) {
        rows.routes.insert(route_key(*range), route(ROUTE_NOWHERE));
    }
    for range in &config.service_cidrs {
        rows.routes.insert(route_key(*range), route(ROUTE_SERVICE));
    }
    let overlay = [false, true].into_iter().filter_map(|v6| config.overlay_address(v6));
    for ip in config.node.addresses.iter().copied().chain(overlay).chain(config.answered_here.iter().copied())
    {
        rows.routes.insert(route_key(IpNet::from(ip)), route(ROUTE_HOST));
    }
    for ip in config.node.addresses.iter().chain(config.inner_address().iter()) {
        rows.nodes.insert(Address::from(*ip), NodeRow { index, flags: NODE_SELF });
    }
    rows.netns.insert(cookie, Netns { kind: NETNS_NODE, reserved: 0 });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{Protocol, ServiceName};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn service() -> Service {
        let mut terminating = Endpoint::ready(ip("10.244.2.9"), 8080, "node-2");
        terminating.ready = false;
        terminating.terminating = true;
        Service {
            name: ServiceName::new("default", "web"),
            kind: ServiceType::NodePort,
            cluster_ips: vec![ip("10.96.0.7")],
            ports: vec![ServicePort {
                name: String::new(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: 30_080,
                endpoints: vec![
                    Endpoint::ready(ip("10.244.2.3"), 8080, "node-2"),
                    Endpoint::ready(ip("10.244.1.3"), 8080, "node-1"),
                    Endpoint::ready(ip("10.244.1.3"), 8080, "node-1"),
                    terminating,
                ],
            }],
            external_local: true,
            ..Service::default()
        }
    }

    #[test]
    fn a_node_port_service_wants_two_rows_and_local_means_local_for_the_outside() {
        let rows = wanted(&service(), "node-1");
        assert_eq!(rows.len(), 3);
        assert_eq!((rows[2].key.scope, rows[2].flags), (SCOPE_NODE | SCOPE_INSIDE, 0));
        assert_eq!(rows[2].backends.len(), 2, "all of them, for those inside");
        assert_eq!(rows[0].key.scope, SCOPE_CLUSTER);
        assert_eq!(rows[0].backends.len(), 2, "sorted, single, without the terminating one");
        assert_eq!(rows[1].key.scope, SCOPE_NODE);
        assert!(rows[1].key.address.is_zero());
        assert_eq!(rows[1].flags, SERVICE_LOCAL);
        assert_eq!(rows[1].backends.len(), 1);
        assert!(wanted(&service(), "node-3")[1].backends.is_empty());
        let mut nobody = service();
        nobody.ports[0].endpoints.clear();
        assert_eq!(wanted(&nobody, "node-1")[1].flags, 0, "nobody is refused for being elsewhere");
    }

    #[test]
    fn terminating_endpoints_serve_when_nobody_else_does() {
        let mut service = service();
        service.ports[0].endpoints.retain(|endpoint| endpoint.terminating);
        assert_eq!(wanted(&service, "node-1")[0].backends.len(), 1);
    }

    /// Each endpoint with what it says of nodes and zones, and how many are chosen here.
    fn chosen(said: &[(Option<bool>, Option<bool>)]) -> Vec<usize> {
        let endpoints = said.iter().enumerate().map(|(i, (for_node, for_zone))| {
            let ip = IpAddr::from([10, 244, 2, u8::try_from(i).expect("few")]);
            Endpoint { for_node: *for_node, for_zone: *for_zone, ..Endpoint::ready(ip, 8080, "node-2") }
        });
        let mut service = service();
        service.external_local = false;
        service.ports[0].endpoints = endpoints.collect();
        let rows = wanted(&service, "node-1");
        assert_eq!(rows[0].backends, rows[1].backends, "for the outside as inside");
        rows[0]
            .backends
            .iter()
            .map(|(place, _)| match place.ip {
                IpAddr::V4(ip) => usize::from(ip.octets()[3]),
                IpAddr::V6(_) => unreachable!("there are none"),
            })
            .collect()
    }

    #[test]
    fn near_endpoints_are_chosen_where_all_say_whom_they_are_for() {
        let (here, there, unsaid) = (Some(true), Some(false), None);
        assert_eq!(chosen(&[(unsaid, here), (unsaid, there), (unsaid, here)]), [0, 2]);
        assert_eq!(
            chosen(&[(unsaid, here), (unsaid, there), (unsaid, unsaid)]),
            [0, 1, 2],
            "one says nothing"
        );
        assert_eq!(chosen(&[(unsaid, there), (unsaid, there)]), [0, 1], "none is for here");
        assert_eq!(chosen(&[(here, here), (there, here), (there, there)]), [0], "the node before its zone");
        assert_eq!(chosen(&[(there, here), (there, here), (there, there)]), [0, 1], "none for the node");
        assert_eq!(chosen(&[(here, here), (unsaid, here), (there, there)]), [0, 1], "not all speak of nodes");
    }

    #[test]
    fn what_is_not_ready_says_nothing_of_nearness_and_the_last_ones_are_taken_wherever_they_are() {
        let mut service = service();
        for endpoint in &mut service.ports[0].endpoints {
            endpoint.for_zone = (!endpoint.terminating).then_some(*endpoint.node == *"node-1");
        }
        assert_eq!(wanted(&service, "node-1")[0].backends.len(), 1);
        service.ports[0].endpoints.retain(|endpoint| endpoint.terminating);
        assert_eq!(wanted(&service, "node-1")[0].backends.len(), 1);
    }

    #[test]
    fn outside_addresses_have_rows_as_node_ports_do() {
        let mut service = Service { external_ips: vec![ip("192.0.2.9")], ..service() };
        service.ports[0].node_port = 0;
        let rows = wanted(&service, "node-1");
        let outside: Vec<_> =
            rows.iter().filter(|row| row.key.address == Address::from(ip("192.0.2.9"))).collect();
        assert_eq!((rows.len(), outside.len()), (3, 2), "one for the outside, one for those inside");
        assert_eq!(
            (outside[0].key.scope, outside[0].flags, outside[0].backends.len()),
            (SCOPE_CLUSTER, SERVICE_LOCAL | SERVICE_OUTWARD, 1)
        );
        assert_eq!((outside[1].key.scope, outside[1].backends.len()), (SCOPE_CLUSTER | SCOPE_INSIDE, 2));
        assert_eq!(outside[0].key.port.get(), 80);
    }

    #[test]
    fn ranges_of_sources_guard_the_load_balancers_addresses_alone() {
        let range = |text: &str| text.parse::<IpNet>().expect("a range");
        let service = Service {
            external_ips: vec![ip("192.0.2.9")],
            load_balancer_ips: vec![ip("198.51.100.7")],
            source_ranges: Some(vec![
                range("203.0.113.9/24"),
                range("203.0.113.0/24"),
                range("2001:db8::/32"),
            ]),
            ..service()
        };
        let guarded: Vec<_> = wanted(&service, "node-1")
            .into_iter()
            .filter(|row| row.flags & SERVICE_SOURCES != 0 || !row.sources.is_empty())
            .collect();
        assert_eq!(guarded.len(), 1, "neither node ports nor external addresses nor those inside");
        assert_eq!(guarded[0].key.address, Address::from(ip("198.51.100.7")));
        assert_eq!(guarded[0].key.scope, SCOPE_CLUSTER);
        assert_eq!(guarded[0].flags, SERVICE_OUTWARD | SERVICE_SOURCES | SERVICE_LOCAL);
        let keys: Vec<_> = guarded[0].sources.iter().map(|range| source_key(5, range)).collect();
        let read: Vec<_> = keys.iter().map(|key| (key.prefix_bits, key.range.address.ip())).collect();
        assert_eq!(read, [(32 + 96 + 24, ip("203.0.113.0")), (32 + 32, ip("2001:db8::"))]);
        let nobody = Service { source_ranges: Some(Vec::new()), ..service };
        assert!(wanted(&nobody, "node-1").iter().any(|row| row.flags & SERVICE_SOURCES != 0));
    }

    #[test]
    fn a_terminating_endpoint_that_is_published_takes_connections() {
        let mut service = service();
        for endpoint in &mut service.ports[0].endpoints {
            endpoint.ready = true;
        }
        assert_eq!(wanted(&service, "node-1")[0].backends.len(), 3);
    }

    #[test]
    fn a_headless_service_has_no_rows() {
        let headless = Service { cluster_ips: Vec::new(), ..service() };
        assert!(wanted(&headless, "node-1").is_empty());
    }

    #[test]
    fn each_family_has_rows_and_backends_of_its_own() {
        let mut service = Service { cluster_ips: vec![ip("fd00:96::7"), ip("10.96.0.7")], ..service() };
        service.external_local = false;
        service.ports[0].endpoints.push(Endpoint::ready(ip("fd00:244:0:1::3"), 8080, "node-1"));
        let rows = wanted(&service, "node-1");
        let keys: Vec<_> = rows.iter().map(|row| (row.key.scope, row.backends.len())).collect();
        assert_eq!(
            keys,
            [(SCOPE_CLUSTER, 1), (SCOPE_CLUSTER, 2), (SCOPE_NODE, 2), (SCOPE_NODE | SCOPE_V6, 1)]
        );
        service.cluster_ips.pop();
        let rows = wanted(&service, "node-1");
        assert_eq!((rows.len(), rows[1].key.scope), (2, SCOPE_NODE | SCOPE_V6), "no IPv4, no port of it");
    }

    #[test]
    fn the_tunnel_to_a_node_is_its_ipv4_address() {
        let peer = Peer {
            name: "node-2".into(),
            addresses: vec![ip("2001:db8::2"), ip("192.168.0.2")],
            pod_cidrs: vec!["fd00:244:0:2::/64".parse().expect("a range")],
            ..Peer::default()
        };
        let rows = of_peer(&peer, 2, &Reach::default());
        assert_eq!(rows.nodes.len(), 2);
        let route = rows.routes.values().next().expect("a route");
        assert_eq!(route.tunnel.ip(), ip("192.168.0.2"));
    }

    #[test]
    fn where_nodes_encrypt_no_row_leads_to_an_address_of_the_underlay() {
        let mut peer = Peer {
            name: "node-2".into(),
            addresses: vec![ip("192.168.0.2")],
            pod_cidrs: vec!["10.244.2.0/24".parse().expect("a range")],
            end: TunnelEnd::Inner(ip("10.244.2.0")),
        };
        let rows = of_peer(&peer, 2, &Reach::default());
        assert!(
            rows.nodes.contains_key(&Address::from(ip("10.244.2.0"))),
            "the tunnel takes packets from it"
        );
        let routes: Vec<_> = rows.routes.values().map(|route| (route.kind, route.tunnel.ip())).collect();
        assert_eq!(routes, [(ROUTE_TUNNEL, ip("10.244.2.0"))]);
        peer.end = TunnelEnd::Locked;
        let rows = of_peer(&peer, 2, &Reach::default());
        let routes: Vec<_> = rows.routes.values().map(|route| (route.kind, route.tunnel)).collect();
        assert_eq!(routes, [(ROUTE_LOCKED, Address::ZERO)]);
    }

    #[test]
    fn v4_ranges_are_mapped() {
        let key = route_key("10.244.1.7/24".parse().expect("a range"));
        assert_eq!(key.prefix_bits, 120);
        assert_eq!(key.address.ip(), ip("10.244.1.0"));
    }
}
