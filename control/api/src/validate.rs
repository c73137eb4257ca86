//! Validation: which objects may be stored, and which changes to them.
//!
//! Rules and wording are those of the Kubernetes API reference. An object has been decoded and defaulted before it
//! comes here; what is asked of other objects (does the Namespace exist, is the port free) is the server's.

pub mod address;
pub(crate) mod admission;
mod amount;
pub(crate) mod autoscaler;
pub(crate) mod bundle;
mod cel;
pub(crate) mod certificates;
pub(crate) mod claim;
pub(crate) mod config;
mod container;
pub(crate) mod cron_job;
pub(crate) mod csi;
pub(crate) mod daemon_set;
pub(crate) mod disruption;
pub(crate) mod endpoints;
pub(crate) mod events;
pub(crate) mod extensions;
mod families;
pub(crate) mod ingress;
pub(crate) mod job;
pub(crate) mod limit_range;
mod meta;
pub mod name;
pub(crate) mod networking;
pub(crate) mod node;
pub(crate) mod persistent_volume;
pub(crate) mod pod;
pub(crate) mod pod_certificate;
pub(crate) mod policy;
pub(crate) mod priority_class;
pub(crate) mod quota;
pub(crate) mod rbac;
mod regex;
mod resource;
pub(crate) mod runtime_class;
mod selector;
pub(crate) mod service;
pub(crate) mod stateful_set;
pub(crate) mod storage;
mod stored;
pub(crate) mod template;
mod volume;
mod webhook;
pub(crate) mod workload;

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::kind::{Kind, POD, Subresource};
use crate::status::{Errors, FieldError};

/// Words for a field that may not change.
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// Bounds that are settings of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ports that NodePort Services may have.
    pub node_ports: RangeInclusive<u16>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { node_ports: 30_000..=32_767 }
    }
}

/// What is asked of the objects of one kind beside their metadata. Each pushes what is wrong, and nothing if all is well.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Of an object that is new.
    pub(crate) create: fn(&Value, &Limits, &mut Errors),
    /// Of a change: new object, old one.
    pub(crate) update: fn(&Value, &Value, &Limits, &mut Errors),
    /// Of a write to `status`.
    pub(crate) status: fn(&Value, &mut Errors),
}

/// For kinds of which nothing is asked.
pub(crate) static NONE: Rules = Rules { create: |_, _, _| {}, update: |_, _, _, _| {}, status: |_, _| {} };

/// What is wrong with a new object; nothing if it may be stored.
#[must_use]
pub fn create(kind: &Kind, object: &Value, limits: &Limits) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta::create(kind, object, &mut errors);
    (kind.rules.create)(object, limits, &mut errors);
    errors.into_vec()
}

/// What is asked of a new object by the dialect that it is written in, beside what is asked of it as it is stored.
#[must_use]
pub fn create_dialect(kind: &Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    if kind.dialect.is_some() {
        (kind.rules.create)(object, &Limits::default(), &mut errors);
    }
    errors.into_vec()
}

/// What is wrong with a change from `old` to `new`; nothing if it may be stored. What was wrong before and did not change is
/// no matter, metadata aside.
#[must_use]
pub fn update(kind: &Kind, new: &Value, old: &Value, limits: &Limits) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta::update(new, old, &mut errors);
    stored::update(kind, new, old, &mut errors, |new, old, errors| {
        (kind.rules.update)(new, old, limits, errors);
    });
    errors.into_vec()
}

/// What is wrong with a write to `status`; `new` has the old spec and metadata.
#[must_use]
pub fn update_status(kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta::update(new, old, &mut errors);
    stored::status(kind, new, old, &mut errors, |new, old, errors| {
        (kind.rules.status)(new, errors);
        (kind.part_rules)(Subresource::Status, new, old, errors);
    });
    errors.into_vec()
}

/// What is wrong with a write to `approval`; `new` has the old spec and metadata.
#[must_use]
pub fn update_approval(kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta::update(new, old, &mut errors);
    (kind.part_rules)(Subresource::Approval, new, old, &mut errors);
    errors.into_vec()
}

/// What is wrong with a Pod's ephemeral containers, as a change of those in `old`.
#[must_use]
pub fn update_ephemeral_containers(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta::update(new, old, &mut errors);
    stored::update(&POD, new, old, &mut errors, pod::ephemeral::update);
    errors.into_vec()
}

/// What is wrong with a Pod's resources, as a change of those in `old`.
#[must_use]
pub fn resize(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta::update(new, old, &mut errors);
    stored::update(&POD, new, old, &mut errors, pod::resize::update);
    errors.into_vec()
}

/// What is wrong with the addresses and families that a Service asks for, also as a change of `old`: for whoever allocates, who
/// has nothing to give to one that contradicts itself.
#[must_use]
pub fn service_families(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let spec = |service: &Value| service.get("spec").cloned().unwrap_or_default();
    families::service(&spec(new), &mut errors);
    if let Some(old) = old.filter(|_| errors.is_empty()) {
        families::update(&spec(new), &spec(old), &mut errors);
    }
    errors.into_vec()
}

/// What is wrong with a name for an object of `kind`; rules in words, none if it is fine.
#[must_use]
pub fn object_name(kind: &Kind, text: &str) -> Vec<String> {
    (kind.name_rules)(text)
}

/// Whether a PriorityClass of this name is the system's own: nobody deletes it.
#[must_use]
pub fn is_system_class(name: &str) -> bool {
    priority_class::is_system_class(name)
}

/// The PriorityClasses of the system's own, by name, with their priorities.
pub fn system_classes() -> impl Iterator<Item = (&'static str, i64)> {
    priority_class::SYSTEM_CLASSES.iter().copied()
}

/// The text below `key`, empty if there is none.
fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or("")
}

/// The flag below `key`, false if there is none.
fn flag(object: &Value, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The items below `key`, none if there is no list.
fn items<'a>(object: &'a Value, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The entries below `key`, none if there is no object.
fn entries<'a>(object: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    object.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// A text that must be one of `valid`; missing is an error too when `required`.
fn one_of(object: &Value, path: &str, key: &str, valid: &[&str], required: bool, errors: &mut Errors) {
    let value = text(object, key);
    let path = format!("{path}.{key}");
    if value.is_empty() {
        if required {
            errors.push(FieldError::required(path, ""));
        }
    } else if !valid.contains(&value) {
        errors.push(FieldError::not_supported(path, value, valid));
    }
}

/// As [`one_of`], of a field of the object itself that must be there.
fn one_of_root(object: &Value, key: &str, valid: &[&str], errors: &mut Errors) {
    let value = text(object, key);
    if value.is_empty() {
        errors.push(FieldError::required(key, ""));
    } else if !valid.contains(&value) {
        errors.push(FieldError::not_supported(key, value, valid));
    }
}

/// A text that must be there.
fn not_empty(object: &Value, path: &str, key: &str, errors: &mut Errors) {
    if text(object, key).is_empty() {
        errors.push(FieldError::required(format!("{path}.{key}"), ""));
    }
}

/// The conditions of a status.
fn conditions(status: &Value, errors: &mut Errors) {
    for (at, condition) in items(status, "conditions").iter().enumerate() {
        let path = format!("status.conditions[{at}]");
        one_of(condition, &path, "status", &["True", "False", "Unknown"], true, errors);
    }
}

/// A number that may not be negative.
fn not_negative(object: &Value, path: &str, key: &str, errors: &mut Errors) {
    if let Some(number) = object.get(key).and_then(Value::as_i64).filter(|n| *n < 0) {
        errors.push(FieldError::invalid(
            format!("{path}.{key}"),
            number,
            "must be greater than or equal to 0",
        ));
    }
}

/// A field that an update may not change; an empty path is the object itself.
fn fixed(new: &Value, old: &Value, path: &str, key: &str, errors: &mut Errors) {
    let (now, was) = (&new[key], &old[key]);
    if !same(now, was) {
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        errors.push(FieldError::invalid(path, now.clone(), IMMUTABLE));
    }
}

/// Whether two values mean the same: what is empty is as good as not there.
fn same(a: &Value, b: &Value) -> bool {
    let filled = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        _ => true,
    };
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(key, value)| same(value, b.get(key).unwrap_or(&Value::Null)))
                && b.iter().all(|(key, value)| a.contains_key(key) || !filled(value))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ if !filled(a) || !filled(b) => !filled(a) && !filled(b),
        _ => a == b,
    }
}

/// A port, by number or by the name of a container's port.
fn port_or_name(value: &Value, path: &str, errors: &mut Errors) {
    match value {
        Value::Number(number) => {
            if let Some(rule) = name::port(number.as_i64().unwrap_or(0)) {
                errors.push(FieldError::invalid(path, value.clone(), rule));
            }
        }
        Value::String(text) => {
            errors.extend(
                name::port_name(text).iter().map(|rule| FieldError::invalid(path, text.as_str(), rule)),
            );
        }
        _ => errors.push(FieldError::required(path, "")),
    }
}

/// Pushes one error per broken rule.
fn rules(broken: Vec<String>, path: &str, value: &str, errors: &mut Errors) {
    errors.extend(broken.into_iter().map(|rule| FieldError::invalid(path, value, rule)));
}

#[cfg(test)]
mod tests;
