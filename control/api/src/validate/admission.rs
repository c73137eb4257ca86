//! Validation of webhook configurations.

use std::collections::HashSet;

use serde_json::Value;

use super::cel::Scope;
use super::{Rules, items, name, one_of, selector, text, webhook};
use crate::status::{Errors, FieldError};

const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
/// What the conditions of a webhook may speak of.
const SCOPE: Scope<'_> = Scope::of(&["authorizer", "namespaceObject", "object", "oldObject", "request"]);

/// A MutatingWebhookConfiguration.
pub(crate) static MUTATING: Rules = Rules {
    create: |object, _, errors| webhooks(object, errors),
    update: |new, _, _, errors| webhooks(new, errors),
    status: |_, _| {},
};
/// A ValidatingWebhookConfiguration.
pub(crate) static VALIDATING: Rules = Rules {
    create: |object, _, errors| webhooks(object, errors),
    update: |new, _, _, errors| webhooks(new, errors),
    status: |_, _| {},
};

fn webhooks(configuration: &Value, errors: &mut Errors) {
    let mut names = HashSet::new();
    for (at, hook) in items(configuration, "webhooks").iter().enumerate() {
        let path = format!("webhooks[{at}]");
        self::webhook(hook, &path, errors);
        let given = text(hook, "name");
        if !given.is_empty() && !names.insert(given) {
            errors.push(FieldError::duplicate(format!("{path}.name"), given));
        }
    }
}

fn webhook(hook: &Value, path: &str, errors: &mut Errors) {
    fully_qualified(text(hook, "name"), &format!("{path}.name"), errors);
    for (at, rule) in items(hook, "rules").iter().enumerate() {
        webhook::rule(rule, &format!("{path}.rules[{at}]"), errors);
    }
    policies(hook, path, errors);
    let effects = ["None", "NoneOnDryRun"];
    if text(hook, "sideEffects").is_empty() {
        let why = format!("must specify one of {}", effects.join(", "));
        errors.push(FieldError::required(format!("{path}.sideEffects"), &why));
    }
    one_of(hook, path, "sideEffects", &effects, false, errors);
    one_of(hook, path, "reinvocationPolicy", &["Never", "IfNeeded"], false, errors);
    let timeout = hook.get("timeoutSeconds").and_then(Value::as_i64);
    if let Some(seconds) = timeout.filter(|seconds| !(1..=30).contains(seconds)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(format!("{path}.timeoutSeconds"), seconds, why));
    }
    for key in ["namespaceSelector", "objectSelector"] {
        selector::labels(hook.get(key), &format!("{path}.{key}"), errors);
    }
    let config = hook.get("clientConfig").unwrap_or(&Value::Null);
    webhook::client(config, &format!("{path}.clientConfig"), errors);
    webhook::match_conditions(hook, path, &SCOPE, errors);
    let versions = format!("{path}.admissionReviewVersions");
    let missing = "must specify one of v1, v1beta1";
    webhook::review_versions(items(hook, "admissionReviewVersions"), &versions, missing, errors);
}

/// What becomes of a request that cannot be judged, and which are meant.
pub(super) fn policies(within: &Value, path: &str, errors: &mut Errors) {
    one_of(within, path, "failurePolicy", FAILURE_POLICIES, false, errors);
    one_of(within, path, "matchPolicy", MATCH_POLICIES, false, errors);
}

/// A name with a domain of two segments behind it.
fn fully_qualified(given: &str, path: &str, errors: &mut Errors) {
    let broken = name::dns_subdomain(given);
    if given.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !broken.is_empty() {
        errors.push(FieldError::invalid(path, given, broken.join(",")));
    } else if given.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, given, why));
    }
}
