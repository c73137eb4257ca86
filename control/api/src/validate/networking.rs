//! Validation of NetworkPolicies, IPAddresses and ServiceCIDRs.

use ipnet::IpNet;
use serde_json::Value;

use super::{
    IMMUTABLE, Rules, address, conditions, items, name, one_of, port_or_name, rules, selector, text,
};
use crate::status::{Errors, FieldError};

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const POLICY_TYPES: &[&str] = &["Ingress", "Egress"];

/// A NetworkPolicy.
pub(crate) static NETWORK_POLICY: Rules = Rules {
    create: |object, _, errors| network_policy(object, errors),
    update: |new, _, _, errors| network_policy(new, errors),
    status: |_, _| {},
};
/// An IPAddress.
pub(crate) static IP_ADDRESS: Rules = Rules {
    create: |object, _, errors| ip_address(object, errors),
    update: |new, old, _, errors| {
        let parent = |object: &Value| object.pointer("/spec/parentRef").cloned().unwrap_or_default();
        if parent(new) != parent(old) {
            errors.push(FieldError::invalid("spec.parentRef", parent(new), IMMUTABLE));
        }
    },
    status: |_, _| {},
};
/// A ServiceCIDR.
pub(crate) static SERVICE_CIDR: Rules = Rules {
    create: |object, _, errors| service_cidr(object, errors),
    update: |new, old, _, errors| service_cidr_update(new, old, errors),
    status: |object, errors| conditions(object.get("status").unwrap_or(&Value::Null), errors),
};

fn network_policy(policy: &Value, errors: &mut Errors) {
    let spec = policy.get("spec").unwrap_or(&Value::Null);
    selector::labels(spec.get("podSelector"), "spec.podSelector", errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (at, rule) in items(spec, direction).iter().enumerate() {
            let path = format!("spec.{direction}[{at}]");
            for (at, port) in items(rule, "ports").iter().enumerate() {
                policy_port(port, &format!("{path}.ports[{at}]"), errors);
            }
            for (at, peer) in items(rule, peers).iter().enumerate() {
                policy_peer(peer, &format!("{path}.{peers}[{at}]"), errors);
            }
        }
    }
    let types = items(spec, "policyTypes");
    if types.len() > POLICY_TYPES.len() {
        let why = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid("spec.policyTypes", types.to_vec(), why));
        return;
    }
    for (at, type_) in types.iter().enumerate() {
        let type_ = type_.as_str().unwrap_or("");
        if !POLICY_TYPES.contains(&type_) {
            let path = format!("spec.policyTypes[{at}]");
            errors.push(FieldError::not_supported(path, type_, POLICY_TYPES));
        }
    }
}

fn policy_port(port: &Value, path: &str, errors: &mut Errors) {
    one_of(port, path, "protocol", PROTOCOLS, false, errors);
    let last = port.get("endPort").and_then(Value::as_i64);
    let (at, end_at) = (format!("{path}.port"), format!("{path}.endPort"));
    match (port.get("port").filter(|p| !p.is_null()), last) {
        (Some(first @ Value::Number(_)), Some(last)) => {
            port_or_name(first, &at, errors);
            if last < first.as_i64().unwrap_or(0) {
                errors.push(FieldError::invalid(&end_at, last, "must be greater than or equal to `port`"));
            }
            if let Some(rule) = name::port(last) {
                errors.push(FieldError::invalid(end_at, last, rule));
            }
        }
        (Some(named), last) => {
            if let Some(last) = last {
                let why = "may not be specified when `port` is non-numeric";
                errors.push(FieldError::invalid(end_at, last, why));
            }
            port_or_name(named, &at, errors);
        }
        (None, Some(last)) => {
            let why = "may not be specified when `port` is not specified";
            errors.push(FieldError::invalid(end_at, last, why));
        }
        (None, None) => {}
    }
}

fn policy_peer(peer: &Value, path: &str, errors: &mut Errors) {
    let given = |key: &str| peer.get(key).filter(|v| !v.is_null());
    for key in ["podSelector", "namespaceSelector"] {
        selector::labels(given(key), &format!("{path}.{key}"), errors);
    }
    let block = given("ipBlock");
    if let Some(block) = block {
        ip_block(block, &format!("{path}.ipBlock"), errors);
    }
    let selects = given("podSelector").is_some() || given("namespaceSelector").is_some();
    match (selects, block.is_some()) {
        (false, false) => errors.push(FieldError::required(path, "must specify a peer")),
        (true, true) => {
            errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
        }
        _ => {}
    }
}

fn ip_block(block: &Value, path: &str, errors: &mut Errors) {
    let range = text(block, "cidr");
    if range.is_empty() {
        errors.push(FieldError::required(format!("{path}.cidr"), ""));
        return;
    }
    let Some(range) = address::cidr(range, &format!("{path}.cidr"), errors) else { return };
    for (at, except) in items(block, "except").iter().enumerate() {
        let (path, text) = (format!("{path}.except[{at}]"), except.as_str().unwrap_or(""));
        let Some(except) = address::cidr(text, &path, errors) else { continue };
        if !range.contains(&except.addr()) || range.prefix_len() >= except.prefix_len() {
            errors.push(FieldError::invalid(path, text, "must be a strict subset of `cidr`"));
        }
    }
}

fn ip_address(object: &Value, errors: &mut Errors) {
    let Some(parent) = object.pointer("/spec/parentRef").filter(|p| !p.is_null()) else {
        errors.push(FieldError::required("spec.parentRef", ""));
        return;
    };
    let group = text(parent, "group");
    if !group.is_empty() {
        rules(name::dns_subdomain(group), "spec.parentRef.group", group, errors);
    }
    for (key, required) in [("resource", true), ("name", true), ("namespace", false)] {
        let (value, path) = (text(parent, key), format!("spec.parentRef.{key}"));
        if !value.is_empty() {
            rules(name::path_segment(value), &path, value, errors);
        } else if required {
            errors.push(FieldError::required(path, ""));
        }
    }
}

fn ranges(object: &Value) -> &[Value] {
    object.get("spec").map_or(&[], |spec| items(spec, "cidrs"))
}

fn service_cidr(object: &Value, errors: &mut Errors) {
    let given = ranges(object);
    if given.is_empty() {
        errors.push(FieldError::required("spec.cidrs", "at least one CIDR required"));
        return;
    }
    if given.len() > 2 {
        errors.push(FieldError::invalid("spec.cidrs", given.to_vec(), "may only hold up to 2 values"));
        return;
    }
    let mut read = Vec::new();
    for (at, range) in given.iter().enumerate() {
        let path = format!("spec.cidrs[{at}]");
        read.extend(address::canonical_cidr(range.as_str().unwrap_or(""), &path, errors));
    }
    let v6 = |range: &IpNet| range.addr().is_ipv6();
    if let [first, second] = read.as_slice()
        && v6(first) == v6(second)
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid("spec.cidrs", given.to_vec(), why));
    }
}

/// A range stays; one of the other family may come to a single one.
fn service_cidr_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (now, before) = (ranges(new), ranges(old));
    let grows = before.len() == 1 && now.len() == 2;
    if !grows && now.len() != before.len() {
        errors.push(FieldError::invalid("spec.cidrs", now.to_vec(), IMMUTABLE));
        return;
    }
    for (at, (now, before)) in now.iter().zip(before).enumerate() {
        if now != before {
            errors.push(FieldError::invalid(format!("spec.cidrs[{at}]"), now.clone(), IMMUTABLE));
        }
    }
    if grows {
        service_cidr(new, errors);
    }
}
