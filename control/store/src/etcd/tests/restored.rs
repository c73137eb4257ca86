//! An etcd that is restored from a backup, or emptied, underneath running stores.

use super::*;
use crate::testetcd::options_of;

/// Reads a watch to its end; what it told before.
async fn to_the_end(watch: &mut Watch) -> (Vec<Batch>, WatchEnd) {
    let mut told = Vec::new();
    loop {
        match next(watch).await {
            Ok(batch) if batch.events.is_empty() => {}
            Ok(batch) => told.push(batch),
            Err(end) => return (told, end),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_etcd_begins_the_next_epoch_and_no_revision_goes_back() {
    let mut server = Server::start();
    let store = server.open("a").await;
    let second = server.open("a").await;
    let before = store.identity();
    let kept = commit(&store, put("kept", "1")).await;
    server.back_up();
    let mut lost = kept;
    for n in 0..20 {
        lost = commit(&store, put("lost", &n.to_string())).await;
    }
    until("the second sees it", async || *second.revisions().end() >= lost).await;
    let mut watches = Vec::new();
    for store in [&store, &second] {
        watches.push(store.watch(Bytes::new(), lost).await.unwrap());
    }
    server.restore();
    for watch in &mut watches {
        assert_eq!(to_the_end(watch).await, (vec![], WatchEnd::Restored));
    }
    for store in [&store, &second] {
        out_of_trouble(store).await;
        let is_next = async || store.identity().epoch == before.epoch + 1;
        until("the next epoch begins, and only one", is_next).await;
        assert_eq!(store.identity().id, before.id);
        let (oldest, newest) = store.revisions().into_inner();
        assert!(oldest > lost && newest >= oldest, "{oldest}..={newest} behind {lost}");
        for early in [kept, lost] {
            let watch = store.watch(Bytes::new(), early).await;
            assert!(matches!(watch, Err(ReadError::Compacted { .. })), "{watch:?}");
            let read = store.get(key("kept"), Some(early)).await;
            assert!(matches!(read, Err(ReadError::Compacted { .. })), "{read:?}");
        }
        assert_eq!(store.get(key("lost"), None).await.unwrap(), None);
        let entry = store.get(key("kept"), None).await.unwrap().unwrap();
        assert!(entry.mod_revision > lost, "a version of the lost history is no version of this one");
        // Whoever writes by what the lost history said is told.
        for revision in [kept, lost] {
            let checks = vec![Check::Unchanged(key("kept"), revision)];
            let answer = store.commit(Transaction { checks, ..put("kept", "wrong") }).await;
            assert!(matches!(answer, Err(CommitError::Conflict { current: Some(_), .. })), "{answer:?}");
        }
        let checks = vec![Check::Unchanged(key("kept"), entry.mod_revision)];
        let mut watch = store.watch(Bytes::new(), newest).await.unwrap();
        let written = store.commit(Transaction { checks, ..put("kept", "2") }).await.unwrap();
        assert!(written > newest);
        // What the other has written meanwhile may come before.
        let mut told = newest;
        while told < written {
            told = next_events(&mut watch).await.revision;
        }
        assert_eq!(told, written);
    }
    assert_eq!(store.identity(), second.identity());
}

/// Restored while the store does not see it, and written to by others past where the store was.
async fn restored_behind_its_back(
    server: &mut Server,
    proxy: &Proxy,
    store: &Etcd,
    others: impl AsyncFn(&Server),
) {
    proxy.refuse(true);
    proxy.break_all();
    in_trouble(store, "").await;
    server.restore();
    others(server).await;
    proxy.refuse(false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_etcd_that_others_wrote_to_is_found_out_by_the_commit_that_is_missing() {
    let mut server = Server::start();
    let proxy = Proxy::start(server.port, Duration::ZERO).await;
    let store = Etcd::open(&options(proxy.port, "a")).await.unwrap();
    let before = store.identity();
    let remove = |key| Transaction { checks: vec![], writes: vec![Write::Delete(key)] };
    commit(&store, put("k", "1")).await;
    server.back_up();
    // The last that is seen is a write, and the removal of what the backup does not have.
    for (epoch, removes) in [(1, false), (2, true)] {
        let mut lost = commit(&store, put("k", "2")).await;
        if removes {
            commit(&store, put("new", "")).await;
            lost = commit(&store, remove(key("new"))).await;
        }
        let mut watch = store.watch(Bytes::new(), Revision(lost.0 - 1)).await.unwrap();
        assert_eq!(next_events(&mut watch).await.revision, lost);
        restored_behind_its_back(&mut server, &proxy, &store, others_write).await;
        assert_eq!(to_the_end(&mut watch).await, (vec![], WatchEnd::Restored));
        out_of_trouble(&store).await;
        assert_eq!(store.identity().epoch, before.epoch + epoch);
        assert_eq!(store.get(key("k"), None).await.unwrap().unwrap().value, "1");
        assert!(*store.revisions().end() > lost);
        server.back_up();
    }
}

/// Writes past where the store was.
async fn others_write(server: &Server) {
    for n in 0..20 {
        server.ctl(&["put", "foreign", &n.to_string()]);
    }
}

/// Tries to write all along, until it is; at once, and whatever is answered.
async fn commit_soon(store: &Etcd) -> Revision {
    let begun = Instant::now();
    loop {
        if let Ok(revision) = store.commit(put("k", "soon")).await {
            return revision;
        }
        assert!(begun.elapsed() < WAIT, "it takes writes again");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_commit_gets_into_a_restored_etcd_before_it_is_found_out() {
    let mut server = Server::start();
    let proxy = Proxy::start(server.port, Duration::ZERO).await;
    let store = Etcd::open(&options(proxy.port, "a")).await.unwrap();
    commit(&store, put("k", "1")).await;
    server.back_up();
    let lost = commit(&store, put("lost", "")).await;
    let mut watch = store.watch(Bytes::new(), lost).await.unwrap();
    // The watch is late, so that it is not what finds it out.
    proxy.refuse_watches(true);
    restored_behind_its_back(&mut server, &proxy, &store, others_write).await;
    let written = commit_soon(&store).await;
    assert!(written.0 > lost.0 + (1 << 20), "{written} is of the next epoch, and {lost} of the one before");
    assert_eq!(store.identity().epoch, 1);
    assert_eq!(to_the_end(&mut watch).await, (vec![], WatchEnd::Restored));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_gets_into_a_restored_etcd_hides_it_from_nobody() {
    let mut server = Server::start();
    let proxy = Proxy::start(server.port, Duration::ZERO).await;
    let store = Etcd::open(&options(proxy.port, "a")).await.unwrap();
    commit(&store, put("k", "1")).await;
    server.back_up();
    let lost = commit(&store, put("lost", "")).await;
    let mut watch = store.watch(Bytes::new(), Revision(lost.0 - 1)).await.unwrap();
    assert_eq!(next_events(&mut watch).await.revision, lost);
    // The next look comes too late: as if the restore and the commit lay between two of them.
    store.tasks[1].abort();
    proxy.refuse_watches(true);
    server.restore();
    others_write(&server).await;
    let written = commit_soon(&store).await;
    assert!(written > lost && store.identity().epoch == 0, "it is not found out yet");
    proxy.refuse_watches(false);
    assert_eq!(to_the_end(&mut watch).await, (vec![], WatchEnd::Restored));
    assert_eq!(store.identity().epoch, 1);
    assert_eq!(store.get(key("lost"), None).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mark_of_another_history_is_not_the_one_that_was_seen() {
    let mut server = Server::start();
    let proxy = Proxy::start(server.port, Duration::ZERO).await;
    let store = Etcd::open(&options(proxy.port, "a")).await.unwrap();
    let newest = commit(&store, put("k", "1")).await;
    server.back_up();
    let lost = commit(&store, put("k", "2")).await;
    // Opening a store writes the mark.
    let marked = *server.open("a").await.revisions().end();
    assert_eq!((lost.0, marked.0), (newest.0 + 64, newest.0 + 64 + 127), "no commit is between them");
    until("the mark is seen", async || store.link.hub.newest() == marked).await;
    let mut watch = store.watch(Bytes::new(), marked).await.unwrap();
    restored_behind_its_back(&mut server, &proxy, &store, async |server| {
        server.ctl(&["put", "foreign", ""]);
        assert_eq!(*server.open("a").await.revisions().end(), marked);
    })
    .await;
    assert_eq!(to_the_end(&mut watch).await, (vec![], WatchEnd::Restored));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_the_past_of_a_restored_etcd_is_told_nothing_of_the_other_history() {
    // etcd tells a thousand at once. The third time is more than can be on its way.
    const COMMITS: usize = 2600;
    let many = async |store: &Etcd, key: &str, value: &str| {
        for _ in 0..COMMITS.div_ceil(64) {
            futures_util::future::join_all((0..64).map(|_| commit(store, put(key, value)))).await;
        }
    };
    let mut server = Server::start();
    let first = server.open("a").await;
    let start = commit(&first, put("k", "1")).await;
    server.back_up();
    many(&first, "right", &"x".repeat(4096)).await;
    drop(first);
    let proxy = Proxy::start(server.port, Duration::ZERO).await;
    let store = Etcd::open(&options(proxy.port, "a")).await.unwrap();
    // Older than what is in memory, and more than its queue holds: it is read from etcd while it is taken.
    let mut watch = store.watch(Bytes::new(), start).await.unwrap();
    until("the queue is full", async || watch.batches.capacity() <= 2).await;
    restored_behind_its_back(&mut server, &proxy, &store, async |server| {
        let other = server.open("a").await;
        many(&other, "wrong", "").await;
        many(&other, "wrong", "").await;
    })
    .await;
    let (told, end) = to_the_end(&mut watch).await;
    let wrong =
        told.iter().flat_map(|batch| batch.events.iter()).filter(|event| event.key() == "wrong").count();
    assert_eq!((wrong, end), (0, WatchEnd::Restored));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_from_before_the_last_restore_is_yet_another_epoch() {
    let mut server = Server::start();
    let store = server.open("a").await;
    commit(&store, put("k", "1")).await;
    server.back_up();
    for epoch in 1..=2 {
        let lost = commit(&store, put("k", "lost")).await;
        server.restore();
        until("the next epoch begins", async || store.identity().epoch == epoch).await;
        out_of_trouble(&store).await;
        assert!(*store.revisions().start() > lost);
        assert_eq!(store.get(key("k"), None).await.unwrap().unwrap().value, "1");
    }
    let (identity, newest) = (store.identity(), *store.revisions().end());
    drop(store);
    let store = server.open("a").await;
    assert_eq!(store.identity(), identity, "it stands in etcd");
    assert!(*store.revisions().end() >= newest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_left_behind_tells_nothing_of_the_past() {
    let mut old = Server::start_members::<2>();
    let proxy = Proxy::start(old[0].port, Duration::ZERO).await;
    let store = Etcd::open(&options_of(&[proxy.port, old[1].port], "a")).await.unwrap();
    commit(&store, put("k", "1")).await;
    old[0].back_up();
    for n in 0..60 {
        commit(&store, put("lost", &n.to_string())).await;
    }
    // One is restored, and the other runs on: alone it answers only what is asked of it alone.
    old[0].kill();
    let restored = old[0].restored_elsewhere();
    proxy.lead_to(restored.port);
    proxy.break_all();
    until("the next epoch begins", async || store.identity().epoch == 1).await;
    out_of_trouble(&store).await;
    let mut at = commit_at_last(&store, "k", "2").await;
    for _ in 0..5 {
        at = commit_at_last(&store, "k", "3").await;
    }
    assert_eq!(store.get(key("lost"), Some(at)).await.unwrap(), None);
    proxy.refuse(true);
    proxy.break_all();
    in_trouble(&store, "").await;
    let read = store.get(key("lost"), Some(at)).await;
    assert!(matches!(read, Err(ReadError::Engine(_))), "{read:?}");
    proxy.refuse(false);
    out_of_trouble(&store).await;
    assert_eq!(store.get(key("lost"), Some(at)).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_etcd_is_not_taken_for_the_cluster() {
    let mut server = Server::start();
    let store = server.open("a").await;
    let identity = store.identity();
    let last = commit(&store, put("k", "1")).await;
    server.back_up();
    let mut watch = store.watch(Bytes::new(), last).await.unwrap();
    server.empty();
    in_trouble(&store, "holds nothing of this cluster").await;
    let error = store.commit(put("k", "2")).await.unwrap_err();
    assert!(matches!(error, CommitError::Unavailable(_)), "{error:?}");
    let read = store.get(key("k"), None).await;
    assert!(matches!(read, Err(ReadError::Engine(_))), "nothing is no answer: {read:?}");
    // Nor is what somebody else begins there.
    let other = server.open("a").await;
    commit(&other, put("k", "other")).await;
    in_trouble(&store, "holds another store").await;
    assert!(store.get(key("k"), None).await.is_err());
    assert_eq!(store.identity(), identity);
    let etcds = |revision| store.link.record().etcd(revision);
    assert_eq!(etcds(*store.revisions().end()), etcds(last), "and nothing was written");
    // Nobody was told that anything is gone, and a backup mends it.
    server.restore();
    out_of_trouble(&store).await;
    assert_eq!(store.get(key("k"), None).await.unwrap().unwrap().value, "1");
    assert_eq!(store.identity().id, identity.id);
    let (told, _) = tokio::join!(
        async {
            loop {
                match next(&mut watch).await {
                    Ok(batch) if batch.events.is_empty() => {}
                    other => break other.map(|batch| batch.events.len()),
                }
            }
        },
        commit(&store, put("k", "3"))
    );
    assert!(matches!(told, Ok(1) | Err(WatchEnd::Restored)), "{told:?}");
}

/// A store that has not noticed anything, on an etcd that was restored and in which another has begun the next epoch.
async fn left_behind(server: &mut Server) -> Etcd {
    let (store, other) = (server.open("a").await, server.open("a").await);
    commit(&store, put("k", "1")).await;
    server.back_up();
    let lost = commit(&store, put("k", "2")).await;
    until("the other sees it", async || *other.revisions().end() >= lost).await;
    for task in &store.tasks {
        task.abort();
    }
    server.restore();
    until("the next epoch begins", async || other.identity().epoch == 1).await;
    // Its connection is known to have ended.
    until("it is connected again", async || store.get(key("k"), None).await.is_ok()).await;
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_left_behind_writes_no_mark_and_begins_nowhere() {
    let mut server = Server::start();
    let store = left_behind(&mut server).await;
    let mark_mod = || {
        let mark = server.ctl(&["get", "/weft/a/mark", "--write-out=json"]);
        mark.split("mod_revision\":").nth(1).unwrap().split(',').next().unwrap().to_owned()
    };
    let (written, newest) = (mark_mod(), store.link.hub.newest());
    assert!(store.link.mark(&store.link.known()).await.is_err());
    assert!(store.link.skip(0).await.is_err());
    assert_eq!((mark_mod(), store.link.hub.newest()), (written, newest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_left_behind_is_told_no_conflict_of_another_history() {
    let mut server = Server::start();
    let store = left_behind(&mut server).await;
    let checks = vec![Check::Absent(key("k"))];
    let answer = store.commit(Transaction { checks, ..put("k", "3") }).await;
    assert!(matches!(answer, Err(CommitError::Unavailable(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_there_and_is_not_yet_raises_a_doubt() {
    let mut server = Server::start();
    let store = server.open("a").await;
    commit(&store, put("k", "1")).await;
    server.back_up();
    let lost = commit(&store, put("k", "2")).await;
    for task in &store.tasks {
        task.abort();
    }
    server.restore();
    let read = async || store.get(key("k"), Some(lost)).await;
    until("it is connected again", async || matches!(read().await, Err(ReadError::Future { .. }))).await;
    // What the broken connection has raised is taken.
    let doubts = async || tokio::time::timeout(Duration::ZERO, store.link.doubt.notified()).await.is_ok();
    while doubts().await {}
    assert!(matches!(read().await, Err(ReadError::Future { .. })));
    assert!(doubts().await);
    let never = store.get(key("k"), Some(Revision(lost.0 + 1000))).await;
    assert!(matches!(never, Err(ReadError::Future { .. })), "{never:?}");
    assert!(!doubts().await, "who asks for what never was is no sign");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_epoch_is_above_what_a_list_was_told() {
    let mut server = Server::start();
    let store = server.open("a").await;
    let ours = commit(&store, put("k", "1")).await;
    server.back_up();
    for _ in 0..2 {
        others_write(&server).await;
    }
    let told = store.list(ListRequest::default()).await.unwrap().revision;
    assert!(told.0 >= ours.0 + 40);
    server.restore();
    until("the next epoch begins", async || store.identity().epoch == 1).await;
    let oldest = *store.revisions().start();
    assert!(oldest.0 > told.0 + (1 << 20), "{oldest} is as far above {told} as an epoch wants");
}
