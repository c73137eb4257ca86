//! Events as a watch gets them, written behind each other into frames.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use weft_api::kind::Kind;
use weft_api::proto;
use weft_api::status::Status;

use super::super::accept::{Encoding, Form, Wanted};
use super::super::query::Query;
use super::super::select::Selection;
use super::super::{answer, dialect, table};
use crate::cache::{Cache, Cached, Change, ChangeType, TooOld};
use crate::objects::encoding;

/// A frame is sent once it has as many bytes; the last event in it may make it longer.
pub(super) const FRAME_BYTES: usize = 16 << 10;
/// Changes taken out of the ring at once.
const BITE_CHANGES: usize = 32;
/// Changes looked at for one frame, most of which may be nothing that is wanted.
const LOOKED_AT_MAX: usize = 1_024;
/// The annotation of the bookmark that ends the initial events.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// What a watch tells of: all who want the same get the same bytes.
#[derive(Clone)]
pub(super) struct Events {
    pub(super) kind: &'static Kind,
    /// The kind that the client asked for, which is that or a dialect of it.
    pub(super) served: &'static Kind,
    pub(super) namespace: Option<String>,
    pub(super) selection: Selection,
    pub(super) wanted: Wanted,
    /// How tables are to be.
    pub(super) query: Query,
    /// What is sent next.
    frame: BytesMut,
    /// The length of the frame before, bytes: the next one will be about as long.
    frame_bytes: usize,
    first_table: bool,
    broken: bool,
}

/// A part of the ring as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// The kind did not change between this revision and `first`.
    pub(super) from: u64,
    /// The revision of the first change in it, wanted or not.
    pub(super) first: u64,
    /// That of the last.
    pub(super) to: u64,
    /// Whole events; empty where nothing of it was wanted.
    pub(super) frame: Bytes,
    /// Whether a change could not be shown, which ends the watch.
    pub(super) broken: bool,
    /// Whether more is behind it already.
    pub(super) has_more: bool,
}

impl Events {
    pub(super) fn new(
        kind: &'static Kind,
        served: &'static Kind,
        namespace: Option<&str>,
        selection: Selection,
        wanted: Wanted,
        query: &Query,
    ) -> Self {
        Self {
            kind,
            served,
            namespace: namespace.map(ToOwned::to_owned),
            selection,
            wanted,
            query: query.clone(),
            frame: BytesMut::new(),
            frame_bytes: 0,
            first_table: true,
            broken: false,
        }
    }

    /// What changed behind `from`, a frame at most; nothing if nothing did.
    ///
    /// # Errors
    /// The ring has moved past `from`.
    pub(super) fn read(&mut self, cache: &Cache, from: u64) -> Result<Option<Made>, TooOld> {
        let (mut between, mut to, mut looked_at) = (None, from, 0);
        'frame: while looked_at < LOOKED_AT_MAX {
            let changes = match cache.changes(self.kind, to, BITE_CHANGES) {
                Ok(changes) if changes.is_empty() => break,
                Ok(changes) => changes,
                // What was read is told; the next time there is nothing more to read.
                Err(_) if between.is_some() => break,
                Err(error) => return Err(error),
            };
            looked_at += changes.len();
            for change in &changes {
                // The changes of a commit stay together.
                if self.broken || self.is_full() && change.revision != to {
                    break 'frame;
                }
                self.change(change);
                between.get_or_insert((change.after, change.revision));
                to = change.revision;
            }
        }
        let (has_more, broken) = (self.is_full(), self.broken);
        Ok(between.map(|(from, first)| Made { from, first, to, frame: self.frame(), broken, has_more }))
    }

    /// Whether the frame should be sent.
    pub(super) fn is_full(&self) -> bool {
        self.frame.len() >= FRAME_BYTES
    }

    /// What was written, which may be nothing.
    pub(super) fn frame(&mut self) -> Bytes {
        self.frame_bytes = self.frame.len().min(FRAME_BYTES);
        std::mem::take(&mut self.frame).freeze()
    }

    /// Whether something could not be shown: the error is told, and the watch ends behind it.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// An object that is there, if it is wanted.
    pub(super) fn object(&mut self, cached: &Cached) {
        if self.selection.matches(cached) {
            self.emit("ADDED", cached);
        }
    }

    /// A change as it is seen from here: an object that leaves the selection is deleted.
    fn change(&mut self, change: &Change) {
        let of_namespace = |c: &Cached| self.namespace.as_ref().is_none_or(|n| *n == c.object.meta.namespace);
        if !of_namespace(&change.object) {
            return;
        }
        let before = change.previous.as_ref().filter(|before| self.selection.matches(before));
        let now = change.change != ChangeType::Deleted && self.selection.matches(&change.object);
        match (before, now) {
            (None, true) => self.emit("ADDED", &change.object),
            (Some(_), true) => self.emit("MODIFIED", &change.object),
            (Some(_), false) if change.change == ChangeType::Deleted => self.emit("DELETED", &change.object),
            // It is there, and no longer here: told as it was when it still was.
            (Some(before), false) => match encoding::as_of(before, change.revision) {
                Ok(last) => self.emit("DELETED", &last),
                Err(error) => self.fail(&Status::internal(error)),
            },
            (None, false) => {}
        }
    }

    fn emit(&mut self, type_: &str, cached: &Cached) {
        let object = match (self.wanted.form, self.wanted.encoding) {
            (Form::Objects, Encoding::Json) => return self.add(type_, &dialect::bytes(self.served, cached)),
            (Form::Objects, Encoding::Protobuf) => dialect::protobuf(self.served, cached),
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
    pub(super) fn fail(&mut self, status: &Status) {
        if let Ok(object) = self.encoded(&status.to_json()) {
            self.add("ERROR", &object);
        }
        self.broken = true;
    }

    /// A bookmark at a revision.
    pub(super) fn bookmark(&mut self, revision: u64, initial_end: bool) {
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
                Err(_) => self.broken = true,
            },
        }
    }
}
