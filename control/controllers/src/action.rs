//! All a loop may ask for. One `match` in the server performs it, through the same write path as any client's request.

use serde_json::Value;
use weft_api::key::ObjectKey;
use weft_api::kind::{Kind, Subresource};
use weft_api::meta::{ObjectMeta, OwnerReference};

/// One write a loop wants.
///
/// Actions of a plan are performed in order. A conflict, or an object that already exists or is already gone, is no
/// failure: the key is planned again on the newer snapshot. Any other refusal is retried with backoff.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Creates an object; `metadata.generateName` may stand for the name.
    Create {
        /// Kind.
        kind: &'static Kind,
        /// The object, with `apiVersion`, `kind` and `metadata`.
        object: Value,
    },
    /// Merge-patches an object (RFC 7386).
    Patch {
        /// Kind.
        kind: &'static Kind,
        /// Namespace and name.
        key: ObjectKey,
        /// Precondition: this very object.
        uid: String,
        /// Precondition: unchanged since; set wherever the patch replaces a list that others write too.
        resource_version: Option<String>,
        /// What is written: none for the object itself.
        subresource: Option<Subresource>,
        /// The merge patch.
        patch: Value,
    },
    /// Deletes an object: graceful for Pods, through finalizers for those that have them.
    Delete {
        /// Kind.
        kind: &'static Kind,
        /// Namespace and name.
        key: ObjectKey,
        /// Precondition: this very object.
        uid: String,
        /// Precondition: unchanged since.
        resource_version: Option<String>,
        /// Seconds; 0 removes at once; none: the object's own.
        grace_seconds: Option<u32>,
        /// Whether the object waits for its dependents.
        foreground: bool,
    },
    /// Binds a Pod to a node: what `pods/binding` does.
    Bind {
        /// The Pod.
        pod: ObjectKey,
        /// Precondition: this very Pod, still unbound.
        uid: String,
        /// The node.
        node: String,
    },
    /// Makes a key pair for a node, and puts it into the node's Secret ([`crate::node_key`]). Keys are random, and no plan sees a
    /// private one.
    MakeKey {
        /// The node.
        node: String,
        /// Generation of the new pair.
        generation: u64,
        /// The Secret that is there: its UID and version.
        secret: Option<(String, String)>,
        /// Names in the Secret's data that go.
        drop: Vec<String>,
    },
    /// Tells the user something; [`crate::record::resolve`] makes an Event object of it. Never holds up the other actions.
    Record(Event),
}

/// Something a user should see.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Kind of the object it is about.
    pub kind: &'static Kind,
    /// Namespace and name of the object.
    pub key: ObjectKey,
    /// UID of the object.
    pub uid: String,
    /// Revision of the object; may be empty.
    pub resource_version: String,
    /// A part of the object, for example `spec.containers{web}`; may be empty.
    pub field_path: String,
    /// Whether something is wrong.
    pub warning: bool,
    /// CamelCase.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Who says so, for example `deployment-controller`.
    pub component: String,
}

impl Event {
    /// Something that went well.
    pub fn normal(
        about: (&'static Kind, &ObjectMeta),
        component: &str,
        reason: &str,
        message: String,
    ) -> Self {
        let (kind, meta) = about;
        Self {
            kind,
            key: ObjectKey { namespace: meta.namespace.clone(), name: meta.name.clone() },
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: String::new(),
            warning: false,
            reason: reason.to_owned(),
            message,
            component: component.to_owned(),
        }
    }

    /// Something that is wrong.
    pub fn warning(
        about: (&'static Kind, &ObjectMeta),
        component: &str,
        reason: &str,
        message: String,
    ) -> Self {
        Self { warning: true, ..Self::normal(about, component, reason, message) }
    }
}

impl Action {
    /// What the user is told when this action is refused for good: a `FailedCreate` about the owner of what was to be
    /// created, whose replicas would be missing without a word otherwise. None for actions nobody waits for.
    pub fn refusal(&self, why: &str) -> Option<Event> {
        let Self::Create { kind: _, object } = self else { return None };
        let meta: ObjectMeta = serde_json::from_value(object.get("metadata")?.clone()).ok()?;
        let owner = meta.controller()?;
        let kind = weft_api::kind::by_api_version(&owner.api_version, &owner.kind)?;
        let about = ObjectMeta {
            namespace: meta.namespace.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            ..ObjectMeta::default()
        };
        let component = format!("{}-controller", kind.singular);
        Some(Event::warning((kind, &about), &component, "FailedCreate", format!("Error creating: {why}")))
    }

    /// A patch of the `status` subresource of one object.
    pub(crate) fn status(kind: &'static Kind, meta: &ObjectMeta, status: Value) -> Self {
        Self::Patch {
            kind,
            key: key_of(meta),
            uid: meta.uid.clone(),
            resource_version: Some(meta.resource_version.clone()),
            subresource: Some(Subresource::Status),
            patch: Value::Object([("status".to_owned(), status)].into_iter().collect()),
        }
    }

    /// A patch of the object itself, on the version the plan saw.
    pub(crate) fn patch(kind: &'static Kind, meta: &ObjectMeta, patch: Value) -> Self {
        Self::Patch {
            kind,
            key: key_of(meta),
            uid: meta.uid.clone(),
            resource_version: Some(meta.resource_version.clone()),
            subresource: None,
            patch,
        }
    }

    /// A delete of the object with its own grace period.
    pub(crate) fn delete(kind: &'static Kind, meta: &ObjectMeta) -> Self {
        Self::Delete {
            kind,
            key: key_of(meta),
            uid: meta.uid.clone(),
            resource_version: None,
            grace_seconds: None,
            foreground: false,
        }
    }
}

/// The key of the object with this metadata.
pub(crate) fn key_of(meta: &ObjectMeta) -> ObjectKey {
    ObjectKey { namespace: meta.namespace.clone(), name: meta.name.clone() }
}

/// The owner reference by which `owner` manages an object.
pub(crate) fn controller_reference(kind: &'static Kind, owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: kind.api_version(),
        kind: kind.kind.to_owned(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: true,
        block_owner_deletion: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use weft_api::kind;

    #[test]
    fn a_refused_create_is_told_to_its_owner() {
        let owner = ObjectMeta {
            name: "web".into(),
            namespace: "default".into(),
            uid: "u".into(),
            ..Default::default()
        };
        let object = json!({ "metadata": { "name": "web-x", "namespace": "default",
            "ownerReferences": [controller_reference(&kind::REPLICA_SET, &owner)] } });
        let create = Action::Create { kind: &kind::POD, object };
        let event = create.refusal("no such image policy").unwrap();
        assert_eq!(
            (event.kind, event.key.name.as_str(), event.uid.as_str()),
            (&kind::REPLICA_SET, "web", "u")
        );
        assert_eq!(
            (event.reason.as_str(), event.message.as_str()),
            ("FailedCreate", "Error creating: no such image policy")
        );
        assert_eq!(Action::delete(&kind::POD, &owner).refusal("x"), None);
    }
}
