//! Default values within a schema: each is what its own schema says a value is, and has no field that is not in it.

use serde_json::Value;

use super::super::super::{entries, flag, items, text};
use super::{EMBEDDED, INT_OR_STRING, META, PRESERVE, below, below_field, items_of, property, values_of};
use crate::status::{Errors, FieldError};

/// How many values are looked through for each one.
const ENUM_MAX: usize = 1000;
/// How many of them are told, and how much of each, bytes.
const ENUM_TOLD_MAX: usize = 32;
const ENUM_VALUE_BYTES_MAX: usize = 64;

/// The defaults of a schema and of what is below it. Within metadata the schema does not say all that there is.
pub(super) fn defaults(schema: &Value, path: &str, in_meta: bool, errors: &mut Errors) {
    if errors.is_full() {
        return;
    }
    let in_meta = in_meta && !flag(schema, EMBEDDED);
    if let Some(value) = schema.get("default").filter(|value| !value.is_null()) {
        let path = format!("{path}.default");
        if !in_meta && !is_known(value, schema, flag(schema, EMBEDDED)) {
            errors.push(FieldError::invalid(&path, value.clone(), "must not have unknown fields"));
        }
        fits(value, schema, &path, "", errors);
    }
    if let Some(item) = items_of(schema) {
        defaults(item, &below(path, ".items"), in_meta, errors);
    }
    for (name, field) in entries(schema, "properties") {
        let in_meta = in_meta || flag(schema, EMBEDDED) && META.contains(&name.as_str());
        defaults(field, &below_field(path, name), in_meta, errors);
    }
}

/// Whether a value has no field that its schema does not know.
fn is_known(value: &Value, schema: &Value, is_object: bool) -> bool {
    match value {
        Value::Object(fields) => fields.iter().all(|(name, value)| {
            if is_object && META.contains(&name.as_str()) {
                return true;
            }
            match property(schema, name).or_else(|| values_of(schema)) {
                Some(inner) => is_known(value, inner, flag(inner, EMBEDDED)),
                None => {
                    flag(schema, PRESERVE) || schema.get("additionalProperties") == Some(&Value::Bool(true))
                }
            }
        }),
        Value::Array(all) => items_of(schema)
            .is_none_or(|item| all.iter().all(|value| is_known(value, item, flag(item, EMBEDDED)))),
        _ => true,
    }
}

/// An allowed value, as the message tells it.
fn told(value: &Value) -> String {
    let mut text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    if text.len() > ENUM_VALUE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ENUM_VALUE_BYTES_MAX));
        text.push('…');
    }
    text
}

/// What is wrong with a value by its schema: its type, whether it is one of those that are allowed, and what it lacks.
fn fits(value: &Value, schema: &Value, path: &str, name: &str, errors: &mut Errors) {
    if errors.is_full() {
        return;
    }
    let type_ = text(schema, "type");
    let is = match value {
        Value::Null if flag(schema, "nullable") => return,
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let right = type_.is_empty() || type_ == is || type_ == "number" && is == "integer";
    if !right || flag(schema, INT_OR_STRING) && !matches!(is, "integer" | "string") {
        let wanted = if type_.is_empty() { "integer,string" } else { type_ };
        let why = format!("{name} in body must be of type {wanted}: \"{is}\"");
        errors.push(FieldError::invalid(path, is, why));
        return;
    }
    let allowed = items(schema, "enum");
    if (1..ENUM_MAX).contains(&allowed.len()) && !allowed.contains(value) {
        let mut valid: Vec<String> = allowed.iter().take(ENUM_TOLD_MAX).map(told).collect();
        if allowed.len() > ENUM_TOLD_MAX {
            valid.push("…".to_owned());
        }
        let valid: Vec<&str> = valid.iter().map(String::as_str).collect();
        errors.push(FieldError::not_supported(path, value.clone(), &valid));
    }
    match value {
        Value::Object(fields) => {
            for missing in items(schema, "required").iter().filter_map(Value::as_str) {
                if errors.is_full() {
                    return;
                }
                if !fields.contains_key(missing) {
                    errors.push(FieldError::required(format!("{path}.{missing}"), ""));
                }
            }
            for (name, value) in fields {
                if let Some(inner) = property(schema, name).or_else(|| values_of(schema)) {
                    fits(value, inner, &below(path, format_args!(".{name}")), name, errors);
                }
            }
        }
        Value::Array(all) => {
            for (at, value) in all.iter().enumerate() {
                if let Some(item) = items_of(schema) {
                    fits(value, item, &below(path, format_args!("[{at}]")), name, errors);
                }
            }
        }
        _ => {}
    }
}
