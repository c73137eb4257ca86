//! What comes from outside gets the same backend on every node, whatever ids its rows have there, and keeps it when others
//! come and go.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/frame.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame;
#[path = "packet/object.rs"]
mod object;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bench::{Bench, NODE, OUTSIDE, REDIRECT};
use frame::{SYN, ends, tcp};
use weft_dataplane::Capacities;
use weft_dataplane::desired::{Change, Endpoint, Protocol, Service, ServiceName, ServicePort};
use weft_dataplane::plan::Planner;
use weft_dataplane::rows::Rows;
use weft_dataplane_abi::hook::Hook;

const NODE_PORT: u16 = 30_080;
const FLOWS: u16 = 300;

/// One node: its planner, and its tables in the kernel.
struct Node {
    bench: Bench,
    planner: Planner,
}

impl Node {
    /// One on which so many other Services were there before.
    fn new(others: u8) -> Option<Self> {
        let mut bench = Bench::new()?;
        bench.source_ports = (50_000, 65_535);
        bench.turn_epoch();
        let planner = Planner::adopt("node-1", Capacities::default(), Rows::default(), &HashMap::new());
        let mut node = Self { bench, planner };
        for number in 0..others {
            node.put(&service(&format!("other-{number}"), 31_000 + u16::from(number), &[number], 0));
        }
        Some(node)
    }

    fn put(&mut self, service: &Service) {
        self.bench.planned(&mut self.planner, &Change::PutService(Arc::new(service.clone())));
    }

    /// Who gets each of the clients' flows, which begin anew.
    fn chosen(&mut self, source: Ipv4Addr) -> BTreeMap<u16, Ipv4Addr> {
        let chosen = (0..FLOWS)
            .map(|n| {
                let port = 2_000 + n;
                let packet = tcp((source, port, NODE, NODE_PORT), SYN);
                let (verdict, after) = self.bench.send(Hook::FromUplink, &packet);
                assert_eq!(verdict, REDIRECT);
                (port, ends(&after).2)
            })
            .collect();
        self.bench.forget_flows();
        chosen
    }
}

/// A Service whose backends are far away.
fn service(name: &str, node_port: u16, backends: &[u8], affinity_seconds: u32) -> Service {
    let endpoint = |n: &u8| Endpoint::ready(IpAddr::from([10, 244, 2, *n]), 8080, "node-2");
    Service {
        name: ServiceName::new("default", name),
        cluster_ips: vec![IpAddr::from([10, 96, (node_port >> 8) as u8, node_port as u8])],
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port,
            endpoints: backends.iter().map(endpoint).collect(),
        }],
        affinity_seconds,
        ..Service::default()
    }
}

fn web(backends: &[u8], affinity_seconds: u32) -> Service {
    service("web", NODE_PORT, backends, affinity_seconds)
}

#[test]
fn nodes_agree_and_few_flows_move() {
    let (Some(mut one), Some(mut other)) = (Node::new(0), Node::new(9)) else { return };
    let all = [11, 12, 13, 14, 15, 16, 17, 18];
    one.put(&web(&all, 0));
    // The other had fewer first, so that its ids are in another order.
    other.put(&web(&all[3..], 0));
    other.put(&web(&all, 0));
    let before = one.chosen(OUTSIDE);
    assert_eq!(before, other.chosen(OUTSIDE));
    for backend in all {
        let share = before.values().filter(|ip| **ip == Ipv4Addr::new(10, 244, 2, backend)).count();
        assert!((15..=70).contains(&share), "{backend} has {share} of {FLOWS}");
    }
    let left: Vec<u8> = all.into_iter().filter(|n| *n != 13).collect();
    one.put(&web(&left, 0));
    let after = one.chosen(OUTSIDE);
    let gone = Ipv4Addr::new(10, 244, 2, 13);
    let moved = before.iter().filter(|(port, ip)| **ip != gone && after[port] != **ip).count();
    assert!(moved < usize::from(FLOWS) / 10, "{moved} of {FLOWS}");
    assert!(after.values().all(|ip| *ip != gone));
}

#[test]
fn with_affinity_a_client_has_one_backend_on_every_node() {
    let (Some(mut one), Some(mut other)) = (Node::new(0), Node::new(4)) else { return };
    let service = web(&[11, 12, 13, 14, 15], 600);
    one.put(&service);
    other.put(&service);
    let clients = (1..=20).map(|n| Ipv4Addr::new(203, 0, 113, n));
    let mut backends = Vec::new();
    for client in clients {
        let chosen = one.chosen(client);
        let first = chosen[&2_000];
        assert!(chosen.values().all(|ip| *ip == first));
        assert_eq!(chosen, other.chosen(client));
        backends.push(first);
    }
    backends.sort();
    backends.dedup();
    assert!(backends.len() > 2, "{backends:?}");
}

#[test]
fn many_backends_have_the_longer_table() {
    let (Some(mut one), Some(mut other)) = (Node::new(0), Node::new(2)) else { return };
    let many: Vec<u8> = (1..=200).collect();
    one.put(&web(&many[..100], 0));
    one.put(&web(&many, 0));
    other.put(&web(&many, 0));
    assert_eq!(one.chosen(OUTSIDE), other.chosen(OUTSIDE));
    one.put(&web(&many[..3], 0));
    other.put(&web(&many[..3], 0));
    assert_eq!(one.chosen(OUTSIDE), other.chosen(OUTSIDE));
}
