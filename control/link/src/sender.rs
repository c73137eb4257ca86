//! The control plane's half of the state stream: what nodes were told, and what one must still be told. Pure.
//!
//! A node's view has two parts: what all nodes share, which is kept once for all of them, and what is the node's own.
//! Resources are encoded once. A session resumes without a full list as long as every removal since then is still
//! remembered; that memory is bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::frame::{FrameError, encode};
use crate::message::{Begin, Position, Resource, StateFrame, state_frame::Frame};
use crate::position::StoreIdentity;

/// How many removals a part remembers for resumes.
pub const REMOVALS_MAX: usize = 4096;

/// A resource, encoded once as the frame that puts it; clones share the bytes.
#[derive(Clone, Debug)]
pub struct Item {
    name: Arc<str>,
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
    /// The node has seen more of this store than this control plane: wait until the views are at `revision`.
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

/// A part of a view over time: what is in it, since when, and what went.
#[derive(Debug, Default)]
pub struct Part {
    held: BTreeMap<Arc<str>, Held>,
    removals: VecDeque<(u64, Arc<str>)>,
    /// All removals behind this revision are remembered.
    floor: u64,
}

impl Part {
    /// The part as of a revision. What was removed before is not known.
    pub fn new(revision: u64, items: impl IntoIterator<Item = Item>) -> Self {
        let held = items.into_iter().map(|item| (item.name.clone(), Held { item, changed: revision }));
        Self { held: held.collect(), removals: VecDeque::new(), floor: revision }
    }

    /// How many resources are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The part is now this one; answers the frames that tell a node which had the last one, without a commit. None
    /// when nothing changed. Revisions do not go back.
    pub fn replace(&mut self, revision: u64, items: impl IntoIterator<Item = Item>) -> Vec<Bytes> {
        let items: BTreeMap<_, _> = items.into_iter().map(|item| (item.name.clone(), item)).collect();
        let gone: Vec<_> = self.held.keys().filter(|name| !items.contains_key(*name)).cloned().collect();
        self.apply(revision, items.into_values(), gone)
    }

    /// Something of the part changed; answers the frames that say so, without a commit. None when nothing did.
    /// Revisions do not go back.
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
        gone: Vec<Arc<str>>,
    ) -> Vec<Bytes> {
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
        frames
    }

    /// Adds what brings a node up to date that has the part of an earlier revision, not before the floor.
    fn tell_since(&self, from: u64, frames: &mut Vec<Bytes>) {
        let mut told = BTreeSet::new();
        for (revision, name) in &self.removals {
            if *revision > from && !self.held.contains_key(name) && told.insert(name) {
                frames.push(removal(name));
            }
        }
        let changed = self.held.values().filter(|held| held.changed > from);
        frames.extend(changed.map(|held| held.item.put.clone()));
    }

    fn tell_all(&self, frames: &mut Vec<Bytes>) {
        frames.extend(self.held.values().map(|held| held.item.put.clone()));
    }
}

/// What is kept of one node: its own part, and where its sessions may go on.
#[derive(Debug)]
pub struct Sender {
    store: StoreIdentity,
    /// The revision the sender was made at; it has sent nothing older.
    first: u64,
    /// A session began with a full list of this sender's making, so that `first` itself may be resumed from.
    told: bool,
    own: Part,
}

impl Sender {
    /// A node's own part of its view as of a revision. The first session begins with a full list.
    pub fn new(store: StoreIdentity, revision: u64, own: impl IntoIterator<Item = Item>) -> Self {
        Self { store, first: revision, told: false, own: Part::new(revision, own) }
    }

    /// What only this node knows.
    pub fn own(&mut self) -> &mut Part {
        &mut self.own
    }

    /// Closes what changed in either part with the commit of a revision. None when nothing changed.
    #[must_use]
    pub fn commit(&self, revision: u64, shared: &[Bytes], own: Vec<Bytes>) -> Vec<Bytes> {
        let mut frames = own;
        frames.extend_from_slice(shared);
        if !frames.is_empty() {
            frames.push(self.commit_frame(revision));
        }
        frames
    }

    /// The frames a new session begins with, for a node that holds the complete view of `resume`. Both parts are at
    /// `revision`.
    ///
    /// A sender never trusts a view that it did not send, not even one of its own first revision: an older build may
    /// have computed it otherwise.
    pub fn start(&mut self, resume: Option<&Position>, revision: u64, shared: &Part) -> Start {
        let mut frames = Vec::new();
        if let Some(position) = resume.filter(|position| position.store() == Some(self.store)) {
            let from = position.revision;
            if from > revision {
                return Start::Behind { revision: from };
            }
            let is_ours = from > self.first || (from == self.first && self.told);
            if is_ours && from >= self.own.floor && from >= shared.floor {
                self.own.tell_since(from, &mut frames);
                shared.tell_since(from, &mut frames);
                frames.push(self.commit_frame(revision));
                return Start::Resumed(frames);
            }
        }
        self.told = true;
        frames.push(small(Frame::Begin(Begin {})));
        shared.tell_all(&mut frames);
        self.own.tell_all(&mut frames);
        frames.push(self.commit_frame(revision));
        Start::Full(frames)
    }

    fn commit_frame(&self, revision: u64) -> Bytes {
        small(Frame::Commit(self.store.at(revision)))
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
