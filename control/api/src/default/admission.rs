//! Defaults of webhooks and admission policies.

use serde_json::{Map, Value};

use super::{made, object, objects, set};

pub(crate) fn mutating(configuration: &mut Map<String, Value>) {
    webhooks(configuration);
    for webhook in objects(configuration, "webhooks") {
        set(webhook, "reinvocationPolicy", "Never");
    }
}

pub(crate) fn validating(configuration: &mut Map<String, Value>) {
    webhooks(configuration);
}

fn webhooks(configuration: &mut Map<String, Value>) {
    for webhook in objects(configuration, "webhooks") {
        set(webhook, "failurePolicy", "Fail");
        set(webhook, "timeoutSeconds", 10);
        matches(webhook, "rules");
        if let Some(config) = object(webhook, "clientConfig") {
            client(config);
        }
    }
}

/// The port of a Service that is called.
pub(super) fn client(config: &mut Map<String, Value>) {
    if let Some(service) = object(config, "service") {
        set(service, "port", 443);
    }
}

/// Which objects are meant: every one that its rules do not leave out.
fn matches(within: &mut Map<String, Value>, rules: &str) {
    set(within, "matchPolicy", "Equivalent");
    made(within, "namespaceSelector");
    made(within, "objectSelector");
    for rule in objects(within, rules) {
        set(rule, "scope", "*");
    }
}

pub(crate) fn policy(policy: &mut Map<String, Value>) {
    let Some(spec) = object(policy, "spec") else { return };
    set(spec, "failurePolicy", "Fail");
    resources(spec, "matchConstraints");
}

pub(crate) fn policy_binding(binding: &mut Map<String, Value>) {
    if let Some(spec) = object(binding, "spec") {
        resources(spec, "matchResources");
    }
}

fn resources(spec: &mut Map<String, Value>, key: &str) {
    let Some(resources) = object(spec, key) else { return };
    matches(resources, "resourceRules");
    for rule in objects(resources, "excludeResourceRules") {
        set(rule, "scope", "*");
    }
}
