//! Sets of fields, as `managedFields` holds them: who owns which path of an object.
//!
//! The form is FieldsV1 of the Kubernetes API reference: a tree with `f:<name>` for fields, `k:<keys>` for items of
//! keyed lists and `v:<value>` for items of sets; `.` marks a node that is itself in the set.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};

use super::order::{Origin, interleave};
use super::places::step;
use crate::schema::{Definition, Field, Type};

/// Longest path that a message shows, bytes.
const PATH_BYTES_MAX: usize = 1_024;

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    /// Whether the path up to here is in the set.
    member: bool,
    below: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    /// The set with nothing below.
    fn leaf() -> Self {
        Self { member: true, below: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    /// Reads FieldsV1; nothing if it is none. Steps of kinds that are not known are left out.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (key, value) in value.as_object()? {
            if key == "." {
                set.member = true;
            } else if let Some(key) = canonical(key)? {
                let below = Self::read(value)?;
                let below = if below.is_empty() { Self::leaf() } else { below };
                set.below.entry(key).or_default().union(&below);
            }
        }
        Some(set)
    }

    /// The set without the fields of the object itself that `keep` does not have.
    pub(super) fn only(mut self, keep: impl Fn(&str) -> bool) -> Self {
        self.below.retain(|key, _| key.strip_prefix("f:").is_some_and(&keep));
        self
    }

    /// Writes FieldsV1.
    pub(super) fn write(&self) -> Value {
        let mut object = Map::new();
        if self.member && !self.below.is_empty() {
            object.insert(".".into(), Value::Object(Map::new()));
        }
        for (key, set) in &self.below {
            object.insert(key.clone(), set.write());
        }
        Value::Object(object)
    }

    pub(super) fn union(&mut self, other: &Self) {
        self.member |= other.member;
        for (key, set) in &other.below {
            self.below.entry(key.clone()).or_default().union(set);
        }
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && !b)
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && b)
    }

    fn combine(&self, other: &Self, keep: fn(bool, bool) -> bool) -> Self {
        let nothing = Self::default();
        let mut out = Self { member: keep(self.member, other.member), below: BTreeMap::new() };
        for (key, set) in &self.below {
            let set = set.combine(other.below.get(key).unwrap_or(&nothing), keep);
            if !set.is_empty() {
                out.below.insert(key.clone(), set);
            }
        }
        out
    }

    /// Has what was noted of parts become what is noted of the whole, where a type takes its parts as one value now.
    pub(super) fn fitted(mut self, definition: Option<&Definition>) -> Self {
        self.fit(definition);
        self
    }

    fn fit(&mut self, definition: Option<&Definition>) {
        for (key, set) in &mut self.below {
            let field = key.strip_prefix("f:").and_then(|name| definition?.field(name));
            let Some(field) = field.filter(|_| !set.below.is_empty()) else { continue };
            let inner = field.type_.definition();
            match &field.type_ {
                Type::List(_) => {
                    for item in set.below.values_mut() {
                        if !field.is_whole() {
                            item.fit(inner);
                        } else if !item.is_empty() {
                            *item = Self::leaf();
                        }
                    }
                }
                _ if field.is_whole() => *set = Self::leaf(),
                _ => set.fit(inner),
            }
        }
    }

    /// How many paths are in the set.
    pub(super) fn count(&self) -> usize {
        usize::from(self.member) + self.below.values().map(Self::count).sum::<usize>()
    }

    /// The first `max` paths as messages show them: `.spec.containers[name="a"].image`.
    pub(super) fn paths(&self, max: usize) -> Vec<String> {
        let mut out = Vec::new();
        self.collect_paths(&mut String::new(), max, &mut out);
        out
    }

    fn collect_paths(&self, path: &mut String, max: usize, out: &mut Vec<String>) {
        if self.member && out.len() < max {
            out.push(shortened(path));
        }
        for (key, set) in &self.below {
            if out.len() >= max {
                return;
            }
            let length = path.len();
            path.push_str(&shown_step(key));
            set.collect_paths(path, max, out);
            path.truncate(length);
        }
    }

    /// The set, with every field that anything below is in itself in it.
    fn named(&self) -> Self {
        let mut out = Self { member: self.member, below: BTreeMap::new() };
        for (key, set) in &self.below {
            let mut set = set.named();
            set.member |= key.starts_with("f:");
            out.below.insert(key.clone(), set);
        }
        out
    }

    /// Takes everything in this set out of an object: what is in the set goes with all below it.
    fn remove_from(&self, value: &mut Value, definition: Option<&Definition>) {
        let Some(object) = value.as_object_mut() else { return };
        for (key, set) in &self.below {
            let Some(name) = key.strip_prefix("f:") else { continue };
            if set.member {
                object.remove(name);
            } else if let Some(inner) = object.get_mut(name) {
                set.remove_within(inner, definition.and_then(|d| d.field(name)));
            }
        }
    }

    fn remove_within(&self, value: &mut Value, field: Option<&Field>) {
        match (shape(field, value), value, field) {
            (Shape::Struct(inner), value, _) => self.remove_from(value, inner),
            (Shape::List, Value::Array(items), Some(field)) => {
                let inner = field.type_.definition();
                items.retain_mut(|item| match self.below.get(&item_key(field, item)) {
                    None => true,
                    Some(set) if set.member => false,
                    Some(set) => {
                        set.remove_from(item, inner);
                        true
                    }
                });
            }
            _ => {}
        }
    }
}

/// Takes out of an object what its applier stated `last`, no longer states and nobody else owns; `managed` is all that
/// is owned now. A struct of which nobody owns anything any more goes as a whole, with what was defaulted in it, and so
/// does a list's item that nobody owns as such; the rest stays as far as it was never the applier's.
pub(super) fn prune(
    object: &mut Value,
    last: &FieldSet,
    managed: &FieldSet,
    definition: Option<&Definition>,
) {
    if last.is_empty() {
        return;
    }
    let (last, mut managed) = (last.named(), managed.named());
    // The object keeps its name.
    managed.below.entry("f:metadata".to_owned()).or_default().member = true;
    let there = fields_of(object, definition).named();
    let without = |set: &FieldSet| {
        let mut object = object.clone();
        set.remove_from(&mut object, definition);
        fields_of(&object, definition).named()
    };
    let mut kept = without(&last);
    kept.union(&managed);
    let owned = without(&there.minus(&kept));
    there.minus(&owned).intersection(&last).remove_from(object, definition);
}

/// The one spelling of a step, so that two that say the same are one: keys sorted, no spaces, whole numbers as such.
/// `Some(None)` for a step of a kind that is not known, nothing for what is no step.
fn canonical(step: &str) -> Option<Option<String>> {
    let (kind, text) = step.split_at_checked(2)?;
    let value = || Some(whole_numbers(serde_json::from_str(text).ok()?));
    Some(match kind {
        "f:" => Some(step.to_owned()),
        "k:" => Some(format!("k:{}", value().filter(Value::is_object)?)),
        "v:" => Some(format!("v:{}", value()?)),
        "i:" => Some(format!("i:{}", text.parse::<i64>().ok()?)),
        _ if kind.ends_with(':') => None,
        _ => return None,
    })
}

/// A value in which `80.0` is 80, as it is where JSON has one type of number.
fn whole_numbers(value: Value) -> Value {
    /// From here on not every whole number is one of a double's.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => match number.as_f64() {
            #[allow(clippy::cast_possible_truncation)]
            Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() < EXACT_MAX => {
                (double as i64).into()
            }
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, whole_numbers(value))).collect()
        }
        other => other,
    }
}

/// A step as messages show it.
fn shown_step(step: &str) -> String {
    match step.split_at_checked(2) {
        Some(("f:", name)) => format!(".{name}"),
        Some(("k:", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let shown: Vec<String> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("[{}]", shown.join(","))
        }
        _ => format!("[={}]", step.trim_start_matches("v:")),
    }
}

/// A path that no message is too short for.
fn shortened(path: &str) -> String {
    if path.len() <= PATH_BYTES_MAX {
        return path.to_owned();
    }
    let end = (0..=PATH_BYTES_MAX).rev().find(|at| path.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &path[..end])
}

/// How a field is merged and owned.
enum Shape<'a> {
    /// Field by field.
    Struct(Option<&'a Definition>),
    /// Item by item, by key or value.
    List,
    /// As one value.
    Whole,
}

fn shape<'a>(field: Option<&'a Field>, value: &Value) -> Shape<'a> {
    match (field, value) {
        (Some(field), Value::Object(object)) if !object.is_empty() && !field.atomic => match &field.type_ {
            Type::Ref(_) if !field.is_whole() => Shape::Struct(field.type_.definition()),
            Type::Map(_) => Shape::Struct(None),
            _ => Shape::Whole,
        },
        (Some(field), Value::Array(items))
            if !items.is_empty() && matches!(field.list_type, "map" | "set") =>
        {
            Shape::List
        }
        _ => Shape::Whole,
    }
}

/// The name of a list's item in a set.
fn item_key(field: &Field, item: &Value) -> String {
    step();
    if field.list_type == "set" {
        return format!("v:{item}");
    }
    let keys: Map<String, Value> = field
        .list_map_keys
        .split(',')
        .filter_map(|key| {
            // The one key that has a default.
            let default = (key == "protocol").then(|| Value::from("TCP"));
            Some((key.to_owned(), item.get(key).cloned().or(default)?))
        })
        .collect();
    format!("k:{}", Value::Object(keys))
}

/// Every path that an object sets.
pub(super) fn fields_of(value: &Value, definition: Option<&Definition>) -> FieldSet {
    changed(&Value::Null, value, definition)
}

/// Every path that `new` sets otherwise than `old`.
pub(super) fn changed(old: &Value, new: &Value, definition: Option<&Definition>) -> FieldSet {
    let mut set = FieldSet::default();
    for (name, value) in new.as_object().into_iter().flatten() {
        let field = definition.and_then(|d| d.field(name));
        let below = changed_field(old.get(name).unwrap_or(&Value::Null), value, field);
        if !below.is_empty() {
            set.below.insert(format!("f:{name}"), below);
        }
    }
    set
}

fn changed_field(old: &Value, new: &Value, field: Option<&Field>) -> FieldSet {
    match (shape(field, new), field) {
        (Shape::Struct(inner), _) => changed(old, new, inner),
        (Shape::List, Some(field)) => changed_items(old, new, field),
        _ if old == new => FieldSet::default(),
        _ => FieldSet::leaf(),
    }
}

/// What of a list's items `new` sets otherwise than `old`. Items of one key that are there several times are one value,
/// with nothing below it, as in Kubernetes.
fn changed_items(old: &Value, new: &Value, field: &Field) -> FieldSet {
    let (before, after) = (by_key(old, field), by_key(new, field));
    let mut set = FieldSet::default();
    for (key, items) in after {
        let was = before.get(&key).map(Vec::as_slice).unwrap_or_default();
        let below = match (was, items.as_slice()) {
            ([] | [_], [item]) => changed_item(was.first().copied(), item, field),
            (_, [item]) => changed_item(None, item, field),
            (was, items) if was == items => FieldSet::default(),
            _ => FieldSet::leaf(),
        };
        if !below.is_empty() {
            set.below.insert(key, below);
        }
    }
    set
}

fn changed_item(old: Option<&Value>, new: &Value, field: &Field) -> FieldSet {
    let mut below = match new {
        Value::Object(_) if !field.is_whole() => {
            changed(old.unwrap_or(&Value::Null), new, field.type_.definition())
        }
        _ => FieldSet::default(),
    };
    below.member = old.is_none_or(|old| field.is_whole() && old != new);
    below
}

/// A list's items by their names in a set.
fn by_key<'a>(list: &'a Value, field: &Field) -> BTreeMap<String, Vec<&'a Value>> {
    let mut items: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for item in list.as_array().into_iter().flatten() {
        items.entry(item_key(field, item)).or_default().push(item);
    }
    items
}

/// Whether each item of a configuration's keyed lists can be told from the others.
///
/// # Errors
/// Where the first cannot, and why, in Kubernetes' words.
pub(super) fn check_items(config: &Value, definition: Option<&Definition>) -> Result<(), String> {
    check_struct(config, definition, &mut String::new())
}

fn check_struct(value: &Value, definition: Option<&Definition>, path: &mut String) -> Result<(), String> {
    for (name, value) in value.as_object().into_iter().flatten() {
        let field = definition.and_then(|d| d.field(name));
        let length = path.len();
        path.push_str(&format!(".{name}"));
        match (shape(field, value), field) {
            (Shape::Struct(inner), _) => check_struct(value, inner, path)?,
            (Shape::List, Some(field)) => check_list(value, field, path)?,
            _ => {}
        }
        path.truncate(length);
    }
    Ok(())
}

fn check_list(list: &Value, field: &Field, path: &mut String) -> Result<(), String> {
    let mut seen = HashSet::new();
    for (at, item) in list.as_array().into_iter().flatten().enumerate() {
        let key = item_key(field, item);
        let shown = shown_step(&key);
        let why = if key == "k:{}" {
            format!("element {at}: associative list with keys has an element that omits all key fields")
        } else if !seen.insert(key) {
            format!("duplicate entries for key {}", shortened(&shown))
        } else {
            let length = path.len();
            path.push_str(&shown);
            if !field.is_whole() {
                check_struct(item, field.type_.definition(), path)?;
            }
            path.truncate(length);
            continue;
        };
        return Err(format!("{}: {why}", shortened(path)));
    }
    Ok(())
}

/// Lays `config` over an object: fields merge, keyed lists by key, everything else is replaced.
pub(super) fn merge(target: &mut Value, config: &Value, definition: Option<&Definition>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(object) = target.as_object_mut() else { return };
    for (name, value) in config.as_object().into_iter().flatten() {
        let field = definition.and_then(|d| d.field(name));
        match (shape(field, value), field) {
            (Shape::Struct(inner), _) => {
                merge(object.entry(name.clone()).or_insert(Value::Null), value, inner);
            }
            (Shape::List, Some(field)) => {
                let entry = object.entry(name.clone()).or_insert(Value::Null);
                if !entry.is_array() {
                    *entry = Value::Array(Vec::new());
                }
                if let Some(items) = entry.as_array_mut() {
                    merge_list(items, value, field);
                }
            }
            _ => {
                let states_nothing = value.as_object().is_some_and(Map::is_empty)
                    || value.as_array().is_some_and(Vec::is_empty);
                let filled = object.get(name).is_some_and(|v| !matches!(shape(field, v), Shape::Whole));
                if !(states_nothing && filled) {
                    object.insert(name.clone(), value.clone());
                }
            }
        }
    }
}

/// Merges a list item by item; of an item that is there several times what is stated takes the place.
fn merge_list(items: &mut Vec<Value>, config: &Value, field: &Field) {
    let stated = config.as_array().map(Vec::as_slice).unwrap_or_default();
    let keys = |items: &[Value]| items.iter().map(|item| item_key(field, item)).collect::<Vec<_>>();
    let (live_keys, keys) = (keys(items), keys(stated));
    let mut places = HashMap::new();
    for (at, key) in live_keys.iter().enumerate() {
        places.entry(key).and_modify(|place| *place = None).or_insert(Some(at));
    }
    let order = interleave(&live_keys, &keys);
    let mut live: Vec<Value> = std::mem::take(items);
    items.extend(order.into_iter().map(|origin| match origin {
        Origin::Live(at) => live[at].take(),
        Origin::Config(at) => match places.get(&keys[at]).copied().flatten() {
            Some(place) if stated[at].is_object() && !field.is_whole() => {
                let mut item = live[place].take();
                merge(&mut item, &stated[at], field.type_.definition());
                item
            }
            _ => stated[at].clone(),
        },
    }));
}
