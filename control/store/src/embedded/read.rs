//! Reads: one key, a page of keys, a stretch of history, each from one snapshot. Nothing is written here.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadOnlyTable, ReadTransaction};

use super::table::{
    CURRENT, Fault, HISTORY, LOG, Meta, current_mod_revision, decode_current, decode_version, meta_at,
};
use crate::store::{Batch, Entry, Event, ListRequest, Page, REMAINING_MAX, ReadError, Revision};

/// How many commits one step through the history takes at most.
pub(super) const HISTORY_STEP_COMMITS_MAX: usize = 256;
/// About how many bytes of values one step through the history takes.
pub(super) const HISTORY_STEP_BYTES_MAX: usize = 1 << 20;

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        Self::Engine(Box::new(fault))
    }
}

/// One consistent state of all tables.
pub(super) struct Snapshot {
    pub(super) meta: Meta,
    current: ReadOnlyTable<&'static [u8], &'static [u8]>,
    history: ReadOnlyTable<(&'static [u8], u64), &'static [u8]>,
    log: ReadOnlyTable<(u64, u32), &'static [u8]>,
}

impl Snapshot {
    pub(super) fn open(transaction: &ReadTransaction) -> Result<Self, Fault> {
        Ok(Self {
            meta: meta_at(transaction)?,
            current: transaction.open_table(CURRENT)?,
            history: transaction.open_table(HISTORY)?,
            log: transaction.open_table(LOG)?,
        })
    }

    fn check(&self, asked: Revision) -> Result<(), ReadError> {
        if asked > self.meta.newest {
            return Err(ReadError::Future { asked, newest: self.meta.newest });
        }
        if asked < self.meta.oldest {
            return Err(ReadError::Compacted { asked, oldest: self.meta.oldest });
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, ReadError> {
        if let Some(at) = at {
            self.check(at)?;
        }
        Ok(self.version(key, at.unwrap_or(self.meta.newest))?)
    }

    /// The key as of a revision.
    fn version(&self, key: &[u8], at: Revision) -> Result<Option<Entry>, Fault> {
        if let Some(row) = self.current.get(key).map_err(Fault::from)?
            && current_mod_revision(row.value())? <= at
        {
            return Ok(Some(decode_current(key, row.value())?));
        }
        self.replaced(key, at)
    }

    /// The newest version in `history` at or before a revision.
    fn replaced(&self, key: &[u8], at: Revision) -> Result<Option<Entry>, Fault> {
        match self.history.range((key, 0)..=(key, at.0))?.next_back() {
            Some(row) => {
                let (place, row) = row?;
                Ok(decode_version(key, place.value().1, row.value())?)
            }
            None => Ok(None),
        }
    }

    pub(super) fn list(&self, request: &ListRequest) -> Result<Page, ReadError> {
        let at = request.at.unwrap_or(self.meta.newest);
        self.check(at)?;
        let keep = if request.entries_max == 0 { usize::MAX } else { request.entries_max };
        let mut page = Page { entries: Vec::new(), revision: at, remaining: 0 };
        if at == self.meta.newest {
            self.list_current(request, keep, &mut page)?;
        } else {
            self.list_past(request, at, keep, &mut page)?;
        }
        Ok(page)
    }

    fn list_current(&self, request: &ListRequest, keep: usize, page: &mut Page) -> Result<(), Fault> {
        let (start, end) = bounds(&request.prefix, request.after.as_deref());
        for row in self.current.range::<&[u8]>((start, end.as_deref_bound()))? {
            let (key, row) = row?;
            if page.entries.len() < keep {
                page.entries.push(decode_current(key.value(), row.value())?);
                continue;
            }
            page.remaining += 1;
            if page.remaining == REMAINING_MAX {
                break;
            }
        }
        Ok(())
    }

    /// Walks the keys of `current` and of `history` side by side: a key that was removed is only in the latter.
    fn list_past(
        &self,
        request: &ListRequest,
        at: Revision,
        keep: usize,
        page: &mut Page,
    ) -> Result<(), Fault> {
        let (start, end) = bounds(&request.prefix, request.after.as_deref());
        let mut live = self.current.range::<&[u8]>((start, end.as_deref_bound()))?.peekable();
        let mut past = self.next_past_key(&request.prefix, request.after.as_deref())?;
        loop {
            let live_key = match live.peek() {
                Some(Ok((key, _))) => Some(Bytes::copy_from_slice(key.value())),
                Some(Err(_)) => match live.next() {
                    Some(Err(error)) => return Err(error.into()),
                    _ => None,
                },
                None => None,
            };
            let key = match (live_key, &past) {
                (None, None) => return Ok(()),
                (Some(live_key), Some(past_key)) if live_key > *past_key => past_key.clone(),
                (Some(live_key), _) => live_key,
                (None, Some(past_key)) => past_key.clone(),
            };
            if live.peek().is_some_and(|row| matches!(row, Ok((k, _)) if k.value() == key.as_ref())) {
                live.next();
            }
            if past.as_ref() == Some(&key) {
                past = self.next_past_key(&request.prefix, Some(&key))?;
            }
            if let Some(entry) = self.version(&key, at)? {
                if page.entries.len() < keep {
                    page.entries.push(entry);
                    continue;
                }
                page.remaining += 1;
                if page.remaining == REMAINING_MAX {
                    return Ok(());
                }
            }
        }
    }

    fn next_past_key(&self, prefix: &[u8], after: Option<&[u8]>) -> Result<Option<Bytes>, Fault> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded((after, u64::MAX)),
            _ => Bound::Included((prefix, 0)),
        };
        match self.history.range::<(&[u8], u64)>((start, Bound::Unbounded))?.next() {
            Some(row) => {
                let (place, _) = row?;
                let key = place.value().0;
                Ok(key.starts_with(prefix).then(|| Bytes::copy_from_slice(key)))
            }
            None => Ok(None),
        }
    }

    /// Commits behind `after` that touched the prefix, and how far they reach; a bounded step at a time.
    pub(super) fn history(
        &self,
        prefix: &[u8],
        after: Revision,
    ) -> Result<(Vec<Batch>, Revision), ReadError> {
        self.check(after)?;
        Ok(self.history_step(prefix, after)?)
    }

    fn history_step(&self, prefix: &[u8], after: Revision) -> Result<(Vec<Batch>, Revision), Fault> {
        let mut batches = Vec::new();
        let mut events: Vec<Event> = Vec::new();
        let (mut reached, mut commits, mut size_bytes) = (after, 0, 0);
        for row in self.log.range((after.0 + 1, 0)..)? {
            let (place, key) = row?;
            let (revision, key) = (Revision(place.value().0), key.value());
            if revision != reached {
                flush(&mut batches, &mut events, reached);
                if commits == HISTORY_STEP_COMMITS_MAX || size_bytes > HISTORY_STEP_BYTES_MAX {
                    return Ok((batches, reached));
                }
                commits += 1;
                reached = revision;
            }
            if key.starts_with(prefix) {
                let event = self.event(key, revision)?;
                size_bytes += event.size_bytes();
                events.push(event);
            }
        }
        flush(&mut batches, &mut events, reached);
        // A commit always has a log row, so the end of the log is the newest revision.
        Ok((batches, self.meta.newest.max(reached)))
    }

    fn event(&self, key: &[u8], revision: Revision) -> Result<Event, Fault> {
        let previous = || self.replaced(key, Revision(revision.0 - 1));
        if let Some(row) = self.current.get(key)?
            && current_mod_revision(row.value())? == revision
        {
            return Ok(Event::Put { entry: decode_current(key, row.value())?, previous: previous()? });
        }
        let lost = super::table::Damaged { table: "log" };
        let Some(row) = self.history.get((key, revision.0))? else { return Err(lost.into()) };
        match (decode_version(key, revision.0, row.value())?, previous()?) {
            (Some(entry), previous) => Ok(Event::Put { entry, previous }),
            (None, Some(previous)) => Ok(Event::Delete { previous, revision }),
            (None, None) => Err(lost.into()),
        }
    }
}

fn flush(batches: &mut Vec<Batch>, events: &mut Vec<Event>, revision: Revision) {
    if !events.is_empty() {
        batches.push(Batch { revision, events: Arc::from(std::mem::take(events)) });
    }
}

/// The end of a range of keys.
enum End {
    Before(Vec<u8>),
    Open,
}

impl End {
    fn as_deref_bound(&self) -> Bound<&[u8]> {
        match self {
            Self::Before(key) => Bound::Excluded(key),
            Self::Open => Bound::Unbounded,
        }
    }
}

/// The keys that begin with `prefix` and are greater than `after`.
fn bounds<'a>(prefix: &'a [u8], after: Option<&'a [u8]>) -> (Bound<&'a [u8]>, End) {
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            // A page asked for behind the whole prefix is empty; the engine wants its start before its end.
            if let Bound::Excluded(after) = start
                && after >= end.as_slice()
            {
                end = [after, &[0]].concat();
            }
            return (start, End::Before(end));
        }
        end.pop();
    }
    (start, End::Open)
}
