//! Which changes a stored Pod allows.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::super::{entries, items, pod, same, text};
use crate::status::{Errors, FieldError};

const NODE_TERMS: &str =
    "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
const ONLY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                    `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What is wrong with a change from `old` to `new`.
pub(in super::super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let (spec, before) = (new.get("spec").unwrap_or(&empty), old.get("spec").unwrap_or(&empty));
    pod::pod(new, errors);
    for list in ["containers", "initContainers"] {
        if items(spec, list).len() != items(before, list).len() {
            let why = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(format!("spec.{list}"), why));
            return;
        }
    }
    deadline(spec, before, errors);
    tolerations(spec, before, errors);
    gates(spec, before, errors);
    let is_gated = !items(before, "schedulingGates").is_empty();
    if is_gated {
        directives(spec, before, errors);
    }
    if !same(&fixed(spec, before, is_gated), &fixed(before, before, is_gated)) {
        errors.push(FieldError::forbidden("spec", ONLY));
    }
}

fn deadline(spec: &Value, before: &Value, errors: &mut Errors) {
    let seconds = |spec: &Value| spec.get("activeDeadlineSeconds").and_then(Value::as_i64);
    let path = "spec.activeDeadlineSeconds";
    match (seconds(before), seconds(spec)) {
        (Some(was), Some(is)) if is > was => {
            errors.push(FieldError::invalid(path, is, "must be less than or equal to previous value"));
        }
        (Some(_), None) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(path, Value::Null, why));
        }
        _ => {}
    }
}

/// Tolerations may come, and last longer or shorter.
fn tolerations(spec: &Value, before: &Value, errors: &mut Errors) {
    let lasting = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(toleration) = toleration.as_object_mut() {
            toleration.remove("tolerationSeconds");
        }
        toleration
    };
    let now: HashSet<Value> = items(spec, "tolerations").iter().map(lasting).collect();
    if items(before, "tolerations").iter().any(|kept| !now.contains(&lasting(kept))) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", why));
    }
}

/// Gates are only opened.
fn gates(spec: &Value, before: &Value, errors: &mut Errors) {
    let known: HashSet<&str> =
        items(before, "schedulingGates").iter().map(|gate| text(gate, "name")).collect();
    for (at, gate) in items(spec, "schedulingGates").iter().enumerate() {
        let gate = text(gate, "name");
        if !known.contains(gate) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{gate}'");
            errors.push(FieldError::forbidden(format!("spec.schedulingGates[{at}].name"), why));
        }
    }
}

/// Where a Pod may run can be narrowed while a gate keeps it from being scheduled.
fn directives(spec: &Value, before: &Value, errors: &mut Errors) {
    let selects = |key: &str| spec.get("nodeSelector").and_then(|selector| selector.get(key));
    if entries(before, "nodeSelector").any(|(key, value)| selects(key) != Some(value)) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        let selector = spec.get("nodeSelector").cloned().unwrap_or_default();
        errors.push(FieldError::invalid("spec.nodeSelector", selector, why));
    }
    let terms =
        |spec: &Value| spec.pointer(NODE_TERMS).and_then(Value::as_array).cloned().unwrap_or_default();
    let (now, were) = (terms(spec), terms(before));
    let path = format!("spec{}", NODE_TERMS.replace('/', "."));
    if were.is_empty() {
        return;
    }
    if now.len() != were.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(path, now, why));
        return;
    }
    for (at, (now, was)) in now.iter().zip(&were).enumerate() {
        let lists = ["matchExpressions", "matchFields"];
        let is_empty = |term: &Value| lists.iter().all(|list| items(term, list).is_empty());
        let only_more = lists.iter().all(|list| items(now, list).starts_with(items(was, list)));
        if !only_more || is_empty(was) && !is_empty(now) {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(format!("{path}[{at}]"), now.clone(), why));
        }
    }
}

/// The part of a spec that never changes: a copy without what may.
fn fixed(spec: &Value, before: &Value, is_gated: bool) -> Value {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                container.remove("image");
            }
        }
    }
    let Some(object) = spec.as_object_mut() else { return spec };
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        object.remove(key);
    }
    let grace = |value: Option<&Value>| value.and_then(Value::as_i64);
    let key = "terminationGracePeriodSeconds";
    if grace(before.get(key)).is_some_and(|grace| grace < 0) && grace(object.get(key)) == Some(1) {
        object.insert(key.to_owned(), before[key].clone());
    }
    if is_gated {
        object.remove("nodeSelector");
        if let Some(affinity) = object.get_mut("affinity").and_then(Value::as_object_mut) {
            affinity.remove("nodeAffinity");
            if affinity.values().all(Value::is_null) {
                affinity.retain(|_, _| false);
            }
        }
        drop_empty(object, "affinity");
    }
    spec
}

fn drop_empty(object: &mut Map<String, Value>, key: &str) {
    if object.get(key).and_then(Value::as_object).is_some_and(Map::is_empty) {
        object.remove(key);
    }
}
