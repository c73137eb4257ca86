//! Strategic merge patch: a merge patch that merges lists by the keys the schema names.
//!
//! Directives, as the Kubernetes documentation has them: `$patch` (`merge`, `replace`, `delete`), `$retainKeys`,
//! `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>`.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::PatchError;
use super::places::{Places, arrange, key_of};
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
        let keep: HashSet<&str> = keep.iter().filter_map(Value::as_str).collect();
        object.retain(|name, _| keep.contains(name.as_str()));
    }
    let orders = lists_of(&mut patch, ELEMENT_ORDER)?;
    let mut ordered = Vec::new();
    for (name, order) in orders {
        let key = definition.and_then(|d| d.field(&name)).map_or("", |f| f.merge_key);
        if let Some(Value::Array(patched)) = patch.get(&name) {
            check_order(patched, &order, key)?;
        }
        let before = object.get(&name).and_then(Value::as_array).map(|items| Places::of(items, key));
        ordered.push((name, order, key, before.unwrap_or_default()));
    }
    for (name, gone) in lists_of(&mut patch, DELETE_FROM)? {
        if let Some(Value::Array(items)) = object.get_mut(&name) {
            let gone = Places::of(&gone, "");
            items.retain(|item| gone.of_item(item, "").is_none());
        }
    }
    for (name, value) in patch {
        let field = definition.and_then(|d| d.field(&name));
        merge_field(object, name, value, field)?;
    }
    for (name, order, key, before) in ordered {
        if let Some(Value::Array(items)) = object.get_mut(&name) {
            arrange(items, &Places::of(&order, key), &before, key);
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
    let key = field.merge_key;
    if key.is_empty() {
        let (before, patched) = (Places::of(target, key), Places::of(&patch, key));
        let mut there = before.clone();
        for item in patch {
            if there.add(&item, key, target.len()) {
                target.push(item);
            }
        }
        arrange(target, &patched, &before, key);
        return Ok(());
    }
    let replaces =
        |item: &Value| item.get(PATCH).and_then(Value::as_str) == Some("replace") && item.get(key).is_none();
    if patch.iter().any(replaces) {
        let items = patch.into_iter().filter(|item| !replaces(item));
        *target = items.filter_map(cleaned).collect();
        return Ok(());
    }
    let (before, patched) = (Places::of(target, key), Places::of(&patch, key));
    merge_items(target, patch, field, &before)?;
    arrange(target, &patched, &before, key);
    Ok(())
}

/// Merges the items of a patch into those of the same key; new ones come at the end.
fn merge_items(
    target: &mut Vec<Value>,
    patch: Vec<Value>,
    field: &Field,
    before: &Places,
) -> Result<(), PatchError> {
    let inner = match &field.type_ {
        Type::List(item) => item.definition(),
        _ => None,
    };
    let mut merged = Vec::new();
    let mut gone = Places::default();
    for item in patch {
        let Value::Object(mut item) = item else {
            return Err(PatchError::Malformed(format!("list {} has items that are no objects", field.name)));
        };
        if !item.contains_key(field.merge_key) {
            let item = Value::Object(item).to_string();
            return Err(PatchError::NoMergeKey { key: field.merge_key.to_owned(), item });
        }
        match directive(&mut item)?.as_deref() {
            Some("delete") => {
                gone.add(&Value::Object(item), field.merge_key, 0);
            }
            word => merged.push((word == Some("replace"), item)),
        }
    }
    // What goes, goes first: a patch may delete an item and bring another of the same key.
    let old = std::mem::take(target);
    let kept = old.into_iter().filter(|item| gone.of_item(item, field.merge_key).is_none());
    target.extend(kept);
    let mut places = if gone.is_empty() { before.clone() } else { Places::of(target, field.merge_key) };
    for (replaces, item) in merged {
        let item = Value::Object(item);
        let found = places.of_item(&item, field.merge_key);
        places.add(&item, field.merge_key, target.len());
        let Value::Object(item) = item else { continue };
        match found {
            Some(at) if replaces => target[at] = Value::Object(without_directives(item)),
            Some(at) => merge_object(&mut target[at], item, inner)?,
            None => {
                let mut new = Value::Null;
                merge_object(&mut new, item, inner)?;
                target.push(new);
            }
        }
    }
    Ok(())
}

/// The items that a patch names must stand in its `$setElementOrder` too, in the same order.
fn check_order(patched: &[Value], order: &[Value], key: &str) -> Result<(), PatchError> {
    let deleted = |item: &Value| item.get(PATCH).and_then(Value::as_str) == Some("delete");
    let mut stated = patched.iter().filter(|item| key.is_empty() || !deleted(item)).peekable();
    if order.is_empty() || patched.is_empty() {
        return Ok(());
    }
    for item in order {
        stated.next_if(|s| key_of(s, key) == key_of(item, key));
    }
    if stated.peek().is_none() {
        return Ok(());
    }
    let (patched, order) = (go_list(patched), go_list(order));
    Err(PatchError::Order { patched, order })
}

/// A list as Go shows it, which is how Kubernetes' message has it.
fn go_list(items: &[Value]) -> String {
    let shown: Vec<String> = items.iter().map(go_value).collect();
    format!("[{}]", shown.join(" "))
}

fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => go_list(items),
        Value::Object(fields) => {
            let mut shown: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}:{}", go_value(value))).collect();
            shown.sort();
            format!("map[{}]", shown.join(" "))
        }
        other => other.to_string(),
    }
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
