//! The tests every backend passes, as one function over any [`Store`]. It knows no backend.
//!
//! A rule that does not hold panics with its name: this is test code that other crates may call.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;

use crate::store::{
    Batch, Check, CommitError, Entry, Event, ListRequest, REMAINING_MAX, ReadError, Revision, Store,
    Transaction, Watch, WatchEnd, Write,
};
use crate::watch::WATCH_QUEUE_MAX;

/// How long a batch that must come may take, seconds.
const BATCH_WAIT_SECONDS: u64 = 20;

/// Runs every rule, each on a fresh empty store from `open`.
pub async fn keeps_contract<S: Store>(open: impl AsyncFn() -> S) {
    commits_have_rising_revisions(&open().await).await;
    checks_are_all_or_nothing(&open().await).await;
    unacceptable_transactions_are_refused(&open().await).await;
    removing_nothing_changes_nothing(&open().await).await;
    entries_remember_creation(&open().await).await;
    lists_are_paged(&open().await).await;
    what_is_behind_a_page_is_counted_to_a_bound(&open().await).await;
    the_past_can_be_read(&open().await).await;
    compaction_forgets_only_the_past(&open().await).await;
    watches_miss_nothing(&open().await).await;
    watches_tell_progress(&open().await).await;
    one_commit_is_one_batch(&open().await).await;
    slow_watchers_end(&open().await).await;
    long_histories_are_replayed(&open().await).await;
    concurrent_writers_see_conflicts(&open().await).await;
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Write {
    Write::Put(bytes(key), bytes(value))
}

fn delete(key: &str) -> Write {
    Write::Delete(bytes(key))
}

async fn write(store: &impl Store, writes: Vec<Write>) -> Revision {
    store.commit(Transaction { checks: vec![], writes }).await.expect("a plain write is carried out")
}

async fn get(store: &impl Store, key: &str, at: Option<u64>) -> Option<Entry> {
    store.get(bytes(key), at.map(Revision)).await.expect("a key can be read")
}

async fn next(watch: &mut Watch) -> Result<Batch, WatchEnd> {
    let wait = Duration::from_secs(BATCH_WAIT_SECONDS);
    let batch = tokio::time::timeout(wait, watch.batches.recv()).await;
    batch.expect("a batch comes in time").expect("a watch says why it ends")
}

/// The next batch that holds events.
async fn next_events(watch: &mut Watch) -> Batch {
    loop {
        let batch = next(watch).await.expect("the watch goes on");
        if !batch.events.is_empty() {
            return batch;
        }
    }
}

async fn commits_have_rising_revisions(store: &impl Store) {
    assert_eq!(store.revisions(), Revision(0)..=Revision(0), "an empty store is at 0");
    for wanted in 1..=5 {
        assert_eq!(write(store, vec![put("k", "v")]).await, Revision(wanted));
    }
    assert_eq!(*store.revisions().end(), Revision(5));
}

async fn checks_are_all_or_nothing(store: &impl Store) {
    let first = write(store, vec![put("a", "1")]).await;
    let wrong = Transaction {
        checks: vec![Check::Unchanged(bytes("a"), first), Check::Absent(bytes("a"))],
        writes: vec![put("a", "2"), put("b", "2")],
    };
    match store.commit(wrong).await {
        Err(CommitError::Conflict { key, current: Some(entry) }) => {
            assert_eq!((key, entry.value, entry.mod_revision), (bytes("a"), bytes("1"), first));
        }
        other => panic!("a check that fails is a conflict with the entry, not {other:?}"),
    }
    assert_eq!(get(store, "b", None).await, None, "nothing of a refused transaction is written");
    let right = Transaction {
        checks: vec![Check::Unchanged(bytes("a"), first), Check::Absent(bytes("b"))],
        writes: vec![put("a", "2"), put("b", "2")],
    };
    assert_eq!(store.commit(right).await.unwrap(), Revision(2));
    let gone = Transaction { checks: vec![Check::Unchanged(bytes("c"), first)], writes: vec![] };
    assert!(matches!(store.commit(gone).await, Err(CommitError::Conflict { current: None, .. })));
}

async fn unacceptable_transactions_are_refused(store: &impl Store) {
    for writes in [
        vec![put("a", "1"), delete("a")],
        vec![put("", "1")],
        vec![Write::Put(bytes("a"), Bytes::from(vec![0; 5 << 20]))],
    ] {
        let answer = store.commit(Transaction { checks: vec![], writes }).await;
        assert!(matches!(answer, Err(CommitError::Refused { .. })), "{answer:?}");
    }
    assert_eq!(*store.revisions().end(), Revision(0));
}

async fn removing_nothing_changes_nothing(store: &impl Store) {
    write(store, vec![put("a", "1")]).await;
    assert_eq!(write(store, vec![delete("b")]).await, Revision(1));
    assert_eq!(write(store, vec![]).await, Revision(1));
    assert_eq!(write(store, vec![delete("a"), delete("b")]).await, Revision(2));
}

async fn entries_remember_creation(store: &impl Store) {
    write(store, vec![put("a", "1")]).await;
    write(store, vec![put("a", "2")]).await;
    let entry = get(store, "a", None).await.unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision), (Revision(1), Revision(2)));
    write(store, vec![delete("a")]).await;
    write(store, vec![put("a", "3")]).await;
    assert_eq!(get(store, "a", None).await.unwrap().create_revision, Revision(4));
    assert_eq!(get(store, "a", Some(2)).await.unwrap().create_revision, Revision(1));
}

async fn page(
    store: &impl Store,
    prefix: &str,
    after: Option<&str>,
    max: usize,
    at: Option<u64>,
) -> (Vec<String>, u64) {
    let request = ListRequest {
        prefix: bytes(prefix),
        after: after.map(bytes),
        entries_max: max,
        at: at.map(Revision),
    };
    let page = store.list(request).await.expect("a range can be read");
    let text = |entry: &Entry| {
        format!("{}={}", String::from_utf8_lossy(&entry.key), String::from_utf8_lossy(&entry.value))
    };
    (page.entries.iter().map(text).collect(), page.remaining)
}

async fn lists_are_paged(store: &impl Store) {
    for key in ["a/1", "a/2", "a/3", "b/1", "a"] {
        write(store, vec![put(key, "v")]).await;
    }
    write(store, vec![Write::Put(Bytes::from_static(b"\xff\xff"), bytes("v"))]).await;
    let all = page(store, "a/", None, 0, None).await;
    assert_eq!(all, (vec!["a/1=v".into(), "a/2=v".into(), "a/3=v".into()], 0));
    assert_eq!(page(store, "a/", None, 2, None).await, (vec!["a/1=v".into(), "a/2=v".into()], 1));
    assert_eq!(page(store, "a/", Some("a/2"), 2, None).await, (vec!["a/3=v".into()], 0));
    assert_eq!(page(store, "a/", Some("a/3"), 2, None).await, (vec![], 0));
    assert_eq!(page(store, "a/", Some("z"), 2, None).await, (vec![], 0), "behind the whole prefix");
    assert_eq!(page(store, "a/", Some("A"), 1, None).await, (vec!["a/1=v".into()], 2), "before the prefix");
    assert_eq!(page(store, "", None, 0, None).await.0.len(), 6);
    let last = ListRequest { prefix: Bytes::from_static(b"\xff"), ..ListRequest::default() };
    assert_eq!(store.list(last).await.unwrap().entries.len(), 1, "a prefix without a successor");
}

async fn what_is_behind_a_page_is_counted_to_a_bound(store: &impl Store) {
    let many = usize::try_from(REMAINING_MAX).unwrap() + 10;
    let then = write(store, (0..many).map(|n| put(&format!("k/{n:05}"), "v")).collect()).await;
    write(store, vec![put("k/00000", "w")]).await;
    for at in [None, Some(then.0)] {
        let (entries, remaining) = page(store, "k/", None, 3, at).await;
        assert_eq!((entries.len(), remaining), (3, REMAINING_MAX));
        let (entries, remaining) = page(store, "k/", None, 11, at).await;
        assert_eq!((entries.len(), remaining), (11, REMAINING_MAX - 1), "below the bound it is exact");
    }
}

async fn the_past_can_be_read(store: &impl Store) {
    write(store, vec![put("p/a", "1"), put("p/b", "1")]).await;
    write(store, vec![put("p/a", "2")]).await;
    write(store, vec![delete("p/b"), put("p/c", "3")]).await;
    write(store, vec![put("p/b", "4")]).await;
    assert_eq!(page(store, "p/", None, 0, Some(0)).await.0, Vec::<String>::new());
    assert_eq!(page(store, "p/", None, 0, Some(1)).await.0, ["p/a=1", "p/b=1"]);
    assert_eq!(page(store, "p/", None, 0, Some(2)).await.0, ["p/a=2", "p/b=1"]);
    assert_eq!(page(store, "p/", None, 0, Some(3)).await.0, ["p/a=2", "p/c=3"]);
    assert_eq!(page(store, "p/", None, 0, Some(4)).await.0, ["p/a=2", "p/b=4", "p/c=3"]);
    assert_eq!(page(store, "p/", None, 1, Some(2)).await, (vec!["p/a=2".into()], 1));
    assert_eq!(page(store, "p/", Some("p/a"), 0, Some(3)).await.0, ["p/c=3"]);
    assert_eq!(get(store, "p/b", Some(3)).await, None);
    let future = store.get(bytes("p/a"), Some(Revision(5))).await;
    assert!(matches!(future, Err(ReadError::Future { newest: Revision(4), .. })), "{future:?}");
}

async fn compaction_forgets_only_the_past(store: &impl Store) {
    for round in 1..=10 {
        write(store, vec![put("hot", &round.to_string())]).await;
    }
    write(store, vec![put("gone", "x")]).await;
    write(store, vec![delete("gone")]).await;
    write(store, vec![put("hot", "13")]).await;
    store.compact(Revision(12)).await.expect("the past can be forgotten");
    store.compact(Revision(5)).await.expect("what is forgotten already stays so");
    assert_eq!(store.revisions(), Revision(12)..=Revision(13));
    let early = store.get(bytes("hot"), Some(Revision(11))).await;
    assert!(matches!(early, Err(ReadError::Compacted { oldest: Revision(12), .. })), "{early:?}");
    let early = store.watch(Bytes::new(), Revision(11)).await;
    assert!(matches!(early, Err(ReadError::Compacted { .. })));
    assert_eq!(get(store, "hot", Some(12)).await.unwrap().value, bytes("10"));
    assert_eq!(page(store, "", None, 0, Some(12)).await.0, ["hot=10"]);
    assert_eq!(page(store, "", None, 0, None).await.0, ["hot=13"]);
    let mut watch = store.watch(Bytes::new(), Revision(12)).await.unwrap();
    let batch = next_events(&mut watch).await;
    let Event::Put { entry, previous: Some(previous) } = &batch.events[0] else { panic!("{batch:?}") };
    assert_eq!((&entry.value, &previous.value), (&bytes("13"), &bytes("10")));
    let future = store.compact(Revision(14)).await;
    assert!(matches!(future, Err(ReadError::Future { .. })), "{future:?}");
}

async fn watches_miss_nothing(store: &impl Store) {
    for round in 1..=20 {
        write(store, vec![put("w/k", &round.to_string()), put("other", "x")]).await;
    }
    let mut early = store.watch(bytes("w/"), Revision(0)).await.unwrap();
    let mut middle = store.watch(bytes("w/"), Revision(10)).await.unwrap();
    let mut late = store.watch(bytes("w/"), Revision(20)).await.unwrap();
    for round in 21..=40 {
        write(store, vec![put("w/k", &round.to_string())]).await;
    }
    for (watch, from) in [(&mut early, 1), (&mut middle, 11), (&mut late, 21)] {
        for round in from..=40 {
            let batch = next_events(watch).await;
            assert_eq!((batch.revision, batch.events.len()), (Revision(round), 1));
            let Event::Put { entry, previous } = &batch.events[0] else { panic!("{batch:?}") };
            assert_eq!(entry.value, bytes(&round.to_string()));
            assert_eq!(previous.as_ref().map_or(Revision(0), |p| p.mod_revision), Revision(round - 1));
        }
    }
    let future = store.watch(Bytes::new(), Revision(41)).await;
    assert!(matches!(future, Err(ReadError::Future { .. })));
}

async fn watches_tell_progress(store: &impl Store) {
    let mut watch = store.watch(bytes("quiet/"), Revision(0)).await.unwrap();
    let last = write(store, vec![put("loud", "x")]).await;
    loop {
        let batch = next(&mut watch).await.unwrap();
        assert!(batch.events.is_empty());
        if batch.revision == last {
            return;
        }
    }
}

async fn one_commit_is_one_batch(store: &impl Store) {
    let mut watch = store.watch(bytes("m/"), Revision(0)).await.unwrap();
    write(store, vec![put("m/1", "a"), put("x", "a"), put("m/2", "a")]).await;
    write(store, vec![delete("m/1"), put("m/2", "b"), delete("m/none")]).await;
    let first = next_events(&mut watch).await;
    let keys: Vec<_> = first.events.iter().map(|e| e.key().clone()).collect();
    assert_eq!(keys, [bytes("m/1"), bytes("m/2")]);
    let second = next_events(&mut watch).await;
    assert!(matches!(&second.events[..], [Event::Delete { revision: Revision(2), .. }, Event::Put { .. }]));
}

async fn slow_watchers_end(store: &impl Store) {
    let mut watch = store.watch(Bytes::new(), Revision(0)).await.unwrap();
    let rounds = WATCH_QUEUE_MAX as u64 + 10;
    for round in 0..rounds {
        write(store, vec![put("k", &round.to_string())]).await;
    }
    for round in 1..=WATCH_QUEUE_MAX as u64 {
        assert_eq!(next(&mut watch).await.unwrap().revision, Revision(round));
    }
    assert!(matches!(next(&mut watch).await, Err(WatchEnd::TooSlow { .. })));
    assert!(watch.batches.recv().await.is_none(), "nothing follows the end");
}

async fn long_histories_are_replayed(store: &impl Store) {
    let rounds = 2 * WATCH_QUEUE_MAX as u64;
    for round in 1..=rounds {
        let key = if round % 2 == 0 { "even" } else { "odd" };
        write(store, vec![put(key, &round.to_string())]).await;
    }
    let mut watch = store.watch(Bytes::new(), Revision(0)).await.unwrap();
    for round in 1..=rounds {
        assert_eq!(next_events(&mut watch).await.revision, Revision(round));
    }
    let last = write(store, vec![put("odd", "last")]).await;
    assert_eq!(next_events(&mut watch).await.revision, last, "after the history it is live");
}

async fn concurrent_writers_see_conflicts(store: &impl Store) {
    write(store, vec![put("counter", "0")]).await;
    let add = async || {
        for _ in 0..20 {
            loop {
                let entry = get(store, "counter", None).await.unwrap();
                let count: u32 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
                let transaction = Transaction {
                    checks: vec![Check::Unchanged(entry.key, entry.mod_revision)],
                    writes: vec![put("counter", &(count + 1).to_string())],
                };
                match store.commit(transaction).await {
                    Ok(_) => break,
                    Err(CommitError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    tokio::join!(add(), add(), add(), add());
    assert_eq!(get(store, "counter", None).await.unwrap().value, bytes("80"));
}
