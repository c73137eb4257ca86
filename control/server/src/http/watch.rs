//! Watches: the changes of a kind as they come, from a revision a client names.
//!
//! A watch reads the cache's ring at its own pace and holds at most one batch of encoded events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use weft_api::kind::Kind;
use weft_api::status::Status;

use super::answer::{self, Body};
use super::options::{self, Initial};
use super::query::Query;
use super::read::namespace_of;
use super::route::ResourceRoute;
use super::select::{Form, Selection};
use super::{Api, Call, dialect, table};
use crate::cache::{Cached, Change, ChangeType};
use crate::stop::stopped;

/// Changes encoded at once.
const BATCH_CHANGES_MAX: usize = 128;
/// How often a watch that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
/// Watches end after a time between this and twice as much, unless the client says when.
const LIFE_MIN: Duration = Duration::from_secs(1_800);
/// The annotation of the bookmark that ends the initial events.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// A running watch.
struct Running {
    api: Arc<Api>,
    kind: &'static Kind,
    /// The kind that the client asked for, which is that or a dialect of it.
    served: &'static Kind,
    namespace: Option<String>,
    selection: Selection,
    form: Form,
    query: Query,
    /// Everything up to this revision was sent or is in `ready`.
    position: u64,
    ready: VecDeque<Bytes>,
    /// What is there already, still to be sent as `ADDED`.
    initial: std::vec::IntoIter<Arc<Cached>>,
    /// Whether the end of the initial events is told by a bookmark.
    tell_initial_end: bool,
    bookmarks: bool,
    changed: tokio::sync::watch::Receiver<u64>,
    stopping: tokio::sync::watch::Receiver<bool>,
    ends: Instant,
    next_bookmark: Instant,
    first_table: bool,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.api.counters.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// GET with `watch`.
///
/// # Errors
/// 400 and 422 for parameters that do not fit.
pub(crate) async fn serve(
    api: Arc<Api>,
    call: &Call,
    route: &ResourceRoute,
) -> Result<Response<Body>, Status> {
    let query = &call.query;
    let form = Form::of(call)?;
    let name = &route.key.name;
    let selection =
        Selection::of(route.served, &if name.is_empty() { query.clone() } else { query.about(name) })?;
    let asked = options::revision(query)?;
    let initial = options::watch(query, asked)?;
    let changed = api.objects.cache.changed(route.kind);
    let (objects, position) = if initial == Initial::None {
        (Vec::new(), asked)
    } else {
        api.objects.cache.wait_for(asked, Duration::from_secs(3)).await;
        api.objects.cache.list(route.kind, namespace_of(route))
    };
    let life = match query.number::<u64>("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(86_400)),
        _ => LIFE_MIN + Duration::from_millis(uuid::Uuid::new_v4().as_u64_pair().1 % 1_800_000),
    };
    api.counters.watches.fetch_add(1, Ordering::Relaxed);
    let running = Running {
        kind: route.kind,
        served: route.served,
        namespace: namespace_of(route).map(ToOwned::to_owned),
        selection,
        form,
        query: query.clone(),
        position,
        ready: VecDeque::new(),
        initial: objects.into_iter(),
        tell_initial_end: initial == Initial::Told,
        bookmarks: query.flag("allowWatchBookmarks"),
        changed,
        stopping: api.stopping.clone(),
        ends: Instant::now() + life,
        next_bookmark: Instant::now() + BOOKMARK_EVERY,
        first_table: true,
        ended: false,
        api,
    };
    let stream = futures_util::stream::unfold(running, |mut running| async move {
        let line = running.next().await?;
        Some((Ok(line), running))
    });
    Ok(answer::with_type(StatusCode::OK, "application/json", answer::streamed(stream)))
}

impl Running {
    /// The next line, when there is one; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.ended {
                return None;
            }
            if let Some(object) = self.initial.next() {
                if self.selection.matches(&object) {
                    self.emit("ADDED", &object);
                }
                continue;
            }
            if std::mem::take(&mut self.tell_initial_end) {
                let position = self.position;
                self.bookmark(position, true);
                continue;
            }
            // What is known before the ring is read is surely in it.
            let known = self.api.objects.cache.revision();
            self.changed.mark_unchanged();
            match self.api.objects.cache.changes(self.kind, self.position, BATCH_CHANGES_MAX) {
                Err(error) => {
                    let status = Status::expired(error.to_string());
                    self.ready.push_back(line("ERROR", status.to_json().to_string().as_bytes()));
                    self.ended = true;
                }
                Ok(changes) if changes.is_empty() => self.wait(known).await,
                Ok(changes) => {
                    for change in changes {
                        self.position = change.revision;
                        self.take(&change);
                    }
                }
            }
        }
    }

    async fn wait(&mut self, known: u64) {
        tokio::select! {
            changed = self.changed.changed() => self.ended = changed.is_err(),
            () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                self.position = self.position.max(known);
                let position = self.position;
                self.bookmark(position, false);
            }
            () = tokio::time::sleep_until(self.ends) => self.ended = true,
            () = stopped(&mut self.stopping) => self.ended = true,
        }
    }

    /// A change as this watch sees it: an object that leaves the selection is deleted for it.
    fn take(&mut self, change: &Change) {
        let of_namespace = |c: &Cached| self.namespace.as_ref().is_none_or(|n| *n == c.object.meta.namespace);
        if !of_namespace(&change.object) {
            return;
        }
        let before = change.previous.as_ref().is_some_and(|p| self.selection.matches(p));
        let now = change.change != ChangeType::Deleted && self.selection.matches(&change.object);
        match (before, now) {
            (false, true) => self.emit("ADDED", &change.object),
            (true, true) => self.emit("MODIFIED", &change.object),
            (true, false) => self.emit("DELETED", &change.object),
            (false, false) => {}
        }
    }

    fn emit(&mut self, type_: &str, cached: &Cached) {
        let encoded = match self.form {
            Form::Objects => line(type_, &dialect::bytes(self.served, cached)),
            Form::Metadata => match table::metadata_of(cached) {
                Ok(value) => line(type_, value.to_string().as_bytes()),
                Err(_) => return,
            },
            Form::Table => {
                let rows = std::slice::from_ref(&cached.object);
                let meta = json!({ "resourceVersion": cached.revision.to_string() });
                let first = std::mem::take(&mut self.first_table);
                let value = table::of(self.served, rows, meta, first, &self.query);
                line(type_, value.to_string().as_bytes())
            }
        };
        self.ready.push_back(encoded);
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) {
        let mut meta = json!({ "resourceVersion": revision.to_string() });
        if initial_end {
            meta["annotations"] = json!({ INITIAL_END: "true" });
        }
        let object: Value = match self.form {
            Form::Objects => {
                meta["creationTimestamp"] = Value::Null;
                json!({ "apiVersion": self.served.api_version(), "kind": self.served.kind, "metadata": meta })
            }
            Form::Metadata => {
                json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta })
            }
            Form::Table => {
                let mut value = table::of(
                    self.served,
                    &[],
                    json!({ "resourceVersion": revision.to_string() }),
                    false,
                    &self.query,
                );
                // Where a client looks for the annotation: in the object of the only row.
                let object = json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta });
                value["rows"] = json!([{ "cells": [], "object": object }]);
                value
            }
        };
        self.ready.push_back(line("BOOKMARK", object.to_string().as_bytes()));
    }
}

/// `{"type":…,"object":…}` and a line feed.
fn line(type_: &str, object: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(object.len() + type_.len() + 24);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(type_.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
    out.freeze()
}
