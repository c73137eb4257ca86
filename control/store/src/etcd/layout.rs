//! How the store lies in etcd: its keys, the record that says which history this is, and how etcd's revisions become the
//! store's.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::message::KeyValue;
use crate::store::{Entry, Revision, StoreIdentity};

/// The format of what lies in etcd.
pub const FORMAT: u8 = 1;
/// Format, id, epoch, base.
const RECORD_BYTES: usize = 1 + 16 + 8 + 8;

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
        whole.put_slice(b"k/");
        whole.put_slice(key);
        whole.freeze()
    }

    /// The key of the store that lies there; none for a key of the backend's own.
    pub(super) fn key_of(&self, whole: &Bytes) -> Option<Bytes> {
        let rest = whole.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b"k/")?;
        Some(whole.slice_ref(rest))
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

/// Which history this is, as it stands in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) identity: StoreIdentity,
    /// What is added to etcd's revisions: so the store's go on where they were, although a restored etcd counts again from
    /// where the backup was made.
    pub(super) base: u64,
}

/// Why a record cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RecordError {
    Newer(u8),
    Damaged,
}

impl Record {
    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(RECORD_BYTES);
        bytes.put_u8(FORMAT);
        bytes.put_slice(&self.identity.id);
        bytes.put_u64(self.identity.epoch);
        bytes.put_u64(self.base);
        bytes.freeze()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.first() {
            Some(format) if *format > FORMAT => return Err(RecordError::Newer(*format)),
            Some(_) if bytes.len() == RECORD_BYTES => {}
            _ => return Err(RecordError::Damaged),
        }
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_be_bytes);
        let damaged = |_| RecordError::Damaged;
        let id = bytes[1..17].try_into().map_err(damaged)?;
        let identity = StoreIdentity { id, epoch: number(17).map_err(damaged)? };
        Ok(Self { identity, base: number(25).map_err(damaged)? })
    }

    /// etcd's revision as the store's.
    pub(super) fn revision(&self, etcd: i64) -> Revision {
        Revision(self.base.saturating_add(u64::try_from(etcd).unwrap_or(0)))
    }

    /// The store's revision as etcd's; none for one of an earlier history.
    pub(super) fn etcd(&self, revision: Revision) -> Option<i64> {
        let etcd = revision.0.checked_sub(self.base).filter(|etcd| *etcd > 0)?;
        i64::try_from(etcd).ok()
    }

    /// What etcd has of a key, as the store's.
    pub(super) fn entry(&self, layout: &Layout, kv: &KeyValue) -> Option<Entry> {
        Some(Entry {
            key: layout.key_of(&kv.key)?,
            value: kv.value.clone(),
            create_revision: self.revision(kv.create_revision),
            mod_revision: self.revision(kv.mod_revision),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_put_below_the_prefix_and_found_again() {
        let layout = Layout::new("blue");
        let key = layout.key(b"o/pods/a");
        assert_eq!(&key[..], b"/weft/blue/k/o/pods/a");
        assert_eq!(layout.key_of(&key).unwrap(), "o/pods/a");
        assert_eq!(layout.key_of(&layout.identity()), None);
        assert_eq!(layout.range(b"", None), ("/weft/blue/k/".into(), "/weft/blue/k0".into()));
        assert_eq!(layout.range(b"\xff", None).1, "/weft/blue/k0");
        assert_eq!(layout.range(b"b", Some(b"b/1")).0, "/weft/blue/k/b/1\0");
        assert_eq!(layout.range(b"b", Some(b"a")).0, "/weft/blue/k/b");
        assert_eq!(layout.everything().1, "/weft/blue0");
    }

    #[test]
    fn a_record_survives_and_a_newer_one_is_told() {
        let record = Record { identity: StoreIdentity { id: [7; 16], epoch: 3 }, base: 1 << 40 };
        let encoded = record.encode();
        assert_eq!(Record::decode(&encoded), Ok(record));
        assert_eq!(Record::decode(&encoded[1..]), Err(RecordError::Newer(7)));
        assert_eq!(Record::decode(&encoded[..20]), Err(RecordError::Damaged));
        assert_eq!(
            (record.revision(5), record.etcd(Revision((1 << 40) + 5))),
            (Revision((1 << 40) + 5), Some(5))
        );
        assert_eq!(record.etcd(Revision(1 << 40)), None);
    }
}
