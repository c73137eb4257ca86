//! What stands in `allOf`, `anyOf`, `oneOf` and `not`: it narrows what is there, and brings nothing of its own.

use serde_json::{Value, json};

use super::super::super::{entries, items, regex, text};
use super::{EMBEDDED, INT_OR_STRING, PRESERVE, below, below_field, is_zero, items_of, property};
use crate::status::{Errors, FieldError};

const JUNCTORS: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// The one thing that may give types there: a number or a text.
fn is_number_or_text(parts: &[Value]) -> bool {
    matches!(parts, [first, second]
        if *first == json!({"type": "integer"}) && *second == json!({"type": "string"}))
}

/// Judges the junctors of a schema, and the patterns in it and in them.
pub(super) fn junctors(schema: &Value, path: &str, errors: &mut Errors) {
    let skip_any = is_number_or_text(items(schema, "anyOf"));
    let skip_first =
        items(schema, "allOf").first().is_some_and(|first| is_number_or_text(items(first, "anyOf")));
    judge(schema, path, (skip_any, skip_first), errors);
}

fn judge(schema: &Value, path: &str, skip: (bool, bool), errors: &mut Errors) {
    let (skip_any, skip_first) = skip;
    for junctor in JUNCTORS.iter().filter(|junctor| !skip_any || **junctor != "anyOf") {
        for (at, part) in items(schema, junctor).iter().enumerate() {
            let skip = skip_first && *junctor == "allOf" && at == 0;
            nested(part, &below(path, format_args!(".{junctor}[{at}]")), skip, errors);
        }
    }
    if let Some(not) = schema.get("not").filter(|not| not.is_object()) {
        nested(not, &below(path, ".not"), false, errors);
    }
    let pattern = text(schema, "pattern");
    if pattern.is_empty() {
        return;
    }
    if let Err(why) = regex::check(pattern) {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(format!("{path}.pattern"), pattern, why));
    }
}

fn nested(schema: &Value, path: &str, skip_any: bool, errors: &mut Errors) {
    if errors.is_full() {
        return;
    }
    judge(schema, path, (skip_any, false), errors);
    if let Some(item) = items_of(schema) {
        nested(item, &below(path, ".items"), false, errors);
    }
    for (name, field) in entries(schema, "properties") {
        nested(field, &below_field(path, name), false, errors);
    }
    let undefined = "must be undefined to be structural";
    for (key, why) in [
        ("type", "must be empty to be structural"),
        ("additionalProperties", undefined),
        ("default", undefined),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        (PRESERVE, "must be false to be structural"),
        (EMBEDDED, "must be false to be structural"),
        (INT_OR_STRING, "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", undefined),
        ("x-kubernetes-map-type", undefined),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ] {
        let says = |value: &Value| if why == undefined { !value.is_null() } else { !is_zero(value) };
        if schema.get(key).is_some_and(says) {
            errors.push(FieldError::forbidden(format!("{path}.{key}"), why));
        }
    }
    if property(schema, "metadata").is_some() {
        let why = "must not be specified in a nested context";
        errors.push(FieldError::forbidden(format!("{path}.properties[metadata]"), why));
    }
}

/// Everything that the junctors of a schema speak of must be there outside of them.
pub(super) fn complete(part: &Value, whole: &Value, at: &str, said: &str, errors: &mut Errors) {
    for junctor in JUNCTORS {
        for (n, inner) in items(part, junctor).iter().enumerate() {
            within(inner, Some(whole), at, &below(said, format_args!(".{junctor}[{n}]")), errors);
        }
    }
    if let Some(not) = part.get("not").filter(|not| not.is_object()) {
        within(not, Some(whole), at, &below(said, ".not"), errors);
    }
}

fn within(part: &Value, whole: Option<&Value>, at: &str, said: &str, errors: &mut Errors) {
    if errors.is_full() {
        return;
    }
    let Some(whole) = whole else {
        errors.push(FieldError::required(at, &format!("because it is defined in {said}")));
        return;
    };
    complete(part, whole, at, said, errors);
    if let Some(item) = items_of(part) {
        within(item, items_of(whole), &below(at, ".items"), &below(said, ".items"), errors);
    }
    for (name, field) in entries(part, "properties") {
        let (at, said) = (below_field(at, name), below_field(said, name));
        within(field, property(whole, name), &at, &said, errors);
    }
}
