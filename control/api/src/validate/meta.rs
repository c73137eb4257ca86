//! Validation of `metadata`.

use std::collections::HashSet;

use serde_json::Value;

use super::{IMMUTABLE, entries, flag, items, name, rules, text};
use crate::kind::Kind;
use crate::status::{Errors, FieldError};

/// Bound on all annotations of an object together, bytes.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

pub(super) fn create(kind: &Kind, object: &Value, errors: &mut Errors) {
    let meta = &object["metadata"];
    let (given, prefix) = (text(meta, "name"), text(meta, "generateName"));
    if given.is_empty() && prefix.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    }
    if !given.is_empty() {
        rules((kind.name_rules)(given), "metadata.name", given, errors);
    }
    if !prefix.is_empty() {
        // The prefix may end in '-': what follows is random.
        let masked = format!("{}a", prefix.trim_end_matches('-'));
        rules((kind.name_rules)(&masked), "metadata.generateName", prefix, errors);
    }
    let namespace = text(meta, "namespace");
    if kind.namespaced {
        if namespace.is_empty() {
            errors.push(FieldError::required("metadata.namespace", ""));
        } else {
            rules(name::dns_label(namespace), "metadata.namespace", namespace, errors);
        }
    } else if !namespace.is_empty() {
        errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type"));
    }
    contents(meta, errors);
}

pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (meta, old) = (&new["metadata"], &old["metadata"]);
    for key in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let (now, before) = (meta.get(key).unwrap_or(&Value::Null), old.get(key).unwrap_or(&Value::Null));
        if now != before {
            errors.push(FieldError::invalid(format!("metadata.{key}"), now.clone(), IMMUTABLE));
        }
    }
    if !old.get("deletionTimestamp").unwrap_or(&Value::Null).is_null() {
        let before: HashSet<&Value> = items(old, "finalizers").iter().collect();
        for added in items(meta, "finalizers").iter().filter(|f| !before.contains(f)) {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added}"
            );
            errors.push(FieldError::forbidden("metadata.finalizers", why));
        }
    }
    contents(meta, errors);
}

fn contents(meta: &Value, errors: &mut Errors) {
    labels(meta, "metadata.labels", "labels", errors);
    let mut bytes = 0;
    for (key, value) in entries(meta, "annotations") {
        rules(name::qualified(&key.to_lowercase()), "metadata.annotations", key, errors);
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        errors.push(FieldError::too_long("metadata.annotations", ANNOTATIONS_BYTES_MAX));
    }
    for (at, finalizer) in items(meta, "finalizers").iter().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or("");
        rules(name::qualified(finalizer), &format!("metadata.finalizers[{at}]"), finalizer, errors);
    }
    owners(meta, errors);
}

fn owners(meta: &Value, errors: &mut Errors) {
    let owners = items(meta, "ownerReferences");
    for (at, owner) in owners.iter().enumerate() {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, key).is_empty() {
                let path = format!("metadata.ownerReferences[{at}].{key}");
                errors.push(FieldError::invalid(path, "", format!("{key} must not be empty")));
            }
        }
    }
    let controllers: Vec<&str> =
        owners.iter().filter(|o| flag(o, "controller")).map(|o| text(o, "kind")).collect();
    if let [first, second, ..] = controllers.as_slice() {
        let why = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
        );
        errors.push(FieldError::invalid("metadata.ownerReferences", Value::Array(owners.to_vec()), why));
    }
}

/// The labels below `key`.
pub(super) fn labels(object: &Value, path: &str, key: &str, errors: &mut Errors) {
    for (key, value) in entries(object, key) {
        rules(name::qualified(key), path, key, errors);
        let value = value.as_str().unwrap_or("");
        rules(name::label_value(value), path, value, errors);
    }
}
