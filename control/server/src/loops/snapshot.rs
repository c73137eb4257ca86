//! The snapshot every plan is made on, fed from the watch cache, and the news about it.
//!
//! **It is always the state at one revision**: an object is never here without its owner because the two lie in
//! different rings and one was read a moment earlier.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::{broadcast, watch};
use weft_api::kind::{KINDS, Kind};
use weft_controllers::world::{Applied, Change, World};

use crate::cache::{Cache, ChangeType, TooOld};

/// Changes taken from one kind's ring at once.
const CHANGES_MAX: usize = 1_024;
/// News kept for readers of the snapshot.
const NEWS_MAX: usize = 8_192;

/// The snapshot and the news about it, shared with the nodes' sessions.
pub(crate) struct Snapshot {
    world: RwLock<World>,
    /// What changed, in the order of the commits. A reader that lags reads the whole snapshot anew.
    news: broadcast::Sender<Applied>,
    /// The revision the snapshot has reached.
    revision: watch::Sender<u64>,
}

/// Up to where each kind was taken in, in the order of the table; none: not at all.
#[derive(Clone, Debug)]
pub(super) struct Positions(Vec<Option<u64>>);

impl Positions {
    pub(super) fn new() -> Self {
        Self(vec![None; KINDS.len()])
    }
}

impl Snapshot {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            world: RwLock::new(World::new()),
            news: broadcast::channel(NEWS_MAX).0,
            revision: watch::channel(0).0,
        })
    }

    /// Takes in one object without a word in the news, as a reader that lags sees it.
    #[cfg(test)]
    pub(crate) fn put(&self, object: weft_api::object::Object, revision: u64) {
        let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
        let _ = world.apply(Change::put(object, revision));
    }

    /// Reaches a revision at which nothing has changed.
    #[cfg(test)]
    pub(crate) fn reach(&self, revision: u64) {
        self.apply(Vec::new(), revision);
    }

    /// Reads the snapshot; no await while the guard lives.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What changes from now on.
    pub(crate) fn news(&self) -> broadcast::Receiver<Applied> {
        self.news.subscribe()
    }

    /// The revision the snapshot has reached.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Takes in everything the cache has.
    pub(super) fn catch_up(&self, cache: &Cache, positions: &mut Positions) -> Vec<Applied> {
        loop {
            let (mut reached, mut changes) = (positions.clone(), Vec::new());
            let listed = self.list_missing(cache, &mut reached, &mut changes);
            // Every commit up to this one is in every ring and list by now.
            let goal = cache.revision().max(listed);
            if take(cache, &mut reached, goal, &mut changes).is_ok() {
                *positions = reached;
                return self.apply(changes, goal);
            }
        }
    }

    /// Lists the kinds whose single changes are not to be had; answers the newest revision that is in a list.
    fn list_missing(&self, cache: &Cache, positions: &mut Positions, changes: &mut Vec<Change>) -> u64 {
        let mut newest = 0;
        for (kind, position) in KINDS.iter().copied().zip(&mut positions.0) {
            if position.is_some_and(|after| cache.changes(kind, after, 0).is_ok()) {
                continue;
            }
            let revision = self.list(cache, kind, changes);
            *position = Some(revision);
            newest = newest.max(revision);
        }
        newest
    }

    fn list(&self, cache: &Cache, kind: &'static Kind, changes: &mut Vec<Change>) -> u64 {
        let (objects, revision) = cache.list(kind, None);
        let there: HashSet<_> = objects.iter().map(|c| c.object.key()).collect();
        for entry in self.read().entries(kind) {
            let key = entry.object.key();
            if !there.contains(&key) {
                changes.push(Change::removed(kind, key, revision));
            }
        }
        changes.extend(objects.iter().map(|c| Change::put(c.object.clone(), c.revision)));
        revision
    }

    fn apply(&self, mut changes: Vec<Change>, goal: u64) -> Vec<Applied> {
        changes.sort_by_key(|c| c.revision);
        let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
        let applied: Vec<Applied> = changes.into_iter().map(|change| world.apply(change)).collect();
        world.advance(goal);
        drop(world);
        for change in &applied {
            let _ = self.news.send(change.clone());
        }
        self.revision.send_replace(goal);
        applied
    }
}

/// Takes the changes up to `goal`, and none behind it, from every ring.
///
/// # Errors
/// A ring has moved on: what was taken so far is of no use.
fn take(
    cache: &Cache,
    positions: &mut Positions,
    goal: u64,
    changes: &mut Vec<Change>,
) -> Result<(), TooOld> {
    for (kind, position) in KINDS.iter().copied().zip(&mut positions.0) {
        let mut after = position.unwrap_or(0);
        loop {
            let found = cache.changes(kind, after, CHANGES_MAX)?;
            let before = changes.len();
            let wanted = found.iter().take_while(|change| change.revision <= goal);
            changes.extend(wanted.map(|change| match change.change {
                ChangeType::Deleted => Change::removed(kind, change.object.object.key(), change.revision),
                ChangeType::Added | ChangeType::Modified => {
                    Change::put(change.object.object.clone(), change.revision)
                }
            }));
            let Some(last) = changes[before..].last() else { break };
            after = last.revision;
        }
        *position = Some(after);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use weft_api::key::ObjectKey;
    use weft_api::kind;
    use weft_store::Embedded;
    use weft_store::store::{Store, Transaction, Write};

    use crate::objects::{encoding, layout};

    async fn put(store: &dyn Store, kind: &'static Kind, name: &str) -> u64 {
        let namespace = if kind.namespaced { "default" } else { "" };
        let object = json!({ "apiVersion": kind.api_version(), "kind": kind.kind,
            "metadata": { "name": name, "namespace": namespace, "uid": name } });
        let bytes = encoding::stored(object.as_object().unwrap()).unwrap();
        let key = layout::object_key(kind, &ObjectKey::namespaced(namespace, name));
        let write = Write::Put(key, bytes);
        store.commit(Transaction { checks: Vec::new(), writes: vec![write] }).await.unwrap().0
    }

    async fn cache(dir: &std::path::Path) -> (Arc<dyn Store>, Arc<Cache>) {
        let store: Arc<dyn Store> = Arc::new(Embedded::open(dir.join("store")).unwrap());
        let cache = Cache::fill(store.clone(), 4).await.unwrap();
        let follow = cache.clone();
        tokio::spawn(async move { follow.follow().await });
        (store, cache)
    }

    #[tokio::test]
    async fn what_was_committed_while_the_rings_are_read_waits_for_the_next_time() {
        let dir = tempfile::tempdir().unwrap();
        let (store, cache) = cache(dir.path()).await;
        let snapshot = Snapshot::new();
        let mut positions = Positions::new();
        snapshot.catch_up(&cache, &mut positions);
        let goal = put(store.as_ref(), &kind::NODE, "early").await;
        put(store.as_ref(), &kind::NODE, "late").await;
        let newest = put(store.as_ref(), &kind::LEASE, "late").await;
        assert!(cache.wait_for(newest, std::time::Duration::from_secs(5)).await);
        let mut changes = Vec::new();
        take(&cache, &mut positions, goal, &mut changes).unwrap();
        assert_eq!(changes.len(), 1, "{changes:?}");
        snapshot.apply(changes, goal);
        assert_eq!(snapshot.catch_up(&cache, &mut positions).len(), 2);
        assert_eq!(snapshot.read().revision(), newest);
    }

    #[tokio::test]
    async fn a_ring_that_moved_on_is_listed_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (store, cache) = cache(dir.path()).await;
        let snapshot = Snapshot::new();
        let mut positions = Positions::new();
        put(store.as_ref(), &kind::NODE, "first").await;
        snapshot.catch_up(&cache, &mut positions);
        let mut newest = 0;
        for n in 0..20 {
            newest = put(store.as_ref(), &kind::NODE, &format!("n{n}")).await;
        }
        assert!(cache.wait_for(newest, std::time::Duration::from_secs(5)).await);
        snapshot.catch_up(&cache, &mut positions);
        assert_eq!(snapshot.read().count(&kind::NODE), 21);
        assert_eq!(*snapshot.revisions().borrow(), newest);
    }
}
