//! What the embedded store stands on: a row of bytes that can be synced. It knows nothing of what the bytes mean.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statvfs::{FsFlags, fstatvfs};

/// Room that a disk must have to count as one that is not full, bytes: a group of commits and what the engine takes for it.
const ROOM_BYTES_MIN: u64 = 16 << 20;

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
    /// Whether it would take writes now, as far as that is told without one: there is room, and it may be written.
    fn is_open_to_writes(&self) -> io::Result<()>;
    /// Forgets what the system holds in memory of it: reads see what is there for good. After a sync that failed, memory may
    /// hold what the disk has not got, and calls it written.
    fn forget_memory(&self) -> io::Result<()>;
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

    /// Whether the file system is one that is written. Linux makes one read-only under open files (`u` of sysrq does), and then ext4
    /// takes what is written into memory and calls it synced, without a word of it reaching the disk.
    fn is_of_writable_system(&self) -> io::Result<()> {
        if fstatvfs(&self.file)?.flags().contains(FsFlags::ST_RDONLY) {
            return Err(Errno::EROFS.into());
        }
        Ok(())
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
        self.is_of_writable_system()?;
        self.file.write_all_at(data, offset)
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.is_of_writable_system()?;
        self.file.set_len(len_bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        // It may have become one meanwhile: then nothing was synced.
        self.is_of_writable_system()
    }

    fn is_open_to_writes(&self) -> io::Result<()> {
        self.is_of_writable_system()?;
        let found = fstatvfs(&self.file)?;
        if found.blocks_available().saturating_mul(found.fragment_size()) < ROOM_BYTES_MIN {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn forget_memory(&self) -> io::Result<()> {
        // What waits to be written is not forgotten by the system: it goes to the disk before, or is given up.
        let _ = self.file.sync_data();
        Ok(posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
    }
}

/// What a disk has answered to an opening of the engine, the worst of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// Nothing bad.
    #[default]
    None,
    /// It refused to write, for there is no space left.
    Full,
    /// It refused to write, for it may only be read.
    ReadOnly,
    /// Something else: what is on it is not known.
    Failed,
}

/// What one opening of the engine has met on its disk.
#[derive(Debug, Default)]
pub(crate) struct Health {
    trouble: Mutex<Trouble>,
    /// The engine was given up; a late drop of it must not write.
    retired: AtomicBool,
}

impl Health {
    /// The worst that happened.
    pub(crate) fn trouble(&self) -> Trouble {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forbids all further writes through this opening.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    fn note<T>(&self, result: io::Result<T>, may_refuse: bool) -> io::Result<T> {
        if let Err(error) = &result {
            use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
            let met = match error.kind() {
                StorageFull | QuotaExceeded if may_refuse => Trouble::Full,
                ReadOnlyFilesystem | PermissionDenied if may_refuse => Trouble::ReadOnly,
                _ => Trouble::Failed,
            };
            let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            *trouble = met.max(*trouble);
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
    /// Where the disk is only read: what the engine writes when it opens, which nobody else sees.
    pub(crate) aside: Option<Mutex<Aside>>,
}

/// Pages written over those of a disk that is only read.
#[derive(Debug)]
pub(crate) struct Aside {
    len_bytes: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
}

const PAGE_BYTES: usize = 4096;

impl Aside {
    pub(crate) fn of(disk: &dyn Disk) -> io::Result<Self> {
        Ok(Self { len_bytes: disk.len_bytes()?, pages: BTreeMap::new() })
    }

    fn write(&mut self, disk: &dyn Disk, offset: u64, data: &[u8]) -> io::Result<()> {
        self.len_bytes = self.len_bytes.max(offset + data.len() as u64);
        for (number, at, range) in pages_of(offset, data.len()) {
            let mut page = match self.pages.get(&number) {
                Some(page) => page.clone(),
                None => page_of(disk, number)?,
            };
            let part = range.len();
            page[at..at + part].copy_from_slice(&data[range]);
            self.pages.insert(number, page);
        }
        Ok(())
    }
}

/// A page of the disk, zero where that ends.
fn page_of(disk: &dyn Disk, number: u64) -> io::Result<Box<[u8; PAGE_BYTES]>> {
    let mut page = Box::new([0; PAGE_BYTES]);
    let from = number * PAGE_BYTES as u64;
    let there = disk.len_bytes()?.saturating_sub(from).min(PAGE_BYTES as u64) as usize;
    disk.read(from, &mut page[..there])?;
    Ok(page)
}

/// The pages that so many bytes from this place on lie in: number, place in the page, and which of the bytes.
fn pages_of(offset: u64, bytes: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == bytes {
            return None;
        }
        let place = offset + done as u64;
        let at = (place % PAGE_BYTES as u64) as usize;
        let range = done..bytes.min(done + PAGE_BYTES - at);
        done = range.end;
        Some((place / PAGE_BYTES as u64, at, range))
    })
}

impl Backend {
    fn aside(&self) -> Option<MutexGuard<'_, Aside>> {
        Some(self.aside.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads what is aside, and from the disk what is not. Nobody waits for another's read of the disk.
    fn read_beside(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let len_bytes = self.aside().map_or(0, |aside| aside.len_bytes);
        if offset + out.len() as u64 > len_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, at, range) in pages_of(offset, out.len()) {
            let aside = self.aside().and_then(|aside| aside.pages.get(&number).cloned());
            let page = match aside {
                Some(page) => page,
                None => page_of(self.disk.as_ref(), number)?,
            };
            let part = range.len();
            out[range].copy_from_slice(&page[at..at + part]);
        }
        Ok(())
    }
}

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        let aside = self.aside().map(|aside| aside.len_bytes);
        self.health.note(aside.map_or_else(|| self.disk.len_bytes(), Ok), false)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read =
            if self.aside.is_some() { self.read_beside(offset, out) } else { self.disk.read(offset, out) };
        self.health.note(read, false)?;
        // What was read while another opening began to write may be that one's.
        self.health.writable()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.health.writable()?;
        if let Some(mut aside) = self.aside() {
            aside.len_bytes = len;
            return Ok(());
        }
        self.health.note(self.disk.set_len(len), true)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.health.writable()?;
        if self.aside.is_some() {
            return Ok(());
        }
        // A sync that fails for want of space has lost pages the kernel had already taken: that is not "full".
        self.health.note(self.disk.sync(), false)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.health.writable()?;
        if let Some(mut aside) = self.aside() {
            return aside.write(self.disk.as_ref(), offset, data);
        }
        self.health.note(self.disk.write(offset, data), true)
    }
}
