//! The last view on disk, so that a node without a control plane still knows its Pods and Services after a restart.
//! Secrets are never written.
//!
//! The file is a whole view, put in place at once, and after it the changes since, step by step: what a change costs does
//! not grow with the cluster. A step that was cut off counts for nothing. Who writes, and when, is [`crate::keep`]'s.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use weft_link::Encoded;
use weft_link::message::{ClosedFrame, Cluster, Resource, StateFrame, closed_frame, state_frame::Frame};

use crate::view::View;

/// First bytes of the file: format and version.
const MAGIC: &[u8] = b"weft view 2\n";
/// The version before: a whole view and nothing after it.
const MAGIC_BEFORE: &[u8] = b"weft view 1\n";
/// How the names of Secrets begin.
const SECRETS: &str = "object/Secret/";
/// Bytes before each record: its length and its sum.
const HEAD_BYTES: usize = 8;

/// What was kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) cluster: Cluster,
    pub(crate) view: View,
}

/// Why a kept view cannot be used. The agent then waits for the control plane.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("{path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is of another version, or broken")]
    Format { path: PathBuf },
}

/// The beginning of a file. Resources follow, and a [`end_step`].
pub(crate) fn begin(cluster: &Cluster, out: &mut Vec<u8>) {
    out.put_slice(MAGIC);
    record(cluster, out);
}

/// A resource is there, or changed; unless it is a Secret.
pub(crate) fn put(resource: Resource, out: &mut Vec<u8>) {
    if !resource.name.starts_with(SECRETS) {
        record(&StateFrame { frame: Some(Frame::Put(resource)) }, out);
    }
}

/// The same for one that is encoded already.
pub(crate) fn put_encoded(resource: &Encoded, out: &mut Vec<u8>) {
    if !resource.name().starts_with(SECRETS) {
        record(&ClosedFrame { frame: Some(closed_frame::Frame::Put(resource.bytes().clone())) }, out);
    }
}

/// A resource is gone.
pub(crate) fn remove(name: &str, out: &mut Vec<u8>) {
    record(&StateFrame { frame: Some(Frame::Remove(name.to_owned())) }, out);
}

/// All before this is one step, and counts from now on.
pub(crate) fn end_step(out: &mut Vec<u8>) {
    record(&StateFrame { frame: Some(Frame::Commit(weft_link::message::Position::default())) }, out);
}

/// Reads a kept view; `None` when there is none.
///
/// # Errors
/// The file cannot be read, or holds no whole view of this version or the one before.
pub(crate) fn read(path: &Path) -> Result<Option<Kept>, DiskError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DiskError::Read { path: path.to_owned(), source }),
    };
    let kept = match bytes.strip_prefix(MAGIC_BEFORE) {
        Some(rest) => decode_before(rest),
        None => bytes.strip_prefix(MAGIC).and_then(decode),
    };
    kept.map(Some).ok_or_else(|| DiskError::Format { path: path.to_owned() })
}

fn record(message: &impl Message, out: &mut Vec<u8>) {
    let at = out.len();
    out.put_u64_le(0);
    // A vector takes whatever it is given.
    let _ = message.encode(out);
    let length = out.len() - at - HEAD_BYTES;
    let sum = sum(&out[at + HEAD_BYTES..]);
    let mut head = &mut out[at..at + HEAD_BYTES];
    // A message of the link has at most 4 MiB.
    head.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
    head.put_u32_le(sum);
}

/// The next record; none at the end, or where the file is torn.
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut head = rest.get(..HEAD_BYTES)?;
    let (length, wanted) = (head.get_u32_le() as usize, head.get_u32_le());
    let record = rest.get(HEAD_BYTES..HEAD_BYTES.checked_add(length)?)?;
    if sum(record) != wanted {
        return None;
    }
    *rest = &rest[HEAD_BYTES + length..];
    Some(record)
}

/// Tells a record from what a disk may hold in its place after a loss of power. FNV-1a (draft-eastlake-fnv), never 0 for
/// nothing.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn decode(mut rest: &[u8]) -> Option<Kept> {
    let mut kept = Kept { cluster: Cluster::decode(take(&mut rest)?).ok()?, view: View::default() };
    let (mut step, mut whole) = (Vec::new(), false);
    while let Some(record) = take(&mut rest) {
        match StateFrame::decode(record).ok()?.frame {
            Some(Frame::Commit(_)) => {
                whole = true;
                step.drain(..).for_each(|frame| match frame {
                    Frame::Put(resource) => kept.view.put(resource),
                    Frame::Remove(name) => drop(kept.view.remove(&name)),
                    Frame::Begin(_) | Frame::Commit(_) => {}
                });
            }
            Some(frame) => step.push(frame),
            None => {}
        }
    }
    whole.then_some(kept)
}

fn decode_before(bytes: &[u8]) -> Option<Kept> {
    let mut rest = bytes;
    let mut kept = Kept { cluster: Cluster::decode(take_before(&mut rest)??).ok()?, view: View::default() };
    while let Some(frame) = take_before(&mut rest)? {
        kept.view.put(Resource::decode(Bytes::copy_from_slice(frame)).ok()?);
    }
    rest.is_empty().then_some(kept)
}

/// The next frame; `Some(None)` at the end mark, `None` when the bytes end too early.
fn take_before<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = rest.try_get_u32_le().ok()?;
    if length == u32::MAX {
        return Some(None);
    }
    let (frame, tail) = rest.split_at_checked(length as usize)?;
    *rest = tail;
    Some(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_link::message::{ApiObject, resource::Body};

    fn object(kind: &str, name: &str) -> Resource {
        Resource {
            name: crate::view::object_name(kind, "default", name),
            body: Some(Body::Object(ApiObject {
                kind: kind.into(),
                namespace: "default".into(),
                name: name.into(),
                json: Bytes::from_static(b"{}"),
            })),
        }
    }

    fn whole(resources: &[Resource]) -> Vec<u8> {
        let mut bytes = Vec::new();
        begin(&Cluster { domain: "cluster.local".into(), ..Cluster::default() }, &mut bytes);
        resources.iter().cloned().for_each(|resource| put(resource, &mut bytes));
        end_step(&mut bytes);
        bytes
    }

    fn names(bytes: &[u8]) -> Option<Vec<String>> {
        let kept = decode(bytes.strip_prefix(MAGIC)?)?;
        assert_eq!(kept.cluster.domain, "cluster.local");
        Some(kept.view.names().cloned().collect())
    }

    #[test]
    fn secrets_are_not_kept() {
        let mut bytes = whole(&[object("Pod", "a"), object("Secret", "b")]);
        put_encoded(&object("Secret", "c").into(), &mut bytes);
        end_step(&mut bytes);
        assert_eq!(names(&bytes).unwrap(), ["object/Pod/default/a"]);
        assert!(!bytes.windows(6).any(|part| part == b"Secret"));
    }

    #[test]
    fn a_torn_file_is_the_last_whole_step_and_without_one_no_view() {
        let mut bytes = whole(&[object("Pod", "a"), object("Pod", "b")]);
        let first = bytes.len();
        put(object("Pod", "c"), &mut bytes);
        remove("object/Pod/default/a", &mut bytes);
        end_step(&mut bytes);
        let second = bytes.len();
        let ab = ["object/Pod/default/a", "object/Pod/default/b"];
        for end in 0..second {
            match names(&bytes[..end]) {
                None => assert!(end < first, "cut at {end}"),
                Some(names) => {
                    assert!(end >= first, "cut at {end}");
                    assert_eq!(names, ab, "cut at {end}");
                }
            }
            // The length is there and what was written is not.
            let mut holed = bytes.clone();
            holed[end..].fill(0);
            let found = names(&holed);
            assert!(holed == bytes || found.is_none_or(|names| names == ab), "holed at {end}");
        }
        assert_eq!(names(&bytes).unwrap(), ["object/Pod/default/b", "object/Pod/default/c"]);
    }

    #[test]
    fn the_format_before_is_read() {
        let frame = |message: &dyn Fn(&mut Vec<u8>), out: &mut Vec<u8>| {
            let mut bytes = Vec::new();
            message(&mut bytes);
            out.put_u32_le(u32::try_from(bytes.len()).unwrap());
            out.put_slice(&bytes);
        };
        let mut bytes = MAGIC_BEFORE.to_vec();
        let cluster = Cluster { domain: "cluster.local".into(), ..Cluster::default() };
        frame(&|out| cluster.encode(out).unwrap(), &mut bytes);
        frame(&|out| object("Pod", "a").encode(out).unwrap(), &mut bytes);
        bytes.put_u32_le(u32::MAX);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("view");
        std::fs::write(&path, &bytes).unwrap();
        let kept = read(&path).unwrap().unwrap();
        assert_eq!(kept.cluster.domain, "cluster.local");
        assert_eq!(kept.view.names().collect::<Vec<_>>(), ["object/Pod/default/a"]);
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(read(&path).is_err(), "torn");
    }
}
