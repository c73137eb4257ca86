//! Backups from each backend into each, and files that are none.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::embedded::{self, Embedded, OpenError};
use crate::etcd::{self, Etcd};
use crate::store::Entry;
use crate::testetcd;

async fn put(store: &dyn Store, key: &str, value: Vec<u8>) -> Revision {
    let writes = vec![Write::Put(key.to_owned().into(), value.into())];
    store.commit(Transaction { checks: Vec::new(), writes }).await.unwrap()
}

/// Keys of every length that matters, some written twice, one removed.
async fn fill(store: &dyn Store) {
    for number in 0..600 {
        put(store, &format!("o/small/{number:04}"), format!("value {number}").into_bytes()).await;
    }
    put(store, "o/small/0007", b"newer".to_vec()).await;
    put(store, "o/empty", Vec::new()).await;
    for number in 0..5 {
        put(store, &format!("o/large/{number}"), vec![number; 1_000_000]).await;
    }
    let writes = vec![Write::Delete("o/small/0009".into())];
    store.commit(Transaction { checks: Vec::new(), writes }).await.unwrap();
}

async fn taken(mut writer: Writer) -> Vec<u8> {
    let mut file = Vec::new();
    while let Some(piece) = writer.piece().await.unwrap() {
        file.extend_from_slice(&piece);
    }
    assert!(writer.piece().await.unwrap().is_none());
    file
}

async fn all(store: &dyn Store, at: Option<Revision>) -> Vec<(Bytes, Bytes)> {
    let request = ListRequest { prefix: Bytes::new(), after: None, entries_max: 10_000, at };
    let page = store.list(request).await.unwrap();
    page.entries.into_iter().map(|Entry { key, value, .. }| (key, value)).collect()
}

fn begun(dir: &Path, head: Head) -> Result<Embedded, OpenError> {
    let options =
        embedded::Options { begins: Some(head.beginning(SystemTime::now())), ..embedded::Options::default() };
    Embedded::open_with(dir.join("restored"), &options)
}

/// A backup that is taken while others write, put into a store that is made for it.
async fn goes_over<S: Store>(from: Arc<dyn Store>, begin: impl AsyncFnOnce(Head) -> S) {
    fill(&*from).await;
    let writer = Writer::new(from.clone());
    let head = writer.head();
    let wanted = all(&*from, Some(head.revision)).await;
    assert_eq!(wanted.len(), 605);
    let later = put(&*from, "o/later", b"not in it".to_vec()).await;
    let file = taken(writer).await;
    assert_eq!(verify(&file[..]).unwrap(), (head, 605));
    let store = begin(head).await;
    assert_eq!(restore(&file[..], &store).await.unwrap(), 605);
    assert_eq!(all(&store, None).await, wanted);
    let (old, new) = (from.identity(), store.identity());
    assert!(new.id == old.id && new.epoch > old.epoch, "the same cluster's, another history");
    assert!(*store.revisions().end() > later, "no revision goes back");
    for old in [head.revision, later] {
        let watch = store.watch(Bytes::new(), old).await;
        assert!(matches!(watch, Err(ReadError::Compacted { .. })), "{watch:?}");
    }
    let next = put(&store, "o/next", Vec::new()).await;
    assert!(next > later);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_from_file_to_file() {
    let dir = tempfile::tempdir().unwrap();
    let from = Arc::new(Embedded::open(dir.path().join("store")).unwrap());
    goes_over(from, async |head| {
        let store = begun(dir.path(), head).unwrap();
        assert!(put(&store, "o/x", Vec::new()).await > head.revision);
        drop(store);
        assert!(matches!(begun(dir.path(), head), Err(OpenError::NotNew)), "there is something in it");
        std::fs::remove_file(dir.path().join("restored")).unwrap();
        begun(dir.path(), head).unwrap()
    })
    .await;
    // What was restored is opened as any other.
    let again = Embedded::open(dir.path().join("restored")).unwrap();
    assert_eq!(all(&again, None).await.len(), 606);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_from_file_to_etcd_and_from_etcd_to_file() {
    let dir = tempfile::tempdir().unwrap();
    let server = testetcd::Server::start();
    let from = Arc::new(Embedded::open(dir.path().join("store")).unwrap());
    let options = |name: &str, begins| etcd::Options { begins, ..testetcd::options(server.port, name) };
    goes_over(from, async |head| {
        let store = Etcd::open(&options("restored", Some(head.beginning(SystemTime::now())))).await.unwrap();
        let taken = Etcd::open(&options("restored", Some(head.beginning(SystemTime::now())))).await;
        assert!(matches!(taken, Err(etcd::OpenError::NotNew)), "{taken:?}");
        store
    })
    .await;
    let again = Etcd::open(&options("restored", None)).await.unwrap();
    assert_eq!(all(&again, None).await.len(), 606);
    let other = Arc::new(Etcd::open(&options("other", None)).await.unwrap());
    goes_over(other, async |head| begun(dir.path(), head).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_does_not_take_is_told_and_the_store_is_not_whole() {
    let dir = tempfile::tempdir().unwrap();
    let from = Arc::new(Embedded::open(dir.path().join("store")).unwrap());
    put(&*from, "o/large", vec![1; 2_000_000]).await;
    let file = taken(Writer::new(from)).await;
    let server = testetcd::Server::start();
    let store = Etcd::open(&testetcd::options(server.port, "small")).await.unwrap();
    let refused = restore(&file[..], &store).await;
    assert!(matches!(refused, Err(RestoreError::TooLarge { bytes: 2_000_007, .. })), "{refused:?}");
    assert!(store.get(Bytes::from_static(UNFINISHED), None).await.unwrap().is_some());
    // Nor is another put into what is there.
    assert!(matches!(restore(&file[..], &store).await, Err(RestoreError::Commit(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_or_changed_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let from = Arc::new(Embedded::open(dir.path().join("store")).unwrap());
    for key in ["o/a", "o/b"] {
        put(&*from, key, b"value".to_vec()).await;
    }
    let file = taken(Writer::new(from)).await;
    assert_eq!(verify(&file[..]).unwrap().1, 2);
    for length in 0..file.len() {
        let told = verify(&file[..length]).unwrap_err();
        let wanted = if length < MAGIC.len() { "this is no backup" } else { "the backup is not whole" };
        assert!(told.to_string().starts_with(wanted), "{length}: {told}");
    }
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 1;
        assert!(verify(&changed[..]).is_err(), "byte {at}");
    }
    let longer = [&file[..], b"x"].concat();
    assert!(matches!(verify(&longer[..]), Err(BackupError::Damaged(_))));
    let mut newer = file;
    newer[MAGIC.len() + 3] = 2;
    let told = verify(&newer[..]).unwrap_err();
    assert_eq!(told.to_string(), "the backup has format 2, this build knows up to 1: use a newer build");
}

/// A file of which all is as its checksum says, and yet not as it should be.
#[test]
fn what_was_never_written_so_is_damage() {
    let file = |length: u32, entries: u64| {
        let mut file = [MAGIC, &FORMAT.to_be_bytes(), &[7; 16], &[0; 16]].concat();
        for part in [&1u32.to_be_bytes()[..], &length.to_be_bytes(), b"kv", &END.to_be_bytes()] {
            file.extend_from_slice(part);
        }
        file.extend_from_slice(&entries.to_be_bytes());
        let sum = Sha256::digest(&file);
        file.extend_from_slice(&sum);
        file
    };
    assert_eq!(verify(&file(1, 1)[..]).unwrap().1, 1);
    for entries in [0, 2] {
        let told = verify(&file(1, entries)[..]).unwrap_err();
        assert!(matches!(told, BackupError::Damaged("entries are missing")), "{entries}: {told}");
    }
    // What is longer than anything can be is not even read.
    for (length, read) in [(PART_BYTES_MAX, true), (PART_BYTES_MAX + 1, false)] {
        let told = verify(&file(length, 1)[..]).unwrap_err();
        assert_eq!(matches!(told, BackupError::Cut), read, "{length}: {told}");
        assert_eq!(matches!(told, BackupError::Damaged(_)), !read, "{length}: {told}");
    }
}

#[test]
fn a_restore_begins_where_no_history_was() {
    let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
    let head = |epoch, revision| Head {
        identity: StoreIdentity { id: [7; 16], epoch },
        revision: Revision(revision),
    };
    let first = head(1, 500).beginning(at(1_800_000_000_000));
    // The same backup, after an hour of a hundred thousand commits a second.
    let second = head(1, 500).beginning(at(1_800_003_600_000));
    assert!(
        second.revision.0 > first.revision.0 + 3_600 * 100_000
            && second.identity.epoch > first.identity.epoch
    );
    // One of what was restored, by a machine whose clock is wrong.
    let third = head(second.identity.epoch, second.revision.0 + 9).beginning(at(0));
    assert!(third.revision.0 > second.revision.0 + 9 && third.identity.epoch == second.identity.epoch + 1);
    assert!(third.revision.0 < 1 << 53, "JavaScript reads it");
}
