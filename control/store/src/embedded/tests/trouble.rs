//! A disk that goes from one trouble into the next and out of it again, with writers, readers and watchers all the while, and
//! nobody opens the store anew. `WEFT_TEST_SEED` repeats a run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::power::{Acknowledged, Life, Tale, WAIT, WATCHERS, follow, seed, transaction, verify};
use super::{on, out_of_trouble, put};
use crate::disk::Disk as _;
use crate::embedded::Embedded;
use crate::store::{CommitError, Event, ListRequest, Revision, Store, Transaction, Write};
use crate::testdisk::{Choices, Plan, TestDisk};

const WRITERS: u64 = 4;
const READERS: u64 = 2;
/// How often each trouble comes.
const ROUNDS: u64 = 3;
/// Writes that are answered well between two troubles, and that are answered badly within one, at least.
const ANSWERS_MIN: u64 = 20;

/// What becomes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// EROFS.
    ReadOnly,
    /// ENOSPC.
    Full,
    /// EIO, and a part of what was to be written is there.
    WritesFail,
    /// EIO once, and what was to be synced is lost.
    SyncLoses,
    /// EIO as long as it lasts, and what was written is seen.
    SyncsFail,
    /// EIO of reads.
    ReadsFail,
}

const TROUBLES: [Trouble; 6] = [
    Trouble::ReadOnly,
    Trouble::Full,
    Trouble::WritesFail,
    Trouble::SyncLoses,
    Trouble::SyncsFail,
    Trouble::ReadsFail,
];

impl Trouble {
    fn begin(self, disk: &TestDisk) {
        match self {
            Self::ReadOnly => disk.set_read_only(true),
            Self::Full => disk.set_len_bytes_max(Some(disk.len_bytes().expect("it has power"))),
            Self::WritesFail => disk.fail_writes(u32::MAX),
            Self::SyncLoses => disk.fail_syncs(1),
            Self::SyncsFail => disk.refuse_syncs(true),
            Self::ReadsFail => disk.fail_reads(2),
        }
    }

    fn end(self, disk: &TestDisk) {
        match self {
            Self::ReadOnly => disk.set_read_only(false),
            Self::Full => disk.set_len_bytes_max(None),
            Self::WritesFail => disk.fail_writes(0),
            Self::SyncLoses => {}
            Self::SyncsFail => disk.refuse_syncs(false),
            Self::ReadsFail => disk.fail_reads(0),
        }
    }

    /// Whether it lasts until it is ended, so that it can be looked at.
    fn lasts(self) -> bool {
        !matches!(self, Self::SyncLoses | Self::ReadsFail)
    }

    /// Whether the disk refuses before it has taken anything: every write is known not to be there, and every read works.
    fn refuses(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Full)
    }
}

/// What writers were answered.
#[derive(Debug, Default)]
struct Answers {
    acknowledged: Acknowledged,
    /// Told that it is not there, and why.
    refused: Vec<Vec<Write>>,
    /// Told that it may be.
    uncertain: Vec<Vec<Write>>,
}

/// All that writers and readers share.
#[derive(Debug, Default)]
struct Scene {
    answers: Mutex<Answers>,
    /// How many writes were answered well, and badly.
    good: AtomicU64,
    bad: AtomicU64,
    over: AtomicBool,
    /// Reads must be answered now.
    reads_must_work: AtomicBool,
}

impl Scene {
    fn answered(&self, writes: Vec<Write>, answer: Result<Revision, CommitError>) {
        let mut answers = self.answers.lock().unwrap();
        let count = if answer.is_ok() { &self.good } else { &self.bad };
        match answer {
            Ok(revision) => {
                assert!(answers.acknowledged.insert(revision, writes).is_none(), "{revision} twice");
            }
            Err(CommitError::Full(_) | CommitError::Unavailable(_)) => answers.refused.push(writes),
            Err(CommitError::Uncertain(_)) => answers.uncertain.push(writes),
            Err(error) => panic!("a writer was answered {error:?}"),
        }
        count.fetch_add(1, Ordering::Release);
    }

    async fn until(&self, count: &AtomicU64, what: &str) {
        let wanted = count.load(Ordering::Acquire) + ANSWERS_MIN;
        let reached = async {
            while count.load(Ordering::Acquire) < wanted {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(WAIT, reached).await.unwrap_or_else(|_| panic!("no {ANSWERS_MIN} {what}"));
    }
}

async fn write(scene: Arc<Scene>, store: Arc<Embedded>, task: u64, seed: u64) {
    let mut choices = Choices::new(seed ^ task);
    for round in 0.. {
        if scene.over.load(Ordering::Acquire) {
            return;
        }
        let Transaction { checks, writes } = transaction(task, round, &mut choices);
        let answer = store.commit(Transaction { checks, writes: writes.clone() }).await;
        // A client that is refused does not ask again at once.
        let pause = if answer.is_ok() { 1 } else { 5 };
        scene.answered(writes, answer);
        if task == 0 && round % 100 == 99 {
            let _ = store.compact(Revision(store.revisions().end().0 / 2)).await;
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// Reads one key after the other, and all of them: nothing goes back.
async fn read(scene: Arc<Scene>, store: Arc<Embedded>) {
    let mut seen = BTreeMap::new();
    let mut newest = Revision(0);
    while !scene.over.load(Ordering::Acquire) {
        for task in 0..WRITERS {
            let must_work = scene.reads_must_work.load(Ordering::Acquire);
            let key = Bytes::from(format!("hot/{task}"));
            match store.get(key.clone(), None).await {
                Ok(entry) => {
                    let at = entry.map_or(Revision(0), |entry| entry.mod_revision);
                    let before = seen.insert(key.clone(), at).unwrap_or_default();
                    assert!(before <= at, "{key:?} was at {before} and is at {at}");
                }
                Err(error) => {
                    assert!(!(must_work && scene.reads_must_work.load(Ordering::Acquire)), "{error:?}");
                }
            }
        }
        let must_work = scene.reads_must_work.load(Ordering::Acquire);
        match store.list(ListRequest { prefix: "hot/".into(), ..ListRequest::default() }).await {
            Ok(page) => {
                assert!(page.revision >= newest, "a list was at {newest} and is at {}", page.revision);
                newest = page.revision;
            }
            Err(error) => assert!(!(must_work && scene.reads_must_work.load(Ordering::Acquire)), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Writes large values until the disk takes no more.
async fn fill(scene: &Scene, store: &Embedded, round: u64) {
    for n in 0..1000 {
        let transaction = put(&format!("fill/{round}/{n}"), vec![7; 256 << 10]);
        let answer = store.commit(transaction.clone()).await;
        let full = answer.is_err();
        scene.answered(transaction.writes, answer);
        if full {
            return;
        }
    }
    panic!("the disk must be full at some time");
}

/// One trouble, from its beginning until the store takes writes again.
async fn suffer(scene: &Scene, store: &Embedded, disk: &TestDisk, trouble: Trouble, round: u64) {
    scene.until(&scene.good, "writes before a trouble").await;
    scene.reads_must_work.store(trouble.refuses(), Ordering::Release);
    let uncertain = || scene.answers.lock().unwrap().uncertain.len();
    let before_it = uncertain();
    trouble.begin(disk);
    if trouble == Trouble::Full {
        fill(scene, store, round).await;
    }
    if trouble.lasts() {
        let before = store.revisions().into_inner().1;
        scene.until(&scene.bad, "writes refused").await;
        assert!(store.trouble().is_some(), "{trouble:?}");
        if trouble == Trouble::ReadOnly {
            assert!(
                store.revisions().into_inner().1.0 <= before.0 + 256,
                "only what was under way is written"
            );
        }
    }
    assert!(!trouble.refuses() || uncertain() == before_it, "a disk that is {trouble:?} has taken nothing");
    trouble.end(disk);
    out_of_trouble(store).await;
    scene.until(&scene.good, "writes after a trouble").await;
}

/// Of what nobody knew of, what is there after all: watchers were told.
fn settle(answers: &mut Answers, all: &Tale) {
    let mut told: BTreeMap<(Bytes, Bytes), Revision> = BTreeMap::new();
    for event in all.batches.iter().flat_map(|batch| batch.events.iter()) {
        if let Event::Put { entry, .. } = event {
            let twice = told.insert((entry.key.clone(), entry.value.clone()), entry.mod_revision);
            assert!(twice.is_none(), "{:?} was told twice", entry.key);
        }
    }
    let there = |writes: &[Write]| match &writes[0] {
        Write::Put(key, value) => told.get(&(key.clone(), value.clone())).copied(),
        Write::Delete(_) => unreachable!("every write begins with a new key"),
    };
    for writes in &answers.refused {
        assert_eq!(there(writes), None, "it was refused, and is there");
    }
    for writes in std::mem::take(&mut answers.uncertain) {
        if let Some(revision) = there(&writes) {
            assert!(answers.acknowledged.insert(revision, writes).is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_readers_and_watchers_live_through_every_trouble_of_a_disk() {
    let seed = seed();
    println!("WEFT_TEST_SEED={seed}");
    let disk = TestDisk::new(Plan { seed, ..Plan::steady() });
    let store = Arc::new(on(&disk));
    let scene = Arc::new(Scene::default());
    let mut watchers = tokio::task::JoinSet::new();
    for (prefix, batches_max) in WATCHERS {
        let watch = store.watch(prefix.into(), Revision(0)).await.unwrap();
        watchers.spawn(follow(Arc::downgrade(&store), watch, prefix, batches_max));
    }
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..WRITERS {
        tasks.spawn(write(scene.clone(), store.clone(), task, seed));
    }
    for _ in 0..READERS {
        tasks.spawn(read(scene.clone(), store.clone()));
    }
    let mut choices = Choices::new(seed);
    let mut order: Vec<Trouble> = (0..ROUNDS).flat_map(|_| TROUBLES).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, choices.below(at as u64 + 1) as usize);
    }
    for (round, trouble) in order.into_iter().enumerate() {
        println!("{round}: {trouble:?}");
        suffer(&scene, &store, &disk, trouble, round as u64).await;
    }
    scene.over.store(true, Ordering::Release);
    tasks.join_all().await;
    drop(store);
    let tales: Vec<Tale> = watchers.join_all().await.into_iter().collect::<Result<_, _>>().unwrap();
    let mut answers = std::mem::take(&mut *scene.answers.lock().unwrap());
    let all = tales.iter().find(|tale| tale.prefix.is_empty()).expect("one watches everything");
    settle(&mut answers, all);
    println!("{} written, {} refused", answers.acknowledged.len(), answers.refused.len());
    // Every fill is of one key that begins otherwise: watchers of a prefix are told of it, too, or of none.
    let (fills, acknowledged): (Acknowledged, Acknowledged) = answers
        .acknowledged
        .into_iter()
        .partition(|(_, writes)| matches!(&writes[0], Write::Put(key, _) if key.starts_with(b"fill/")));
    let there: usize = all.batches.iter().filter(|batch| fills.contains_key(&batch.revision)).count();
    assert_eq!(there, fills.len(), "a watcher was not told of what filled the disk");
    verify(&disk.restart(Plan::steady()), Life { acknowledged, tales }).await.unwrap();
}
