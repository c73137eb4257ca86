//! The embedded store: the contract, restarts, damage, a full disk, and power cuts.

mod format;
mod power;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Embedded, OpenError, Options, table};
use crate::contract::keeps_contract;
use crate::disk::{Disk as _, DiskError};
use crate::store::{CommitError, Event, Revision, Store, Transaction, Write};
use crate::testdisk::{Plan, TestDisk};

fn on(disk: &TestDisk) -> Embedded {
    Embedded::open_on(Arc::new(disk.clone()), &Options::default()).expect("the store opens")
}

fn put(key: &str, value: Vec<u8>) -> Transaction {
    Transaction { checks: vec![], writes: vec![Write::Put(Bytes::from(key.to_owned()), Bytes::from(value))] }
}

#[tokio::test]
async fn it_keeps_the_contract_in_memory() {
    keeps_contract(async || on(&TestDisk::new(Plan::steady()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract_on_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    keeps_contract(async || {
        count.set(count.get() + 1);
        Embedded::open(directory.path().join(format!("{}.store", count.get()))).unwrap()
    })
    .await;
}

#[tokio::test]
async fn a_restart_keeps_everything_and_its_identity() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let store = Embedded::open(&path).unwrap();
    let identity = store.identity();
    for round in 1..=10u8 {
        store.commit(put("k", vec![round])).await.unwrap();
    }
    store.compact(Revision(4)).await.unwrap();
    let again = Embedded::open(&path);
    assert!(matches!(again, Err(OpenError::Disk(DiskError::InUse { .. }))), "one process at a time");
    drop(store);

    let store = Embedded::open(&path).unwrap();
    assert_eq!(store.identity(), identity);
    assert_eq!(store.revisions(), Revision(4)..=Revision(10));
    let mut watch = store.watch(Bytes::new(), Revision(7)).await.unwrap();
    for round in 8..=10u8 {
        let batch = watch.batches.recv().await.unwrap().unwrap();
        let Event::Put { entry, .. } = &batch.events[0] else { panic!() };
        assert_eq!((batch.revision, &entry.value[..]), (Revision(round.into()), &[round][..]));
    }
}

/// Group commit: what waits for the disk together is synced together.
#[tokio::test]
async fn many_commits_at_once_share_their_syncs() {
    // As many as are handed over in one turn.
    const COMMITS: usize = 100;
    let disk = TestDisk::new(Plan::steady());
    let store = on(&disk);
    let before = disk.syncs();
    store.commit(put("alone", vec![0])).await.unwrap();
    let of_one = disk.syncs() - before;
    assert!(of_one > 0);

    let before = disk.syncs();
    disk.hold_syncs(true);
    let keys: Vec<String> = (0..COMMITS).map(|n| format!("k{n}")).collect();
    let commits = keys.iter().map(|key| store.commit(put(key, vec![1])));
    let mut all = Box::pin(futures_util::future::join_all(commits));
    // Each of them is handed over when it is first asked for its answer, and none is answered before its sync.
    assert!(futures_util::future::poll_immediate(&mut all).await.is_none());
    disk.hold_syncs(false);
    let revisions = all.await;
    let mut revisions: Vec<u64> = revisions.into_iter().map(|revision| revision.unwrap().0).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), COMMITS, "each is a revision of its own");
    // Those that came before the first was held up, and all others.
    let syncs = disk.syncs() - before;
    assert!(syncs <= 2 * of_one, "{syncs} syncs for {COMMITS} commits, {of_one} for one");
}

#[tokio::test]
async fn closing_ends_the_watches() {
    let store = on(&TestDisk::new(Plan::steady()));
    let mut watch = store.watch(Bytes::new(), Revision(0)).await.unwrap();
    drop(store);
    assert_eq!(watch.batches.recv().await, Some(Err(crate::WatchEnd::Closed)));
    assert_eq!(watch.batches.recv().await, None);
}

#[test]
fn a_foreign_file_is_an_error() {
    let disk = TestDisk::new(Plan::steady());
    disk.write(0, &[0x5a; 70_000]).unwrap();
    assert!(matches!(Embedded::open_on(Arc::new(disk), &Options::default()), Err(OpenError::Engine(_))));
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_recovers() {
    let disk = TestDisk::new(Plan::steady());
    let store = on(&disk);
    let first = store.commit(put("before", vec![1; 100])).await.unwrap();
    let mut watch = store.watch(Bytes::new(), first).await.unwrap();
    disk.set_len_bytes_max(Some(disk.len_bytes().unwrap()));
    let mut written = 0u32;
    let error = loop {
        match store.commit(put(&format!("fill/{written}"), vec![7; 256 << 10])).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "the disk must be full at some time");
    };
    assert!(matches!(error, CommitError::Full(_)), "{error:?}");
    assert!(store.trouble().unwrap().contains("space"), "{:?}", store.trouble());
    let entry = store.get(Bytes::from("before"), None).await.expect("reads go on");
    assert_eq!(entry.unwrap().value.len(), 100);
    assert_eq!(*store.revisions().end(), Revision(first.0 + u64::from(written)), "nothing half written");

    disk.set_len_bytes_max(None);
    out_of_trouble(&store).await;
    let after = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Ok(revision) = store.commit(put("after", vec![1])).await {
                return revision;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the store writes again");
    assert_eq!(after, Revision(first.0 + u64::from(written) + 1));
    for revision in first.0 + 1..=after.0 {
        assert_eq!(watch.batches.recv().await.unwrap().unwrap().revision, Revision(revision));
    }
}

/// Waits until a store takes writes again, by its own account, and nobody writes.
async fn out_of_trouble(store: &Embedded) {
    let over = async {
        while store.trouble().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), over).await.expect("the store takes writes again");
}

#[tokio::test]
async fn a_disk_that_may_only_be_read_refuses_writes_is_read_and_recovers_by_itself() {
    let disk = TestDisk::new(Plan::steady());
    let store = on(&disk);
    let first = store.commit(put("k", vec![1])).await.unwrap();
    store.commit(put("k", vec![2])).await.unwrap();
    let mut watch = store.watch(Bytes::new(), Revision(0)).await.unwrap();
    disk.set_read_only(true);
    let operations = disk.operations();
    for _ in 0..3 {
        let error = store.commit(put("k", vec![3])).await.unwrap_err();
        assert!(matches!(error, CommitError::Unavailable(_)), "{error:?}");
        assert!(store.trouble().unwrap().contains("read-only"), "{:?}", store.trouble());
        for (at, value) in [(None, 2), (Some(first), 1)] {
            assert_eq!(store.get(Bytes::from("k"), at).await.unwrap().unwrap().value[..], [value]);
        }
        let page = store.list(crate::ListRequest { at: Some(first), ..Default::default() }).await.unwrap();
        assert_eq!((page.entries.len(), page.revision), (1, first));
        let mut late = store.watch(Bytes::new(), Revision(0)).await.unwrap();
        assert_eq!(late.batches.recv().await.unwrap().unwrap().revision, first);
        assert!(store.compact(Revision(2)).await.is_err(), "it would not be on the disk");
        assert_eq!(store.revisions(), Revision(0)..=Revision(2));
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert!(disk.operations() - operations < 40, "it is not tried all the time");

    disk.set_read_only(false);
    out_of_trouble(&store).await;
    assert_eq!(store.commit(put("k", vec![3])).await.unwrap(), Revision(3));
    for revision in 1..=3 {
        assert_eq!(watch.batches.recv().await.unwrap().unwrap().revision, Revision(revision));
    }
    let restarted = on(&disk.restart(Plan::steady()));
    assert_eq!(restarted.get(Bytes::from("k"), None).await.unwrap().unwrap().value[..], [3]);
}

#[tokio::test]
async fn a_sync_that_fails_takes_nothing_with_it_that_was_acknowledged_before_or_after() {
    for failing in 1..=3 {
        let disk = TestDisk::new(Plan::steady());
        let store = on(&disk);
        let mut watch = store.watch(Bytes::new(), Revision(0)).await.unwrap();
        for value in 1..=5 {
            store.commit(put("before", vec![value; 9_000])).await.unwrap();
        }
        disk.fail_syncs(failing);
        let error = store.commit(put("lost", vec![9; 9_000])).await.unwrap_err();
        assert!(matches!(error, CommitError::Uncertain(_)), "{error:?}");
        assert!(store.trouble().is_some());
        out_of_trouble(&store).await;
        let newest = *store.revisions().end();
        assert_eq!(store.get(Bytes::from("lost"), None).await.unwrap().is_some(), newest == Revision(6));
        assert_eq!(store.commit(put("after", vec![7; 9_000])).await.unwrap(), Revision(newest.0 + 1));
        for revision in 1..=newest.0 + 1 {
            assert_eq!(watch.batches.recv().await.unwrap().unwrap().revision, Revision(revision));
        }
        let restarted = on(&disk.restart(Plan::steady()));
        for (key, value) in [("before", 5), ("after", 7)] {
            let entry = restarted.get(Bytes::from(key), None).await.unwrap().expect("it was acknowledged");
            assert_eq!(entry.value[..], [value; 9_000]);
        }
    }
}

#[tokio::test]
async fn what_only_memory_has_is_shown_to_nobody() {
    let disk = TestDisk::new(Plan::steady());
    let store = on(&disk);
    store.commit(put("k", vec![1])).await.unwrap();
    let mut watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
    disk.refuse_syncs(true);
    let error = store.commit(put("k", vec![2])).await.unwrap_err();
    assert!(matches!(error, CommitError::Uncertain(_)), "{error:?}");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(*store.revisions().end(), Revision(1));
    let read = store.get(Bytes::from("k"), None).await;
    assert!(read.as_ref().is_ok_and(|e| e.as_ref().is_some_and(|e| e.value[..] == [1])) || read.is_err());
    assert!(watch.batches.try_recv().is_err());
    // Power goes: it never was.
    let restarted = on(&disk.restart(Plan::steady()));
    assert_eq!(restarted.get(Bytes::from("k"), None).await.unwrap().unwrap().value[..], [1]);
    assert_eq!(restarted.commit(put("k", vec![3])).await.unwrap(), Revision(2));

    // Or it is there for good after all, and everybody sees it, once.
    let disk = TestDisk::new(Plan::steady());
    let store = on(&disk);
    store.commit(put("k", vec![1])).await.unwrap();
    let mut watch = store.watch(Bytes::new(), Revision(1)).await.unwrap();
    disk.refuse_syncs(true);
    store.commit(put("k", vec![2])).await.unwrap_err();
    disk.refuse_syncs(false);
    out_of_trouble(&store).await;
    assert_eq!(store.get(Bytes::from("k"), None).await.unwrap().unwrap().value[..], [2]);
    assert_eq!(store.commit(put("k", vec![3])).await.unwrap(), Revision(3));
    for revision in [2, 3] {
        assert_eq!(watch.batches.recv().await.unwrap().unwrap().revision, Revision(revision));
    }
}

#[tokio::test]
async fn a_read_that_fails_is_read_again_and_nobody_need_write_for_that() {
    let disk = TestDisk::new(Plan::steady());
    let options = Options { cache_bytes: 4_096, ..Options::default() };
    let store = Embedded::open_on(Arc::new(disk.clone()), &options).expect("the store opens");
    for n in 0..50 {
        store.commit(put(&format!("k{n}"), vec![n; 9_000])).await.unwrap();
    }
    disk.fail_reads(1);
    let page = store.list(crate::ListRequest::default()).await.expect("it is read again");
    assert_eq!(page.entries.len(), 50);
    out_of_trouble(&store).await;
    assert_eq!(store.commit(put("k", vec![1])).await.unwrap(), Revision(51));
}

#[tokio::test]
async fn a_disk_that_has_lost_what_it_confirmed_is_not_written_and_no_revision_goes_back() {
    let disk = TestDisk::new(Plan::steady());
    let store = on(&disk);
    for value in 1..=3 {
        disk.set_sync_works(value < 3);
        store.commit(put("k", vec![value])).await.unwrap();
    }
    disk.fail_syncs(1);
    store.commit(put("k", vec![4])).await.unwrap_err();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let error = store.commit(put("k", vec![5])).await.unwrap_err();
        assert!(matches!(error, CommitError::Unavailable(_)), "{error:?}");
    }
    assert!(store.trouble().is_some());
    assert_eq!(*store.revisions().end(), Revision(3));
}

#[tokio::test]
async fn after_a_failed_disk_every_write_is_an_error_and_nothing_panics() {
    let disk = TestDisk::new(Plan::steady());
    let store = on(&disk);
    store.commit(put("k", vec![1])).await.unwrap();
    disk.cut();
    let error = store.commit(put("k", vec![2])).await.unwrap_err();
    assert!(matches!(error, CommitError::Uncertain(_)), "{error:?}");
    for _ in 0..2 {
        let error = store.commit(put("k", vec![2])).await.unwrap_err();
        assert!(matches!(error, CommitError::Unavailable(_)), "{error:?}");
    }
    assert_eq!(*store.revisions().end(), Revision(1));
    assert!(store.compact(Revision(1)).await.is_err());
}

#[tokio::test]
async fn a_long_compaction_frees_its_rows_and_lets_writers_through() {
    let store = on(&TestDisk::new(Plan::steady()));
    for chunk in 0..30 {
        let writes = (0..200).map(|i| Write::Put(Bytes::from(format!("k{i}")), Bytes::from(vec![chunk; 20])));
        store.commit(Transaction { checks: vec![], writes: writes.collect() }).await.unwrap();
    }
    let (compacted, written) = tokio::join!(store.compact(Revision(29)), store.commit(put("x", vec![])));
    compacted.unwrap();
    written.unwrap();
    // The next write waits for the steps that are left only one at a time; the rows go soon.
    for _ in 0..200 {
        let database = store.engine.database().unwrap();
        use redb::{ReadableDatabase, ReadableTableMetadata};
        let reader = database.begin_read().unwrap();
        let rows = reader.open_table(table::HISTORY).unwrap().len().unwrap();
        if rows == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the history still holds what nobody can read");
}
