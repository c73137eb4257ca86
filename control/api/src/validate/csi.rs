//! Validation of CSIDrivers, CSINodes and CSIStorageCapacities.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{IMMUTABLE, Rules, items, name, not_negative, one_of, rules, selector, text};
use crate::quantity::Quantity;
use crate::status::{Errors, FieldError};

/// Longest name of a driver, bytes.
const NAME_BYTES_MAX: usize = 63;
/// Longest name that a driver gives a node, bytes.
const NODE_ID_BYTES_MAX: usize = 192;
/// Life of a token that a driver asks for, seconds.
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;
/// Shortest time between two looks at what a node can take, seconds.
const UPDATE_SECONDS_MIN: i64 = 10;

/// A CSIDriver.
pub(crate) static DRIVER: Rules = Rules {
    create: |object, _, errors| driver(object, errors),
    update: |new, old, _, errors| {
        driver(new, errors);
        // The path is Kubernetes' own slip.
        for (key, path) in [
            ("attachRequired", "spec.attachedRequired"),
            ("volumeLifecycleModes", "spec.volumeLifecycleModes"),
        ] {
            let value = |object: &Value| object.get("spec").and_then(|s| s.get(key)).cloned();
            if value(new) != value(old) {
                errors.push(FieldError::invalid(path, value(new).unwrap_or_default(), IMMUTABLE));
            }
        }
    },
    status: |_, _| {},
};
/// A CSINode.
pub(crate) static NODE: Rules = Rules {
    create: |object, _, errors| node(object, errors),
    update: |new, old, _, errors| {
        node(new, errors);
        let known: HashMap<&str, &Value> =
            drivers(old).iter().map(|driver| (text(driver, "name"), driver)).collect();
        for now in drivers(new) {
            let before = known.get(text(now, "name"));
            if before.is_some_and(|before| without_counts(now) != without_counts(before)) {
                errors.push(FieldError::invalid("spec.drivers", now.clone(), IMMUTABLE));
            }
        }
    },
    status: |_, _| {},
};
/// A CSIStorageCapacity.
pub(crate) static CAPACITY: Rules = Rules {
    create: |object, _, errors| capacity(object, errors),
    update: |new, old, _, errors| {
        capacity(new, errors);
        for key in ["nodeTopology", "storageClassName"] {
            let value = |object: &Value| object.get(key).filter(|v| !v.is_null()).cloned();
            if value(new) != value(old) {
                errors.push(FieldError::invalid(key, value(new).unwrap_or_default(), IMMUTABLE));
            }
        }
    },
    status: |_, _| {},
};

/// The name of a driver where another object speaks of it.
pub(super) fn driver_name(driver: &str, path: &str, errors: &mut Errors) {
    if driver.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if driver.len() > NAME_BYTES_MAX {
        errors.push(FieldError::too_long(path, NAME_BYTES_MAX));
    }
    rules(name::dns_subdomain(&driver.to_lowercase()), path, driver, errors);
}

fn driver(driver: &Value, errors: &mut Errors) {
    let spec = driver.get("spec").unwrap_or(&Value::Null);
    for (key, path) in [
        ("attachRequired", "spec.attachedRequired"),
        ("podInfoOnMount", "spec.podInfoOnMount"),
        ("storageCapacity", "spec.storageCapacity"),
        ("seLinuxMount", "spec.seLinuxMount"),
    ] {
        if spec.get(key).is_none_or(Value::is_null) {
            errors.push(FieldError::required(path, ""));
        }
    }
    one_of(spec, "spec", "fsGroupPolicy", &["ReadWriteOnceWithFSType", "File", "None"], false, errors);
    tokens(spec, errors);
    for mode in items(spec, "volumeLifecycleModes") {
        let (mode, valid) = (mode.as_str().unwrap_or(""), &["Persistent", "Ephemeral"]);
        if !valid.contains(&mode) {
            errors.push(FieldError::not_supported("spec.volumeLifecycleModes", mode, valid));
        }
    }
    let period = spec.get("nodeAllocatableUpdatePeriodSeconds").and_then(Value::as_i64);
    if let Some(seconds) = period.filter(|seconds| *seconds < UPDATE_SECONDS_MIN) {
        let why = "must be greater than or equal to 10 seconds";
        errors.push(FieldError::invalid("spec.nodeAllocatableUpdatePeriodSeconds", seconds, why));
    }
}

fn tokens(spec: &Value, errors: &mut Errors) {
    let mut audiences = HashSet::new();
    for (at, token) in items(spec, "tokenRequests").iter().enumerate() {
        let path = format!("spec.tokenRequests[{at}]");
        let audience = text(token, "audience");
        if !audiences.insert(audience) {
            errors.push(FieldError::duplicate(format!("{path}.audience"), audience));
            continue;
        }
        let Some(seconds) = token.get("expirationSeconds").and_then(Value::as_i64) else { continue };
        let why = match seconds {
            ..TOKEN_SECONDS_MIN => "may not specify a duration less than 10 minutes",
            TOKEN_SECONDS_MIN..=TOKEN_SECONDS_MAX => continue,
            _ => "may not specify a duration larger than 2^32 seconds",
        };
        errors.push(FieldError::invalid(format!("{path}.expirationSeconds"), seconds, why));
    }
}

fn drivers(node: &Value) -> &[Value] {
    node.get("spec").map_or(&[], |spec| items(spec, "drivers"))
}

/// How many volumes fit may change, and nothing else of a driver.
fn without_counts(driver: &Value) -> Value {
    let mut driver = driver.clone();
    if let Some(driver) = driver.as_object_mut() {
        driver.remove("allocatable");
    }
    driver
}

fn node(node: &Value, errors: &mut Errors) {
    let mut names = HashSet::new();
    for (at, driver) in drivers(node).iter().enumerate() {
        let path = format!("spec.drivers[{at}]");
        let (given, id) = (text(driver, "name"), text(driver, "nodeID"));
        driver_name(given, &format!("{path}.name"), errors);
        if id.is_empty() {
            errors.push(FieldError::required(format!("{path}.nodeID"), ""));
        }
        if id.len() > NODE_ID_BYTES_MAX {
            let why = format!("must be {NODE_ID_BYTES_MAX} characters or less");
            errors.push(FieldError::invalid(format!("{path}.nodeID"), id, why));
        }
        if let Some(allocatable) = driver.get("allocatable") {
            not_negative(allocatable, &format!("{path}.allocatable"), "count", errors);
        }
        if !names.insert(given) {
            errors.push(FieldError::duplicate(format!("{path}.name"), given));
        }
        let mut keys = HashSet::new();
        for key in items(driver, "topologyKeys").iter().filter_map(Value::as_str) {
            if !keys.insert(key) {
                errors.push(FieldError::duplicate(&path, key));
            }
            rules(name::qualified(key), &path, key, errors);
        }
    }
}

fn capacity(capacity: &Value, errors: &mut Errors) {
    selector::labels(capacity.get("nodeTopology"), "nodeTopology", errors);
    let class = text(capacity, "storageClassName");
    rules(name::dns_subdomain(class), "storageClassName", class, errors);
    let Some(amount) = capacity.get("capacity").filter(|c| !c.is_null()) else { return };
    match Quantity::from_value(amount) {
        Ok(quantity) if quantity.is_negative() => {
            let why = "must be greater than or equal to 0";
            errors.push(FieldError::invalid("capacity", amount.clone(), why));
        }
        Ok(_) => {}
        Err(error) => errors.push(FieldError::invalid("capacity", amount.clone(), error)),
    }
}
