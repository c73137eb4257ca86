//! What all parts of the backend share: the way to etcd, what was seen of it last, and whether it is still the history it was.
//!
//! **An etcd that was restored from a backup counts revisions again that were given before.** It is found out by what was seen:
//! a revision that went back, another cluster's id, or a commit that is not there any more, be it the last one that was told or
//! the last one that was made. Then the epoch rises, and with it
//! the number that is added to etcd's revisions, so that the store's own never go back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::Options;
use super::layout::{Layout, Record, RecordError};
use super::message::{
    Compare, Header, KeyValue, Number, PutRequest, RangeRequest, RangeResponse, Request, RequestOp,
    TARGET_CREATE, TARGET_MOD, TxnRequest, TxnResponse,
};
use super::migrate;
use super::wire::{self, Wire, WireError, code};
use crate::store::{Beginning, Revision, StoreIdentity, WatchEnd};
use crate::watch::Hub;

/// How long etcd may take to answer whether it is there.
pub(super) const LOOK_WAIT: Duration = Duration::from_secs(3);
/// What an epoch's first revision is above everything seen before: more commits than there can be in the moment in which
/// another control plane finds it out too.
const EPOCH_REVISIONS: u64 = 1 << 26;
/// How often an answer may come too late to be acted on before it is given up for this time.
const RAISE_TRIES: u32 = 8;

/// Why etcd cannot be used now.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It was to be made.
    #[error("etcd holds a store of this name already")]
    NotNew,
    /// One was expected.
    #[error("etcd holds no store of this name")]
    Absent,
    /// Another was expected.
    #[error("etcd holds another store of this name")]
    Another,
    /// Not this cluster's state: taking it for that would remove all there is.
    #[error("{0}; restore a backup of it")]
    Foreign(&'static str),
    /// The next epoch cannot be written.
    #[error(
        "etcd was restored from a backup and has no space left: compact and defragment it, then disarm its alarm"
    )]
    Full(#[source] WireError),
    /// A backup of an older build was restored underneath.
    #[error("the store in etcd has the format before this build's {known}: restart weft-control, which brings it there", known = super::FORMAT)]
    Older,
    /// A newer build has raised the format.
    #[error("the store in etcd has format {0}, this build knows up to {known}: use a newer build", known = super::FORMAT)]
    Newer(u8),
}

/// Why the store takes no writes.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) why: Arc<str>,
    /// etcd is full: what removes is taken all the same.
    pub(super) full: bool,
    /// What is in etcd is not to be read either.
    pub(super) foreign: bool,
}

/// A commit that was seen: a restored etcd may not have it, or another at its revision.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    pub(super) key: Bytes,
    pub(super) revision: i64,
    pub(super) change: Change,
}

impl Sighting {
    fn replace_by(&mut self, later: Option<Self>) {
        if let Some(later) = later.filter(|later| later.revision > self.revision) {
            *self = later;
        }
    }
}

/// What a commit did to a key.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(Bytes),
    /// What the commit of this revision had written.
    Delete(i64),
}

/// What a key was, as far as etcd can still tell.
enum Past {
    Was(Option<KeyValue>),
    Compacted,
    Future,
}

/// What was seen of etcd last.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) record: Record,
    /// The revision of the record's key: every commit demands it.
    pub(super) record_mod: i64,
    /// The oldest revision of etcd that can be read.
    pub(super) oldest: i64,
    /// The newest commit that was acknowledged or seen.
    pub(super) newest: Revision,
    /// What follows this could not be told: it is compacted within the transaction of etcd in which it lies.
    pub(super) untold: Revision,
    pub(super) cluster_id: u64,
    /// etcd's newest revision in any answer that all members agreed on.
    pub(super) etcd_newest: i64,
    /// The last commit that the watch told. A commit that gets into another history before that is found out leaves it.
    told: Sighting,
    /// The last commit that was made here; it may never have been told.
    made: Sighting,
    /// How it was found out that this is another history, until the next epoch is begun: a full etcd may not let that be
    /// written before what says so is compacted.
    restored: Option<&'static str>,
    trouble: Option<Trouble>,
}

/// What the parts share.
pub(super) struct Link {
    pub(super) wire: Arc<Wire>,
    pub(super) layout: Layout,
    pub(super) hub: Hub,
    known: Mutex<Known>,
    /// Counts other histories, and the end.
    changes: watch::Sender<u64>,
    /// Counts how often the watch was alive and told nothing.
    silences: watch::Sender<u64>,
    /// Rung when an answer gives rise to doubt.
    pub(super) doubt: Notify,
}

impl Link {
    /// Finds the record of this cluster in etcd, or makes it.
    pub(super) async fn open(wire: Arc<Wire>, layout: Layout, options: &Options) -> Result<Self, LookError> {
        let Options { begins, expects, .. } = *options;
        migrate::run(&wire, &layout, options).await?;
        let (record, record_mod, (at, seen)) = loop {
            let (read, found) = read_record(&wire, &layout).await?;
            let (record, record_mod, read) = match found {
                Some(_) if begins.is_some() => return Err(LookError::NotNew),
                Some((record, _)) if expects.is_some_and(|id| id != record.identity.id) => {
                    return Err(LookError::Another);
                }
                Some((record, record_mod)) => (record, record_mod, read),
                None if expects.is_some() && begins.is_none() => return Err(LookError::Absent),
                None => {
                    let identity = StoreIdentity { id: *uuid::Uuid::new_v4().as_bytes(), epoch: 0 };
                    let begins = begins.unwrap_or(Beginning { identity, revision: Revision(0) });
                    let record = Record { identity: begins.identity, base: begins.revision.0 };
                    let Some(header) = write_record(&wire, &layout, &record, 0).await? else { continue };
                    (record, header.revision, header)
                }
            };
            if let Some(begun) = begin_at(&wire, &layout, &record, record_mod, read).await? {
                break (record, record_mod, begun);
            }
        };
        let newest = record.last(at.revision);
        let known = Known {
            record,
            record_mod,
            oldest: 1,
            newest,
            untold: Revision(0),
            cluster_id: at.cluster_id,
            etcd_newest: at.revision,
            told: seen.clone(),
            made: seen,
            restored: None,
            trouble: None,
        };
        let (known, changes, silences) = (Mutex::new(known), watch::channel(0).0, watch::channel(0).0);
        Ok(Self { wire, layout, hub: Hub::new(newest), known, changes, silences, doubt: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing below panics half way through a change, so a poisoned lock still guards a whole state.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn known(&self) -> Known {
        self.lock().clone()
    }

    pub(super) fn record(&self) -> Record {
        self.lock().record
    }

    /// etcd's newest revision, whoever made it, as the store's.
    pub(super) fn etcd_newest(&self) -> Revision {
        let known = self.lock();
        known.record.first(known.etcd_newest)
    }

    /// Whether etcd has come to a revision, in any answer.
    pub(super) fn etcd_has(&self, revision: Revision) -> bool {
        let known = self.lock();
        revision <= known.record.last(known.etcd_newest)
    }

    /// Tells of another history, and of the end.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Tells that what etcd's watches told cannot be all.
    pub(super) fn silences(&self) -> watch::Receiver<u64> {
        self.silences.subscribe()
    }

    /// The watch is alive and tells nothing: all that read begin again, at the next member.
    pub(super) async fn silence(&self) {
        self.wire.move_on().await;
        self.silences.send_modify(|count| *count += 1);
    }

    /// Ends every watch.
    pub(super) fn close(&self) {
        self.hub.close();
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.lock().trouble.clone()
    }

    pub(super) fn set_trouble(&self, trouble: Option<Trouble>) {
        let mut known = self.lock();
        match (&known.trouble, &trouble) {
            (None, Some(trouble)) => tracing::error!(why = %trouble.why, "etcd takes no writes"),
            (Some(_), None) => tracing::info!("etcd takes writes again"),
            _ => {}
        }
        known.trouble = trouble;
    }

    /// A commit of this process, under the record it belongs to.
    pub(super) fn reached(&self, record: &Record, revision: Revision, made: Option<Sighting>) {
        let mut known = self.lock();
        if known.record == *record {
            known.newest = known.newest.max(revision);
            known.made.replace_by(made);
        }
    }

    /// What the watch told of, under the record it belongs to.
    pub(super) fn told(&self, record: &Record, revision: Revision, told: Option<Sighting>) {
        let mut known = self.lock();
        if known.record == *record {
            known.newest = known.newest.max(revision);
            known.told.replace_by(told);
        }
    }

    /// Nobody can be told what follows a revision.
    pub(super) fn cannot_tell(&self, record: &Record, after: Revision) {
        let mut known = self.lock();
        if known.record == *record {
            known.untold = known.untold.max(after);
        }
    }

    pub(super) fn raise_oldest(&self, record: &Record, oldest: i64) {
        let mut known = self.lock();
        if known.record == *record {
            known.oldest = known.oldest.max(oldest);
        }
    }

    /// Takes in an answer that all members agreed on; `before` is what was known when it was asked for.
    ///
    /// # Errors
    /// It contradicts what was seen: etcd was restored.
    pub(super) fn observe(&self, before: &Known, header: Option<Header>) -> Result<Header, &'static str> {
        let header = header.unwrap_or_default();
        if let Some(why) = contradiction(before, header) {
            self.doubt.notify_one();
            return Err(why);
        }
        let mut known = self.lock();
        if known.record == before.record {
            known.etcd_newest = known.etcd_newest.max(header.revision);
        }
        Ok(header)
    }

    /// Whether this is still the history that was seen; where it is not, the next epoch begins. `thorough`: looks for the last
    /// commits, too.
    pub(super) async fn verify(&self, thorough: bool) -> Result<(), LookError> {
        for _ in 0..RAISE_TRIES {
            let before = self.known();
            let (header, found) = read_record(&self.wire, &self.layout).await?;
            let Some((record, record_mod)) = found else {
                return Err(LookError::Foreign("etcd holds nothing of this cluster any more"));
            };
            if record.identity.id != before.record.identity.id {
                return Err(LookError::Foreign("etcd holds another store"));
            }
            let mut why = before.restored.or_else(|| contradiction(&before, header));
            if thorough && why.is_none() {
                why = match self.missing(&before.told).await? {
                    None if before.made.revision != before.told.revision => {
                        self.missing(&before.made).await?
                    }
                    why => why,
                };
            }
            if why.is_none() && (record, record_mod) == (before.record, before.record_mod) {
                let _ = self.observe(&before, Some(header));
                return Ok(());
            }
            self.remember(&before.record, why);
            let ours = before.record.identity.epoch;
            // What lists were told is etcd's newest, whoever wrote it.
            let given = before.newest.max(before.record.last(before.etcd_newest));
            if record.identity.epoch > ours && record.base >= given.0 {
                // Somebody else found it out.
                if let Some((at, seen)) =
                    begin_at(&self.wire, &self.layout, &record, record_mod, header).await?
                {
                    self.adopt(&before.record, record, record_mod, at, seen);
                }
                continue;
            }
            let above = base_above([given, record.last(header.revision)]);
            let identity =
                StoreIdentity { id: record.identity.id, epoch: record.identity.epoch.max(ours) + 1 };
            let next = Record { identity, base: above };
            let written = write_record(&self.wire, &self.layout, &next, record_mod).await;
            let written = written.map_err(|error| match error {
                error if is_full(&error) => LookError::Full(error),
                error => error.into(),
            })?;
            if let Some(header) = written {
                tracing::warn!(
                    why = why.unwrap_or("its record was replaced"),
                    epoch = identity.epoch,
                    "etcd was restored from a backup: the next epoch begins, and everybody reads anew"
                );
                let (key, change) = (self.layout.identity(), Change::Put(next.encode()));
                let seen = Sighting { key, revision: header.revision, change };
                self.adopt(&before.record, next, header.revision, header, seen);
            }
        }
        Err(LookError::Wire(WireError::Unreachable { why: "its record changes all the time".into() }))
    }

    fn remember(&self, record: &Record, restored: Option<&'static str>) {
        let mut known = self.lock();
        if known.record == *record {
            known.restored = restored;
        }
    }

    /// Goes over to another history, at a commit of this cluster in it.
    fn adopt(&self, from: &Record, record: Record, record_mod: i64, at: Header, seen: Sighting) {
        let mut known = self.lock();
        if known.record != *from {
            return;
        }
        let newest = record.last(at.revision);
        known.record = record;
        known.record_mod = record_mod;
        known.oldest = at.revision;
        known.newest = newest;
        known.cluster_id = at.cluster_id;
        known.etcd_newest = at.revision;
        (known.told, known.made) = (seen.clone(), seen);
        known.restored = None;
        self.hub.reset(newest, WatchEnd::Restored);
        drop(known);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Whether a commit that was seen is not there any more.
    async fn missing(&self, last: &Sighting) -> Result<Option<&'static str>, WireError> {
        let there = match self.past(&last.key, last.revision).await? {
            Past::Was(there) => there,
            Past::Compacted => return Ok(None),
            Past::Future => return Ok(Some("its last commit is not there any more")),
        };
        let same = match (&last.change, there) {
            (Change::Put(value), Some(kv)) => kv.mod_revision == last.revision && kv.value == *value,
            // What is not there may never have been: it must have been just before.
            (Change::Delete(of), None) => match self.past(&last.key, last.revision - 1).await? {
                Past::Was(kv) => kv.is_some_and(|kv| kv.mod_revision == *of),
                Past::Compacted | Past::Future => true,
            },
            _ => false,
        };
        Ok((!same).then_some("it has another commit in the place of its last"))
    }

    async fn past(&self, key: &Bytes, revision: i64) -> Result<Past, WireError> {
        let question = RangeRequest { key: key.clone(), revision, ..RangeRequest::default() };
        match self.wire.call::<RangeResponse>(wire::RANGE, &question, LOOK_WAIT).await {
            Ok(mut answer) => Ok(Past::Was(answer.kvs.pop())),
            Err(error) if is_compacted(&error) => Ok(Past::Compacted),
            Err(error) if is_future(&error) => Ok(Past::Future),
            Err(error) => Err(error),
        }
    }

    /// Writes the key that is there to be seen by the watch, in the history that is known; its revision.
    pub(super) async fn mark(&self, before: &Known) -> Result<Header, WireError> {
        if let Some((header, _)) = mark(&self.wire, &self.layout, before.record_mod).await? {
            return Ok(header);
        }
        self.doubt.notify_one();
        Err(WireError::Malformed("its record is another".into()))
    }

    /// The commits behind `newest` cannot be told one by one: everybody reads anew from here on.
    ///
    /// # Errors
    /// There is no answer, or it is of another history.
    pub(super) async fn skip(&self, compacted: i64) -> Result<(), WireError> {
        let before = self.known();
        let marked = self.mark(&before).await?;
        let observed = self.observe(&before, Some(marked));
        let header = observed.map_err(|why| WireError::Malformed(why.into()))?;
        let mut known = self.lock();
        if known.record == before.record {
            let newest = before.record.last(header.revision);
            known.oldest = known.oldest.max(compacted);
            known.newest = known.newest.max(newest);
            self.hub.reset(newest, WatchEnd::TooSlow { queue_max: crate::watch::WATCH_QUEUE_MAX });
        }
        Ok(())
    }
}

/// What the next epoch adds to etcd's revisions, by those that were given before.
fn base_above(given: [Revision; 2]) -> u64 {
    given.map(|revision| revision.0).into_iter().fold(0, u64::max).saturating_add(EPOCH_REVISIONS)
}

fn contradiction(before: &Known, header: Header) -> Option<&'static str> {
    if header.cluster_id != before.cluster_id {
        return Some("its cluster id is another");
    }
    (header.revision < before.etcd_newest).then_some("its revision went back")
}

/// Whether etcd says that a revision is compacted.
pub(super) fn is_compacted(error: &WireError) -> bool {
    error.says(code::OUT_OF_RANGE, "compacted")
}

/// Whether etcd says that a revision is not there yet.
pub(super) fn is_future(error: &WireError) -> bool {
    error.says(code::OUT_OF_RANGE, "future")
}

/// Whether etcd says that it has no space left.
pub(super) fn is_full(error: &WireError) -> bool {
    error.says(code::RESOURCE_EXHAUSTED, "space exceeded")
}

type Found = Option<(Record, i64)>;

async fn read_record(wire: &Wire, layout: &Layout) -> Result<(Header, Found), LookError> {
    let question = RangeRequest { key: layout.identity(), ..RangeRequest::default() };
    let answer: RangeResponse = wire.call(wire::RANGE, &question, LOOK_WAIT).await?;
    let header = answer.header.unwrap_or_default();
    let read = |kv: &KeyValue| match Record::decode(&kv.value) {
        Ok(record) => Ok((record, kv.mod_revision)),
        Err(RecordError::Newer(format)) => Err(LookError::Newer(format)),
        Err(RecordError::Older(_) | RecordError::Moving(_)) => Err(LookError::Older),
        Err(RecordError::Damaged) => Err(LookError::Foreign("the record of this cluster in etcd is damaged")),
    };
    Ok((header, answer.kvs.first().map(read).transpose()?))
}

/// Writes the record if it is still the one of revision `before` (0: none); answers nothing if it is not.
async fn write_record(
    wire: &Wire,
    layout: &Layout,
    record: &Record,
    before: i64,
) -> Result<Option<Header>, WireError> {
    let put = PutRequest { key: layout.identity(), value: record.encode() };
    put_if_unchanged(wire, layout, before, put).await
}

/// Writes a key if the record is the one of revision `before` (0: none); answers nothing if it is not.
async fn put_if_unchanged(
    wire: &Wire,
    layout: &Layout,
    before: i64,
    put: PutRequest,
) -> Result<Option<Header>, WireError> {
    let (target, number) = match before {
        0 => (TARGET_CREATE, Number::Create(0)),
        revision => (TARGET_MOD, Number::Mod(revision)),
    };
    let unchanged = Compare { target, key: layout.identity(), number: Some(number) };
    carry_out_if(wire, unchanged, vec![Request::Put(put)], LOOK_WAIT).await
}

/// Carries out what is asked for if a condition holds; answers nothing if it does not.
pub(super) async fn carry_out_if(
    wire: &Wire,
    condition: Compare,
    requests: Vec<Request>,
    limit: Duration,
) -> Result<Option<Header>, WireError> {
    let success = requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect();
    let question = TxnRequest { compare: vec![condition], success, failure: Vec::new() };
    let answer: TxnResponse = wire.call(wire::TXN, &question, limit).await?;
    Ok(answer.succeeded.then(|| answer.header.unwrap_or_default()))
}

/// A commit of this cluster to begin at: a mark of its own or, where etcd has no space for it, the record as it was read. None
/// where the record is another by now.
async fn begin_at(
    wire: &Wire,
    layout: &Layout,
    record: &Record,
    record_mod: i64,
    read: Header,
) -> Result<Option<(Header, Sighting)>, WireError> {
    match mark(wire, layout, record_mod).await {
        Err(error) if is_full(&error) => {
            let change = Change::Put(record.encode());
            Ok(Some((read, Sighting { key: layout.identity(), revision: record_mod, change })))
        }
        marked => marked,
    }
}

/// Writes the mark if the record is still the one of that revision.
async fn mark(
    wire: &Wire,
    layout: &Layout,
    record_mod: i64,
) -> Result<Option<(Header, Sighting)>, WireError> {
    // As no other: the mark of another history at the same revision is not this one.
    let value = Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    let (key, change) = (layout.mark(), Change::Put(value.clone()));
    let written = put_if_unchanged(wire, layout, record_mod, PutRequest { key: key.clone(), value }).await?;
    Ok(written.map(|header| (header, Sighting { key, revision: header.revision, change })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_begins_above_all_that_was_given() {
        let above = |given: [u64; 2]| base_above(given.map(Revision));
        for given in [[9, 1], [1, 9]] {
            assert_eq!(above(given), 9 + EPOCH_REVISIONS);
        }
        assert_eq!(above([u64::MAX, 1]), u64::MAX, "a damaged record is no reason to go back");
    }
}
