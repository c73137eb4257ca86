//! A Deployment's status: counts, `Available`, and `Progressing` with its deadline.

use jiff::Timestamp;
use serde_json::json;
use weft_api::kind;
use weft_api::view::node::Condition;

use super::{Rollout, roll, total_of};
use crate::action::Action;
use crate::pod_facts::{condition, set_condition, time_of};
use crate::record::seconds;
use crate::table::{Context, Plan};

/// A deadline of so many seconds or more is none.
const DEADLINE_NONE_SECONDS: u32 = i32::MAX as u32;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Counts {
    replicas: u32,
    updated: u32,
    ready: u32,
    available: u32,
    unavailable: u32,
}

fn counts(rollout: &Rollout) -> Counts {
    let available = total_of(rollout.all().map(|set| set.status.available_replicas));
    let asked = rollout.asked_in_all();
    Counts {
        replicas: total_of(rollout.all().map(|set| set.status.replicas)),
        updated: rollout.new.map_or(0, |set| set.status.replicas),
        ready: total_of(rollout.all().map(|set| set.status.ready_replicas)),
        available,
        unavailable: asked.saturating_sub(available),
    }
}

/// Whether the rollout has arrived: all Pods of the newest template, all available, none of the old left.
pub(super) fn is_complete(rollout: &Rollout) -> bool {
    let counts = counts(rollout);
    let wanted = rollout.wanted();
    rollout.new.is_some()
        && counts.updated == wanted
        && counts.replicas == wanted
        && counts.available == wanted
}

/// Writes the status if it changed, and asks for a run at the progress deadline.
pub(super) fn write(rollout: &Rollout, context: &Context, plan: &mut Plan) {
    let deployment = rollout.deployment;
    let counts = counts(rollout);
    let mut conditions = deployment.status.conditions.clone();
    let mut changed = available(rollout, counts, &mut conditions, context.now);
    changed |= progressing(rollout, counts, &mut conditions, context.now, plan);
    let old = &deployment.status;
    let old_counts = Counts {
        replicas: old.replicas,
        updated: old.updated_replicas,
        ready: old.ready_replicas,
        available: old.available_replicas,
        unavailable: old.unavailable_replicas,
    };
    if !changed && old_counts == counts && old.observed_generation == deployment.metadata.generation {
        return;
    }
    let status = json!({
        "observedGeneration": deployment.metadata.generation,
        "replicas": counts.replicas,
        "updatedReplicas": counts.updated,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
        "unavailableReplicas": counts.unavailable,
        "conditions": conditions,
    });
    plan.actions.push(Action::Patch {
        kind: &kind::DEPLOYMENT,
        key: crate::action::key_of(&deployment.metadata),
        uid: deployment.metadata.uid.clone(),
        // Only this loop writes the status; the revision annotation may have been patched a moment ago.
        resource_version: None,
        subresource: Some(kind::Subresource::Status),
        patch: json!({ "status": status }),
    });
}

fn available(rollout: &Rollout, counts: Counts, conditions: &mut Vec<Condition>, now: Timestamp) -> bool {
    let least = rollout.wanted().saturating_sub(roll::bounds(rollout).unavailable);
    let new = if counts.available >= least {
        condition("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        let message = "Deployment does not have minimum availability.";
        condition("Available", "False", "MinimumReplicasUnavailable", message)
    };
    let updated = Condition { last_update_time: Some(seconds(now)), ..new };
    set_condition(conditions, updated, now)
}

fn progressing(
    rollout: &Rollout,
    counts: Counts,
    conditions: &mut Vec<Condition>,
    now: Timestamp,
    plan: &mut Plan,
) -> bool {
    let spec = &rollout.deployment.spec;
    let deadline_seconds = spec.progress_deadline_seconds.unwrap_or(600);
    if deadline_seconds >= DEADLINE_NONE_SECONDS {
        return false;
    }
    let current = conditions.iter().find(|c| c.type_ == "Progressing").cloned();
    let reason = current.as_ref().map_or("", |c| c.reason.as_str());
    let updated = |c: Condition| Condition { last_update_time: Some(seconds(now)), ..c };
    if spec.paused {
        let new = condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused");
        return set_condition(conditions, updated(new), now);
    }
    if reason == "DeploymentPaused" {
        let new = condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed");
        return set_condition(conditions, updated(new), now);
    }
    let Some(new_set) = rollout.new else {
        return false;
    };
    let name = &new_set.metadata.name;
    if is_complete(rollout) {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        let new = condition("Progressing", "True", "NewReplicaSetAvailable", message);
        return set_condition(conditions, updated(new), now);
    }
    let old = &rollout.deployment.status;
    // A template that was not seen before begins anew; one that had arrived only lost Pods, which is no rollout.
    let is_new_rollout = !current.as_ref().is_some_and(|c| c.message.contains(&format!("\"{name}\"")));
    if !is_new_rollout && reason == "NewReplicaSetAvailable" {
        return false;
    }
    let old_pods_before = old.replicas.saturating_sub(old.updated_replicas);
    let old_pods_now = counts.replicas.saturating_sub(counts.updated);
    let moved = is_new_rollout
        || counts.updated > old.updated_replicas
        || old_pods_now < old_pods_before
        || counts.ready > old.ready_replicas
        || counts.available > old.available_replicas;
    if moved {
        let (reason, message) = if is_new_rollout && counts.updated == 0 {
            ("NewReplicaSetCreated", format!("Created new replica set \"{name}\""))
        } else {
            ("ReplicaSetUpdated", format!("ReplicaSet \"{name}\" is progressing."))
        };
        let new = updated(condition("Progressing", "True", reason, message));
        set_condition(conditions, new, now);
        if let Some(c) = conditions.iter_mut().find(|c| c.type_ == "Progressing") {
            c.last_update_time = Some(seconds(now));
        }
        plan.requeue(u64::from(deadline_seconds) * 1000);
        return true;
    }
    let since = current.and_then(|c| time_of(c.last_update_time.as_deref())).unwrap_or(now);
    let deadline_ms = since.as_millisecond().saturating_add(i64::from(deadline_seconds) * 1000);
    let left_ms = deadline_ms.saturating_sub(now.as_millisecond());
    if left_ms > 0 {
        plan.requeue(u64::try_from(left_ms).unwrap_or(0));
        return false;
    }
    let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
    let new = condition("Progressing", "False", "ProgressDeadlineExceeded", message);
    // The update time stays: the deadline is not moved by its own passing.
    set_condition(conditions, new, now)
}
