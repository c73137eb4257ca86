//! Validation of what makes a Job fail or succeed early.

use std::collections::HashSet;

use serde_json::Value;

use super::super::{items, name, not_negative, rules, text};
use super::indexes;
use crate::status::{Errors, FieldError};

const FAILURE_RULES_MAX: usize = 20;
const CONDITIONS_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const SUCCESS_RULES_MAX: usize = 20;
const SUCCEEDED_INDEXES_BYTES_MAX: usize = 64 * 1024;
const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const STATUSES: &[&str] = &["False", "True", "Unknown"];

/// A text that must be one of `valid`, which are told when it is missing.
fn chosen(object: &Value, path: &str, key: &str, valid: &[&str], errors: &mut Errors) {
    let (path, value) = (format!("{path}.{key}"), text(object, key));
    if value.is_empty() {
        let told: Vec<String> = valid.iter().map(|value| format!("{value:?}")).collect();
        errors.push(FieldError::required(path, &format!("valid values: [{}]", told.join(" "))));
    } else if !valid.contains(&value) {
        errors.push(FieldError::not_supported(path, value, valid));
    }
}

/// `podFailurePolicy` of a Job's spec at `path`.
pub(super) fn failure(spec: &Value, path: &str, errors: &mut Errors) {
    let path = format!("{path}.podFailurePolicy.rules");
    let rules = items(&spec["podFailurePolicy"], "rules");
    if rules.len() > FAILURE_RULES_MAX {
        errors.push(FieldError::too_many(&path, rules.len(), FAILURE_RULES_MAX));
    }
    for (at, rule) in rules.iter().enumerate() {
        failure_rule(spec, rule, &format!("{path}[{at}]"), errors);
    }
}

fn failure_rule(spec: &Value, rule: &Value, path: &str, errors: &mut Errors) {
    chosen(rule, path, "action", ACTIONS, errors);
    if text(rule, "action") == "FailIndex" && spec["backoffLimitPerIndex"].is_null() {
        let why = "requires the backoffLimitPerIndex to be set";
        errors.push(FieldError::invalid(format!("{path}.action"), "FailIndex", why));
    }
    let codes = rule.get("onExitCodes").filter(|codes| !codes.is_null());
    let conditions = items(rule, "onPodConditions");
    if let Some(codes) = codes {
        exit_codes(spec, codes, &format!("{path}.onExitCodes"), errors);
    }
    if conditions.len() > CONDITIONS_MAX {
        let path = format!("{path}.onPodConditions");
        errors.push(FieldError::too_many(path, conditions.len(), CONDITIONS_MAX));
    }
    for (at, condition) in conditions.iter().enumerate() {
        let path = format!("{path}.onPodConditions[{at}]");
        let type_ = text(condition, "type");
        rules(name::qualified(type_), &format!("{path}.type"), type_, errors);
        chosen(condition, &path, "status", STATUSES, errors);
    }
    match (codes.is_some(), conditions.is_empty()) {
        (true, false) => {
            let why = "specifying both OnExitCodes and OnPodConditions is not supported";
            errors.push(FieldError::invalid_whole(path, why));
        }
        (false, true) => {
            let why = "specifying one of OnExitCodes and OnPodConditions is required";
            errors.push(FieldError::invalid_whole(path, why));
        }
        _ => {}
    }
}

fn exit_codes(spec: &Value, codes: &Value, path: &str, errors: &mut Errors) {
    chosen(codes, path, "operator", OPERATORS, errors);
    if let Some(wanted) = codes.get("containerName").and_then(Value::as_str) {
        let template = &spec["template"]["spec"];
        let all = items(template, "containers").iter().chain(items(template, "initContainers"));
        if !all.into_iter().any(|container| text(container, "name") == wanted) {
            let why = "must be one of the container or initContainer names in the pod template";
            errors.push(FieldError::invalid(format!("{path}.containerName"), wanted, why));
        }
    }
    let path = format!("{path}.values");
    let values = items(codes, "values");
    if values.is_empty() {
        errors.push(FieldError::invalid(&path, Value::Array(Vec::new()), "at least one value is required"));
    } else if values.len() > EXIT_CODES_MAX {
        errors.push(FieldError::too_many(&path, values.len(), EXIT_CODES_MAX));
    }
    let mut seen = HashSet::new();
    for (at, value) in values.iter().enumerate() {
        let code = value.as_i64().unwrap_or(0);
        if code == 0 && text(codes, "operator") == "In" {
            let why = "must not be 0 for the In operator";
            errors.push(FieldError::invalid(format!("{path}[{at}]"), code, why));
        }
        if !seen.insert(code) {
            errors.push(FieldError::duplicate(format!("{path}[{at}]"), code));
        }
    }
    if !values.is_sorted_by_key(|value| value.as_i64().unwrap_or(0)) {
        errors.push(FieldError::invalid(path, Value::Array(values.to_vec()), "must be ordered"));
    }
}

/// `successPolicy` of an indexed Job's spec at `path`.
pub(super) fn success(spec: &Value, path: &str, errors: &mut Errors) {
    let path = format!("{path}.successPolicy.rules");
    let rules = items(&spec["successPolicy"], "rules");
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&path, why));
    }
    if rules.len() > SUCCESS_RULES_MAX {
        errors.push(FieldError::too_many(&path, rules.len(), SUCCESS_RULES_MAX));
    }
    let completions = spec["completions"].as_i64().unwrap_or(0);
    for (at, rule) in rules.iter().enumerate() {
        success_rule(rule, completions, &format!("{path}[{at}]"), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &str, errors: &mut Errors) {
    let indexes = rule.get("succeededIndexes").and_then(Value::as_str);
    let count = rule.get("succeededCount").and_then(Value::as_i64);
    if indexes.is_none() && count.is_none() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, why));
    }
    let mut named = 0;
    if let Some(text) = indexes {
        let path = format!("{path}.succeededIndexes");
        if text.len() > SUCCEEDED_INDEXES_BYTES_MAX {
            errors.push(FieldError::too_long(&path, SUCCEEDED_INDEXES_BYTES_MAX));
        }
        match indexes::count(text, completions) {
            Ok(count) => named = count,
            Err(why) => {
                let why = format!("error parsing succeededIndexes: {why}");
                errors.push(FieldError::invalid(path, text, why));
            }
        }
    }
    let Some(count) = count else { return };
    not_negative(rule, path, "succeededCount", errors);
    let path = format!("{path}.succeededCount");
    let mut at_most = |max: i64, what: &str| {
        if count > max {
            let why = format!("must be less than or equal to {max} ({what})");
            errors.push(FieldError::invalid(&path, count, why));
        }
    };
    at_most(completions, "the number of specified completions");
    if indexes.is_some() {
        at_most(named, "the number of indexes in the specified succeededIndexes field");
    }
}
