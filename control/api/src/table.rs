//! Printed columns: what `kubectl get` shows of each kind, with and without `-o wide`.

pub(crate) mod admission;
pub(crate) mod autoscaler;
pub(crate) mod batch;
pub(crate) mod cluster;
pub(crate) mod network;
pub(crate) mod networking;
pub(crate) mod pod;
pub(crate) mod policy;
pub(crate) mod rbac;
pub(crate) mod storage;
pub(crate) mod usage;
pub(crate) mod volume;
pub(crate) mod workload;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::selector::Selector;
use crate::time::age;
use crate::view::LabelSelector;

/// What a row carries beside its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// The metadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter `includeObject`; `None` for an unknown value.
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("" | "Metadata") => Some(Self::Metadata),
            Some("None") => Some(Self::None),
            Some("Object") => Some(Self::Object),
            Some(_) => None,
        }
    }
}

/// One column.
#[derive(Debug)]
struct Column {
    name: &'static str,
    type_: &'static str,
    /// 0: always; 1: with `-o wide`.
    priority: u8,
    description: &'static str,
}

const fn text(name: &'static str, description: &'static str) -> Column {
    Column { name, type_: "string", priority: 0, description }
}
const fn number(name: &'static str, description: &'static str) -> Column {
    Column { name, type_: "integer", priority: 0, description }
}
const fn boolean(name: &'static str, description: &'static str) -> Column {
    Column { name, type_: "boolean", priority: 0, description }
}
const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { name, type_: "string", priority: 1, description }
}

const NAME: Column = text("Name", "Name must be unique within a namespace.");
const AGE: Column = text("Age", "Time since the object was created.");

/// Writes the cells of one object.
type Cells = fn(&Value, Timestamp) -> Vec<Value>;

/// The printed form of a kind.
#[derive(Debug)]
pub(crate) struct Printer {
    columns: &'static [Column],
    cells: Cells,
    /// What a row says of an object that is at its end, if it is.
    condition: fn(&Value) -> Option<Value>,
}

/// Columns and how they are filled, of objects without an end.
const fn printer(columns: &'static [Column], cells: Cells) -> Printer {
    Printer { columns, cells, condition: |_| None }
}

/// For kinds that have no columns of their own.
pub(crate) static NAME_AND_AGE: Printer =
    printer(&[NAME, AGE], |object, now| vec![name(object), age_of(object, now)]);

/// For kinds that Kubernetes prints no columns of.
pub(crate) static NAME_AND_TIME: Printer = printer(
    &[
        NAME,
        Column {
            name: "Created At",
            type_: "date",
            priority: 0,
            description: "When the object was created.",
        },
    ],
    |object, _| vec![name(object), at(object, "/metadata/creationTimestamp").into()],
);

/// The `columnDefinitions` of a kind.
pub fn columns(kind: &Kind) -> Value {
    kind.printer
        .columns
        .iter()
        .map(|c| {
            json!({
                "name": c.name,
                "type": c.type_,
                "format": if c.name == "Name" && c.priority == 0 { "name" } else { "" },
                "description": c.description,
                "priority": c.priority,
            })
        })
        .collect()
}

/// One row: the cells of an object at `now`, and what of the object goes along.
pub fn row(kind: &Kind, object: &Value, now: Timestamp, include: IncludeObject) -> Value {
    let mut row = json!({"cells": (kind.printer.cells)(object, now)});
    match include {
        IncludeObject::None => {}
        IncludeObject::Metadata => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
            });
        }
        IncludeObject::Object => row["object"] = object.clone(),
    }
    if let Some(condition) = (kind.printer.condition)(object) {
        row["conditions"] = json!([condition]);
    }
    row
}

/// A whole table; `list_meta` is the list's `metadata`. Events of a watch after the first leave the columns out.
pub fn table(kind: &Kind, rows: Vec<Value>, list_meta: Value, with_columns: bool) -> Value {
    let columns = if with_columns { columns(kind) } else { json!([]) };
    let mut table = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": columns});
    table["metadata"] = list_meta;
    table["rows"] = Value::Array(rows);
    table
}

/// Whether an `Accept` header asks for a Table.
pub fn wanted(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next() == Some("application/json")
            && parts.clone().any(|p| p == "as=Table")
            && parts.any(|p| p == "g=meta.k8s.io")
    })
}

const NONE: &str = "<none>";
/// How many hosts, addresses or ports a cell shows.
const SHOWN_MAX: usize = 3;
const UNKNOWN: &str = "<unknown>";
const UNSET: &str = "<unset>";

fn name(object: &Value) -> Value {
    object["metadata"]["name"].as_str().unwrap_or("").into()
}

/// The text at a JSON pointer, empty if there is none.
fn at<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The number at a JSON pointer, 0 if there is none.
fn count(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// The list at a JSON pointer.
fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn or<'a>(text: &'a str, other: &'a str) -> Value {
    if text.is_empty() { other.into() } else { text.into() }
}

fn since(time: &str, now: Timestamp) -> String {
    time.parse().map_or_else(|_| UNKNOWN.to_owned(), |then: Timestamp| age(then, now))
}

fn age_of(object: &Value, now: Timestamp) -> Value {
    since(at(object, "/metadata/creationTimestamp"), now).into()
}

/// A label selector as text, empty if it selects everything.
fn selector(selector: Option<&Value>) -> String {
    let selector = selector.and_then(|s| serde_json::from_value::<LabelSelector>(s.clone()).ok());
    Selector::from_label_selector(&selector.unwrap_or_default()).map(|s| s.to_string()).unwrap_or_default()
}

/// The first of a list, and how many more there are.
fn first_few(all: &[String]) -> String {
    let shown = all.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(",");
    match all.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

/// `a=b,c=d`, or `<none>`.
fn labels(map: Option<&Value>) -> Value {
    let pairs: Vec<String> = map
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")))
        .collect();
    or(&pairs.join(","), NONE)
}

#[cfg(test)]
mod tests;
