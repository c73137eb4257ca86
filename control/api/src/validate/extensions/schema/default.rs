//! Default values within a schema: each is what its own schema says a value is, and has no field that is not in it.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::super::super::{entries, flag, items, text};
use super::{EMBEDDED, INT_OR_STRING, META, PRESERVE, below, below_field, items_of, property, values_of};
use crate::status::{Errors, FieldError};

/// How many values are looked through for each one.
const ENUM_MAX: usize = 1000;
/// How many of them are told, and how much of each, bytes.
const ENUM_TOLD_MAX: usize = 32;
const ENUM_VALUE_BYTES_MAX: usize = 64;

/// The lists of schemas that many values are judged by, each as a set: what is allowed, and what is required.
#[derive(Default)]
struct Sets<'a> {
    allowed: HashMap<*const Value, HashSet<&'a Value>>,
    required: HashMap<*const Value, Vec<&'a str>>,
}

impl<'a> Sets<'a> {
    fn allows(&mut self, schema: &'a Value, value: &Value) -> bool {
        let set = || items(schema, "enum").iter().collect();
        self.allowed.entry(schema).or_insert_with(set).contains(value)
    }

    /// Each name once, in the order of the schema.
    fn required(&mut self, schema: &'a Value) -> &[&'a str] {
        let names = || {
            let mut seen = HashSet::new();
            let all = items(schema, "required").iter().filter_map(Value::as_str);
            all.filter(|name| seen.insert(*name)).collect()
        };
        self.required.entry(schema).or_insert_with(names)
    }
}

/// The defaults of a schema and of what is below it.
pub(super) fn defaults(schema: &Value, path: &str, errors: &mut Errors) {
    of_schema(schema, path, false, &mut Sets::default(), errors);
}

/// Within metadata the schema does not say all that there is.
fn of_schema<'a>(schema: &'a Value, path: &str, in_meta: bool, sets: &mut Sets<'a>, errors: &mut Errors) {
    if errors.is_full() {
        return;
    }
    let in_meta = in_meta && !flag(schema, EMBEDDED);
    if let Some(value) = schema.get("default").filter(|value| !value.is_null()) {
        let path = format!("{path}.default");
        if !in_meta && !is_known(value, schema, flag(schema, EMBEDDED)) {
            errors.push(FieldError::invalid(&path, value.clone(), "must not have unknown fields"));
        }
        fits(value, schema, (&path, ""), sets, errors);
    }
    if let Some(item) = items_of(schema) {
        of_schema(item, &below(path, ".items"), in_meta, sets, errors);
    }
    for (name, field) in entries(schema, "properties") {
        let in_meta = in_meta || flag(schema, EMBEDDED) && META.contains(&name.as_str());
        of_schema(field, &below_field(path, name), in_meta, sets, errors);
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

/// What is wrong with a value, at a path and of a name, by its schema: its type, whether it is one of those that are allowed,
/// and what it lacks.
fn fits<'a>(
    value: &Value,
    schema: &'a Value,
    (path, name): (&str, &str),
    sets: &mut Sets<'a>,
    errors: &mut Errors,
) {
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
    if (1..ENUM_MAX).contains(&allowed.len()) && !sets.allows(schema, value) {
        let mut valid: Vec<String> = allowed.iter().take(ENUM_TOLD_MAX).map(told).collect();
        if allowed.len() > ENUM_TOLD_MAX {
            valid.push("…".to_owned());
        }
        let valid: Vec<&str> = valid.iter().map(String::as_str).collect();
        errors.push(FieldError::not_supported(path, value.clone(), &valid));
    }
    match value {
        Value::Object(fields) => {
            for &missing in sets.required(schema) {
                if errors.is_full() {
                    return;
                }
                if !fields.contains_key(missing) {
                    errors.push(FieldError::required(format!("{path}.{missing}"), ""));
                }
            }
            for (name, value) in fields {
                if let Some(inner) = property(schema, name).or_else(|| values_of(schema)) {
                    fits(value, inner, (&below(path, format_args!(".{name}")), name), sets, errors);
                }
            }
        }
        Value::Array(all) => {
            for (at, value) in all.iter().enumerate() {
                if let Some(item) = items_of(schema) {
                    fits(value, item, (&below(path, format_args!("[{at}]")), name), sets, errors);
                }
            }
        }
        _ => {}
    }
}
