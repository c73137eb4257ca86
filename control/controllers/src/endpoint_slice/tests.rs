//! Slices: named ports, readiness, bounds, and endpoints that stay where they are.

use serde_json::Value;
use weft_api::key::ObjectKey;
use weft_api::object::Object;

use super::*;
use crate::settings::Settings;
use crate::testing::{context, merge, now, object, perform, world};
use crate::world::Change;

fn service(fields: Value) -> Object {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "default", "labels": { "team": "a" }, "creationTimestamp": now(0).to_string() },
        "spec": { "selector": { "app": "web" }, "clusterIP": "10.96.0.9", "ports": [
            { "name": "http", "port": 80, "targetPort": "serve", "protocol": "TCP" },
            { "name": "dns", "port": 53, "protocol": "UDP" },
        ] },
    });
    merge(&mut value, &fields);
    object(value)
}

fn pod(i: u32, fields: Value) -> Object {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("p{i:04}"), "namespace": "default", "labels": { "app": "web" } },
        "spec": { "nodeName": "n1", "containers": [{ "name": "c", "ports": [{ "name": "serve", "containerPort": 8080 }] }] },
        "status": { "phase": "Running", "podIP": format!("10.244.{}.{}", i / 250, i % 250 + 1),
            "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    merge(&mut value, &fields);
    object(value)
}

fn run(world: &World, seconds: i64) -> Plan {
    plan(&backends::service_key("default", "web"), world, &context(&Settings::default(), seconds))
}

fn settle(world: &mut World) -> usize {
    let plan = run(world, 1);
    perform(world, &plan.actions, now(1));
    let again = run(world, 1);
    assert!(again.actions.is_empty(), "settled: {:?}", again.actions);
    plan.actions.len()
}

fn slices(world: &World) -> Vec<&EndpointSlice> {
    world.all::<EndpointSlice>().collect()
}

#[test]
fn pods_become_endpoints_with_their_own_ports_and_conditions() {
    let going = json!({ "metadata": { "deletionTimestamp": "2027-01-15T08:00:00Z" } });
    let unready = json!({ "status": { "conditions": [] } });
    let ended = json!({ "status": { "phase": "Succeeded" } });
    let named = json!({ "spec": { "hostname": "first", "subdomain": "web" } });
    let mut world =
        world(&[service(json!({})), pod(1, named), pod(2, going), pod(3, unready), pod(4, ended)]);
    settle(&mut world);
    let [slice] = slices(&world)[..] else { panic!("one slice") };
    assert_eq!(slice.metadata.labels[SERVICE_NAME_LABEL], "web");
    assert_eq!(slice.metadata.labels["team"], "a");
    assert!(slice.metadata.name.starts_with("web-"));
    let ports: Vec<_> = slice.ports.iter().map(|p| (p.name.as_str(), p.protocol.as_str(), p.port)).collect();
    assert_eq!(ports, [("http", "TCP", 8080), ("dns", "UDP", 53)]);
    let ends: Vec<_> = slice
        .endpoints
        .iter()
        .map(|e| {
            (
                e.target_ref.as_ref().unwrap().name.as_str(),
                e.conditions.ready,
                e.conditions.serving,
                e.conditions.terminating,
            )
        })
        .collect();
    assert_eq!(
        ends,
        [
            ("p0001", Some(true), Some(true), Some(false)),
            ("p0002", Some(false), Some(true), Some(true)),
            ("p0003", Some(false), Some(false), Some(false)),
        ]
    );
    assert_eq!(slice.endpoints[0].hostname.as_deref(), Some("first"));
    assert_eq!(slice.endpoints[0].node_name.as_deref(), Some("n1"));
}

#[test]
fn publishing_not_ready_addresses_makes_them_ready() {
    let unready = json!({ "status": { "conditions": [] } });
    let mut world =
        world(&[service(json!({ "spec": { "publishNotReadyAddresses": true } })), pod(1, unready)]);
    settle(&mut world);
    assert_eq!(slices(&world)[0].endpoints[0].conditions.ready, Some(true));
}

#[test]
fn a_slice_holds_a_hundred_and_a_change_touches_one() {
    let mut objects = vec![service(json!({}))];
    objects.extend((0..250).map(|i| pod(i, json!({}))));
    let mut world = world(&objects);
    settle(&mut world);
    let mut sizes: Vec<_> = slices(&world).iter().map(|s| s.endpoints.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);

    let revision = world.revision() + 1;
    let _ = world.apply(Change::removed(&kind::POD, ObjectKey::namespaced("default", "p0007"), revision));
    assert_eq!(settle(&mut world), 1, "one slice is written");
    let _ = world.apply(Change::put(pod(300, json!({})), revision + 1));
    assert_eq!(settle(&mut world), 1, "the room is used");
    assert_eq!(slices(&world).len(), 3);
}

#[test]
fn pods_that_serve_a_named_port_elsewhere_have_a_slice_of_their_own() {
    let other = json!({ "spec": { "containers": [{ "name": "c", "ports": [{ "name": "serve", "containerPort": 9090 }] }] } });
    let mut world = world(&[service(json!({})), pod(1, json!({})), pod(2, other)]);
    settle(&mut world);
    let mut ports: Vec<_> = slices(&world).iter().map(|s| s.ports[0].port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [8080, 9090]);
}

#[test]
fn an_empty_service_has_an_empty_slice_and_after_a_while_an_event() {
    let mut world = world(&[service(json!({}))]);
    assert_eq!(run(&world, 1).requeue_after_ms, Some(14_000));
    settle(&mut world);
    let [slice] = slices(&world)[..] else { panic!("one slice") };
    assert!(slice.endpoints.is_empty() && slice.ports.is_empty());
    let late = run(&world, 20);
    assert!(
        matches!(&late.actions[..], [Action::Record(e)] if e.reason == "NoEndpoints" && e.message.contains("app=web"))
    );
    let _ = world.apply(Change::put(pod(1, json!({})), 90));
    settle(&mut world);
    assert_eq!(slices(&world).len(), 1, "the empty one is gone");
}

#[test]
fn slices_go_with_the_selector_and_with_the_service() {
    let mut world = world(&[service(json!({})), pod(1, json!({}))]);
    settle(&mut world);
    let _ = world.apply(Change::put(service(json!({ "spec": { "selector": null } })), 90));
    assert!(matches!(&run(&world, 2).actions[..], [Action::Delete { .. }]));
    let gone = world.apply(Change::removed(&kind::SERVICE, ObjectKey::namespaced("default", "web"), 91));
    assert_eq!(keys(&gone, &world).len(), 1);
    assert!(matches!(&run(&world, 2).actions[..], [Action::Delete { .. }]));
}

#[test]
fn only_what_an_endpoint_shows_causes_a_run() {
    let mut world = world(&[service(json!({})), pod(1, json!({}))]);
    let applied = world.apply(Change::put(pod(1, json!({ "metadata": { "annotations": { "a": "b" } } })), 9));
    assert!(keys(&applied, &world).is_empty());
    let applied = world.apply(Change::put(pod(1, json!({ "status": { "conditions": [] } })), 10));
    assert_eq!(keys(&applied, &world).len(), 1);
}

#[test]
fn labels_that_the_service_has_no_more_go() {
    let mut world = world(&[service(json!({})), pod(1, json!({}))]);
    settle(&mut world);
    assert_eq!(slices(&world)[0].metadata.labels["team"], "a");
    let _ = world.apply(Change::put(service(json!({ "metadata": { "labels": null } })), 90));
    assert_eq!(settle(&mut world), 1);
    assert!(!slices(&world)[0].metadata.labels.contains_key("team"));
}

#[test]
fn a_dual_stack_service_has_slices_of_each_family() {
    let dual = |families: &[&str]| service(json!({ "spec": { "ipFamilies": families } }));
    let both = |i: u32| {
        let ips = json!([{ "ip": format!("10.244.9.{i}") }, { "ip": format!("fd00:244::{i}") }]);
        pod(i, json!({ "status": { "podIP": format!("10.244.9.{i}"), "podIPs": ips } }))
    };
    let mut world = world(&[dual(&["IPv6", "IPv4"])]);
    assert_eq!(settle(&mut world), 2, "an empty one each");
    let _ = world.apply(Change::put(both(1), 50));
    let _ = world.apply(Change::put(both(2), 51));
    // A Pod from before its node had the second family.
    let _ = world.apply(Change::put(pod(3, json!({})), 52));
    settle(&mut world);
    let of = |world: &World, family: &str| -> Vec<String> {
        let all = slices(world).into_iter().filter(|slice| slice.address_type == family);
        let all: Vec<&EndpointSlice> = all.collect();
        assert!(all.len() <= 1, "{all:?}");
        all.iter().flat_map(|slice| &slice.endpoints).map(|e| e.addresses.join(",")).collect()
    };
    assert_eq!(of(&world, "IPv6"), ["fd00:244::1", "fd00:244::2"]);
    assert_eq!(of(&world, "IPv4"), ["10.244.0.4", "10.244.9.1", "10.244.9.2"]);
    let _ = world.apply(Change::put(dual(&["IPv6"]), 60));
    settle(&mut world);
    assert!(of(&world, "IPv4").is_empty() && of(&world, "IPv6").len() == 2);
    assert_eq!(slices(&world).len(), 1, "the other family's is gone");
}

fn node(name: &str, zone: Option<&str>) -> Object {
    let labels: BTreeMap<_, _> = zone.map(|zone| ("topology.kubernetes.io/zone", zone)).into_iter().collect();
    object(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels } }))
}

#[test]
fn endpoints_say_their_zone_and_whom_they_are_for() {
    let on = |node: &str| json!({ "spec": { "nodeName": node } });
    let mut world = world(&[
        service(json!({})),
        node("n1", Some("east")),
        node("n2", None),
        pod(1, on("n1")),
        pod(2, on("n2")),
    ]);
    let hints = |world: &World| -> Vec<Value> {
        let [slice] = slices(world)[..] else { panic!("one slice") };
        slice.endpoints.iter().map(|e| json!([e.zone, e.hints])).collect()
    };
    settle(&mut world);
    assert_eq!(hints(&world), [json!(["east", null]), json!([null, null])]);
    let zones = json!({ "forZones": [{ "name": "east" }] });
    let both = json!({ "forZones": [{ "name": "east" }], "forNodes": [{ "name": "n1" }] });
    let node_alone = json!({ "forNodes": [{ "name": "n2" }] });
    for (at, (distribution, first, second)) in [
        ("PreferClose", &zones, &Value::Null),
        ("PreferSameNode", &both, &node_alone),
        ("PreferSameZone", &zones, &Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let spec = json!({ "spec": { "trafficDistribution": distribution } });
        let _ = world.apply(Change::put(service(spec), 90 + at as u64));
        settle(&mut world);
        assert_eq!(hints(&world), [json!(["east", first]), json!([null, second])], "{distribution}");
    }
}

#[test]
fn zones_share_the_endpoints_where_a_service_asks_for_it() {
    let node = |name: &str, zone: &str, cpu: &str, ready: &str| {
        object(json!({ "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "labels": { "topology.kubernetes.io/zone": zone } },
            "status": { "allocatable": { "cpu": cpu }, "conditions": [{ "type": "Ready", "status": ready }] } }))
    };
    let asking = json!({ "metadata": { "annotations": { "service.kubernetes.io/topology-mode": "Auto" } },
        "spec": { "trafficDistribution": "PreferSameNode" } });
    let on = |node: &str| json!({ "spec": { "nodeName": node } });
    let mut world = world(&[
        service(asking),
        node("n1", "east", "2", "True"),
        node("n2", "west", "2", "True"),
        pod(1, on("n1")),
        pod(2, on("n1")),
        pod(3, on("n2")),
        pod(4, on("n1")),
    ]);
    let hints = |world: &World| -> Vec<String> {
        let [slice] = slices(world)[..] else { panic!("one slice") };
        let of =
            |e: &Endpoint| e.hints.iter().flat_map(|it| &it.for_zones).map(|it| it.name.clone()).collect();
        slice.endpoints.iter().map(of).collect()
    };
    settle(&mut world);
    assert_eq!(hints(&world), ["east", "east", "west", "west"], "the fourth is the west's");
    let web = [backends::service_key("default", "web")];
    for (at, (cpu, ready, expected)) in [
        ("2", "Unknown", ["", "", "", ""]),
        ("2", "True", ["east", "east", "west", "west"]),
        // A third of the CPU: four endpoints are too few to share.
        ("1", "True", ["", "", "", ""]),
    ]
    .into_iter()
    .enumerate()
    {
        let changed = world.apply(Change::put(node("n2", "west", cpu, ready), 90 + at as u64));
        assert_eq!(keys(&changed, &world), web);
        settle(&mut world);
        assert_eq!(hints(&world), expected, "{cpu} {ready}");
    }
    let beat = world.apply(Change::put(node("n2", "west", "1", "True"), 99));
    assert!(keys(&beat, &world).is_empty());
}

#[test]
fn a_node_that_comes_into_another_zone_takes_its_endpoints_along() {
    let mut world = world(&[service(json!({})), node("n1", Some("east")), pod(1, json!({}))]);
    settle(&mut world);
    let beat = world.apply(Change::put(node("n1", Some("east")), 90));
    assert!(keys(&beat, &world).is_empty());
    let moved = world.apply(Change::put(node("n1", Some("west")), 91));
    assert_eq!(keys(&moved, &world), [backends::service_key("default", "web")]);
    settle(&mut world);
    assert_eq!(slices(&world)[0].endpoints[0].zone.as_deref(), Some("west"));
}
