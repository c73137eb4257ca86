//! The indexes stay in step with the objects.

use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::view::Pod;

use super::*;
use crate::testing::object;

fn pod(name: &str, node: &str, owner: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default",
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": owner }],
        },
        "spec": {
            "nodeName": node,
            "containers": [{ "name": "c", "resources": { "requests": { "cpu": "100m" } } }],
        },
    })
}

fn names<'a>(pods: impl Iterator<Item = &'a Pod>) -> Vec<&'a str> {
    pods.map(|pod| pod.metadata.name.as_str()).collect()
}

#[test]
fn a_pod_moves_through_the_indexes() {
    let mut world = World::new();
    let _ = world.apply(Change::put(object(pod("a", "", "rs-1")), 1));
    assert_eq!(names(world.pods_on("")), ["a"]);
    assert!(world.load_of("n1").is_none());

    let applied = world.apply(Change::put(object(pod("a", "n1", "rs-1")), 2));
    assert_eq!(applied.before.unwrap().view::<Pod>().unwrap().spec.node_name, "");
    assert_eq!(names(world.pods_on("n1")), ["a"]);
    assert_eq!(names(world.pods_on("")), [""; 0]);
    assert_eq!(names(world.owned("rs-1")), ["a"]);
    assert_eq!(world.load_of("n1").unwrap().pods, 1);
    assert_eq!(world.by_uid("uid-a").unwrap().0, &kind::POD);

    let mut ended = pod("a", "n1", "rs-1");
    ended["status"] = json!({ "phase": "Succeeded" });
    let _ = world.apply(Change::put(object(ended), 3));
    assert!(world.load_of("n1").is_none(), "an ended Pod takes no room");
    assert_eq!(names(world.pods_on("n1")), ["a"]);

    let gone = world.apply(Change::removed(&kind::POD, ObjectKey::namespaced("default", "a"), 4));
    assert!(gone.after.is_none());
    assert_eq!(world.owned_by("rs-1").count(), 0);
    assert!(world.by_uid("uid-a").is_none());
    assert_eq!(world.revision(), 4);
}

#[test]
fn applying_twice_changes_nothing_and_namespaces_are_kept_apart() {
    let mut world = World::new();
    for revision in [1, 1] {
        let _ = world.apply(Change::put(object(pod("a", "n1", "rs-1")), revision));
    }
    let mut other = pod("b", "n1", "rs-2");
    other["metadata"]["namespace"] = json!("defaulted");
    let _ = world.apply(Change::put(object(other), 2));
    assert_eq!(world.load_of("n1").unwrap().pods, 2);
    assert_eq!(names(world.all_in("default")), ["a"]);
    assert_eq!(world.count(&kind::POD), 2);
}
