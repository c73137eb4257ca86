//! Formats: a store of the one before, as its build has written it (`fixtures/format-1.redb.gz`: of a `weft-control` with some
//! objects, ended by its service manager), is brought to this build's; a newer one is refused.

use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadableDatabase as _, ReadableTable as _};

use super::on;
use crate::disk::Disk as _;
use crate::embedded::{Embedded, OpenError, Options, table};
use crate::store::{ListRequest, Revision, Store as _};
use crate::testdisk::{Plan, TestDisk, Unsynced};

const FIRST: &[u8] = include_bytes!("../../../fixtures/format-1.redb.gz");
/// Of what is left by a cut in the middle of something, so many are looked at.
const SEEDS: u64 = 6;

/// A disk with a store of format 1.
fn first(plan: Plan) -> TestDisk {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(FIRST).read_to_end(&mut bytes).unwrap();
    let disk = TestDisk::new(Plan::steady());
    disk.write(0, &bytes).unwrap();
    disk.sync().unwrap();
    disk.restart(plan)
}

fn database(disk: &TestDisk) -> redb::Database {
    let backend = crate::disk::Backend { disk: Arc::new(disk.clone()), health: Arc::default(), aside: None };
    redb::Database::builder().create_with_backend(backend).unwrap()
}

/// All that is in the tables but what a format says of itself; and that.
#[derive(Debug, PartialEq, Eq)]
struct Rows {
    current: Vec<(Vec<u8>, Vec<u8>)>,
    history: Vec<(Vec<u8>, u64, Vec<u8>)>,
    log: Vec<(u64, u32, Vec<u8>)>,
    meta: Vec<(String, Vec<u8>)>,
}

fn rows(disk: &TestDisk) -> (Rows, Option<u64>, Option<String>) {
    let database = database(disk);
    let reader = database.begin_read().unwrap();
    let current = reader.open_table(table::CURRENT).unwrap();
    let history = reader.open_table(table::HISTORY).unwrap();
    let log = reader.open_table(table::LOG).unwrap();
    let meta = reader.open_table(table::META).unwrap();
    let mut rows = Rows {
        current: current
            .iter()
            .unwrap()
            .map(Result::unwrap)
            .map(|(k, v)| (k.value().into(), v.value().into()))
            .collect(),
        history: (history.iter().unwrap().map(Result::unwrap))
            .map(|(k, v)| (k.value().0.into(), k.value().1, v.value().into()))
            .collect(),
        log: log
            .iter()
            .unwrap()
            .map(Result::unwrap)
            .map(|(k, v)| (k.value().0, k.value().1, v.value().into()))
            .collect(),
        meta: meta
            .iter()
            .unwrap()
            .map(Result::unwrap)
            .map(|(k, v)| (k.value().into(), v.value().into()))
            .collect(),
    };
    let mut take = |name: &str| {
        let at = rows.meta.iter().position(|(of, _)| of == name)?;
        Some(rows.meta.remove(at).1)
    };
    let format = take("format").map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
    let build = take("build").map(|bytes| String::from_utf8(bytes).unwrap());
    (rows, format, build)
}

#[tokio::test]
async fn a_store_of_the_format_before_is_brought_to_this_one_and_served() {
    let disk = first(Plan::steady());
    let (before, format, build) = rows(&disk);
    assert_eq!((format, build), (Some(1), None));
    let store = on(&disk);
    let page =
        store.list(ListRequest { prefix: "o/core/configmaps/default/".into(), ..Default::default() }).await;
    let names = page.unwrap().entries.into_iter().map(|e| String::from_utf8(e.key.to_vec()).unwrap());
    let names: Vec<String> = names.map(|key| key.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["changed", "first", "kube-root-ca.crt"]);
    // As it was, and everything since.
    let changed = Bytes::from("o/core/configmaps/default/changed");
    let now = store.get(changed.clone(), None).await.unwrap().unwrap();
    let was = store.get(changed, Some(now.create_revision)).await.unwrap().unwrap();
    assert!(was.mod_revision < now.mod_revision && was.value != now.value);
    let (oldest, newest) = store.revisions().into_inner();
    let mut watch = store.watch(Bytes::new(), oldest).await.unwrap();
    for revision in oldest.0 + 1..=newest.0 {
        assert_eq!(watch.batches.recv().await.unwrap().unwrap().revision, Revision(revision));
    }
    drop(store);
    let (after, format, build) = rows(&disk);
    assert_eq!((format, build.as_deref()), (Some(table::FORMAT), Some(env!("CARGO_PKG_VERSION"))));
    assert_eq!(before, after, "what was stored is the same");

    let store = on(&disk.restart(Plan::steady()));
    assert_eq!(store.revisions(), oldest..=newest);
    let put = super::put("o/after", vec![1]);
    assert_eq!(store.commit(put).await.unwrap(), Revision(newest.0 + 1));
}

#[tokio::test]
async fn wherever_power_goes_in_a_migration_the_store_has_one_format_or_the_other() {
    let whole = first(Plan::steady());
    let (before, ..) = rows(&whole);
    let already = whole.operations();
    drop(on(&whole));
    let operations = whole.operations() - already;
    let mut found = [0, 0];
    for cut_at in 1..=operations {
        for (unsynced, seed) in
            (0..SEEDS).flat_map(|seed| [(Unsynced::Dropped, seed), (Unsynced::Scattered, seed)])
        {
            let disk = first(Plan { cut_at: Some(cut_at), unsynced, seed, ..Plan::steady() });
            drop(Embedded::open_on(Arc::new(disk.clone()), &Options::default()));
            let disk = disk.restart(Plan::steady());
            let (after, format, build) = rows(&disk);
            match (format, build) {
                (Some(1), None) => found[0] += 1,
                (Some(table::FORMAT), Some(_)) => found[1] += 1,
                mixed => panic!("{mixed:?} after a cut at {cut_at} of {operations}, {unsynced:?}, {seed}"),
            }
            assert_eq!(before, after, "after a cut at {cut_at} of {operations}, {unsynced:?}, {seed}");
            drop(on(&disk));
            assert_eq!(rows(&disk).1, Some(table::FORMAT), "it is brought to it after all");
        }
    }
    println!("of {operations} operations: {found:?} in the old and the new format");
    assert!(found.iter().all(|stores| *stores > 0), "{found:?}");
}

#[test]
fn a_newer_format_is_refused_and_its_build_named() {
    for (build, said) in [(Some("9.8.7"), "Weft 9.8.7"), (None, "a newer Weft")] {
        let disk = TestDisk::new(Plan::steady());
        drop(on(&disk));
        let database = database(&disk);
        let transaction = database.begin_write().unwrap();
        {
            let newer = (table::FORMAT + 1).to_be_bytes();
            let mut meta = transaction.open_table(table::META).unwrap();
            meta.insert("format", newer.as_slice()).unwrap();
            match build {
                Some(build) => meta.insert("build", build.as_bytes()).unwrap(),
                None => meta.remove("build").unwrap(),
            };
        }
        transaction.commit().unwrap();
        drop(database);
        let error = Embedded::open_on(Arc::new(disk.clone()), &Options::default()).unwrap_err();
        assert!(
            matches!(&error, OpenError::Newer { format, .. } if *format == table::FORMAT + 1),
            "{error:?}"
        );
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(rows(&disk).1, Some(table::FORMAT + 1), "it is left alone");
    }
}

#[test]
fn a_new_store_says_what_made_it() {
    let disk = TestDisk::new(Plan::steady());
    drop(on(&disk));
    let (_, format, build) = rows(&disk);
    assert_eq!((format, build.as_deref()), (Some(table::FORMAT), Some(env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_format_that_never_was_is_damage() {
    let disk = TestDisk::new(Plan::steady());
    drop(on(&disk));
    let database = database(&disk);
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table::META).unwrap().insert("format", [0; 8].as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let opened = Embedded::open_on(Arc::new(disk), &Options::default());
    assert!(matches!(opened, Err(OpenError::Engine(_))), "{opened:?}");
}
