//! `metadata.managedFields`: the managers of an object and what each of them owns, read and written.
//!
//! The rules are those of the Kubernetes documentation of server-side apply; who comes to own what is decided elsewhere.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde_json::{Map, Value, json};

use super::apply::Manager;
use super::fields::FieldSet;
use super::{versions, writer};
use crate::kind::Kind;
use crate::schema;
use crate::status::{FieldError, Status};
use crate::time::rfc3339;

/// Most `Update` entries of one object, as in Kubernetes; older ones are joined beyond it. Appliers never are.
const UPDATES_MAX: usize = 10;
/// The manager of what was joined.
const JOINED: &str = "ancient-changes";
/// Longest name of a subresource, bytes.
const SUBRESOURCE_BYTES_MAX: usize = 256;
/// Most wrong entries that a refusal tells of.
const ERRORS_MAX: usize = 10;
/// Fields of `metadata` that nobody owns.
pub(super) const UNOWNED: &[&str] = &[
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// One entry of `managedFields`.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    entry: Map<String, Value>,
    /// In whose words the fields are.
    pub(super) kind: &'static Kind,
    pub(super) fields: FieldSet,
}

impl Owner {
    pub(super) fn new(kind: &'static Kind, manager: Manager<'_>, operation: &str, fields: FieldSet) -> Self {
        let mut entry = Map::new();
        entry.insert("manager".into(), manager.name.into());
        entry.insert("operation".into(), operation.into());
        entry.insert("apiVersion".into(), kind.api_version().into());
        entry.insert("time".into(), rfc3339(manager.time, false).into());
        entry.insert("fieldsType".into(), "FieldsV1".into());
        if !manager.subresource.is_empty() {
            entry.insert("subresource".into(), manager.subresource.into());
        }
        Self { entry, kind, fields }
    }

    /// An entry that the server or a client wrote, in its one spelling; nothing if it says something that no entry can.
    fn read(entry: &Value, kind: &'static Kind) -> Option<Self> {
        let text = |key: &str| entry[key].as_str().unwrap_or("");
        if !matches!(text("operation"), "Apply" | "Update")
            || text("apiVersion").is_empty()
            || text("fieldsType") != "FieldsV1"
        {
            return None;
        }
        let mut known = Map::new();
        for key in ["manager", "operation", "apiVersion", "fieldsType", "subresource"] {
            if !text(key).is_empty() {
                known.insert(key.into(), text(key).into());
            }
        }
        if !text("time").is_empty() {
            known.insert("time".into(), rfc3339(text("time").parse().ok()?, false).into());
        }
        let fields = match &entry["fieldsV1"] {
            Value::Null => FieldSet::default(),
            fields => FieldSet::read(fields)?,
        };
        Some(Self { entry: known, kind, fields })
    }

    pub(super) fn text(&self, key: &str) -> &str {
        self.entry.get(key).and_then(Value::as_str).unwrap_or("")
    }

    pub(super) fn is(&self, manager: Manager<'_>, operation: &str) -> bool {
        self.text("manager") == manager.name
            && self.text("operation") == operation
            && self.text("subresource") == manager.subresource
    }

    /// What tells one entry from another: an applier is the same one under each version.
    fn identity(&self) -> [&str; 4] {
        let version = if self.text("operation") == "Apply" { "" } else { self.text("apiVersion") };
        [self.text("operation"), self.text("manager"), self.text("subresource"), version]
    }
}

/// The owners that an object's `managedFields` tell; none if any entry is not valid.
pub(super) fn read(kind: &'static Kind, object: &Value) -> Vec<Owner> {
    entries(object).and_then(|entries| read_all(kind, entries)).unwrap_or_default()
}

fn entries(object: &Value) -> Option<&Vec<Value>> {
    object.pointer("/metadata/managedFields").and_then(Value::as_array)
}

fn read_all(kind: &'static Kind, entries: &[Value]) -> Option<Vec<Owner>> {
    let mut owners: Vec<Owner> = Vec::new();
    let mut places = HashMap::new();
    for entry in entries {
        let mut owner = Owner::read(entry, kind)?;
        // As in Kubernetes: where the object cannot be shown in that version, nothing is known of the fields.
        let Some(served) = versions::named(kind, owner.text("apiVersion")) else { continue };
        owner.kind = served;
        owner.fields = owner.fields.fitted(schema::definition(served.schema));
        // Of two that are the same, the later one counts.
        match places.entry(owner.identity().map(ToOwned::to_owned)) {
            Entry::Occupied(place) => owners[*place.get()] = owner,
            Entry::Vacant(place) => {
                place.insert(owners.len());
                owners.push(owner);
            }
        }
    }
    Some(owners)
}

/// The owners that a write to the stored object `old` starts from: those the client states in `new`, if they are
/// valid. One empty entry takes all ownership away; no entry at all is of a client that does not know the field.
/// Through a subresource ownership cannot be stated.
pub(super) fn stated(kind: &'static Kind, old: &Value, new: &Value, manager: Manager<'_>) -> Vec<Owner> {
    let Some(entries) = entries(new).filter(|e| !e.is_empty() && manager.subresource.is_empty()) else {
        return read(kind, old);
    };
    if let [one] = entries.as_slice()
        && one.as_object().is_some_and(|e| e.values().all(|v| v.is_null() || v.as_str() == Some("")))
    {
        return Vec::new();
    }
    read_all(kind, entries).unwrap_or_else(|| read(kind, old))
}

/// Whether an object's owners may stand there.
///
/// # Errors
/// 422 for names that no manager and no subresource can have.
pub(super) fn judge(kind: &Kind, object: &Value) -> Result<(), Status> {
    let entries = entries(object).map_or(&[][..], Vec::as_slice);
    let errors: Vec<FieldError> = entries.iter().enumerate().filter_map(check).take(ERRORS_MAX).collect();
    if errors.is_empty() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    Err(Status::invalid(kind, name, &errors))
}

/// What is wrong with the names in an entry.
fn check((at, entry): (usize, &Value)) -> Option<FieldError> {
    let text = |key: &str| entry[key].as_str().unwrap_or("");
    let path = format!("metadata.managedFields[{at}]");
    if text("subresource").len() > SUBRESOURCE_BYTES_MAX {
        return Some(FieldError::too_long(format!("{path}.subresource"), SUBRESOURCE_BYTES_MAX));
    }
    writer::check(text("manager"), &format!("{path}.manager"))
}

/// Writes the owners into an object: appliers first, then by age.
pub(super) fn write(object: &mut Value, mut owners: Vec<Owner>) {
    owners.retain(|owner| !owner.fields.is_empty());
    sort(&mut owners);
    let first = owners.partition_point(|o| o.text("operation") == "Apply");
    let updates = owners.split_off(first);
    owners.extend(joined(updates));
    sort(&mut owners);
    let entries: Vec<Value> = owners
        .into_iter()
        .map(|mut owner| {
            owner.entry.insert("fieldsV1".into(), owner.fields.write());
            Value::Object(owner.entry)
        })
        .collect();
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    if entries.is_empty() {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
    } else {
        object["metadata"]["managedFields"] = entries.into();
    }
}

fn sort(owners: &mut [Owner]) {
    owners.sort_by_cached_key(|o| {
        ["operation", "time", "manager", "apiVersion", "subresource"].map(|key| o.text(key).to_owned())
    });
}

/// `Update` entries, the oldest first, of which so many of the oldest are one that few enough are left: one for each
/// subresource and version, for what was written to one, or in its words, is not said to have been in another.
fn joined(updates: Vec<Owner>) -> Vec<Owner> {
    let mut over = updates.len().saturating_sub(UPDATES_MAX);
    let mut kept: Vec<Owner> = Vec::new();
    let mut places: HashMap<[String; 2], usize> = HashMap::new();
    // What was joined before takes up more, wherever it stands.
    let (before, others): (Vec<_>, Vec<_>) = updates.into_iter().partition(|o| o.text("manager") == JOINED);
    for owner in before.into_iter().chain(others) {
        let group = ["subresource", "apiVersion"].map(|key| owner.text(key).to_owned());
        let Some(place) = places.get(&group).copied().filter(|_| over > 0) else {
            places.entry(group).or_insert(kept.len());
            kept.push(owner);
            continue;
        };
        let into = &mut kept[place];
        into.fields.union(&owner.fields);
        into.entry.insert("manager".into(), JOINED.into());
        if into.text("time") < owner.text("time") {
            into.entry.insert("time".into(), owner.text("time").into());
        }
        over -= 1;
    }
    kept
}

/// Whether two states of an object differ in nothing but when their managers wrote.
pub(super) fn same_but_times(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    let rest = |object: &Map<String, Value>| {
        let mut object = object.clone();
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        let managed = metadata.and_then(|m| m.remove("managedFields"));
        let mut entries = match managed {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        };
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        entries.sort_by_cached_key(Value::to_string);
        (object, entries)
    };
    rest(a) == rest(b)
}
