//! The sum of the deltas is the full list, for every node and every history.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use weft_link::frame::Decoder;
use weft_link::message::resource::Body;
use weft_link::message::{StateFrame, state_frame::Frame};

use bytes::Bytes;

use super::*;
use crate::testing::object;
use crate::world::Change;

/// One node's view as an agent would hold it.
#[derive(Default)]
struct Agent {
    items: BTreeMap<String, Item>,
}

impl Agent {
    fn take(&mut self, delta: &Delta) {
        match delta {
            Delta::Put(item) => {
                self.items.insert(item.name().to_owned(), item.clone());
            }
            Delta::Remove(name) => {
                assert!(self.items.remove(name).is_some(), "{name} is removed but was never put");
            }
            Delta::TooLarge(name) => {
                self.items.remove(name);
            }
        }
    }

    fn body(&self, name: &str) -> Body {
        let mut decoder = Decoder::new();
        decoder.push(self.items[name].frame());
        match decoder.take::<StateFrame>().unwrap().unwrap().frame {
            Some(Frame::Put(resource)) => resource.body.unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

struct Cluster {
    world: World,
    views: NodeViews,
    agents: BTreeMap<String, Agent>,
}

impl Cluster {
    fn new() -> Self {
        let agents = ["n0", "n1"].map(|name| (name.to_owned(), Agent::default())).into();
        Self { world: World::new(), views: NodeViews::new(), agents }
    }

    fn change(&mut self, change: Change) -> usize {
        let applied = self.world.apply(change);
        let deltas = self.views.apply(&applied, &self.world);
        for (target, delta) in &deltas {
            for (name, agent) in &mut self.agents {
                if *target == Target::All || *target == Target::Node(name.clone()) {
                    agent.take(delta);
                }
            }
        }
        deltas.len()
    }

    fn check(&self) {
        for (name, agent) in &self.agents {
            let full = self.views.shared().chain(self.views.own(name, &self.world));
            let full: BTreeMap<String, Item> = full.map(|i| (i.name().to_owned(), i)).collect();
            assert_eq!(agent.items, full, "{name}");
        }
    }
}

fn put(value: Value) -> Change {
    Change::put(object(value), 1)
}

fn pod(i: u8, node: Option<u8>, ip: Option<u8>, config: u8, terminating: bool) -> Value {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("p{i}"), "namespace": "default" },
        "spec": {
            "containers": [{ "name": "c", "envFrom": [{ "configMapRef": { "name": format!("c{config}") } }] }],
            "volumes": [{ "name": "v", "projected": { "sources": [{ "secret": { "name": format!("s{config}") } }] } }],
        },
    });
    if let Some(node) = node {
        value["spec"]["nodeName"] = json!(format!("n{node}"));
    }
    if let Some(ip) = ip {
        value["status"] =
            json!({ "podIP": format!("10.244.0.{ip}"), "podIPs": [{ "ip": format!("10.244.0.{ip}") }] });
    }
    if terminating {
        value["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
    }
    value
}

fn slice(i: u8, service: u8, ips: &[u8], ready: bool) -> Value {
    let endpoints: Vec<Value> = ips
        .iter()
        .map(|ip| json!({ "addresses": [format!("10.244.0.{ip}")], "conditions": { "ready": ready }, "nodeName": "n1",
            "targetRef": { "kind": "Pod", "namespace": "default", "name": "p1" } }))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("e{i}"), "namespace": "default",
            "labels": { "kubernetes.io/service-name": format!("s{service}") },
        },
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }],
    })
}

fn step() -> impl Strategy<Value = Change> {
    let keyed =
        |kind: &'static Kind, name: String| Change::removed(kind, ObjectKey::namespaced("default", name), 1);
    prop_oneof![
        6 => (0..4u8, proptest::option::of(0..2u8), proptest::option::of(0..3u8), 0..2u8, any::<bool>())
            .prop_map(|(i, node, ip, config, going)| put(pod(i, node, ip, config, going))),
        2 => (0..4u8).prop_map(move |i| keyed(&kind::POD, format!("p{i}"))),
        2 => (0..2u8, 0..2u8).prop_map(|(i, data)| put(json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": format!("c{i}"), "namespace": "default" }, "data": { "k": data.to_string() } }))),
        1 => (0..2u8).prop_map(move |i| keyed(&kind::CONFIG_MAP, format!("c{i}"))),
        1 => (0..2u8).prop_map(|i| put(json!({ "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": format!("s{i}"), "namespace": "default" } }))),
        1 => (0..2u8).prop_map(move |i| keyed(&kind::SECRET, format!("s{i}"))),
        1 => Just(put(json!({ "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": "default", "namespace": "default" } }))),
        2 => (0..2u8, 80..82u16).prop_map(|(i, port)| put(json!({ "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": format!("s{i}"), "namespace": "default" },
            "spec": { "clusterIP": format!("10.96.1.{i}"), "ports": [{ "name": "http", "port": port }] } }))),
        1 => (0..2u8).prop_map(move |i| keyed(&kind::SERVICE, format!("s{i}"))),
        3 => (0..3u8, 0..2u8, proptest::collection::vec(0..4u8, 0..3), any::<bool>())
            .prop_map(|(i, service, ips, ready)| put(slice(i, service, &ips, ready))),
        1 => (0..3u8).prop_map(move |i| keyed(&kind::ENDPOINT_SLICE, format!("e{i}"))),
        2 => (0..2u8, 0..3u8).prop_map(|(i, cidr)| put(json!({ "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": format!("n{i}") }, "spec": { "podCIDRs": [format!("10.244.{cidr}.0/24")] },
            "status": { "addresses": [{ "type": "InternalIP", "address": format!("192.168.0.{i}") }] } }))),
        1 => (0..2u8).prop_map(|i| Change::removed(&kind::NODE, ObjectKey::cluster(format!("n{i}")), 1)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn deltas_add_up_to_the_full_list(steps in proptest::collection::vec(step(), 1..60)) {
        let mut cluster = Cluster::new();
        for change in steps {
            cluster.change(change);
            cluster.check();
        }
    }
}

#[test]
fn endpoints_of_all_slices_reach_every_node() {
    let mut cluster = Cluster::new();
    cluster.change(put(json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s0", "namespace": "default" },
        "spec": { "type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "sessionAffinity": "ClientIP",
            "externalTrafficPolicy": "Local",
            "ports": [{ "name": "http", "port": 80, "protocol": "UDP", "nodePort": 30080 }] } })));
    cluster.change(put(slice(0, 0, &[1, 2], true)));
    cluster.change(put(slice(1, 0, &[3], false)));
    cluster.check();
    let Body::Service(service) = cluster.agents["n0"].body("service/default/s0") else { panic!() };
    assert_eq!(service.cluster_ips, [Bytes::from_static(&[10, 96, 0, 7])]);
    assert_eq!((service.ports[0].protocol, service.ports[0].node_port), (17, 30080));
    assert_eq!((service.affinity_seconds, service.external_local), (10_800, true));
    let ends: Vec<_> =
        service.endpoints.iter().map(|e| (e.address[3], e.ready, e.serving, e.ports["http"])).collect();
    assert_eq!(ends, [(1, true, true, 8080), (2, true, true, 8080), (3, false, false, 8080)]);
    assert_eq!(service.endpoints[0].pod, "default/p1");
}

#[test]
fn ports_have_their_protocols_numbers() {
    let mut cluster = Cluster::new();
    let port = |name: &str, protocol: &str| json!({ "name": name, "port": 38_412, "protocol": protocol });
    let ports = [port("t", "TCP"), port("u", "UDP"), port("s", "SCTP"), json!({ "name": "none", "port": 1 })];
    cluster.change(put(
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s0", "namespace": "default" },
        "spec": { "clusterIP": "10.96.0.7", "ports": ports } }),
    ));
    let Body::Service(service) = cluster.agents["n1"].body("service/default/s0") else { panic!() };
    let numbers: Vec<_> = service.ports.iter().map(|port| (port.name.as_str(), port.protocol)).collect();
    assert_eq!(numbers, [("t", 6), ("u", 17), ("s", 132), ("none", 6)]);
}

#[test]
fn what_changes_no_resource_sends_nothing_to_others() {
    let mut cluster = Cluster::new();
    let node = |heartbeat: &str| {
        put(
            json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n0", "annotations": { "beat": heartbeat } },
            "status": { "addresses": [{ "type": "InternalIP", "address": "192.168.0.1" }] } }),
        )
    };
    assert_eq!(cluster.change(node("1")), 2, "a peer for all, its object for itself");
    assert_eq!(cluster.change(node("2")), 1, "its object for itself");
    assert_eq!(cluster.change(put(slice(0, 9, &[1], true))), 0, "a slice of no Service");
}

#[test]
fn a_terminating_pod_stays_until_it_is_gone_and_gives_its_address_away() {
    let mut cluster = Cluster::new();
    cluster.change(put(pod(0, Some(0), Some(5), 0, false)));
    cluster.change(put(pod(0, Some(0), Some(5), 0, true)));
    assert!(cluster.agents["n0"].items.contains_key("object/Pod/default/p0"));
    cluster.change(put(pod(1, Some(1), Some(5), 0, false)));
    let holder = |cluster: &Cluster| match cluster.agents["n0"].body("address/10.244.0.5") {
        Body::Address(address) => address.pod,
        other => panic!("{other:?}"),
    };
    assert_eq!(holder(&cluster), "default/p1");
    cluster.change(Change::removed(&kind::POD, ObjectKey::namespaced("default", "p0"), 9));
    assert_eq!(holder(&cluster), "default/p1");
    assert!(!cluster.agents["n0"].items.contains_key("object/Pod/default/p0"));
    cluster.check();
}

/// However many nodes are told, they are told the same bytes.
#[test]
fn what_many_nodes_are_told_is_encoded_once() {
    let mut views = NodeViews::new();
    let mut world = World::new();
    let mut change = |change: Change| {
        let applied = world.apply(change);
        views.apply(&applied, &world)
    };
    let config = |data: &str| {
        put(json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "c0", "namespace": "default" }, "data": { "k": data } }))
    };
    change(config("1"));
    let mut items = Vec::new();
    for (i, node) in [(0, 0), (1, 1)] {
        let deltas = change(put(pod(i, Some(node), None, 0, false)));
        items.extend(deltas.into_iter().filter_map(|(_, delta)| delta.item().cloned()));
    }
    items.retain(|item| item.name() == "object/ConfigMap/default/c0");
    let again = change(config("2"));
    let changed: Vec<&Item> = again.iter().filter_map(|(_, delta)| delta.item()).collect();
    for pair in [[&items[0], &items[1]], [changed[0], changed[1]]] {
        assert_eq!(pair[0].frame().as_ptr(), pair[1].frame().as_ptr());
    }
    for node in ["n0", "n1"] {
        let full = views.own(node, &world);
        assert!(full.iter().any(|item| item.frame().as_ptr() == changed[0].frame().as_ptr()), "{node}");
    }
}

#[test]
fn what_is_too_large_is_said_and_left_out() {
    let mut cluster = Cluster::new();
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s0", "namespace": "default" },
        "spec": { "clusterIP": "10.96.0.7", "ports": [{ "port": 80 }] } });
    cluster.change(put(service.clone()));
    let mut large = service;
    large["spec"]["externalName"] = json!("x".repeat(weft_link::message::MESSAGE_BYTES_MAX));
    let applied = cluster.world.apply(put(large));
    let deltas = cluster.views.apply(&applied, &cluster.world);
    assert_eq!(deltas, [(Target::All, Delta::TooLarge("service/default/s0".into()))]);
    for agent in cluster.agents.values_mut() {
        deltas.iter().for_each(|(_, delta)| agent.take(delta));
    }
    cluster.check();
}
