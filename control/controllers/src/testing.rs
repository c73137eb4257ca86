//! Objects and snapshots for the loops' tests.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use weft_api::kind;
use weft_api::meta::ObjectMeta;
use weft_api::object::Object;

use crate::action::Action;
use crate::settings::Settings;
use crate::table::Context;
use crate::world::{Change, World};

/// A time `seconds` after the tests' beginning.
pub(crate) fn now(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// Metadata of a Pod in `default`.
pub(crate) fn pod_meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: name.into(),
        namespace: "default".into(),
        uid: format!("uid-{name}"),
        ..Default::default()
    }
}

/// An object from its JSON; a UID and a revision are made where there is none.
pub(crate) fn object(mut value: Value) -> Object {
    let kind =
        kind::by_api_version(value["apiVersion"].as_str().unwrap(), value["kind"].as_str().unwrap()).unwrap();
    if value["metadata"].get("uid").is_none() {
        value["metadata"]["uid"] = json!(format!("uid-{}", value["metadata"]["name"].as_str().unwrap()));
    }
    if value["metadata"].get("resourceVersion").is_none() {
        value["metadata"]["resourceVersion"] = json!("1");
    }
    Object::read(kind, Bytes::from(serde_json::to_vec(&value).unwrap())).unwrap()
}

/// A snapshot of these objects.
pub(crate) fn world(objects: &[Object]) -> World {
    let mut world = World::new();
    for (i, object) in objects.iter().enumerate() {
        let _ = world.apply(Change::put(object.clone(), i as u64 + 1));
    }
    world
}

/// A context at a time, with default settings.
pub(crate) fn context(settings: &Settings, seconds: i64) -> Context<'_> {
    Context { now: now(seconds), random: 7, settings }
}

/// RFC 3339 merge patch, enough for tests that let a plan's actions come true.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

/// Lets actions come true in a snapshot, as the server would: creates get names and UIDs, patches are merged.
pub(crate) fn perform(world: &mut World, actions: &[Action], at: Timestamp) {
    for action in actions {
        let revision = world.revision() + 1;
        match action {
            Action::Create { kind, object: value } => {
                let mut value = value.clone();
                if value["metadata"].get("name").is_none() {
                    let prefix = value["metadata"]["generateName"].as_str().unwrap().to_owned();
                    value["metadata"]["name"] = json!(format!("{prefix}{revision:05}"));
                }
                value["metadata"]["uid"] = json!(format!("uid-{revision}"));
                value["metadata"]["resourceVersion"] = json!(revision.to_string());
                value["metadata"]["generation"] = json!(1);
                value["metadata"]["creationTimestamp"] = json!(crate::record::seconds(at));
                assert_eq!(value["kind"], kind.kind);
                let _ = world.apply(Change::put(object(value), revision));
            }
            Action::Patch { kind, key, patch, uid, resource_version, .. } => {
                let before = world.object(kind, key).unwrap();
                assert_eq!(&before.meta.uid, uid);
                if let Some(version) = resource_version {
                    assert_eq!(&before.meta.resource_version, version, "a plan must not clash with itself");
                }
                let mut value: Value = serde_json::from_slice(&before.json).unwrap();
                let spec_before = value["spec"].clone();
                merge(&mut value, patch);
                if value["spec"] != spec_before {
                    value["metadata"]["generation"] = json!(before.meta.generation + 1);
                }
                value["metadata"]["resourceVersion"] = json!(revision.to_string());
                let _ = world.apply(Change::put(object(value), revision));
            }
            Action::Delete { kind, key, .. } => {
                let _ = world.apply(Change::removed(kind, key.clone(), revision));
            }
            Action::Bind { pod, node, .. } => {
                let mut value: Value =
                    serde_json::from_slice(&world.object(&kind::POD, pod).unwrap().json).unwrap();
                value["spec"]["nodeName"] = json!(node);
                value["metadata"]["resourceVersion"] = json!(revision.to_string());
                let _ = world.apply(Change::put(object(value), revision));
            }
            Action::MakeKey { node, generation, drop, .. } => {
                let key = crate::node_key::secret_key(node);
                let mut value = world
                    .object(&kind::SECRET, &key)
                    .map_or(json!({}), |before| serde_json::from_slice(&before.json).unwrap());
                let public = [u8::try_from(*generation).unwrap(); 32];
                let made = crate::node_key::Made { private: [0; 32], public };
                merge(&mut value, &crate::node_key::secret(node, *generation, &made, drop, at));
                value["metadata"]["resourceVersion"] = json!(revision.to_string());
                let _ = world.apply(Change::put(object(value), revision));
            }
            Action::Record(_) => {}
        }
    }
}
