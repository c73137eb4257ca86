//! Validation of Deployments, ReplicaSets and ReplicationControllers, and what all workloads have in common.

use std::collections::BTreeMap;

use serde_json::Value;

use super::selector::label_selector;
use super::{IMMUTABLE, Rules, amount, items, meta, not_negative, one_of, pod, text};
use crate::kind::Subresource;
use crate::selector::Selector;
use crate::status::{Errors, FieldError};

/// A Deployment.
pub(crate) static DEPLOYMENT: Rules = Rules {
    create: |object, _, errors| deployment(object, errors),
    update: |new, old, _, errors| {
        deployment(new, errors);
        update(new, old, errors);
    },
    status,
};
/// A ReplicaSet.
pub(crate) static REPLICA_SET: Rules = Rules {
    create: |object, _, errors| replica_set(object, errors),
    update: |new, old, _, errors| {
        replica_set(new, errors);
        update(new, old, errors);
    },
    status,
};
/// A ReplicationController.
pub(crate) static REPLICATION_CONTROLLER: Rules = Rules {
    create: |object, _, errors| replication_controller(object, errors),
    update: |new, _, _, errors| replication_controller(new, errors),
    status,
};

pub(super) fn deployment(deployment: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = deployment.get("spec").unwrap_or(&empty);
    not_negative(spec, "spec", "replicas", errors);
    workload(spec, "deployment", "ReplicaSet", errors);
    for key in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        not_negative(spec, "spec", key, errors);
    }
    let seconds = |key: &str| spec.get(key).and_then(Value::as_i64);
    if let Some(deadline) = seconds("progressDeadlineSeconds")
        && deadline >= 0
        && deadline <= seconds("minReadySeconds").unwrap_or(0)
    {
        let why = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid("spec.progressDeadlineSeconds", deadline, why));
    }
    strategy(spec.get("strategy").unwrap_or(&empty), errors);
}

pub(super) fn replica_set(replica_set: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = replica_set.get("spec").unwrap_or(&empty);
    not_negative(spec, "spec", "replicas", errors);
    workload(spec, "replicaset", "ReplicaSet", errors);
    not_negative(spec, "spec", "minReadySeconds", errors);
}

fn replication_controller(controller: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = controller.get("spec").unwrap_or(&empty);
    not_negative(spec, "spec", "minReadySeconds", errors);
    let labels: BTreeMap<String, String> =
        spec.get("selector").and_then(|s| serde_json::from_value(s.clone()).ok()).unwrap_or_default();
    if labels.is_empty() {
        errors.push(FieldError::required("spec.selector", ""));
    }
    not_negative(spec, "spec", "replicas", errors);
    let Some(template) = spec.get("template").filter(|t| !t.is_null()) else {
        errors.push(FieldError::required("spec.template", ""));
        return;
    };
    if !labels.is_empty() {
        matched(&Selector::from_map(&labels), template, errors);
    }
    self::template(template, "spec.template", errors);
    for_ever(template, "ReplicationController", errors);
}

/// The selector and the template of a workload whose Pods run for ever, by its names in messages.
pub(super) fn workload(spec: &Value, noun: &str, kind: &str, errors: &mut Errors) {
    let empty = Value::Null;
    let template = spec.get("template").unwrap_or(&empty);
    if let Some(selector) = selector(spec, noun, errors) {
        matched(&selector, template, errors);
    }
    self::template(template, "spec.template", errors);
    for_ever(template, kind, errors);
}

/// The selector of a workload, by its name in messages.
pub(super) fn selector(spec: &Value, noun: &str, errors: &mut Errors) -> Option<Selector> {
    let Some(selector) = spec.get("selector").filter(|s| !s.is_null()) else {
        errors.push(FieldError::required("spec.selector", ""));
        return None;
    };
    let read = label_selector(selector, "spec.selector", errors)?;
    if read.is_everything() {
        let why = format!("empty selector is invalid for {noun}");
        errors.push(FieldError::invalid("spec.selector", selector.clone(), why));
        return None;
    }
    Some(read)
}

/// A template's labels must be what its workload selects.
pub(super) fn matched(selector: &Selector, template: &Value, errors: &mut Errors) {
    let labels = template.pointer("/metadata/labels").cloned().unwrap_or_else(|| serde_json::json!({}));
    let read: BTreeMap<String, String> = serde_json::from_value(labels.clone()).unwrap_or_default();
    if !selector.matches(&read) {
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid("spec.template.metadata.labels", labels, why));
    }
}

/// A Pod template at `path`.
pub(super) fn template(template: &Value, path: &str, errors: &mut Errors) {
    let empty = Value::Null;
    let meta = template.get("metadata").unwrap_or(&empty);
    meta::labels(meta, &format!("{path}.metadata.labels"), "labels", errors);
    let spec = template.get("spec").unwrap_or(&empty);
    pod::spec(spec, &format!("{path}.spec"), errors);
    if !items(spec, "ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(format!("{path}.spec.ephemeralContainers"), why));
    }
}

/// Pods that are replaced when they end have no end of their own.
pub(super) fn for_ever(template: &Value, kind: &str, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = template.get("spec").unwrap_or(&empty);
    let policy = text(spec, "restartPolicy");
    if !matches!(policy, "Always" | "") {
        errors.push(FieldError::not_supported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    if spec.get("activeDeadlineSeconds").is_some_and(|seconds| !seconds.is_null()) {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden("spec.template.spec.activeDeadlineSeconds", why));
    }
}

fn strategy(strategy: &Value, errors: &mut Errors) {
    one_of(strategy, "spec.strategy", "type", &["Recreate", "RollingUpdate"], true, errors);
    let rolling = strategy.get("rollingUpdate").filter(|r| !r.is_null());
    match (text(strategy, "type"), rolling) {
        ("Recreate", Some(_)) => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden("spec.strategy.rollingUpdate", why));
        }
        ("RollingUpdate", None) => {
            let why = "this should be defaulted and never be nil";
            errors.push(FieldError::required("spec.strategy.rollingUpdate", why));
        }
        ("RollingUpdate", Some(rolling)) => {
            let path = "spec.strategy.rollingUpdate";
            let unavailable = amount::share(rolling, path, "maxUnavailable", errors);
            let surge = amount::number_or_percent(rolling, path, "maxSurge", errors);
            if unavailable == Some(0) && surge == Some(0) {
                let value = rolling["maxUnavailable"].clone();
                let path = format!("{path}.maxUnavailable");
                errors.push(FieldError::invalid(path, value, "may not be 0 when `maxSurge` is 0"));
            }
        }
        _ => {}
    }
}

/// Changes that a stored workload allows.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (now, was) = (&new["spec"]["selector"], &old["spec"]["selector"]);
    if now != was {
        errors.push(FieldError::invalid("spec.selector", now.clone(), IMMUTABLE));
    }
}

/// How often a name was taken already is not forgotten.
pub(crate) fn status_change(part: Subresource, new: &Value, old: &Value, errors: &mut Errors) {
    let count = |object: &Value| object.pointer("/status/collisionCount").and_then(Value::as_i64);
    if part == Subresource::Status && count(old).is_some_and(|was| count(new).unwrap_or(0) < was) {
        let now = count(new).unwrap_or(0);
        errors.push(FieldError::invalid("status.collisionCount", now, "cannot be decremented"));
    }
}

/// Counts of a workload's status.
pub(super) fn status(workload: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let status = workload.get("status").unwrap_or(&empty);
    let counts = ["observedGeneration", "replicas", "readyReplicas", "availableReplicas", "updatedReplicas"];
    for key in counts {
        not_negative(status, "status", key, errors);
    }
    let count = |key: &str| status.get(key).and_then(Value::as_i64).unwrap_or(0);
    for key in &counts[2..] {
        if count(key) > count("replicas") {
            let why = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(format!("status.{key}"), count(key), why));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let why = "cannot be greater than readyReplicas";
        errors.push(FieldError::invalid("status.availableReplicas", count("availableReplicas"), why));
    }
}
