//! Validation of ResourceQuotas.

use std::collections::HashSet;

use serde_json::Value;

use super::{IMMUTABLE, Rules, amount, entries, items, resource, text};
use crate::status::{Errors, FieldError};

/// Which Pods or claims a quota counts.
const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
/// Scopes that no Pod can be in both.
const CONFLICTING: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
/// What a Pod takes.
const OF_PODS: &[&str] =
    &["cpu", "limits.cpu", "limits.memory", "memory", "pods", "requests.cpu", "requests.memory"];

/// A ResourceQuota.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| {
        spec(object, errors);
        status(object, errors);
    },
    update: |new, old, _, errors| {
        spec(new, errors);
        let scopes = |quota: &Value| -> HashSet<String> {
            let scopes = items(&quota["spec"], "scopes").iter().filter_map(Value::as_str);
            scopes.map(ToOwned::to_owned).collect()
        };
        if scopes(new) != scopes(old) {
            let now = new["spec"]["scopes"].clone();
            errors.push(FieldError::invalid("spec.scopes", now, IMMUTABLE));
        }
    },
    status,
};

fn spec(quota: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = quota.get("spec").unwrap_or(&empty);
    amounts(spec, "spec", "hard", errors);
    scopes(spec, errors);
    if let Some(selector) = spec.get("scopeSelector").filter(|s| !s.is_null()) {
        scope_selector(spec, selector, errors);
    }
}

fn status(quota: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let status = quota.get("status").unwrap_or(&empty);
    for key in ["hard", "used"] {
        amounts(status, "status", key, errors);
    }
}

fn amounts(object: &Value, path: &str, key: &str, errors: &mut Errors) {
    for (name, amount) in entries(object, key) {
        let path = format!("{path}.{key}[{name}]");
        resource::of_quota(name, &path, errors);
        amount::of_resource(name, amount, &path, errors);
    }
}

/// Whether a quota of this scope can count that resource.
fn applies(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => OF_PODS.contains(&resource),
    }
}

/// What is wrong with one scope in view of what the quota counts.
fn scope(spec: &Value, scope: &str, path: &str, shown: &Value, errors: &mut Errors) {
    for (name, _) in entries(spec, "hard") {
        if errors.is_full() {
            return;
        }
        if SCOPES.contains(&scope) && resource::is_of_quotas(name) && !applies(scope, name) {
            errors.push(FieldError::invalid(path, shown.clone(), "unsupported scope applied to resource"));
        }
    }
}

fn conflicts<'a>(scopes: impl Iterator<Item = &'a str>, path: &str, shown: &Value, errors: &mut Errors) {
    let scopes: HashSet<&str> = scopes.collect();
    for pair in CONFLICTING {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            errors.push(FieldError::invalid(path, shown.clone(), "conflicting scopes"));
        }
    }
}

/// What a scope is shown with: as many as a message has characters.
const SHOWN_MAX: usize = 512;

fn scopes(spec: &Value, errors: &mut Errors) {
    let path = "spec.scopes";
    let scopes: Vec<&str> = items(spec, "scopes").iter().filter_map(Value::as_str).collect();
    // No message shows more of them.
    let shown: Value = items(spec, "scopes").iter().take(SHOWN_MAX).cloned().collect();
    let mut seen = HashSet::new();
    for scope in &scopes {
        if errors.is_full() || !seen.insert(*scope) {
            continue;
        }
        if !SCOPES.contains(scope) {
            errors.push(FieldError::invalid(path, shown.clone(), "unsupported scope"));
        }
        self::scope(spec, scope, path, &shown, errors);
    }
    conflicts(scopes.into_iter(), path, &shown, errors);
}

fn scope_selector(spec: &Value, selector: &Value, errors: &mut Errors) {
    let path = "spec.scopeSelector.matchExpressions";
    let expressions = items(selector, "matchExpressions");
    let shown: Vec<Value> = expressions.iter().take(SHOWN_MAX).cloned().collect();
    let shown = serde_json::json!({ "matchExpressions": shown });
    // Those that fit all that is counted do so again.
    let mut fitting = HashSet::new();
    for expression in expressions {
        if errors.is_full() {
            break;
        }
        let scope = text(expression, "scopeName");
        if !SCOPES.contains(&scope) {
            errors.push(FieldError::invalid(format!("{path}.scopeName"), scope, "unsupported scope"));
        }
        let before = errors.len();
        if !fitting.contains(scope) {
            self::scope(spec, scope, path, &shown, errors);
        }
        if errors.len() == before {
            fitting.insert(scope);
        }
        requirement(expression, scope, path, errors);
    }
    let scopes = expressions.iter().map(|expression| text(expression, "scopeName"));
    conflicts(scopes, path, &spec["scopes"], errors);
}

fn requirement(expression: &Value, scope: &str, path: &str, errors: &mut Errors) {
    let operator = text(expression, "operator");
    let has_values = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
    if SCOPES.contains(&scope) && !has_values && operator != "Exists" {
        let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                   ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                   ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.push(FieldError::invalid(format!("{path}.operator"), operator, why));
    }
    let values = items(expression, "values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.push(FieldError::required(format!("{path}.values"), why));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.push(FieldError::invalid(format!("{path}.values"), Value::Array(values.to_vec()), why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            let why = "not a valid selector operator";
            errors.push(FieldError::invalid(format!("{path}.operator"), other, why));
        }
    }
}
