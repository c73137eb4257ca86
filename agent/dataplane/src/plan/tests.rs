//! The planner against a kernel of plain maps.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use weft_dataplane_abi::backend::BACKEND_READY;
use weft_dataplane_abi::backend::SlotKey;

use super::*;
use crate::desired::{Endpoint, Protocol, ServicePort, ServiceType};

#[derive(Clone, Debug, Default)]
struct Kernel {
    services: HashMap<ServiceKey, ServiceValue>,
    slots: HashMap<SlotKey, u32>,
    backends: HashMap<u32, Backend>,
    rows: Rows,
}

impl Kernel {
    fn apply(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::PutBackend(id, row) => drop(self.backends.insert(id, row)),
                Write::PutSlot(key, id) => drop(self.slots.insert(key, id)),
                Write::RemoveSlot(key) => drop(self.slots.remove(&key)),
                Write::PutService(key, row) => drop(self.services.insert(key, row)),
                Write::RemoveService(key) => drop(self.services.remove(&key)),
                Write::PutRoute(key, row) => drop(self.rows.routes.insert(key, row)),
                Write::RemoveRoute(key) => drop(self.rows.routes.remove(&key)),
                Write::PutNode(key, row) => drop(self.rows.nodes.insert(key, row)),
                Write::RemoveNode(key) => drop(self.rows.nodes.remove(&key)),
                _ => {}
            }
            self.check();
        }
    }

    fn check(&self) {
        for (key, service) in &self.services {
            for index in 0..service.backend_count {
                let id = self.slots.get(&SlotKey { service_id: service.id, index }).expect("a slot");
                let row = self.backends.get(id).expect("a backend");
                assert_ne!(row.flags & BACKEND_READY, 0, "slot {index} of {key:?} is not ready");
            }
        }
    }

    /// What a Service row leads to, by address and port.
    fn meaning(&self) -> std::collections::BTreeMap<(IpAddr, u16, u8), Vec<(IpAddr, u16)>> {
        self.services
            .iter()
            .map(|(key, service)| {
                let mut to: Vec<_> = (0..service.backend_count)
                    .map(|index| {
                        let row = self.backends[&self.slots[&SlotKey { service_id: service.id, index }]];
                        (row.address.ip(), row.port.get())
                    })
                    .collect();
                to.sort();
                ((key.address.ip(), key.port.get(), key.protocol), to)
            })
            .collect()
    }

    fn read(&self) -> (Rows, HashMap<u32, u32>) {
        let mut rows = self.rows.clone();
        for (key, value) in &self.services {
            let backends =
                (0..value.backend_count).map(|index| self.slots[&SlotKey { service_id: value.id, index }]);
            rows.services.insert(
                *key,
                ServiceRow { value: *value, backends: backends.collect(), ..ServiceRow::default() },
            );
        }
        for (id, row) in self.backends.iter().filter(|(_, row)| row.flags & BACKEND_READY != 0) {
            rows.backends.insert(*id, *row);
        }
        (rows, self.backends.iter().map(|(id, row)| (*id, row.generation)).collect())
    }
}

fn service(number: u8, ports: &[(u8, bool)]) -> Service {
    let endpoints = ports.iter().map(|(host, ready)| {
        let mut endpoint = Endpoint::ready(IpAddr::from([10, 244, 1, *host]), 8080, "node-1");
        (endpoint.ready, endpoint.serving) = (*ready, *ready);
        endpoint
    });
    Service {
        name: ServiceName::new("default", format!("web-{number}")),
        kind: ServiceType::NodePort,
        cluster_ips: vec![IpAddr::from([10, 96, 0, number])],
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: 30_000 + u16::from(number),
            endpoints: endpoints.collect(),
        }],
        ..Service::default()
    }
}

fn fresh() -> Planner {
    Planner::adopt("node-1", Capacities::default(), Rows::default(), &HashMap::new())
}

fn put(service: Service) -> Change {
    Change::PutService(service.into())
}

fn changes() -> impl Strategy<Value = Change> {
    let some = (1_u8..5, vec((1_u8..7, any::<bool>()), 0..6)).prop_map(|(n, e)| service(n, &e));
    prop_oneof![
        6 => some.clone().prop_map(put),
        2 => (1_u8..5).prop_map(|n| Change::RemoveService(ServiceName::new("default", format!("web-{n}")))),
        1 => vec(some, 0..4).prop_map(|all| {
            let services = all.into_iter().map(|service| (service.name.clone(), service.into())).collect();
            Change::ReplaceAll(Box::new(Desired { services, ..Desired::default() }))
        }),
    ]
}

proptest! {
    #[test]
    fn any_walk_of_changes_ends_where_a_fresh_start_would(walk in vec(changes(), 1..30), restart in 0_usize..30) {
        let (mut planner, mut kernel, mut desired) = (fresh(), Kernel::default(), Desired::default());
        for (step, change) in walk.iter().enumerate() {
            desired.apply(change.clone());
            kernel.apply(planner.change(change).0);
            if step == restart {
                let (rows, generations) = kernel.read();
                planner = Planner::adopt("node-1", Capacities::default(), rows, &generations);
                let before = kernel.services.clone();
                kernel.apply(planner.change(&Change::ReplaceAll(Box::new(desired.clone()))).0);
                prop_assert_eq!(&before, &kernel.services, "a restart changes no Service row");
            }
        }
        let (mut again, mut full) = (fresh(), Kernel::default());
        full.apply(again.change(&Change::ReplaceAll(Box::new(desired))).0);
        prop_assert_eq!(kernel.meaning(), full.meaning());
        prop_assert_eq!(kernel.slots.len(), full.slots.len());
        let ready = |kernel: &Kernel| kernel.backends.values().filter(|row| row.flags & BACKEND_READY != 0).count();
        prop_assert_eq!(ready(&kernel), ready(&full));
        prop_assert_eq!(planner.fill(), again.fill());
    }
}

#[test]
fn a_change_touches_only_its_own_rows() {
    let mut planner = fresh();
    for number in 1..200 {
        let (_, errors) = planner.change(&put(service(number, &[(1, true), (2, true)])));
        assert!(errors.is_empty());
    }
    let (writes, _) = planner.change(&put(service(7, &[(1, true), (2, true), (3, true)])));
    // A backend, a slot and a count for each of its two rows, and the choices of the one that the outside asks.
    assert_eq!(writes.len(), 7, "{writes:?}");
    assert!(planner.change(&put(service(7, &[(1, true), (2, true), (3, true)]))).0.is_empty());
}

#[test]
fn a_backend_that_comes_back_has_another_generation() {
    let (mut planner, mut kernel) = (fresh(), Kernel::default());
    kernel.apply(planner.change(&put(service(1, &[(1, true)]))).0);
    let first = kernel.backends[&1].generation;
    kernel.apply(planner.change(&put(service(1, &[(1, false)]))).0);
    assert_eq!(kernel.backends[&1].flags, 0);
    assert!(kernel.backends[&1].generation > first);
}

#[test]
fn full_tables_refuse_the_service_and_keep_the_rest() {
    let small = Capacities { backends_max: 5, ..Capacities::default() };
    let mut planner = Planner::adopt("node-1", small, Rows::default(), &HashMap::new());
    assert!(planner.change(&put(service(1, &[(1, true), (2, true)]))).1.is_empty());
    let (writes, errors) = planner.change(&put(service(2, &[(3, true)])));
    assert!(writes.is_empty());
    assert!(matches!(errors[0], PlanError::Full { map: "backends", .. }), "{errors:?}");
    // Nobody says it again: it is taken in when there is room.
    let (writes, errors) = planner.change(&put(service(1, &[(1, true)])));
    assert_eq!(errors, Vec::new());
    assert!(
        writes.iter().any(|write| matches!(write, Write::PutService(key, _) if key.port.get() == 30_002))
    );
}

#[test]
fn a_backend_that_stays_behind_another_service_is_gone_from_the_first() {
    let (mut planner, mut kernel) = (fresh(), Kernel::default());
    for number in [1, 2] {
        kernel.apply(planner.change(&put(service(number, &[(1, true), (2, true)]))).0);
    }
    let key = rows::service_key(rows::Front::At(IpAddr::from([10, 96, 0, 1])), 80, 6, 0);
    let before: Vec<u32> = kernel.read().0.services[&key].backends.clone();
    let generations = kernel.read().1;
    kernel.apply(planner.change(&put(service(1, &[(2, true)]))).0);
    let gone = before.iter().filter(|id| kernel.backends[*id].generation != generations[*id]).count();
    assert_eq!(gone, 1, "flows of the first Service leave the backend");
}

#[test]
fn the_same_node_port_twice_is_refused_by_name() {
    let mut planner = fresh();
    assert!(planner.change(&put(service(1, &[(1, true)]))).1.is_empty());
    let mut other = service(2, &[(1, true)]);
    other.ports[0].node_port = 30_001;
    let (_, errors) = planner.change(&put(other));
    assert!(matches!(&errors[0], PlanError::Taken { port: 30_001, owner, .. } if owner.name == "web-1"));
    let (writes, errors) = planner.change(&Change::RemoveService(ServiceName::new("default", "web-1")));
    assert_eq!(errors, Vec::new());
    assert!(
        writes.iter().any(|write| matches!(write, Write::PutService(key, _) if key.port.get() == 30_001)),
        "the port goes to who waited for it: {writes:?}"
    );
}

#[test]
fn a_renamed_node_keeps_its_row() {
    let (mut planner, mut kernel) = (fresh(), Kernel::default());
    let peer = |name: &str| Peer {
        name: name.into(),
        addresses: vec![IpAddr::from([192, 168, 0, 2])],
        pod_cidrs: vec!["10.244.2.0/24".parse().expect("a range")],
        ..Peer::default()
    };
    kernel.apply(planner.change(&Change::PutPeer(peer("old"))).0);
    kernel.apply(planner.change(&Change::PutPeer(peer("new"))).0);
    kernel.apply(planner.change(&Change::RemovePeer("old".into())).0);
    assert_eq!((kernel.rows.nodes.len(), kernel.rows.routes.len()), (1, 1));
}

#[test]
fn five_thousand_nodes_are_taken_in_at_once() {
    let mut planner = fresh();
    let mut desired = Desired::default();
    for number in 0..5_000_u32 {
        let [_, _, high, low] = number.to_be_bytes();
        let peer = Peer {
            name: format!("node-{number}"),
            addresses: vec![IpAddr::from([10, 1, high, low])],
            pod_cidrs: vec![format!("10.{}.{}.0/24", 64 + high, low).parse().expect("a range")],
            ..Peer::default()
        };
        desired.peers.insert(peer.name.clone(), peer);
    }
    let began = std::time::Instant::now();
    let all = Change::ReplaceAll(Box::new(desired));
    let (writes, errors) = planner.change(&all);
    assert_eq!((writes.len(), errors.len()), (10_000, 0));
    assert!(planner.change(&all).0.is_empty());
    // Square in the number of nodes, it would take minutes.
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}
