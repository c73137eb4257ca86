//! What the embedded store stands on: a row of bytes that can be synced. It knows nothing of what the bytes mean.

use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A disk: the store's only way to anything that lasts. Offsets and lengths are bytes.
///
/// A write is there for good only after the next [`Disk::sync`] that answered `Ok`.
pub trait Disk: Debug + Send + Sync + 'static {
    /// How long it is.
    fn len_bytes(&self) -> io::Result<u64>;
    /// Fills `out` from `offset`; an error when that reaches past the end.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data` at `offset`.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Cuts it, or makes it longer by zeroes.
    fn set_len(&self, len_bytes: u64) -> io::Result<()>;
    /// Answers when everything written so far survives the loss of power.
    fn sync(&self) -> io::Result<()>;
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Another process has it.
    #[error("the store at {path} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened or locked.
    #[error("the store at {path} cannot be opened")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A file, mode 0600, locked against other processes while it is open.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
}

impl FileDisk {
    /// Opens or creates the file; a new file's directory entry is synced too.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Open { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DiskError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        if file.metadata().map_err(failed)?.len() == 0 {
            let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(directory).and_then(|d| d.sync_all()).map_err(failed)?;
        }
        Ok(Self { file })
    }
}

impl Disk for FileDisk {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.file.set_len(len_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// What one opening of the engine has met on its disk.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// The disk said there is no space left.
    full: AtomicBool,
    /// Any other failure: what is on the disk is no longer known.
    failed: AtomicBool,
    /// The engine was given up; a late drop of it must not write.
    retired: AtomicBool,
}

impl Health {
    /// Whether the disk was full and nothing worse happened: opening the engine anew is safe.
    pub(crate) fn is_only_full(&self) -> bool {
        self.full.load(Ordering::Acquire) && !self.failed.load(Ordering::Acquire)
    }

    /// Forbids all further writes through this opening.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    fn note<T>(&self, result: io::Result<T>, may_be_full: bool) -> io::Result<T> {
        if let Err(error) = &result {
            use io::ErrorKind::{QuotaExceeded, StorageFull};
            let full = may_be_full && matches!(error.kind(), StorageFull | QuotaExceeded);
            if full { &self.full } else { &self.failed }.store(true, Ordering::Release);
        }
        result
    }

    fn writable(&self) -> io::Result<()> {
        if self.retired.load(Ordering::Acquire) {
            return Err(io::Error::other("this opening of the store was given up"));
        }
        Ok(())
    }
}

/// A [`Disk`] as the engine wants it.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) health: Arc<Health>,
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.health.note(self.disk.len_bytes(), false)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.health.note(self.disk.read(offset, out), false)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.health.writable()?;
        self.health.note(self.disk.set_len(len), true)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.health.writable()?;
        // A sync that fails for want of space has lost pages the kernel had already taken: that is not "full".
        self.health.note(self.disk.sync(), false)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.health.writable()?;
        self.health.note(self.disk.write(offset, data), true)
    }
}
