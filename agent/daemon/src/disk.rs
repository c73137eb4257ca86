//! The last view on disk, so that a node without a control plane still knows its Pods and Services after a restart.
//! Secrets are never written.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, BytesMut};
use prost::Message;
use weft_link::message::{Cluster, Resource, resource::Body};

use crate::view::View;

/// First bytes of the file: format and version.
const MAGIC: &[u8] = b"weft view 1\n";

/// What was kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) cluster: Cluster,
    pub(crate) resources: Vec<Resource>,
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

/// Bytes of a view, Secrets left out.
pub(crate) fn encode(cluster: &Cluster, view: &View) -> Vec<u8> {
    let mut out = BytesMut::from(MAGIC);
    frame(cluster, &mut out);
    for resource in view.resources().filter(|resource| !is_secret(resource)) {
        frame(&resource, &mut out);
    }
    // A torn file must not pass for a shorter one.
    out.put_u32_le(u32::MAX);
    out.into()
}

/// Reads a kept view; `None` when there is none.
///
/// # Errors
/// The file cannot be read, or is not a whole view of this version.
pub(crate) fn read(path: &Path) -> Result<Option<Kept>, DiskError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DiskError::Read { path: path.to_owned(), source }),
    };
    decode(&bytes).map(Some).ok_or_else(|| DiskError::Format { path: path.to_owned() })
}

fn is_secret(resource: &Resource) -> bool {
    matches!(&resource.body, Some(Body::Object(object)) if object.kind == "Secret")
}

fn frame(message: &impl Message, out: &mut BytesMut) {
    let bytes = message.encode_to_vec();
    out.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1));
    out.put_slice(&bytes);
}

fn decode(bytes: &[u8]) -> Option<Kept> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut kept = Kept { cluster: Cluster::decode(take(&mut rest)??).ok()?, resources: Vec::new() };
    while let Some(frame) = take(&mut rest)? {
        kept.resources.push(Resource::decode(frame).ok()?);
    }
    rest.is_empty().then_some(kept)
}

/// The next frame; `Some(None)` at the end mark, `None` when the bytes end too early.
fn take<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
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
    use bytes::Bytes;
    use weft_link::message::ApiObject;

    fn object(kind: &str) -> Resource {
        Resource {
            name: crate::view::object_name(kind, "default", "a"),
            body: Some(Body::Object(ApiObject {
                kind: kind.into(),
                namespace: "default".into(),
                name: "a".into(),
                json: Bytes::from_static(b"{}"),
            })),
        }
    }

    #[test]
    fn secrets_are_not_kept() {
        let mut view = View::default();
        view.put(object("Pod"));
        view.put(object("Secret"));
        let bytes = encode(&Cluster { domain: "cluster.local".into(), ..Cluster::default() }, &view);
        let kept = decode(&bytes).unwrap();
        assert_eq!(kept.cluster.domain, "cluster.local");
        assert_eq!(kept.resources, [object("Pod")]);
    }

    #[test]
    fn a_torn_file_is_no_view() {
        let mut view = View::default();
        view.put(object("Pod"));
        let bytes = encode(&Cluster::default(), &view);
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_none(), "cut at {end}");
        }
    }
}
