//! A node's health: a Lease that is not renewed makes it `Unknown`, or, long before, the word of its neighbours that it is
//! dead. Taints follow its conditions, and Pods that do not bear the taints leave in time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::view::node::Condition;
use weft_api::view::{Lease, Node, Pod, Taint};

use crate::action::{Action, Event};
use crate::pod_facts::{condition, set_condition, time_of};
use crate::record::seconds;
use crate::table::{Context, Loop, LoopKey, Plan, no_start};
use crate::world::{Applied, World};

/// The annotation of a node that is taken for dead, since when (RFC 3339): nothing was heard of it, and neighbours that
/// could have heard it did not either. Void once its Lease is renewed later.
pub const LOST_SINCE: &str = "weft.io/lost-since";

const COMPONENT: &str = "node-controller";
/// Namespace of the nodes' Leases.
const LEASES: &str = "kube-node-lease";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Reason of a condition that this loop set because nothing is heard of the node.
const UNHEARD: &str = "NodeStatusUnknown";
const NODE_NOT_READY: &str = "NodeNotReady";
/// How often a silent node is looked at while no other bears witness, milliseconds.
const WITNESS_RETRY_MS: u64 = 10_000;

pub(crate) const LOOP: Loop = Loop {
    name: "node-life",
    watches: &[&kind::NODE, &kind::LEASE, &kind::POD],
    start: no_start,
    keys,
    plan,
};

fn keys(change: &Applied, world: &World) -> Vec<LoopKey> {
    let key = |name: &str| LoopKey::new(&kind::NODE, ObjectKey::cluster(name));
    if change.kind == &kind::NODE {
        return vec![key(&change.key.name)];
    }
    if change.kind == &kind::LEASE {
        // A renewal in time changes nothing; the run that is due at the end of the Lease looks at it again.
        let ready = world.get::<Node>(&ObjectKey::cluster(change.key.name.clone()));
        let settled = ready.is_some_and(|node| ready_status(node) == "True") && change.before.is_some();
        let ours = change.key.namespace == LEASES && !(settled && change.after.is_some());
        return if ours { vec![key(&change.key.name)] } else { Vec::new() };
    }
    // A Pod bound to a node that is tainted already has its own time to leave.
    let pod = change
        .after
        .as_ref()
        .and_then(|entry| entry.view::<Pod>())
        .filter(|pod| !pod.spec.node_name.is_empty());
    let node = pod.and_then(|pod| world.get::<Node>(&ObjectKey::cluster(pod.spec.node_name.clone())));
    let tainted = node.filter(|node| node.spec.taints.iter().any(|taint| taint.effect == "NoExecute"));
    tainted.map(|node| key(&node.metadata.name)).into_iter().collect()
}

fn plan(key: &LoopKey, world: &World, context: &Context) -> Plan {
    let Some(node) = world.get::<Node>(&key.key) else { return Plan::none() };
    let mut plan = Plan::none();
    let life = Life::of(node, world, context);
    if let Some(ms) = life.left_ms(context.now) {
        plan.requeue(ms);
    }
    if let Some(conditions) = judge(node, life, context.now) {
        if ready_status(node) == "True" {
            let message = format!("Node {} status is now: {NODE_NOT_READY}", key.key.name);
            let about = (&kind::NODE, &node.metadata);
            plan.actions.push(Action::Record(Event::warning(about, COMPONENT, NODE_NOT_READY, message)));
        }
        plan.actions.push(Action::status(&kind::NODE, &node.metadata, json!({ "conditions": conditions })));
        // The taints follow the conditions when these are there.
        return plan;
    }
    if life != Life::Silent && node.metadata.annotations.contains_key(LOST_SINCE) {
        let void = json!({ "metadata": { "annotations": { (LOST_SINCE): null } } });
        plan.actions.push(Action::patch(&kind::NODE, &node.metadata, void));
        return plan;
    }
    let wanted = taints(node, context.now);
    if wanted != node.spec.taints {
        plan.actions.push(Action::patch(
            &kind::NODE,
            &node.metadata,
            json!({ "spec": { "taints": wanted } }),
        ));
        return plan;
    }
    if ready_status(node) == "Unknown" && !is_witnessed(node, world, context) {
        plan.requeue(WITNESS_RETRY_MS);
        return plan;
    }
    for pod in world.pods_on(&key.key.name) {
        mark(node, pod, context.now, &mut plan);
        evict(node, pod, context, &mut plan);
    }
    plan
}

fn ready_condition(node: &Node) -> Option<&Condition> {
    node.status.conditions.iter().find(|c| c.type_ == "Ready")
}

fn ready_status(node: &Node) -> &str {
    ready_condition(node).map_or("", |c| c.status.as_str())
}

/// What the node's Lease says of its life; times are milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    /// Its last word counts until then.
    Heard { until_ms: i64 },
    /// Its last word is old, but nobody could renew while the control plane was away: it has until then to speak.
    Awaited { until_ms: i64 },
    /// Nothing is heard of it.
    Silent,
}

impl Life {
    fn of(node: &Node, world: &World, context: &Context) -> Self {
        if is_lost(node, world, context) {
            return Self::Silent;
        }
        let (now_ms, lasts_ms) = (context.now.as_millisecond(), lasts_ms(context));
        let until_ms = last_word_ms(node, world, context).saturating_add(lasts_ms);
        if until_ms > now_ms {
            return Self::Heard { until_ms };
        }
        let began_ms = context.settings.leading_since.map_or(i64::MIN, Timestamp::as_millisecond);
        let until_ms = began_ms.saturating_add(lasts_ms);
        if until_ms > now_ms { Self::Awaited { until_ms } } else { Self::Silent }
    }

    /// How long this holds if nothing is heard, milliseconds.
    fn left_ms(self, now: Timestamp) -> Option<u64> {
        match self {
            Self::Heard { until_ms } | Self::Awaited { until_ms } => {
                u64::try_from(until_ms - now.as_millisecond()).ok()
            }
            Self::Silent => None,
        }
    }
}

/// How long a word of a node counts, milliseconds.
fn lasts_ms(context: &Context) -> i64 {
    i64::from(context.settings.node_lease_seconds) * 1000
}

fn renewed_ms(node: &Node, world: &World) -> Option<i64> {
    let lease = world.get::<Lease>(&ObjectKey::namespaced(LEASES, node.metadata.name.clone()))?;
    Some(time_of(lease.spec.renew_time.as_deref())?.as_millisecond())
}

/// When the node was last heard of, milliseconds since the epoch; its registration is a word too.
fn last_word_ms(node: &Node, world: &World, context: &Context) -> i64 {
    let created = time_of(node.metadata.creation_timestamp.as_deref()).map(Timestamp::as_millisecond);
    let last = [renewed_ms(node, world), created].into_iter().flatten().max();
    last.unwrap_or(context.now.as_millisecond())
}

/// Whether it was found dead after its last word.
fn is_lost(node: &Node, world: &World, context: &Context) -> bool {
    let since = time_of(node.metadata.annotations.get(LOST_SINCE).map(String::as_str));
    since.is_some_and(|since| since.as_millisecond() > last_word_ms(node, world, context))
}

/// Whether its neighbours say so too; or another node was heard of well after this one fell silent, and is so for a while: otherwise it is the control
/// plane that is cut off, or was a moment ago, and no Pod would be better off elsewhere.
fn is_witnessed(node: &Node, world: &World, context: &Context) -> bool {
    if is_lost(node, world, context) {
        return true;
    }
    let lasts_ms = lasts_ms(context);
    let silent_ms = last_word_ms(node, world, context).saturating_add(lasts_ms / 2);
    let settled_ms = context.now.as_millisecond().saturating_sub(lasts_ms);
    world.all::<Node>().filter(|other| other.metadata.uid != node.metadata.uid).any(|other| {
        let Some(ready) = ready_condition(other).filter(|c| c.status == "True") else { return false };
        let since = time_of(ready.last_transition_time.as_deref());
        since.is_none_or(|since| since.as_millisecond() <= settled_ms)
            && renewed_ms(other, world).is_some_and(|renewed| renewed >= silent_ms)
    })
}

/// The conditions as they must be set, if they must: unknown when nothing is heard, and back when something is again.
fn judge(node: &Node, life: Life, now: Timestamp) -> Option<Vec<Condition>> {
    let mut conditions = node.status.conditions.clone();
    let mut changed = false;
    match life {
        Life::Awaited { .. } => {}
        Life::Heard { .. } => {
            // The agent renews its Lease only while it works; its next report replaces this.
            for condition_ in node.status.conditions.iter().filter(|c| c.reason == UNHEARD) {
                let (status, reason) = if condition_.type_ == "Ready" {
                    ("True", "AgentReady")
                } else {
                    ("False", "AgentHeard")
                };
                let again = condition(&condition_.type_, status, reason, "the agent renews its Lease again");
                changed |= set_condition(&mut conditions, again, now);
            }
        }
        Life::Silent => {
            for type_ in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
                let known = node.status.conditions.iter().find(|c| c.type_ == type_);
                if known.map_or(type_ != "Ready", |c| c.status == "Unknown") {
                    continue;
                }
                let message = "the agent stopped reporting the node's status";
                changed |= set_condition(&mut conditions, condition(type_, "Unknown", UNHEARD, message), now);
            }
        }
    }
    changed.then_some(conditions)
}

/// The taints the node must have: its own, and those that follow from its conditions and its cordon.
fn taints(node: &Node, now: Timestamp) -> Vec<Taint> {
    let ready = ready_status(node);
    let following = match ready {
        "True" => None,
        "Unknown" => Some(UNREACHABLE),
        _ => Some(NOT_READY),
    };
    let mut wanted: BTreeMap<(&str, &str), ()> = BTreeMap::new();
    if let Some(key) = following {
        wanted.insert((key, "NoSchedule"), ());
        wanted.insert((key, "NoExecute"), ());
    }
    if node.spec.unschedulable {
        wanted.insert((UNSCHEDULABLE, "NoSchedule"), ());
    }
    let mut taints: Vec<Taint> = Vec::new();
    for taint in &node.spec.taints {
        let ours = [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str());
        let kept = wanted.remove(&(taint.key.as_str(), taint.effect.as_str())).is_some();
        if !ours || kept {
            taints.push(taint.clone());
        }
    }
    for (key, effect) in wanted.into_keys() {
        taints.push(Taint {
            key: key.to_owned(),
            effect: effect.to_owned(),
            time_added: Some(seconds(now)),
            ..Taint::default()
        });
    }
    taints
}

/// A Pod on a node that is not heard of is not ready, so that no Service leads to it; and ready again when the node is.
fn mark(node: &Node, pod: &Pod, now: Timestamp, plan: &mut Plan) {
    let conditions = &pod.status.conditions;
    let new = match ready_status(node) {
        "Unknown" if pod.status.has("Ready") => {
            condition("Ready", "False", NODE_NOT_READY, "nothing is heard of the Pod's node")
        }
        "True" if pod.status.has("ContainersReady") => {
            let ours = conditions
                .iter()
                .any(|c| c.type_ == "Ready" && c.status == "False" && c.reason == NODE_NOT_READY);
            if !ours {
                return;
            }
            condition("Ready", "True", "", "")
        }
        _ => return,
    };
    let mut conditions = conditions.clone();
    if set_condition(&mut conditions, new, now) {
        plan.actions.push(Action::status(&kind::POD, &pod.metadata, json!({ "conditions": conditions })));
    }
}

/// Deletes a Pod whose time to bear the node's `NoExecute` taints is over.
fn evict(node: &Node, pod: &Pod, context: &Context, plan: &mut Plan) {
    if pod.metadata.is_terminating() || pod.status.is_finished() {
        return;
    }
    let leaves = node.spec.taints.iter().filter(|taint| taint.effect == "NoExecute");
    let Some(at_ms) = leaves.filter_map(|taint| leaves_at_ms(pod, taint, context)).min() else { return };
    let now_ms = context.now.as_millisecond();
    if at_ms > now_ms {
        plan.requeue(u64::try_from(at_ms - now_ms).unwrap_or(0));
        return;
    }
    let message = format!("Marking for deletion Pod {}/{}", pod.metadata.namespace, pod.metadata.name);
    let about = (&kind::POD, &pod.metadata);
    plan.actions.push(Action::Record(Event::normal(
        about,
        "taint-eviction-controller",
        "TaintManagerEviction",
        message,
    )));
    plan.actions.push(Action::delete(&kind::POD, &pod.metadata));
}

/// When a Pod has to leave because of a taint, milliseconds since the epoch; none: never.
fn leaves_at_ms(pod: &Pod, taint: &Taint, context: &Context) -> Option<i64> {
    let tolerations = &pod.spec.tolerations;
    let bears = tolerations.iter().filter(|toleration| {
        (toleration.effect.is_empty() || toleration.effect == taint.effect)
            && match toleration.operator.as_str() {
                "Exists" => toleration.key.is_empty() || toleration.key == taint.key,
                _ => toleration.key == taint.key && toleration.value == taint.value,
            }
    });
    let bears: Vec<Option<i64>> = bears.map(|toleration| toleration.toleration_seconds).collect();
    let implied = taint.key == NOT_READY || taint.key == UNREACHABLE;
    let for_seconds = if bears.is_empty() {
        // What admission gives every Pod elsewhere; a Pod that came without it has it all the same.
        if implied { i64::from(context.settings.eviction_seconds) } else { 0 }
    } else {
        bears.into_iter().flatten().min()?
    };
    let since = time_of(taint.time_added.as_deref()).unwrap_or(context.now);
    Some(since.as_millisecond().saturating_add(for_seconds.max(0).saturating_mul(1000)))
}

#[cfg(test)]
mod tests;
