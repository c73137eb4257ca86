//! The backend of a single control plane: an embedded engine on one disk, one writing thread, many readers.
//!
//! A commit is answered after the sync of the engine commit it is part of. Reads see what is synced, from snapshots, and
//! never wait for the writer. When the disk refuses a write or fails, the store opens itself anew from what is there for good,
//! refuses writes, reads on, and tries again by itself until the disk takes writes (docs/decisions/0017).

mod engine;
mod migrate;
mod read;
mod table;
#[cfg(test)]
mod tests;
mod write;
mod writer;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use self::engine::Engine;
use self::read::Snapshot;
use self::writer::{Job, Loop, QUEUE_TRANSACTIONS_MAX};
use crate::disk::{Disk, DiskError, FileDisk};
use crate::store::{
    Answer, Beginning, CommitError, EngineError, Entry, Limits, ListRequest, Page, ReadError, Revision,
    Store, StoreIdentity, Transaction, Watch, WatchEnd,
};
use crate::watch::{self, Hub, Joined, Sent, WATCH_QUEUE_MAX, Watcher};

pub use self::table::FORMAT;
pub use self::write::LIMITS;

/// How often, and at what distance, a read that the engine failed is tried while it may be opened anew.
const REOPENING_LOOKS: u32 = 20;
const REOPENING_LOOK: Duration = Duration::from_millis(50);

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Memory for pages of the engine, in bytes.
    pub cache_bytes: usize,
    /// The store is to be new and to begin there.
    pub begins: Option<Beginning>,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 8 << 20, begins: None }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It was to be made.
    #[error("there is a store already")]
    NotNew,
    /// A newer build wrote it.
    #[error(
        "the store has format {format} of {build}, this build knows up to {known}: use that build or a newer one"
    )]
    Newer {
        /// What was found.
        format: u64,
        /// Who wrote it.
        build: Build,
        /// What this build knows.
        known: u64,
    },
    /// The disk has lost what it had confirmed, or holds another store.
    #[error(
        "the disk holds revision {found} where {acknowledged} was acknowledged: it has lost what it had confirmed"
    )]
    Lost {
        /// What is there.
        found: Revision,
        /// What was answered to writers.
        acknowledged: Revision,
    },
    /// The engine cannot read it.
    #[error("the store cannot be opened")]
    Engine(#[source] EngineError),
    /// The writing thread cannot be started.
    #[error("the store's writer cannot be started")]
    Thread(#[source] std::io::Error),
}

/// Which build brought a store to its format, as far as that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build(Option<String>);

impl From<Option<String>> for Build {
    fn from(version: Option<String>) -> Self {
        Self(version)
    }
}

impl std::fmt::Display for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(version) => write!(f, "Weft {version}"),
            None => f.write_str("a newer Weft"),
        }
    }
}

/// A store on one disk of this machine. Its methods want a tokio runtime; dropping it waits for the running commit.
#[derive(Debug)]
pub struct Embedded {
    engine: Arc<Engine>,
    hub: Arc<Hub>,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens or creates the store in a file, with the default options.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(path, &Options::default())
    }

    /// Opens or creates the store in a file.
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(FileDisk::open(path.as_ref())?), options)
    }

    /// Opens or creates the store on a disk.
    pub fn open_on(disk: Arc<dyn Disk>, options: &Options) -> Result<Self, OpenError> {
        let engine = Arc::new(Engine::open(disk, options)?);
        let hub = Arc::new(Hub::new(engine.newest()));
        let (jobs, receiver) = mpsc::channel(QUEUE_TRANSACTIONS_MAX);
        let writer = Loop { engine: engine.clone(), hub: hub.clone(), jobs: receiver, trouble: None };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(OpenError::Thread)?;
        Ok(Self { engine, hub, jobs: Some(jobs), writer: Some(thread) })
    }

    async fn send(&self, job: Job) -> Result<(), EngineError> {
        let jobs = self.jobs.as_ref().ok_or("the store is closed")?;
        jobs.send(job).await.map_err(|_| "the store's writer has ended".into())
    }

    async fn commit_now(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        transaction.fits(&LIMITS).map_err(|reason| CommitError::Refused { reason })?;
        let (answer, answered) = oneshot::channel();
        self.send(Job::Commit { transaction, answer }).await.map_err(CommitError::Engine)?;
        answered.await.map_err(|_| CommitError::Engine("the store's writer has ended".into()))?
    }

    async fn compact_now(&self, oldest: Revision) -> Result<(), ReadError> {
        let newest = self.engine.newest();
        if oldest > newest {
            return Err(ReadError::Future { asked: oldest, newest });
        }
        if oldest <= self.engine.oldest() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        self.send(Job::Compact { oldest, answer }).await.map_err(ReadError::Engine)?;
        answered.await.map_err(|_| ReadError::Engine("the store's writer has ended".into()))?
    }

    /// Tells the writer that a read has failed.
    fn ring(&self) {
        if let Some(jobs) = &self.jobs {
            // A queue that is full has the writer look all the same.
            let _ = jobs.try_send(Job::Look);
        }
    }

    /// Reads; where the engine fails, once more after a while: it may be opened anew in this moment.
    async fn reading_on<T: Send + 'static>(
        &self,
        read: impl Fn(&Snapshot) -> Result<T, ReadError> + Clone + Send + 'static,
    ) -> Result<T, ReadError> {
        for _ in 0..REOPENING_LOOKS {
            match reading(self.engine.clone(), read.clone()).await {
                Err(ReadError::Engine(_)) => {
                    self.ring();
                    tokio::time::sleep(REOPENING_LOOK).await;
                }
                done => return done,
            }
        }
        reading(self.engine.clone(), read).await
    }

    async fn watch_now(&self, prefix: Bytes, after: Revision) -> Result<Watch, ReadError> {
        let (queue, batches) = watch::queue();
        let mut snapshot = self.engine.snapshot();
        for _ in 0..REOPENING_LOOKS {
            if snapshot.is_ok() {
                break;
            }
            self.ring();
            tokio::time::sleep(REOPENING_LOOK).await;
            snapshot = self.engine.snapshot();
        }
        let snapshot = snapshot?;
        let (oldest, newest) = (snapshot.meta.oldest, snapshot.meta.newest);
        if after > newest {
            return Err(ReadError::Future { asked: after, newest });
        }
        if after < oldest {
            return Err(ReadError::Compacted { asked: after, oldest });
        }
        let watcher = Watcher::new(prefix, queue, after);
        if let Joined::NotYet(watcher) = self.hub.join(watcher) {
            tokio::spawn(catch_up(Arc::downgrade(&self.engine), self.hub.clone(), watcher));
        }
        Ok(Watch { batches })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// Runs a read where it may block.
async fn reading<T: Send + 'static>(
    engine: Arc<Engine>,
    read: impl FnOnce(&Snapshot) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    let task = tokio::task::spawn_blocking(move || read(&engine.snapshot()?));
    task.await.map_err(|error| ReadError::Engine(Box::new(error)))?
}

/// Whether the engine is, or is about to be, opened anew.
fn is_ailing(engine: &Weak<Engine>) -> bool {
    engine.upgrade().is_some_and(|engine| engine.trouble().is_some() || !engine.is_readable())
}

/// Feeds a watcher from the history until the ring holds all it still wants.
async fn catch_up(engine: Weak<Engine>, hub: Arc<Hub>, mut watcher: Watcher) {
    let too_slow = WatchEnd::TooSlow { queue_max: WATCH_QUEUE_MAX };
    loop {
        let Some(engine) = engine.upgrade() else {
            let _ = watcher.queue.try_send(Err(WatchEnd::Closed));
            return;
        };
        let (prefix, after, ailing) = (watcher.prefix.clone(), watcher.reached(), Arc::downgrade(&engine));
        let (batches, reached) = match reading(engine, move |s| s.history(&prefix, after)).await {
            Ok(step) => step,
            // It is opened anew as soon as the disk allows: the watch waits for that.
            Err(ReadError::Engine(_)) if is_ailing(&ailing) && !watcher.queue.is_closed() => {
                tokio::time::sleep(REOPENING_LOOK).await;
                continue;
            }
            Err(error) => {
                // Compacted away while it read: it was too slow.
                let end =
                    if matches!(error, ReadError::Compacted { .. }) { too_slow } else { WatchEnd::Closed };
                watcher.end(end).await;
                return;
            }
        };
        for batch in batches {
            if matches!(watcher.catch_up(&batch).await, Sent::Gone) {
                return;
            }
        }
        watcher.skip_to(reached);
        watcher = match hub.join(watcher) {
            Joined::Yes => return,
            Joined::NotYet(watcher) => watcher,
        };
        if watcher.queue.is_closed() {
            return;
        }
    }
}

impl Store for Embedded {
    fn identity(&self) -> StoreIdentity {
        self.engine.identity()
    }

    fn limits(&self) -> Limits {
        LIMITS
    }

    fn revisions(&self) -> RangeInclusive<Revision> {
        self.engine.oldest()..=self.engine.newest()
    }

    fn trouble(&self) -> Option<Arc<str>> {
        self.engine.trouble()
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Result<Revision, CommitError>> {
        Box::pin(self.commit_now(transaction))
    }

    /// One key is a few pages from the cache: it is read where the caller stands.
    fn get(&self, key: Bytes, at: Option<Revision>) -> Answer<'_, Result<Option<Entry>, ReadError>> {
        Box::pin(async move {
            match self.engine.snapshot().map_err(ReadError::from).and_then(|s| s.get(&key, at)) {
                Err(ReadError::Engine(_)) => self.reading_on(move |s| s.get(&key, at)).await,
                done => done,
            }
        })
    }

    fn list(&self, request: ListRequest) -> Answer<'_, Result<Page, ReadError>> {
        Box::pin(self.reading_on(move |snapshot| snapshot.list(&request)))
    }

    fn watch(&self, prefix: Bytes, after: Revision) -> Answer<'_, Result<Watch, ReadError>> {
        Box::pin(self.watch_now(prefix, after))
    }

    fn compact(&self, oldest: Revision) -> Answer<'_, Result<(), ReadError>> {
        Box::pin(self.compact_now(oldest))
    }
}
