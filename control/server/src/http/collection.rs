//! Objects that are answered together, in the form and encoding that is wanted: made while they are sent, so that one
//! piece is in memory however long the list.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use weft_api::kind::Kind;
use weft_api::status::Status;
use weft_api::{proto, schema};

use super::accept::{Encoding, Form, Wanted};
use super::answer::{self, Body};
use super::query::Query;
use super::{dialect, table};
use crate::cache::Cached;

/// A body is handed to the connection in pieces of about this size, bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// Items of a list in protobuf that are kept until they are sent, bytes; those behind are written a second time.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// What all lists together keep, bytes.
static KEPT_BYTES: Semaphore = Semaphore::const_new(64 << 20);
/// The type of metadata alone.
const METADATA: (&str, &str) = ("meta.k8s.io/v1", "PartialObjectMetadata");

/// A list of objects for clients of `served`, with `meta` as its metadata.
///
/// # Errors
/// 500 when an object cannot be shown in that form.
pub(super) async fn of(
    served: &'static Kind,
    objects: Vec<Arc<Cached>>,
    meta: Value,
    wanted: Wanted,
    query: &Query,
) -> Result<Response<Body>, Status> {
    let api_version = served.api_version();
    let (api_version, kind) = match wanted.form {
        Form::Table => {
            let rows: Vec<_> = objects.iter().map(|c| c.object.clone()).collect();
            return Ok(answer::json(StatusCode::OK, &table::of(served, &rows, meta, true, query)));
        }
        Form::Metadata => METADATA,
        Form::Objects => (api_version.as_str(), served.kind),
    };
    let names = (api_version, format!("{kind}List"));
    match wanted.encoding {
        Encoding::Json => {
            let (version, kind) = names;
            let head =
                format!("{{\"apiVersion\":\"{version}\",\"kind\":\"{kind}\",\"metadata\":{meta},\"items\":[");
            let write = move |cached: &Arc<Cached>| json_item(served, cached, wanted.form);
            let items = objects.into_iter().map(move |cached| write(&cached));
            let body = pieces(head.into_bytes(), items, b",", b"]}");
            Ok(answer::with_type(StatusCode::OK, "application/json", answer::streamed(body)))
        }
        Encoding::Protobuf => {
            let write = move |cached: &Cached| protobuf_item(served, cached, wanted.form);
            let body = protobuf((names.0, &names.1), &meta, objects, write).await?;
            Ok(answer::with_type(StatusCode::OK, proto::MEDIA_TYPE, body))
        }
    }
}

fn json_item(served: &'static Kind, cached: &Cached, form: Form) -> Result<Bytes, Status> {
    if form == Form::Metadata {
        return Ok(table::metadata_of(cached)?.to_string().into());
    }
    Ok(dialect::bytes(served, cached))
}

fn protobuf_item(served: &'static Kind, cached: &Cached, form: Form) -> Result<Bytes, Status> {
    if form == Form::Metadata {
        let definition = schema::by_api_version(METADATA.0, METADATA.1);
        let definition = definition.ok_or_else(|| Status::internal("metadata has no type"))?;
        let message =
            proto::encode_message(&table::metadata_of(cached)?, definition).map_err(Status::internal)?;
        return Ok(proto::item(&message).into());
    }
    dialect::protobuf_item(served, cached).map(Bytes::from)
}

/// A list's body in protobuf. How long it is stands at its head, so every item is written before the first is sent; of a
/// long list they are written again then rather than kept.
async fn protobuf(
    names: (&str, &str),
    meta: &Value,
    objects: Vec<Arc<Cached>>,
    write: impl Fn(&Cached) -> Result<Bytes, Status> + Send + 'static,
) -> Result<Body, Status> {
    let (mut kept, mut whole, mut rested) = (Kept::default(), 0, 0);
    for cached in &objects {
        let item = write(cached)?;
        whole += item.len();
        kept.push(item);
        if whole - rested > PIECE_BYTES {
            rested = whole;
            tokio::task::yield_now().await;
        }
    }
    let head = proto::list_head(names, meta, whole).map_err(Status::internal)?;
    let others = objects.into_iter().skip(kept.items.len()).map(move |cached| write(&cached));
    Ok(answer::streamed(pieces(head, kept.map(Ok).chain(others), b"", b"")))
}

/// The first items of a list, until they are sent.
#[derive(Default)]
struct Kept {
    items: VecDeque<Bytes>,
    bytes: usize,
    full: bool,
    places: Option<SemaphorePermit<'static>>,
}

impl Kept {
    /// Keeps the next one, if there is room for it and was for those before.
    fn push(&mut self, item: Bytes) {
        let place = u32::try_from(item.len()).ok().and_then(|bytes| KEPT_BYTES.try_acquire_many(bytes).ok());
        self.full |= self.bytes + item.len() > KEPT_BYTES_MAX || place.is_none();
        let Some(place) = place.filter(|_| !self.full) else { return };
        match &mut self.places {
            Some(places) => places.merge(place),
            None => self.places = Some(place),
        }
        self.bytes += item.len();
        self.items.push_back(item);
    }
}

impl Iterator for Kept {
    type Item = Bytes;

    /// What is sent is kept no more.
    fn next(&mut self) -> Option<Bytes> {
        let item = self.items.pop_front()?;
        drop(self.places.as_mut().and_then(|places| places.split(item.len())));
        Some(item)
    }
}

/// A body in pieces: its head, the items with `between` between them, and its end.
fn pieces(
    head: Vec<u8>,
    items: impl Iterator<Item = Result<Bytes, Status>> + Send + 'static,
    between: &'static [u8],
    end: &'static [u8],
) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send {
    let mut rest = items.peekable();
    let mut head = Some(head);
    let mut ended = false;
    futures_util::stream::iter(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut piece = head.take().unwrap_or_default();
        while piece.len() < PIECE_BYTES {
            match rest.next() {
                Some(Ok(item)) => piece.extend_from_slice(&item),
                // Half of an answer is sent: what breaks it off is all that can still be told.
                Some(Err(status)) => {
                    ended = true;
                    return Some(Err(std::io::Error::other(status)));
                }
                None => {
                    piece.extend_from_slice(end);
                    ended = true;
                    break;
                }
            }
            if rest.peek().is_some() {
                piece.extend_from_slice(between);
            }
        }
        Some(Ok(Bytes::from(piece)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_lists_keep_is_bounded_and_given_back_as_it_is_sent() {
        let item = || Bytes::from_static(&[0; 1 << 20]);
        let all = KEPT_BYTES.available_permits();
        let mut lists: Vec<Kept> = Vec::new();
        while KEPT_BYTES.available_permits() > 0 {
            let mut kept = Kept::default();
            (0..10).for_each(|_| kept.push(item()));
            assert_eq!(kept.items.len(), 4, "what one list keeps is bounded");
            lists.push(kept);
        }
        assert_eq!(lists.len(), all / KEPT_BYTES_MAX);
        let mut late = Kept::default();
        late.push(item());
        lists[0].next();
        // The first is written again, and so are those behind it: their order is the list's.
        late.push(item());
        assert!(late.items.is_empty());
        let mut next = Kept::default();
        next.push(item());
        assert_eq!((next.items.len(), KEPT_BYTES.available_permits()), (1, 0));
        drop((lists, next));
        assert_eq!(KEPT_BYTES.available_permits(), all);
    }
}
