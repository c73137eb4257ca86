//! Backups: everything a store holds at one revision, in a form that every backend takes.
//!
//! | part | bytes |
//! | --- | --- |
//! | head | `weft-backup\n`; format (u32); the store's id (16), epoch (u64), the revision (u64) |
//! | entry, many | bytes of the key (u32), bytes of the value (u32); key; value |
//! | end | `0xffff_ffff` (u32); how many entries (u64); SHA-256 of everything before it (32) |
//!
//! Numbers are big endian. A file without its end is no backup, and nothing of it is taken.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{BufMut as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use crate::store::{
    Beginning, Check, CommitError, Limits, ListRequest, ReadError, Revision, Store, StoreIdentity,
    Transaction, Write,
};

/// The format this build writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// The key of a store that a backup is being put into; removed by the last commit of it.
pub const UNFINISHED: &[u8] = b"restoring";

const MAGIC: &[u8] = b"weft-backup\n";
const END: u32 = u32::MAX;
/// Entries read from the store at once.
const PAGE_ENTRIES_MAX: usize = 256;
/// Longest key, and longest value, that is believed, bytes.
const PART_BYTES_MAX: u32 = 64 << 20;
/// Commits that no store reaches within a millisecond.
const REVISIONS_PER_MS: u64 = 1 << 10;
/// How far a restored store's first revision is above the backup's where the clock is of no help.
const AHEAD: u64 = 1 << 26;

/// What a backup is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which history.
    pub identity: StoreIdentity,
    /// As of when.
    pub revision: Revision,
}

impl Head {
    /// Where a store begins that this is put into at that time: an epoch and revisions that were never given. Both are made
    /// from the time, since nobody else knows what was written after the backup, nor how often it was restored before.
    pub fn beginning(&self, now: SystemTime) -> Beginning {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let epoch = ms.max(self.identity.epoch + 1);
        let revision = ms.saturating_mul(REVISIONS_PER_MS).max(self.revision.0.saturating_add(AHEAD));
        Beginning { identity: StoreIdentity { id: self.identity.id, epoch }, revision: Revision(revision) }
    }
}

/// A backup as it is written, piece by piece.
pub struct Writer {
    store: Arc<dyn Store>,
    head: Head,
    hash: Sha256,
    entries: u64,
    state: State,
}

enum State {
    Head,
    Entries { after: Option<Bytes> },
    Over,
}

impl Writer {
    /// Of the store as it is now. History is kept for some minutes: a backup that takes longer fails.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let head = Head { identity: store.identity(), revision: *store.revisions().end() };
        Self { store, head, hash: Sha256::new(), entries: 0, state: State::Head }
    }

    /// What it is of.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The next piece; none behind the end.
    ///
    /// # Errors
    /// The store cannot be read, or no longer at that revision.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, ReadError> {
        let mut out = BytesMut::new();
        match std::mem::replace(&mut self.state, State::Over) {
            State::Over => return Ok(None),
            State::Head => {
                out.put_slice(MAGIC);
                out.put_u32(FORMAT);
                out.put_slice(&self.head.identity.id);
                out.put_u64(self.head.identity.epoch);
                out.put_u64(self.head.revision.0);
                self.hash.update(&out);
                self.state = State::Entries { after: None };
            }
            State::Entries { after } => {
                let request = ListRequest {
                    prefix: Bytes::new(),
                    after,
                    entries_max: PAGE_ENTRIES_MAX,
                    at: Some(self.head.revision),
                };
                let page = self.store.list(request).await?;
                for entry in &page.entries {
                    let bytes = |part: &Bytes| u32::try_from(part.len()).unwrap_or(END);
                    out.put_u32(bytes(&entry.key));
                    out.put_u32(bytes(&entry.value));
                    out.put_slice(&entry.key);
                    out.put_slice(&entry.value);
                }
                self.entries += page.entries.len() as u64;
                self.hash.update(&out);
                match page.entries.last() {
                    Some(last) if page.remaining > 0 => {
                        self.state = State::Entries { after: Some(last.key.clone()) };
                    }
                    _ => self.end(&mut out),
                }
            }
        }
        Ok(Some(out.freeze()))
    }

    fn end(&mut self, out: &mut BytesMut) {
        let from = out.len();
        out.put_u32(END);
        out.put_u64(self.entries);
        self.hash.update(&out[from..]);
        out.put_slice(&self.hash.finalize_reset());
    }
}

/// Why a file is not taken for a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It cannot be read.
    #[error("the backup cannot be read")]
    Read(#[source] io::Error),
    /// It is something else.
    #[error("this is no backup of weft-control")]
    Foreign,
    /// A newer build wrote it.
    #[error("the backup has format {0}, this build knows up to {known}: use a newer build", known = FORMAT)]
    Newer(u32),
    /// It ends before its end.
    #[error("the backup is not whole: it ends before its end")]
    Cut,
    /// What is in it is not what was written.
    #[error("the backup is damaged: {0}")]
    Damaged(&'static str),
}

/// A backup as it is read: the head, then the entries in the order of their keys.
pub struct Reader<R> {
    file: R,
    head: Head,
    hash: Sha256,
    entries: u64,
    over: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// It is no backup, or of a newer format.
    pub fn new(mut file: R) -> Result<Self, BackupError> {
        let mut hash = Sha256::new();
        let mut magic = [0; MAGIC.len()];
        match file.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(BackupError::Read(error));
            }
            _ => return Err(BackupError::Foreign),
        }
        hash.update(magic);
        let format = u32::from_be_bytes(take(&mut file, &mut hash)?);
        if format > FORMAT {
            return Err(BackupError::Newer(format));
        }
        let id = take(&mut file, &mut hash)?;
        let epoch = u64::from_be_bytes(take(&mut file, &mut hash)?);
        let revision = Revision(u64::from_be_bytes(take(&mut file, &mut hash)?));
        let head = Head { identity: StoreIdentity { id, epoch }, revision };
        Ok(Self { file, head, hash, entries: 0, over: false })
    }

    /// What it is of.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The next key and value; none behind the last, if the whole of it is as it was written.
    ///
    /// # Errors
    /// It is cut off or damaged.
    pub fn entry(&mut self) -> Result<Option<(Bytes, Bytes)>, BackupError> {
        if self.over {
            return Ok(None);
        }
        let key_bytes = u32::from_be_bytes(take(&mut self.file, &mut self.hash)?);
        if key_bytes == END {
            return self.end();
        }
        let value_bytes = u32::from_be_bytes(take(&mut self.file, &mut self.hash)?);
        if key_bytes.max(value_bytes) > PART_BYTES_MAX {
            return Err(BackupError::Damaged("an entry is longer than any can be"));
        }
        let key = self.part(key_bytes)?;
        let value = self.part(value_bytes)?;
        self.entries += 1;
        Ok(Some((key, value)))
    }

    fn part(&mut self, bytes: u32) -> Result<Bytes, BackupError> {
        let mut part = Vec::new();
        // What a damaged length promises is not allocated before it is there.
        let read =
            (&mut self.file).take(u64::from(bytes)).read_to_end(&mut part).map_err(BackupError::Read)?;
        if read < bytes as usize {
            return Err(BackupError::Cut);
        }
        self.hash.update(&part);
        Ok(part.into())
    }

    fn end(&mut self) -> Result<Option<(Bytes, Bytes)>, BackupError> {
        let entries = u64::from_be_bytes(take(&mut self.file, &mut self.hash)?);
        let mut told = [0; 32];
        self.file.read_exact(&mut told).map_err(cut)?;
        if told[..] != self.hash.finalize_reset()[..] {
            return Err(BackupError::Damaged("its checksum is another"));
        }
        if entries != self.entries {
            return Err(BackupError::Damaged("entries are missing"));
        }
        if self.file.read(&mut [0]).map_err(BackupError::Read)? > 0 {
            return Err(BackupError::Damaged("there is more behind its end"));
        }
        self.over = true;
        Ok(None)
    }
}

fn cut(error: io::Error) -> BackupError {
    if error.kind() == io::ErrorKind::UnexpectedEof { BackupError::Cut } else { BackupError::Read(error) }
}

fn take<const N: usize>(file: &mut impl Read, hash: &mut Sha256) -> Result<[u8; N], BackupError> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map_err(cut)?;
    hash.update(bytes);
    Ok(bytes)
}

/// Why a backup could not be put into a store.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The store takes no transaction that would hold an entry.
    #[error("an entry of {bytes} bytes is more than this store takes at once ({bytes_max})")]
    TooLarge {
        /// Of its key and value.
        bytes: usize,
        /// What it takes.
        bytes_max: usize,
    },
    /// The store refused.
    #[error("the backup cannot be written to the store")]
    Commit(#[from] CommitError),
}

/// Reads a whole backup and tells what it is of, and how many entries it has.
///
/// # Errors
/// It is none, not whole, or damaged.
pub fn verify(file: impl Read) -> Result<(Head, u64), BackupError> {
    let mut reader = Reader::new(file)?;
    while reader.entry()?.is_some() {}
    Ok((reader.head, reader.entries))
}

/// Puts a backup, which was [verified](verify) before, into a new store. Until it is whole the store has the key
/// [`UNFINISHED`]. Answers how many entries it was.
///
/// # Errors
/// The backup cannot be read, or the store cannot be written.
pub async fn restore(file: impl Read, store: &dyn Store) -> Result<u64, RestoreError> {
    let limits = store.limits();
    let mut reader = Reader::new(file)?;
    let begin = Transaction {
        checks: vec![Check::Absent(Bytes::from_static(UNFINISHED))],
        writes: vec![Write::Put(Bytes::from_static(UNFINISHED), Bytes::new())],
    };
    store.commit(begin).await?;
    let (mut writes, mut held) = (Vec::new(), 0);
    while let Some((key, value)) = reader.entry()? {
        let bytes = key.len() + value.len();
        if bytes > limits.bytes_max {
            return Err(RestoreError::TooLarge { bytes, bytes_max: limits.bytes_max });
        }
        if is_full(&limits, writes.len(), held + bytes) {
            let writes = std::mem::take(&mut writes);
            store.commit(Transaction { checks: Vec::new(), writes }).await?;
            held = 0;
        }
        held += bytes;
        writes.push(Write::Put(key, value));
    }
    store.commit(Transaction { checks: Vec::new(), writes }).await?;
    let end = vec![Write::Delete(Bytes::from_static(UNFINISHED))];
    store.commit(Transaction { checks: Vec::new(), writes: end }).await?;
    Ok(reader.entries)
}

/// Whether a transaction takes no further write.
fn is_full(limits: &Limits, writes: usize, bytes: usize) -> bool {
    writes == limits.steps_max || bytes > limits.bytes_max
}

#[cfg(test)]
mod tests;
