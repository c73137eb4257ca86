//! From format 1 to format 2: a value has one byte more, which says which commit of its transaction wrote it, so that entries
//! lie elsewhere.
//!
//! First the record says that what there is is being moved: no build of format 1 reads or writes from then on. Then all is
//! written anew, and at last, in one transaction, the record says that it is done and what lay in format 1 goes. Whoever finds it
//! half way begins the moving again. Revisions get another meaning, so that it is the next epoch.

use std::time::Duration;

use super::Options;
use super::layout::{self, Layout, Record, RecordError};
use super::link::{LookError, base_above, carry_out_if};
use super::message::{
    Compare, DeleteRequest, Header, KeyValue, Number, PutRequest, RangeRequest, RangeResponse, Request,
    TARGET_MOD,
};
use super::wire::{self, Wire, WireError};
use crate::store::StoreIdentity;

/// How long etcd may take for one step.
const STEP_WAIT: Duration = Duration::from_secs(30);
/// Most entries that are read, and written, at once; about how many bytes are written at once.
const ENTRIES_MAX: usize = 64;
const BYTES_MAX: usize = 512 << 10;

/// Brings what lies in etcd to this build's format, if it is this cluster's and of the format before.
pub(super) async fn run(wire: &Wire, layout: &Layout, options: &Options) -> Result<(), LookError> {
    if options.begins.is_some() {
        return Ok(());
    }
    loop {
        let Some((header, found)) = read(wire, layout).await? else { return Ok(()) };
        let (Err(RecordError::Older(record)) | Err(RecordError::Moving(record))) =
            Record::decode(&found.value)
        else {
            return Ok(());
        };
        if options.expects.is_some_and(|id| id != record.identity.id) {
            return Ok(());
        }
        let unchanged = |number| Compare {
            target: TARGET_MOD,
            key: layout.identity(),
            number: Some(Number::Mod(number)),
        };
        let (next, record_mod) = match Record::decode(&found.value) {
            Err(RecordError::Moving(next)) => (next, found.mod_revision),
            _ => {
                let next = next_epoch(&record, header);
                let put = PutRequest { key: layout.identity(), value: next.encode_moving() };
                let condition = unchanged(found.mod_revision);
                let begun = carry_out_if(wire, condition, vec![Request::Put(put)], STEP_WAIT).await?;
                let Some(begun) = begun else { continue };
                (next, begun.revision)
            }
        };
        tracing::info!(format = layout::FORMAT, "what lies in etcd is brought to this build's format");
        let moved = move_all(wire, layout, unchanged(record_mod), &next).await?;
        if let Some(entries) = moved {
            tracing::info!(entries, "etcd's history of before can be compacted and defragmented now");
            return Ok(());
        }
        // Somebody else is at it.
    }
}

/// The history that begins behind everything that was given in the format before, whose revisions were etcd's and a base.
fn next_epoch(record: &Record, header: Header) -> Record {
    let etcd = u64::try_from(header.revision).unwrap_or(0);
    let newest = crate::store::Revision(record.base.saturating_add(etcd));
    let identity = StoreIdentity { id: record.identity.id, epoch: record.identity.epoch + 1 };
    Record { identity, base: base_above([newest]) }
}

/// How many entries were moved; none where the record is another by now.
async fn move_all(
    wire: &Wire,
    layout: &Layout,
    unchanged: Compare,
    next: &Record,
) -> Result<Option<usize>, WireError> {
    let within = |requests| carry_out_if(wire, unchanged.clone(), requests, STEP_WAIT);
    // What somebody moved who did not come to the end.
    let (key, range_end) = layout.range(b"", None);
    if within(vec![Request::Delete(DeleteRequest { key, range_end })]).await?.is_none() {
        return Ok(None);
    }
    let (first, range_end) = layout.range_1();
    let (mut key, mut entries) = (first.clone(), 0);
    loop {
        let (range_end, limit) = (range_end.clone(), ENTRIES_MAX as i64);
        let question = RangeRequest { key, range_end, limit, ..RangeRequest::default() };
        let page: RangeResponse = wire.call(wire::RANGE, &question, STEP_WAIT).await?;
        let mut puts = page.kvs.iter().filter_map(|kv| put(layout, kv)).peekable();
        while puts.peek().is_some() {
            let (mut together, mut bytes) = (Vec::new(), 0);
            while let Some(put) = puts.next_if(|put| bytes == 0 || bytes + put.value.len() <= BYTES_MAX) {
                bytes += put.value.len();
                together.push(Request::Put(put));
            }
            entries += together.len();
            if within(together).await?.is_none() {
                return Ok(None);
            }
        }
        match page.kvs.last() {
            Some(last) if page.count > page.kvs.len() as i64 => key = [&last.key[..], &[0]].concat().into(),
            _ => break,
        }
    }
    let done = Request::Put(PutRequest { key: layout.identity(), value: next.encode() });
    let gone = Request::Delete(DeleteRequest { key: first, range_end });
    Ok(within(vec![done, gone]).await?.map(|_| entries))
}

fn put(layout: &Layout, kv: &KeyValue) -> Option<PutRequest> {
    Some(PutRequest { key: layout.moved(&kv.key)?, value: layout::stored(0, &kv.value) })
}

async fn read(wire: &Wire, layout: &Layout) -> Result<Option<(Header, KeyValue)>, WireError> {
    let question = RangeRequest { key: layout.identity(), ..RangeRequest::default() };
    let mut answer: RangeResponse = wire.call(wire::RANGE, &question, STEP_WAIT).await?;
    Ok(answer.kvs.pop().map(|kv| (answer.header.unwrap_or_default(), kv)))
}
