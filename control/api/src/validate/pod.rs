//! Validation of Pods and Pod templates.

pub(super) mod ephemeral;
pub(super) mod resize;

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use super::{
    Rules, conditions, container, flag, items, meta, name, not_negative, one_of, rules, text, volume,
};
use crate::status::FieldError;

const SECONDS_MAX: i64 = i32::MAX as i64;
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;

/// A Pod.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| create(object, errors),
    update: |new, old, _, errors| update(new, old, errors),
    status,
};

pub(super) fn create(pod: &Value, errors: &mut Vec<FieldError>) {
    let empty = Value::Null;
    let spec = pod.get("spec").unwrap_or(&empty);
    self::spec(spec, "spec", errors);
    if !items(spec, "ephemeralContainers").is_empty() {
        errors.push(FieldError::forbidden("spec.ephemeralContainers", "cannot be set on create"));
    }
    let host_network = flag(spec, "hostNetwork");
    if host_network && flag(spec, "hostPID") && flag(spec, "shareProcessNamespace") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid("spec.shareProcessNamespace", true, why));
    }
}

/// A Pod's spec at `path`.
pub(super) fn spec(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let volumes = volume::volumes(spec, path, errors);
    container::containers(spec, path, &volumes, errors);
    one_of(spec, path, "restartPolicy", &["Always", "OnFailure", "Never"], true, errors);
    dns(spec, path, errors);
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
    meta::labels(spec, &format!("{path}.nodeSelector"), "nodeSelector", errors);
    node_affinity(spec, path, errors);
    tolerations(spec, path, errors);
    spread(spec, path, errors);
    for (at, alias) in items(spec, "hostAliases").iter().enumerate() {
        ip(text(alias, "ip"), &format!("{path}.hostAliases[{at}].ip"), errors);
        for host in items(alias, "hostnames").iter().filter_map(Value::as_str) {
            rules(name::dns_subdomain(host), &format!("{path}.hostAliases[{at}].hostnames"), host, errors);
        }
    }
    for (at, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            errors.push(FieldError::required(format!("{path}.imagePullSecrets[{at}].name"), ""));
        }
    }
    security(spec.get("securityContext").unwrap_or(&Value::Null), &format!("{path}.securityContext"), errors);
}

/// An address that must be an IP address.
pub(super) fn ip(text: &str, path: &str, errors: &mut Vec<FieldError>) {
    if text.parse::<IpAddr>().is_err() {
        errors.push(FieldError::invalid(
            path,
            text,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ));
    }
}

fn dns(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
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

fn node_affinity(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let pointer = "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    if let Some(required) = spec.pointer(pointer) {
        node_selector(required, &format!("{path}{}", pointer.replace('/', ".")), errors);
    }
}

/// What a node must be, at `path`.
pub(super) fn node_selector(required: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let terms = items(required, "nodeSelectorTerms");
    if terms.is_empty() {
        let why = "must have at least one node selector term";
        errors.push(FieldError::required(format!("{path}.nodeSelectorTerms"), why));
    }
    for (t, term) in terms.iter().enumerate() {
        for (e, expression) in items(term, "matchExpressions").iter().enumerate() {
            let path = format!("{path}.nodeSelectorTerms[{t}].matchExpressions[{e}]");
            let count = items(expression, "values").len();
            let fits = match text(expression, "operator") {
                "In" | "NotIn" if count == 0 => Some("must be specified when `operator` is 'In' or 'NotIn'"),
                "Exists" | "DoesNotExist" if count > 0 => {
                    Some("may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
                }
                "Gt" | "Lt" if count != 1 => {
                    Some("must be specified single value when `operator` is 'Lt' or 'Gt'")
                }
                "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => None,
                other => {
                    let why = "not a valid selector operator";
                    errors.push(FieldError::invalid(format!("{path}.operator"), other, why));
                    None
                }
            };
            if let Some(why) = fits {
                errors.push(FieldError::required(format!("{path}.values"), why));
            }
            let key = text(expression, "key");
            rules(name::qualified(key), &format!("{path}.key"), key, errors);
        }
    }
}

pub(super) fn tolerations(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
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
            "" | "Equal" => rules(name::label_value(value), &format!("{path}.value"), value, errors),
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

fn spread(spec: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for (at, constraint) in items(spec, "topologySpreadConstraints").iter().enumerate() {
        let path = format!("{path}.topologySpreadConstraints[{at}]");
        let skew = constraint.get("maxSkew").and_then(Value::as_i64).unwrap_or(0);
        if skew <= 0 {
            errors.push(FieldError::invalid(format!("{path}.maxSkew"), skew, "must be greater than zero"));
        }
        let key = text(constraint, "topologyKey");
        if key.is_empty() {
            errors.push(FieldError::required(format!("{path}.topologyKey"), "can not be empty"));
        } else {
            rules(name::qualified(key), &format!("{path}.topologyKey"), key, errors);
        }
        one_of(constraint, &path, "whenUnsatisfiable", &["DoNotSchedule", "ScheduleAnyway"], true, errors);
    }
}

/// User and group numbers of a security context.
pub(super) fn security(context: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(id) =
            context.get(key).and_then(Value::as_i64).filter(|id| !(0..=SECONDS_MAX).contains(id))
        {
            let rule = "must be between 0 and 2147483647, inclusive";
            errors.push(FieldError::invalid(format!("{path}.{key}"), id, rule));
        }
    }
    for (at, group) in items(context, "supplementalGroups").iter().enumerate() {
        if !group.as_i64().is_some_and(|id| (0..=SECONDS_MAX).contains(&id)) {
            let rule = "must be between 0 and 2147483647, inclusive";
            errors.push(FieldError::invalid(format!("{path}.supplementalGroups[{at}]"), group.clone(), rule));
        }
    }
    let mut seen = HashSet::new();
    for (at, sysctl) in items(context, "sysctls").iter().enumerate() {
        let path = format!("{path}.sysctls[{at}].name");
        let given = text(sysctl, "name");
        if given.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if !seen.insert(given) {
            errors.push(FieldError::duplicate(path, given));
        }
    }
}

/// Changes that a stored Pod allows.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let empty = Value::Null;
    let (spec, before) = (new.get("spec").unwrap_or(&empty), old.get("spec").unwrap_or(&empty));
    let (was, is) = (before.get("activeDeadlineSeconds"), spec.get("activeDeadlineSeconds"));
    match (was.and_then(Value::as_i64), is.and_then(Value::as_i64)) {
        (Some(was), Some(is)) if is > was => {
            let why = format!("must be less than or equal to previous value {was}");
            errors.push(FieldError::invalid("spec.activeDeadlineSeconds", is, why));
        }
        (Some(was), None) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid("spec.activeDeadlineSeconds", was, why));
        }
        _ => {}
    }
    let tolerations = items(spec, "tolerations");
    if items(before, "tolerations").iter().any(|kept| !tolerations.contains(kept)) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", why));
    }
    for list in ["containers", "initContainers"] {
        for (at, container) in items(spec, list).iter().enumerate() {
            container::image(container, &format!("spec.{list}[{at}]"), errors);
        }
    }
    if fixed(spec, before) != fixed(before, before) {
        errors.push(FieldError::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
}

/// The part of a spec that never changes: a copy without what may.
fn fixed(spec: &Value, before: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                container.remove("image");
            }
        }
    }
    if let Some(object) = spec.as_object_mut() {
        object.remove("activeDeadlineSeconds");
        object.remove("tolerations");
        object.remove("schedulingGates");
        let grace = |v: &Value| v.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
        if grace(before).is_some_and(|g| g < 0) {
            object.remove("terminationGracePeriodSeconds");
        }
        object.retain(|_, value| {
            !value.as_array().is_some_and(Vec::is_empty)
                && !value.as_object().is_some_and(serde_json::Map::is_empty)
        });
    }
    spec
}

/// A Pod's status as its agent writes it.
pub(super) fn status(pod: &Value, errors: &mut Vec<FieldError>) {
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
