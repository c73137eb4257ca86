//! Leases that run out and come back, taints, evictions.

use serde_json::Value;
use weft_api::object::Object;

use super::*;
use crate::settings::Settings;
use crate::testing::{context, merge, now, object, perform, world};
use crate::world::Change;

fn node_named(name: &str) -> Object {
    object(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "creationTimestamp": now(0).to_string() },
        "status": { "conditions": [
            { "type": "Ready", "status": "True", "reason": "AgentReady", "lastTransitionTime": now(0).to_string() },
            { "type": "MemoryPressure", "status": "False" },
        ] },
    }))
}

fn lease_of(name: &str, second: i64) -> Object {
    object(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name, "namespace": LEASES },
        "spec": { "holderIdentity": name, "renewTime": now(second).to_string() },
    }))
}

fn node() -> Object {
    node_named("n1")
}

fn lease(second: i64) -> Object {
    lease_of("n1", second)
}

/// Another node that lives.
fn witness(second: i64) -> [Object; 2] {
    [node_named("n2"), lease_of("n2", second)]
}

fn pod(name: &str, fields: Value) -> Object {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" },
        "spec": { "nodeName": "n1" },
        "status": { "phase": "Running", "conditions": [
            { "type": "Ready", "status": "True" }, { "type": "ContainersReady", "status": "True" },
        ] },
    });
    merge(&mut value, &fields);
    object(value)
}

fn run(world: &World, second: i64) -> Plan {
    plan(&LoopKey::new(&kind::NODE, ObjectKey::cluster("n1")), world, &context(&Settings::default(), second))
}

/// Runs until nothing is left to do.
fn settle(world: &mut World, second: i64) -> Vec<Action> {
    let mut all = Vec::new();
    for _ in 0..10 {
        let plan = run(world, second);
        if plan.actions.is_empty() {
            return all;
        }
        perform(world, &plan.actions, now(second));
        all.extend(plan.actions);
    }
    panic!("never settles: {all:?}");
}

fn taints_of(world: &World) -> Vec<String> {
    let node = world.get::<Node>(&ObjectKey::cluster("n1")).unwrap();
    node.spec.taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
}

fn is_pod_ready(world: &World) -> bool {
    world.all::<Pod>().next().unwrap().status.has("Ready")
}

#[test]
fn a_lease_that_runs_out_and_comes_back() {
    let [other, its_lease] = witness(50);
    let mut world = world(&[node(), lease(10), other, its_lease, pod("p", json!({}))]);
    assert_eq!(run(&world, 20), Plan { actions: vec![], requeue_after_ms: Some(30_000) });

    let actions = settle(&mut world, 50);
    assert!(actions.iter().any(|a| matches!(a, Action::Record(e) if e.reason == "NodeNotReady")));
    let node = world.get::<Node>(&ObjectKey::cluster("n1")).unwrap();
    assert!(node.status.conditions.iter().all(|c| c.status == "Unknown" && c.reason == UNHEARD));
    assert_eq!(taints_of(&world), [format!("{UNREACHABLE}:NoExecute"), format!("{UNREACHABLE}:NoSchedule")]);
    assert!(!is_pod_ready(&world), "no Service leads there");

    let applied = world.apply(Change::put(lease(100), 99));
    assert_eq!(keys(&applied, &world).len(), 1);
    settle(&mut world, 101);
    assert_eq!(taints_of(&world), [""; 0]);
    assert_eq!(ready_status(world.get::<Node>(&ObjectKey::cluster("n1")).unwrap()), "True");
    assert!(is_pod_ready(&world));
    let applied = world.apply(Change::put(lease(110), 120));
    assert!(keys(&applied, &world).is_empty(), "a renewal in time is no work");
}

#[test]
fn a_node_that_its_neighbours_found_dead_is_unknown_until_it_speaks_again() {
    let dead = |second: i64| {
        let mut value: Value = serde_json::from_slice(&node().json).unwrap();
        value["metadata"]["annotations"] = json!({ (LOST_SINCE): now(second).to_string() });
        object(value)
    };
    let mut world = world(&[dead(12), lease(10), pod("p", json!({}))]);
    settle(&mut world, 13);
    assert_eq!(ready_status(world.get::<Node>(&ObjectKey::cluster("n1")).unwrap()), "Unknown");
    assert_eq!(taints_of(&world).len(), 2);
    assert!(!is_pod_ready(&world), "at once, though no other node bears witness by its Lease");

    let applied = world.apply(Change::put(lease(20), 99));
    assert_eq!(keys(&applied, &world).len(), 1);
    settle(&mut world, 21);
    let node = world.get::<Node>(&ObjectKey::cluster("n1")).unwrap();
    assert_eq!((ready_status(node), node.metadata.annotations.len()), ("True", 0));
    assert!(is_pod_ready(&world) && taints_of(&world).is_empty());
}

#[test]
fn a_word_that_came_after_makes_the_neighbours_wrong() {
    let mut value: Value = serde_json::from_slice(&node().json).unwrap();
    value["metadata"]["annotations"] = json!({ (LOST_SINCE): now(9).to_string() });
    let mut world = world(&[object(value), lease(10), pod("p", json!({}))]);
    settle(&mut world, 13);
    assert_eq!(ready_status(world.get::<Node>(&ObjectKey::cluster("n1")).unwrap()), "True");
    assert!(is_pod_ready(&world));
}

#[test]
fn a_control_plane_that_was_away_gives_every_node_its_time() {
    let world = world(&[node(), lease(10)]);
    let settings = Settings { leading_since: Some(now(1000)), ..Settings::default() };
    let key = LoopKey::new(&kind::NODE, ObjectKey::cluster("n1"));
    assert_eq!(plan(&key, &world, &context(&settings, 1001)).actions, []);
    assert_ne!(plan(&key, &world, &context(&settings, 1041)).actions, []);
}

#[test]
fn a_control_plane_that_begins_anew_takes_no_dead_node_for_alive() {
    let [other, its_lease] = witness(990);
    let mut world = world(&[node(), lease(10), other, its_lease, pod("p", json!({}))]);
    settle(&mut world, 60);
    let settings = Settings { leading_since: Some(now(1000)), ..Settings::default() };
    let key = LoopKey::new(&kind::NODE, ObjectKey::cluster("n1"));
    let early = plan(&key, &world, &context(&settings, 1001));
    let patches_node = |a: &Action| matches!(a, Action::Patch { kind, .. } if *kind == &kind::NODE);
    assert!(!early.actions.iter().any(patches_node), "not ready again before it is heard: {early:?}");
}

#[test]
fn a_control_plane_that_is_cut_off_from_all_nodes_takes_no_pod_away() {
    let mut world = world(&[node(), lease(10), pod("p", json!({})), node_named("n2"), lease_of("n2", 12)]);
    settle(&mut world, 55);
    assert_eq!(taints_of(&world).len(), 2, "nothing new is sent there");
    assert!(is_pod_ready(&world), "and nothing is taken away");
    assert_eq!(run(&world, 5_000), Plan { actions: vec![], requeue_after_ms: Some(WITNESS_RETRY_MS) });

    // The line is back, and the other node is heard of first.
    let mut back: Value = serde_json::from_slice(&node_named("n2").json).unwrap();
    back["status"]["conditions"][0]["lastTransitionTime"] = json!(now(5_001).to_string());
    let _ = world.apply(Change::put(object(back), 200));
    let _ = world.apply(Change::put(lease_of("n2", 5_001), 201));
    assert_eq!(run(&world, 5_002).actions, [], "this one has its time too");
    let _ = world.apply(Change::put(lease_of("n2", 5_041), 202));
    let late = run(&world, 5_042);
    assert!(late.actions.iter().any(|a| matches!(a, Action::Delete { .. })), "it is really gone: {late:?}");
}

#[test]
fn pods_leave_an_unreachable_node_when_their_time_is_over() {
    let bears = |key: &str, seconds: Value| {
        json!({ "spec": { "tolerations": [
            { "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds },
        ] } })
    };
    let [other, its_lease] = witness(50);
    let mut world = world(&[
        node(),
        lease(10),
        other,
        its_lease,
        pod("default", json!({})),
        pod("for-ever", bears(UNREACHABLE, Value::Null)),
        pod("short", bears(UNREACHABLE, json!(5))),
    ]);
    settle(&mut world, 50);
    assert_eq!(run(&world, 51).requeue_after_ms, Some(4_000));
    let deleted = |actions: &[Action]| -> Vec<String> {
        let names = actions.iter().filter_map(|a| match a {
            Action::Delete { key, .. } => Some(key.name.clone()),
            _ => None,
        });
        names.collect()
    };
    assert_eq!(deleted(&settle(&mut world, 55)), ["short"]);
    assert_eq!(run(&world, 56).requeue_after_ms, Some(294_000));
    assert_eq!(deleted(&settle(&mut world, 350)), ["default"]);
    assert_eq!(run(&world, 10_000), Plan::none());
}

#[test]
fn an_unready_node_and_a_cordon_have_their_own_taints_and_others_are_kept() {
    let mut value: Value = serde_json::from_slice(&node().json).unwrap();
    value["status"]["conditions"][0]["status"] = json!("False");
    value["spec"] = json!({ "unschedulable": true, "taints": [{ "key": "gpu", "effect": "NoSchedule" }] });
    let mut world = world(&[object(value), lease(10)]);
    settle(&mut world, 11);
    let expected = [
        "gpu:NoSchedule".to_owned(),
        format!("{NOT_READY}:NoExecute"),
        format!("{NOT_READY}:NoSchedule"),
        format!("{UNSCHEDULABLE}:NoSchedule"),
    ];
    assert_eq!(taints_of(&world), expected);
}
