//! Power cuts: the store on a disk that drops what was not synced, at 1,000 random points, with writers and watchers.
//! `WEFT_TEST_SEED` repeats a run.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;

use super::Embedded;
use crate::embedded::Options;
use crate::store::{Batch, Entry, Event, ListRequest, ReadError, Revision, Store, Transaction, Watch, Write};
use crate::testdisk::{Choices, Plan, TestDisk, Unsynced};

const CUTS: u64 = 1000;
const TASKS: u64 = 6;
const ROUNDS: u64 = 12;
/// What watchers look at, and after how many batches they end and begin anew.
pub(super) const WATCHERS: [(&str, usize); 3] = [("", usize::MAX), ("hot/", usize::MAX), ("", 5)];
/// How long what must come may take.
pub(super) const WAIT: Duration = Duration::from_secs(20);

/// What was acknowledged before power went: revision -> the writes of that commit.
pub(super) type Acknowledged = BTreeMap<Revision, Vec<Write>>;

/// What a watcher was told from the beginning of the store on.
#[derive(Debug)]
pub(super) struct Tale {
    pub(super) prefix: &'static str,
    pub(super) batches: Vec<Batch>,
    reached: Revision,
}

impl Tale {
    /// In order, and none twice.
    fn push(&mut self, batch: Batch) -> Result<(), String> {
        if batch.revision <= self.reached {
            return Err(format!("a watcher at {} was told {batch:?}", self.reached));
        }
        self.reached = batch.revision;
        if !batch.events.is_empty() {
            self.batches.push(batch);
        }
        Ok(())
    }

    /// Each event has before it what the one before has left; what all of them leave.
    fn replay(&self) -> Result<Vec<Entry>, String> {
        let mut state = BTreeMap::new();
        for event in self.batches.iter().flat_map(|batch| batch.events.iter()) {
            let (left, previous) = match event {
                Event::Put { entry, previous } => {
                    (state.insert(entry.key.clone(), entry.clone()), previous.as_ref())
                }
                Event::Delete { previous, .. } => (state.remove(&previous.key), Some(previous)),
            };
            if left.as_ref() != previous {
                return Err(format!("a watcher that was left with {left:?} was told {event:?}"));
            }
        }
        Ok(state.into_values().collect())
    }
}

/// One life of a store: what was acknowledged, and what watchers were told.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) acknowledged: Acknowledged,
    pub(super) tales: Vec<Tale>,
}

pub(super) fn seed() -> u64 {
    let given = std::env::var("WEFT_TEST_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| u64::from(std::process::id()).wrapping_mul(0x2545_f491_4f6c_dd1d))
}

pub(super) fn transaction(task: u64, round: u64, choices: &mut Choices) -> Transaction {
    let fill = vec![b'a' + (round % 26) as u8; choices.below(3000) as usize];
    let value = Bytes::from([format!("{task}/{round}/").as_bytes(), &fill].concat());
    let mut writes = vec![
        Write::Put(Bytes::from(format!("new/{task}/{round}")), value.clone()),
        Write::Put(Bytes::from(format!("hot/{task}")), value),
    ];
    if round % 3 == 2 {
        writes.push(Write::Delete(Bytes::from(format!("new/{task}/{}", round - 1))));
    }
    Transaction { checks: vec![], writes }
}

/// Watches from the beginning until the store closes.
pub(super) async fn follow(
    store: Weak<Embedded>,
    mut watch: Watch,
    prefix: &'static str,
    batches_max: usize,
) -> Result<Tale, String> {
    let mut tale = Tale { prefix, batches: Vec::new(), reached: Revision(0) };
    loop {
        for _ in 0..batches_max {
            match watch.batches.recv().await {
                Some(Ok(batch)) => tale.push(batch)?,
                _ => return Ok(tale),
            }
        }
        let Some(store) = store.upgrade() else {
            return Ok(tale);
        };
        // Compaction may have passed by one that has just ended.
        let Ok(again) = store.watch(prefix.into(), tale.reached).await else {
            return Ok(tale);
        };
        watch = again;
    }
}

/// Several writers and watchers at once until the work is done or the disk is dead.
async fn work(disk: &TestDisk, seed: u64) -> Result<Life, String> {
    let Ok(store) = Embedded::open_on(Arc::new(disk.clone()), &Options::default()) else {
        return Ok(Life::default());
    };
    let store = Arc::new(store);
    let mut watchers = tokio::task::JoinSet::new();
    for (prefix, batches_max) in WATCHERS {
        // There is nothing yet, so that nothing may be missed.
        let Ok(watch) = store.watch(prefix.into(), Revision(0)).await else {
            continue;
        };
        watchers.spawn(follow(Arc::downgrade(&store), watch, prefix, batches_max));
    }
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let store = store.clone();
        tasks.spawn(async move {
            let mut choices = Choices::new(seed ^ task);
            let mut acknowledged = Vec::new();
            for round in 0..ROUNDS {
                let transaction = transaction(task, round, &mut choices);
                match store.commit(transaction.clone()).await {
                    Ok(revision) => acknowledged.push((revision, transaction.writes)),
                    Err(_) => break,
                }
                if task == 0 && round == ROUNDS / 2 {
                    let _ = store.compact(Revision(store.revisions().end().0 / 2)).await;
                }
            }
            acknowledged
        });
    }
    let acknowledged = tasks.join_all().await.into_iter().flatten().collect();
    drop(store);
    let tales: Result<Vec<Tale>, String> = watchers.join_all().await.into_iter().collect();
    Ok(Life { acknowledged, tales: tales? })
}

/// Every acknowledged commit is there after the restart, revisions go on from them, and watchers from where they were. The
/// first loss, if any.
pub(super) async fn verify(disk: &TestDisk, life: Life) -> Result<(), String> {
    let Life { acknowledged, tales } = life;
    let store = Embedded::open_on(Arc::new(disk.clone()), &Options::default())
        .map_err(|error| format!("the store does not open: {error:?}"))?;
    let (oldest, newest) = store.revisions().into_inner();
    let last = acknowledged.keys().next_back().copied().unwrap_or_default();
    if newest < last {
        return Err(format!("revision {last} was acknowledged, the store is at {newest}"));
    }
    for (revision, writes) in acknowledged.iter().filter(|(revision, _)| **revision >= oldest) {
        for write in writes {
            let (key, wanted) = match write {
                Write::Put(key, value) => (key, Some(value)),
                Write::Delete(key) => (key, None),
            };
            let found = store.get(key.clone(), Some(*revision)).await.map_err(|e| format!("{e:?}"))?;
            if found.as_ref().map(|entry| &entry.value) != wanted {
                return Err(format!("{key:?} is not what commit {revision} wrote"));
            }
        }
    }
    // What compaction took the history of must still be there as it is now.
    for (revision, writes) in &acknowledged {
        let Some(Write::Put(key, value)) = writes.first() else {
            continue;
        };
        let now = store.get(key.clone(), None).await.map_err(|e| format!("{e:?}"))?;
        match now {
            Some(entry) if entry.value == *value && entry.mod_revision == *revision => {}
            None if removed_later(&acknowledged, key) || newest > last => {}
            other => return Err(format!("{key:?} of commit {revision} is {other:?}")),
        }
    }
    let probe = Write::Put(Bytes::from("probe"), Bytes::from("x"));
    let next = store.commit(Transaction { checks: vec![], writes: vec![probe] }).await;
    match next {
        Ok(revision) if revision == Revision(newest.0 + 1) => {}
        other => return Err(format!("after revision {newest} came {other:?}")),
    }
    for tale in tales {
        go_on(&store, tale, &acknowledged).await?;
    }
    Ok(())
}

/// A watcher goes on where it was: what it is told in both lives is all there is, once.
async fn go_on(store: &Embedded, mut tale: Tale, acknowledged: &Acknowledged) -> Result<(), String> {
    let (oldest, newest) = store.revisions().into_inner();
    if tale.reached > newest {
        return Err(format!("a watcher was told of {}, the store is at {newest}", tale.reached));
    }
    let mut watch = match store.watch(tale.prefix.into(), tale.reached).await {
        Ok(_) if tale.reached < oldest => return Err("what is compacted can be watched".to_owned()),
        Ok(watch) => watch,
        Err(ReadError::Compacted { .. }) if tale.reached < oldest => {
            return tale.replay().map(drop);
        }
        Err(error) => return Err(format!("a watch does not go on: {error:?}")),
    };
    while tale.reached < newest {
        let told = tokio::time::timeout(WAIT, watch.batches.recv()).await;
        match told {
            Ok(Some(Ok(batch))) => tale.push(batch)?,
            other => {
                return Err(format!("a watcher at {} of {newest} is told {other:?}", tale.reached));
            }
        }
    }
    let request = ListRequest { prefix: tale.prefix.into(), ..ListRequest::default() };
    let there = store.list(request).await.map_err(|error| format!("{error:?}"))?;
    if tale.replay()? != there.entries {
        return Err(format!("a watcher of {:?} does not come to what is there", tale.prefix));
    }
    let told =
        |revision: &Revision| tale.batches.binary_search_by_key(revision, |batch| batch.revision).is_ok();
    // Every commit writes a key of each prefix.
    match acknowledged.keys().find(|revision| !told(revision)) {
        Some(missed) => Err(format!("a watcher of {:?} was not told of {missed}", tale.prefix)),
        None => Ok(()),
    }
}

fn removed_later(acknowledged: &Acknowledged, key: &Bytes) -> bool {
    acknowledged.values().flatten().any(|write| matches!(write, Write::Delete(k) if k == key))
}

/// One life, one cut, one restart.
async fn cut_once(cut_at: u64, seed: u64, unsynced: Unsynced, sync_works: bool) -> Result<usize, String> {
    let plan = Plan { cut_at: Some(cut_at), unsynced, sync_works, seed, ..Plan::steady() };
    let disk = TestDisk::new(plan);
    let life = work(&disk, seed).await?;
    let acknowledged = life.acknowledged.len();
    verify(&disk.restart(Plan::steady()), life).await?;
    Ok(acknowledged)
}

async fn operations_of_a_whole_life(seed: u64) -> u64 {
    let disk = TestDisk::new(Plan::steady());
    let life = work(&disk, seed).await.unwrap();
    assert_eq!(life.acknowledged.len() as u64, TASKS * ROUNDS, "without a cut everything is acknowledged");
    disk.operations()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_1000_power_cuts_and_watchers_go_on() {
    let seed = seed();
    println!("WEFT_TEST_SEED={seed}");
    let operations = operations_of_a_whole_life(seed).await;
    let mut choices = Choices::new(seed);
    let mut survived = 0;
    for cut in 0..CUTS {
        let cut_at = 1 + choices.below(operations);
        let unsynced = if cut % 2 == 0 { Unsynced::Dropped } else { Unsynced::Scattered };
        match cut_once(cut_at, seed.wrapping_add(cut), unsynced, true).await {
            Ok(acknowledged) => survived += acknowledged,
            Err(loss) => {
                panic!("cut {cut} at operation {cut_at} of {operations} ({unsynced:?}, seed {seed}): {loss}")
            }
        }
    }
    println!("{survived} acknowledged commits survived {CUTS} cuts within {operations} operations");
    assert!(survived as u64 > CUTS, "the cuts must meet stores with something to lose");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_sync_taken_out_the_same_test_finds_losses() {
    let seed = seed();
    println!("WEFT_TEST_SEED={seed}");
    let operations = operations_of_a_whole_life(seed).await;
    let mut losses = 0;
    for cut in 0..10 {
        // Late enough that something was acknowledged.
        let cut_at = operations / 2 + cut * operations / 25;
        let outcome = cut_once(cut_at, seed.wrapping_add(cut), Unsynced::Dropped, false).await;
        losses += u32::from(outcome.is_err());
    }
    assert!(
        losses >= 8,
        "a disk that does not sync loses acknowledged writes, and the test sees it: {losses} of 10"
    );
}
