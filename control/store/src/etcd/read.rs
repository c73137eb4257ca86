//! Reads: keys and ranges, now or as of a revision.
//!
//! All members are asked. Where they do not answer, one may tell the past without the others, as it cannot change; but not one
//! that was left behind when the others were restored.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::feed::Reader;
use super::layout::Record;
use super::link::{Link, is_compacted, is_future};
use super::message::{CompactionRequest, CompactionResponse, Header, KeyValue, RangeRequest, RangeResponse};
use super::wire::{self, WireError};
use crate::store::{Entry, ListRequest, Page, REMAINING_MAX, ReadError, Revision};

/// How long etcd may take for a read, and for a compaction.
const READ_WAIT: Duration = Duration::from_secs(10);
/// How often, and at what distance, a read is tried that another member or connection may answer.
const READ_TRIES: u32 = 3;
const READ_AGAIN: Duration = Duration::from_millis(100);
/// How often it is looked how far the watch has come.
const WATCH_LOOK: Duration = Duration::from_millis(5);
/// Most entries etcd is asked for at once; about how many bytes they are to be; how many entries at first, when it is not known
/// yet how large they are: even of the largest, no more than a way of 40 Mbit/s brings in time.
const CHUNK_ENTRIES_MAX: usize = 256;
const CHUNK_BYTES: usize = 8 << 20;
const CHUNK_ENTRIES_FIRST: usize = 32;

impl Link {
    /// A revision of the store as etcd's.
    pub(super) fn etcd(&self, record: &Record, asked: Revision) -> Result<i64, ReadError> {
        record.etcd(asked).ok_or_else(|| self.compacted(record, asked))
    }

    pub(super) fn compacted(&self, record: &Record, asked: Revision) -> ReadError {
        ReadError::Compacted { asked, oldest: record.first(self.known().oldest) }
    }

    async fn range(&self, record: &Record, mut question: RangeRequest) -> Result<RangeResponse, ReadError> {
        let (mut tries, of_past) = (READ_TRIES, question.revision > 0);
        // How often one member may be asked alone: at once while there is trouble, as the others would only be waited for.
        let mut alone = if of_past { READ_TRIES } else { 0 };
        question.serializable = alone > 0 && self.trouble().is_some();
        loop {
            if let Some(trouble) = self.trouble().filter(|trouble| trouble.foreign) {
                return Err(ReadError::Engine(trouble.why.to_string().into()));
            }
            let before = self.known();
            if before.record != *record {
                return Err(ReadError::Engine("etcd was restored from a backup in between".into()));
            }
            if of_past && question.revision < before.oldest {
                return Err(self.compacted(record, record.last(question.revision)));
            }
            let answer: Result<RangeResponse, _> = self.wire.call(wire::RANGE, &question, READ_WAIT).await;
            match answer {
                Ok(answer) if question.serializable => {
                    let cluster_id = answer.header.as_ref().map(|header| header.cluster_id);
                    if cluster_id == Some(before.cluster_id) {
                        return Ok(answer);
                    }
                    // It was left behind, or this store was: the others tell.
                    (question.serializable, alone, tries) = (false, 0, 1);
                }
                Ok(answer) => {
                    self.observe(&before, answer.header).map_err(|why| ReadError::Engine(why.into()))?;
                    return Ok(answer);
                }
                // A member that lags may not have the revision yet, one of another history may have compacted it: then all of
                // them are asked.
                Err(error) if question.serializable => {
                    alone = if matches!(error, WireError::Refused { .. }) { 0 } else { alone - 1 };
                    question.serializable = alone > 0;
                }
                Err(error) if is_compacted(&error) => {
                    self.find_oldest(record, question.revision).await;
                    return Err(self.compacted(record, record.last(question.revision)));
                }
                Err(error) if is_future(&error) => {
                    if question.revision <= before.etcd_newest {
                        // It was there: etcd has gone back.
                        self.doubt.notify_one();
                    }
                    let asked = record.last(question.revision);
                    return Err(ReadError::Future { asked, newest: self.known().newest });
                }
                Err(_) if alone > 0 => {
                    self.doubt.notify_one();
                    question.serializable = true;
                }
                Err(error) => {
                    self.doubt.notify_one();
                    tries -= 1;
                    if tries == 0 || matches!(error, WireError::Late { .. }) {
                        return Err(ReadError::Engine(error.into()));
                    }
                    tokio::time::sleep(READ_AGAIN).await;
                }
            }
        }
    }

    /// Whether a revision is there to be read.
    pub(super) async fn probe(&self, record: &Record, asked: Revision) -> Result<(), ReadError> {
        let revision = self.etcd(record, asked)?;
        let question = RangeRequest { key: self.layout.mark(), revision, ..RangeRequest::default() };
        self.range(record, question).await.map(|_| ())
    }

    /// Somebody else has compacted: up to where, tells a watch from the beginning.
    async fn find_oldest(&self, record: &Record, asked: i64) {
        if asked < self.known().oldest {
            return;
        }
        match oldest(self).await {
            Ok(oldest) => self.raise_oldest(record, oldest),
            Err(error) => tracing::warn!(%error, "up to where etcd is compacted is not known"),
        }
    }

    pub(super) async fn get(&self, key: Bytes, at: Option<Revision>) -> Result<Option<Entry>, ReadError> {
        let record = self.record();
        let revision = at.map_or(Ok(0), |at| self.etcd(&record, at))?;
        let question = RangeRequest { key: self.layout.key(&key), revision, ..RangeRequest::default() };
        let answer = self.range(&record, question).await.map_err(|error| asked(at, error))?;
        match answer.kvs.first() {
            Some(kv) => self.as_of(&record, at, kv).await,
            None => Ok(None),
        }
    }

    /// A key as it was at a revision, by what etcd has at the end of the transaction in which that lies: a later commit of the
    /// same transaction may have written it. None removes a key there.
    async fn as_of(
        &self,
        record: &Record,
        at: Option<Revision>,
        kv: &KeyValue,
    ) -> Result<Option<Entry>, ReadError> {
        let entry = record.entry(&self.layout, kv);
        let Some(at) = at.filter(|at| entry.as_ref().is_some_and(|entry| entry.mod_revision > *at)) else {
            return Ok(entry);
        };
        if kv.create_revision == kv.mod_revision {
            return Ok(None);
        }
        let (key, revision) = (kv.key.clone(), kv.mod_revision - 1);
        let question = RangeRequest { key, revision, ..RangeRequest::default() };
        let answer = self.range(record, question).await.map_err(|error| asked(Some(at), error))?;
        Ok(answer.kvs.first().and_then(|kv| record.entry(&self.layout, kv)))
    }

    pub(super) async fn list(&self, request: ListRequest) -> Result<Page, ReadError> {
        let (record, at) = (self.record(), request.at);
        let mut revision = at.map_or(Ok(0), |at| self.etcd(&record, at))?;
        let (mut key, range_end) = self.layout.range(&request.prefix, request.after.as_deref());
        let wanted = if request.entries_max == 0 { usize::MAX } else { request.entries_max };
        let (mut entries, mut chunk) = (Vec::new(), Chunk::default());
        loop {
            let limit = chunk.entries.min(wanted - entries.len());
            let question = RangeRequest {
                key: key.clone(),
                range_end: range_end.clone(),
                // At most CHUNK_ENTRIES_MAX.
                limit: limit as i64,
                revision,
                serializable: false,
            };
            let answer = match self.range(&record, question).await {
                Err(error) if is_late(&error) && chunk.halve() => continue,
                answer => answer.map_err(|error| asked(at, error))?,
            };
            chunk.came(answer.kvs.len(), answer.encoded_len());
            if revision == 0 {
                revision = answer.header.as_ref().map_or(0, |header: &Header| header.revision);
            }
            let behind = u64::try_from(answer.count).unwrap_or(0).saturating_sub(answer.kvs.len() as u64);
            for kv in &answer.kvs {
                entries.extend(self.as_of(&record, at, kv).await?);
            }
            match answer.kvs.last() {
                Some(last) if behind > 0 && entries.len() < wanted => {
                    key = [&last.key[..], &[0]].concat().into();
                }
                _ => {
                    let remaining = behind.min(REMAINING_MAX);
                    let revision = at.unwrap_or_else(|| record.last(revision));
                    return Ok(Page { entries, revision, remaining });
                }
            }
        }
    }

    /// The store's own watch must have told what is to be forgotten: it could not go on.
    async fn wait_for_watch(&self, oldest: Revision) -> Result<(), ReadError> {
        let begun = tokio::time::Instant::now();
        while self.hub.newest() < oldest && self.etcd_has(oldest) {
            if begun.elapsed() > READ_WAIT {
                return Err(ReadError::Engine("etcd's watch has not come to what is to be forgotten".into()));
            }
            tokio::time::sleep(WATCH_LOOK).await;
        }
        Ok(())
    }

    pub(super) async fn compact(&self, oldest: Revision) -> Result<(), ReadError> {
        let known = self.known();
        let Some(revision) = known.record.etcd(oldest).filter(|revision| *revision > known.oldest) else {
            return Ok(());
        };
        self.wait_for_watch(oldest).await?;
        let question = CompactionRequest { revision };
        let done: Result<CompactionResponse, _> = self.wire.call(wire::COMPACT, &question, READ_WAIT).await;
        match done {
            Ok(_) => self.raise_oldest(&known.record, revision),
            Err(error) if is_compacted(&error) => self.find_oldest(&known.record, revision).await,
            Err(error) if is_future(&error) => {
                return Err(ReadError::Future { asked: oldest, newest: self.known().newest });
            }
            Err(error) => {
                self.doubt.notify_one();
                return Err(ReadError::Engine(error.into()));
            }
        }
        Ok(())
    }
}

/// How many entries are asked for at once: what came says how large they are.
struct Chunk {
    entries: usize,
    entries_max: usize,
}

impl Default for Chunk {
    fn default() -> Self {
        Self { entries: CHUNK_ENTRIES_FIRST, entries_max: CHUNK_ENTRIES_MAX }
    }
}

impl Chunk {
    fn came(&mut self, entries: usize, bytes: usize) {
        if let Some(each) = bytes.checked_div(entries) {
            self.entries = (CHUNK_BYTES / each.max(1)).clamp(1, self.entries_max);
        }
    }

    /// It did not come in time: half of it, from now on; no when it was one already.
    fn halve(&mut self) -> bool {
        self.entries_max = self.entries / 2;
        self.entries = self.entries_max.max(1);
        self.entries_max > 0
    }
}

/// A refusal of a revision in the words of who asked for it.
fn asked(at: Option<Revision>, error: ReadError) -> ReadError {
    match (at, error) {
        (Some(asked), ReadError::Compacted { oldest, .. }) => ReadError::Compacted { asked, oldest },
        (Some(asked), ReadError::Future { newest, .. }) => ReadError::Future { asked, newest },
        (_, error) => error,
    }
}

fn is_late(error: &ReadError) -> bool {
    let ReadError::Engine(why) = error else { return false };
    matches!(why.downcast_ref(), Some(WireError::Late { .. }))
}

/// The oldest revision of etcd that can be read.
pub(super) async fn oldest(link: &Link) -> Result<i64, WireError> {
    let key = link.layout.identity();
    match tokio::time::timeout(READ_WAIT, Reader::oldest(&link.wire, key)).await {
        Ok(oldest) => oldest,
        Err(_) => Err(WireError::Late { limit: READ_WAIT }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_asked_for_as_comes_in_time() {
        let mut chunk = Chunk::default();
        chunk.came(32, 32 << 10);
        assert_eq!(chunk.entries, CHUNK_ENTRIES_MAX);
        chunk.came(256, 256 << 18);
        assert_eq!(chunk.entries, 32);
        chunk.came(32, 32 << 24);
        assert_eq!(chunk.entries, 1);
        chunk.came(1, 1 << 20);
        assert!(chunk.halve());
        assert_eq!(chunk.entries, 4);
        chunk.came(4, 4 << 10);
        assert_eq!(chunk.entries, 4, "the way is no faster for what is small");
        assert!(chunk.halve() && chunk.halve() && !chunk.halve());
        assert_eq!(chunk.entries, 1);
        chunk.came(0, 10);
        assert_eq!(chunk.entries, 1);
    }
}
