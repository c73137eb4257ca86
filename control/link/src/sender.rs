//! The control plane's half of the state stream: what one node was told, and what it must still be told. Pure.
//!
//! Resources are encoded once, shared by every node's sender. A session resumes without a full list as long as every
//! removal since then is still remembered; that memory is bounded.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::frame::{FrameError, encode};
use crate::message::{Begin, Position, Resource, StateFrame, state_frame::Frame};
use crate::position::StoreIdentity;

/// How many removals one node's sender remembers for resumes.
pub const REMOVALS_MAX: usize = 4096;

/// A resource, encoded once as the frame that puts it; clones share the bytes.
#[derive(Clone, Debug)]
pub struct Item {
    name: std::sync::Arc<str>,
    put: Bytes,
}

impl Item {
    /// Encodes a resource; an error when it is larger than a message may be.
    pub fn new(resource: Resource) -> Result<Self, FrameError> {
        let name = resource.name.as_str().into();
        Ok(Self { name, put: encode(&StateFrame { frame: Some(Frame::Put(resource)) })? })
    }

    /// The resource's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The frame that puts it, its length included.
    #[must_use]
    pub fn frame(&self) -> &Bytes {
        &self.put
    }
}

/// By content: the name is part of the frame.
impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        (self.put.as_ptr() == other.put.as_ptr() && self.put.len() == other.put.len())
            || self.put == other.put
    }
}

/// How a session begins. Frames are encoded with their lengths, to be written as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Start {
    /// The node's view is brought up to date.
    Resumed(Vec<Bytes>),
    /// The node gets everything.
    Full(Vec<Bytes>),
    /// The node has seen more of this store than this control plane: wait until [`Sender::position`] is at `revision`.
    Behind {
        /// What the node holds.
        revision: u64,
    },
}

#[derive(Debug)]
struct Held {
    item: Item,
    changed: u64,
}

/// One node's view.
#[derive(Debug)]
pub struct Sender {
    store: StoreIdentity,
    revision: u64,
    /// All removals behind this revision are remembered.
    floor: u64,
    /// A session began with a full list of this sender's making, so that `floor` itself may be resumed from.
    told: bool,
    held: BTreeMap<std::sync::Arc<str>, Held>,
    removals: VecDeque<(u64, std::sync::Arc<str>)>,
}

impl Sender {
    /// The whole view of a node as of a revision. What was removed before is not known: the first sessions of nodes
    /// that hold older views begin with a full list.
    pub fn new(store: StoreIdentity, revision: u64, view: impl IntoIterator<Item = Item>) -> Self {
        let held = view.into_iter().map(|item| (item.name.clone(), Held { item, changed: revision }));
        Self {
            store,
            revision,
            floor: revision,
            told: false,
            held: held.collect(),
            removals: VecDeque::new(),
        }
    }

    /// Up to where the view goes.
    #[must_use]
    pub fn position(&self) -> Position {
        self.store.at(self.revision)
    }

    /// How many resources the node knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether the node knows nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The view is now this one; answers the frames that tell a node which had the last one. None when nothing changed.
    pub fn replace(&mut self, revision: u64, view: impl IntoIterator<Item = Item>) -> Vec<Bytes> {
        let view: BTreeMap<_, _> = view.into_iter().map(|item| (item.name.clone(), item)).collect();
        let gone: Vec<_> = self.held.keys().filter(|name| !view.contains_key(*name)).cloned().collect();
        self.apply(revision, view.into_values(), gone)
    }

    /// Parts of the view changed; answers the frames that say so. None when nothing did.
    pub fn change<'a>(
        &mut self,
        revision: u64,
        puts: impl IntoIterator<Item = Item>,
        removes: impl IntoIterator<Item = &'a str>,
    ) -> Vec<Bytes> {
        let gone: Vec<_> = removes
            .into_iter()
            .filter_map(|name| self.held.get_key_value(name).map(|(k, _)| k.clone()))
            .collect();
        self.apply(revision, puts, gone)
    }

    fn apply(
        &mut self,
        revision: u64,
        puts: impl IntoIterator<Item = Item>,
        gone: Vec<std::sync::Arc<str>>,
    ) -> Vec<Bytes> {
        self.revision = self.revision.max(revision);
        let revision = self.revision;
        let mut frames = Vec::new();
        for name in gone {
            self.held.remove(&name);
            frames.push(removal(&name));
            self.removals.push_back((revision, name));
        }
        while self.removals.len() > REMOVALS_MAX {
            if let Some((forgotten, _)) = self.removals.pop_front() {
                self.floor = self.floor.max(forgotten);
            }
        }
        for item in puts {
            if self.held.get(&item.name).is_some_and(|held| held.item == item) {
                continue;
            }
            frames.push(item.put.clone());
            self.held.insert(item.name.clone(), Held { item, changed: revision });
        }
        if !frames.is_empty() {
            frames.push(self.commit());
        }
        frames
    }

    /// The frames a new session begins with, for a node that holds the complete view of `resume`.
    ///
    /// A sender never trusts a view that it did not send, not even one of its own first revision: an older build may
    /// have computed it otherwise.
    pub fn start(&mut self, resume: Option<&Position>) -> Start {
        if let Some(position) = resume.filter(|position| position.store() == Some(self.store)) {
            let from = position.revision;
            if from > self.revision {
                return Start::Behind { revision: from };
            }
            if from > self.floor || (from == self.floor && self.told) {
                return Start::Resumed(self.since(from));
            }
        }
        self.told = true;
        Start::Full(self.full())
    }

    fn since(&self, from: u64) -> Vec<Bytes> {
        let mut frames: Vec<Bytes> = Vec::new();
        let mut told = std::collections::BTreeSet::new();
        for (revision, name) in &self.removals {
            if *revision > from && !self.held.contains_key(name) && told.insert(name) {
                frames.push(removal(name));
            }
        }
        frames
            .extend(self.held.values().filter(|held| held.changed > from).map(|held| held.item.put.clone()));
        frames.push(self.commit());
        frames
    }

    /// The whole view, as a full list.
    #[must_use]
    pub fn full(&self) -> Vec<Bytes> {
        let mut frames = Vec::with_capacity(self.held.len() + 2);
        frames.push(small(Frame::Begin(Begin {})));
        frames.extend(self.held.values().map(|held| held.item.put.clone()));
        frames.push(self.commit());
        frames
    }

    fn commit(&self) -> Bytes {
        small(Frame::Commit(self.position()))
    }
}

fn removal(name: &str) -> Bytes {
    small(Frame::Remove(name.to_owned()))
}

/// A frame that cannot be too large: a name was once part of a larger one that was not.
fn small(frame: Frame) -> Bytes {
    encode(&StateFrame { frame: Some(frame) }).unwrap_or_default()
}

#[cfg(test)]
mod tests;
