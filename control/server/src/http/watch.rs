//! Watches: the changes of a kind as they come, from a revision a client names.
//!
//! A watch reads the cache's ring at its own pace. What it holds is one frame that is being written, and references to
//! the changes that did not fit into it. The more watches there are, the longer each of them rests after a frame, so that
//! where much changes a frame carries many events: what a watch costs is its frames.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Response, StatusCode};
use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Value, json};
use tokio::time::Instant;
use weft_api::kind::Kind;
use weft_api::proto;
use weft_api::status::Status;

use super::accept::{Encoding, Form, Wanted};
use super::answer::{self, Body};
use super::options::{self, Initial};
use super::query::Query;
use super::read::{self, namespace_of};
use super::route::ResourceRoute;
use super::select::Selection;
use super::{Api, Call, dialect, table};
use crate::cache::{Cache, Cached, Change, ChangeType};
use crate::stop::stopped;

/// Changes taken out of the ring at once.
const BATCH_CHANGES_MAX: usize = 256;
/// A frame is sent once it has as many bytes; the last event in it may make it longer.
const FRAME_BYTES: usize = 16 << 10;
/// How long a watch rests after a frame for each watch that there is, and at most.
const REST_PER_WATCH: Duration = Duration::from_micros(25);
const REST_MAX: Duration = Duration::from_millis(25);
/// A shorter rest is none.
const REST_MIN: Duration = Duration::from_millis(1);
/// How often a watch that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
/// Watches end after a time between this and twice as much, unless the client says when.
const LIFE_MIN: Duration = Duration::from_secs(1_800);
/// The annotation of the bookmark that ends the initial events.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// A running watch.
struct Running {
    cache: Arc<Cache>,
    open: Open,
    kind: &'static Kind,
    /// The kind that the client asked for, which is that or a dialect of it.
    served: &'static Kind,
    namespace: Option<String>,
    selection: Selection,
    wanted: Wanted,
    query: Query,
    /// Everything up to this revision was sent, or is in `frame` or in `changes`.
    position: u64,
    /// What is sent next.
    frame: BytesMut,
    /// The length of the frame before, bytes: the next one will be about as long.
    frame_bytes: usize,
    /// Taken out of the ring, still to be looked at.
    changes: std::vec::IntoIter<Arc<Change>>,
    /// What is there already, still to be sent as `ADDED`.
    initial: std::vec::IntoIter<Arc<Cached>>,
    /// Whether the end of the initial events is told by a bookmark.
    tell_initial_end: bool,
    bookmarks: bool,
    changed: tokio::sync::watch::Receiver<u64>,
    stopping: tokio::sync::watch::Receiver<bool>,
    ends: Instant,
    next_bookmark: Instant,
    bookmark_is_due: bool,
    rests_until: Option<Instant>,
    first_table: bool,
    ended: bool,
}

/// One of the watches that are open, by whose number they are told.
struct Open(Gauge);

impl Open {
    fn new(watches: &Gauge) -> Self {
        watches.inc();
        Self(watches.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// GET with `watch`.
///
/// # Errors
/// 400 and 422 for parameters that do not fit; 504 for initial events of a state that is not reached.
pub(crate) async fn serve(api: &Api, call: &Call, route: &ResourceRoute) -> Result<Response<Body>, Status> {
    let query = &call.query;
    let wanted = Wanted::of(call)?;
    let name = &route.key.name;
    let selection =
        Selection::of(route.served, &if name.is_empty() { query.clone() } else { query.about(name) })?;
    let asked = options::revision(query)?;
    let initial = options::watch(query, asked)?;
    let changed = api.objects.cache.changed(route.kind);
    let (objects, position) = if initial == Initial::None {
        (Vec::new(), asked)
    } else {
        read::wait_for(api, asked).await?;
        api.objects.cache.list(route.kind, namespace_of(route))
    };
    let life = match query.number::<u64>("timeoutSeconds")? {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(86_400)),
        _ => LIFE_MIN + Duration::from_millis(uuid::Uuid::new_v4().as_u64_pair().1 % 1_800_000),
    };
    let running = Running {
        cache: Arc::clone(&api.objects.cache),
        open: Open::new(&api.metrics.watches),
        kind: route.kind,
        served: route.served,
        namespace: namespace_of(route).map(ToOwned::to_owned),
        selection,
        wanted,
        query: query.clone(),
        position,
        frame: BytesMut::new(),
        frame_bytes: 0,
        changes: Vec::new().into_iter(),
        initial: objects.into_iter(),
        tell_initial_end: initial == Initial::Told,
        bookmarks: query.flag("allowWatchBookmarks"),
        changed,
        stopping: api.stopping.clone(),
        ends: Instant::now() + life,
        next_bookmark: Instant::now() + BOOKMARK_EVERY,
        bookmark_is_due: false,
        rests_until: None,
        first_table: true,
        ended: false,
    };
    let stream = futures_util::stream::unfold(running, |mut running| async move {
        let frame = running.next().await?;
        Some((Ok(frame), running))
    });
    let content_type = match wanted.encoding {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
    };
    Ok(answer::with_type(StatusCode::OK, content_type, answer::streamed(stream)))
}

impl Running {
    /// The next frame of whole lines, when there is one; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.ended && self.frame.len() < FRAME_BYTES && self.read_on() {
                continue;
            }
            if !self.frame.is_empty() {
                self.rests_until = self.rest();
                self.frame_bytes = self.frame.len().min(FRAME_BYTES);
                return Some(std::mem::take(&mut self.frame).freeze());
            }
            if self.ended {
                return None;
            }
            self.wait().await;
        }
    }

    /// Takes up the next event, or what the ring has; `false` if there is nothing now.
    fn read_on(&mut self) -> bool {
        if let Some(object) = self.initial.next() {
            if self.selection.matches(&object) {
                self.emit("ADDED", &object);
            }
        } else if std::mem::take(&mut self.tell_initial_end) {
            self.bookmark(true);
        } else if let Some(change) = self.changes.next() {
            self.take(&change);
        } else if self.rests_until.is_some() {
            return false;
        } else {
            return self.read_ring();
        }
        true
    }

    fn read_ring(&mut self) -> bool {
        // Where there is always something to send nobody waits.
        if *self.stopping.borrow() || Instant::now() >= self.ends {
            self.ended = true;
            return false;
        }
        // What is known before the ring is read is surely in it.
        let known = self.cache.revision();
        self.changed.mark_unchanged();
        match self.cache.changes(self.kind, self.position, BATCH_CHANGES_MAX) {
            Err(error) => {
                self.fail(&Status::expired(error.to_string()));
            }
            Ok(changes) if changes.is_empty() => {
                let tells = std::mem::take(&mut self.bookmark_is_due);
                if tells {
                    self.position = self.position.max(known);
                    self.bookmark(false);
                }
                return tells;
            }
            Ok(changes) => {
                self.position = changes.last().map_or(self.position, |change| change.revision);
                self.changes = changes.into_iter();
            }
        }
        true
    }

    /// Until when this watch leaves the ring alone, now that it has a frame to send.
    fn rest(&self) -> Option<Instant> {
        let watches = u32::try_from(self.open.0.get()).unwrap_or(u32::MAX);
        let rest = REST_PER_WATCH.saturating_mul(watches).min(REST_MAX);
        (rest >= REST_MIN).then(|| Instant::now() + rest)
    }

    /// Waits until there may be something to send.
    async fn wait(&mut self) {
        if let Some(until) = self.rests_until {
            tokio::select! {
                () = tokio::time::sleep_until(until.min(self.ends)) => self.rests_until = None,
                () = stopped(&mut self.stopping) => self.ended = true,
            }
            return;
        }
        let alarm = if self.bookmarks { self.ends.min(self.next_bookmark) } else { self.ends };
        tokio::select! {
            changed = self.changed.changed() => self.ended = changed.is_err(),
            () = tokio::time::sleep_until(alarm) => {
                // That the watch's time is over is found where the ring is read.
                self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                self.bookmark_is_due = self.bookmarks;
            }
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
        let object = match (self.wanted.form, self.wanted.encoding) {
            (Form::Objects, Encoding::Json) => return self.add(type_, &dialect::bytes(self.served, cached)),
            (Form::Objects, Encoding::Protobuf) => dialect::protobuf(self.served, cached, proto::encode),
            (Form::Metadata, _) => table::metadata_of(cached).and_then(|value| self.encoded(&value)),
            (Form::Table, _) => {
                let rows = std::slice::from_ref(&cached.object);
                let meta = json!({ "resourceVersion": cached.revision.to_string() });
                let first = std::mem::take(&mut self.first_table);
                self.encoded(&table::of(self.served, rows, meta, first, &self.query))
            }
        };
        match object {
            Ok(object) => self.add(type_, &object),
            Err(status) => self.fail(&status),
        }
    }

    /// A value that names its type, in the encoding that is wanted.
    fn encoded(&self, value: &Value) -> Result<Vec<u8>, Status> {
        match self.wanted.encoding {
            Encoding::Json => Ok(value.to_string().into_bytes()),
            Encoding::Protobuf => {
                answer::protobuf_of(value).ok_or_else(|| Status::internal("an event has no type"))
            }
        }
    }

    /// A watch that cannot go on says why and ends, and its client begins anew.
    fn fail(&mut self, status: &Status) {
        if let Ok(object) = self.encoded(&status.to_json()) {
            self.add("ERROR", &object);
        }
        self.ended = true;
    }

    /// A bookmark at the position.
    fn bookmark(&mut self, initial_end: bool) {
        let revision = self.position;
        let mut meta = json!({ "resourceVersion": revision.to_string() });
        if initial_end {
            meta["annotations"] = json!({ INITIAL_END: "true" });
        }
        let object: Value = match self.wanted.form {
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
        match self.encoded(&object) {
            Ok(object) => self.add("BOOKMARK", &object),
            Err(status) => self.fail(&status),
        }
    }

    /// Adds an event to the frame, about an object in the encoding that is wanted: in JSON `{"type":…,"object":…}` and a line
    /// feed, in protobuf its length in four bytes, big endian, and a `WatchEvent`.
    fn add(&mut self, type_: &str, object: &[u8]) {
        if self.frame.is_empty() {
            self.frame.reserve(self.frame_bytes);
        }
        match self.wanted.encoding {
            Encoding::Json => {
                let parts: [&[u8]; 5] =
                    [b"{\"type\":\"", type_.as_bytes(), b"\",\"object\":", object, b"}\n"];
                self.frame.reserve(parts.iter().map(|part| part.len()).sum());
                for part in parts {
                    self.frame.put_slice(part);
                }
            }
            Encoding::Protobuf => match proto::event(type_, object) {
                Ok(event) => self.frame.put_slice(&event),
                // Longer than four bytes can say, which the store takes no object to be.
                Err(_) => self.ended = true,
            },
        }
    }
}

#[cfg(test)]
mod tests;
