//! Strategic merge patch: a merge patch that merges lists by the keys the schema names.
//!
//! Directives, as the Kubernetes documentation has them: `$patch` (`merge`, `replace`, `delete`), `$retainKeys`,
//! `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>`.

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::{Definition, Field, Type};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

pub(super) fn apply(
    object: &mut Value,
    patch: Value,
    definition: Option<&Definition>,
) -> Result<(), PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed("a strategic merge patch must be an object".to_owned()));
    };
    merge_object(object, patch, definition)
}

/// What `$patch` says, taken out of the patch.
fn directive(patch: &mut Map<String, Value>) -> Result<Option<String>, PatchError> {
    match patch.remove(PATCH) {
        None => Ok(None),
        Some(Value::String(word)) if matches!(word.as_str(), "merge" | "replace" | "delete") => {
            Ok(Some(word))
        }
        Some(_) => Err(PatchError::Directive(PATCH)),
    }
}

fn merge_object(
    target: &mut Value,
    mut patch: Map<String, Value>,
    definition: Option<&Definition>,
) -> Result<(), PatchError> {
    match directive(&mut patch)?.as_deref() {
        Some("replace") => {
            *target = Value::Object(without_directives(patch));
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        _ => {}
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(object) = target.as_object_mut() else { return Ok(()) };
    if let Some(keep) = patch.remove(RETAIN_KEYS) {
        let Value::Array(keep) = keep else { return Err(PatchError::Directive(RETAIN_KEYS)) };
        object.retain(|name, _| keep.iter().any(|k| k.as_str() == Some(name)));
    }
    let orders = lists_of(&mut patch, ELEMENT_ORDER)?;
    for (name, gone) in lists_of(&mut patch, DELETE_FROM)? {
        if let Some(Value::Array(items)) = object.get_mut(&name) {
            items.retain(|item| !gone.contains(item));
        }
    }
    for (name, value) in patch {
        let field = definition.and_then(|d| d.field(&name));
        merge_field(object, name, value, field)?;
    }
    for (name, order) in orders {
        let key = definition.and_then(|d| d.field(&name)).map_or("", |f| f.merge_key);
        if let Some(Value::Array(items)) = object.get_mut(&name) {
            reorder(items, &order, key);
        }
    }
    Ok(())
}

/// Takes the entries out of a patch whose names begin with `prefix`.
fn lists_of(
    patch: &mut Map<String, Value>,
    prefix: &'static str,
) -> Result<Vec<(String, Vec<Value>)>, PatchError> {
    let names: Vec<String> = patch.keys().filter(|k| k.starts_with(prefix)).cloned().collect();
    let mut out = Vec::new();
    for name in names {
        match patch.remove(&name) {
            Some(Value::Array(items)) => out.push((name[prefix.len()..].to_owned(), items)),
            _ => return Err(PatchError::Directive(prefix)),
        }
    }
    Ok(out)
}

fn merge_field(
    object: &mut Map<String, Value>,
    name: String,
    value: Value,
    field: Option<&Field>,
) -> Result<(), PatchError> {
    match value {
        Value::Null => {
            object.remove(&name);
        }
        Value::Object(patch) => {
            let replaces = field.is_some_and(|f| f.has_strategy("replace"));
            let deletes = patch.get(PATCH).and_then(Value::as_str) == Some("delete");
            if deletes {
                object.remove(&name);
            } else if replaces {
                object.insert(name, Value::Object(without_directives(patch)));
            } else {
                let inner = field.and_then(|f| f.type_.definition());
                merge_object(object.entry(name).or_insert(Value::Null), patch, inner)?;
            }
        }
        Value::Array(items) => match field.filter(|f| f.has_strategy("merge")) {
            Some(field) => {
                let target = object.entry(name).or_insert(Value::Null);
                if !target.is_array() {
                    *target = Value::Array(Vec::new());
                }
                if let Some(target) = target.as_array_mut() {
                    merge_list(target, items, field)?;
                }
            }
            None => {
                object.insert(name, Value::Array(items.into_iter().filter_map(cleaned).collect()));
            }
        },
        scalar => {
            object.insert(name, scalar);
        }
    }
    Ok(())
}

fn merge_list(target: &mut Vec<Value>, patch: Vec<Value>, field: &Field) -> Result<(), PatchError> {
    if field.merge_key.is_empty() {
        for item in patch {
            if !target.contains(&item) {
                target.push(item);
            }
        }
        return Ok(());
    }
    let replaces = |item: &Value| {
        item.get(PATCH).and_then(Value::as_str) == Some("replace") && item.get(field.merge_key).is_none()
    };
    if patch.iter().any(replaces) {
        let items = patch.into_iter().filter(|item| !replaces(item));
        *target = items.filter_map(cleaned).collect();
        return Ok(());
    }
    let inner = match &field.type_ {
        Type::List(item) => item.definition(),
        _ => None,
    };
    for item in patch {
        let Value::Object(mut item) = item else {
            return Err(PatchError::Malformed(format!("list {} has items that are no objects", field.name)));
        };
        let Some(key) = item.get(field.merge_key).cloned() else {
            let item = Value::Object(item).to_string();
            return Err(PatchError::NoMergeKey { key: field.merge_key.to_owned(), item });
        };
        let found = target.iter().position(|t| t.get(field.merge_key) == Some(&key));
        match (directive(&mut item)?.as_deref(), found) {
            (Some("delete"), _) => target.retain(|t| t.get(field.merge_key) != Some(&key)),
            (Some("replace"), Some(at)) => target[at] = Value::Object(without_directives(item)),
            (_, Some(at)) => merge_object(&mut target[at], item, inner)?,
            (_, None) => {
                let mut new = Value::Null;
                merge_object(&mut new, item, inner)?;
                target.push(new);
            }
        }
    }
    Ok(())
}

/// Puts items in the order the patch names; those it does not name keep their place relative to their neighbours.
fn reorder(items: &mut Vec<Value>, order: &[Value], merge_key: &str) {
    let key_of =
        |item: &Value| if merge_key.is_empty() { Some(item.clone()) } else { item.get(merge_key).cloned() };
    let wanted: Vec<Value> = order.iter().filter_map(&key_of).collect();
    let place = |item: &Value| key_of(item).and_then(|key| wanted.iter().position(|w| *w == key));
    let mut named: Vec<(usize, Value)> = Vec::new();
    let mut others: Vec<(usize, Value)> = Vec::new();
    for (at, item) in std::mem::take(items).into_iter().enumerate() {
        match place(&item) {
            Some(place) => named.push((place, item)),
            None => others.push((at, item)),
        }
    }
    named.sort_by_key(|(place, _)| *place);
    let mut out: Vec<Value> = named.into_iter().map(|(_, item)| item).collect();
    for (at, item) in others {
        out.insert(at.min(out.len()), item);
    }
    *items = out;
}

/// A value without directives; nothing if it says it is to be deleted.
fn cleaned(value: Value) -> Option<Value> {
    match value {
        Value::Object(object) if object.get(PATCH).and_then(Value::as_str) == Some("delete") => None,
        Value::Object(object) => Some(Value::Object(without_directives(object))),
        other => Some(other),
    }
}

fn without_directives(object: Map<String, Value>) -> Map<String, Value> {
    let is_directive = |name: &str| {
        name == PATCH
            || name == RETAIN_KEYS
            || name.starts_with(DELETE_FROM)
            || name.starts_with(ELEMENT_ORDER)
    };
    object
        .into_iter()
        .filter(|(name, value)| !is_directive(name) && !value.is_null())
        .filter_map(|(name, value)| {
            let value = match value {
                Value::Array(items) => Value::Array(items.into_iter().filter_map(cleaned).collect()),
                other => cleaned(other)?,
            };
            Some((name, value))
        })
        .collect()
}
