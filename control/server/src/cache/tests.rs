//! The cache: its bounds, and stores whose watches end or that go over to another history.

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use weft_store::Embedded;
use weft_store::store::{Answer, CommitError, Limits, Page, StoreIdentity, Transaction, Watch, Write};

use super::*;
use serde_json::json;
use weft_api::kind;

fn object(revision: u64, bytes: usize) -> Arc<Cached> {
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "k": "x".repeat(bytes) },
        "metadata": { "name": revision.to_string(), "namespace": "default" } });
    let stored = encoding::stored(object.as_object().unwrap()).unwrap();
    Arc::new(encoding::read(&kind::CONFIG_MAP, &stored, revision).unwrap())
}

fn shelf() -> Shelf {
    Shelf { state: RwLock::default(), changed: watch::channel(0).0 }
}

#[test]
fn a_ring_is_bounded_in_changes_and_in_bytes() {
    let shelf = shelf();
    let rings = |events_max| Rings::new(events_max, RING_BYTES_MAX, RINGS_BYTES_MAX, 2);
    let few = rings(4);
    for revision in 1..=10 {
        shelf.put(object(revision, 10), &few);
    }
    assert_eq!((shelf.read().ring.len(), shelf.read().forgotten), (4, 6));
    let many = rings(4_096);
    for revision in 11..=60 {
        shelf.put(object(revision, 1 << 20), &many);
    }
    let state = shelf.read();
    assert!(state.ring.len() < 32 && state.ring_bytes <= RING_BYTES_MAX, "{}", state.ring.len());
    assert_eq!(state.forgotten, 60 - state.ring.len() as u64);
    assert_eq!(state.objects.len(), 60, "what is there stays");
}

#[test]
fn rings_share_a_bound_and_none_loses_its_share() {
    const BYTES: usize = 10_000;
    let rings = Rings::new(4_096, 16 * BYTES, 20 * BYTES, 2);
    let (busy, quiet) = (shelf(), shelf());
    for revision in 1..=30 {
        busy.put(object(revision, BYTES), &rings);
    }
    assert_eq!(busy.read().ring.len(), 15, "alone it has all that one ring may have");
    for revision in 31..=60 {
        quiet.put(object(revision, BYTES), &rings);
    }
    assert_eq!((busy.read().ring.len(), quiet.read().ring.len()), (15, 9), "a share is a half");
    busy.put(object(61, BYTES), &rings);
    assert_eq!((busy.read().ring.len(), quiet.read().ring.len()), (10, 9), "what grows gives up");
    assert_eq!(busy.read().forgotten, 21);
    let held = busy.read().ring_bytes + quiet.read().ring_bytes;
    assert_eq!(rings.held_bytes.load(Ordering::Relaxed), held);
    assert!(held <= 20 * BYTES);
}

/// What becomes of a watch that is asked for.
enum Fate {
    Refused,
    /// Ends without a word.
    Dropped,
    Ended(WatchEnd),
}

/// Two stores, of which one is shown at a time, and the fates of the next watches; after them watches are what they are.
struct Odd {
    stores: [Embedded; 2],
    shown: AtomicUsize,
    fates: Mutex<VecDeque<Fate>>,
    /// Ends the watch of what is shown, from outside.
    running: Mutex<Option<mpsc::Sender<Result<Batch, WatchEnd>>>>,
}

impl Odd {
    fn new(dir: &std::path::Path) -> Arc<Self> {
        let stores = ["first", "second"].map(|name| Embedded::open(dir.join(name)).unwrap());
        let (fates, running) = (Mutex::default(), Mutex::default());
        Arc::new(Self { stores, shown: AtomicUsize::new(0), fates, running })
    }

    fn shown(&self) -> &Embedded {
        &self.stores[self.shown.load(Ordering::Relaxed)]
    }

    async fn put(store: &Embedded, name: &str) -> Revision {
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": name, "namespace": "default" } });
        let stored = encoding::stored(object.as_object().unwrap()).unwrap();
        let key = layout::object_key(&kind::CONFIG_MAP, &ObjectKey::namespaced("default", name));
        let writes = vec![Write::Put(key, stored)];
        store.commit(Transaction { checks: Vec::new(), writes }).await.unwrap()
    }
}

impl Store for Odd {
    fn identity(&self) -> StoreIdentity {
        self.shown().identity()
    }
    fn limits(&self) -> Limits {
        self.shown().limits()
    }
    fn revisions(&self) -> RangeInclusive<Revision> {
        self.shown().revisions()
    }
    fn trouble(&self) -> Option<Arc<str>> {
        None
    }
    fn commit(&self, transaction: Transaction) -> Answer<'_, Result<Revision, CommitError>> {
        self.shown().commit(transaction)
    }
    fn get(&self, key: Bytes, at: Option<Revision>) -> Answer<'_, Result<Option<Entry>, ReadError>> {
        self.shown().get(key, at)
    }
    fn list(&self, request: ListRequest) -> Answer<'_, Result<Page, ReadError>> {
        self.shown().list(request)
    }
    fn watch(&self, prefix: Bytes, after: Revision) -> Answer<'_, Result<Watch, ReadError>> {
        let fate = self.fates.lock().unwrap().pop_front();
        let (queue, batches) = mpsc::channel(64);
        match fate {
            Some(Fate::Refused) => Box::pin(async { Err(ReadError::Engine("it is away".into())) }),
            Some(Fate::Dropped) => Box::pin(async { Ok(Watch { batches }) }),
            Some(Fate::Ended(end)) => Box::pin(async move {
                let _ = queue.send(Err(end)).await;
                Ok(Watch { batches })
            }),
            None => Box::pin(async move {
                let mut real = self.shown().watch(prefix, after).await?;
                self.running.lock().unwrap().replace(queue.clone());
                tokio::spawn(async move {
                    while let Some(batch) = real.batches.recv().await {
                        if queue.send(batch).await.is_err() {
                            return;
                        }
                    }
                });
                Ok(Watch { batches })
            }),
        }
    }
    fn compact(&self, oldest: Revision) -> Answer<'_, Result<(), ReadError>> {
        self.shown().compact(oldest)
    }
}

fn names(cache: &Cache) -> Vec<String> {
    cache.list(&kind::CONFIG_MAP, None).0.iter().map(|c| c.object.meta.name.clone()).collect()
}

#[tokio::test]
async fn a_watch_that_ends_or_cannot_be_had_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Odd::new(dir.path());
    let cache = Cache::fill(store.clone(), 64).await.unwrap();
    let too_slow = Fate::Ended(WatchEnd::TooSlow { queue_max: 1 });
    store.fates.lock().unwrap().extend([Fate::Refused, Fate::Dropped, too_slow, Fate::Refused]);
    let follow = tokio::spawn({
        let cache = cache.clone();
        async move { cache.follow().await }
    });
    let last = Odd::put(&store.stores[0], "a").await;
    assert!(cache.wait_for(last.0, Duration::from_secs(10)).await);
    assert_eq!(names(&cache), ["a"]);
    assert!(!follow.is_finished());
    let running = store.running.lock().unwrap().take().unwrap();
    running.send(Err(WatchEnd::Closed)).await.unwrap();
    assert!(matches!(follow.await, Ok(Err(FollowError::Closed))), "a store that has ended is told");
}

#[tokio::test]
async fn a_page_of_the_store_keeps_no_message_and_an_object_of_the_cache_does() {
    let dir = tempfile::tempdir().unwrap();
    let store = Odd::new(dir.path());
    let at = Odd::put(&store.stores[0], "a").await;
    let cache = Cache::fill(store.clone(), 64).await.unwrap();
    tokio::spawn({
        let cache = cache.clone();
        async move { cache.follow().await }
    });
    assert!(cache.wait_for(at.0, Duration::from_secs(10)).await);
    let prefix = layout::kind_prefix(&kind::CONFIG_MAP, None);
    let (page, _) = cache.list_at(prefix.clone(), prefix, 10, at.0).await.unwrap();
    let (live, _) = cache.list(&kind::CONFIG_MAP, None);
    let made = |object: &Cached| {
        [1, 2].map(|bytes| object.message.get_or(|| Ok::<_, ()>(vec![7; bytes])).unwrap().len())
    };
    assert_eq!((made(&page[0]), made(&live[0])), ([1, 2], [1, 1]));
}

#[tokio::test]
async fn a_store_with_another_history_is_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = Odd::new(dir.path());
    Odd::put(&store.stores[0], "kept").await;
    let lost = Odd::put(&store.stores[0], "lost").await;
    // The other history goes on above the first, and what is before is not to be had.
    for name in ["x", "y", "kept"] {
        Odd::put(&store.stores[1], name).await;
    }
    let newest = *store.stores[1].revisions().end();
    store.stores[1].compact(newest).await.unwrap();
    let cache = Cache::fill(store.clone(), 64).await.unwrap();
    tokio::spawn({
        let cache = cache.clone();
        async move { cache.follow().await }
    });
    while store.running.lock().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(names(&cache), ["kept", "lost"]);
    let mut changed = cache.changed(&kind::CONFIG_MAP);
    changed.mark_unchanged();
    store.shown.store(1, Ordering::Relaxed);
    let running = store.running.lock().unwrap().take().unwrap();
    running.send(Err(WatchEnd::Restored)).await.unwrap();
    assert!(cache.wait_for(newest.0, Duration::from_secs(10)).await);
    assert_eq!(names(&cache), ["kept", "x", "y"]);
    assert!(changed.has_changed().unwrap(), "whoever watches is woken");
    let told = cache.changes(&kind::CONFIG_MAP, lost.0, 64);
    assert!(matches!(told, Err(TooOld { .. })), "and told to list anew");
    let last = Odd::put(&store.stores[1], "z").await;
    assert!(cache.wait_for(last.0, Duration::from_secs(10)).await);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_revision_is_woken_by_it_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::fill(Arc::new(Embedded::open(dir.path().join("store")).unwrap()), 16).await.unwrap();
    let reach = |revision| cache.apply(&Batch { revision: Revision(revision), events: [].into() });
    let second = Duration::from_secs(1);
    let waits = |revision| {
        let cache = cache.clone();
        tokio::spawn(async move { cache.wait_for(revision, second).await })
    };
    let (first, same, later, never) = (waits(1), waits(1), waits(3), waits(99));
    let gives_up = waits(99);
    tokio::task::yield_now().await;
    assert_eq!(cache.waiting().keys().copied().collect::<Vec<_>>(), [1, 3, 99]);
    reach(2);
    assert!(first.await.unwrap() && same.await.unwrap());
    assert!(!later.is_finished());
    // A commit may be told together with the ones before it.
    reach(4);
    assert!(later.await.unwrap());
    assert!(cache.wait_for(4, Duration::ZERO).await, "what is reached is not waited for");
    gives_up.abort();
    assert!(gives_up.await.is_err());
    assert_eq!(cache.waiting()[&99].len(), 1);
    assert!(!never.await.unwrap());
    assert!(cache.waiting().is_empty());
}

#[tokio::test]
async fn a_young_store_is_told_from_its_beginning_and_nothing_in_it_was_there_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path().join("store")).unwrap();
    let mut written = Vec::new();
    for name in ["a", "b", "a"] {
        written.push(Odd::put(&store, name).await.0);
    }
    let cache = Cache::fill(Arc::new(store), 4_096).await.unwrap();
    let following = tokio::spawn({
        let cache = cache.clone();
        async move { cache.follow().await }
    });
    assert!(cache.wait_for(3, Duration::from_secs(20)).await);
    let changes = cache.changes(&kind::CONFIG_MAP, 0, 10).unwrap();
    let told: Vec<_> = changes.iter().map(|c| (c.revision, c.change, c.previous.is_some())).collect();
    let (added, modified) = (ChangeType::Added, ChangeType::Modified);
    assert_eq!(told, [(1, added, false), (2, added, false), (3, modified, true)]);
    assert_eq!(written, [1, 2, 3]);
    following.abort();
}
