//! What one transaction does to the tables, within the engine transaction of its group; and one step of compaction.

use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};

use super::table::{
    CURRENT, Fault, HISTORY, LOG, REMOVAL, current_mod_revision, decode_current, encode_current,
    encode_version,
};
use crate::store::{Batch, Check, CommitError, Entry, Event, Limits, Revision, Transaction, Write};

/// What one transaction may be.
pub const LIMITS: Limits = Limits { steps_max: 1024, bytes_max: 4 << 20, key_bytes_max: 1024 };
/// Commits one step of a compaction works off, so that writers need not wait for all of it.
pub(super) const COMPACTION_STEP_WRITES_MAX: usize = 2048;

/// Why a transaction within a group was not carried out.
pub(super) enum Refusal {
    /// Only this one.
    This(CommitError),
    /// The engine failed: none of the group is written.
    Group(Fault),
}

impl<E: Into<Fault>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Group(error.into())
    }
}

/// The tables of one engine transaction, open for a group of transactions.
pub(super) struct Writer<'t> {
    current: Table<'t, &'static [u8], &'static [u8]>,
    history: Table<'t, (&'static [u8], u64), &'static [u8]>,
    log: Table<'t, (u64, u32), &'static [u8]>,
    newest: Revision,
}

impl<'t> Writer<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction, newest: Revision) -> Result<Self, Fault> {
        Ok(Self {
            current: transaction.open_table(CURRENT)?,
            history: transaction.open_table(HISTORY)?,
            log: transaction.open_table(LOG)?,
            newest,
        })
    }

    /// The newest revision, the group's own included.
    pub(super) fn newest(&self) -> Revision {
        self.newest
    }

    /// Carries one transaction out; `None` when it changes nothing.
    pub(super) fn apply(&mut self, transaction: &Transaction) -> Result<Option<Batch>, Refusal> {
        transaction.fits(&LIMITS).map_err(|reason| Refusal::This(CommitError::Refused { reason }))?;
        for check in &transaction.checks {
            self.check(check)?;
        }
        let revision = Revision(self.newest.0 + 1);
        let mut events = Vec::with_capacity(transaction.writes.len());
        for write in &transaction.writes {
            let event = match write {
                Write::Put(key, value) => Some(self.put(key, value, revision)?),
                Write::Delete(key) => self.delete(key, revision)?,
            };
            if let Some(event) = event {
                // At most as many events as there may be steps.
                self.log.insert((revision.0, events.len() as u32), event.key().as_ref())?;
                events.push(event);
            }
        }
        if events.is_empty() {
            return Ok(None);
        }
        self.newest = revision;
        Ok(Some(Batch { revision, events: Arc::from(events) }))
    }

    fn read(&self, key: &Bytes) -> Result<Option<Entry>, Fault> {
        match self.current.get(key.as_ref())? {
            Some(row) => Ok(Some(decode_current(key, row.value())?)),
            None => Ok(None),
        }
    }

    fn check(&self, check: &Check) -> Result<(), Refusal> {
        let key = match check {
            Check::Absent(key) | Check::Unchanged(key, _) => key,
        };
        let found = match self.current.get(key.as_ref())? {
            Some(row) => Some(current_mod_revision(row.value())?),
            None => None,
        };
        let holds = match check {
            Check::Absent(_) => found.is_none(),
            Check::Unchanged(_, revision) => found == Some(*revision),
        };
        if holds {
            return Ok(());
        }
        Err(Refusal::This(CommitError::Conflict { key: key.clone(), current: self.read(key)? }))
    }

    /// Moves a version that is about to be replaced into the history.
    fn retire(&mut self, entry: &Entry) -> Result<(), Fault> {
        let row = encode_version(entry);
        self.history.insert((entry.key.as_ref(), entry.mod_revision.0), row.as_slice())?;
        Ok(())
    }

    fn put(&mut self, key: &Bytes, value: &Bytes, revision: Revision) -> Result<Event, Fault> {
        let previous = self.read(key)?;
        if let Some(previous) = &previous {
            self.retire(previous)?;
        }
        let entry = Entry {
            key: key.clone(),
            value: value.clone(),
            create_revision: previous.as_ref().map_or(revision, |p| p.create_revision),
            mod_revision: revision,
        };
        self.current.insert(key.as_ref(), encode_current(&entry).as_slice())?;
        Ok(Event::Put { entry, previous })
    }

    fn delete(&mut self, key: &Bytes, revision: Revision) -> Result<Option<Event>, Fault> {
        let Some(previous) = self.read(key)? else { return Ok(None) };
        self.retire(&previous)?;
        self.current.remove(key.as_ref())?;
        self.history.insert((key.as_ref(), revision.0), REMOVAL)?;
        Ok(Some(Event::Delete { previous, revision }))
    }

    /// Forgets what only revisions before `oldest` need, a bounded piece of it; `true` when all is done.
    ///
    /// A log row at or before `oldest` says which key a commit wrote: every older version of that key was replaced by
    /// it, and is seen by nobody who may still ask.
    pub(super) fn compact_step(&mut self, oldest: Revision) -> Result<bool, Fault> {
        let mut rows = Vec::new();
        for row in self.log.range(..=(oldest.0, u32::MAX))?.take(COMPACTION_STEP_WRITES_MAX) {
            let (place, key) = row?;
            rows.push((place.value(), Bytes::copy_from_slice(key.value())));
        }
        for (place, key) in &rows {
            let key = key.as_ref();
            self.history.retain_in((key, 0)..(key, place.0), |_, _| false)?;
            let removal = self.history.get((key, place.0))?.is_some_and(|row| row.value() == REMOVAL);
            if removal {
                self.history.remove((key, place.0))?;
            }
            self.log.remove(*place)?;
        }
        Ok(rows.len() < COMPACTION_STEP_WRITES_MAX)
    }
}
