//! A disk for tests that loses power: what was not synced is gone, the last write is torn. It lives in memory.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::disk::Disk;

/// Bytes that a real disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A small reproducible source of choices (SplitMix64).
#[derive(Clone, Debug)]
pub struct Choices(u64);

impl Choices {
    /// The same seed makes the same choices.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

/// What is left of the writes since the last sync when power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// None of them, and some sectors of the last.
    Dropped,
    /// Any of them, in no order, and some sectors of the last: what a disk with a cache may do.
    Scattered,
}

/// How a [`TestDisk`] behaves.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Power goes within this operation, counted from 1 over writes, changes of length and syncs; `None`: never.
    pub cut_at: Option<u64>,
    /// What is left then.
    pub unsynced: Unsynced,
    /// Whether a sync does what it says; without, it only answers `Ok`.
    pub sync_works: bool,
    /// Length at which the disk is full, bytes; `None`: never.
    pub len_bytes_max: Option<u64>,
    /// It may only be read.
    pub read_only: bool,
    /// For all choices.
    pub seed: u64,
}

impl Plan {
    /// A disk that keeps its word and its power.
    #[must_use]
    pub fn steady() -> Self {
        Self {
            cut_at: None,
            unsynced: Unsynced::Dropped,
            sync_works: true,
            len_bytes_max: None,
            read_only: false,
            seed: 0,
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLen { len_bytes: usize },
}

#[derive(Debug)]
struct State {
    plan: Plan,
    /// What survives.
    durable: Vec<u8>,
    /// What reads see.
    seen: Vec<u8>,
    unsynced: Vec<Change>,
    operations: u64,
    syncs: u64,
    syncs_to_fail: u32,
    syncs_are_refused: bool,
    reads_to_fail: u32,
    writes_to_fail: u32,
    dead: bool,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct TestDisk {
    state: Arc<Mutex<State>>,
    /// Whether syncs wait.
    held: Arc<(Mutex<bool>, Condvar)>,
}

impl TestDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self::holding(Vec::new(), plan)
    }

    fn holding(durable: Vec<u8>, plan: Plan) -> Self {
        let seen = durable.clone();
        let state = State {
            plan,
            durable,
            seen,
            unsynced: Vec::new(),
            operations: 0,
            syncs: 0,
            syncs_to_fail: 0,
            syncs_are_refused: false,
            reads_to_fail: 0,
            writes_to_fail: 0,
            dead: false,
        };
        Self { state: Arc::new(Mutex::new(state)), held: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many writes, changes of length and syncs there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many syncs there were.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Has syncs wait, or go on.
    pub fn hold_syncs(&self, hold: bool) {
        *self.held.0.lock().unwrap_or_else(PoisonError::into_inner) = hold;
        self.held.1.notify_all();
    }

    /// Whether power has gone.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Changes where the disk is full.
    pub fn set_len_bytes_max(&self, len_bytes_max: Option<u64>) {
        self.state().plan.len_bytes_max = len_bytes_max;
    }

    /// Lets it be only read, or written again.
    pub fn set_read_only(&self, read_only: bool) {
        self.state().plan.read_only = read_only;
    }

    /// Whether a sync does what it says from now on.
    pub fn set_sync_works(&self, sync_works: bool) {
        self.state().plan.sync_works = sync_works;
    }

    /// Has this many syncs to come fail, which take away what was to be synced: the system calls it written, and the disk has
    /// not got it.
    pub fn fail_syncs(&self, count: u32) {
        self.state().syncs_to_fail = count;
    }

    /// Has syncs fail, or not any more, while what was written stays in memory, to be seen and not to be forgotten.
    pub fn refuse_syncs(&self, refuse: bool) {
        self.state().syncs_are_refused = refuse;
    }

    /// Has this many reads to come fail.
    pub fn fail_reads(&self, count: u32) {
        self.state().reads_to_fail = count;
    }

    /// Has this many writes to come fail, of each of which a part has arrived.
    pub fn fail_writes(&self, count: u32) {
        self.state().writes_to_fail = count;
    }

    /// Takes power away now, if it is still there.
    pub fn cut(&self) {
        let mut state = self.state();
        if !state.dead {
            state.lose_power();
        }
    }

    /// The machine starts again: a new disk that holds what has survived.
    #[must_use]
    pub fn restart(&self, plan: Plan) -> Self {
        self.cut();
        Self::holding(self.state().durable.clone(), plan)
    }
}

fn power_is_gone() -> io::Error {
    io::Error::other("the test disk has no power")
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, data } => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(data);
        }
        Change::SetLen { len_bytes } => bytes.resize(*len_bytes, 0),
    }
}

impl State {
    /// Counts an operation; `false` when power goes within it.
    fn count(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(power_is_gone());
        }
        self.operations += 1;
        Ok(self.plan.cut_at != Some(self.operations))
    }

    fn lose_power(&mut self) {
        self.dead = true;
        let mut choices = Choices::new(self.plan.seed ^ self.operations);
        let unsynced = std::mem::take(&mut self.unsynced);
        let last = unsynced.len().saturating_sub(1);
        for (index, change) in unsynced.into_iter().enumerate() {
            if index == last {
                self.tear(&change, &mut choices);
            } else if self.plan.unsynced == Unsynced::Scattered && choices.below(2) == 0 {
                apply(&mut self.durable, &change);
            }
        }
    }

    /// Some sectors of a write arrive, and of one of them perhaps only a part.
    fn tear(&mut self, change: &Change, choices: &mut Choices) {
        let Change::Write { offset, data } = change else { return };
        for (index, sector) in data.chunks(SECTOR_BYTES).enumerate() {
            if choices.below(2) == 0 {
                let kept = if choices.below(8) == 0 {
                    choices.below(sector.len() as u64) as usize
                } else {
                    sector.len()
                };
                let offset = offset + index * SECTOR_BYTES;
                apply(&mut self.durable, &Change::Write { offset, data: sector[..kept].to_vec() });
            }
        }
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        let powered = self.count()?;
        if self.plan.read_only {
            return Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        }
        let end = match &change {
            Change::Write { offset, data } => offset + data.len(),
            Change::SetLen { len_bytes } => *len_bytes,
        };
        if end > self.seen.len() && self.plan.len_bytes_max.is_some_and(|max| end as u64 > max) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let change = match change {
            Change::Write { offset, mut data } if self.writes_to_fail > 0 => {
                data.truncate(data.len() / 2);
                Change::Write { offset, data }
            }
            whole => whole,
        };
        apply(&mut self.seen, &change);
        self.unsynced.push(change);
        if powered && self.writes_to_fail > 0 {
            self.writes_to_fail -= 1;
            return Err(io::Error::other("the test disk could not write"));
        }
        if !powered {
            self.lose_power();
            return Err(power_is_gone());
        }
        Ok(())
    }
}

impl Disk for TestDisk {
    fn len_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        if state.dead { Err(power_is_gone()) } else { Ok(state.seen.len() as u64) }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        if state.dead {
            return Err(power_is_gone());
        }
        if state.reads_to_fail > 0 {
            state.reads_to_fail -= 1;
            return Err(io::Error::other("the test disk could not read"));
        }
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let found = state.seen.get(from..from + out.len());
        out.copy_from_slice(found.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.state().change(Change::Write { offset, data: data.to_vec() })
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        let len_bytes = usize::try_from(len_bytes).map_err(io::Error::other)?;
        self.state().change(Change::SetLen { len_bytes })
    }

    fn sync(&self) -> io::Result<()> {
        let held = self.held.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.held.1.wait_while(held, |held| *held));
        let mut state = self.state();
        state.syncs += 1;
        if !state.count()? {
            state.lose_power();
            return Err(power_is_gone());
        }
        if state.syncs_are_refused {
            return Err(io::Error::other("the test disk does not take what it is given"));
        }
        if state.syncs_to_fail > 0 {
            state.syncs_to_fail -= 1;
            state.unsynced.clear();
            return Err(io::Error::other("the test disk could not write what it held"));
        }
        if state.plan.sync_works {
            for change in std::mem::take(&mut state.unsynced) {
                apply(&mut state.durable, &change);
            }
        }
        Ok(())
    }

    fn is_open_to_writes(&self) -> io::Result<()> {
        let state = self.state();
        if state.plan.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        if state.plan.len_bytes_max.is_some_and(|max| state.seen.len() as u64 >= max) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn forget_memory(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.dead {
            return Err(power_is_gone());
        }
        // What waits for a sync is not lost by this.
        let mut seen = state.durable.clone();
        state.unsynced.iter().for_each(|change| apply(&mut seen, change));
        state.seen = seen;
        Ok(())
    }
}
