//! What the server itself says about an object: names, UID, times, generation, and what a client may not change.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use weft_api::kind::{self, Kind, Subresource};
use weft_api::patch::apply::{self, Manager};
use weft_api::status::Status;

use super::{WriteOptions, Writer, parts};
use crate::clock;

/// Letters of generated names: no vowels, so that no words come out.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Longest base of a generated name, bytes.
const BASE_BYTES_MAX: usize = 58;

/// What of its metadata a write to an object's status may change.
const BESIDE_STATUS: [&str; 4] = ["labels", "annotations", "finalizers", "ownerReferences"];

/// The metadata of an object, made if it is missing.
///
/// # Errors
/// 400 when `metadata` is something else than an object.
pub(crate) fn metadata_mut(object: &mut Map<String, Value>) -> Result<&mut Map<String, Value>, Status> {
    let entry = object.entry("metadata").or_insert_with(|| json!({}));
    if entry.is_null() {
        *entry = json!({});
    }
    entry.as_object_mut().ok_or_else(|| Status::bad_request("metadata must be an object"))
}

/// A text field of `metadata`, empty if it is not there.
pub(crate) fn text<'a>(object: &'a Map<String, Value>, field: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or("")
}

/// `base` and five random letters.
pub(crate) fn generate_name(base: &str, random: &[u8; 16]) -> String {
    let mut end = base.len().min(BASE_BYTES_MAX);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let suffix: String =
        random.iter().take(5).map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()])).collect();
    format!("{}{suffix}", &base[..end])
}

/// Notes who owns which fields after a write that was no apply.
///
/// # Errors
/// 422 for managers in `managedFields` whose names cannot be.
pub(crate) fn track(
    kind: &'static Kind,
    subresource: Option<Subresource>,
    old: Option<&Map<String, Value>>,
    new: &mut Map<String, Value>,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<(), Status> {
    let Writer::Client(name) = &options.writer else { return Ok(()) };
    let manager = Manager { name, subresource: subresource.map_or("", Subresource::as_str), time: now };
    let old = old.map(|o| Value::Object(o.clone()));
    let mut value = Value::Object(std::mem::take(new));
    apply::track(options.served.unwrap_or(kind), old.as_ref(), &mut value, manager)?;
    if let Value::Object(map) = value {
        *new = map;
    }
    Ok(())
}

/// Fills in what a new object gets from the server; drops what a client may not bring.
///
/// # Errors
/// 400 for metadata that cannot be of a new object.
pub(crate) fn prepare_new(
    kind: &'static Kind,
    namespace: &str,
    object: &mut Map<String, Value>,
    now: Timestamp,
) -> Result<(), Status> {
    let generation = kind.has_generation;
    object.insert("apiVersion".into(), kind.api_version().into());
    object.insert("kind".into(), kind.kind.into());
    if kind.serves(Subresource::Status) && *kind != kind::NODE {
        object.remove("status");
    }
    let metadata = metadata_mut(object)?;
    if metadata.get("resourceVersion").and_then(Value::as_str).is_some_and(|v| !v.is_empty()) {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    match metadata.get("namespace").and_then(Value::as_str).filter(|n| !n.is_empty()) {
        Some(own) if kind.namespaced && own != namespace => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        _ => {}
    }
    if kind.namespaced {
        metadata.insert("namespace".into(), namespace.into());
    } else {
        metadata.remove("namespace");
    }
    for field in
        ["resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"]
    {
        metadata.remove(field);
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), clock::seconds(now).into());
    if generation {
        metadata.insert("generation".into(), 1.into());
    }
    drop_nulls(metadata);
    Ok(())
}

/// Takes from `current` what a client may not change, and from `new` nothing but what the subresource is about.
///
/// # Errors
/// 409 when the client speaks of another object or another version of it; 400 for broken metadata.
pub(crate) fn prepare_update(
    kind: &'static Kind,
    subresource: Option<Subresource>,
    current: &Map<String, Value>,
    new: &mut Map<String, Value>,
) -> Result<(), Status> {
    let name = text(current, "name").to_owned();
    let asked_name = text(new, "name");
    if !asked_name.is_empty() && asked_name != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({asked_name}) does not match the name on the URL ({name})"
        )));
    }
    let asked_namespace = text(new, "namespace");
    if !asked_namespace.is_empty() && asked_namespace != text(current, "namespace") {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let uid = text(new, "uid");
    if !uid.is_empty() && uid != text(current, "uid") {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            text(current, "uid")
        );
        return Err(Status::conflict_because(kind, &name, &why));
    }
    let version = text(new, "resourceVersion");
    if !version.is_empty() && version != "0" && version != text(current, "resourceVersion") {
        return Err(Status::conflict(kind, &name));
    }
    keep_the_rest(kind, subresource, current, new)
}

fn keep_the_rest(
    kind: &'static Kind,
    subresource: Option<Subresource>,
    current: &Map<String, Value>,
    new: &mut Map<String, Value>,
) -> Result<(), Status> {
    match subresource {
        Some(Subresource::Status | Subresource::Approval) => only(current, new, |kept, asked| {
            match asked.get("status").filter(|status| !status.is_null()) {
                Some(status) => kept.insert("status".into(), status.clone()),
                None => kept.remove("status"),
            };
            let told = asked.get("metadata").unwrap_or(&Value::Null);
            let metadata = metadata_mut(kept)?;
            for field in BESIDE_STATUS.iter().filter(|field| !kind.status_keeps.contains(field)) {
                match told.get(*field).filter(|value| !value.is_null()) {
                    Some(value) => metadata.insert((*field).into(), value.clone()),
                    None => metadata.remove(*field),
                };
            }
            Ok(())
        })?,
        Some(Subresource::EphemeralContainers) => only(current, new, |kept, asked| {
            parts::ephemeral_containers(kept, asked);
            Ok(())
        })?,
        Some(Subresource::Resize) => only(current, new, |kept, asked| {
            parts::resources(kept, asked)
                .map_err(|error| Status::invalid(kind, text(current, "name"), &[error]))
        })?,
        // A binding says where a Pod runs, and in its status that this was decided.
        Some(Subresource::Binding) => {}
        _ => {
            if kind.serves(Subresource::Status) {
                match current.get("status") {
                    Some(status) => new.insert("status".into(), status.clone()),
                    None => new.remove("status"),
                };
            }
            new.insert("apiVersion".into(), kind.api_version().into());
            new.insert("kind".into(), kind.kind.into());
        }
    }
    let old = current.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let metadata = metadata_mut(new)?;
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "resourceVersion",
    ] {
        match old.get(field) {
            Some(value) => metadata.insert(field.into(), value.clone()),
            None => metadata.remove(field),
        };
    }
    metadata.remove("selfLink");
    if !metadata.contains_key("managedFields")
        && let Some(managed) = old.get("managedFields")
    {
        metadata.insert("managedFields".into(), managed.clone());
    }
    drop_nulls(metadata);
    Ok(())
}

/// Makes `new` the current object with some of what was asked for taken over, and with the managers that it brings.
fn only(
    current: &Map<String, Value>,
    new: &mut Map<String, Value>,
    take: impl FnOnce(&mut Map<String, Value>, &Map<String, Value>) -> Result<(), Status>,
) -> Result<(), Status> {
    let mut kept = current.clone();
    take(&mut kept, new)?;
    if let Some(managed) = metadata_mut(new)?.remove("managedFields") {
        metadata_mut(&mut kept)?.insert("managedFields".into(), managed);
    }
    *new = kept;
    Ok(())
}

/// Raises the generation if anything but metadata and status changed.
pub(crate) fn raise_generation(kind: &Kind, current: &Map<String, Value>, new: &mut Map<String, Value>) {
    let desired = |o: &Map<String, Value>| {
        o.iter()
            .filter(|(k, _)| !matches!(k.as_str(), "metadata" | "status" | "apiVersion" | "kind"))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect::<Map<_, _>>()
    };
    if !kind.has_generation || desired(current) == desired(new) {
        return;
    }
    bump_generation(new);
}

/// Raises the generation by one.
pub(crate) fn bump_generation(object: &mut Map<String, Value>) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let next = metadata.get("generation").and_then(Value::as_i64).unwrap_or(0).saturating_add(1);
        metadata.insert("generation".into(), next.into());
    }
}

/// Whether nothing keeps a terminating object any more.
pub(crate) fn may_go(kind: &Kind, object: &Map<String, Value>) -> bool {
    let Some(metadata) = object.get("metadata") else { return false };
    let filled = |v: Option<&Value>| v.and_then(Value::as_array).is_some_and(|a| !a.is_empty());
    let kept = filled(metadata.get("finalizers"))
        || (*kind == kind::NAMESPACE && filled(object.get("spec").and_then(|s| s.get("finalizers"))));
    metadata.get("deletionTimestamp").is_some_and(|t| !t.is_null())
        && metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) == 0
        && !kept
}

fn drop_nulls(metadata: &mut Map<String, Value>) {
    metadata.retain(|_, v| !v.is_null());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn generated_names_keep_within_their_bound() {
        assert_eq!(generate_name("web-", &[0; 16]), "web-bbbbb");
        assert_eq!(generate_name(&"é".repeat(60), &[1; 16]).len(), 58 + 5);
    }

    #[test]
    fn a_status_write_changes_no_spec_and_what_its_kind_has_of_metadata() {
        let current = map(json!({"metadata": {"name": "d", "uid": "u", "labels": {"old": "x"},
            "annotations": {"old": "x"}, "finalizers": ["example.com/old"], "ownerReferences": [{"uid": "o"}]},
            "spec": {"replicas": 1}}));
        let asked = map(json!({"metadata": {"name": "d", "labels": {"a": "b"}, "annotations": {"c": "d"},
            "ownerReferences": [{"uid": "p"}], "generation": 9}, "spec": {"replicas": 9}, "status": {"x": 1}}));
        for (kind, taken) in [
            (&kind::NODE, &["labels", "annotations", "finalizers", "ownerReferences"][..]),
            (&kind::CUSTOM_RESOURCE_DEFINITION, &["labels", "annotations", "finalizers", "ownerReferences"]),
            (&kind::POD, &["labels", "annotations", "finalizers"]),
            (&kind::DEPLOYMENT, &["annotations", "finalizers", "ownerReferences"]),
            (&kind::SERVICE_CIDR, &[]),
            (&kind::VOLUME_ATTACHMENT, &[]),
            (&kind::VALIDATING_ADMISSION_POLICY, &[]),
        ] {
            let mut new = asked.clone();
            prepare_update(kind, Some(Subresource::Status), &current, &mut new).unwrap();
            assert_eq!((&new["spec"]["replicas"], &new["status"]["x"]), (&json!(1), &json!(1)));
            assert!(new["metadata"].get("generation").is_none());
            for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
                let from = if taken.contains(&field) { &asked } else { &current };
                assert_eq!(new["metadata"].get(field), from["metadata"].get(field), "{kind}: {field}");
            }
        }
    }

    #[test]
    fn a_spec_write_keeps_status_and_raises_the_generation_once() {
        let current =
            map(json!({"metadata": {"name": "d", "uid": "u", "generation": 3, "resourceVersion": "9"},
            "spec": {"replicas": 1}, "status": {"replicas": 1}}));
        let mut new =
            map(json!({"metadata": {"name": "d"}, "spec": {"replicas": 2}, "status": {"replicas": 7}}));
        prepare_update(&kind::DEPLOYMENT, None, &current, &mut new).unwrap();
        raise_generation(&kind::DEPLOYMENT, &current, &mut new);
        assert_eq!(new["status"]["replicas"], 1);
        assert_eq!(new["metadata"]["generation"], 4);
        let mut stale = map(json!({"metadata": {"name": "d", "resourceVersion": "8"}}));
        let refused = prepare_update(&kind::DEPLOYMENT, None, &current, &mut stale).unwrap_err();
        assert_eq!(refused.code, 409);
    }

    #[test]
    fn what_keeps_an_object() {
        let object = |metadata: Value| map(json!({"metadata": metadata}));
        assert!(!may_go(&kind::POD, &object(json!({}))));
        assert!(may_go(
            &kind::POD,
            &object(json!({"deletionTimestamp": "x", "deletionGracePeriodSeconds": 0}))
        ));
        assert!(!may_go(
            &kind::POD,
            &object(json!({"deletionTimestamp": "x", "deletionGracePeriodSeconds": 30}))
        ));
        assert!(!may_go(&kind::POD, &object(json!({"deletionTimestamp": "x", "finalizers": ["a"]}))));
        let namespace =
            map(json!({"metadata": {"deletionTimestamp": "x"}, "spec": {"finalizers": ["kubernetes"]}}));
        assert!(!may_go(&kind::NAMESPACE, &namespace));
    }
}
