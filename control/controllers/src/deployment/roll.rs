//! The steps of a rollout: beginning, growing the new set, shrinking the old ones, resizing in proportion.

use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::view::{Pod, ReplicaSet};

use super::{Rollout, asked, history, scale, scaled, template, total_of};
use crate::action::{Action, controller_reference};
use crate::pod_facts::is_controlled_by;
use crate::world::World;

/// How many Pods may be too many, and how many may be missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bounds {
    pub(super) surge: u32,
    pub(super) unavailable: u32,
}

/// The bounds of a Deployment's rolling update. Both zero would never move: then one may be missing.
pub(super) fn bounds(rollout: &Rollout) -> Bounds {
    let strategy = &rollout.deployment.spec.strategy;
    if strategy.type_ == "Recreate" {
        return Bounds { surge: 0, unavailable: 0 };
    }
    let wanted = rollout.wanted();
    let rolling = strategy.rolling_update.clone().unwrap_or_default();
    let surge = resolve(&rolling.max_surge, wanted, true);
    let unavailable = resolve(&rolling.max_unavailable, wanted, false);
    Bounds { surge, unavailable: if surge == 0 && unavailable == 0 { 1 } else { unavailable.min(wanted) } }
}

/// A number, or a percentage of `wanted`; unset: 25 %.
fn resolve(value: &Value, wanted: u32, up: bool) -> u32 {
    if let Some(number) = value.as_u64() {
        return u32::try_from(number).unwrap_or(u32::MAX);
    }
    let text = value.as_str().unwrap_or("25%");
    let percent: u64 = text.trim_end_matches('%').parse().unwrap_or(25);
    let product = percent.saturating_mul(u64::from(wanted));
    u32::try_from(if up { product.div_ceil(100) } else { product / 100 }).unwrap_or(u32::MAX)
}

fn is_recreate(rollout: &Rollout) -> bool {
    rollout.deployment.spec.strategy.type_ == "Recreate"
}

/// Makes the ReplicaSet of a new template. `Recreate` first lets the old Pods go.
pub(super) fn begin(rollout: &Rollout, world: &World, actions: &mut Vec<Action>) {
    if is_recreate(rollout) && !old_are_gone(rollout, world, actions) {
        return;
    }
    let deployment = rollout.deployment;
    let namespace = &deployment.metadata.namespace;
    // A name that is taken belongs to another template with the same hash, or to somebody else's set.
    let named = (0..16u32).map(|salt| {
        let hash = template::hash(&deployment.spec.template, salt);
        (format!("{}-{hash}", deployment.metadata.name), hash)
    });
    let mut free = named.filter(|(name, _)| {
        world.object(&kind::REPLICA_SET, &ObjectKey::namespaced(namespace.clone(), name.clone())).is_none()
    });
    let Some((name, hash)) = free.next() else { return };
    let replicas = first_replicas(rollout);
    let mut template = deployment.spec.template.clone();
    template["metadata"]["labels"][template::HASH_LABEL] = json!(hash);
    let mut selector = json!(deployment.spec.selector);
    selector["matchLabels"][template::HASH_LABEL] = json!(hash);
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": template["metadata"]["labels"],
            "annotations": history::first_annotations(rollout),
            "ownerReferences": [controller_reference(&kind::DEPLOYMENT, &deployment.metadata)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment.spec.min_ready_seconds,
            "selector": selector,
            "template": template,
        },
    });
    actions.push(Action::Create { kind: &kind::REPLICA_SET, object });
    if replicas > 0 {
        actions.push(scaled(rollout, &name, 0, replicas));
    }
}

fn first_replicas(rollout: &Rollout) -> u32 {
    if is_recreate(rollout) {
        return rollout.wanted();
    }
    grown(rollout, 0)
}

/// How far the new set may grow from `now`: to what is wanted, as long as no more than the surge are too many.
fn grown(rollout: &Rollout, now: u32) -> u32 {
    let wanted = rollout.wanted();
    let total = rollout.asked_in_all();
    let total_max = wanted.saturating_add(bounds(rollout).surge);
    let room = total_max.saturating_sub(total);
    now + room.min(wanted.saturating_sub(now))
}

/// One step with the new set there.
pub(super) fn step(rollout: &Rollout, new: &ReplicaSet, world: &World, actions: &mut Vec<Action>) {
    let wanted = rollout.wanted();
    if is_recreate(rollout) {
        if old_are_gone(rollout, world, actions) && asked(new) != wanted {
            scale(rollout, new, wanted, actions);
        }
        return;
    }
    let replicas = if asked(new) > wanted { wanted } else { grown(rollout, asked(new)) };
    if replicas != asked(new) {
        scale(rollout, new, replicas, actions);
        return;
    }
    shrink(rollout, new, actions);
}

/// Takes Pods from the old sets: first those that do not run well, then as many as availability allows.
fn shrink(rollout: &Rollout, new: &ReplicaSet, actions: &mut Vec<Action>) {
    let total = rollout.asked_in_all();
    let available_min = rollout.wanted().saturating_sub(bounds(rollout).unavailable);
    let new_unavailable = asked(new).saturating_sub(new.status.available_replicas);
    let mut room = total.saturating_sub(available_min).saturating_sub(new_unavailable);
    let mut sizes: Vec<(&ReplicaSet, u32)> =
        rollout.old.iter().map(|set| (*set, asked(set))).filter(|(_, replicas)| *replicas > 0).collect();
    for (set, replicas) in &mut sizes {
        let sick = replicas.saturating_sub(set.status.available_replicas).min(room);
        *replicas -= sick;
        room -= sick;
    }
    let available = total_of(rollout.all().map(|set| set.status.available_replicas.min(asked(set))));
    let mut spare = available.saturating_sub(available_min).min(room);
    for (_, replicas) in &mut sizes {
        let taken = (*replicas).min(spare);
        *replicas -= taken;
        spare -= taken;
    }
    for (set, replicas) in sizes {
        if replicas != asked(set) {
            scale(rollout, set, replicas, actions);
        }
    }
}

/// Scales the old sets to nothing; whether not one of their Pods runs any more, terminating ones included.
fn old_are_gone(rollout: &Rollout, world: &World, actions: &mut Vec<Action>) -> bool {
    let mut gone = true;
    for set in &rollout.old {
        if asked(set) > 0 {
            scale(rollout, set, 0, actions);
            gone = false;
        }
        let uid = &set.metadata.uid;
        let mut pods = world.owned::<Pod>(uid).filter(|pod| is_controlled_by(&pod.metadata, uid));
        gone &= !pods.any(|pod| !pod.status.is_finished());
    }
    gone
}

/// Whether `spec.replicas` changed since the sets were last sized.
pub(super) fn is_resizing(rollout: &Rollout) -> bool {
    rollout.all().filter(|set| asked(set) > 0).any(|set| {
        let desired = set.metadata.annotations.get(history::DESIRED);
        desired.and_then(|text| text.parse::<u32>().ok()).is_some_and(|desired| desired != rollout.wanted())
    })
}

/// Brings the sets to a new total: the only active one directly, several in proportion to their sizes.
pub(super) fn resize(rollout: &Rollout, actions: &mut Vec<Action>) {
    let wanted = rollout.wanted();
    let active: Vec<&ReplicaSet> = rollout.all().filter(|set| asked(set) > 0).collect();
    if let [] | [_] = active[..] {
        let latest = active.first().copied().or(rollout.new).or(rollout.old.last().copied());
        if let Some(set) = latest.filter(|set| asked(set) != wanted || !history::is_sized(rollout, set)) {
            scale(rollout, set, wanted, actions);
        }
        return;
    }
    if let Some(new) =
        rollout.new.filter(|new| asked(new) == wanted && new.status.available_replicas == wanted)
    {
        for set in active.iter().filter(|set| set.metadata.uid != new.metadata.uid) {
            scale(rollout, set, 0, actions);
        }
        return;
    }
    if !is_recreate(rollout) {
        proportional(rollout, active, actions);
    }
}

fn proportional(rollout: &Rollout, mut active: Vec<&ReplicaSet>, actions: &mut Vec<Action>) {
    let wanted = rollout.wanted();
    let total = total_of(active.iter().map(|set| asked(set)));
    let allowed = if wanted == 0 { 0 } else { wanted.saturating_add(bounds(rollout).surge) };
    let mut change = i64::from(allowed) - i64::from(total);
    // The largest first; of equals, growth goes to the newest and loss to the oldest.
    active.sort_by(|a, b| {
        let by_age = a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp);
        let by_age = if change > 0 { by_age.reverse() } else { by_age };
        asked(b).cmp(&asked(a)).then(by_age)
    });
    let mut sizes = Vec::new();
    for set in &active {
        let before_max = set.metadata.annotations.get(history::MAX).and_then(|text| text.parse::<i64>().ok());
        let before_max = before_max.filter(|max| *max > 0).unwrap_or(i64::from(total)).max(1);
        // The set's share of the new total, rounded to the nearest, less what it has.
        let ideal = (2 * i128::from(asked(set)) * i128::from(allowed) + i128::from(before_max))
            / (2 * i128::from(before_max));
        let ideal = i64::try_from(ideal).unwrap_or(i64::MAX);
        let share = (ideal - i64::from(asked(set))).clamp(change.min(0), change.max(0));
        change -= share;
        sizes.push(i64::from(asked(set)) + share);
    }
    // What rounding left goes to the largest.
    if let Some(first) = sizes.first_mut() {
        *first = (*first + change).max(0);
    }
    for (set, size) in active.into_iter().zip(sizes) {
        let size = u32::try_from(size.max(0)).unwrap_or(u32::MAX);
        if size != asked(set) || !history::is_sized(rollout, set) {
            scale(rollout, set, size, actions);
        }
    }
}
