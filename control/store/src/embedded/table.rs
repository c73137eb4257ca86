//! How the store lies in the engine: tables, rows, format version. It decides nothing.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `current` | key | create revision, mod revision (u64 big endian each), value |
//! | `history` | key, mod revision | 0, create revision, value; or 1 for a removal. Only what `current` no longer holds |
//! | `log` | revision, index of the write | key |
//! | `meta` | name | see [`Meta`] |

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use crate::store::{Entry, Revision, StoreIdentity};

/// The format this build writes. The one before is brought to it when a store is opened (`migrate.rs`).
pub const FORMAT: u64 = 2;
/// What this build is called in the stores that it writes.
const BUILD: &str = env!("CARGO_PKG_VERSION");

pub(super) const CURRENT: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("current");
pub(super) const HISTORY: TableDefinition<'static, (&[u8], u64), &[u8]> = TableDefinition::new("history");
pub(super) const LOG: TableDefinition<'static, (u64, u32), &[u8]> = TableDefinition::new("log");
pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

const META_FORMAT: &str = "format";
const META_BUILD: &str = "build";
const META_ID: &str = "id";
const META_EPOCH: &str = "epoch";
const META_NEWEST: &str = "newest";
const META_OLDEST: &str = "oldest";

/// A row that does not read as this format says.
#[derive(Debug, thiserror::Error)]
#[error("the store's table {table} holds a row that is damaged")]
pub(super) struct Damaged {
    pub(super) table: &'static str,
}

/// A failure of the engine or of what it holds.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Engine(#[from] redb::Error),
    #[error(transparent)]
    Damaged(#[from] Damaged),
    #[error("the store is not open after an earlier failure")]
    NotOpen,
    #[error("the disk could not be read")]
    Unread,
}

macro_rules! engine_fault {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Fault {
            fn from(error: $kind) -> Self {
                Self::Engine(error.into())
            }
        }
    )*};
}
engine_fault!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError
);

/// The store's own facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) identity: StoreIdentity,
    pub(super) newest: Revision,
    pub(super) oldest: Revision,
}

/// What the `meta` table says.
pub(super) enum MetaFound {
    Empty,
    Newer { format: u64, build: Option<String> },
    Older { format: u64 },
    Known(Meta),
}

fn number(table: &impl ReadableTable<&'static str, &'static [u8]>, name: &str) -> Result<Option<u64>, Fault> {
    let Some(row) = table.get(name)? else { return Ok(None) };
    let bytes: [u8; 8] = row.value().try_into().map_err(|_| Damaged { table: "meta" })?;
    Ok(Some(u64::from_be_bytes(bytes)))
}

fn meta_of(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<MetaFound, Fault> {
    let Some(format) = number(table, META_FORMAT)? else { return Ok(MetaFound::Empty) };
    let missing = || Damaged { table: "meta" };
    if format > FORMAT {
        let build = table.get(META_BUILD)?.map(|row| String::from_utf8_lossy(row.value()).into_owned());
        return Ok(MetaFound::Newer { format, build });
    }
    if format == 0 {
        return Err(missing().into());
    }
    if format < FORMAT {
        return Ok(MetaFound::Older { format });
    }
    let id = table.get(META_ID)?.ok_or_else(missing)?.value().try_into().map_err(|_| missing())?;
    let epoch = number(table, META_EPOCH)?.ok_or_else(missing)?;
    let newest = Revision(number(table, META_NEWEST)?.ok_or_else(missing)?);
    let oldest = Revision(number(table, META_OLDEST)?.ok_or_else(missing)?);
    Ok(MetaFound::Known(Meta { identity: StoreIdentity { id, epoch }, newest, oldest }))
}

/// The facts as a writer sees them.
pub(super) fn meta_for_write(transaction: &WriteTransaction) -> Result<MetaFound, Fault> {
    meta_of(&transaction.open_table(META)?)
}

/// The facts as a reader's snapshot has them.
pub(super) fn meta_at(transaction: &ReadTransaction) -> Result<Meta, Fault> {
    match meta_of(&transaction.open_table(META)?)? {
        MetaFound::Known(meta) => Ok(meta),
        MetaFound::Empty | MetaFound::Newer { .. } | MetaFound::Older { .. } => {
            Err(Damaged { table: "meta" }.into())
        }
    }
}

/// Writes all facts.
pub(super) fn put_meta(transaction: &WriteTransaction, meta: &Meta) -> Result<(), Fault> {
    put_format(transaction, FORMAT)?;
    put_build(transaction)?;
    let mut table = transaction.open_table(META)?;
    table.insert(META_ID, meta.identity.id.as_slice())?;
    table.insert(META_EPOCH, meta.identity.epoch.to_be_bytes().as_slice())?;
    table.insert(META_NEWEST, meta.newest.0.to_be_bytes().as_slice())?;
    table.insert(META_OLDEST, meta.oldest.0.to_be_bytes().as_slice())?;
    Ok(())
}

/// Writes which format all tables have.
pub(super) fn put_format(transaction: &WriteTransaction, format: u64) -> Result<(), Fault> {
    transaction.open_table(META)?.insert(META_FORMAT, format.to_be_bytes().as_slice())?;
    Ok(())
}

/// Writes which build has brought the tables to their format.
pub(super) fn put_build(transaction: &WriteTransaction) -> Result<(), Fault> {
    transaction.open_table(META)?.insert(META_BUILD, BUILD.as_bytes())?;
    Ok(())
}

/// Makes the tables, so that readers find them.
pub(super) fn make_tables(transaction: &WriteTransaction) -> Result<(), Fault> {
    transaction.open_table(CURRENT)?;
    transaction.open_table(HISTORY)?;
    transaction.open_table(LOG)?;
    Ok(())
}

/// Writes the newest revision.
pub(super) fn put_newest(transaction: &WriteTransaction, newest: Revision) -> Result<(), Fault> {
    transaction.open_table(META)?.insert(META_NEWEST, newest.0.to_be_bytes().as_slice())?;
    Ok(())
}

/// Writes the oldest revision.
pub(super) fn put_oldest(transaction: &WriteTransaction, oldest: Revision) -> Result<(), Fault> {
    transaction.open_table(META)?.insert(META_OLDEST, oldest.0.to_be_bytes().as_slice())?;
    Ok(())
}

fn split_u64<'r>(row: &'r [u8], table: &'static str) -> Result<(u64, &'r [u8]), Damaged> {
    let (head, rest) = row.split_first_chunk::<8>().ok_or(Damaged { table })?;
    Ok((u64::from_be_bytes(*head), rest))
}

/// A row of `current`.
pub(super) fn encode_current(entry: &Entry) -> Vec<u8> {
    let mut row = Vec::with_capacity(16 + entry.value.len());
    row.extend_from_slice(&entry.create_revision.0.to_be_bytes());
    row.extend_from_slice(&entry.mod_revision.0.to_be_bytes());
    row.extend_from_slice(&entry.value);
    row
}

/// The entry in a row of `current`.
pub(super) fn decode_current(key: &[u8], row: &[u8]) -> Result<Entry, Damaged> {
    let (create, rest) = split_u64(row, "current")?;
    let (modified, value) = split_u64(rest, "current")?;
    Ok(Entry {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        create_revision: Revision(create),
        mod_revision: Revision(modified),
    })
}

/// When the entry in a row of `current` was last written.
pub(super) fn current_mod_revision(row: &[u8]) -> Result<Revision, Damaged> {
    let (_, rest) = split_u64(row, "current")?;
    Ok(Revision(split_u64(rest, "current")?.0))
}

/// The row of `history` for a removal.
pub(super) const REMOVAL: &[u8] = &[1];

/// A row of `history` for a version that was replaced.
pub(super) fn encode_version(entry: &Entry) -> Vec<u8> {
    let mut row = Vec::with_capacity(9 + entry.value.len());
    row.push(0);
    row.extend_from_slice(&entry.create_revision.0.to_be_bytes());
    row.extend_from_slice(&entry.value);
    row
}

/// The version in a row of `history`; `None` is a removal.
pub(super) fn decode_version(key: &[u8], revision: u64, row: &[u8]) -> Result<Option<Entry>, Damaged> {
    match row.split_first() {
        Some((0, rest)) => {
            let (create, value) = split_u64(rest, "history")?;
            Ok(Some(Entry {
                key: Bytes::copy_from_slice(key),
                value: Bytes::copy_from_slice(value),
                create_revision: Revision(create),
                mod_revision: Revision(revision),
            }))
        }
        Some((1, _)) => Ok(None),
        _ => Err(Damaged { table: "history" }),
    }
}
