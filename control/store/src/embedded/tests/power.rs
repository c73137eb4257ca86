//! Power cuts: the store on a disk that drops what was not synced, at 200 random points. `WEFT_TEST_SEED` repeats a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Embedded;
use crate::embedded::Options;
use crate::store::{Revision, Store, Transaction, Write};
use crate::testdisk::{Choices, Plan, TestDisk, Unsynced};

const CUTS: u64 = 200;
const TASKS: u64 = 6;
const ROUNDS: u64 = 12;

/// What was acknowledged before power went: revision -> the writes of that commit.
type Acknowledged = BTreeMap<Revision, Vec<Write>>;

fn seed() -> u64 {
    let given = std::env::var("WEFT_TEST_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| u64::from(std::process::id()).wrapping_mul(0x2545_f491_4f6c_dd1d))
}

fn transaction(task: u64, round: u64, choices: &mut Choices) -> Transaction {
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

/// Several writers at once until the work is done or the disk is dead; answers what was acknowledged.
async fn work(disk: &TestDisk, seed: u64) -> Acknowledged {
    let Ok(store) = Embedded::open_on(Arc::new(disk.clone()), &Options::default()) else {
        return Acknowledged::new();
    };
    let store = Arc::new(store);
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
    tasks.join_all().await.into_iter().flatten().collect()
}

/// Every acknowledged commit is there after the restart, and revisions go on from them. The first loss, if any.
async fn verify(disk: &TestDisk, acknowledged: &Acknowledged) -> Result<(), String> {
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
    for (revision, writes) in acknowledged {
        let Some(Write::Put(key, value)) = writes.first() else { continue };
        let now = store.get(key.clone(), None).await.map_err(|e| format!("{e:?}"))?;
        match now {
            Some(entry) if entry.value == *value && entry.mod_revision == *revision => {}
            None if removed_later(acknowledged, key) || newest > last => {}
            other => return Err(format!("{key:?} of commit {revision} is {other:?}")),
        }
    }
    let probe = Write::Put(Bytes::from("probe"), Bytes::from("x"));
    let next = store.commit(Transaction { checks: vec![], writes: vec![probe] }).await;
    match next {
        Ok(revision) if revision == Revision(newest.0 + 1) => Ok(()),
        other => Err(format!("after revision {newest} came {other:?}")),
    }
}

fn removed_later(acknowledged: &Acknowledged, key: &Bytes) -> bool {
    acknowledged.values().flatten().any(|write| matches!(write, Write::Delete(k) if k == key))
}

/// One life, one cut, one restart.
async fn cut_once(cut_at: u64, seed: u64, unsynced: Unsynced, sync_works: bool) -> Result<usize, String> {
    let plan = Plan { cut_at: Some(cut_at), unsynced, sync_works, seed, ..Plan::steady() };
    let disk = TestDisk::new(plan);
    let acknowledged = work(&disk, seed).await;
    verify(&disk.restart(Plan::steady()), &acknowledged).await?;
    Ok(acknowledged.len())
}

async fn operations_of_a_whole_life(seed: u64) -> u64 {
    let disk = TestDisk::new(Plan::steady());
    let acknowledged = work(&disk, seed).await;
    assert_eq!(acknowledged.len() as u64, TASKS * ROUNDS, "without a cut everything is acknowledged");
    disk.operations()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_200_power_cuts() {
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
