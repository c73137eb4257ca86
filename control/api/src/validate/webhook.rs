//! Validation of how a webhook is reached, by admission and conversion alike.

use std::collections::HashSet;

use serde_json::Value;

use super::cel::{self, Scope, Type};
use super::{items, name, not_empty, rules, text};
use crate::status::{Errors, FieldError};

const FORM: &str = "; desired format: https://host[/path]";
/// Versions of a review that are spoken.
const REVIEWS: &[&str] = &["v1", "v1beta1"];

/// A `clientConfig`: by URL or by Service.
pub(super) fn client(config: &Value, path: &str, errors: &mut Errors) {
    let given = |key: &str| config.get(key).filter(|v| !v.is_null());
    match (given("url").and_then(Value::as_str), given("service")) {
        (Some(url), None) => self::url(url, &format!("{path}.url"), errors),
        (None, Some(service)) => self::service(service, &format!("{path}.service"), errors),
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

fn url(url: &str, path: &str, errors: &mut Errors) {
    let mut wrong = |part: &str, why: String| errors.push(FieldError::invalid(path, part, why));
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", rest));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or("") };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if scheme != "https" {
        wrong(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        wrong(host, format!("host must be specified{FORM}"));
    }
    for (part, why) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !part.is_empty() {
            wrong(part, why.to_owned());
        }
    }
}

fn service(service: &Value, path: &str, errors: &mut Errors) {
    not_empty(service, path, "name", errors);
    not_empty(service, path, "namespace", errors);
    let port = service.get("port").and_then(Value::as_i64).unwrap_or(443);
    if let Some(rule) = name::port(port) {
        let why = format!("port is not valid: {rule}");
        errors.push(FieldError::invalid(format!("{path}.port"), port, why));
    }
    let url = text(service, "path");
    if matches!(url, "" | "/") {
        return;
    }
    let mut wrong = |why: String| errors.push(FieldError::invalid(format!("{path}.path"), url, why));
    if !url.starts_with('/') {
        wrong("must start with a '/'".to_owned());
    }
    let inner = url.get(1..).unwrap_or("");
    for (at, step) in inner.strip_suffix('/').unwrap_or(inner).split('/').enumerate() {
        if step.is_empty() {
            wrong(format!("segment[{at}] may not be empty"));
            continue;
        }
        for rule in name::dns_subdomain(step) {
            wrong(format!("segment[{at}]: {rule}"));
        }
    }
}

/// The versions of a review that a webhook understands; one must be known here.
pub(super) fn review_versions(versions: &[Value], path: &str, missing: &str, errors: &mut Errors) {
    if versions.is_empty() {
        errors.push(FieldError::required(path, missing));
        return;
    }
    let mut seen = HashSet::new();
    for (at, version) in versions.iter().enumerate() {
        let (path, version) = (format!("{path}[{at}]"), version.as_str().unwrap_or(""));
        if seen.insert(version) {
            rules(name::dns_label_1035(version), &path, version, errors);
        } else {
            errors.push(FieldError::invalid(path, version, "duplicate version"));
        }
    }
    if !REVIEWS.iter().any(|version| seen.contains(version)) {
        let why = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(FieldError::invalid(path, versions.to_vec(), why));
    }
}

/// An expression that must be there, and say something.
pub(super) fn expression(object: &Value, path: &str, key: &str, why: &str, errors: &mut Errors) {
    if text(object, key).trim().is_empty() {
        errors.push(FieldError::required(format!("{path}.{key}"), why));
    }
}

/// Conditions in CEL that a request must meet. At most 64.
pub(super) fn match_conditions(within: &Value, path: &str, scope: &Scope<'_>, errors: &mut Errors) {
    const CONDITIONS_MAX: usize = 64;
    let (conditions, path) = (items(within, "matchConditions"), format!("{path}.matchConditions"));
    if conditions.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(&path, conditions.len(), CONDITIONS_MAX));
    }
    let mut names = HashSet::new();
    for (at, condition) in conditions.iter().enumerate() {
        let (path, given) = (format!("{path}[{at}]"), text(condition, "name"));
        expression(condition, &path, "expression", "", errors);
        let expression = text(condition, "expression").trim();
        cel::judge(expression, &format!("{path}.expression"), scope, &[Type::Bool], errors);
        if given.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
            continue;
        }
        rules(name::qualified(given), &format!("{path}.name"), given, errors);
        if !names.insert(given) {
            errors.push(FieldError::duplicate(format!("{path}.name"), given));
        }
    }
}

/// What kinds of requests and resources are meant.
pub(super) fn rule(rule: &Value, path: &str, errors: &mut Errors) {
    const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    some(rule, path, "operations", "operations", errors);
    for (at, operation) in items(rule, "operations").iter().enumerate() {
        let operation = operation.as_str().unwrap_or("");
        if !OPERATIONS.contains(&operation) {
            let path = format!("{path}.operations[{at}]");
            errors.push(FieldError::not_supported(path, operation, OPERATIONS));
        }
    }
    some(rule, path, "apiGroups", "API groups", errors);
    some(rule, path, "apiVersions", "API versions", errors);
    for (at, version) in items(rule, "apiVersions").iter().enumerate() {
        if version.as_str() == Some("") {
            errors.push(FieldError::required(format!("{path}.apiVersions[{at}]"), ""));
        }
    }
    resources(items(rule, "resources"), &format!("{path}.resources"), errors);
    super::one_of(rule, path, "scope", &["*", "Cluster", "Namespaced"], false, errors);
}

/// A list that is not empty, and in which `*` stands alone.
fn some(rule: &Value, path: &str, key: &str, noun: &str, errors: &mut Errors) {
    let (list, path) = (items(rule, key), format!("{path}.{key}"));
    if list.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if list.len() > 1 && list.iter().any(|item| item.as_str() == Some("*")) {
        let why = format!("if '*' is present, must not specify other {noun}");
        errors.push(FieldError::invalid(path, list.to_vec(), why));
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/scale`, `*`, `*/*`.
fn resources(resources: &[Value], path: &str, errors: &mut Errors) {
    if resources.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let (mut all_parts, mut everywhere) = (HashSet::new(), HashSet::new());
    let mut whole = false;
    for (at, given) in resources.iter().enumerate() {
        let (path, given) = (format!("{path}[{at}]"), given.as_str().unwrap_or(""));
        if given.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        let Some((resource, part)) = given.split_once('/') else {
            whole |= given != "*";
            continue;
        };
        for (covered, by) in [
            (all_parts.contains(resource), format!("{resource}/*")),
            (everywhere.contains(part), format!("*/{part}")),
        ] {
            if covered {
                let why = format!("if '{by}' is present, must not specify {given}");
                errors.push(FieldError::invalid(&path, given, why));
            }
        }
        if part == "*" {
            all_parts.insert(resource);
        }
        if resource == "*" {
            everywhere.insert(part);
        }
    }
    let has = |what: &str| resources.iter().any(|resource| resource.as_str() == Some(what));
    let mut wrong = |why: &str| errors.push(FieldError::invalid(path, resources.to_vec(), why));
    if resources.len() > 1 && has("*/*") {
        wrong("if '*/*' is present, must not specify other resources");
    }
    if has("*") && whole {
        wrong("if '*' is present, must not specify other resources without subresources");
    }
}
