//! Defaults: what an object means where its author said nothing, written into it before validation.
//!
//! Field by field as the Kubernetes API reference documents them. Values that need allocation or other objects
//! (addresses, node ports, the default ServiceAccount, tolerations) are the server's admission, not defaults.

pub(crate) mod admission;
pub(crate) mod autoscaler;
pub(crate) mod config;
pub(crate) mod extensions;
pub(crate) mod job;
pub(crate) mod networking;
pub(crate) mod pod;
pub(crate) mod policy;
pub(crate) mod rbac;
pub(crate) mod service;
pub(crate) mod storage;
pub(crate) mod volume;
pub(crate) mod workload;

use serde_json::{Map, Value};

use crate::kind::Kind;

/// Fills in every default of `kind` that does not depend on anything but the object.
///
/// The object must have passed [`crate::decode`]: fields of a wrong type are left as they are.
pub fn apply(kind: &Kind, object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        (kind.default)(object);
    }
}

/// Writes in what the server itself says of an object, behind its defaults: of a new one, which has its name and UID, or of
/// one that was `old`.
pub fn prepare(kind: &Kind, object: &mut Value, old: Option<&Value>) {
    if let Some(object) = object.as_object_mut() {
        (kind.prepare)(object, old);
    }
}

/// Fills in the defaults of a Pod template, such as a workload's `spec.template`.
pub fn pod_template(template: &mut Value) {
    if let Some(spec) = template.as_object_mut().and_then(|t| object(t, "spec")) {
        pod::spec(spec);
    }
}

/// Sets a field that is missing, `null` or an empty string.
fn set(object: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    match object.get(key) {
        Some(Value::Null) | None => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(_) => return,
    }
    object.insert(key.to_owned(), value.into());
}

/// Sets a number that is missing or 0: fields that are no pointer in Go.
fn set_number(object: &mut Map<String, Value>, key: &str, value: i64) {
    if object.get(key).is_none_or(|v| v.is_null() || v.as_i64() == Some(0)) {
        object.insert(key.to_owned(), value.into());
    }
}

/// Sets each of these to 0 in the object below `key`, unless it is there: numbers that are always told.
fn zeros(object: &mut Map<String, Value>, key: &str, numbers: &[&str]) {
    if let Some(inner) = made(object, key) {
        numbers.iter().for_each(|number| set(inner, number, 0));
    }
}

/// The object below `key`, if there is one.
fn object<'a>(within: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    within.get_mut(key)?.as_object_mut()
}

/// The object below `key`, made if it is missing.
fn made<'a>(within: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let value = within.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

/// The objects in the list below `key`.
fn objects<'a>(
    within: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    within.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

#[cfg(test)]
mod tests;
