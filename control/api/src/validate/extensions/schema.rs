//! The schema of a version's custom resources: that it is structural, so that unknown fields can be dropped by it, and that
//! it says nothing which nobody could hold to.
//!
//! A structural schema has the type of every field outside of `allOf`, `anyOf`, `oneOf` and `not`; these may only narrow what
//! is there.

mod default;
mod list;
mod nested;
mod path;
mod validation;

pub(super) use self::path::selectable;

use std::fmt;

use serde_json::Value;

use super::super::{entries, flag, items, text};
use crate::status::{Errors, FieldError};

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
/// What the schema of an object with a status of its own may say of the whole, in Kubernetes' words and in JSON's.
const AT_ROOT: &[(&str, &str)] = &[
    ("Description", "description"),
    ("Type", "type"),
    ("Format", "format"),
    ("Title", "title"),
    ("Maximum", "maximum"),
    ("ExclusiveMaximum", "exclusiveMaximum"),
    ("Minimum", "minimum"),
    ("ExclusiveMinimum", "exclusiveMinimum"),
    ("MaxLength", "maxLength"),
    ("MinLength", "minLength"),
    ("Pattern", "pattern"),
    ("MaxItems", "maxItems"),
    ("MinItems", "minItems"),
    ("UniqueItems", "uniqueItems"),
    ("MultipleOf", "multipleOf"),
    ("Required", "required"),
    ("Items", "items"),
    ("Properties", "properties"),
    ("ExternalDocs", "externalDocs"),
    ("Example", "example"),
    ("XPreserveUnknownFields", PRESERVE),
    ("XValidations", "x-kubernetes-validations"),
];
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";
/// Fields that every object has.
const META: &[&str] = &["apiVersion", "kind", "metadata"];

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What is wrong with a version's schema at `path`; `with_status` if its status is written by itself.
pub(super) fn schema(schema: &Value, path: &str, with_status: bool, errors: &mut Errors) {
    if with_status {
        at_root(schema, path, errors);
    }
    if flag(schema, "nullable") {
        let why = "nullable cannot be true at the root";
        errors.push(FieldError::forbidden(format!("{path}.nullable"), why));
    }
    let mut structural = Errors::default();
    invariants(schema, Level::Root, path, &mut structural);
    nested::complete(schema, schema, path, path, &mut structural);
    structural.sort();
    // A pattern that is none is wrong by itself: defaults and rules are judged beside it.
    let is_right = structural.told().iter().all(|error| error.path.ends_with(".pattern"));
    let patterns = structural.len();
    if is_right {
        default::defaults(schema, path, &mut structural);
    }
    // Rules are compiled where the schemas are right that they are about, and told behind all that is wrong with schemas.
    let mut compiled =
        Compiled { wanted: is_right && structural.len() == patterns, errors: Errors::default() };
    errors.append(structural);
    let place = Place { is_root: true, in_meta: false, no_defaults: None, unmatched: None };
    rules(schema, path, place, &mut compiled, errors);
    errors.append(compiled.errors);
}

fn at_root(schema: &Value, path: &str, errors: &mut Errors) {
    let type_ = text(schema, "type");
    if !type_.is_empty() && type_ != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(FieldError::invalid(format!("{path}.type"), type_, why));
        return;
    }
    let mut given = schema.as_object().into_iter().flatten().filter(|(_, value)| !is_zero(value));
    if given.any(|(key, _)| !AT_ROOT.iter().any(|(_, allowed)| allowed == key)) {
        let names: Vec<&str> = AT_ROOT.iter().map(|(name, _)| *name).collect();
        let why = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        );
        errors.push(FieldError::invalid(path, schema.clone(), why));
    }
}

/// Whether a value says nothing.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

/// The one schema of a list's items.
fn items_of(schema: &Value) -> Option<&Value> {
    schema.get("items").filter(|items| items.is_object())
}

/// The schema of a map's values.
fn values_of(schema: &Value) -> Option<&Value> {
    schema.get("additionalProperties").filter(|values| values.is_object())
}

/// A field's schema.
fn property<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    schema.get("properties").and_then(|properties| properties.get(name))
}

/// The path of what is below another one. A long one is not made longer: one long name may have many schemas below it, and
/// each has its own path.
fn below(path: &str, step: impl fmt::Display) -> String {
    const PATH_BYTES_MAX: usize = 1536;
    if path.len() > PATH_BYTES_MAX {
        return path.to_owned();
    }
    let mut path = format!("{path}{step}");
    if path.len() > PATH_BYTES_MAX {
        path.truncate(path.floor_char_boundary(PATH_BYTES_MAX));
        path.push('…');
    }
    path
}

/// The path of a field.
fn below_field(path: &str, name: &str) -> String {
    below(path, format_args!(".properties[{name}]"))
}

/// What makes a schema structural, here and below.
fn invariants(schema: &Value, level: Level, path: &str, errors: &mut Errors) {
    if errors.is_full() {
        return;
    }
    let type_ = text(schema, "type");
    match items_of(schema) {
        None if type_ == "array" && schema.get("items").is_none_or(Value::is_null) => {
            errors.push(FieldError::required(format!("{path}.items"), "must be specified"));
        }
        None => {}
        Some(item) => invariants(item, Level::Item, &below(path, ".items"), errors),
    }
    for (name, field) in entries(schema, "properties") {
        invariants(field, Level::Field, &below_field(path, name), errors);
    }
    let embedded = flag(schema, EMBEDDED);
    let values = schema.get("additionalProperties").filter(|values| !values.is_null());
    if values.is_some() {
        let path = below(path, ".additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&path, "must not be used at the root"));
        }
        if let Some(values) = values_of(schema) {
            invariants(values, Level::Field, &path, errors);
        }
        if embedded {
            let why = "must not be used if x-kubernetes-embedded-resource is set";
            errors.push(FieldError::forbidden(path, why));
        }
    }
    let (preserve, number_or_text) = (flag(schema, PRESERVE), flag(schema, INT_OR_STRING));
    for (set, key) in [(preserve, PRESERVE), (embedded, EMBEDDED)] {
        if number_or_text && set {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(format!("{path}.{key}"), true, why));
        }
    }
    nested::junctors(schema, path, errors);
    let type_path = format!("{path}.type");
    if embedded && type_ != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if type_.is_empty() {
            FieldError::required(&type_path, why)
        } else {
            FieldError::invalid(&type_path, type_, why)
        });
    } else if type_.is_empty() && !number_or_text && !preserve {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&type_path, why));
    }
    if level == Level::Root && !type_.is_empty() && type_ != "object" {
        errors.push(FieldError::invalid(type_path, type_, "must be object at the root"));
    }
    of_objects(schema, level, path, errors);
    if embedded && !preserve && entries(schema, "properties").next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(format!("{path}.properties"), why));
    }
}

/// The fields that every object has, in the schema of an object.
fn of_objects(schema: &Value, level: Level, path: &str, errors: &mut Errors) {
    let is_object = level == Level::Root || flag(schema, EMBEDDED);
    for (name, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let Some(field) = property(schema, name).filter(|_| is_object) else { continue };
        let type_ = text(field, "type");
        if type_ != wanted {
            let path = format!("{path}.properties[{name}].type");
            errors.push(FieldError::invalid(path, type_, format!("must be {wanted}")));
        }
    }
    let Some(meta) = property(schema, "metadata").filter(|_| level == Level::Root) else { return };
    let only_names =
        entries(meta, "properties").all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
    let others = meta.as_object().into_iter().flatten();
    let mut others = others
        .filter(|(key, value)| !matches!(key.as_str(), "type" | "default" | "properties") && !is_zero(value));
    if !only_names || others.next().is_some() {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(format!("{path}.properties[metadata]"), why));
    }
}

/// What is wrong with rules in CEL; they are not looked at where `wanted` is not set.
struct Compiled {
    wanted: bool,
    errors: Errors,
}

/// Where in the whole a schema stands, as far as it decides what may be said.
#[derive(Clone, Copy)]
struct Place<'a> {
    is_root: bool,
    /// Within `metadata` and what else every object has.
    in_meta: bool,
    /// Why there may be no defaults here.
    no_defaults: Option<&'static str>,
    /// The outermost list around it of whose items nobody can say what they were before.
    unmatched: Option<&'a str>,
}

/// What is said of OpenAPI and of Kubernetes' own words, here and below.
fn rules(schema: &Value, path: &str, outer: Place<'_>, compiled: &mut Compiled, errors: &mut Errors) {
    if errors.is_full() {
        return;
    }
    let before = errors.len();
    standard(schema, path, outer, errors);
    if flag(schema, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(format!("{path}.uniqueItems"), why));
    }
    let inner = Place { is_root: false, ..outer };
    let values = schema.get("additionalProperties").filter(|values| !values.is_null());
    if let Some(values) = values {
        let has_fields = entries(schema, "properties").next().is_some();
        let path = below(path, ".additionalProperties");
        if has_fields && *values != Value::Bool(true) {
            let why = "additionalProperties and properties are mutual exclusive";
            errors.push(FieldError::forbidden(&path, why));
        }
        let mut place = inner;
        if place.in_meta {
            place.no_defaults = Some("inside additionalProperties applying to object metadata");
        }
        if values.is_object() {
            rules(values, &path, place, compiled, errors);
        }
    }
    for (name, field) in entries(schema, "properties") {
        let mut place = inner;
        let known = META.iter().position(|meta| meta == name);
        if let Some(at) = known.filter(|_| outer.is_root || flag(schema, EMBEDDED)) {
            place.in_meta = true;
            if outer.is_root {
                place.no_defaults =
                    Some(["in top-level apiVersion", "in top-level kind", "in top-level metadata"][at]);
            }
        }
        rules(field, &below_field(path, name), place, compiled, errors);
    }
    // Rules in these are refused as they are.
    let mut nested = Compiled { wanted: false, errors: Errors::default() };
    if let Some(not) = schema.get("not").filter(|not| not.is_object()) {
        rules(not, &below(path, ".not"), inner, &mut nested, errors);
    }
    for junctor in ["allOf", "oneOf", "anyOf"] {
        for (at, part) in items(schema, junctor).iter().enumerate() {
            rules(part, &below(path, format_args!(".{junctor}[{at}]")), inner, &mut nested, errors);
        }
    }
    if let Some(item) = items_of(schema) {
        let mut place = inner;
        if text(schema, "x-kubernetes-list-type") != "map" {
            place.unmatched.get_or_insert(path);
        }
        rules(item, &below(path, ".items"), place, compiled, errors);
    }
    if schema.get(PRESERVE) == Some(&Value::Bool(false)) {
        errors.push(FieldError::invalid(format!("{path}.{PRESERVE}"), false, "must be true or undefined"));
    }
    list::rules(schema, path, errors);
    validation::rules(schema, path, errors);
    if compiled.wanted && errors.len() == before {
        validation::compile(schema, path, outer, &mut compiled.errors);
    }
}

/// What OpenAPI has and definitions may not.
fn standard(schema: &Value, path: &str, place: Place<'_>, errors: &mut Errors) {
    let type_ = text(schema, "type");
    if !type_.is_empty() && !TYPES.contains(&type_) {
        errors.push(FieldError::not_supported(format!("{path}.type"), type_, TYPES));
    }
    let is_set = |key: &str| schema.get(key).is_some_and(|value| !value.is_null());
    if let Some(reason) = place.no_defaults.filter(|_| is_set("default")) {
        errors.push(FieldError::forbidden(format!("{path}.default"), format!("must not be set {reason}")));
    }
    for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if schema
            .get(key)
            .is_some_and(|value| !is_zero(value) || key == "additionalItems" && !value.is_null())
        {
            errors.push(FieldError::forbidden(format!("{path}.{key}"), format!("{key} is not supported")));
        }
    }
    if type_ == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(format!("{path}.type"), why));
    }
    if !items(schema, "items").is_empty() {
        let why = "items must be a schema object and not an array";
        errors.push(FieldError::forbidden(format!("{path}.items"), why));
    }
    if place.in_meta && flag(schema, EMBEDDED) {
        let why = "must not be used inside of resource meta";
        errors.push(FieldError::forbidden(format!("{path}.{EMBEDDED}"), why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_made_no_longer() {
        let name = "ä".repeat(1_000_000);
        let mut path = below_field("spec", &name);
        for _ in 0..100 {
            path = below_field(&below(&path, ".items"), &name);
            assert!(path.len() < 1600, "{}", path.len());
        }
        assert_eq!(below_field("spec", "a"), "spec.properties[a]");
    }
}
