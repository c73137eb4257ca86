//! The engine as it is open now, and what is known of it without asking: it is opened anew after any failure of the disk, to be
//! written where that goes, else to be read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase};

use super::migrate::migrate;
use super::read::Snapshot;
use super::table::{FORMAT, Fault, Meta, MetaFound, make_tables, meta_for_write, put_meta};
use super::{OpenError, Options};
use crate::disk::{Aside, Backend, Disk, Health, Trouble};
use crate::store::{Beginning, Revision, StoreIdentity};

/// How long a reader of the old engine is waited for when it is opened anew, milliseconds.
const RETIRE_WAIT_MS: u64 = 5000;

#[derive(Debug)]
struct Opening {
    database: Arc<Database>,
    health: Arc<Health>,
    purpose: Purpose,
}

/// What the engine is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    Read,
}

/// The open engine.
#[derive(Debug)]
pub(super) struct Engine {
    disk: Arc<dyn Disk>,
    cache_bytes: usize,
    opening: RwLock<Option<Opening>>,
    identity: StoreIdentity,
    newest: AtomicU64,
    /// What watchers were last told; behind `newest` only while recovered commits are read.
    published: AtomicU64,
    oldest: AtomicU64,
    /// Why nothing is written now.
    trouble: Mutex<Option<Arc<str>>>,
}

impl Engine {
    pub(super) fn open(disk: Arc<dyn Disk>, options: &Options) -> Result<Self, OpenError> {
        let identity = StoreIdentity { id: uuid::Uuid::new_v4().into_bytes(), epoch: 1 };
        let begins = options.begins.unwrap_or(Beginning { identity, revision: Revision(0) });
        let new = Meta { identity: begins.identity, newest: begins.revision, oldest: begins.revision };
        let started = start(&disk, options.cache_bytes, Purpose::Write, Some(new))?;
        let (opening, meta) = started.ok_or_else(|| OpenError::Engine("the store is empty".into()))?;
        if options.begins.is_some() && meta != new {
            return Err(OpenError::NotNew);
        }
        Ok(Self {
            disk,
            cache_bytes: options.cache_bytes,
            opening: RwLock::new(Some(opening)),
            identity: meta.identity,
            newest: AtomicU64::new(meta.newest.0),
            published: AtomicU64::new(meta.newest.0),
            oldest: AtomicU64::new(meta.oldest.0),
            trouble: Mutex::default(),
        })
    }

    pub(super) fn identity(&self) -> StoreIdentity {
        self.identity
    }

    pub(super) fn database(&self) -> Result<Arc<Database>, Fault> {
        let opening = self.opening.read().unwrap_or_else(PoisonError::into_inner);
        opening.as_ref().map(|o| o.database.clone()).ok_or(Fault::NotOpen)
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot, Fault> {
        Snapshot::open(&self.database()?.begin_read()?)
    }

    /// What this opening has met on its disk.
    pub(super) fn met(&self) -> Trouble {
        let opening = self.opening.read().unwrap_or_else(PoisonError::into_inner);
        opening.as_ref().map_or(Trouble::Failed, |o| o.health.trouble())
    }

    /// Whether there is an opening that can be written, as far as is known.
    pub(super) fn is_writable(&self) -> bool {
        let opening = self.opening.read().unwrap_or_else(PoisonError::into_inner);
        opening.as_ref().is_some_and(|o| o.purpose == Purpose::Write && o.health.trouble() == Trouble::None)
    }

    /// Whether there is an opening that no read has failed.
    pub(super) fn is_readable(&self) -> bool {
        let opening = self.opening.read().unwrap_or_else(PoisonError::into_inner);
        opening.as_ref().is_some_and(|o| o.health.trouble() == Trouble::None)
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    pub(super) fn trouble(&self) -> Option<Arc<str>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_trouble(&self, why: Option<&str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why.map(Arc::from);
    }

    pub(super) fn newest(&self) -> Revision {
        Revision(self.newest.load(Ordering::Acquire))
    }

    pub(super) fn published(&self) -> Revision {
        Revision(self.published.load(Ordering::Acquire))
    }

    pub(super) fn set_newest(&self, revision: Revision) {
        self.newest.store(revision.0, Ordering::Release);
        self.published.store(revision.0, Ordering::Release);
    }

    pub(super) fn set_published(&self, revision: Revision) {
        self.published.store(revision.0, Ordering::Release);
    }

    pub(super) fn oldest(&self) -> Revision {
        Revision(self.oldest.load(Ordering::Acquire))
    }

    pub(super) fn raise_oldest(&self, revision: Revision) {
        self.oldest.fetch_max(revision.0, Ordering::AcqRel);
    }

    /// Gives the engine up: it writes nothing more, not even when it is dropped.
    pub(super) fn retire(&self) {
        let old = self.opening.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(old) = old {
            old.health.retire();
            let until = Instant::now() + Duration::from_millis(RETIRE_WAIT_MS);
            while Arc::strong_count(&old.database) > 1 && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Opens the retired engine anew, to be read: nothing of the disk is written. A commit that nobody was answered about may be
    /// there, or only seem to; then nothing is read before it is there for good.
    ///
    /// # Errors
    /// It cannot be read, or the disk has lost what was acknowledged.
    pub(super) fn reopen_to_read(&self) -> Result<Found, OpenError> {
        let acknowledged = self.published();
        let started = start(&self.disk, self.cache_bytes, Purpose::Read, None)?;
        let (opening, meta) = started.ok_or(OpenError::Lost { found: Revision(0), acknowledged })?;
        if meta.newest < acknowledged || meta.identity != self.identity {
            return Err(OpenError::Lost { found: meta.newest, acknowledged });
        }
        if meta.newest > acknowledged {
            return Ok(Found::More);
        }
        self.install(opening, &meta);
        Ok(Found::Same)
    }

    /// Opens the engine anew, to be written. The one that is read stays in place until this one is there: both have the same
    /// root, whose pages no opening writes over.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(super) fn reopen_to_write(&self) -> Result<(), OpenError> {
        let acknowledged = self.published();
        let started = start(&self.disk, self.cache_bytes, Purpose::Write, None)?;
        let (opening, meta) = started.ok_or(OpenError::Lost { found: Revision(0), acknowledged })?;
        if meta.newest < acknowledged || meta.identity != self.identity {
            opening.health.retire();
            return Err(OpenError::Lost { found: meta.newest, acknowledged });
        }
        self.retire();
        self.install(opening, &meta);
        Ok(())
    }

    fn install(&self, opening: Opening, meta: &Meta) {
        self.newest.store(meta.newest.0, Ordering::Release);
        self.raise_oldest(meta.oldest);
        *self.opening.write().unwrap_or_else(PoisonError::into_inner) = Some(opening);
    }
}

/// What a disk holds beside what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Same,
    /// Perhaps a commit that nobody was answered about.
    More,
}

/// The engine's first bytes; it writes and syncs them last when it makes a file, before anything is acknowledged.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// Empties a disk whose file was never finished being made: power was cut before the magic was whole. A foreign file has
/// other bytes there and is left alone.
fn clear_unfinished(disk: &dyn Disk) -> std::io::Result<()> {
    let mut found = [0; MAGIC.len()];
    let there = usize::try_from(disk.len_bytes()?).unwrap_or(usize::MAX).min(found.len());
    disk.read(0, &mut found[..there])?;
    let is_part = found.iter().zip(&MAGIC).all(|(found, wanted)| *found == 0 || found == wanted);
    if found != MAGIC && is_part { disk.set_len(0) } else { Ok(()) }
}

/// Opens the engine on a disk. If it is empty, makes the new store there that is given; none if none is.
fn start(
    disk: &Arc<dyn Disk>,
    cache_bytes: usize,
    purpose: Purpose,
    new: Option<Meta>,
) -> Result<Option<(Opening, Meta)>, OpenError> {
    let broken = |error: std::io::Error| OpenError::Engine(Box::new(error));
    let mut magic = [0; MAGIC.len()];
    match new {
        Some(_) => clear_unfinished(disk.as_ref()).map_err(broken)?,
        None if disk.len_bytes().map_err(broken)? < MAGIC.len() as u64 => return Ok(None),
        None => disk.read(0, &mut magic).map_err(broken)?,
    }
    if new.is_none() && magic != MAGIC {
        return Ok(None);
    }
    let aside = match purpose {
        Purpose::Write => None,
        Purpose::Read => Some(Mutex::new(Aside::of(disk.as_ref()).map_err(broken)?)),
    };
    let health = Arc::new(Health::default());
    let started = start_on(Backend { disk: disk.clone(), health: health.clone(), aside }, cache_bytes, new);
    Ok(started?.map(|(database, meta)| (Opening { database: Arc::new(database), health, purpose }, meta)))
}

/// The same on what the engine wants of a disk. Where it fails, nothing more is written.
fn start_on(
    backend: Backend,
    cache_bytes: usize,
    new: Option<Meta>,
) -> Result<Option<(Database, Meta)>, OpenError> {
    let failed = |fault: Fault| OpenError::Engine(Box::new(fault));
    let health = backend.health.clone();
    let database = Database::builder()
        .set_cache_size(cache_bytes)
        .create_with_backend(backend)
        .inspect_err(|_| health.retire())
        .map_err(|e| failed(e.into()))?;
    let meta = meta_on(&database, new).inspect_err(|_| health.retire())?;
    if meta.is_none() {
        health.retire();
    }
    Ok(meta.map(|meta| (database, meta)))
}

/// The facts of the store in a database; those of a new one if there is none.
fn meta_on(database: &Database, new: Option<Meta>) -> Result<Option<Meta>, OpenError> {
    let failed = |fault: Fault| OpenError::Engine(Box::new(fault));
    let transaction = database.begin_write().map_err(|e| failed(e.into()))?;
    let meta = match meta_for_write(&transaction).map_err(failed)? {
        MetaFound::Known(meta) => {
            transaction.abort().map_err(|e| failed(e.into()))?;
            meta
        }
        MetaFound::Newer { format, build } => {
            return Err(OpenError::Newer { format, build: build.into(), known: FORMAT });
        }
        MetaFound::Older { format } => {
            migrate(&transaction, format).map_err(failed)?;
            let MetaFound::Known(meta) = meta_for_write(&transaction).map_err(failed)? else {
                return Err(OpenError::Engine("the store has no format after its migration".into()));
            };
            transaction.commit().map_err(|e| failed(e.into()))?;
            tracing::info!(from = format, to = FORMAT, "the store was brought to this build's format");
            meta
        }
        MetaFound::Empty => {
            let Some(meta) = new else { return Ok(None) };
            put_meta(&transaction, &meta).map_err(failed)?;
            make_tables(&transaction).map_err(failed)?;
            transaction.commit().map_err(|e| failed(e.into()))?;
            meta
        }
    };
    Ok(Some(meta))
}
