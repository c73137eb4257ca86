//! Revisions: which ReplicaSet was the how-manieth, so that a rollout can be undone, and how many old ones are kept.

use serde_json::{Map, Value, json};
use weft_api::kind;
use weft_api::meta::ObjectMeta;
use weft_api::view::ReplicaSet;

use super::{Rollout, asked, roll};
use crate::action::Action;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Annotations that are about one object and are not handed from a Deployment to its sets.
const OWN: [&str; 5] = [REVISION, DESIRED, MAX, REVISION_HISTORY, LAST_APPLIED];

fn revision(meta: &ObjectMeta) -> u64 {
    meta.annotations.get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The revision the current template is to have: one more than every other's.
fn next(rollout: &Rollout) -> u64 {
    rollout.old.iter().map(|set| revision(&set.metadata)).max().unwrap_or(0).saturating_add(1)
}

/// The annotations that say which size the set was made for.
pub(super) fn sizes(rollout: &Rollout) -> Value {
    let wanted = rollout.wanted();
    let max = wanted.saturating_add(roll::bounds(rollout).surge);
    json!({ DESIRED: wanted.to_string(), MAX: max.to_string() })
}

/// Whether the set was last sized for what is wanted now.
pub(super) fn is_sized(rollout: &Rollout, set: &ReplicaSet) -> bool {
    set.metadata.annotations.get(DESIRED) == Some(&rollout.wanted().to_string())
}

/// The annotations of a new set.
pub(super) fn first_annotations(rollout: &Rollout) -> Value {
    let mut annotations = sizes(rollout);
    for (key, value) in handed_down(rollout) {
        annotations[key] = value;
    }
    annotations[REVISION] = json!(next(rollout).to_string());
    annotations
}

fn handed_down(rollout: &Rollout) -> Map<String, Value> {
    let annotations = rollout.deployment.metadata.annotations.iter();
    let annotations = annotations.filter(|(key, _)| !OWN.contains(&key.as_str()));
    annotations.map(|(key, value)| (key.clone(), json!(value))).collect()
}

/// Keeps the revision annotations: the new set has the highest, and the Deployment the new set's. The set follows its
/// Deployment in what is no part of the template, too.
pub(super) fn annotate(rollout: &Rollout, actions: &mut Vec<Action>) {
    let Some(new) = rollout.new else { return };
    let mut annotations = Map::new();
    let mut current = revision(&new.metadata);
    if current < next(rollout) {
        if current > 0 {
            // The template came back: remember what it was before.
            let earlier = new.metadata.annotations.get(REVISION_HISTORY);
            let history = earlier.map_or(current.to_string(), |earlier| format!("{earlier},{current}"));
            annotations.insert(REVISION_HISTORY.to_owned(), json!(history));
        }
        current = next(rollout);
        annotations.insert(REVISION.to_owned(), json!(current.to_string()));
    }
    for (key, value) in handed_down(rollout) {
        if new.metadata.annotations.get(&key).map(String::as_str) != value.as_str() {
            annotations.insert(key, value);
        }
    }
    let mut patch = json!({});
    if !annotations.is_empty() {
        patch["metadata"] = json!({ "annotations": annotations });
    }
    let min_ready_seconds = rollout.deployment.spec.min_ready_seconds;
    if new.spec.min_ready_seconds != min_ready_seconds {
        patch["spec"] = json!({ "minReadySeconds": min_ready_seconds });
    }
    if patch != json!({}) {
        actions.push(unversioned(&kind::REPLICA_SET, &new.metadata, patch));
    }
    let own = &rollout.deployment.metadata;
    if revision(own) != current {
        let patch = json!({ "metadata": { "annotations": { REVISION: current.to_string() } } });
        actions.push(unversioned(&kind::DEPLOYMENT, own, patch));
    }
}

/// A patch of whatever version there is: these fields are written by this loop alone.
fn unversioned(kind: &'static kind::Kind, meta: &ObjectMeta, patch: Value) -> Action {
    Action::Patch {
        kind,
        key: crate::action::key_of(meta),
        uid: meta.uid.clone(),
        resource_version: None,
        subresource: None,
        patch,
    }
}

/// Deletes old sets beyond the history limit, the oldest revisions first.
pub(super) fn prune(rollout: &Rollout, actions: &mut Vec<Action>) {
    let keep = rollout.deployment.spec.revision_history_limit.unwrap_or(10) as usize;
    let mut idle: Vec<&&ReplicaSet> = rollout
        .old
        .iter()
        .filter(|set| asked(set) == 0 && set.status.replicas == 0 && !set.metadata.is_terminating())
        .collect();
    idle.sort_by_key(|set| revision(&set.metadata));
    let excess = idle.len().saturating_sub(keep);
    actions
        .extend(idle.into_iter().take(excess).map(|set| Action::delete(&kind::REPLICA_SET, &set.metadata)));
}
