//! Validation of Nodes.

use std::collections::HashSet;

use serde_json::Value;

use super::{Rules, conditions, items, name, one_of, rules, text};
use crate::status::{Errors, FieldError};

/// A Node.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| node(object, errors),
    update: |new, old, _, errors| {
        node(new, errors);
        update(new, old, errors);
    },
    status,
};

pub(super) fn node(node: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = node.get("spec").unwrap_or(&empty);
    let mut seen = HashSet::new();
    for (at, taint) in items(spec, "taints").iter().enumerate() {
        let path = format!("spec.taints[{at}]");
        let (key, value) = (text(taint, "key"), text(taint, "value"));
        rules(name::qualified(key), &format!("{path}.key"), key, errors);
        rules(name::label_value(value), &format!("{path}.value"), value, errors);
        one_of(taint, &path, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"], true, errors);
        if !seen.insert((key, text(taint, "effect"))) {
            errors.push(FieldError::duplicate(path, taint.clone()));
        }
    }
    for (at, cidr) in items(spec, "podCIDRs").iter().enumerate() {
        if cidr.as_str().is_none_or(|c| c.parse::<ipnet::IpNet>().is_err()) {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(FieldError::invalid(format!("spec.podCIDRs[{at}]"), cidr.clone(), why));
        }
    }
    let ranges = items(spec, "podCIDRs");
    let is_v6 = |range: &Value| range.as_str().is_some_and(|text| text.contains(':'));
    if ranges.len() > 2 || (ranges.len() == 2 && is_v6(&ranges[0]) == is_v6(&ranges[1])) {
        let why = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid("spec.podCIDRs", Value::Array(ranges.to_vec()), why));
    }
    if let Some(first) = items(spec, "podCIDRs").first().and_then(Value::as_str)
        && first != text(spec, "podCIDR")
    {
        let why = "must match `podCIDRs[0]`";
        errors.push(FieldError::invalid("spec.podCIDR", text(spec, "podCIDR"), why));
    }
}

/// Changes that a stored Node allows.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let (spec, before) = (new.get("spec").unwrap_or(&empty), old.get("spec").unwrap_or(&empty));
    for key in ["podCIDR", "providerID"] {
        let was = text(before, key);
        if !was.is_empty() && text(spec, key) != was {
            let why = "node updates may not change it except from \"\" to valid";
            errors.push(FieldError::forbidden(format!("spec.{key}"), why));
        }
    }
    // Beyond Kubernetes: the range of a second family may join the first, when the cluster becomes dual stack.
    if !items(spec, "podCIDRs").starts_with(items(before, "podCIDRs")) {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(FieldError::forbidden("spec.podCIDRs", why));
    }
}

/// A Node's status as its agent writes it.
pub(super) fn status(node: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let status = node.get("status").unwrap_or(&empty);
    let mut seen = HashSet::new();
    for (at, address) in items(status, "addresses").iter().enumerate() {
        if !seen.insert((text(address, "type"), text(address, "address"))) {
            errors.push(FieldError::duplicate(format!("status.addresses[{at}]"), address.clone()));
        }
    }
    conditions(status, errors);
}
