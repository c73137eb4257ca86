//! How lists and maps are merged: `x-kubernetes-list-type`, its keys, and `x-kubernetes-map-type`.

use std::collections::HashSet;

use serde_json::Value;

use super::super::super::{flag, items, text};
use super::{items_of, property};
use crate::status::{Errors, FieldError};

const LIST: &str = "x-kubernetes-list-type";
const KEYS: &str = "x-kubernetes-list-map-keys";
const MAP: &str = "x-kubernetes-map-type";

pub(super) fn rules(schema: &Value, path: &str, errors: &mut Errors) {
    let kind = |key: &str| schema.get(key).and_then(Value::as_str);
    for (key, wanted, valid) in
        [(MAP, "object", &["atomic", "granular"][..]), (LIST, "array", &["atomic", "map", "set"])]
    {
        let Some(given) = kind(key) else { continue };
        let type_ = text(schema, "type");
        if type_ != wanted {
            let (path, why) = (format!("{path}.type"), format!("must be {wanted} if {key} is specified"));
            errors.push(if type_.is_empty() {
                FieldError::required(path, &why)
            } else {
                FieldError::invalid(path, type_, why)
            });
        } else if given == "set" {
            set(schema, path, errors);
        }
        if !valid.contains(&given) {
            errors.push(FieldError::not_supported(format!("{path}.{key}"), given, valid));
        }
    }
    let keys = items(schema, KEYS);
    if !keys.is_empty() && kind(LIST) != Some("map") {
        let (path, why) =
            (format!("{path}.{LIST}"), "must be map if x-kubernetes-list-map-keys is non-empty");
        errors.push(match kind(LIST) {
            None => FieldError::required(path, why),
            Some(other) => FieldError::invalid(path, other, why),
        });
    }
    if kind(LIST) == Some("map") {
        map(schema, keys, path, errors);
    }
    if let (Some(list), Some(item)) = (kind(LIST).filter(|kind| *kind != "atomic"), items_of(schema)) {
        if flag(item, "nullable") {
            let why = format!("cannot be nullable when x-kubernetes-list-type is {list}");
            errors.push(FieldError::forbidden(format!("{path}.items.nullable"), why));
        }
        let required: HashSet<&str> = items(item, "required").iter().filter_map(Value::as_str).collect();
        for key in keys.iter().filter_map(Value::as_str).filter(|_| list == "map") {
            of_key(item, key, &required, path, errors);
        }
    }
}

/// The items of a set are values as a whole.
fn set(schema: &Value, path: &str, errors: &mut Errors) {
    let Some(item) = items_of(schema) else { return };
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    let (key, given) = match text(item, "type") {
        "array" => (LIST, item.get(LIST).and_then(Value::as_str).unwrap_or("atomic")),
        "object" => (MAP, item.get(MAP).and_then(Value::as_str).unwrap_or("")),
        _ => return,
    };
    if given != "atomic" {
        let shown = item.get(LIST).cloned().unwrap_or_default();
        errors.push(FieldError::invalid(format!("{path}.items.{key}"), shown, why));
    }
}

fn map(schema: &Value, keys: &[Value], path: &str, errors: &mut Errors) {
    let keys_path = format!("{path}.{KEYS}");
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&keys_path, why));
    }
    let Some(item) = items_of(schema) else {
        let given = schema.get("items").filter(|items| !items.is_null());
        let path = format!("{path}.items");
        errors.push(match given {
            None => FieldError::required(path, "must have a schema if x-kubernetes-list-type is map"),
            Some(given) => {
                let why = "must only have a single schema if x-kubernetes-list-type is map";
                FieldError::invalid(path, given.clone(), why)
            }
        });
        return;
    };
    let type_ = text(item, "type");
    if type_ != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(format!("{path}.items.type"), type_, why));
        return;
    }
    let (mut seen, mut told) = (HashSet::new(), HashSet::new());
    for key in keys.iter().filter_map(Value::as_str) {
        // Each is about all keys: it is told once.
        let mut wrong = |why: &'static str, errors: &mut Errors| {
            if told.insert(why) {
                errors.push(FieldError::invalid(&keys_path, keys.to_vec(), why));
            }
        };
        match property(item, key) {
            None => wrong("entries must all be names of item properties", errors),
            Some(field) if matches!(text(field, "type"), "array" | "object") => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let path = format!("{path}.items.properties[{key}].type");
                errors.push(FieldError::invalid(path, type_, why));
            }
            Some(_) => {}
        }
        if !seen.insert(key) {
            wrong("must not contain duplicate entries", errors);
        }
    }
}

/// Every item has its keys.
fn of_key(item: &Value, key: &str, required: &HashSet<&str>, path: &str, errors: &mut Errors) {
    let Some(field) = property(item, key) else { return };
    let path = format!("{path}.items.properties[{key}]");
    if !required.contains(key) && field.get("default").is_none_or(Value::is_null) {
        let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
        errors.push(FieldError::required(format!("{path}.default"), why));
    }
    if flag(field, "nullable") {
        let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
        errors.push(FieldError::forbidden(format!("{path}.nullable"), why));
    }
}
