//! Validation of Services.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use super::{Limits, Rules, families, flag, items, meta, name, one_of, pod, port_or_name, rules, text};
use crate::status::{Errors, FieldError};

const TYPES: &[&str] = &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const AFFINITY_SECONDS_MAX: i64 = 86_400;

/// A Service.
pub(crate) static RULES: Rules = Rules {
    create: |object, limits, errors| service(object, limits, errors),
    update: |new, old, limits, errors| {
        service(new, limits, errors);
        update(new, old, errors);
    },
    status: |_, _| {},
};

pub(super) fn service(service: &Value, limits: &Limits, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = service.get("spec").unwrap_or(&empty);
    let (type_, headless) = (text(spec, "type"), text(spec, "clusterIP") == "None");
    let ports = items(spec, "ports");
    if ports.is_empty() && !headless && type_ != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    if headless && matches!(type_, "NodePort" | "LoadBalancer") {
        let why = format!("may not be set to 'None' for {type_} services");
        errors.push(FieldError::invalid("spec.clusterIPs[0]", "None", why));
    }
    one_of(spec, "spec", "type", TYPES, true, errors);
    one_of(spec, "spec", "sessionAffinity", &["ClientIP", "None"], true, errors);
    one_of(spec, "spec", "internalTrafficPolicy", &["Cluster", "Local"], false, errors);
    one_of(spec, "spec", "externalTrafficPolicy", &["Cluster", "Local"], false, errors);
    one_of(
        spec,
        "spec",
        "trafficDistribution",
        &["PreferClose", "PreferSameNode", "PreferSameZone"],
        false,
        errors,
    );
    meta::labels(spec, "spec.selector", "selector", errors);
    self::ports(spec, limits, errors);
    addresses(spec, errors);
    external_name(spec, errors);
    let timeout = spec.pointer("/sessionAffinityConfig/clientIP/timeoutSeconds").and_then(Value::as_i64);
    if let Some(seconds) = timeout.filter(|s| !(1..=AFFINITY_SECONDS_MAX).contains(s)) {
        let why = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
        errors.push(FieldError::invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, why));
    }
    load_balancer(spec, errors);
    let ranges = items(spec, "loadBalancerSourceRanges");
    if !ranges.is_empty() && type_ != "LoadBalancer" {
        let why = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden("spec.loadBalancerSourceRanges", why));
    }
    for (at, range) in ranges.iter().enumerate() {
        if range.as_str().is_none_or(|r| r.trim().parse::<ipnet::IpNet>().is_err()) {
            let path = format!("spec.loadBalancerSourceRanges[{at}]");
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(FieldError::invalid(path, range.clone(), why));
        }
    }
}

fn load_balancer(spec: &Value, errors: &mut Errors) {
    let type_ = text(spec, "type");
    let class = text(spec, "loadBalancerClass");
    if spec.get("loadBalancerClass").is_some_and(Value::is_string) {
        if type_ != "LoadBalancer" {
            let why = "may only be used when `type` is 'LoadBalancer'";
            errors.push(FieldError::forbidden("spec.loadBalancerClass", why));
        }
        rules(name::qualified(class), "spec.loadBalancerClass", class, errors);
    }
    let asked = text(spec, "loadBalancerIP");
    if type_ == "LoadBalancer" && !asked.is_empty() {
        pod::ip(asked, "spec.loadBalancerIP", errors);
    }
    let port = spec.get("healthCheckNodePort").and_then(Value::as_i64).unwrap_or(0);
    if port != 0 && (type_ != "LoadBalancer" || text(spec, "externalTrafficPolicy") != "Local") {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid("spec.healthCheckNodePort", port, why));
    }
}

fn ports(spec: &Value, limits: &Limits, errors: &mut Errors) {
    let type_ = text(spec, "type");
    let ports = items(spec, "ports");
    let (mut names, mut numbers, mut node_ports) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (at, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{at}]");
        let given = text(port, "name");
        if given.is_empty() {
            if ports.len() > 1 {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            }
        } else {
            rules(name::dns_label(given), &format!("{path}.name"), given, errors);
            if !names.insert(given) {
                errors.push(FieldError::duplicate(format!("{path}.name"), given));
            }
        }
        let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
        if let Some(rule) = name::port(number) {
            errors.push(FieldError::invalid(format!("{path}.port"), number, rule));
        }
        one_of(port, &path, "protocol", PROTOCOLS, true, errors);
        if let Some(target) = port.get("targetPort") {
            port_or_name(target, &format!("{path}.targetPort"), errors);
        }
        let protocol = text(port, "protocol");
        if !numbers.insert((number, protocol)) {
            errors.push(FieldError::duplicate(
                &path,
                serde_json::json!({"port": number, "protocol": protocol}),
            ));
        }
        let node_port = port.get("nodePort").and_then(Value::as_i64).unwrap_or(0);
        if node_port == 0 {
            continue;
        }
        let path = format!("{path}.nodePort");
        if matches!(type_, "ClusterIP" | "ExternalName") {
            errors.push(FieldError::forbidden(&path, format!("may not be used when `type` is '{type_}'")));
        } else if !u16::try_from(node_port).is_ok_and(|p| limits.node_ports.contains(&p)) {
            let (first, last) = (limits.node_ports.start(), limits.node_ports.end());
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            errors.push(FieldError::invalid(&path, node_port, why));
        }
        if !node_ports.insert((node_port, protocol)) {
            errors.push(FieldError::duplicate(path, node_port));
        }
    }
}

fn addresses(spec: &Value, errors: &mut Errors) {
    families::service(spec, errors);
    if text(spec, "type") == "ExternalName" {
        return;
    }
    for (at, address) in items(spec, "externalIPs").iter().enumerate() {
        let text = address.as_str().unwrap_or("");
        let path = format!("spec.externalIPs[{at}]");
        match text.parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() || ip.is_unspecified() => {
                errors.push(FieldError::invalid(
                    path,
                    text,
                    "may not be unspecified or in the loopback range",
                ));
            }
            _ => pod::ip(text, &path, errors),
        }
    }
    let local = text(spec, "externalTrafficPolicy") == "Local";
    let outward =
        matches!(text(spec, "type"), "NodePort" | "LoadBalancer") || !items(spec, "externalIPs").is_empty();
    if local && !outward {
        let why = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid("spec.externalTrafficPolicy", "Local", why));
    }
    if flag(spec, "allocateLoadBalancerNodePorts") && text(spec, "type") != "LoadBalancer" {
        let why = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden("spec.allocateLoadBalancerNodePorts", why));
    }
}

fn external_name(spec: &Value, errors: &mut Errors) {
    if text(spec, "type") != "ExternalName" {
        return;
    }
    let target = text(spec, "externalName").trim_end_matches('.');
    if target.is_empty() {
        errors.push(FieldError::required("spec.externalName", ""));
    } else {
        rules(name::dns_subdomain(target), "spec.externalName", target, errors);
    }
}

/// Changes that a stored Service allows.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let (spec, before) = (new.get("spec").unwrap_or(&empty), old.get("spec").unwrap_or(&empty));
    if text(before, "type") == "LoadBalancer" && text(spec, "type") == "LoadBalancer" {
        if spec.get("loadBalancerClass") != before.get("loadBalancerClass") {
            let why = "may not change once set";
            errors.push(FieldError::invalid("spec.loadBalancerClass", text(spec, "loadBalancerClass"), why));
        }
        let port = |spec: &Value| spec.get("healthCheckNodePort").and_then(Value::as_i64).unwrap_or(0);
        if port(before) != 0 && port(spec) != 0 && port(before) != port(spec) {
            errors.push(FieldError::invalid("spec.healthCheckNodePort", port(spec), "field is immutable"));
        }
    }
    families::update(spec, before, errors);
}
