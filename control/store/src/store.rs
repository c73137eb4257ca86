//! The contract every backend keeps; `contract.rs` holds the tests that say so.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

/// The store's logical clock: raised by every commit that changes something, never reused and never going back.
///
/// By how much is the backend's to say: others may write beside the store. 0 is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which history a revision belongs to. A revision alone is no identity: another store, or this one restored from a
/// backup (a higher epoch), counts the same numbers again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreIdentity {
    /// Random, made when the store was created.
    pub id: [u8; 16],
    /// Raised by every restore.
    pub epoch: u64,
}

/// Where the history of a new store begins that a backup is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Which history it is.
    pub identity: StoreIdentity,
    /// The revision before its first commit.
    pub revision: Revision,
}

/// One live key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The commit that made the key (after its last deletion), or one before it that made none.
    pub create_revision: Revision,
    /// The commit that last wrote it.
    pub mod_revision: Revision,
}

/// What must hold for a transaction to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The key is not there.
    Absent(Bytes),
    /// The key's last write was this commit.
    Unchanged(Bytes, Revision),
}

/// One write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put(Bytes, Bytes),
    /// Removes a key; removing what is not there changes nothing.
    Delete(Bytes),
}

/// Checks and writes that happen at one revision, all or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// All must hold.
    pub checks: Vec<Check>,
    /// Applied in order; a key may be named once.
    pub writes: Vec<Write>,
}

/// What one transaction may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most checks, and most writes.
    pub steps_max: usize,
    /// Most bytes of the keys and values it writes.
    pub bytes_max: usize,
    /// Longest key, bytes.
    pub key_bytes_max: usize,
}

impl Transaction {
    /// Whether a store with these limits takes it at all.
    ///
    /// # Errors
    /// Why it does not.
    pub fn fits(&self, limits: &Limits) -> Result<(), &'static str> {
        if self.writes.len() > limits.steps_max || self.checks.len() > limits.steps_max {
            return Err("it has more checks or writes than the store takes");
        }
        let mut keys = HashSet::with_capacity(self.writes.len());
        let mut size_bytes = 0;
        for write in &self.writes {
            let (key, value_bytes) = match write {
                Write::Put(key, value) => (key, value.len()),
                Write::Delete(key) => (key, 0),
            };
            if key.is_empty() || key.len() > limits.key_bytes_max {
                return Err("a key is empty or longer than the store takes");
            }
            if !keys.insert(key) {
                return Err("it writes a key twice");
            }
            size_bytes += key.len() + value_bytes;
        }
        if size_bytes > limits.bytes_max {
            return Err("its keys and values are more than the store takes");
        }
        Ok(())
    }
}

/// A part of the key space and of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Keys that begin with this.
    pub prefix: Bytes,
    /// Only keys greater than this one (for the next page).
    pub after: Option<Bytes>,
    /// At most so many entries; 0: no bound.
    pub entries_max: usize,
    /// The state as of this revision; unset: the newest.
    pub at: Option<Revision>,
}

/// What is behind a page is counted up to here, so that a page costs what it holds and not what the list does.
pub const REMAINING_MAX: u64 = 1_000;

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Entries in key order.
    pub entries: Vec<Entry>,
    /// The revision the page is a state of.
    pub revision: Revision,
    /// How many keys of the prefix are behind the last entry; [`REMAINING_MAX`]: so many or more.
    pub remaining: u64,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was written.
    Put {
        /// As it is now.
        entry: Entry,
        /// As it was before, if it was there.
        previous: Option<Entry>,
    },
    /// The key was removed.
    Delete {
        /// As it was before.
        previous: Entry,
        /// The commit that removed it.
        revision: Revision,
    },
}

impl Event {
    /// The commit this event is part of.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put { entry, .. } => entry.mod_revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    /// The key it is about.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { entry, .. } => &entry.key,
            Self::Delete { previous, .. } => &previous.key,
        }
    }

    /// About how much memory it holds.
    pub fn size_bytes(&self) -> usize {
        let of = |entry: &Entry| entry.key.len() + entry.value.len();
        match self {
            Self::Put { entry, previous } => of(entry) + previous.as_ref().map_or(0, of),
            Self::Delete { previous, .. } => of(previous),
        }
    }
}

/// All events of one commit that a watcher asked for, in the order of the writes; never split over two batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The commit.
    pub revision: Revision,
    /// Its events; empty when the batch only tells how far the watch has come.
    pub events: std::sync::Arc<[Event]>,
}

/// A running watch: batches in order, none missed, none twice.
#[derive(Debug)]
pub struct Watch {
    /// Ends after [`WatchEnd`] when the watcher is too slow, or when the store closes.
    pub batches: mpsc::Receiver<Result<Batch, WatchEnd>>,
}

/// Why a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnd {
    /// The watcher read slower than the store wrote and its bounded queue filled; watch anew from the last batch.
    #[error("the watcher fell behind by more than {queue_max} batches")]
    TooSlow {
        /// The bound.
        queue_max: usize,
    },
    /// The store goes on with another history, which a backup was restored to (a higher epoch): what was read is none of it.
    /// Whoever watches anew is told that the past is compacted, and reads everything anew.
    #[error("the store was restored from a backup")]
    Restored,
    /// The store is closing.
    #[error("the store is closing")]
    Closed,
}

/// Why a read was refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The revision is older than the oldest one kept (HTTP: 410 Gone).
    #[error("revision {asked} is compacted; the oldest kept is {oldest}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// What is kept.
        oldest: Revision,
    },
    /// The revision lies in the future of this store.
    #[error("revision {asked} is not reached yet; the newest is {newest}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// What there is.
        newest: Revision,
    },
    /// The engine failed.
    #[error("the store cannot be read")]
    Engine(#[source] EngineError),
}

/// Why a transaction was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A check did not hold; nothing was written.
    #[error("the key was changed in between")]
    Conflict {
        /// The key whose check failed.
        key: Bytes,
        /// As it is now, if it is there.
        current: Option<Entry>,
    },
    /// The transaction is larger than the store takes, or names a key twice.
    #[error("the transaction is not acceptable: {reason}")]
    Refused {
        /// Why.
        reason: &'static str,
    },
    /// There is no space left; nothing was written, reads go on.
    #[error("no space is left for the store")]
    Full(#[source] EngineError),
    /// The store takes no writes for now; nothing was written, reads go on. It tries again by itself.
    #[error("the store takes no writes for now")]
    Unavailable(#[source] EngineError),
    /// The store failed, or did not answer, while it wrote: whether the write is there is known once the store takes writes again, and watchers
    /// see it then.
    #[error("the store failed while it wrote")]
    Uncertain(#[source] EngineError),
    /// The store has ended.
    #[error("the store cannot be written")]
    Engine(#[source] EngineError),
}

/// A failure below the contract, from the backend's own library.
pub type EngineError = Box<dyn std::error::Error + Send + Sync>;

/// A future that a [`Store`] returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A revisioned key-value store.
///
/// An acknowledged commit is on disk. Every reader sees commits whole and in order. Backends are bounded in memory.
pub trait Store: Send + Sync + 'static {
    /// Which history this is. Another epoch may begin at any time.
    fn identity(&self) -> StoreIdentity;

    /// What one transaction may be.
    fn limits(&self) -> Limits;

    /// Oldest and newest revision that can be read.
    fn revisions(&self) -> RangeInclusive<Revision>;

    /// A revision that is about that many commits before another, or less.
    fn commits_before(&self, newest: Revision, commits: u64) -> Revision {
        Revision(newest.0.saturating_sub(commits))
    }

    /// Why it takes no writes now; none while it does. A store in trouble tries by itself whether it is over.
    fn trouble(&self) -> Option<Arc<str>>;

    /// Carries out a transaction, durably. Answers its revision; for one that changes nothing, the newest revision.
    fn commit(&self, transaction: Transaction) -> Answer<'_, Result<Revision, CommitError>>;

    /// One key, now or as of `at`.
    fn get(&self, key: Bytes, at: Option<Revision>) -> Answer<'_, Result<Option<Entry>, ReadError>>;

    /// A range of keys, now or as of a revision.
    fn list(&self, request: ListRequest) -> Answer<'_, Result<Page, ReadError>>;

    /// All changes behind `after` of keys that begin with `prefix`.
    fn watch(&self, prefix: Bytes, after: Revision) -> Answer<'_, Result<Watch, ReadError>>;

    /// Forgets everything older than `oldest`, the values that are current then excepted.
    fn compact(&self, oldest: Revision) -> Answer<'_, Result<(), ReadError>>;
}
