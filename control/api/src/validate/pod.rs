//! Validation of Pods and Pod templates.

mod affinity;
pub(super) mod claim;
pub(super) mod ephemeral;
pub(super) mod resize;
pub(super) mod resource;
pub(super) mod security;
mod update;

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

pub(super) use self::affinity::node_selector;

use super::{
    Rules, conditions, container, flag, items, meta, name, not_negative, one_of, rules, text, volume,
};
use crate::status::{Errors, FieldError};

const SECONDS_MAX: i64 = i32::MAX as i64;
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
/// Longest name that a Pod's host may have, bytes: what Linux takes.
const HOST_NAME_BYTES_MAX: usize = 64;

/// A Pod.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| create(object, errors),
    update: |new, old, _, errors| update::update(new, old, errors),
    status,
};

fn create(pod: &Value, errors: &mut Errors) {
    self::pod(pod, errors);
    let empty = Value::Null;
    let spec = pod.get("spec").unwrap_or(&empty);
    if !items(spec, "ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden("spec.ephemeralContainers", "cannot be set on create"));
    }
    if !text(spec, "nodeName").is_empty() && !items(spec, "schedulingGates").is_empty() {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden("spec.nodeName", why));
    }
}

/// What is asked of Pods, new or changed, and not of templates beside that.
fn pod(pod: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = pod.get("spec").unwrap_or(&empty);
    let annotations = pod.pointer("/metadata/annotations").unwrap_or(&empty);
    let (mirror, cost) = ("kubernetes.io/config.mirror", "controller.kubernetes.io/pod-deletion-cost");
    if let Some(hash) = annotations.get(mirror).filter(|_| text(spec, "nodeName").is_empty()) {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(format!("metadata.annotations[{mirror}]"), hash.clone(), why));
    }
    // A number without leading zeros or a plus.
    let is_number = |text: &str| text.parse::<i32>().is_ok_and(|number| number.to_string() == text);
    if let Some(given) = annotations.get(cost).filter(|given| !given.as_str().is_some_and(is_number)) {
        let path = format!("metadata.annotations[{cost}]");
        errors.push(FieldError::invalid(path, given.clone(), "must be a 32bit integer"));
    }
    self::spec(spec, "spec", errors);
    for list in ["containers", "initContainers"] {
        for (at, container) in items(spec, list).iter().enumerate() {
            container::image_of_pod(container, &format!("spec.{list}[{at}]"), errors);
        }
    }
}

/// A Pod's spec at `path`.
pub(super) fn spec(spec: &Value, path: &str, errors: &mut Errors) {
    volume::volumes(spec, path, errors);
    claim::claims(spec, path, errors);
    container::containers(spec, path, errors);
    resource::of_pod(spec, path, errors);
    one_of(spec, path, "restartPolicy", &["Always", "OnFailure", "Never"], true, errors);
    dns(spec, path, errors);
    meta::labels(spec, &format!("{path}.nodeSelector"), "nodeSelector", errors);
    security::of_pod(spec, path, errors);
    for (at, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            errors.push(FieldError::required(format!("{path}.imagePullSecrets[{at}].name"), ""));
        }
    }
    affinity::affinity(spec, path, errors);
    gates(spec, path, errors);
    affinity::spread(spec, path, errors);
    host(spec, path, errors);
    not_negative(spec, path, "terminationGracePeriodSeconds", errors);
    if let Some(seconds) = spec.get("activeDeadlineSeconds").and_then(Value::as_i64)
        && !(1..=SECONDS_MAX).contains(&seconds)
    {
        let rule = format!("must be between 1 and {SECONDS_MAX}, inclusive");
        errors.push(FieldError::invalid(format!("{path}.activeDeadlineSeconds"), seconds, rule));
    }
    for (key, rule) in [
        ("nodeName", name::dns_subdomain as fn(&str) -> Vec<String>),
        ("serviceAccountName", name::dns_subdomain),
        ("hostname", name::dns_label),
        ("subdomain", name::dns_label),
        ("priorityClassName", name::dns_subdomain),
    ] {
        let value = text(spec, key);
        if !value.is_empty() {
            rules(rule(value), &format!("{path}.{key}"), value, errors);
        }
    }
    tolerations(spec, path, errors);
    for (at, alias) in items(spec, "hostAliases").iter().enumerate() {
        let path = format!("{path}.hostAliases[{at}]");
        ip(text(alias, "ip"), &format!("{path}.ip"), errors);
        for (at, host) in items(alias, "hostnames").iter().enumerate() {
            let host = host.as_str().unwrap_or("");
            rules(name::dns_subdomain(host), &format!("{path}.hostnames[{at}]"), host, errors);
        }
    }
    if let Some(class) = spec.get("runtimeClassName").and_then(Value::as_str) {
        rules(name::dns_subdomain(class), &format!("{path}.runtimeClassName"), class, errors);
    }
    one_of(spec, path, "preemptionPolicy", &["Never", "PreemptLowerPriority"], false, errors);
    if let Some(overhead) = spec.get("overhead").filter(|overhead| !overhead.is_null()) {
        let limits = serde_json::json!({ "limits": overhead });
        let named = super::resource::of_container;
        resource::requirements(&limits, &format!("{path}.overhead"), named, errors);
    }
    if let Some(os) = spec.get("os").filter(|os| !os.is_null()) {
        match text(os, "name") {
            "" => errors.push(FieldError::required(format!("{path}.os.name"), "")),
            "linux" | "windows" => {}
            other => {
                let valid = ["linux", "windows"];
                errors.push(FieldError::not_supported(format!("{path}.os"), other, &valid));
            }
        }
    }
}

/// What a Pod waits for: conditions that others set on it, and gates that others open.
fn gates(spec: &Value, path: &str, errors: &mut Errors) {
    for (at, gate) in items(spec, "readinessGates").iter().enumerate() {
        let condition = text(gate, "conditionType");
        let path = format!("{path}.readinessGates[{at}].conditionType");
        rules(name::qualified(condition), &path, condition, errors);
    }
    let mut seen = HashSet::new();
    for (at, gate) in items(spec, "schedulingGates").iter().enumerate() {
        let (gate, path) = (text(gate, "name"), format!("{path}.schedulingGates[{at}]"));
        rules(name::qualified(gate), &path, gate, errors);
        if !seen.insert(gate) {
            errors.push(FieldError::duplicate(path, gate));
        }
    }
}

/// What a Pod has of its host: user numbers, and a name of its own.
fn host(spec: &Value, path: &str, errors: &mut Errors) {
    if spec.get("hostUsers") == Some(&Value::Bool(false)) {
        for (key, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
            if flag(spec, key) {
                errors.push(FieldError::forbidden(format!("{path}.{shown}"), "when `hostUsers` is false"));
            }
        }
        for list in ["initContainers", "containers"] {
            for (at, container) in items(spec, list).iter().enumerate() {
                if !items(container, "volumeDevices").is_empty() {
                    let path = format!("{path}.{list}[{at}].volumeDevices");
                    errors.push(FieldError::forbidden(path, "when `hostUsers` is false"));
                }
            }
        }
    }
    let Some(given) = spec.get("hostnameOverride").and_then(Value::as_str) else { return };
    let path = format!("{path}.hostnameOverride");
    for key in ["setHostnameAsFQDN", "hostNetwork"] {
        if flag(spec, key) {
            errors.push(FieldError::forbidden(&path, format!("may not be specified when {key} is true")));
        }
    }
    if given.len() > HOST_NAME_BYTES_MAX {
        errors.push(FieldError::too_long(&path, HOST_NAME_BYTES_MAX));
    }
    rules(name::dns_subdomain(given), &path, given, errors);
}

/// An address that must be an IP address.
pub(super) fn ip(text: &str, path: &str, errors: &mut Errors) {
    if text.parse::<IpAddr>().is_err() {
        errors.push(FieldError::invalid(
            path,
            text,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ));
    }
}

fn dns(spec: &Value, path: &str, errors: &mut Errors) {
    one_of(
        spec,
        path,
        "dnsPolicy",
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
        true,
        errors,
    );
    let config = spec.get("dnsConfig").unwrap_or(&Value::Null);
    let servers = items(config, "nameservers");
    let at = format!("{path}.dnsConfig");
    if text(spec, "dnsPolicy") == "None" && servers.is_empty() {
        let path = format!("{at}.nameservers");
        errors.push(FieldError::required(
            path,
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        ));
    }
    if servers.len() > NAMESERVERS_MAX {
        let rule = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.push(FieldError::invalid(format!("{at}.nameservers"), Value::Array(servers.to_vec()), rule));
    }
    for (i, server) in servers.iter().enumerate() {
        ip(server.as_str().unwrap_or(""), &format!("{at}.nameservers[{i}]"), errors);
    }
    let searches = items(config, "searches");
    if searches.len() > SEARCHES_MAX {
        let rule = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.push(FieldError::invalid(format!("{at}.searches"), Value::Array(searches.to_vec()), rule));
    }
}

pub(super) fn tolerations(spec: &Value, path: &str, errors: &mut Errors) {
    for (at, toleration) in items(spec, "tolerations").iter().enumerate() {
        let path = format!("{path}.tolerations[{at}]");
        let (key, operator, effect) =
            (text(toleration, "key"), text(toleration, "operator"), text(toleration, "effect"));
        if !key.is_empty() {
            rules(name::qualified(key), &format!("{path}.key"), key, errors);
        } else if operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(format!("{path}.operator"), operator, why));
        }
        let value = text(toleration, "value");
        match operator {
            "" | "Equal" => {
                let broken = name::label_value(value);
                if !broken.is_empty() {
                    errors.push(FieldError::invalid(format!("{path}.operator"), value, broken.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(format!("{path}.operator"), value, why));
            }
            "Exists" => {}
            other => {
                errors.push(FieldError::not_supported(
                    format!("{path}.operator"),
                    other,
                    &["Equal", "Exists"],
                ));
            }
        }
        if toleration.get("tolerationSeconds").is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(format!("{path}.effect"), effect, why));
        }
        one_of(toleration, &path, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"], false, errors);
    }
}

/// A Pod's status as its agent writes it.
pub(super) fn status(pod: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let status = pod.get("status").unwrap_or(&empty);
    one_of(
        status,
        "status",
        "phase",
        &["Pending", "Running", "Succeeded", "Failed", "Unknown"],
        false,
        errors,
    );
    for (at, pod_ip) in items(status, "podIPs").iter().enumerate() {
        ip(text(pod_ip, "ip"), &format!("status.podIPs[{at}].ip"), errors);
    }
    conditions(status, errors);
}
