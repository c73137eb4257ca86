//! From format 1 to format 2: a value has one byte more, which says which commit of its transaction wrote it, so that entries
//! lie elsewhere.
//!
//! First the record says that what there is is being moved: a build of format 1 commits nothing from then on. Then all is
//! written anew, and at last the record says that it is done. Each step writes the record too, and demands that it is as the step
//! before left it: of two who move, one at most comes on, and a step that was given up cannot happen later. Who finds it half way
//! begins the moving again, once nobody moves any more. Revisions get another meaning, so that it is another epoch.
//!
//! What lay in format 1 is removed at a later start: a process of before that still runs must not take that for the end of
//! everything.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::Options;
use super::layout::{self, Layout, Record, RecordError};
use super::link::{LookError, carry_out_if};
use super::message::{
    Compare, DeleteRequest, Header, KeyValue, Number, PutRequest, RangeRequest, RangeResponse, Request,
    TARGET_MOD,
};
use super::wire::{self, Wire, WireError};
use crate::backup::Head;
use crate::store::Revision;

/// How long etcd may take for one step.
const STEP_WAIT: Duration = Duration::from_secs(10);
/// How long the record must stand still until somebody else goes on.
const STILL: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Most entries that are read, and written, at once; about how many bytes are written at once.
const ENTRIES_MAX: usize = 32;
const BYTES_MAX: usize = 512 << 10;

/// Brings what lies in etcd to this build's format, if it is this cluster's and of the format before.
pub(super) async fn run(wire: &Wire, layout: &Layout, options: &Options) -> Result<(), LookError> {
    if options.begins.is_some() {
        return Ok(());
    }
    let mut seen = (0, Instant::now());
    loop {
        let Some((header, found)) = read(wire, layout).await? else { return Ok(()) };
        let is_expected = |record: &Record| options.expects.is_none_or(|id| id == record.identity.id);
        let record_mod = found.mod_revision;
        let record = match Record::decode(&found.value) {
            Ok(record) if is_expected(&record) => return Ok(remove_before(wire, layout, record_mod).await?),
            Err(RecordError::Older(record)) if is_expected(&record) => next_epoch(&record, header),
            Err(RecordError::Moving(record)) if is_expected(&record) => {
                if seen.0 != record_mod {
                    seen = (record_mod, Instant::now());
                }
                if seen.1.elapsed() < STILL {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue;
                }
                record
            }
            // Whoever reads it next says what is wrong with it.
            _ => return Ok(()),
        };
        tracing::info!(format = layout::FORMAT, "what lies in etcd is brought to this build's format");
        let mut mover = Mover { wire, layout, record, record_mod };
        if let Some(entries) = mover.move_all().await? {
            tracing::info!(entries, "all is there; what lay there before is removed at the next start");
            return Ok(());
        }
    }
}

/// A history that begins behind everything that was given in the format before, whose revisions were etcd's and a base, and
/// behind what came of an earlier moving of the same, if this is a backup of before it.
fn next_epoch(record: &Record, header: Header) -> Record {
    let etcd = u64::try_from(header.revision).unwrap_or(0);
    let revision = Revision(record.base.saturating_add(etcd));
    let begins = Head { identity: record.identity, revision }.beginning(SystemTime::now());
    Record { identity: begins.identity, base: begins.revision.0 }
}

/// Removes what lay there in the format before.
async fn remove_before(wire: &Wire, layout: &Layout, record_mod: i64) -> Result<(), WireError> {
    let (key, range_end) = layout.range_1();
    let question =
        RangeRequest { key: key.clone(), range_end: range_end.clone(), limit: 1, ..RangeRequest::default() };
    let there: RangeResponse = wire.call(wire::RANGE, &question, STEP_WAIT).await?;
    if there.count > 0 {
        let gone = Request::Delete(DeleteRequest { key, range_end });
        carry_out_if(wire, unchanged(layout, record_mod), vec![gone], STEP_WAIT).await?;
        tracing::info!(entries = there.count, "what lay in etcd before its format changed is removed");
    }
    Ok(())
}

fn unchanged(layout: &Layout, record_mod: i64) -> Compare {
    Compare { target: TARGET_MOD, key: layout.identity(), number: Some(Number::Mod(record_mod)) }
}

/// One who moves what there is.
struct Mover<'a> {
    wire: &'a Wire,
    layout: &'a Layout,
    /// Of the history that begins.
    record: Record,
    /// Where the last step left the record in etcd.
    record_mod: i64,
}

impl Mover<'_> {
    /// How many entries were moved; none where somebody else is at it.
    async fn move_all(&mut self) -> Result<Option<usize>, WireError> {
        // What somebody moved who did not come to the end.
        let (key, range_end) = self.layout.range(b"", None);
        let leftovers = Request::Delete(DeleteRequest { key, range_end });
        let moving = self.record.encode_moving();
        if !self.step(moving.clone(), vec![leftovers]).await? {
            return Ok(None);
        }
        let (mut key, range_end) = self.layout.range_1();
        let mut entries = 0;
        loop {
            let (range_end, limit) = (range_end.clone(), ENTRIES_MAX as i64);
            let question = RangeRequest { key, range_end, limit, ..RangeRequest::default() };
            let page: RangeResponse = self.wire.call(wire::RANGE, &question, STEP_WAIT).await?;
            let mut puts = page.kvs.iter().filter_map(|kv| put(self.layout, kv)).peekable();
            while puts.peek().is_some() {
                let (mut together, mut bytes) = (Vec::new(), 0);
                while let Some(put) = puts.next_if(|put| bytes == 0 || bytes + put.value.len() <= BYTES_MAX) {
                    bytes += put.value.len();
                    together.push(Request::Put(put));
                }
                entries += together.len();
                if !self.step(moving.clone(), together).await? {
                    return Ok(None);
                }
            }
            match page.kvs.last() {
                Some(last) if page.count > page.kvs.len() as i64 => {
                    key = [&last.key[..], &[0]].concat().into();
                }
                _ => break,
            }
        }
        Ok(self.step(self.record.encode(), Vec::new()).await?.then_some(entries))
    }

    /// Carries out what is asked for and writes the record; no where somebody else has written that.
    async fn step(&mut self, record: Bytes, mut requests: Vec<Request>) -> Result<bool, WireError> {
        requests.push(Request::Put(PutRequest { key: self.layout.identity(), value: record }));
        let condition = unchanged(self.layout, self.record_mod);
        let done = carry_out_if(self.wire, condition, requests, STEP_WAIT).await?;
        if let Some(header) = done {
            self.record_mod = header.revision;
        }
        Ok(done.is_some())
    }
}

fn put(layout: &Layout, kv: &KeyValue) -> Option<PutRequest> {
    Some(PutRequest { key: layout.moved(&kv.key)?, value: layout::stored(0, &kv.value) })
}

async fn read(wire: &Wire, layout: &Layout) -> Result<Option<(Header, KeyValue)>, WireError> {
    let question = RangeRequest { key: layout.identity(), ..RangeRequest::default() };
    let mut answer: RangeResponse = wire.call(wire::RANGE, &question, STEP_WAIT).await?;
    Ok(answer.kvs.pop().map(|kv| (answer.header.unwrap_or_default(), kv)))
}
