//! Counting, creating, choosing victims, adopting and releasing.

use super::*;
use crate::settings::Settings;
use crate::testing::{context, now, object, perform, world};
use weft_api::object::Object;

fn set(replicas: u32) -> Object {
    object(json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": { "name": "web", "namespace": "default", "generation": 3 },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" }, "annotations": { "note": "kept" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }], "unknownToUs": true },
            },
        },
    }))
}

fn pod(name: &str, fields: Value) -> Object {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default", "labels": { "app": "web" },
            "creationTimestamp": "2027-01-15T08:00:00Z",
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "uid-web", "controller": true }],
        },
        "spec": { "nodeName": "n1" },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    crate::testing::merge(&mut value, &fields);
    object(value)
}

fn run(world: &World, seconds: i64) -> Plan {
    let key = LoopKey::new(&kind::REPLICA_SET, ObjectKey::namespaced("default", "web"));
    plan(&key, world, &context(&Settings::default(), seconds))
}

fn deleted(plan: &Plan) -> Vec<&str> {
    let names = plan.actions.iter().filter_map(|action| match action {
        Action::Delete { key, .. } => Some(key.name.as_str()),
        _ => None,
    });
    names.collect()
}

#[test]
fn missing_pods_are_made_from_the_whole_template_and_then_counted() {
    let mut world = world(&[set(3)]);
    let plan = run(&world, 0);
    let created: Vec<&Value> = plan
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Create { object, .. } => Some(object),
            _ => None,
        })
        .collect();
    assert_eq!(created.len(), 3);
    let names: std::collections::HashSet<_> =
        created.iter().map(|o| o["metadata"]["name"].to_string()).collect();
    assert_eq!(names.len(), 3);
    assert_eq!(created[0]["metadata"]["generateName"], "web-");
    assert_eq!(created[0]["metadata"]["annotations"]["note"], "kept");
    assert_eq!(created[0]["metadata"]["ownerReferences"][0]["controller"], true);
    assert_eq!(created[0]["spec"]["unknownToUs"], true);
    assert!(plan.actions.iter().any(|a| matches!(a, Action::Record(e) if e.reason == "SuccessfulCreate")));

    perform(&mut world, &plan.actions, now(0));
    let second = run(&world, 1);
    assert!(matches!(&second.actions[..], [Action::Patch { patch, .. }] if patch["status"]["replicas"] == 3));
    perform(&mut world, &second.actions, now(1));
    assert_eq!(run(&world, 2), Plan::none(), "settled");
}

#[test]
fn ended_and_terminating_pods_are_replaced() {
    let ended = pod("a", json!({ "status": { "phase": "Failed" } }));
    let going = pod("b", json!({ "metadata": { "deletionTimestamp": "2027-01-15T08:00:00Z" } }));
    let plan = run(&world(&[set(2), ended, going]), 0);
    assert_eq!(plan.actions.iter().filter(|a| matches!(a, Action::Create { .. })).count(), 2);
}

#[test]
fn victims_are_the_cheapest_first() {
    let pods = [
        pod("old-ready", json!({})),
        pod(
            "unscheduled",
            json!({ "spec": { "nodeName": "" }, "status": { "phase": "Pending", "conditions": [] } }),
        ),
        pod("unready", json!({ "status": { "conditions": [] } })),
        pod(
            "cheap",
            json!({ "metadata": { "annotations": { "controller.kubernetes.io/pod-deletion-cost": "-5" } } }),
        ),
        pod("newer", json!({ "metadata": { "creationTimestamp": "2027-01-15T09:00:00Z" } })),
    ];
    for (replicas, expected) in [
        (4, vec!["unscheduled"]),
        (2, vec!["unscheduled", "unready", "cheap"]),
        (1, vec!["unscheduled", "unready", "cheap", "newer"]),
    ] {
        let objects: Vec<Object> = [set(replicas)].into_iter().chain(pods.clone()).collect();
        assert_eq!(deleted(&run(&world(&objects), 0)), expected);
    }
}

#[test]
fn of_equals_the_one_on_the_fullest_node_goes() {
    let objects =
        [set(2), pod("a", json!({ "spec": { "nodeName": "n2" } })), pod("b", json!({})), pod("c", json!({}))];
    assert_eq!(deleted(&run(&world(&objects), 0)), ["c"]);
}

#[test]
fn orphans_are_adopted_and_strangers_released() {
    let orphan = pod("orphan", json!({ "metadata": { "ownerReferences": null } }));
    let stranger = pod("stranger", json!({ "metadata": { "labels": { "app": "other" } } }));
    let plan = run(&world(&[set(1), orphan, stranger]), 0);
    let patches: Vec<_> = plan
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Patch { key, patch, kind, .. } if *kind == &kind::POD => {
                Some((key.name.as_str(), patch["metadata"]["ownerReferences"].as_array().unwrap().len()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(patches, [("stranger", 0), ("orphan", 1)]);
    assert!(!plan.actions.iter().any(|a| matches!(a, Action::Create { .. })), "the orphan counts");
}

#[test]
fn availability_waits_for_min_ready_seconds() {
    let mut value: Value = serde_json::from_slice(&set(1).json).unwrap();
    value["spec"]["minReadySeconds"] = json!(30);
    let ready = json!({ "status": { "conditions": [
        { "type": "Ready", "status": "True", "lastTransitionTime": now(0).to_string() },
    ] } });
    let world = world(&[object(value), pod("a", ready)]);
    let plan = run(&world, 10);
    assert_eq!(plan.requeue_after_ms, Some(20_000));
    let Some(Action::Patch { patch, .. }) = plan.actions.last() else { panic!() };
    assert_eq!(
        (&patch["status"]["readyReplicas"], &patch["status"]["availableReplicas"]),
        (&json!(1), &json!(0))
    );
    let Some(Action::Patch { patch, .. }) = run(&world, 30).actions.last().cloned() else { panic!() };
    assert_eq!(patch["status"]["availableReplicas"], 1);
}

#[test]
fn a_pods_change_touches_its_set_and_an_orphans_every_set_that_selects_it() {
    let mut world = world(&[set(1)]);
    let applied = world.apply(crate::world::Change::put(pod("a", json!({})), 5));
    assert_eq!(keys(&applied, &world).len(), 1);
    let orphan = pod("b", json!({ "metadata": { "ownerReferences": null } }));
    let applied = world.apply(crate::world::Change::put(orphan, 6));
    assert_eq!(keys(&applied, &world)[0].key.name, "web");
}
