//! Validation of Deployments and ReplicaSets.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{IMMUTABLE, Rules, items, meta, name, not_negative, one_of, pod, rules, text};
use crate::selector::Selector;
use crate::status::FieldError;
use crate::view::LabelSelector;

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

pub(super) fn deployment(deployment: &Value, errors: &mut Vec<FieldError>) {
    let empty = Value::Null;
    let spec = deployment.get("spec").unwrap_or(&empty);
    workload(spec, "deployment", errors);
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

pub(super) fn replica_set(replica_set: &Value, errors: &mut Vec<FieldError>) {
    let empty = Value::Null;
    let spec = replica_set.get("spec").unwrap_or(&empty);
    workload(spec, "replicaset", errors);
    not_negative(spec, "spec", "minReadySeconds", errors);
}

fn workload(spec: &Value, noun: &str, errors: &mut Vec<FieldError>) {
    not_negative(spec, "spec", "replicas", errors);
    let selector = self::selector(spec, noun, errors);
    let empty = Value::Null;
    let template = spec.get("template").unwrap_or(&empty);
    let meta = template.get("metadata").unwrap_or(&empty);
    meta::labels(meta, "spec.template.metadata.labels", "labels", errors);
    if let Some(selector) = selector {
        let labels: BTreeMap<String, String> =
            meta.get("labels").cloned().and_then(|l| serde_json::from_value(l).ok()).unwrap_or_default();
        if !selector.matches(&labels) {
            let value = meta.get("labels").cloned().unwrap_or_else(|| serde_json::json!({}));
            let why = "`selector` does not match template `labels`";
            errors.push(FieldError::invalid("spec.template.metadata.labels", value, why));
        }
    }
    let inner = template.get("spec").unwrap_or(&empty);
    pod::spec(inner, "spec.template.spec", errors);
    let policy = text(inner, "restartPolicy");
    if !matches!(policy, "Always" | "") {
        errors.push(FieldError::not_supported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    if inner.get("activeDeadlineSeconds").is_some() {
        let why = "activeDeadlineSeconds in Deployment and ReplicaSet is not supported";
        errors.push(FieldError::forbidden("spec.template.spec.activeDeadlineSeconds", why));
    }
}

fn selector(spec: &Value, noun: &str, errors: &mut Vec<FieldError>) -> Option<Selector> {
    let Some(selector) = spec.get("selector").filter(|s| !s.is_null()) else {
        errors.push(FieldError::required("spec.selector", ""));
        return None;
    };
    meta::labels(selector, "spec.selector.matchLabels", "matchLabels", errors);
    let before = errors.len();
    for (at, expression) in items(selector, "matchExpressions").iter().enumerate() {
        let path = format!("spec.selector.matchExpressions[{at}]");
        let key = text(expression, "key");
        rules(name::qualified(key), &format!("{path}.key"), key, errors);
        let count = items(expression, "values").len();
        match text(expression, "operator") {
            "In" | "NotIn" if count == 0 => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(format!("{path}.values"), why));
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(format!("{path}.values"), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let why = "not a valid selector operator";
                errors.push(FieldError::invalid(format!("{path}.operator"), other, why));
            }
        }
    }
    if errors.len() > before {
        return None;
    }
    let read: LabelSelector = serde_json::from_value(selector.clone()).ok()?;
    let read = Selector::from_label_selector(&read).ok()?;
    if read.is_everything() {
        let why = format!("empty selector is invalid for {noun}");
        errors.push(FieldError::invalid("spec.selector", selector.clone(), why));
        return None;
    }
    Some(read)
}

fn strategy(strategy: &Value, errors: &mut Vec<FieldError>) {
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
            let unavailable = amount(rolling, "maxUnavailable", errors);
            let surge = amount(rolling, "maxSurge", errors);
            let path = "spec.strategy.rollingUpdate.maxUnavailable";
            if unavailable == Some(0) && surge == Some(0) {
                let value = rolling["maxUnavailable"].clone();
                errors.push(FieldError::invalid(path, value, "may not be 0 when `maxSurge` is 0"));
            }
            if rolling["maxUnavailable"].is_string() && unavailable.is_some_and(|u| u > 100) {
                let value = rolling["maxUnavailable"].clone();
                errors.push(FieldError::invalid(path, value, "must not be greater than 100%"));
            }
        }
        _ => {}
    }
}

/// A number or a percentage.
fn amount(rolling: &Value, key: &str, errors: &mut Vec<FieldError>) -> Option<i64> {
    let path = format!("spec.strategy.rollingUpdate.{key}");
    match &rolling[key] {
        Value::Number(number) => {
            let number = number.as_i64()?;
            if number < 0 {
                errors.push(FieldError::invalid(path, number, "must be greater than or equal to 0"));
            }
            Some(number)
        }
        Value::String(text) => {
            let percent = text.strip_suffix('%').filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
            let percent = percent.and_then(|digits| digits.parse().ok());
            if percent.is_none() {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                           '93%', regex used for validation is '[0-9]+%')";
                errors.push(FieldError::invalid(path, text.as_str(), why));
            }
            percent
        }
        _ => None,
    }
}

/// Changes that a stored workload allows.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (now, was) = (&new["spec"]["selector"], &old["spec"]["selector"]);
    if now != was {
        errors.push(FieldError::invalid("spec.selector", now.clone(), IMMUTABLE));
    }
}

/// Counts of a workload's status.
pub(super) fn status(workload: &Value, errors: &mut Vec<FieldError>) {
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
}
