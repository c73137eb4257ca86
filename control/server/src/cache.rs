//! The watch cache: every live object of every kind as clients see it, encoded once, and the newest changes of each kind.
//!
//! It follows the store by one watch and is what every read, every client's watch and every control loop is served
//! from. Readers share the bytes. A watcher has no queue of its own: it reads the kind's ring at its own pace and is
//! told to list anew when the ring has moved past it.

mod encoded;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use weft_api::key::ObjectKey;
use weft_api::kind::{KINDS, Kind};
use weft_api::object::Object;
use weft_store::store::{Batch, Entry, Event, ListRequest, ReadError, Revision, Store, WatchEnd};

use crate::objects::encoding;
use crate::objects::layout;

pub(crate) use encoded::Slot;

/// Objects read from the store at once when the cache is filled.
const PAGE_ENTRIES_MAX: usize = 1_000;
/// About how many bytes of objects one kind's ring holds, the newest change excepted.
const RING_BYTES_MAX: usize = 32 << 20;
/// About how many bytes of objects the rings hold together; in the worst case twice that, see [`Rings`].
const RINGS_BYTES_MAX: usize = 128 << 20;

/// First wait before a store that could not be read is asked again.
const AGAIN: Duration = Duration::from_millis(100);
/// The same at most: each try that fails doubles it.
const AGAIN_MAX: Duration = Duration::from_secs(2);

/// One object as of one revision.
#[derive(Debug)]
pub(crate) struct Cached {
    /// Metadata and the JSON that clients get, `resourceVersion` included.
    pub(crate) object: Object,
    /// The commit that wrote it (for a deleted object: removed it).
    pub(crate) revision: u64,
    /// The values of the kind's selectable fields, in the order of the table; unset: not there.
    pub(crate) fields: Box<[Option<Box<str>>]>,
    /// Its message in protobuf, once somebody has asked for it.
    pub(crate) message: Slot,
}

impl Cached {
    /// The value of a field that a field selector may name.
    pub(crate) fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.object.meta.name),
            "metadata.namespace" => Some(&self.object.meta.namespace),
            _ => {
                let index = self.object.kind.selectable_fields.iter().position(|f| *f == path)?;
                Some(self.fields.get(index)?.as_deref().unwrap_or(""))
            }
        }
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangeType {
    Added,
    Modified,
    Deleted,
}

/// One change of one object.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    /// The revision of the kind's change before: in between it did not change.
    pub(crate) after: u64,
    pub(crate) change: ChangeType,
    /// As it is now; for a deletion, as it last was.
    pub(crate) object: Arc<Cached>,
    /// As it was before, if it was there.
    pub(crate) previous: Option<Arc<Cached>>,
}

impl Change {
    fn size_bytes(&self) -> usize {
        self.object.object.json.len()
    }
}

/// The revision asked for is no longer in the ring: list anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub(crate) struct TooOld {
    pub(crate) asked: u64,
    pub(crate) oldest: u64,
}

/// The cache.
pub(crate) struct Cache {
    store: Arc<dyn Store>,
    shelves: Vec<Shelf>,
    revision: watch::Sender<u64>,
    /// Who waits for a revision, by the revision. Each is woken by its own alone: writers by the dozen wait at once.
    waiting: Mutex<Waiting>,
    rings: Rings,
}

type Waiting = BTreeMap<u64, Vec<oneshot::Sender<()>>>;

/// The bounds of the rings, and what they hold.
///
/// A ring that grows while all of them together are above their bound gives up what is beyond its share of it. So kinds
/// that change much have what others leave, and none can be robbed of its share.
struct Rings {
    events_max: usize,
    bytes_max: usize,
    all_bytes_max: usize,
    share_bytes: usize,
    held_bytes: AtomicUsize,
}

impl Rings {
    fn new(events_max: usize, bytes_max: usize, all_bytes_max: usize, rings: usize) -> Self {
        let share_bytes = all_bytes_max / rings.max(1);
        Self { events_max, bytes_max, all_bytes_max, share_bytes, held_bytes: AtomicUsize::new(0) }
    }

    /// Whether a ring of so many changes and bytes must give up its oldest change. The newest stays.
    fn are_exceeded_by(&self, events: usize, bytes: usize) -> bool {
        let full = self.held_bytes.load(Ordering::Relaxed) > self.all_bytes_max;
        events > self.events_max || events > 1 && (bytes > self.bytes_max || full && bytes > self.share_bytes)
    }
}

/// One kind.
struct Shelf {
    state: RwLock<State>,
    /// The revision of the kind's last change.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<ObjectKey, Arc<Cached>>,
    ring: VecDeque<Arc<Change>>,
    /// Of the objects in the ring; what they were before stands in it already, or in the list.
    ring_bytes: usize,
    /// Changes up to this revision may be missing in the ring.
    forgotten: u64,
    /// The revision of the newest change.
    newest: u64,
}

/// Why the cache cannot follow the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("the store was closed")]
    Closed,
}

impl Cache {
    /// Fills a cache from the store. [`Cache::follow`] keeps it up to date.
    ///
    /// As far as the store keeps history, the rings begin in the past, so that watches go on after a restart.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn fill(store: Arc<dyn Store>, events_max: usize) -> Result<Arc<Self>, ReadError> {
        let shelves =
            KINDS.iter().map(|_| Shelf { state: RwLock::default(), changed: watch::channel(0).0 }).collect();
        let rings = Rings::new(events_max, RING_BYTES_MAX, RINGS_BYTES_MAX, KINDS.len());
        let cache = Arc::new(Self {
            store,
            shelves,
            revision: watch::channel(0).0,
            waiting: Mutex::default(),
            rings,
        });
        let (oldest, newest) = cache.store.revisions().into_inner();
        let past = cache.store.commits_before(newest, events_max as u64).max(oldest);
        match cache.list_store(past).await {
            Ok(()) => {}
            // Compaction may have passed the oldest revision in between.
            Err(_) => cache.list_store(cache.store.revisions().into_inner().1).await?,
        }
        Ok(cache)
    }

    /// The state at `at`, instead of what is there.
    async fn list_store(&self, at: Revision) -> Result<(), ReadError> {
        let mut found: Vec<BTreeMap<ObjectKey, Arc<Cached>>> = vec![BTreeMap::new(); self.shelves.len()];
        let mut after = None;
        // At the beginning there is nothing, and all that came is still to be told.
        while at > Revision(0) {
            let page = self
                .store
                .list(ListRequest {
                    prefix: layout::objects_prefix(),
                    after: after.take(),
                    entries_max: PAGE_ENTRIES_MAX,
                    at: Some(at),
                })
                .await?;
            for entry in &page.entries {
                if let Some((shelf, cached)) = self.read_entry(entry) {
                    found[shelf].insert(cached.object.key(), Arc::new(cached));
                }
            }
            match page.entries.last() {
                Some(last) if page.remaining > 0 => after = Some(last.key.clone()),
                _ => break,
            }
        }
        for (shelf, objects) in self.shelves.iter().zip(found) {
            let mut state = shelf.write();
            self.rings.held_bytes.fetch_sub(state.ring_bytes, Ordering::Relaxed);
            *state = State { objects, forgotten: at.0, newest: at.0, ..State::default() };
            drop(state);
            shelf.changed.send_replace(at.0);
        }
        self.revision.send_replace(at.0);
        self.tell_waiting();
        Ok(())
    }

    /// Follows the store until it closes. What the store cannot tell now is asked for again; what it cannot tell any more,
    /// because it was compacted or is of another history, is read anew.
    ///
    /// # Errors
    /// The store closed.
    pub(crate) async fn follow(&self) -> Result<(), FollowError> {
        let mut wait = AGAIN;
        loop {
            let after = Revision(self.revision());
            let watched = match self.store.watch(layout::objects_prefix(), after).await {
                Err(ReadError::Compacted { .. }) => {
                    tracing::warn!(
                        revision = after.0,
                        "the watch cache is behind the store's history and is filled anew"
                    );
                    let newest = self.store.revisions().into_inner().1;
                    match self.list_store(newest).await {
                        Ok(()) => continue,
                        Err(error) => Err(error),
                    }
                }
                watched => watched,
            };
            let mut watch = match watched {
                Ok(watch) => watch,
                Err(error) => {
                    tracing::warn!(%error, "the watch cache cannot read the store and tries again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(AGAIN_MAX);
                    continue;
                }
            };
            wait = AGAIN;
            loop {
                match watch.batches.recv().await {
                    Some(Ok(batch)) => self.apply(&batch),
                    Some(Err(WatchEnd::TooSlow { .. } | WatchEnd::Restored)) => break,
                    Some(Err(WatchEnd::Closed)) => return Err(FollowError::Closed),
                    None => {
                        tokio::time::sleep(wait).await;
                        break;
                    }
                }
            }
        }
    }

    fn read_entry(&self, entry: &Entry) -> Option<(usize, Cached)> {
        let kind = layout::kind_of(&entry.key)?;
        match encoding::read(kind, &entry.value, entry.mod_revision.0) {
            Ok(cached) => Some((kind.index, cached)),
            Err(error) => {
                tracing::error!(key = %String::from_utf8_lossy(&entry.key), %error, "a stored object is not readable");
                None
            }
        }
    }

    /// Takes up what the store told.
    pub(crate) fn apply(&self, batch: &Batch) {
        for event in batch.events.iter() {
            match event {
                Event::Put { entry, .. } => {
                    if let Some((shelf, cached)) = self.read_entry(entry) {
                        self.shelves[shelf].put(Arc::new(cached), &self.rings);
                    }
                }
                Event::Delete { previous, revision } => {
                    let at = Entry { mod_revision: *revision, ..previous.clone() };
                    if let Some((shelf, cached)) = self.read_entry(&at) {
                        self.shelves[shelf].remove(Arc::new(cached), &self.rings);
                    }
                }
            }
        }
        self.revision.send_if_modified(|r| {
            let raised = batch.revision.0 > *r;
            *r = batch.revision.0.max(*r);
            raised
        });
        self.tell_waiting();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody who waits for what is reached.
    fn tell_waiting(&self) {
        let reached = self.revision();
        let mut waiting = self.waiting();
        while let Some(first) = waiting.first_entry().filter(|first| *first.key() <= reached) {
            for told in first.remove() {
                // Who is not there any more does not wait.
                let _ = told.send(());
            }
        }
    }

    fn shelf(&self, kind: &Kind) -> &Shelf {
        // Every kind of the table has its shelf, at its place, and there are no other kinds.
        &self.shelves[kind.index]
    }

    /// The newest revision the cache holds.
    pub(crate) fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Tells of every new revision.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Waits until the cache holds `revision`; `false` when it does not within `limit`.
    pub(crate) async fn wait_for(&self, revision: u64, limit: Duration) -> bool {
        if self.revision() >= revision {
            return true;
        }
        let (told, waits) = oneshot::channel();
        self.waiting().entry(revision).or_default().push(told);
        let mut place = Place { cache: self, revision, waits };
        // It may have been reached before it was waited for.
        self.revision() >= revision
            || matches!(tokio::time::timeout(limit, &mut place.waits).await, Ok(Ok(())))
    }

    /// One object.
    pub(crate) fn get(&self, kind: &Kind, key: &ObjectKey) -> Option<Arc<Cached>> {
        self.shelf(kind).read().objects.get(key).cloned()
    }

    /// All objects of a kind, of one namespace if it is given, in key order, and the revision they are the state of.
    pub(crate) fn list(&self, kind: &Kind, namespace: Option<&str>) -> (Vec<Arc<Cached>>, u64) {
        let state = self.shelf(kind).read();
        // A commit that is being applied shows here before the cache as a whole has reached its revision.
        let revision = self.revision().max(state.newest);
        let objects = match namespace {
            None => state.objects.values().cloned().collect(),
            Some(namespace) => {
                let from = ObjectKey::namespaced(namespace, "");
                state
                    .objects
                    .range((Bound::Included(from), Bound::Unbounded))
                    .take_while(|(key, _)| key.namespace == namespace)
                    .map(|(_, object)| object.clone())
                    .collect()
            }
        };
        (objects, revision)
    }

    /// How many objects of a kind there are.
    pub(crate) fn count(&self, kind: &Kind) -> usize {
        self.shelf(kind).read().objects.len()
    }

    /// The changes of a kind behind `after`, at most `changes_max` of them.
    ///
    /// # Errors
    /// The ring has moved past `after`.
    pub(crate) fn changes(
        &self,
        kind: &Kind,
        after: u64,
        changes_max: usize,
    ) -> Result<Vec<Arc<Change>>, TooOld> {
        let state = self.shelf(kind).read();
        if after < state.forgotten {
            return Err(TooOld { asked: after, oldest: state.forgotten });
        }
        let from = state.ring.partition_point(|c| c.revision <= after);
        // A commit's changes stay together, so that `after` of the next call loses none of them.
        let mut to = (from + changes_max).min(state.ring.len());
        while to > from && to < state.ring.len() && state.ring[to].revision == state.ring[to - 1].revision {
            to += 1;
        }
        Ok(state.ring.range(from..to).cloned().collect())
    }

    /// Tells of every change of a kind.
    pub(crate) fn changed(&self, kind: &Kind) -> watch::Receiver<u64> {
        self.shelf(kind).changed.subscribe()
    }

    /// A page of the state at an older revision, from the store.
    ///
    /// # Errors
    /// The revision is compacted, or the store cannot be read.
    pub(crate) async fn list_at(
        &self,
        prefix: Bytes,
        after: Bytes,
        entries_max: usize,
        at: u64,
    ) -> Result<(Vec<Arc<Cached>>, u64), ReadError> {
        let request = ListRequest { prefix, after: Some(after), entries_max, at: Some(Revision(at)) };
        let page = self.store.list(request).await?;
        let objects = page.entries.iter().filter_map(|e| self.read_entry(e));
        let objects =
            objects.map(|(_, c)| Arc::new(Cached { message: Slot::of_one_answer(), ..c })).collect();
        Ok((objects, page.remaining))
    }
}

/// The place of somebody who waits, and may give up.
struct Place<'a> {
    cache: &'a Cache,
    revision: u64,
    waits: oneshot::Receiver<()>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waits.close();
        let mut waiting = self.cache.waiting();
        if let Some(same) = waiting.get_mut(&self.revision) {
            same.retain(|told| !told.is_closed());
            if same.is_empty() {
                waiting.remove(&self.revision);
            }
        }
    }
}

impl Shelf {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn put(&self, object: Arc<Cached>, rings: &Rings) {
        let revision = object.revision;
        let mut state = self.write();
        let previous = state.objects.insert(object.object.key(), object.clone());
        let change = if previous.is_some() { ChangeType::Modified } else { ChangeType::Added };
        let after = state.newest;
        state.push(Change { revision, after, change, object, previous }, rings);
        drop(state);
        self.changed.send_replace(revision);
    }

    fn remove(&self, object: Arc<Cached>, rings: &Rings) {
        let revision = object.revision;
        let mut state = self.write();
        let previous = state.objects.remove(&object.object.key());
        let (after, change) = (state.newest, ChangeType::Deleted);
        state.push(Change { revision, after, change, object, previous }, rings);
        drop(state);
        self.changed.send_replace(revision);
    }
}

impl State {
    fn push(&mut self, change: Change, rings: &Rings) {
        self.newest = change.revision;
        let bytes = change.size_bytes();
        self.ring_bytes += bytes;
        rings.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.ring.push_back(Arc::new(change));
        while rings.are_exceeded_by(self.ring.len(), self.ring_bytes) {
            let Some(dropped) = self.ring.pop_front() else { break };
            let bytes = dropped.size_bytes();
            self.ring_bytes -= bytes;
            rings.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.forgotten = dropped.revision;
        }
    }
}

#[cfg(test)]
mod tests;
