//! How the store lies in etcd: its keys, the record that says which history this is, and how etcd's revisions become the
//! store's.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::message::KeyValue;
use crate::store::{Entry, Revision, StoreIdentity};

/// The format of what lies in etcd.
pub const FORMAT: u8 = 2;
/// Format, id, epoch, base; of format 2, whether the keys of the format before are still to be moved.
const RECORD_BYTES: usize = 1 + 16 + 8 + 8 + 1;
const RECORD_BYTES_1: usize = RECORD_BYTES - 1;
/// The store's revisions for each of etcd's: those of the commits that are one transaction of etcd, and a last one behind them.
const PLACES: u64 = 64;
/// Which commit of its transaction of etcd one is. The first byte of each value says it.
pub(super) type Place = u8;
/// How many commits may be one transaction of etcd.
pub(super) const COMMITS_MAX: usize = PLACES as usize - 1;
/// Behind all commits of a transaction.
const LAST: Place = PLACES as Place - 1;

/// Where entries lie, below the cluster's prefix.
const ENTRIES: &[u8] = b"e/";
/// Where those of format 1 lay.
const ENTRIES_1: &[u8] = b"k/";

/// The keys of one cluster: all of them below one prefix.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    prefix: String,
}

impl Layout {
    pub(super) fn new(name: &str) -> Self {
        Self { prefix: format!("/weft/{name}/") }
    }

    /// Says which history this is.
    pub(super) fn identity(&self) -> Bytes {
        format!("{}identity", self.prefix).into()
    }

    /// Written to raise the revision where a watch must see that it has.
    pub(super) fn mark(&self) -> Bytes {
        format!("{}mark", self.prefix).into()
    }

    /// Where a key of the store lies.
    pub(super) fn key(&self, key: &[u8]) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.prefix.len() + 2 + key.len());
        whole.put_slice(self.prefix.as_bytes());
        whole.put_slice(ENTRIES);
        whole.put_slice(key);
        whole.freeze()
    }

    /// The key of the store that lies where format 1 had it, and where it lies now.
    pub(super) fn moved(&self, whole: &[u8]) -> Option<Bytes> {
        let rest = whole.strip_prefix(self.prefix.as_bytes())?.strip_prefix(ENTRIES_1)?;
        Some(self.key(rest))
    }

    /// The key of the store that lies there; none for a key of the backend's own.
    pub(super) fn key_of(&self, whole: &Bytes) -> Option<Bytes> {
        let rest = whole.strip_prefix(self.prefix.as_bytes())?.strip_prefix(ENTRIES)?;
        Some(whole.slice_ref(rest))
    }

    /// The range of what format 1 kept.
    pub(super) fn range_1(&self) -> (Bytes, Bytes) {
        let first = Bytes::from([self.prefix.as_bytes(), ENTRIES_1].concat());
        let end = behind(&first);
        (first, end)
    }

    /// The range of all keys of the store that begin with `prefix`, and lie behind `after`.
    pub(super) fn range(&self, prefix: &[u8], after: Option<&[u8]>) -> (Bytes, Bytes) {
        let first = self.key(prefix);
        let end = behind(&first);
        let first = match after {
            Some(after) if after >= prefix => [&self.key(after)[..], &[0]].concat().into(),
            _ => first,
        };
        (first, end)
    }

    /// The range of everything, the backend's own keys too.
    pub(super) fn everything(&self) -> (Bytes, Bytes) {
        let first = Bytes::from(self.prefix.clone());
        let end = behind(&first);
        (first, end)
    }
}

/// The first key behind all that begin with `prefix`, which is not all 0xff: it begins with a `/`.
fn behind(prefix: &[u8]) -> Bytes {
    let last = prefix.iter().rposition(|byte| *byte != 0xff).unwrap_or(0);
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}

/// A value as it lies in etcd.
pub(super) fn stored(place: Place, value: &[u8]) -> Bytes {
    let mut whole = BytesMut::with_capacity(1 + value.len());
    whole.put_u8(place);
    whole.put_slice(value);
    whole.freeze()
}

/// Which history this is, as it stands in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) identity: StoreIdentity,
    /// What is added to what etcd's revisions come to: so the store's go on where they were, although a restored etcd counts
    /// again from where the backup was made.
    pub(super) base: u64,
}

/// Why a record cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RecordError {
    Newer(u8),
    /// It is of the format before.
    Older(Record),
    /// What lay in the format before is not moved yet.
    Moving(Record),
    Damaged,
}

impl Record {
    pub(super) fn encode(&self) -> Bytes {
        self.encoded(false)
    }

    /// The same while what lay in the format before is being moved.
    pub(super) fn encode_moving(&self) -> Bytes {
        self.encoded(true)
    }

    fn encoded(&self, moving: bool) -> Bytes {
        let mut bytes = BytesMut::with_capacity(RECORD_BYTES);
        bytes.put_u8(FORMAT);
        bytes.put_slice(&self.identity.id);
        bytes.put_u64(self.identity.epoch);
        bytes.put_u64(self.base);
        bytes.put_u8(u8::from(moving));
        bytes.freeze()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.first() {
            Some(format) if *format > FORMAT => return Err(RecordError::Newer(*format)),
            Some(1) if bytes.len() == RECORD_BYTES_1 => {}
            Some(&FORMAT) if bytes.len() == RECORD_BYTES => {}
            _ => return Err(RecordError::Damaged),
        }
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_be_bytes);
        let damaged = |_| RecordError::Damaged;
        let id = bytes[1..17].try_into().map_err(damaged)?;
        let identity = StoreIdentity { id, epoch: number(17).map_err(damaged)? };
        let record = Self { identity, base: number(25).map_err(damaged)? };
        match bytes.get(RECORD_BYTES_1) {
            None => Err(RecordError::Older(record)),
            Some(0) => Ok(record),
            Some(_) => Err(RecordError::Moving(record)),
        }
    }

    /// The revision of a commit of one of etcd's transactions.
    pub(super) fn at(&self, etcd: i64, place: Place) -> Revision {
        let etcd = u64::try_from(etcd).unwrap_or(0);
        Revision(self.base.saturating_add(etcd.saturating_mul(PLACES)).saturating_add(place.min(LAST).into()))
    }

    /// The first revision of one of etcd's.
    pub(super) fn first(&self, etcd: i64) -> Revision {
        self.at(etcd, 0)
    }

    /// The last revision of one of etcd's: what etcd has then is the state at it.
    pub(super) fn last(&self, etcd: i64) -> Revision {
        self.at(etcd, LAST)
    }

    /// The store's revision as etcd's; none for one of an earlier history.
    pub(super) fn etcd(&self, revision: Revision) -> Option<i64> {
        let etcd = revision.0.checked_sub(self.base).map(|steps| steps / PLACES).filter(|etcd| *etcd > 0)?;
        i64::try_from(etcd).ok()
    }

    /// The first of etcd's revisions that may hold something behind one of the store's.
    pub(super) fn etcd_behind(&self, revision: Revision) -> Option<i64> {
        self.etcd(Revision(revision.0.checked_add(1)?))
    }

    /// What etcd has of a key, as the store's. Of the commit that made a key etcd knows the transaction alone: for one that was
    /// written since, it is the first of that.
    pub(super) fn entry(&self, layout: &Layout, kv: &KeyValue) -> Option<Entry> {
        let mod_revision = self.at(kv.mod_revision, place(kv));
        let is_new = kv.create_revision == kv.mod_revision;
        Some(Entry {
            key: layout.key_of(&kv.key)?,
            value: kv.value.slice(kv.value.len().min(1)..),
            create_revision: if is_new { mod_revision } else { self.first(kv.create_revision) },
            mod_revision,
        })
    }
}

/// Which commit of its transaction wrote this; what removes keys is its transaction's only one.
pub(super) fn place(kv: &KeyValue) -> Place {
    kv.value.first().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_put_below_the_prefix_and_found_again() {
        let layout = Layout::new("blue");
        let key = layout.key(b"o/pods/a");
        assert_eq!(&key[..], b"/weft/blue/e/o/pods/a");
        assert_eq!(layout.key_of(&key).unwrap(), "o/pods/a");
        assert_eq!(layout.key_of(&layout.identity()), None);
        assert_eq!(layout.range(b"", None), ("/weft/blue/e/".into(), "/weft/blue/e0".into()));
        assert_eq!(layout.range(b"\xff", None).1, "/weft/blue/e0");
        assert_eq!(layout.range(b"b", Some(b"b/1")).0, "/weft/blue/e/b/1\0");
        assert_eq!(layout.range(b"b", Some(b"a")).0, "/weft/blue/e/b");
        assert_eq!(layout.everything().1, "/weft/blue0");
    }

    #[test]
    fn a_record_survives_and_other_formats_are_told() {
        let record = Record { identity: StoreIdentity { id: [7; 16], epoch: 3 }, base: 1 << 40 };
        let encoded = record.encode();
        assert_eq!(Record::decode(&encoded), Ok(record));
        assert_eq!(Record::decode(&record.encode_moving()), Err(RecordError::Moving(record)));
        let before = [&[1], &encoded[1..RECORD_BYTES_1]].concat();
        assert_eq!(Record::decode(&before), Err(RecordError::Older(record)));
        assert_eq!(Record::decode(&encoded[1..]), Err(RecordError::Newer(7)));
        for damaged in [&encoded[..20], &encoded[..RECORD_BYTES_1], &[]] {
            assert_eq!(Record::decode(damaged), Err(RecordError::Damaged));
        }
    }

    #[test]
    fn each_commit_of_a_transaction_has_a_revision_and_one_is_behind_them() {
        let record = Record { identity: StoreIdentity { id: [0; 16], epoch: 0 }, base: 1000 };
        assert_eq!((record.first(5), record.at(5, 1)), (Revision(1320), Revision(1321)));
        assert_eq!((record.last(5), record.first(6)), (Revision(1383), Revision(1384)));
        for revision in [record.first(5), record.at(5, 40), record.last(5)] {
            assert_eq!(record.etcd(revision), Some(5));
        }
        assert_eq!(record.etcd_behind(record.at(5, 40)), Some(5), "there may be more of it");
        assert_eq!(record.etcd_behind(record.last(5)), Some(6));
        assert_eq!([record.etcd(Revision(999)), record.etcd(Revision(1063))], [None, None]);
    }

    #[test]
    fn a_value_says_which_commit_wrote_it() {
        let record = Record { identity: StoreIdentity { id: [0; 16], epoch: 0 }, base: 0 };
        let layout = Layout::new("a");
        let kv = |create_revision, value| KeyValue {
            key: layout.key(b"k"),
            create_revision,
            mod_revision: 9,
            value,
        };
        let entry = |kv| record.entry(&layout, &kv).unwrap();
        let made = entry(kv(9, stored(5, b"v")));
        assert_eq!((&made.key[..], &made.value[..]), (&b"k"[..], &b"v"[..]));
        assert_eq!((made.create_revision, made.mod_revision), (record.at(9, 5), record.at(9, 5)));
        assert_eq!(entry(kv(3, stored(5, b""))).create_revision, record.first(3));
        assert_eq!(entry(kv(9, Bytes::new())).value, "", "what is not of this store is no reason to end");
    }
}
