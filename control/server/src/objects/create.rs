//! Creating an object.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind};
use weft_api::status::{Cause, Details, FieldError, Status};
use weft_store::store::{Check, Revision};

use super::allocate::Allocated;
use super::{Objects, Refused, TRIES_MAX, WriteOptions, Writer, layout, metadata};
use crate::admit;
use crate::cache::Cached;
use crate::clock;

/// How long a client's create waits for what a loop is about to make.
const PATIENCE: Duration = Duration::from_secs(5);

impl Objects {
    /// Creates an object in `namespace` (empty for cluster-scoped kinds); `metadata.generateName` may stand for a name.
    ///
    /// # Errors
    /// What Kubernetes answers: 409 when the name is taken, 404 and 403 for the namespace, 422 for wrong fields.
    pub(crate) async fn create(
        &self,
        kind: &'static Kind,
        namespace: &str,
        mut object: Map<String, Value>,
        options: &WriteOptions,
    ) -> Result<Arc<Cached>, Status> {
        metadata::prepare_new(kind, namespace, &mut object, clock::now())?;
        let generated = metadata::text(&object, "name").is_empty();
        let base = metadata::text(&object, "generateName").to_owned();
        if generated && base.is_empty() {
            let error = FieldError::required("metadata.name", "name or generateName is required");
            return Err(Status::invalid(kind, "", &[error]));
        }
        for _ in 0..TRIES_MAX {
            if generated {
                let name = metadata::generate_name(&base, uuid::Uuid::new_v4().as_bytes());
                metadata::metadata_mut(&mut object)?.insert("name".into(), name.into());
            }
            let key = ObjectKey::namespaced(namespace, metadata::text(&object, "name"));
            let checks = self.check_namespace(kind, &key)?;
            let mut complete = object.clone();
            // The server itself comes again.
            let patience = if options.writer == Writer::Server { Duration::ZERO } else { PATIENCE };
            let allocated = self.complete_new(kind, &key, &mut complete, patience).await?;
            metadata::track(kind, None, None, &mut complete, options, clock::now())?;
            if self.cache.get(kind, &key).is_some() {
                if generated {
                    continue;
                }
                return Err(Status::already_exists(kind, &key.name));
            }
            if options.dry_run {
                return Self::pretend(kind, &complete, None);
            }
            let own_key = layout::object_key(kind, &key);
            let checks = checks.into_iter().chain(allocated.checks).collect();
            match self.put(kind, &key, &complete, checks, None, allocated.writes).await {
                Ok(cached) => return Ok(cached),
                Err(Refused::Status(status)) => return Err(status),
                Err(Refused::Conflict(at)) if at == own_key && !generated => {
                    return Err(Status::already_exists(kind, &key.name));
                }
                Err(Refused::Conflict(_)) => {}
            }
        }
        Err(Status::too_many_requests("the object could not be created: too many others write at once", 1))
    }

    /// Defaults, admission, what the server says itself, validation, allocation.
    async fn complete_new(
        &self,
        kind: &'static Kind,
        key: &ObjectKey,
        object: &mut Map<String, Value>,
        patience: Duration,
    ) -> Result<Allocated, Status> {
        let mut value = Value::Object(std::mem::take(object));
        weft_api::default::apply(kind, &mut value);
        admit::on_create(self, kind, &mut value, patience).await?;
        weft_api::default::prepare(kind, &mut value, None);
        let mut errors = weft_api::validate::create(kind, &value, &self.limits());
        errors.extend(admit::judge_new(kind, &value));
        if !errors.is_empty() {
            return Err(Status::invalid(kind, &key.name, &errors));
        }
        let allocated = self.allocate(kind, key, None, &mut value)?;
        if let Value::Object(map) = value {
            *object = map;
        }
        Ok(allocated)
    }

    /// The namespace must be there, not on its way out, and still so when the object is committed.
    fn check_namespace(&self, kind: &'static Kind, key: &ObjectKey) -> Result<Vec<Check>, Status> {
        if !kind.namespaced {
            return Ok(Vec::new());
        }
        let namespace_key = ObjectKey::cluster(&key.namespace);
        let namespace = self.get(&kind::NAMESPACE, &namespace_key)?;
        if namespace.object.meta.is_terminating() {
            let why = format!(
                "unable to create new content in namespace {} because it is being terminated",
                key.namespace
            );
            let mut status = Status::forbidden(kind, &key.name, &why);
            let message = format!("namespace {} is being terminated", key.namespace);
            let cause = Cause { reason: "NamespaceTerminating", message, field: "metadata.namespace".into() };
            status.details.get_or_insert_with(Box::<Details>::default).causes.push(cause);
            return Err(status);
        }
        let store_key = layout::object_key(&kind::NAMESPACE, &namespace_key);
        Ok(vec![Check::Unchanged(store_key, Revision(namespace.revision))])
    }

    /// Creates an object unless it is there.
    ///
    /// # Errors
    /// As [`Objects::create`], `AlreadyExists` excepted.
    pub(crate) async fn ensure(
        &self,
        kind: &'static Kind,
        key: &ObjectKey,
        mut object: Value,
    ) -> Result<(), Status> {
        if self.cache.get(kind, key).is_some() {
            return Ok(());
        }
        object["metadata"]["name"] = json!(key.name);
        let Value::Object(object) = object else { return Ok(()) };
        match self.create(kind, &key.namespace, object, &WriteOptions::default()).await {
            Ok(_) => Ok(()),
            Err(status) if status.reason == "AlreadyExists" => Ok(()),
            Err(status) => Err(status),
        }
    }
}
