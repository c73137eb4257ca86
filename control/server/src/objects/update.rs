//! Changing an object: whole updates, patches, subresources and the loops' patches are all one function of the
//! current state.

use std::sync::Arc;

use serde_json::{Map, Value};
use weft_api::key::ObjectKey;
use weft_api::kind::{Kind, Subresource};
use weft_api::status::Status;
use weft_store::store::{Check, Revision, Transaction, Write};

use super::allocate::Allocated;
use super::{
    Objects, Preconditions, Refused, TRIES_MAX, WriteOptions, Writer, into_map, layout, metadata, value_of,
};
use crate::admit;
use crate::cache::Cached;
use crate::clock;

/// What an update is about.
#[derive(Clone, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) kind: &'static Kind,
    pub(crate) key: &'a ObjectKey,
    pub(crate) subresource: Option<Subresource>,
    pub(crate) preconditions: Preconditions,
}

impl Objects {
    /// Writes `change(current)` in place of the current object. When somebody else writes in between, `change` is
    /// asked again with the newer state; it says 409 itself (by a `resourceVersion`) if it wants none of that.
    ///
    /// # Errors
    /// 404, 409, 422 and whatever `change` refuses.
    pub(crate) async fn update(
        &self,
        target: &Target<'_>,
        options: &WriteOptions,
        mut change: impl FnMut(&Map<String, Value>) -> Result<Map<String, Value>, Status> + Send,
    ) -> Result<Arc<Cached>, Status> {
        let (kind, key) = (target.kind, target.key);
        for _ in 0..TRIES_MAX {
            let cached = self.get(kind, key)?;
            target.preconditions.check(&cached)?;
            let current = value_of(&cached)?;
            let mut new = change(&current)?;
            metadata::prepare_update(kind, target.subresource, &current, &mut new)?;
            let (mut new, allocated) = self.complete_update(target, &current, new)?;
            metadata::raise_generation(kind, &current, &mut new);
            if options.writer == Writer::Server {
                // The server itself owns nothing, and leaves what others own.
                let managed = current.get("metadata").and_then(|m| m.get("managedFields"));
                let meta = metadata::metadata_mut(&mut new)?;
                match managed {
                    Some(managed) => meta.insert("managedFields".into(), managed.clone()),
                    None => meta.remove("managedFields"),
                };
            }
            if new == current {
                return Ok(cached);
            }
            metadata::track(kind, target.subresource, Some(&current), &mut new, options, clock::now())?;
            if weft_api::patch::apply::changes_nothing(&current, &new) {
                return Ok(cached);
            }
            let goes = metadata::may_go(kind, &new);
            if options.dry_run {
                return Self::pretend(kind, &new, Some(cached.revision));
            }
            let result = if goes {
                self.remove(&cached).await.map(|()| cached.clone())
            } else {
                self.put(kind, key, &new, allocated.checks, Some(cached.revision), allocated.writes).await
            };
            match result {
                Ok(cached) => return Ok(cached),
                Err(Refused::Status(status)) => return Err(status),
                Err(Refused::Conflict(_)) => {}
            }
        }
        Err(Status::conflict(kind, &key.name))
    }

    fn complete_update(
        &self,
        target: &Target<'_>,
        current: &Map<String, Value>,
        new: Map<String, Value>,
    ) -> Result<(Map<String, Value>, Allocated), Status> {
        let kind = target.kind;
        let mut value = Value::Object(new);
        let old = Value::Object(current.clone());
        weft_api::default::apply(kind, &mut value);
        weft_api::default::prepare(kind, &mut value, Some(&old));
        admit::on_update(kind, target.subresource, &old, &mut value)?;
        // What an update leaves out of addresses and ports is carried over before it is judged.
        let allocated = self.allocate(kind, target.key, Some(&old), &mut value)?;
        let mut errors = match target.subresource {
            Some(Subresource::Status) => weft_api::validate::update_status(kind, &value, &old),
            Some(Subresource::Approval) => weft_api::validate::update_approval(kind, &value, &old),
            Some(Subresource::EphemeralContainers) => {
                weft_api::validate::update_ephemeral_containers(&value, &old)
            }
            Some(Subresource::Resize) => weft_api::validate::resize(&value, &old),
            Some(Subresource::Binding | Subresource::Finalize) => Vec::new(),
            _ => weft_api::validate::update(kind, &value, &old, &self.limits()),
        };
        errors.extend(admit::judge_change(kind, &value, &old));
        if !errors.is_empty() {
            return Err(Status::invalid(kind, &target.key.name, &errors));
        }
        Ok((into_map(value)?, allocated))
    }

    /// Removes an object from the store, with everything that was allocated to it.
    pub(super) async fn remove(&self, cached: &Cached) -> Result<(), Refused> {
        let kind = cached.object.kind;
        let store_key = layout::object_key(kind, &cached.object.key());
        let mut writes = vec![Write::Delete(store_key.clone())];
        writes.extend(Self::release(cached).map_err(Refused::Status)?);
        let checks = vec![Check::Unchanged(store_key, Revision(cached.revision))];
        self.commit(Transaction { checks, writes }).await.map(|_| ())
    }
}
