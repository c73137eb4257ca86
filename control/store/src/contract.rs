//! The tests every backend passes, as one function over any [`Store`]. It knows no backend.
//!
//! A rule that does not hold panics with its name: this is test code that other crates may call.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use crate::store::{
    Batch, Check, CommitError, Entry, Event, ListRequest, REMAINING_MAX, ReadError, Revision, Store,
    Transaction, Watch, WatchEnd, Write,
};
use crate::watch::WATCH_QUEUE_MAX;

/// How long a batch that must come may take, seconds.
const BATCH_WAIT_SECONDS: u64 = 20;

/// Behind every revision that a rule comes to.
const FAR_AHEAD: u64 = 1 << 40;

/// Runs every rule, each on a fresh empty store from `open`.
///
/// What is empty has a revision all the same, and nothing is said of how far one commit is from the next: others may write
/// beside the store.
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
    writers_and_watchers_at_once(&open().await).await;
    commits_at_once_are_commits_of_their_own(&open().await).await;
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

fn newest(store: &impl Store) -> Revision {
    *store.revisions().end()
}

async fn get(store: &impl Store, key: &str, at: Option<Revision>) -> Option<Entry> {
    store.get(bytes(key), at).await.expect("a key can be read")
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
    let start = newest(store);
    assert!(store.list(ListRequest::default()).await.unwrap().entries.is_empty(), "it is empty");
    assert_eq!(newest(store), start, "reading changes nothing");
    let mut last = start;
    for _ in 0..5 {
        let revision = write(store, vec![put("k", "v")]).await;
        assert!(revision > last, "{revision} after {last}");
        assert_eq!(get(store, "k", None).await.unwrap().mod_revision, revision);
        assert!(newest(store) >= revision, "what is acknowledged is there");
        last = revision;
    }
    assert!(store.revisions().start() <= &start, "nothing is forgotten by itself");
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
    let second = store.commit(right).await.unwrap();
    for key in ["a", "b"] {
        assert_eq!(get(store, key, None).await.unwrap().mod_revision, second, "one commit, one revision");
    }
    for check in [Check::Unchanged(bytes("c"), first), Check::Unchanged(bytes("c"), Revision(0))] {
        let gone = Transaction { checks: vec![check], writes: vec![put("c", "1")] };
        assert!(matches!(store.commit(gone).await, Err(CommitError::Conflict { current: None, .. })));
    }
    let stale = Transaction { checks: vec![Check::Unchanged(bytes("a"), first)], writes: vec![] };
    assert!(matches!(store.commit(stale).await, Err(CommitError::Conflict { current: Some(_), .. })));
}

async fn unacceptable_transactions_are_refused(store: &impl Store) {
    let limits = store.limits();
    let of_bytes = |n: usize| Write::Put(bytes("a"), Bytes::from(vec![0; n]));
    let puts = |n: usize| (0..n).map(|i| put(&format!("a/{i}"), "1")).collect();
    let long_key = |n: usize| Write::Put(Bytes::from(vec![b'a'; n]), bytes("1"));
    let absent = |n: usize| (0..n).map(|i| Check::Absent(bytes(&format!("c/{i}")))).collect();
    for (checks, writes) in [
        (vec![], vec![put("a", "1"), delete("a")]),
        (vec![], vec![put("", "1")]),
        (vec![], vec![of_bytes(limits.bytes_max)]),
        (vec![], vec![long_key(limits.key_bytes_max + 1)]),
        (vec![], puts(limits.steps_max + 1)),
        (absent(limits.steps_max + 1), vec![put("a", "1")]),
    ] {
        let answer = store.commit(Transaction { checks, writes }).await;
        assert!(matches!(answer, Err(CommitError::Refused { .. })), "{answer:?}");
    }
    assert!(store.list(ListRequest::default()).await.unwrap().entries.is_empty());
    // What is just within the limits is taken.
    write(store, vec![of_bytes(limits.bytes_max - 1)]).await;
    write(store, vec![long_key(limits.key_bytes_max)]).await;
    let full = Transaction { checks: absent(limits.steps_max), writes: puts(limits.steps_max) };
    store.commit(full).await.expect("the limits can be used");
    assert_eq!(page(store, "a/", None, 0, None).await.0.len(), limits.steps_max);
}

async fn removing_nothing_changes_nothing(store: &impl Store) {
    let first = write(store, vec![put("a", "1")]).await;
    let mut watch = store.watch(Bytes::new(), first).await.unwrap();
    assert!(write(store, vec![delete("b")]).await >= first);
    let nothing = write(store, vec![]).await;
    assert!(nothing >= first);
    assert_eq!(get(store, "a", None).await.unwrap().mod_revision, first);
    let removed = write(store, vec![delete("a"), delete("b")]).await;
    assert!(removed > nothing, "{removed} after {nothing}");
    let batch = next_events(&mut watch).await;
    assert_eq!((batch.revision, batch.events.len()), (removed, 1), "and nobody is told of it");
    assert_eq!(get(store, "a", None).await, None);
    // Whoever waits for the revision that was answered comes to it.
    let answered = write(store, vec![delete("a")]).await;
    let mut reached = removed;
    while reached < answered {
        reached = next(&mut watch).await.unwrap().revision;
    }
}

async fn entries_remember_creation(store: &impl Store) {
    let first = write(store, vec![put("a", "1")]).await;
    let second = write(store, vec![put("a", "2")]).await;
    let entry = get(store, "a", None).await.unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision), (first, second));
    write(store, vec![delete("a")]).await;
    let third = write(store, vec![put("a", "3")]).await;
    assert_eq!(get(store, "a", None).await.unwrap().create_revision, third);
    assert_eq!(get(store, "a", Some(second)).await.unwrap().create_revision, first);
}

async fn page(
    store: &impl Store,
    prefix: &str,
    after: Option<&str>,
    max: usize,
    at: Option<Revision>,
) -> (Vec<String>, u64) {
    let request = ListRequest { prefix: bytes(prefix), after: after.map(bytes), entries_max: max, at };
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
    let mut puts = (0..many).map(|n| put(&format!("k/{n:05}"), "v")).peekable();
    let mut then = newest(store);
    while puts.peek().is_some() {
        then = write(store, puts.by_ref().take(store.limits().steps_max).collect()).await;
    }
    write(store, vec![put("k/00000", "w")]).await;
    for at in [None, Some(then)] {
        let (entries, remaining) = page(store, "k/", None, 3, at).await;
        assert_eq!((entries.len(), remaining), (3, REMAINING_MAX));
        let (entries, remaining) = page(store, "k/", None, 11, at).await;
        assert_eq!((entries.len(), remaining), (11, REMAINING_MAX - 1), "below the bound it is exact");
        let (entries, remaining) = page(store, "k/", Some("k/00004"), 0, at).await;
        assert_eq!((entries.len(), remaining, &entries[0][..7]), (many - 5, 0, "k/00005"));
    }
}

async fn the_past_can_be_read(store: &impl Store) {
    let start = newest(store);
    let r1 = write(store, vec![put("p/a", "1"), put("p/b", "1")]).await;
    let r2 = write(store, vec![put("p/a", "2")]).await;
    let r3 = write(store, vec![delete("p/b"), put("p/c", "3")]).await;
    let r4 = write(store, vec![put("p/b", "4")]).await;
    assert_eq!(page(store, "p/", None, 0, Some(start)).await.0, Vec::<String>::new());
    assert_eq!(page(store, "p/", None, 0, Some(r1)).await.0, ["p/a=1", "p/b=1"]);
    assert_eq!(page(store, "p/", None, 0, Some(r2)).await.0, ["p/a=2", "p/b=1"]);
    assert_eq!(page(store, "p/", None, 0, Some(r3)).await.0, ["p/a=2", "p/c=3"]);
    assert_eq!(page(store, "p/", None, 0, Some(r4)).await.0, ["p/a=2", "p/b=4", "p/c=3"]);
    assert_eq!(page(store, "p/", None, 1, Some(r2)).await, (vec!["p/a=2".into()], 1));
    assert_eq!(page(store, "p/", Some("p/a"), 0, Some(r3)).await.0, ["p/c=3"]);
    assert_eq!(get(store, "p/b", Some(r3)).await, None);
    let request = ListRequest { at: Some(r2), ..ListRequest::default() };
    assert_eq!(store.list(request).await.unwrap().revision, r2);
    assert!(store.list(ListRequest::default()).await.unwrap().revision >= r4);
    match store.get(bytes("p/a"), Some(Revision(FAR_AHEAD))).await {
        Err(ReadError::Future { asked: Revision(FAR_AHEAD), newest }) => assert!(newest >= r4),
        other => panic!("a revision that is not reached is refused, not {other:?}"),
    }
}

async fn compaction_forgets_only_the_past(store: &impl Store) {
    let mut hot = Vec::new();
    for round in 1..=10 {
        hot.push(write(store, vec![put("hot", &round.to_string())]).await);
    }
    let made = write(store, vec![put("gone", "x")]).await;
    let removed = write(store, vec![delete("gone")]).await;
    let last = write(store, vec![put("hot", "13")]).await;
    store.compact(removed).await.expect("the past can be forgotten");
    store.compact(hot[4]).await.expect("what is forgotten already stays so");
    assert_eq!(*store.revisions().start(), removed);
    assert!(newest(store) >= last);
    match store.get(bytes("hot"), Some(made)).await {
        Err(ReadError::Compacted { asked, oldest }) => assert_eq!((asked, oldest), (made, removed)),
        other => panic!("what is forgotten is refused, not {other:?}"),
    }
    for early in [made, Revision(0)] {
        let watch = store.watch(Bytes::new(), early).await;
        assert!(matches!(watch, Err(ReadError::Compacted { .. })), "{watch:?}");
    }
    assert_eq!(get(store, "hot", Some(removed)).await.unwrap().value, bytes("10"));
    assert_eq!(page(store, "", None, 0, Some(removed)).await.0, ["hot=10"]);
    assert_eq!(page(store, "", None, 0, None).await.0, ["hot=13"]);
    let mut watch = store.watch(Bytes::new(), removed).await.unwrap();
    let batch = next_events(&mut watch).await;
    let Event::Put { entry, previous: Some(previous) } = &batch.events[0] else { panic!("{batch:?}") };
    assert_eq!((&entry.value, &previous.value), (&bytes("13"), &bytes("10")));
    let future = store.compact(Revision(FAR_AHEAD)).await;
    assert!(matches!(future, Err(ReadError::Future { .. })), "{future:?}");
}

async fn watches_miss_nothing(store: &impl Store) {
    // Revisions of the rounds; before the first, where the store began.
    let mut rounds = vec![newest(store)];
    for round in 1..=20 {
        rounds.push(write(store, vec![put("w/k", &round.to_string()), put("other", "x")]).await);
    }
    let mut early = store.watch(bytes("w/"), rounds[0]).await.unwrap();
    let mut middle = store.watch(bytes("w/"), rounds[10]).await.unwrap();
    let mut late = store.watch(bytes("w/"), rounds[20]).await.unwrap();
    for round in 21..=40 {
        rounds.push(write(store, vec![put("w/k", &round.to_string())]).await);
    }
    for (watch, from) in [(&mut early, 1), (&mut middle, 11), (&mut late, 21)] {
        for round in from..=40 {
            let batch = next_events(watch).await;
            assert_eq!((batch.revision, batch.events.len()), (rounds[round], 1));
            let Event::Put { entry, previous } = &batch.events[0] else { panic!("{batch:?}") };
            assert_eq!(entry.value, bytes(&round.to_string()));
            let before = (round > 1).then(|| rounds[round - 1]);
            assert_eq!(previous.as_ref().map(|p| p.mod_revision), before);
        }
    }
    let future = store.watch(Bytes::new(), Revision(FAR_AHEAD)).await;
    assert!(matches!(future, Err(ReadError::Future { .. })));
}

async fn watches_tell_progress(store: &impl Store) {
    let start = newest(store);
    let mut live = store.watch(bytes("quiet/"), start).await.unwrap();
    let mut last = start;
    for _ in 0..3 {
        last = write(store, vec![put("loud", "x")]).await;
    }
    // Whoever begins in the past is told without another write, too.
    let mut late = store.watch(bytes("quiet/"), start).await.unwrap();
    let earliest = *store.revisions().start();
    let mut first = store.watch(bytes("quiet/"), earliest).await.unwrap();
    for watch in [&mut live, &mut late, &mut first] {
        loop {
            let batch = next(watch).await.unwrap();
            assert!(batch.events.is_empty());
            if batch.revision >= last {
                break;
            }
        }
    }
}

async fn one_commit_is_one_batch(store: &impl Store) {
    let mut watch = store.watch(bytes("m/"), newest(store)).await.unwrap();
    let r1 = write(store, vec![put("m/1", "a"), put("x", "a"), put("m/2", "a")]).await;
    let r2 = write(store, vec![delete("m/1"), put("m/2", "b"), delete("m/none")]).await;
    let first = next_events(&mut watch).await;
    let keys: Vec<_> = first.events.iter().map(|e| e.key().clone()).collect();
    assert_eq!((first.revision, &keys[..]), (r1, &[bytes("m/1"), bytes("m/2")][..]));
    let second = next_events(&mut watch).await;
    let [Event::Delete { revision, previous }, Event::Put { .. }] = &second.events[..] else {
        panic!("{second:?}")
    };
    assert_eq!((second.revision, *revision, &previous.value), (r2, r2, &bytes("a")));
    // Many and large ones are not split either.
    let limits = store.limits();
    let value = Bytes::from(vec![7; limits.bytes_max / limits.steps_max - 64]);
    let large = |n| Write::Put(bytes(&format!("m/{n}")), value.clone());
    for _ in 0..2 {
        let written = write(store, (0..limits.steps_max).map(large).collect()).await;
        let batch = next_events(&mut watch).await;
        assert_eq!((batch.revision, batch.events.len()), (written, limits.steps_max));
    }
}

async fn slow_watchers_end(store: &impl Store) {
    let mut watch = store.watch(Bytes::new(), newest(store)).await.unwrap();
    let rounds = WATCH_QUEUE_MAX + 10;
    let mut revisions = Vec::new();
    for round in 0..rounds {
        revisions.push(write(store, vec![put("k", &round.to_string())]).await);
    }
    // Once one watcher has the last, it was told to all.
    let mut other = store.watch(Bytes::new(), revisions[rounds - 2]).await.unwrap();
    assert_eq!(next_events(&mut other).await.revision, revisions[rounds - 1]);
    // Beside the commits the queue may hold how far the store has come.
    let mut told = Vec::new();
    let end = loop {
        match next(&mut watch).await {
            Ok(batch) if batch.events.is_empty() => {}
            Ok(batch) => told.push(batch.revision),
            Err(end) => break end,
        }
    };
    assert!(matches!(end, WatchEnd::TooSlow { .. }));
    assert_eq!(told, revisions[..told.len()], "in order, and none missed before the end");
    assert!((WATCH_QUEUE_MAX / 2..=WATCH_QUEUE_MAX).contains(&told.len()), "{}", told.len());
    assert!(watch.batches.recv().await.is_none(), "nothing follows the end");
}

async fn long_histories_are_replayed(store: &impl Store) {
    let start = newest(store);
    let mut revisions = Vec::new();
    for round in 0..2 * WATCH_QUEUE_MAX {
        let key = if round % 2 == 0 { "even" } else { "odd" };
        revisions.push(write(store, vec![put(key, &round.to_string())]).await);
    }
    let mut all = store.watch(Bytes::new(), start).await.unwrap();
    let mut even = store.watch(bytes("even"), start).await.unwrap();
    for (round, revision) in revisions.iter().enumerate() {
        assert_eq!(next_events(&mut all).await.revision, *revision);
        if round % 2 == 0 {
            assert_eq!(next_events(&mut even).await.revision, *revision);
        }
    }
    let last = write(store, vec![put("odd", "last")]).await;
    assert_eq!(next_events(&mut all).await.revision, last, "after the history it is live");
    let last = write(store, vec![put("even", "last")]).await;
    assert_eq!(next_events(&mut even).await.revision, last);
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

/// Commits that come at once: each is taken or refused by itself and has a revision, at which the state can be read, and from
/// which can be watched.
async fn commits_at_once_are_commits_of_their_own(store: &impl Store) {
    const COMMITS: usize = 90;
    const ROUNDS: usize = 3;
    let start = newest(store);
    let (mut refused, mut last) = (0, start);
    for round in 0..ROUNDS {
        let commits = (0..COMMITS).map(|n| {
            // Some are made, some written again, some write what others do, and of some a check does not hold.
            let own = format!("s/own/{:03}", n + round);
            let writes = vec![put(&own, &format!("{round}-{n}")), put(&format!("s/shared/{}", n % 40), "v")];
            let checks = if n % 9 == 8 { vec![Check::Absent(bytes("s/shared/0"))] } else { vec![] };
            store.commit(Transaction { checks, writes })
        });
        for (n, answer) in join_all(commits).await.into_iter().enumerate() {
            match answer {
                Ok(revision) => {
                    assert!(n % 9 != 8 || round == 0, "{n} of round {round} is refused");
                    last = last.max(revision);
                }
                Err(CommitError::Conflict { key, .. }) => {
                    assert_eq!((n % 9, key), (8, bytes("s/shared/0")));
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(write(store, vec![]).await >= last, "what was acknowledged is there");
    assert!(refused >= (ROUNDS - 1) * COMMITS / 9, "{refused}");
    let told = told_of(store, start, ROUNDS * COMMITS - refused).await;
    let mut state = std::collections::BTreeMap::new();
    for (number, batch) in told.iter().enumerate() {
        assert_eq!(batch.events.len(), 2, "a batch is a commit");
        for event in batch.events.iter() {
            let Event::Put { entry, previous } = event else { panic!("{event:?}") };
            assert_eq!(state.insert(entry.key.clone(), entry.clone()), *previous);
        }
        let all: Vec<Entry> = state.values().cloned().collect();
        let request = |entries_max, after| ListRequest {
            prefix: bytes("s/"),
            after,
            entries_max,
            at: Some(batch.revision),
        };
        let page = store.list(request(0, None)).await.unwrap();
        assert_eq!((page.revision, &page.entries), (batch.revision, &all), "after {number} commits");
        let key = batch.events[0].key();
        assert_eq!(store.get(key.clone(), Some(batch.revision)).await.unwrap().as_ref(), state.get(key));
        if number % 10 == 0 {
            let page = store.list(request(7, Some(all[0].key.clone()))).await.unwrap();
            assert_eq!(page.entries, all[1..].iter().take(7).cloned().collect::<Vec<_>>());
            let rest = told_of(store, batch.revision, told.len() - number - 1).await;
            assert_eq!(rest, told[number + 1..], "who goes on from here misses nothing");
        }
    }
}

/// The next commits behind a revision.
async fn told_of(store: &impl Store, after: Revision, count: usize) -> Vec<Batch> {
    let mut watch = store.watch(Bytes::new(), after).await.unwrap();
    let mut told = Vec::new();
    while told.len() < count {
        told.push(next_events(&mut watch).await);
    }
    told
}

/// Writers of their own keys and of shared ones, while watchers begin, end and go on: each sees every commit once, in order,
/// with what was there before, and comes to the state that is there.
pub(crate) async fn writers_and_watchers_at_once(store: &impl Store) {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 60;
    let start = newest(store);
    let done = tokio::sync::watch::channel(0);
    let writer = async |number: usize| {
        let mut written = Vec::new();
        for round in 0..ROUNDS {
            let own = format!("r/{number}/{}", round % 5);
            let shared = format!("r/shared/{}", round % 3);
            let value = format!("{number}-{round}");
            let first = if round % 7 == 6 { delete(&own) } else { put(&own, &value) };
            written.push(write(store, vec![first, put(&shared, &value)]).await);
        }
        done.0.send_modify(|count| *count += 1);
        written
    };
    // Ends and goes on every so many batches, as one does that was too slow.
    let watcher = async |batches_max: usize| {
        let mut seen: Vec<Batch> = Vec::new();
        let mut done = done.1.clone();
        let mut reached = start;
        loop {
            let mut watch = store.watch(bytes("r/"), reached).await.expect("it can be watched");
            for _ in 0..batches_max {
                // All is written and all of it was seen: the newest is one of the writers'.
                if *done.borrow_and_update() == WRITERS && reached >= newest(store) {
                    return seen;
                }
                let batch = tokio::select! {
                    batch = next(&mut watch) => batch.expect("the watch goes on"),
                    _ = done.changed() => continue,
                };
                assert!(batch.revision > reached, "{} after {reached}", batch.revision);
                reached = batch.revision;
                if !batch.events.is_empty() {
                    seen.push(batch);
                }
            }
        }
    };
    let writers = async { tokio::join!(writer(0), writer(1), writer(2), writer(3)) };
    let watchers = async { tokio::join!(watcher(usize::MAX), watcher(25), watcher(3)) };
    let ((w0, w1, w2, w3), (s0, s1, s2)) = tokio::join!(writers, watchers);
    let mut written: Vec<Revision> = [w0, w1, w2, w3].concat();
    written.sort();
    for seen in [s0, s1, s2] {
        assert_eq!(seen.iter().map(|batch| batch.revision).collect::<Vec<_>>(), written);
        let mut state = std::collections::BTreeMap::new();
        for event in seen.iter().flat_map(|batch| batch.events.iter()) {
            let (before, now) = match event {
                Event::Put { entry, previous } => (previous.as_ref(), Some(entry.clone())),
                Event::Delete { previous, .. } => (Some(previous), None),
            };
            assert_eq!(state.get(event.key()), before, "what was there before is what was told last");
            match now {
                Some(entry) => state.insert(event.key().clone(), entry),
                None => state.remove(event.key()),
            };
        }
        let there = store.list(ListRequest { prefix: bytes("r/"), ..ListRequest::default() }).await.unwrap();
        assert_eq!(state.into_values().collect::<Vec<_>>(), there.entries);
    }
}
