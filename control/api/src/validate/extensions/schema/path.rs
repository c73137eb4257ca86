//! Paths into a schema, `.spec.color` or `['spec'].color`, and the fields that a selector may name by them.

use std::collections::HashSet;

use serde_json::Value;

use super::super::super::{items, text};
use super::{property, values_of};
use crate::status::{Errors, FieldError};

/// Most fields of a version that selectors may name.
const FIELDS_MAX: usize = 8;

/// Follows a path: its names, and the schema where it leads.
///
/// # Errors
/// Why it leads nowhere, in words.
pub(super) fn find<'a>(
    path: &str,
    schema: &'a Value,
    brackets: bool,
) -> Result<(Vec<String>, &'a Value), String> {
    let (mut rest, mut schema, mut names) = (path, schema, Vec::new());
    while !rest.is_empty() {
        let name;
        if let Some(inner) = rest.strip_prefix('[') {
            if !brackets {
                return Err("array notation is not allowed".to_owned());
            }
            let quoted = inner.strip_prefix('\'').and_then(|inner| inner.split_once("']"));
            let (inside, after) = quoted.ok_or("expected single quoted string")?;
            (name, rest) = (inside.replace("\\'", "'"), after);
        } else if let Some(inner) = rest.strip_prefix('.') {
            let end = inner.find(['.', '[', ']']).unwrap_or(inner.len());
            if end == 0 {
                return Err("unexpected end of JSON path".to_owned());
            }
            (name, rest) = (inner[..end].to_owned(), &inner[end..]);
        } else {
            let token = &rest[..rest.find(['.', '[', ']']).filter(|end| *end > 0).unwrap_or(rest.len())];
            return Err(format!("expected [ or . but got: {token}"));
        }
        let inner = match schema.get("properties") {
            Some(Value::Object(_)) => property(schema, &name),
            _ => values_of(schema),
        };
        schema = inner.ok_or("does not refer to a valid field")?;
        names.push(name);
    }
    if names.is_empty() { Err("unexpected end of JSON path".to_owned()) } else { Ok((names, schema)) }
}

/// Fields of a version, at `path`, that a field selector may name.
pub(in super::super) fn selectable(version: &Value, path: &str, errors: &mut Errors) {
    let fields = items(version, "selectableFields");
    let path = format!("{path}.selectableFields");
    let Some(schema) = version.pointer("/schema/openAPIV3Schema").filter(|s| !s.is_null()) else {
        if !fields.is_empty() {
            let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
            errors.push(FieldError::invalid(path, "", why));
        }
        return;
    };
    let mut seen = HashSet::new();
    for (at, field) in fields.iter().enumerate() {
        let (given, path) = (text(field, "jsonPath"), format!("{path}[{at}].jsonPath"));
        if given.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        let (names, found) = match find(given, schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(FieldError::invalid(path, given, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if names[0] == "metadata" {
            errors.push(FieldError::invalid(&path, given, "must not point to fields in metadata"));
        }
        if !matches!(text(found, "type"), "string" | "boolean" | "integer") {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                       formats are allowed.";
            errors.push(FieldError::invalid(&path, given, why));
        }
        if !seen.insert(names) {
            errors.push(FieldError::duplicate(path, given));
        }
    }
    if seen.len() > FIELDS_MAX {
        errors.push(FieldError::too_many(path, seen.len(), FIELDS_MAX));
    }
}
