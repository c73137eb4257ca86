//! Where a Pod wants to be: beside which nodes and Pods, and how it is spread.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::super::{items, name, one_of, rules, selector, text};
use crate::status::{Errors, FieldError};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const OPERATOR: &str = "not a valid selector operator";

/// The affinities of a Pod's spec at `path`.
pub(super) fn affinity(spec: &Value, path: &str, errors: &mut Errors) {
    let Some(affinity) = spec.get("affinity") else { return };
    let path = format!("{path}.affinity");
    if let Some(nodes) = affinity.get("nodeAffinity") {
        let path = format!("{path}.nodeAffinity");
        if let Some(required) = nodes.get(REQUIRED).filter(|required| !required.is_null()) {
            node_selector(required, &format!("{path}.{REQUIRED}"), errors);
        }
        for (at, preferred) in items(nodes, PREFERRED).iter().enumerate() {
            let path = format!("{path}.{PREFERRED}[{at}]");
            weight(preferred, &path, errors);
            let term = preferred.get("preference").unwrap_or(&Value::Null);
            node_term(term, false, &format!("{path}.preference"), errors);
        }
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = affinity.get(key) else { continue };
        for (at, term) in items(pods, REQUIRED).iter().enumerate() {
            pod_term(term, &format!("{path}.{key}.{REQUIRED}[{at}]"), errors);
        }
        for (at, preferred) in items(pods, PREFERRED).iter().enumerate() {
            let path = format!("{path}.{key}.{PREFERRED}[{at}]");
            weight(preferred, &path, errors);
            let term = preferred.get("podAffinityTerm").unwrap_or(&Value::Null);
            pod_term(term, &format!("{path}.podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: &str, errors: &mut Errors) {
    let weight = term.get("weight").and_then(Value::as_i64).unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(format!("{path}.weight"), weight, "must be in the range 1-100"));
    }
}

/// What a node must be, at `path`.
pub(in super::super) fn node_selector(required: &Value, path: &str, errors: &mut Errors) {
    let terms = items(required, "nodeSelectorTerms");
    if terms.is_empty() {
        let why = "must have at least one node selector term";
        errors.push(FieldError::required(format!("{path}.nodeSelectorTerms"), why));
    }
    for (at, term) in terms.iter().enumerate() {
        node_term(term, true, &format!("{path}.nodeSelectorTerms[{at}]"), errors);
    }
}

/// One term of what a node is to be. The values of one that is only preferred are not judged.
fn node_term(term: &Value, with_values: bool, path: &str, errors: &mut Errors) {
    for (at, expression) in items(term, "matchExpressions").iter().enumerate() {
        label_requirement(expression, with_values, &format!("{path}.matchExpressions[{at}]"), errors);
    }
    for (at, expression) in items(term, "matchFields").iter().enumerate() {
        field_requirement(expression, &format!("{path}.matchFields[{at}]"), errors);
    }
}

fn label_requirement(expression: &Value, with_values: bool, path: &str, errors: &mut Errors) {
    let values = items(expression, "values");
    let values_path = format!("{path}.values");
    match text(expression, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&values_path, why));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&values_path, why));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(FieldError::required(&values_path, why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.push(FieldError::invalid(format!("{path}.operator"), other, OPERATOR)),
    }
    let key = text(expression, "key");
    rules(name::qualified(key), &format!("{path}.key"), key, errors);
    for (at, value) in values.iter().enumerate().filter(|_| with_values) {
        let value = value.as_str().unwrap_or("");
        rules(name::label_value(value), &format!("{values_path}[{at}]"), value, errors);
    }
}

/// By a field: a node's name is the only one.
fn field_requirement(expression: &Value, path: &str, errors: &mut Errors) {
    let values = items(expression, "values");
    match text(expression, "operator") {
        "In" | "NotIn" if values.len() != 1 => {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(FieldError::required(format!("{path}.values"), why));
        }
        "In" | "NotIn" => {}
        other => errors.push(FieldError::invalid(format!("{path}.operator"), other, OPERATOR)),
    }
    let key = text(expression, "key");
    if key != "metadata.name" {
        errors.push(FieldError::invalid(format!("{path}.key"), key, "not a valid field selector key"));
        return;
    }
    for (at, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or("");
        rules(name::dns_subdomain(value), &format!("{path}.values[{at}]"), value, errors);
    }
}

/// Which Pods are meant, and how near.
fn pod_term(term: &Value, path: &str, errors: &mut Errors) {
    for key in ["labelSelector", "namespaceSelector"] {
        selector::labels(term.get(key), &format!("{path}.{key}"), errors);
    }
    for namespace in items(term, "namespaces").iter().filter_map(Value::as_str) {
        rules(name::dns_label(namespace), &format!("{path}.namespace"), namespace, errors);
    }
    label_keys(term, path, errors);
    let key = text(term, "topologyKey");
    let key_path = format!("{path}.topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(&key_path, "can not be empty"));
    }
    rules(name::qualified(key), &key_path, key, errors);
}

/// Keys whose values a Pod's own labels have: `matchLabelKeys` and `mismatchLabelKeys`.
fn label_keys(term: &Value, path: &str, errors: &mut Errors) {
    let keys = |list: &'static str| items(term, list).iter().map(|key| key.as_str().unwrap_or(""));
    let selector = term.get("labelSelector").filter(|selector| !selector.is_null());
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        let path = format!("{path}.{list}");
        if selector.is_none() {
            if keys(list).next().is_some() {
                let why = "must not be specified when labelSelector is not set";
                errors.push(FieldError::forbidden(path, why));
            }
            continue;
        }
        for (at, key) in keys(list).enumerate() {
            rules(name::qualified(key), &format!("{path}[{at}]"), key, errors);
        }
    }
    // Once by its labels or an expression is right: the expression that the key itself became.
    let mut seen: HashSet<&str> = selector
        .and_then(|selector| selector.get("matchLabels")?.as_object())
        .into_iter()
        .flat_map(|labels| labels.keys().map(String::as_str))
        .collect();
    let places: HashMap<&str, usize> =
        keys("matchLabelKeys").enumerate().map(|(at, key)| (key, at)).collect();
    for expression in selector.map_or(&[][..], |selector| items(selector, "matchExpressions")) {
        let key = text(expression, "key");
        if let Some(at) = places.get(key).filter(|_| seen.contains(key)) {
            let why = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(format!("{path}[{at}]"), key, why));
        }
        seen.insert(key);
    }
    let others: HashSet<&str> = keys("mismatchLabelKeys").collect();
    for (at, key) in keys("matchLabelKeys").enumerate() {
        if others.contains(key) {
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(FieldError::invalid(format!("{path}.matchLabelKeys[{at}]"), key, why));
        }
    }
}

/// How evenly a Pod and its like are spread.
pub(super) fn spread(spec: &Value, path: &str, errors: &mut Errors) {
    let constraints = items(spec, "topologySpreadConstraints");
    let pair = |c: &Value| (text(c, "topologyKey").to_owned(), text(c, "whenUnsatisfiable").to_owned());
    let last: HashMap<(String, String), usize> =
        constraints.iter().enumerate().map(|(at, constraint)| (pair(constraint), at)).collect();
    for (at, constraint) in constraints.iter().enumerate() {
        let path = format!("{path}.topologySpreadConstraints[{at}]");
        let number = |key: &str| constraint.get(key).and_then(Value::as_i64);
        let not_positive = "must be greater than zero";
        let skew = number("maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.push(FieldError::invalid(format!("{path}.maxSkew"), skew, not_positive));
        }
        let (key, action) = pair(constraint);
        if key.is_empty() {
            errors.push(FieldError::required(format!("{path}.topologyKey"), "can not be empty"));
        }
        if !matches!(action.as_str(), "DoNotSchedule" | "ScheduleAnyway") {
            let valid = ["DoNotSchedule", "ScheduleAnyway"];
            errors.push(FieldError::not_supported(format!("{path}.whenUnsatisfiable"), &*action, &valid));
        }
        if last.get(&pair(constraint)).is_some_and(|last| *last > at) {
            let path = format!("{path}.{{topologyKey, whenUnsatisfiable}}");
            errors.push(FieldError::duplicate(path, format!("{{{key}, {action}}}")));
        }
        if let Some(domains) = number("minDomains") {
            let path = format!("{path}.minDomains");
            if domains <= 0 {
                errors.push(FieldError::invalid(&path, domains, not_positive));
            }
            if action != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.push(FieldError::invalid(path, domains, why));
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            one_of(constraint, &path, policy, &["Honor", "Ignore"], false, errors);
        }
        label_keys(constraint, &path, errors);
        selector::labels(constraint.get("labelSelector"), &format!("{path}.labelSelector"), errors);
    }
}
