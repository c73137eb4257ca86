//! GET: one object, or a list of them page by page.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weft_api::kind::Kind;
use weft_api::status::Status;
use weft_store::store::{REMAINING_MAX, ReadError};

use super::accept::{Encoding, Form, Wanted};
use super::answer::{self, Body};
use super::options::{self, ListState};
use super::route::ResourceRoute;
use super::select::Selection;
use super::{Api, Call, collection, dialect, table};
use crate::cache::Cached;
use crate::objects::layout;

/// How long a read waits for a revision that is not reached yet.
const FUTURE_WAIT: Duration = Duration::from_secs(3);
/// Entries read from the store at once for a later page.
const STORE_PAGE_ENTRIES_MAX: usize = 1_000;

/// In place of a revision: what is there now, though the pages before were of another state.
const NEWEST: i64 = -1;

/// Where the next page begins, and which state it is a page of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Continue {
    /// Revision of the list, or [`NEWEST`].
    rv: i64,
    /// Key of the last entry of the page before.
    after: String,
}

impl Continue {
    fn new(revision: u64, after: &[u8]) -> Self {
        let rv = i64::try_from(revision).unwrap_or(i64::MAX);
        Self { rv, after: String::from_utf8_lossy(after).into_owned() }
    }

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Self, Status> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        bytes
            .and_then(|b| serde_json::from_slice(&b).ok())
            .ok_or_else(|| Status::bad_request("continue key is not valid"))
    }
}

/// One page.
pub(super) struct Listed {
    pub(super) objects: Vec<Arc<Cached>>,
    revision: u64,
    next: Option<String>,
    remaining: Option<u64>,
}

impl Listed {
    /// The metadata of a list of these.
    pub(super) fn meta(&self) -> Value {
        let mut meta = json!({ "resourceVersion": self.revision.to_string() });
        if let Some(next) = &self.next {
            meta["continue"] = next.clone().into();
            if let Some(remaining) = self.remaining {
                meta["remainingItemCount"] = remaining.into();
            }
        }
        meta
    }
}

/// GET of one object, no older than the revision that is named.
///
/// # Errors
/// 400, 404, 406; 504 for a revision that is not reached.
pub(crate) async fn get(api: &Api, call: &Call, route: &ResourceRoute) -> Result<Response<Body>, Status> {
    let wanted = Wanted::of(call)?;
    wait_for(api, options::revision(&call.query)?).await?;
    let cached = api.objects.get(route.kind, &route.key)?;
    object(StatusCode::OK, route.served, &cached, wanted, call)
}

/// One object in the form that is wanted, for clients of `served`.
///
/// # Errors
/// 500 when the object cannot be shown in that form.
pub(crate) fn object(
    code: StatusCode,
    served: &'static Kind,
    cached: &Cached,
    wanted: Wanted,
    call: &Call,
) -> Result<Response<Body>, Status> {
    match (wanted.form, wanted.encoding) {
        (Form::Objects, Encoding::Json) => Ok(answer::raw_json(code, dialect::bytes(served, cached))),
        (Form::Objects, Encoding::Protobuf) => Ok(answer::protobuf(code, dialect::protobuf(served, cached)?)),
        (Form::Metadata, encoding) => Ok(answer::value(code, &table::metadata_of(cached)?, encoding)),
        (Form::Table, _) => {
            let rows = std::slice::from_ref(&cached.object);
            let mut meta = json!({ "resourceVersion": cached.object.meta.resource_version });
            if cached.object.meta.resource_version.is_empty() {
                meta = json!({});
            }
            Ok(answer::json(code, &table::of(served, rows, meta, true, &call.query)))
        }
    }
}

/// GET of a collection.
///
/// # Errors
/// 400 for selectors and numbers, 410 for a state that is gone, 504 for one that is not reached.
pub(crate) async fn list(api: &Api, call: &Call, route: &ResourceRoute) -> Result<Response<Body>, Status> {
    let wanted = Wanted::of(call)?;
    let selection = Selection::of(route.served, &call.query)?;
    let listed = listed(api, call, route, &selection).await?;
    let meta = listed.meta();
    collection::of(route.served, listed.objects, meta, wanted, &call.query).await
}

/// What a request is about, of the state and in the page that it wants.
///
/// # Errors
/// As [`list`].
pub(super) async fn listed(
    api: &Api,
    call: &Call,
    route: &ResourceRoute,
    selection: &Selection,
) -> Result<Listed, Status> {
    let query = &call.query;
    let limit = query.number::<usize>("limit")?.filter(|l| *l > 0);
    match options::list(query)? {
        ListState::Next(token) => {
            let token = Continue::decode(token)?;
            let revision = match u64::try_from(token.rv) {
                Ok(revision) => revision,
                Err(_) if token.rv == NEWEST => api.objects.cache.revision(),
                Err(_) => return Err(Status::bad_request("continue key is not valid")),
            };
            let after = Bytes::from(token.after);
            if !after.starts_with(&layout::kind_prefix(route.kind, namespace_of(route))) {
                return Err(Status::bad_request("continue key is not valid"));
            }
            let page = page_at(api, route, selection, revision, after.clone(), limit).await;
            return page.map_err(|error| page_status(error, &after));
        }
        ListState::Exact(revision) => {
            wait_for(api, revision).await?;
            let first = layout::kind_prefix(route.kind, namespace_of(route));
            return page_at(api, route, selection, revision, first, limit).await.map_err(read_status);
        }
        ListState::NotOlderThan(revision) => wait_for(api, revision).await?,
    }
    let (all, revision) = api.objects.cache.list(route.kind, namespace_of(route));
    let mut matching = all.into_iter().filter(|c| selection.matches(c));
    let Some(limit) = limit else {
        return Ok(Listed { objects: matching.collect(), revision, next: None, remaining: None });
    };
    let objects: Vec<_> = matching.by_ref().take(limit).collect();
    let left = matching.count() as u64;
    let remaining = (left > 0 && selection.is_everything()).then_some(left);
    let next = if left > 0 { next_token(revision, &objects) } else { None };
    Ok(Listed { objects, revision, next, remaining })
}

/// A page of an older state, from the store.
async fn page_at(
    api: &Api,
    route: &ResourceRoute,
    selection: &Selection,
    revision: u64,
    mut after: Bytes,
    limit: Option<usize>,
) -> Result<Listed, ReadError> {
    let prefix = layout::kind_prefix(route.kind, namespace_of(route));
    let limit = limit.unwrap_or(usize::MAX);
    let mut objects = Vec::new();
    loop {
        let wanted = (limit - objects.len()).min(STORE_PAGE_ENTRIES_MAX);
        let (page, left) = api.objects.cache.list_at(prefix.clone(), after, wanted, revision).await?;
        let last = page.last().map(|c| layout::object_key(route.kind, &c.object.key()));
        objects.extend(page.into_iter().filter(|c| selection.matches(c)));
        match last {
            Some(last) if left > 0 && objects.len() < limit => after = last,
            Some(last) if left > 0 => {
                let token = Continue::new(revision, &last);
                let is_counted = selection.is_everything() && left < REMAINING_MAX;
                let remaining = is_counted.then_some(left);
                return Ok(Listed { objects, revision, next: Some(token.encode()), remaining });
            }
            _ => return Ok(Listed { objects, revision, next: None, remaining: None }),
        }
    }
}

fn next_token(revision: u64, objects: &[Arc<Cached>]) -> Option<String> {
    let last = objects.last()?;
    let key = layout::object_key(last.object.kind, &last.object.key());
    Some(Continue::new(revision, &key).encode())
}

/// The namespace a collection is limited to.
pub(crate) fn namespace_of(route: &ResourceRoute) -> Option<&str> {
    Some(route.key.namespace.as_str()).filter(|n| !n.is_empty())
}

/// Waits until a revision that a client has seen elsewhere is here too.
pub(super) async fn wait_for(api: &Api, revision: u64) -> Result<(), Status> {
    if api.objects.cache.wait_for(revision, FUTURE_WAIT).await {
        return Ok(());
    }
    let now = api.objects.cache.revision();
    Err(Status::timeout(format!("Too large resource version: {revision}, current: {now}"), 1))
}

/// Why a later page is not shown; of a state that is gone, with a token for the rest of what is there by now.
fn page_status(error: ReadError, after: &[u8]) -> Status {
    if !matches!(error, ReadError::Compacted { .. }) {
        return read_status(error);
    }
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    let token = Continue { rv: NEWEST, after: String::from_utf8_lossy(after).into_owned() };
    status.continues = Some(token.encode().into());
    status
}

fn read_status(error: ReadError) -> Status {
    match error {
        ReadError::Compacted { .. } => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        ReadError::Future { asked, newest } => {
            Status::timeout(format!("Too large resource version: {asked}, current: {newest}"), 1)
        }
        ReadError::Engine(error) => {
            tracing::error!(%error, "the store cannot be read");
            Status::internal("the store cannot be read")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_others_are_refused() {
        let token = Continue::new(7, b"o/core/pods/d/a");
        assert_eq!(Continue::decode(&token.encode()).unwrap(), token);
        assert_eq!(Continue::decode("bm9uc2Vuc2U").unwrap_err().code, 400);
    }
}
