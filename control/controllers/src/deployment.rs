//! Deployment: a ReplicaSet per template, and the walk from the old ones to the new.
//!
//! One plan makes at most one step of the walk; the ReplicaSets' changes bring the next.

mod history;
mod roll;
mod status;
mod template;

use serde_json::json;
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::selector::Selector;
use weft_api::view::{Deployment, Pod, ReplicaSet};

use crate::action::{Action, Event, controller_reference, key_of};
use crate::pod_facts::{controller_of, is_controlled_by};
use crate::table::{Context, Loop, LoopKey, Plan, no_start};
use crate::world::{Applied, World};

const COMPONENT: &str = "deployment-controller";

pub(crate) const LOOP: Loop = Loop {
    name: "deployment",
    watches: &[&kind::DEPLOYMENT, &kind::REPLICA_SET, &kind::POD],
    start: no_start,
    keys,
    plan,
};

fn keys(change: &Applied, world: &World) -> Vec<LoopKey> {
    let mut keys = Vec::new();
    let mut add = |key: ObjectKey| {
        let key = LoopKey::new(&kind::DEPLOYMENT, key);
        if !keys.contains(&key) {
            keys.push(key);
        }
    };
    if change.kind == &kind::DEPLOYMENT {
        add(change.key.clone());
    } else if change.kind == &kind::REPLICA_SET {
        for set in change.views::<ReplicaSet>() {
            let namespace = &set.metadata.namespace;
            if let Some(owner) = controller_of(&set.metadata, &kind::DEPLOYMENT) {
                add(ObjectKey::namespaced(namespace.clone(), owner.name.clone()));
            } else if set.metadata.controller().is_none() {
                for deployment in world.all_in::<Deployment>(namespace) {
                    if selector(deployment).matches(&set.metadata.labels) {
                        add(key_of(&deployment.metadata));
                    }
                }
            }
        }
    } else if change.after.is_none() {
        // `Recreate` waits until the old Pods are gone.
        let pod = change.before.as_ref().and_then(|entry| entry.view::<Pod>());
        let set = pod.and_then(|pod| controller_of(&pod.metadata, &kind::REPLICA_SET));
        let set = set.map(|owner| ObjectKey::namespaced(change.key.namespace.clone(), owner.name.clone()));
        let set = set.and_then(|key| world.get::<ReplicaSet>(&key));
        if let Some(owner) = set.and_then(|set| controller_of(&set.metadata, &kind::DEPLOYMENT)) {
            add(ObjectKey::namespaced(change.key.namespace.clone(), owner.name.clone()));
        }
    }
    keys
}

/// A Deployment with its ReplicaSets.
struct Rollout<'a> {
    deployment: &'a Deployment,
    /// The one of the current template, if there is one.
    new: Option<&'a ReplicaSet>,
    /// The others, oldest first.
    old: Vec<&'a ReplicaSet>,
}

impl<'a> Rollout<'a> {
    fn wanted(&self) -> u32 {
        self.deployment.spec.replicas.unwrap_or(1)
    }

    fn asked_in_all(&self) -> u32 {
        total_of(self.all().map(asked))
    }

    fn all(&self) -> impl Iterator<Item = &'a ReplicaSet> {
        self.new.iter().chain(&self.old).copied().collect::<Vec<_>>().into_iter()
    }
}

/// A sum of replicas; however many somebody asks for, it does not overflow.
fn total_of(replicas: impl Iterator<Item = u32>) -> u32 {
    replicas.fold(0, u32::saturating_add)
}

/// Replicas asked of a set.
fn asked(set: &ReplicaSet) -> u32 {
    set.spec.replicas.unwrap_or(1)
}

fn plan(key: &LoopKey, world: &World, context: &Context) -> Plan {
    let Some(deployment) = world.get::<Deployment>(&key.key) else { return Plan::none() };
    let mut actions = Vec::new();
    let sets = claim(deployment, world, &mut actions);
    if !actions.is_empty() {
        return Plan::actions(actions);
    }
    let rollout = divide(deployment, sets);
    let mut plan = Plan::none();
    if !deployment.metadata.is_terminating() {
        // The annotations come first and alone: their change brings the next run.
        history::annotate(&rollout, &mut plan.actions);
        if plan.actions.is_empty() {
            walk(&rollout, world, &mut plan.actions);
        }
        if status::is_complete(&rollout) {
            history::prune(&rollout, &mut plan.actions);
        }
    }
    status::write(&rollout, context, &mut plan);
    plan
}

/// One step of the walk.
fn walk(rollout: &Rollout, world: &World, actions: &mut Vec<Action>) {
    if rollout.deployment.spec.paused || roll::is_resizing(rollout) {
        return roll::resize(rollout, actions);
    }
    match rollout.new {
        None => roll::begin(rollout, world, actions),
        Some(new) => roll::step(rollout, new, world, actions),
    }
}

fn selector(deployment: &Deployment) -> Selector {
    let selector = &deployment.spec.selector;
    if selector.match_labels.is_empty() && selector.match_expressions.is_empty() {
        return Selector::nothing();
    }
    Selector::from_label_selector(selector).unwrap_or_else(|_| Selector::nothing())
}

/// The ReplicaSets that are the Deployment's own; adopting and releasing comes before anything else.
fn claim<'a>(deployment: &Deployment, world: &'a World, actions: &mut Vec<Action>) -> Vec<&'a ReplicaSet> {
    let selector = selector(deployment);
    let uid = &deployment.metadata.uid;
    let mut mine = Vec::new();
    for set in world.owned::<ReplicaSet>(uid).filter(|set| is_controlled_by(&set.metadata, uid)) {
        if selector.matches(&set.metadata.labels) || deployment.metadata.is_terminating() {
            mine.push(set);
        } else if !set.metadata.is_terminating() {
            let mut owners = set.metadata.owner_references.clone();
            owners.retain(|owner| owner.uid != *uid);
            let patch = json!({ "metadata": { "ownerReferences": owners } });
            actions.push(Action::patch(&kind::REPLICA_SET, &set.metadata, patch));
        }
    }
    for set in world.orphans::<ReplicaSet>().filter(|_| !deployment.metadata.is_terminating()) {
        let candidate =
            set.metadata.namespace == deployment.metadata.namespace && !set.metadata.is_terminating();
        if candidate && selector.matches(&set.metadata.labels) {
            let mut owners = set.metadata.owner_references.clone();
            owners.push(controller_reference(&kind::DEPLOYMENT, &deployment.metadata));
            let patch = json!({ "metadata": { "ownerReferences": owners } });
            actions.push(Action::patch(&kind::REPLICA_SET, &set.metadata, patch));
        }
    }
    mine
}

fn divide<'a>(deployment: &'a Deployment, mut sets: Vec<&'a ReplicaSet>) -> Rollout<'a> {
    sets.sort_by(|a, b| {
        let by = |set: &ReplicaSet| (set.metadata.creation_timestamp.clone(), set.metadata.name.clone());
        by(a).cmp(&by(b))
    });
    let new = sets.iter().position(|set| template::same(&set.spec.template, &deployment.spec.template));
    let new = new.map(|i| sets.remove(i));
    Rollout { deployment, new, old: sets }
}

/// A change of one set's replicas, with its event.
fn scale(rollout: &Rollout, set: &ReplicaSet, replicas: u32, actions: &mut Vec<Action>) {
    let before = asked(set);
    let mut patch = json!({ "metadata": { "annotations": history::sizes(rollout) } });
    if before != replicas {
        patch["spec"] = json!({ "replicas": replicas });
    }
    actions.push(Action::patch(&kind::REPLICA_SET, &set.metadata, patch));
    if before != replicas {
        actions.push(scaled(rollout, &set.metadata.name, before, replicas));
    }
}

fn scaled(rollout: &Rollout, set: &str, before: u32, after: u32) -> Action {
    let way = if after > before { "up" } else { "down" };
    let message = format!("Scaled {way} replica set {set} from {before} to {after}");
    let about = (&kind::DEPLOYMENT, &rollout.deployment.metadata);
    Action::Record(Event::normal(about, COMPONENT, "ScalingReplicaSet", message))
}

#[cfg(test)]
mod tests;
