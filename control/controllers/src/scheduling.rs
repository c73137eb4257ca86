//! The scheduler as a loop: an unbound Pod is bound, or told why not.

use serde_json::json;
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::view::{Node, Pod};
use weft_scheduler::explain::Unfit;
use weft_scheduler::snapshot::{NodeInfo, Snapshot};
use weft_scheduler::{place, queue};

use crate::action::{Action, Event, key_of};
use crate::pod_facts::{condition, is_active, set_condition, time_of};
use crate::table::{Context, Loop, LoopKey, Plan, no_start};
use crate::world::{Applied, World};

const COMPONENT: &str = "default-scheduler";

pub(crate) const LOOP: Loop =
    Loop { name: "scheduler", watches: &[&kind::POD, &kind::NODE], start: no_start, keys, plan };

/// An unbound Pod's own change, and all unbound Pods when a node changes in a way that may help, or room is freed.
fn keys(change: &Applied, world: &World) -> Vec<LoopKey> {
    let waiting =
        || world.pods_on("").filter(|pod| is_mine(pod)).map(|pod| pod_key(key_of(&pod.metadata))).collect();
    if change.kind == &kind::NODE {
        return if node_matters(change) { waiting() } else { Vec::new() };
    }
    let view = |entry: &Option<std::sync::Arc<crate::world::Entry>>| {
        entry.as_ref().and_then(|e| e.view::<Pod>().cloned())
    };
    let (before, after) = (view(&change.before), view(&change.after));
    if after.as_ref().is_some_and(is_mine) {
        return vec![pod_key(change.key.clone())];
    }
    let held_room = |pod: &Pod| !pod.spec.node_name.is_empty() && !pod.status.is_finished();
    if before.as_ref().is_some_and(held_room) && !after.as_ref().is_some_and(held_room) {
        return waiting();
    }
    Vec::new()
}

fn pod_key(key: ObjectKey) -> LoopKey {
    LoopKey::new(&kind::POD, key)
}

/// A heartbeat changes no placement: only labels, taints, cordon, readiness and room do.
fn node_matters(change: &Applied) -> bool {
    let facts = |node: &Node| {
        let ready = node.status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        let spec = &node.spec;
        (
            node.metadata.labels.clone(),
            spec.taints.clone(),
            spec.unschedulable,
            ready,
            node.status.allocatable.clone(),
        )
    };
    let before = change.before.as_ref().and_then(|entry| entry.view::<Node>()).map(facts);
    let after = change.after.as_ref().and_then(|entry| entry.view::<Node>()).map(facts);
    before != after
}

/// Whether the Pod waits for this scheduler.
fn is_mine(pod: &Pod) -> bool {
    let named = matches!(pod.spec.scheduler_name.as_str(), "" | "default-scheduler");
    named && pod.spec.node_name.is_empty() && pod.spec.scheduling_gates.is_empty() && is_active(pod)
}

fn plan(key: &LoopKey, world: &World, context: &Context) -> Plan {
    let Some(pod) = world.get::<Pod>(&key.key).filter(|pod| is_mine(pod)) else { return Plan::none() };
    match place(pod, &snapshot(pod, world), context.random) {
        Ok(node) => {
            let message = format!("Successfully assigned {} to {node}", key.key);
            let about = (&kind::POD, &pod.metadata);
            Plan::actions(vec![
                Action::Bind { pod: key.key.clone(), uid: pod.metadata.uid.clone(), node: node.to_owned() },
                Action::Record(Event::normal(about, COMPONENT, "Scheduled", message)),
            ])
        }
        Err(why) => refuse(pod, &why, context),
    }
}

fn snapshot<'a>(pod: &Pod, world: &'a World) -> Snapshot<'a> {
    let nodes = world.all::<Node>();
    let nodes = nodes.map(|node| NodeInfo { node, load: world.load_of(&node.metadata.name) }).collect();
    let bound = |other: &&Pod| !other.spec.node_name.is_empty() && is_active(other);
    let siblings =
        pod.metadata.controller().map(|owner| world.owned::<Pod>(&owner.uid).filter(bound).collect());
    let namespace_pods = if pod.spec.topology_spread_constraints.is_empty() {
        Vec::new()
    } else {
        let entries = world.entries(&kind::POD).filter_map(|entry| entry.view::<Pod>());
        entries.filter(|other| other.metadata.namespace == pod.metadata.namespace).filter(bound).collect()
    };
    Snapshot { nodes, namespace_pods, siblings: siblings.unwrap_or_default() }
}

fn refuse(pod: &Pod, why: &Unfit, context: &Context) -> Plan {
    let message = why.to_string();
    let mut conditions = pod.status.conditions.clone();
    let new = condition("PodScheduled", "False", "Unschedulable", message.clone());
    let mut plan = Plan::none();
    if set_condition(&mut conditions, new, context.now) {
        plan.actions.push(Action::status(&kind::POD, &pod.metadata, json!({ "conditions": conditions })));
    }
    let about = (&kind::POD, &pod.metadata);
    plan.actions.push(Action::Record(Event::warning(about, COMPONENT, "FailedScheduling", message)));
    let since = conditions.iter().find(|c| c.type_ == "PodScheduled");
    let since = since.and_then(|c| time_of(c.last_transition_time.as_deref())).unwrap_or(context.now);
    let waited_ms = context.now.as_millisecond().saturating_sub(since.as_millisecond());
    plan.requeue(queue::retry_after_ms(u64::try_from(waited_ms).unwrap_or(0)));
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use weft_api::object::Object;

    use super::*;
    use crate::settings::Settings;
    use crate::testing::{context, now, object, perform, world};
    use crate::world::Change;

    fn node(name: &str, cpu: &str) -> Object {
        object(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
            "status": {
                "allocatable": { "cpu": cpu, "memory": "4Gi", "pods": "110" },
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        }))
    }

    fn pod(name: &str, cpu: &str) -> Object {
        object(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default",
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "rs", "controller": true }] },
            "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] },
        }))
    }

    fn run(world: &World, name: &str, seconds: i64) -> Plan {
        let key = pod_key(ObjectKey::namespaced("default", name));
        plan(&key, world, &context(&Settings::default(), seconds))
    }

    #[test]
    fn siblings_land_on_different_nodes_and_each_binding_is_seen_by_the_next() {
        let mut world = world(&[
            node("a", "2"),
            node("b", "2"),
            node("c", "2"),
            pod("p1", "1"),
            pod("p2", "1"),
            pod("p3", "1"),
        ]);
        for name in ["p1", "p2", "p3"] {
            let plan = run(&world, name, 0);
            assert!(matches!(&plan.actions[1], Action::Record(event) if event.reason == "Scheduled"));
            perform(&mut world, &plan.actions, now(0));
            assert_eq!(run(&world, name, 0), Plan::none(), "bound");
        }
        for node in ["a", "b", "c"] {
            assert_eq!(world.pods_on(node).count(), 1);
        }
    }

    #[test]
    fn a_pod_without_room_is_told_why_once_and_tried_again_later() {
        let mut world = world(&[node("a", "500m"), pod("p", "1")]);
        let plan = run(&world, "p", 0);
        assert_eq!(plan.requeue_after_ms, Some(1000));
        let Action::Patch { patch, .. } = &plan.actions[0] else { panic!("a status") };
        assert_eq!(
            patch["status"]["conditions"][0]["message"],
            "0/1 nodes are available: 1 Insufficient cpu."
        );
        assert!(
            matches!(&plan.actions[1], Action::Record(event) if event.warning && event.reason == "FailedScheduling")
        );
        perform(&mut world, &plan.actions, now(0));
        let again = run(&world, "p", 8);
        assert!(matches!(&again.actions[..], [Action::Record(_)]), "the condition stands already");
        assert_eq!(again.requeue_after_ms, Some(8000));

        let applied = world.apply(Change::put(node("b", "4"), 50));
        assert_eq!(keys(&applied, &world).len(), 1, "a new node is a reason to try");
        let mut beat: Value = serde_json::from_slice(&node("b", "4").json).unwrap();
        beat["status"]["conditions"][0]["lastHeartbeatTime"] = json!("2027-01-15T08:00:00Z");
        let applied = world.apply(Change::put(object(beat), 51));
        assert!(keys(&applied, &world).is_empty(), "a heartbeat is none");
        assert!(matches!(&run(&world, "p", 9).actions[0], Action::Bind { node, .. } if node == "b"));
    }

    #[test]
    fn a_gated_pod_waits_until_its_last_gate_is_gone() {
        let mut value: Value = serde_json::from_slice(&pod("p", "1").json).unwrap();
        value["spec"]["schedulingGates"] = json!([{ "name": "example.com/ready" }]);
        let mut world = world(&[node("a", "2"), object(value)]);
        assert_eq!(run(&world, "p", 0), Plan::none());
        let opened = world.apply(Change::put(pod("p", "1"), 9));
        assert_eq!(keys(&opened, &world).len(), 1);
        assert!(matches!(&run(&world, "p", 1).actions[0], Action::Bind { .. }));
    }

    #[test]
    fn room_that_is_freed_wakes_the_waiting() {
        let mut holder: Value = serde_json::from_slice(&pod("holder", "2").json).unwrap();
        holder["spec"]["nodeName"] = json!("a");
        let mut world = world(&[node("a", "2"), object(holder), pod("p", "1")]);
        assert!(!matches!(&run(&world, "p", 0).actions[0], Action::Bind { .. }));
        let applied = world.apply(Change::removed(&kind::POD, ObjectKey::namespaced("default", "holder"), 9));
        assert_eq!(keys(&applied, &world), [pod_key(ObjectKey::namespaced("default", "p"))]);
        assert!(matches!(&run(&world, "p", 1).actions[0], Action::Bind { .. }));
    }
}
