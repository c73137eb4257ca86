//! Defaults of NetworkPolicies, Ingresses and IngressClasses.

use serde_json::{Map, Value, json};

use super::{made, object, objects, set};

/// A policy that names no Pods is about all of its Namespace; its types follow from its rules.
pub(crate) fn network_policy(policy: &mut Map<String, Value>) {
    let Some(spec) = made(policy, "spec") else { return };
    made(spec, "podSelector");
    for direction in ["ingress", "egress"] {
        for rule in objects(spec, direction) {
            for port in objects(rule, "ports") {
                set(port, "protocol", "TCP");
            }
        }
    }
    let filled = |key: &str| spec.get(key).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    if !filled("policyTypes") {
        let types = if filled("egress") { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        spec.insert("policyTypes".into(), types);
    }
}

pub(crate) fn ingress(ingress: &mut Map<String, Value>) {
    if let Some(status) = made(ingress, "status") {
        made(status, "loadBalancer");
    }
}

pub(crate) fn ingress_class(class: &mut Map<String, Value>) {
    if let Some(parameters) = object(class, "spec").and_then(|spec| object(spec, "parameters")) {
        set(parameters, "scope", "Cluster");
    }
}
