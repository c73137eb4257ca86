//! Addresses and announcers: given, kept, asked for, exhausted, released, repaired, moved.

use super::*;
use crate::settings::AddressRange;
use crate::testing::{context, merge, now, object, perform, world};
use crate::world::Change;
use weft_api::object::Object;

fn settings(pool: &[&str]) -> Settings {
    let load_balancer_pool = pool.iter().map(|text| AddressRange::parse(text).unwrap()).collect();
    Settings { load_balancer_pool, ..Settings::default() }
}

fn service(name: &str, spec: Value) -> Object {
    let mut whole = json!({ "type": "LoadBalancer", "ipFamilies": ["IPv4"], "ports": [{ "port": 80 }] });
    merge(&mut whole, &spec);
    object(json!({ "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "default" }, "spec": whole }))
}

fn node(name: &str, ready: &str) -> Object {
    object(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
        "status": { "conditions": [{ "type": "Ready", "status": ready }] } }))
}

fn slice(service: &str, endpoints: &[(&str, bool)]) -> Object {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(node, ready)| json!({ "addresses": ["10.244.0.9"], "nodeName": node, "conditions": { "ready": ready } }))
        .collect();
    object(json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": format!("{service}-x"), "namespace": "default",
            "labels": { "kubernetes.io/service-name": service } },
        "endpoints": endpoints }))
}

fn key(name: &str) -> LoopKey {
    LoopKey::new(&kind::SERVICE, ObjectKey::namespaced("default", name))
}

fn run(world: &mut World, name: &str, settings: &Settings) -> Plan {
    let made = plan(&key(name), world, &context(settings, 0));
    perform(world, &made.actions, now(0));
    let again = plan(&key(name), world, &context(settings, 0));
    assert!(
        again.actions.iter().all(|action| matches!(action, Action::Record(event) if event.warning)),
        "a plan that came true leaves nothing to do: {again:?}"
    );
    made
}

fn has(world: &World, name: &str) -> (Vec<String>, String) {
    let service = world.get::<Service>(&key(name).key).unwrap();
    let ingress = &service.status.load_balancer.ingress;
    assert!(ingress.iter().all(|entry| entry.ip_mode == "VIP"));
    let announced = service.metadata.annotations.get(ANNOUNCED_BY).cloned().unwrap_or_default();
    (ingress.iter().map(|entry| entry.ip.clone()).collect(), announced)
}

fn change(world: &mut World, name: &str, patch: Value) {
    let mut value: Value =
        serde_json::from_slice(&world.object(&kind::SERVICE, &key(name).key).unwrap().json).unwrap();
    merge(&mut value, &patch);
    let revision = world.revision() + 1;
    value["metadata"]["resourceVersion"] = json!(revision.to_string());
    let _ = world.apply(Change::put(object(value), revision));
}

fn reason(plan: &Plan) -> &str {
    let warning = plan.actions.iter().find_map(|action| match action {
        Action::Record(event) if event.warning => Some(event.reason.as_str()),
        _ => None,
    });
    warning.unwrap_or("")
}

#[test]
fn without_a_pool_the_event_says_what_to_set() {
    let mut world = world(&[service("web", json!({})), node("a", "True")]);
    let plan = run(&mut world, "web", &Settings::default());
    let [Action::Record(event)] = &plan.actions[..] else { panic!("{plan:?}") };
    assert!(event.warning && event.message.contains("--load-balancer-pool"), "{}", event.message);
    assert_eq!(has(&world, "web"), (vec![], String::new()));
}

#[test]
fn addresses_are_given_once_kept_released_and_the_end_is_said() {
    let settings = settings(&["192.0.2.8-192.0.2.9"]);
    let mut world = world(&[
        service("a", json!({})),
        service("b", json!({})),
        service("c", json!({})),
        service("plain", json!({ "type": "ClusterIP" })),
        node("n", "True"),
    ]);
    for (name, address) in [("a", "192.0.2.8"), ("b", "192.0.2.9")] {
        let _ = run(&mut world, name, &settings);
        assert_eq!(has(&world, name), (vec![address.into()], "n".into()));
    }
    assert_eq!(run(&mut world, "plain", &settings), Plan::none());
    let full = run(&mut world, "c", &settings);
    assert_eq!((reason(&full), full.requeue_after_ms), ("AllocationFailed", Some(RETRY_MS)));

    change(&mut world, "a", json!({ "spec": { "type": "ClusterIP" } }));
    let _ = run(&mut world, "a", &settings);
    assert_eq!(has(&world, "a"), (vec![], String::new()), "a type that changes gives everything back");
    let _ = run(&mut world, "c", &settings);
    assert_eq!(has(&world, "c").0, ["192.0.2.8"]);

    let gone = world.apply(Change::removed(&kind::SERVICE, key("b").key, 99));
    change(&mut world, "a", json!({ "spec": { "type": "LoadBalancer" } }));
    assert!(keys(&gone, &world).contains(&key("a")), "who waits is told");
    let _ = run(&mut world, "a", &settings);
    assert_eq!(has(&world, "a").0, ["192.0.2.9"]);
}

#[test]
fn an_address_that_is_asked_for_is_given_or_refused_by_name() {
    let settings = settings(&["192.0.2.8/29", "fd00::8/125"]);
    let asked = |ip: &str| json!({ "loadBalancerIP": ip });
    let mut world = world(&[
        service("a", asked("192.0.2.12")),
        service("b", asked("192.0.2.12")),
        service("c", asked("198.51.100.1")),
        service("d", json!({ "ipFamilies": ["IPv6", "IPv4"], "loadBalancerIP": "fd00::a" })),
        service("e", json!({ "externalIPs": ["192.0.2.8"] })),
        node("n", "True"),
    ]);
    let _ = run(&mut world, "a", &settings);
    assert_eq!(has(&world, "a").0, ["192.0.2.12"]);
    let taken = run(&mut world, "b", &settings);
    let Action::Record(event) = &taken.actions[0] else { panic!() };
    assert!(event.message.contains("is Service default/a's"), "{}", event.message);
    assert!(reason(&run(&mut world, "c", &settings)) == "AllocationFailed");
    let _ = run(&mut world, "d", &settings);
    assert_eq!(has(&world, "d").0, ["fd00::a", "192.0.2.9"], "192.0.2.8 is an external address");

    change(&mut world, "a", json!({ "spec": { "loadBalancerIP": "192.0.2.15" } }));
    let _ = run(&mut world, "a", &settings);
    assert_eq!(has(&world, "a").0, ["192.0.2.15"]);
}

#[test]
fn each_family_has_an_address_as_far_as_the_pool_goes() {
    let both = |policy: &str| json!({ "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": policy });
    let dual = settings(&["192.0.2.8/29", "fd00::8-fd00::9"]);
    let mut world = world(&[
        service("a", both("PreferDualStack")),
        service("b", both("RequireDualStack")),
        service("c", json!({})),
        service("six", json!({ "loadBalancerIP": "fd00::9" })),
        node("n", "True"),
    ]);
    for (name, addresses) in [("a", ["192.0.2.8", "fd00::8"]), ("b", ["192.0.2.9", "fd00::9"])] {
        let _ = run(&mut world, name, &dual);
        assert_eq!(has(&world, name), (addresses.map(str::to_owned).into(), "n".into()));
    }
    let _ = run(&mut world, "c", &dual);
    assert_eq!(has(&world, "c").0, ["192.0.2.10"]);
    let refused = run(&mut world, "six", &dual);
    let Action::Record(event) = &refused.actions[0] else { panic!() };
    assert!(
        event.message.contains("fd00::9 is of no family of the Service, which has IPv4"),
        "{}",
        event.message
    );

    // A second family that is not to be had takes nothing away.
    change(&mut world, "c", json!({ "spec": both("PreferDualStack") }));
    assert_eq!(reason(&run(&mut world, "c", &dual)), "AllocationFailed");
    assert_eq!(has(&world, "c").0, ["192.0.2.10"]);
    change(&mut world, "a", json!({ "spec": { "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack" } }));
    let given_back = {
        let value: Value =
            serde_json::from_slice(&world.object(&kind::SERVICE, &key("a").key).unwrap().json).unwrap();
        let _ = run(&mut world, "a", &dual);
        let now = world.object(&kind::SERVICE, &key("a").key).unwrap().clone();
        let _ = world.apply(Change::put(object(value), 900));
        world.apply(Change::put(now, 901))
    };
    assert!(keys(&given_back, &world).contains(&key("c")), "who waits is told");
    let _ = run(&mut world, "c", &dual);
    assert_eq!(has(&world, "c").0, ["192.0.2.10", "fd00::8"]);

    let four = settings(&["192.0.2.8/29"]);
    let _ = run(&mut world, "c", &four);
    assert_eq!((has(&world, "c").0, has(&world, "b").0.len()), (vec!["192.0.2.10".into()], 2));
    assert_eq!(reason(&run(&mut world, "b", &four)), "NoAddressPool", "it requires both");
    assert_eq!(has(&world, "b").0, ["192.0.2.9"]);
}

#[test]
fn a_foreign_class_is_left_alone_and_the_own_one_served() {
    let settings = settings(&["192.0.2.8/29"]);
    let foreign = json!({ "loadBalancerClass": "example.com/other" });
    let mut world = world(&[
        service("theirs", foreign),
        service("ours", json!({ "loadBalancerClass": CLASS })),
        node("n", "True"),
    ]);
    change(
        &mut world,
        "theirs",
        json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.1", "ipMode": "VIP" }] } } }),
    );
    assert_eq!(run(&mut world, "theirs", &settings), Plan::none());
    let _ = run(&mut world, "ours", &settings);
    assert_eq!(has(&world, "ours").0, ["192.0.2.8"]);
}

#[test]
fn what_a_restart_finds_wrong_is_repaired() {
    let pool = settings(&["192.0.2.8/29"]);
    let mut world = world(&[service("a", json!({})), service("b", json!({})), node("n", "True")]);
    let at = |created: &str, ip: &str| json!({ "metadata": { "creationTimestamp": created }, "status": { "loadBalancer": { "ingress": [{ "ip": ip, "ipMode": "VIP" }] } } });
    change(&mut world, "a", at("2027-01-02T00:00:00Z", "192.0.2.10"));
    change(&mut world, "b", at("2027-01-01T00:00:00Z", "192.0.2.10"));
    let _ = run(&mut world, "b", &pool);
    let _ = run(&mut world, "a", &pool);
    assert_eq!(
        (has(&world, "a").0, has(&world, "b").0),
        (vec!["192.0.2.8".into()], vec!["192.0.2.10".into()])
    );

    // Another pool, another address; none at all, none.
    let other = settings(&["198.51.100.0/24"]);
    let _ = run(&mut world, "a", &other);
    assert_eq!(has(&world, "a").0, ["198.51.100.0"]);
    let _ = run(&mut world, "a", &Settings::default());
    assert_eq!(has(&world, "a"), (vec![], String::new()));
}

#[test]
fn an_announcer_stays_until_it_is_not_ready() {
    let settings = settings(&["192.0.2.0/24"]);
    let mut world =
        world(&[service("web", json!({})), node("a", "True"), node("b", "True"), node("c", "True")]);
    let _ = run(&mut world, "web", &settings);
    let first = has(&world, "web").1;
    let _ = world.apply(Change::put(node("d", "True"), 50));
    assert_eq!(run(&mut world, "web", &settings), Plan::none(), "a new node moves nothing");

    let fallen = world.apply(Change::put(node(&first, "Unknown"), 51));
    assert_eq!(keys(&fallen, &world), [key("web")]);
    let _ = run(&mut world, "web", &settings);
    let second = has(&world, "web").1;
    assert_ne!(second, first);
    let _ = world.apply(Change::put(node(&first, "True"), 52));
    assert_eq!(run(&mut world, "web", &settings), Plan::none(), "nor does one that is back");

    let beat = world.apply(Change::put(node(&first, "True"), 53));
    assert!(keys(&beat, &world).is_empty(), "a heartbeat is no news");
    for name in ["a", "b", "c", "d"] {
        let _ = world.apply(Change::put(node(name, "Unknown"), 54));
    }
    assert_eq!(run(&mut world, "web", &settings), Plan::none(), "where no node would do, the last one stays");
    let _ = world.apply(Change::removed(&kind::NODE, ObjectKey::cluster(second), 55));
    let _ = run(&mut world, "web", &settings);
    assert_eq!(has(&world, "web").1, "", "unless it is gone for good");
}

#[test]
fn with_the_policy_local_only_a_node_with_a_ready_endpoint_announces() {
    let settings = settings(&["192.0.2.0/24"]);
    let local = json!({ "externalTrafficPolicy": "Local" });
    let mut world = world(&[service("web", local), node("a", "True"), node("b", "True"), node("c", "True")]);
    let _ = world.apply(Change::put(slice("web", &[("a", false), ("b", true)]), 50));
    let _ = run(&mut world, "web", &settings);
    assert_eq!(has(&world, "web").1, "b");
    let moved = world.apply(Change::put(slice("web", &[("c", true), ("b", false)]), 51));
    assert_eq!(keys(&moved, &world), [key("web")]);
    let _ = run(&mut world, "web", &settings);
    assert_eq!(has(&world, "web").1, "c");
}

#[test]
fn nodes_share_the_services_about_evenly() {
    let names = ["a", "b", "c"];
    let mut counts = [0; 3];
    for service in 0..300 {
        let uid = format!("uid-{service}");
        let chosen = (0..3).max_by_key(|i| weight(&uid, names[*i])).unwrap();
        counts[chosen] += 1;
    }
    assert!(counts.iter().all(|count| (70..=130).contains(count)), "{counts:?}");
}
