//! ReplicaSet: as many Pods as asked for. Adopts and releases by selector, creates, chooses whom to delete, counts.

use std::collections::HashMap;

use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::selector::Selector;
use weft_api::view::{Pod, ReplicaSet};

use crate::action::{Action, Event, controller_reference, key_of};
use crate::pod_facts::{available_in_ms, controller_of, is_active, is_controlled_by, is_ready, mix, suffix};
use crate::table::{Context, Loop, LoopKey, Plan, no_start};
use crate::world::{Applied, World};

/// Most Pods one plan creates or deletes; the rest follows when these are there.
const BURST_MAX: usize = 500;
const COMPONENT: &str = "replicaset-controller";

pub(crate) const LOOP: Loop =
    Loop { name: "replica-set", watches: &[&kind::REPLICA_SET, &kind::POD], start: no_start, keys, plan };

fn keys(change: &Applied, world: &World) -> Vec<LoopKey> {
    let mut keys = Vec::new();
    let mut add = |key: ObjectKey| {
        let key = LoopKey::new(&kind::REPLICA_SET, key);
        if !keys.contains(&key) {
            keys.push(key);
        }
    };
    if change.kind == &kind::REPLICA_SET {
        add(change.key.clone());
        return keys;
    }
    for pod in change.views::<Pod>() {
        let namespace = &pod.metadata.namespace;
        if let Some(owner) = controller_of(&pod.metadata, &kind::REPLICA_SET) {
            add(ObjectKey::namespaced(namespace.clone(), owner.name.clone()));
        } else if pod.metadata.controller().is_none() {
            for set in world.all_in::<ReplicaSet>(namespace) {
                if selector(set).matches(&pod.metadata.labels) {
                    add(key_of(&set.metadata));
                }
            }
        }
    }
    keys
}

fn plan(key: &LoopKey, world: &World, context: &Context) -> Plan {
    let Some(set) = world.get::<ReplicaSet>(&key.key) else { return Plan::none() };
    let mut actions = Vec::new();
    let selector = selector(set);
    let pods = claim(set, &selector, world, &mut actions);
    let active: Vec<&Pod> = pods.iter().copied().filter(|pod| is_active(pod)).collect();
    if !set.metadata.is_terminating() {
        let wanted = set.spec.replicas.unwrap_or(1) as usize;
        if active.len() < wanted {
            create(set, (wanted - active.len()).min(BURST_MAX), world, context, &mut actions);
        } else if active.len() > wanted {
            delete(set, &active, (active.len() - wanted).min(BURST_MAX), &mut actions);
        }
    }
    let mut plan = Plan::actions(actions);
    count(set, &active, context, &mut plan);
    plan
}

pub(crate) fn selector(set: &ReplicaSet) -> Selector {
    let selector = &set.spec.selector;
    if selector.match_labels.is_empty() && selector.match_expressions.is_empty() {
        return Selector::nothing();
    }
    Selector::from_label_selector(selector).unwrap_or_else(|_| Selector::nothing())
}

/// The Pods that are the set's own, orphans adopted, strangers released.
fn claim<'a>(
    set: &ReplicaSet,
    selector: &Selector,
    world: &'a World,
    actions: &mut Vec<Action>,
) -> Vec<&'a Pod> {
    let mut mine = Vec::new();
    for pod in world.owned::<Pod>(&set.metadata.uid) {
        if !is_controlled_by(&pod.metadata, &set.metadata.uid) {
            continue;
        }
        if selector.matches(&pod.metadata.labels) || set.metadata.is_terminating() {
            mine.push(pod);
        } else if !pod.metadata.is_terminating() {
            let mut owners = pod.metadata.owner_references.clone();
            owners.retain(|owner| owner.uid != set.metadata.uid);
            actions.push(Action::patch(
                &kind::POD,
                &pod.metadata,
                json!({ "metadata": { "ownerReferences": owners } }),
            ));
        }
    }
    if set.metadata.is_terminating() {
        return mine;
    }
    for pod in world.orphans::<Pod>() {
        let candidate = pod.metadata.namespace == set.metadata.namespace && is_active(pod);
        if candidate && selector.matches(&pod.metadata.labels) {
            let mut owners = pod.metadata.owner_references.clone();
            owners.push(controller_reference(&kind::REPLICA_SET, &set.metadata));
            actions.push(Action::patch(
                &kind::POD,
                &pod.metadata,
                json!({ "metadata": { "ownerReferences": owners } }),
            ));
            mine.push(pod);
        }
    }
    mine
}

fn create(set: &ReplicaSet, count: usize, world: &World, context: &Context, actions: &mut Vec<Action>) {
    for i in 0..count {
        let random = mix(context.random ^ (i as u64).rotate_left(32));
        let names = (0..8).map(|n| format!("{}-{}", set.metadata.name, suffix(random.wrapping_add(n))));
        let mut free = names.filter(|name| {
            let key = ObjectKey::namespaced(set.metadata.namespace.clone(), name.clone());
            world.object(&kind::POD, &key).is_none()
        });
        // Eight taken names in a row do not happen; if they do, the next plan has other numbers.
        let Some(name) = free.next() else { continue };
        let mut metadata = json!({
            "name": name,
            "generateName": format!("{}-", set.metadata.name),
            "namespace": set.metadata.namespace,
            "ownerReferences": [controller_reference(&kind::REPLICA_SET, &set.metadata)],
        });
        for field in ["labels", "annotations", "finalizers"] {
            if let Some(value) = set.spec.template["metadata"].get(field) {
                metadata[field] = value.clone();
            }
        }
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": set.spec.template["spec"],
        });
        actions.push(Action::Create { kind: &kind::POD, object });
        let message = format!("Created pod: {name}");
        let about = (&kind::REPLICA_SET, &set.metadata);
        actions.push(Action::Record(Event::normal(about, COMPONENT, "SuccessfulCreate", message)));
    }
}

/// Deletes those whose loss costs least.
fn delete(set: &ReplicaSet, active: &[&Pod], count: usize, actions: &mut Vec<Action>) {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in active {
        *on_node.entry(pod.spec.node_name.as_str()).or_default() += 1;
    }
    let mut victims = active.to_vec();
    victims
        .sort_by_cached_key(|pod| cost(pod, on_node.get(pod.spec.node_name.as_str()).copied().unwrap_or(0)));
    for pod in victims.into_iter().take(count) {
        actions.push(Action::delete(&kind::POD, &pod.metadata));
        let message = format!("Deleted pod: {}", pod.metadata.name);
        let about = (&kind::REPLICA_SET, &set.metadata);
        actions.push(Action::Record(Event::normal(about, COMPONENT, "SuccessfulDelete", message)));
    }
}

/// What a Pod's loss costs, the cheapest first: unscheduled, not running, unready, by `pod-deletion-cost`, one of many
/// on its node, lately ready, newest, last by name. The order is Kubernetes' own.
fn cost(pod: &Pod, siblings_on_node: usize) -> impl Ord + use<> {
    let phase = match pod.status.phase.as_str() {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let annotated = pod.metadata.annotations.get("controller.kubernetes.io/pod-deletion-cost");
    let annotated: i64 = annotated.and_then(|text| text.parse().ok()).unwrap_or(0);
    let ready_since = pod.status.conditions.iter().find(|c| c.type_ == "Ready" && c.status == "True");
    let ready_since = ready_since.and_then(|c| c.last_transition_time.clone());
    (
        !pod.spec.node_name.is_empty(),
        phase,
        is_ready(pod),
        annotated,
        std::cmp::Reverse(siblings_on_node),
        std::cmp::Reverse(ready_since),
        std::cmp::Reverse(pod.metadata.creation_timestamp.clone()),
        std::cmp::Reverse(pod.metadata.name.clone()),
    )
}

/// Writes the status if it changed, and asks for another run when a Pod becomes available by waiting.
fn count(set: &ReplicaSet, active: &[&Pod], context: &Context, plan: &mut Plan) {
    let template = labels_of(&set.spec.template);
    let (mut labeled, mut ready, mut available) = (0u32, 0u32, 0u32);
    for pod in active {
        labeled +=
            u32::from(template.iter().all(|(key, value)| pod.metadata.labels.get(*key) == Some(value)));
        ready += u32::from(is_ready(pod));
        match available_in_ms(pod, set.spec.min_ready_seconds, context.now) {
            Some(0) => available += 1,
            Some(ms) => plan.requeue(ms),
            None => {}
        }
    }
    let replicas = u32::try_from(active.len()).unwrap_or(u32::MAX);
    let old = &set.status;
    let old_counts = (old.replicas, old.fully_labeled_replicas, old.ready_replicas, old.available_replicas);
    if old_counts != (replicas, labeled, ready, available)
        || old.observed_generation != set.metadata.generation
    {
        let status = json!({
            "replicas": replicas,
            "fullyLabeledReplicas": labeled,
            "readyReplicas": ready,
            "availableReplicas": available,
            "observedGeneration": set.metadata.generation,
        });
        plan.actions.push(Action::status(&kind::REPLICA_SET, &set.metadata, status));
    }
}

fn labels_of(template: &Value) -> Vec<(&String, String)> {
    let labels = template["metadata"]["labels"].as_object();
    labels.into_iter().flatten().map(|(key, value)| (key, value.as_str().unwrap_or("").to_owned())).collect()
}

#[cfg(test)]
mod tests;
