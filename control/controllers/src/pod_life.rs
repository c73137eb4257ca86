//! Pods nobody looks after any more: bound to a node that is gone, or ended long ago.

use serde_json::json;
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::view::node::Condition;
use weft_api::view::{Node, Pod};

use crate::action::{Action, Event, key_of};
use crate::pod_facts::{condition, set_condition, time_of};
use crate::table::{Context, Loop, LoopKey, Plan, no_start};
use crate::world::{Applied, World};

const COMPONENT: &str = "pod-garbage-collector";
const DOOMED: &str = "DisruptionTarget";
const REASON: &str = "DeletionByPodGC";
/// A node that is gone may come back under its name (a new machine, a new registration): its Pods wait so long.
const PATIENCE_MS: i64 = 40_000;
/// The key that stands for all ended Pods.
const ENDED: &str = "ended";

pub(crate) const LOOP: Loop =
    Loop { name: "pod-life", watches: &[&kind::POD, &kind::NODE], start: no_start, keys, plan };

fn keys(change: &Applied, world: &World) -> Vec<LoopKey> {
    let pod_key = |pod: &Pod| LoopKey::new(&kind::POD, key_of(&pod.metadata));
    if change.kind == &kind::NODE {
        let appears_or_goes = change.before.is_none() || change.after.is_none();
        return if appears_or_goes {
            world.pods_on(&change.key.name).map(pod_key).collect()
        } else {
            Vec::new()
        };
    }
    let mut keys = Vec::new();
    let Some(pod) = change.after.as_ref().and_then(|entry| entry.view::<Pod>()) else { return keys };
    let node = &pod.spec.node_name;
    if !node.is_empty() && world.get::<Node>(&ObjectKey::cluster(node.clone())).is_none() {
        keys.push(pod_key(pod));
    }
    let was_ended =
        change.before.as_ref().and_then(|entry| entry.view::<Pod>()).is_some_and(|p| p.status.is_finished());
    if pod.status.is_finished() && !was_ended {
        keys.push(LoopKey::new(&kind::POD, ObjectKey::cluster(ENDED)));
    }
    keys
}

fn plan(key: &LoopKey, world: &World, context: &Context) -> Plan {
    if key.key.namespace.is_empty() {
        return bound_ended(world, context);
    }
    let Some(pod) = world.get::<Pod>(&key.key) else { return Plan::none() };
    let node = &pod.spec.node_name;
    let is_ours = |c: &Condition| c.type_ == DOOMED && c.status == "True" && c.reason == REASON;
    let doomed = pod.status.conditions.iter().find(|c| is_ours(c));
    if node.is_empty() || world.get::<Node>(&ObjectKey::cluster(node.clone())).is_some() {
        // It came back: the next time its Pods wait anew.
        let kept: Vec<&Condition> = pod.status.conditions.iter().filter(|c| !is_ours(c)).collect();
        let patch = doomed.map(|_| Action::status(&kind::POD, &pod.metadata, json!({ "conditions": kept })));
        return Plan::actions(patch.into_iter().collect());
    }
    let Some(doomed) = doomed else {
        let mut conditions = pod.status.conditions.clone();
        let message = format!("the Pod's node {node} does not exist");
        set_condition(&mut conditions, condition(DOOMED, "True", REASON, message), context.now);
        let actions = vec![Action::status(&kind::POD, &pod.metadata, json!({ "conditions": conditions }))];
        return Plan { actions, requeue_after_ms: u64::try_from(PATIENCE_MS).ok() };
    };
    let since = time_of(doomed.last_transition_time.as_deref()).unwrap_or(context.now);
    let left_ms =
        since.as_millisecond().saturating_add(PATIENCE_MS).saturating_sub(context.now.as_millisecond());
    if left_ms > 0 {
        return Plan { actions: Vec::new(), requeue_after_ms: u64::try_from(left_ms).ok() };
    }
    let message = format!("Deleted, since its node {node} does not exist");
    let about = (&kind::POD, &pod.metadata);
    Plan::actions(vec![Action::Record(Event::normal(about, COMPONENT, "NodeGone", message)), remove(pod)])
}

/// Removes a Pod at once: there is no agent that could end it.
fn remove(pod: &Pod) -> Action {
    Action::Delete {
        kind: &kind::POD,
        key: key_of(&pod.metadata),
        uid: pod.metadata.uid.clone(),
        resource_version: None,
        grace_seconds: Some(0),
        foreground: false,
    }
}

/// Keeps the number of ended Pods bounded: the oldest go.
fn bound_ended(world: &World, context: &Context) -> Plan {
    let ended = world.all::<Pod>().filter(|pod| pod.status.is_finished() && !pod.metadata.is_terminating());
    let mut ended: Vec<&Pod> = ended.collect();
    let excess = ended.len().saturating_sub(context.settings.finished_pods_max);
    ended.sort_by(|a, b| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp));
    Plan::actions(
        ended.into_iter().take(excess).map(|pod| Action::delete(&kind::POD, &pod.metadata)).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::testing::{context, now, object, perform, world};
    use crate::world::Change;
    use weft_api::object::Object;

    fn pod(name: &str, phase: &str, second: i64) -> Object {
        object(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "creationTimestamp": now(second).to_string() },
            "spec": { "nodeName": "n1" }, "status": { "phase": phase },
        }))
    }

    #[test]
    fn pods_of_a_node_that_is_gone_wait_a_while_and_are_removed() {
        let node = object(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" } }));
        let mut world = world(&[node.clone(), pod("p", "Running", 0)]);
        let key = LoopKey::new(&kind::POD, ObjectKey::namespaced("default", "p"));
        let settings = Settings::default();
        assert_eq!(plan(&key, &world, &context(&settings, 0)), Plan::none());
        let gone = world.apply(Change::removed(&kind::NODE, ObjectKey::cluster("n1"), 9));
        assert_eq!(keys(&gone, &world), std::slice::from_ref(&key));
        let first = plan(&key, &world, &context(&settings, 10));
        assert_eq!(first.requeue_after_ms, Some(40_000));
        perform(&mut world, &first.actions, now(10));
        assert_eq!(plan(&key, &world, &context(&settings, 30)).requeue_after_ms, Some(20_000));
        let last = plan(&key, &world, &context(&settings, 50));
        assert!(matches!(&last.actions[1], Action::Delete { grace_seconds: Some(0), .. }));
        let _ = world.apply(Change::put(node, 60));
        let back = plan(&key, &world, &context(&settings, 50));
        perform(&mut world, &back.actions, now(50));
        assert!(world.get::<Pod>(&key.key).unwrap().status.conditions.is_empty(), "it came back");
        assert_eq!(plan(&key, &world, &context(&settings, 51)), Plan::none());
    }

    #[test]
    fn ended_pods_are_bounded() {
        let world = world(&[
            pod("a", "Failed", 3),
            pod("b", "Succeeded", 1),
            pod("c", "Failed", 2),
            pod("d", "Running", 0),
        ]);
        let settings = Settings { finished_pods_max: 2, ..Settings::default() };
        let key = LoopKey::new(&kind::POD, ObjectKey::cluster(ENDED));
        let plan = plan(&key, &world, &context(&settings, 10));
        assert!(matches!(&plan.actions[..], [Action::Delete { key, .. }] if key.name == "b"));
    }
}
