//! Validation of admission policies and their bindings.

mod mutating;

pub(crate) use self::mutating::{MUTATING, MUTATING_BINDING};

use std::collections::HashSet;

use serde_json::Value;

use super::cel::{self, Scope, Type};
use super::{Rules, admission, conditions, items, name, not_empty, one_of, rules, selector, text, webhook};
use crate::status::{Errors, FieldError};

/// How many annotations a policy may add, and how long the expression of one may be, bytes.
const ANNOTATIONS_MAX: usize = 20;
const ANNOTATION_BYTES_MAX: usize = 5 * 1024;

/// A ValidatingAdmissionPolicy.
pub(crate) static POLICY: Rules = Rules {
    create: |object, _, errors| policy(object, errors),
    update: |new, _, _, errors| policy(new, errors),
    status: |object, errors| {
        let status = object.get("status").unwrap_or(&Value::Null);
        conditions(status, errors);
        let checked = status.get("typeChecking").unwrap_or(&Value::Null);
        for (at, warning) in items(checked, "expressionWarnings").iter().enumerate() {
            let path = format!("status.typeChecking.expressionWarnings[{at}]");
            not_empty(warning, &path, "warning", errors);
            not_empty(warning, &path, "fieldRef", errors);
        }
    },
};
/// A ValidatingAdmissionPolicyBinding.
pub(crate) static BINDING: Rules = Rules {
    create: |object, _, errors| binding(object, errors),
    update: |new, _, _, errors| binding(new, errors),
    status: |_, _| {},
};

/// What the expressions of a policy may speak of: parameters if it has any, and all but a message whether a user may do something.
fn variables(spec: &Value) -> &'static [&'static str] {
    const ALL: &[&str] = &["namespaceObject", "object", "oldObject", "request", "authorizer", "params"];
    let has_parameters = spec.get("paramKind").is_some_and(|kind| !kind.is_null());
    if has_parameters { ALL } else { &ALL[..ALL.len() - 1] }
}

/// The names of a policy's own variables, if it has any.
fn composed(spec: &Value) -> HashSet<&str> {
    items(spec, "variables").iter().map(|variable| text(variable, "name")).collect()
}

/// What both kinds of policies have: which requests they are about, and names for expressions.
fn common(spec: &Value, errors: &mut Errors) {
    not_empty(spec, "spec", "failurePolicy", errors);
    admission::policies(spec, "spec", errors);
    if let Some(kind) = spec.get("paramKind").filter(|k| !k.is_null()) {
        parameter_kind(kind, errors);
    }
    match spec.get("matchConstraints").filter(|c| !c.is_null()) {
        None => errors.push(FieldError::required("spec.matchConstraints", "")),
        Some(constraints) => {
            resources(constraints, "spec.matchConstraints", errors);
            if items(constraints, "resourceRules").is_empty() {
                errors.push(FieldError::required("spec.matchConstraints.resourceRules", ""));
            }
        }
    }
    let scope = Scope::of(variables(spec));
    webhook::match_conditions(spec, "spec", &scope, errors);
    // Of the others only those before it are there.
    let mut before = HashSet::new();
    for (at, variable) in items(spec, "variables").iter().enumerate() {
        let path = format!("spec.variables[{at}]");
        self::variable(variable, &path, errors);
        let scope = Scope { composed: Some(&before), ..scope };
        cel::judge(text(variable, "expression"), &format!("{path}.expression"), &scope, &[], errors);
        before.insert(text(variable, "name"));
    }
}

fn policy(policy: &Value, errors: &mut Errors) {
    let spec = policy.get("spec").unwrap_or(&Value::Null);
    common(spec, errors);
    let names = composed(spec);
    let scope = Scope { composed: (!names.is_empty()).then_some(&names), ..Scope::of(variables(spec)) };
    let (validations, annotations) = (items(spec, "validations"), items(spec, "auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.push(FieldError::required("spec.validations", why));
        errors.push(FieldError::required("spec.auditAnnotations", why));
    }
    for (at, validation) in validations.iter().enumerate() {
        self::validation(validation, &format!("spec.validations[{at}]"), &scope, errors);
    }
    if annotations.len() > ANNOTATIONS_MAX {
        let why = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.push(FieldError::invalid("spec.auditAnnotations", annotations.to_vec(), why));
    }
    let own = policy.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("");
    let mut keys = HashSet::new();
    for (at, entry) in annotations.iter().enumerate() {
        let path = format!("spec.auditAnnotations[{at}]");
        annotation(entry, own, &path, errors);
        let (expression, path_of) =
            (text(entry, "valueExpression").trim(), format!("{path}.valueExpression"));
        if expression.len() <= ANNOTATION_BYTES_MAX {
            cel::judge(expression, &path_of, &scope, &[Type::Text, Type::Null], errors);
        }
        if !keys.insert(text(entry, "key")) {
            errors.push(FieldError::duplicate(format!("{path}.key"), text(entry, "key")));
        }
    }
}

fn parameter_kind(parameter: &Value, errors: &mut Errors) {
    let (given, kind) = (text(parameter, "apiVersion"), text(parameter, "kind"));
    let path = "spec.paramKind.apiVersion";
    let (group, version) = given.split_once('/').unwrap_or(("", given));
    let mut wrong = |value: &str, broken: &[String]| {
        if !broken.is_empty() {
            errors.push(FieldError::invalid(path, value, broken.join(",")));
        }
    };
    if given.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if version.contains('/') {
        wrong(given, &[format!("unexpected GroupVersion string: {given}")]);
    } else {
        if !group.is_empty() {
            wrong(group, &name::dns_subdomain(group));
        }
        if version.is_empty() {
            wrong(given, &["version must be specified".to_owned()]);
        } else {
            wrong(version, &name::dns_label_1035(version));
        }
    }
    let broken = name::dns_label_1035(&kind.to_lowercase());
    if kind.is_empty() {
        errors.push(FieldError::required("spec.paramKind.kind", ""));
    } else if !broken.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", broken.join(","));
        errors.push(FieldError::invalid("spec.paramKind.kind", kind, why));
    }
}

fn resources(matched: &Value, path: &str, errors: &mut Errors) {
    not_empty(matched, path, "matchPolicy", errors);
    admission::policies(matched, path, errors);
    for key in ["namespaceSelector", "objectSelector"] {
        let (selector, path) = (matched.get(key).filter(|s| !s.is_null()), format!("{path}.{key}"));
        if selector.is_none() {
            errors.push(FieldError::required(&path, ""));
        }
        selector::labels(selector, &path, errors);
    }
    for key in ["resourceRules", "excludeResourceRules"] {
        for (at, rule) in items(matched, key).iter().enumerate() {
            let path = format!("{path}.{key}[{at}]");
            let mut names = HashSet::new();
            for (at, given) in items(rule, "resourceNames").iter().enumerate() {
                let (path, given) = (format!("{path}.resourceNames[{at}]"), given.as_str().unwrap_or(""));
                rules(name::path_segment(given), &path, given, errors);
                if !names.insert(given) {
                    errors.push(FieldError::duplicate(path, given));
                }
            }
            webhook::rule(rule, &path, errors);
        }
    }
}

fn variable(variable: &Value, path: &str, errors: &mut Errors) {
    let given = text(variable, "name");
    if given.trim().is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), "name is not specified"));
    } else if !cel::is_name(given) {
        let why = "name is not a valid CEL identifier";
        errors.push(FieldError::invalid(format!("{path}.name"), given, why));
    }
    webhook::expression(variable, path, "expression", "expression is not specified", errors);
}

fn validation(validation: &Value, path: &str, scope: &Scope<'_>, errors: &mut Errors) {
    webhook::expression(validation, path, "expression", "expression is not specified", errors);
    let expression = text(validation, "expression");
    cel::judge(expression, &format!("{path}.expression"), scope, &[Type::Bool], errors);
    let allowed: Vec<&str> = scope.variables.iter().filter(|name| **name != "authorizer").copied().collect();
    let of_message = Scope { variables: &allowed, ..*scope };
    let (message, message_path) =
        (text(validation, "messageExpression"), format!("{path}.messageExpression"));
    cel::judge(message, &message_path, &of_message, &[Type::Text], errors);
    let blank = |key: &str| !text(validation, key).is_empty() && text(validation, key).trim().is_empty();
    let mut wrong = |key: &str, why: &str| {
        errors.push(FieldError::invalid(format!("{path}.{key}"), text(validation, key), why));
    };
    if blank("messageExpression") {
        wrong("messageExpression", "must be non-empty if specified");
    }
    if blank("message") {
        wrong("message", "message must be non-empty if specified");
    } else if text(validation, "message").trim().contains(['\n', '\r']) {
        wrong("message", "message must not contain line breaks");
    }
    one_of(validation, path, "reason", &["Forbidden", "Invalid", "RequestEntityTooLarge"], false, errors);
}

fn annotation(annotation: &Value, policy: &str, path: &str, errors: &mut Errors) {
    let key = text(annotation, "key");
    if policy.is_empty() {
        let why = "requires metadata.name be non-empty";
        errors.push(FieldError::invalid(format!("{path}.key"), key, why));
    } else {
        let full = format!("{policy}/{key}");
        rules(name::qualified(&full), &format!("{path}.key"), &full, errors);
    }
    webhook::expression(annotation, path, "valueExpression", "valueExpression is not specified", errors);
    if text(annotation, "valueExpression").trim().len() > ANNOTATION_BYTES_MAX {
        let why = format!("must not exceed {ANNOTATION_BYTES_MAX} bytes in length");
        errors.push(FieldError::required(format!("{path}.valueExpression"), &why));
    }
}

fn binding(binding: &Value, errors: &mut Errors) {
    let spec = binding.get("spec").unwrap_or(&Value::Null);
    bound(spec, errors);
    actions(items(spec, "validationActions"), errors);
}

/// What the bindings of both kinds of policies have.
fn bound(spec: &Value, errors: &mut Errors) {
    let policy = text(spec, "policyName");
    not_empty(spec, "spec", "policyName", errors);
    if !policy.is_empty() {
        rules(name::dns_subdomain(policy), "spec.policyName", policy, errors);
    }
    if let Some(reference) = spec.get("paramRef").filter(|r| !r.is_null()) {
        parameter(reference, errors);
    }
    if let Some(matched) = spec.get("matchResources").filter(|m| !m.is_null()) {
        resources(matched, "spec.matchResources", errors);
    }
}

fn parameter(reference: &Value, errors: &mut Errors) {
    let path = "spec.paramRef";
    let (given, selector) = (text(reference, "name"), reference.get("selector").filter(|s| !s.is_null()));
    rules(name::path_segment(given), &format!("{path}.name"), given, errors);
    selector::labels(selector, &format!("{path}.selector"), errors);
    match (given.is_empty(), selector) {
        (false, Some(_)) => {
            for key in ["name", "selector"] {
                let why = "name and selector are mutually exclusive";
                errors.push(FieldError::forbidden(format!("{path}.{key}"), why));
            }
        }
        (true, None) => errors.push(FieldError::required(path, "one of name or selector must be specified")),
        _ => {}
    }
    one_of(reference, path, "parameterNotFoundAction", &["Deny", "Allow"], true, errors);
}

fn actions(actions: &[Value], errors: &mut Errors) {
    let (valid, path) = (["Audit", "Deny", "Warn"], "spec.validationActions");
    let mut seen = HashSet::new();
    for (at, action) in actions.iter().enumerate() {
        let (path, action) = (format!("{path}[{at}]"), action.as_str().unwrap_or(""));
        if !valid.contains(&action) {
            errors.push(FieldError::not_supported(&path, action, &valid));
        }
        if !seen.insert(action) {
            errors.push(FieldError::duplicate(path, action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        errors.push(FieldError::invalid(path, actions.to_vec(), why));
    }
    if actions.is_empty() {
        errors.push(FieldError::required(path, "at least one validation action is required"));
    }
}
