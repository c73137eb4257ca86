//! Server-side apply: a manager states the fields it wants, and owns them.
//!
//! The rules are those of the Kubernetes documentation: what a manager no longer states and nobody else owns goes;
//! what another owns and has otherwise is a conflict, unless forced. A write to the object is not about its status, one
//! to its status about nothing else. [`track`] notes who owns what after other writes.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::fields::{FieldSet, changed, check_items, fields_of, merge, prune};
use super::owners::{self, Owner, UNOWNED};
use super::{versions, writer};
use crate::kind::{Kind, STATUS_ALONE, Subresource};
use crate::schema;
use crate::status::{Cause, Details, FieldError, Status};

/// The owner of all fields of an object from before its first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Most fields that a refusal for conflicts tells of; it says how many more there are.
const CONFLICTS_MAX: usize = 100;

/// Who writes, and when.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// The query parameter `fieldManager`.
    pub name: &'a str,
    /// The subresource written to, empty for the object itself.
    pub subresource: &'a str,
    /// Now.
    pub time: Timestamp,
}

/// Applies a manager's configuration to an object, or makes the object if there is none. The object is one that is stored,
/// the configuration and what is noted of its manager are in the words of `kind`, which may be a dialect of the stored.
///
/// The result is unchecked: validation and defaults come after.
///
/// # Errors
/// 409 with one cause a field if others own what would change and `force` is off, or if the configuration has the UID of
/// an object that is gone; 422 for a manager without a name, or
/// with one that cannot be; 400 for a configuration that carries `managedFields`, or has an item of a keyed list twice.
pub fn apply(
    kind: &'static Kind,
    current: Option<&Value>,
    config: &Value,
    manager: Manager<'_>,
    force: bool,
) -> Result<Value, Status> {
    check(manager, config)?;
    let definition = schema::definition(kind.schema);
    check_items(config, definition).map_err(|why| {
        let text = |key: &str| config["metadata"][key].as_str().unwrap_or("");
        let (namespace, name, version) = (text("namespace"), text("name"), kind.api_version());
        let what = format!("{namespace}/{name}; {version}, Kind={}", kind.kind);
        Status::bad_request(format!("failed to create typed patch object ({what}): {why}"))
    })?;
    if current.is_none() {
        speaks_of_none(kind, config)?;
    }
    let nothing = json!({});
    let live = current.unwrap_or(&nothing);
    let seen = versions::seen(kind, live);
    let part = |object: &Value| owned_part(kind, manager, object);
    let config_part = part(config);
    let wanted = fields_of(&config_part, definition);
    let mut owners = owners_of(kind, live, manager);
    let changing = changed(&part(&seen), &config_part, definition);
    let mine = owners.iter().position(|o| o.is(manager, "Apply")).map(|at| owners.remove(at));
    // What was stated in other words stays when it is not stated in these.
    let before = mine.filter(|mine| mine.kind == kind).map(|o| o.fields).unwrap_or_default();
    let before = before.only(|field| is_about(kind, manager, field));
    let mut merged = seen;
    match current {
        Some(_) => merge(&mut merged, &written_part(kind, manager, config), definition),
        // What a new object may bring is judged by who makes it.
        None => merge(&mut merged, config, definition),
    }
    let whole = versions::stored(kind, merged.clone());
    let mut written = Changes::new(manager, live, &whole);
    let taken: Vec<(usize, FieldSet)> = owners
        .iter()
        .enumerate()
        .map(|(at, owner)| match owner.kind == kind {
            true => (at, owner.fields.intersection(&changing)),
            false => (at, owner.fields.intersection(&written.said_by(owner.kind).0)),
        })
        .filter(|(_, taken)| !taken.is_empty())
        .collect();
    if !taken.is_empty() && !force {
        return Err(conflict(kind, live, &owners, &taken));
    }
    for (at, taken) in taken {
        owners[at].fields = owners[at].fields.minus(&taken);
    }
    let mut managed = wanted.clone();
    for other in owners.iter().filter(|other| other.kind == kind) {
        managed.union(&other.fields);
    }
    prune(&mut merged, &before.minus(&unowned()), &managed, definition);
    let mut object = versions::stored(kind, merged);
    // Who owns the same in other words keeps it, and all with it.
    let mut pruned = Changes::new(manager, &whole, &object);
    let mut loses = |other: &Owner| {
        other.kind != kind && !other.fields.intersection(&pruned.said_by(other.kind).1).is_empty()
    };
    if owners.iter().any(&mut loses) {
        object = whole;
    }
    let mut made = Changes::new(manager, live, &object);
    for other in &mut owners {
        other.fields = other.fields.minus(&made.said_by(other.kind).1);
    }
    owners.push(Owner::new(kind, manager, "Apply", wanted));
    owners::write(&mut object, owners);
    Ok(object)
}

/// Applies to an object how many replicas it is to have, which `manager` says by its subresource `scale`, or says nothing
/// of any more.
///
/// As in Kubernetes nothing is made of what nobody says any more: then there are to be none.
///
/// # Errors
/// As [`apply`].
pub fn scale(
    kind: &'static Kind,
    current: &Value,
    replicas: Option<i64>,
    manager: Manager<'_>,
    force: bool,
) -> Result<Value, Status> {
    let field = FieldSet::read(&json!({"f:spec": {"f:replicas": {}}})).unwrap_or_default();
    let mut live = current.clone();
    let mut owners = owners::read(kind, current);
    if !owners.iter().any(|owner| !owner.fields.intersection(&field).is_empty()) {
        let before = Manager { name: BEFORE_FIRST_APPLY, ..manager };
        owners.push(Owner::new(kind, before, "Update", field));
        owners::write(&mut live, owners);
    }
    let mut config = json!({"apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"name": current["metadata"]["name"]}});
    if let Some(replicas) = replicas {
        config["spec"] = json!({"replicas": replicas});
    }
    let mut applied = apply(kind, Some(&live), &config, manager, force)?;
    if applied["spec"]["replicas"].is_null() {
        applied["spec"]["replicas"] = 0.into();
    }
    Ok(applied)
}

/// Notes in `new` who owns what after a create, an update or a patch by `manager`; `old` is the stored object. Both are in the
/// words that are stored; what is noted of the manager is in those of `kind`, which it wrote by.
///
/// The `managedFields` that `new` comes with count if they are valid, of a new object too, where they keep what the object
/// has not: what it has is its creator's. So kubectl and helm hand over what they owned by
/// updates to the manager they apply as. One empty entry makes the object nobody's, and it stays so until an apply.
///
/// # Errors
/// 422 for managers in `managedFields` that come to stand there and whose names cannot be.
pub fn track(
    kind: &'static Kind,
    old: Option<&Value>,
    new: &mut Value,
    manager: Manager<'_>,
) -> Result<(), Status> {
    let nothing = json!({});
    let before = old.unwrap_or(&nothing);
    let mut owners = owners::stated(kind, before, new, manager);
    if old.is_some() && owners.is_empty() {
        // Nobody's, or nobody's any more: that is the time before the first apply, and lasts until then.
        owners::write(new, owners);
        return Ok(());
    }
    let is_own = |owner: &Owner| owner.kind == kind && owner.is(manager, "Update");
    let mut written = Changes::new(manager, before, new);
    for owner in &mut owners {
        let (changing, gone) = written.said_by(owner.kind);
        owner.fields = owner.fields.minus(gone);
        if !is_own(owner) {
            owner.fields = owner.fields.minus(changing);
        }
    }
    let mut fields = written.said_by(kind).0.clone();
    if !fields.is_empty() {
        if let Some(at) = owners.iter().position(is_own) {
            fields.union(&owners.remove(at).fields);
        }
        owners.push(Owner::new(kind, manager, "Update", fields));
    }
    owners::write(new, owners);
    owners::judge(kind, new)
}

/// Whether a write made nothing of an object that is worth writing: times of managers alone are not, so that who applies
/// the same again and again wakes nobody.
pub fn changes_nothing(old: &Map<String, Value>, new: &Map<String, Value>) -> bool {
    owners::same_but_times(old, new)
}

fn check(manager: Manager<'_>, config: &Value) -> Result<(), Status> {
    let error = if manager.name.is_empty() {
        FieldError::required("fieldManager", "is required for apply patch")
    } else if let Some(error) = writer::check(manager.name, "fieldManager") {
        error
    } else if config
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)
        .is_some_and(|m| !m.is_empty())
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    } else {
        return Ok(());
    };
    Err(Status::invalid_type("meta.k8s.io", "PatchOptions", "", &[error]))
}

/// A configuration of an object that must be there is none of a new one.
fn speaks_of_none(kind: &Kind, config: &Value) -> Result<(), Status> {
    let text = |key: &str| config["metadata"][key].as_str().unwrap_or("");
    let uid = text("uid");
    if uid.is_empty() {
        return Ok(());
    }
    let why =
        format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
    Err(Status::conflict_because(kind, text("name"), &why))
}

/// What nobody owns, whatever a client says.
fn unowned() -> FieldSet {
    let names: Map<String, Value> = UNOWNED.iter().map(|name| (format!("f:{name}"), json!({}))).collect();
    FieldSet::read(&json!({"f:apiVersion": {}, "f:kind": {}, "f:metadata": names})).unwrap_or_default()
}

/// Whether a write is about a field of the object itself, as Kubernetes' reset fields have it: one to the status about
/// the status and, of most kinds, metadata, any other not about the status of a kind that has it apart.
fn is_about(kind: &Kind, manager: Manager<'_>, field: &str) -> bool {
    match manager.subresource {
        "status" | "approval" => {
            field == "status" || field == "metadata" && kept(kind, manager) != STATUS_ALONE
        }
        // A binding says in the status that it was made.
        "binding" => true,
        "scale" => field == "spec",
        _ => field != "status" || !kind.serves(Subresource::Status),
    }
}

/// What of the metadata a write is not about.
fn kept(kind: &Kind, manager: Manager<'_>) -> &'static [&'static str] {
    if matches!(manager.subresource, "status" | "approval") { kind.status_keeps } else { &[] }
}

/// The object without what a write is not about, but with all that says which object it is.
fn written_part(kind: &Kind, manager: Manager<'_>, object: &Value) -> Value {
    let mut part = object.clone();
    if let Some(metadata) = part.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| !kept(kind, manager).contains(&name.as_str()));
    }
    for (name, value) in object.as_object().into_iter().flatten() {
        if matches!(name.as_str(), "apiVersion" | "kind") || is_about(kind, manager, name) {
            continue;
        }
        if name == "metadata"
            && let Some(metadata) = value.as_object()
        {
            let identity = metadata.iter().filter(|(name, _)| UNOWNED.contains(&name.as_str()));
            part[name] = identity.map(|(name, value)| (name.clone(), value.clone())).collect();
        } else if let Some(part) = part.as_object_mut() {
            part.remove(name);
        }
    }
    part
}

/// The object without what nobody owns, and without what a write is not about.
fn owned_part(kind: &Kind, manager: Manager<'_>, object: &Value) -> Value {
    let mut part = object.clone();
    if let Some(object) = part.as_object_mut() {
        object.retain(|name, _| {
            !matches!(name.as_str(), "apiVersion" | "kind") && is_about(kind, manager, name)
        });
        if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            let kept = kept(kind, manager);
            meta.retain(|name, _| !UNOWNED.contains(&name.as_str()) && !kept.contains(&name.as_str()));
            if meta.is_empty() {
                object.remove("metadata");
            }
        }
    }
    part
}

/// A change of a stored object, in the words of each kind that is asked for: it is looked through once for each, however
/// many own something in them.
struct Changes<'a> {
    manager: Manager<'a>,
    old: &'a Value,
    new: &'a Value,
    said: Vec<(&'static Kind, (FieldSet, FieldSet))>,
}

impl<'a> Changes<'a> {
    fn new(manager: Manager<'a>, old: &'a Value, new: &'a Value) -> Self {
        Self { manager, old, new, said: Vec::new() }
    }

    /// What it sets otherwise and what it takes away.
    fn said_by(&mut self, kind: &'static Kind) -> &(FieldSet, FieldSet) {
        let at = self.said.iter().position(|(said, _)| *said == kind).unwrap_or_else(|| {
            self.said.push((kind, words(kind, self.manager, self.old, self.new)));
            self.said.len() - 1
        });
        &self.said[at].1
    }
}

/// What a change of a stored object sets otherwise and what it takes away, in the words of a kind.
fn words(kind: &Kind, manager: Manager<'_>, old: &Value, new: &Value) -> (FieldSet, FieldSet) {
    #[cfg(test)]
    tests::LOOKED_THROUGH.with(|count| count.set(count.get() + 1));
    let definition = schema::definition(kind.schema);
    let part = |object: &Value| owned_part(kind, manager, &versions::seen(kind, object));
    let (old, new) = (part(old), part(new));
    let gone = fields_of(&old, definition).minus(&fields_of(&new, definition));
    (changed(&old, &new, definition), gone)
}

/// The owners of an object; one that was never tracked belongs to the time before its first apply.
fn owners_of(kind: &'static Kind, live: &Value, manager: Manager<'_>) -> Vec<Owner> {
    let owners = owners::read(kind, live);
    if !owners.is_empty() {
        return owners;
    }
    let fields = words(kind, manager, &Value::Null, live).0;
    if fields.is_empty() {
        return owners;
    }
    let before = Manager { name: BEFORE_FIRST_APPLY, ..manager };
    vec![Owner::new(kind, before, "Update", fields)]
}

/// 409 that tells who owns what, of at most [`CONFLICTS_MAX`] fields.
fn conflict(kind: &Kind, live: &Value, owners: &[Owner], taken: &[(usize, FieldSet)]) -> Status {
    let count: usize = taken.iter().map(|(_, fields)| fields.count()).sum();
    let mut causes = Vec::new();
    let mut told = Vec::new();
    for (at, fields) in taken {
        let owner = &owners[*at];
        let mut who = format!("\"{}\"", owner.text("manager"));
        if !owner.text("subresource").is_empty() {
            who.push_str(&format!(" with subresource \"{}\"", owner.text("subresource")));
        }
        if owner.text("operation") == "Update" {
            who.push_str(&format!(" using {}", owner.text("apiVersion")));
        }
        let paths = fields.paths(CONFLICTS_MAX - causes.len());
        match paths.as_slice() {
            [] => break,
            [one] if count == 1 => told.push(format!("conflict with {who}: {one}")),
            several => told.push(format!("conflicts with {who}:\n- {}", several.join("\n- "))),
        }
        for field in paths {
            causes.push(Cause {
                reason: "FieldManagerConflict",
                message: format!("conflict with {who}"),
                field,
            });
        }
    }
    if count > causes.len() {
        told.push(format!("- and {} more", count - causes.len()));
    }
    let noun = if count == 1 { "conflict" } else { "conflicts" };
    let name = live["metadata"]["name"].as_str().unwrap_or("");
    let mut status = Status::conflict(kind, name);
    status.message = format!("Apply failed with {count} {noun}: {}", told.join("\n"));
    status.details = Some(Box::new(Details { causes, ..Details::default() }));
    status
}

#[cfg(test)]
mod tests;
