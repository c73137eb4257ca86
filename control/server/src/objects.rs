//! The one write path, used by clients' requests, by the nodes' sessions and by the control loops alike:
//! decode, default, admit, validate, allocate, commit.
//!
//! It must not know HTTP. A write is acknowledged when the store has it on disk and the cache shows it, so that who
//! wrote reads its own write.

pub(crate) mod allocate;
pub(crate) mod bind;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod encoding;
mod evict;
pub(crate) mod laid;
pub(crate) mod layout;
pub(crate) mod metadata;
mod parts;
pub(crate) mod update;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use serde_json::{Map, Value};
use tokio::sync::Notify;
use weft_api::key::ObjectKey;
use weft_api::kind::Kind;
use weft_api::status::Status;
use weft_api::validate::Limits;
use weft_controllers::settings::Settings;
use weft_store::store::{Check, CommitError, Revision, Store, Transaction, Write};

use crate::cache::{Cache, Cached};

/// How often a write is tried again when somebody else was faster.
const TRIES_MAX: usize = 16;
/// How long a write waits for the cache to show it.
const CACHE_WAIT: Duration = Duration::from_secs(10);

/// The cluster's objects.
pub(crate) struct Objects {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<Cache>,
    /// Ranges that addresses and ports are given from.
    pub(crate) settings: Arc<Settings>,
    services: Mutex<allocate::Held>,
    /// How long commits take.
    pub(crate) commit_seconds: Histogram,
    /// Told once the store cannot be written any more.
    broken: Notify,
}

/// How a write is to be done.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteOptions {
    /// Everything but the commit.
    pub(crate) dry_run: bool,
    pub(crate) writer: Writer,
    /// The dialect that a client wrote by, for field ownership; unset: the kind itself.
    pub(crate) served: Option<&'static Kind>,
}

/// Who writes, for field ownership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The server itself: it owns no fields, and leaves what others own.
    #[default]
    Server,
    /// A client by the name of its manager: what it changes is noted as its own.
    Client(String),
    /// A client that applies: the object comes with its owners noted.
    Applier,
}

/// What must hold of the object that is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Preconditions {
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

impl Preconditions {
    /// # Errors
    /// 409 with Kubernetes' words.
    pub(crate) fn check(&self, object: &Cached) -> Result<(), Status> {
        let meta = &object.object.meta;
        if let Some(uid) = self.uid.as_deref().filter(|u| *u != meta.uid) {
            let why =
                format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta.uid);
            return Err(Status::conflict_because(object.object.kind, &meta.name, &why));
        }
        if let Some(version) = self.resource_version.as_deref().filter(|v| *v != meta.resource_version) {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
                meta.resource_version
            );
            return Err(Status::conflict_because(object.object.kind, &meta.name, &why));
        }
        Ok(())
    }
}

/// Why a commit did not happen.
enum Refused {
    /// Somebody else wrote one of the keys; worth another try on newer state.
    Conflict(Bytes),
    /// Told to the client.
    Status(Status),
}

impl Objects {
    pub(crate) fn new(store: Arc<dyn Store>, cache: Arc<Cache>, settings: Arc<Settings>) -> Self {
        // From a tenth of a millisecond to some seconds.
        let commit_seconds = Histogram::new(exponential_buckets(0.000_1, 2.0, 17));
        Self { store, cache, settings, services: Mutex::default(), commit_seconds, broken: Notify::new() }
    }

    /// Waits until the store has ended. One whose disk fails has not: it refuses writes until the disk takes them again.
    pub(crate) async fn broken(&self) {
        self.broken.notified().await;
    }

    /// The settings that validation asks for.
    fn limits(&self) -> Limits {
        Limits { node_ports: self.settings.node_ports.clone() }
    }

    /// One object as the cache has it.
    ///
    /// # Errors
    /// 404.
    pub(crate) fn get(&self, kind: &'static Kind, key: &ObjectKey) -> Result<Arc<Cached>, Status> {
        self.cache.get(kind, key).ok_or_else(|| Status::not_found(kind, &key.name))
    }

    /// Puts an object under checks; answers it as clients see it.
    async fn put(
        &self,
        kind: &'static Kind,
        key: &ObjectKey,
        object: &Map<String, Value>,
        mut checks: Vec<Check>,
        previous: Option<u64>,
        more: Vec<Write>,
    ) -> Result<Arc<Cached>, Refused> {
        let bytes = encoding::stored(object).map_err(|e| Refused::Status(Status::internal(e)))?;
        let store_key = layout::object_key(kind, key);
        checks.push(match previous {
            None => Check::Absent(store_key.clone()),
            Some(revision) => Check::Unchanged(store_key.clone(), Revision(revision)),
        });
        let mut writes = vec![Write::Put(store_key, bytes.clone())];
        writes.extend(more);
        let revision = self.commit(Transaction { checks, writes }).await?;
        if let Some(shown) = self.cache.get(kind, key).filter(|shown| shown.revision == revision.0) {
            return Ok(shown);
        }
        // Somebody was faster with the next write.
        let cached =
            encoding::read(kind, &bytes, revision.0).map_err(|e| Refused::Status(Status::internal(e)))?;
        Ok(Arc::new(cached))
    }

    /// Commits and waits until the cache shows it.
    async fn commit(&self, transaction: Transaction) -> Result<Revision, Refused> {
        let began = Instant::now();
        let result = self.commit_and_show(transaction).await;
        self.commit_seconds.observe(began.elapsed().as_secs_f64());
        result
    }

    async fn commit_and_show(&self, transaction: Transaction) -> Result<Revision, Refused> {
        match self.store.commit(transaction).await {
            Ok(revision) => {
                if !self.cache.wait_for(revision.0, CACHE_WAIT).await {
                    tracing::warn!(revision = revision.0, "the watch cache is behind an acknowledged write");
                }
                Ok(revision)
            }
            Err(CommitError::Conflict { key, current }) => {
                // The next try must see what won.
                if let Some(current) = current {
                    self.cache.wait_for(current.mod_revision.0, CACHE_WAIT).await;
                } else {
                    let newest = self.store.revisions().into_inner().1;
                    self.cache.wait_for(newest.0, CACHE_WAIT).await;
                }
                Err(Refused::Conflict(key))
            }
            Err(CommitError::Refused { reason }) => {
                Err(Refused::Status(Status::bad_request(format!("the object cannot be stored: {reason}"))))
            }
            Err(error @ CommitError::Full(_)) => {
                tracing::error!(%error, "a write was refused");
                Err(Refused::Status(Status::service_unavailable("no space is left for the store")))
            }
            Err(CommitError::Unavailable(why)) => {
                tracing::error!(%why, "a write was refused");
                Err(Refused::Status(Status::service_unavailable(format!(
                    "the store takes no writes for now: {why}"
                ))))
            }
            Err(CommitError::Uncertain(why)) => {
                tracing::error!(%why, "the store failed while it wrote");
                Err(Refused::Status(Status::internal(format!(
                    "the store failed while it wrote; whether the change is there is known once it works again: {why}"
                ))))
            }
            Err(CommitError::Engine(error)) => {
                tracing::error!(%error, "the store cannot be written");
                self.broken.notify_one();
                Err(Refused::Status(Status::internal("the store cannot be written")))
            }
        }
    }

    /// What a dry run answers: the object as it would be, at the revision it has now.
    fn pretend(
        kind: &'static Kind,
        object: &Map<String, Value>,
        revision: Option<u64>,
    ) -> Result<Arc<Cached>, Status> {
        let bytes = encoding::stored(object).map_err(Status::internal)?;
        let mut cached = encoding::read(kind, &bytes, revision.unwrap_or(0)).map_err(Status::internal)?;
        if revision.is_none() {
            cached.object.json = bytes;
        }
        Ok(Arc::new(cached))
    }
}

/// A value as the object it must be.
///
/// # Errors
/// 400 when it is none.
pub(crate) fn into_map(value: Value) -> Result<Map<String, Value>, Status> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Status::bad_request("the object is no JSON object")),
    }
}

/// A cached object as an editable value.
///
/// # Errors
/// The cache holds something that is no JSON object, which its filling rules out.
pub(crate) fn value_of(object: &Cached) -> Result<Map<String, Value>, Status> {
    serde_json::from_slice(&object.object.json).map_err(Status::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use weft_api::kind;
    use weft_store::Embedded;
    use weft_store::store::{Answer, Entry, Limits, ListRequest, Page, ReadError, StoreIdentity, Watch};

    /// A store that has ended: it reads, and writes no more.
    struct Failed(Embedded);

    impl Store for Failed {
        fn identity(&self) -> StoreIdentity {
            self.0.identity()
        }
        fn limits(&self) -> Limits {
            self.0.limits()
        }
        fn revisions(&self) -> std::ops::RangeInclusive<Revision> {
            self.0.revisions()
        }
        fn trouble(&self) -> Option<Arc<str>> {
            self.0.trouble()
        }
        fn commit(&self, _: Transaction) -> Answer<'_, Result<Revision, CommitError>> {
            Box::pin(async { Err(CommitError::Engine("the writer has ended".into())) })
        }
        fn get(&self, key: Bytes, at: Option<Revision>) -> Answer<'_, Result<Option<Entry>, ReadError>> {
            self.0.get(key, at)
        }
        fn list(&self, request: ListRequest) -> Answer<'_, Result<Page, ReadError>> {
            self.0.list(request)
        }
        fn watch(&self, prefix: Bytes, after: Revision) -> Answer<'_, Result<Watch, ReadError>> {
            self.0.watch(prefix, after)
        }
        fn compact(&self, oldest: Revision) -> Answer<'_, Result<(), ReadError>> {
            self.0.compact(oldest)
        }
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_written_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Failed(Embedded::open(dir.path().join("store")).unwrap()));
        let cache = Cache::fill(store.clone(), 16).await.unwrap();
        let objects = Objects::new(store, cache, Arc::new(Settings::default()));
        let key = ObjectKey::cluster("x");
        let ensured = objects.ensure(&kind::NAMESPACE, &key, json!({ "metadata": {} })).await;
        assert_eq!(ensured.unwrap_err().code, 500);
        tokio::time::timeout(Duration::from_secs(1), objects.broken()).await.unwrap();
    }
}
