//! The agent's half of the state stream: frames in, committed changes out. Pure.
//!
//! Nothing counts before its commit. An agent acts on a complete view of its own store only: frames of another store, of
//! an older epoch, or that go back in time change nothing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use prost::Message as _;

use crate::message::{ClosedFrame, Position, Resource, Welcome, closed_frame::Frame};
use crate::position::StoreIdentity;

/// How many resources a view may hold.
pub const VIEW_RESOURCES_MAX: usize = 1 << 20;

/// One consistent step of the view.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Change {
    /// Where the view is now. To be kept on disk with the view: it names the store the agent belongs to.
    pub position: Position,
    /// A full list: `puts` is the whole view.
    pub full: bool,
    /// What is there, or changed.
    pub puts: Vec<Encoded>,
    /// Names of what is gone.
    pub removes: Vec<String>,
}

/// A resource as it came, known to be one. A view of very many waits in this form: taken apart it is five times as large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    name: String,
    bytes: Bytes,
}

impl Encoded {
    /// Looks whether the bytes are a resource.
    ///
    /// # Errors
    /// They are none.
    pub fn new(bytes: Bytes) -> Result<Self, prost::DecodeError> {
        let name = Resource::decode(&bytes[..])?.name;
        Ok(Self { name, bytes })
    }

    /// The resource's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The encoded [`Resource`].
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The resource, which holds nothing of what it came in.
    #[must_use]
    pub fn read(&self) -> Resource {
        // From a slice, for the bytes in it to be its own. They were decoded once, and do so again.
        Resource::decode(&self.bytes[..]).unwrap_or_default()
    }
}

impl From<Resource> for Encoded {
    fn from(resource: Resource) -> Self {
        Self { bytes: resource.encode_to_vec().into(), name: resource.name }
    }
}

/// Why a session's state is refused. The view stays as it is; the session is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The control plane serves another store than this agent's.
    #[error(
        "the control plane serves store {found}, this node belongs to store {pinned}: nothing is changed; if the \
         cluster was made anew, remove this node's data directory and join again"
    )]
    ForeignStore {
        /// Whose the agent is.
        pinned: StoreIdentity,
        /// What came.
        found: StoreIdentity,
    },
    /// The store as it was before it was restored.
    #[error("the control plane serves store {found} from before a restore; this node has seen {pinned}")]
    OldEpoch {
        /// Whose the agent is.
        pinned: StoreIdentity,
        /// What came.
        found: StoreIdentity,
    },
    /// The store went back.
    #[error("the control plane is at revision {found}, this node has seen {held} of the same store")]
    Backwards {
        /// What the agent holds.
        held: u64,
        /// What came.
        found: u64,
    },
    /// Changes without a view to apply them to.
    #[error("changes came before a full list")]
    NoBase,
    /// The messages do not follow the protocol.
    #[error("the state stream does not follow the protocol: {what}")]
    Protocol {
        /// What is wrong.
        what: &'static str,
    },
    /// Something that is no resource.
    #[error("a resource cannot be decoded")]
    Malformed(#[from] prost::DecodeError),
    /// The view is larger than an agent takes.
    #[error("the view has more than {VIEW_RESOURCES_MAX} resources")]
    TooMany,
}

/// What came since the last commit.
#[derive(Debug, Default)]
struct Staged {
    full: bool,
    changes: BTreeMap<String, Option<Encoded>>,
}

/// The view's names and place, and what is on its way.
#[derive(Debug)]
pub struct Receiver {
    pinned: Option<StoreIdentity>,
    /// The complete view that is held, if it is one the control plane may go on from.
    position: Option<Position>,
    names: BTreeSet<String>,
    staged: Option<Staged>,
}

impl Receiver {
    /// An agent that belongs to the store `pinned` (`None`: to none yet) and holds the resources `names`, kept on disk
    /// perhaps. It begins with a full list; what of `names` is not in it is gone then.
    pub fn new(pinned: Option<StoreIdentity>, names: impl IntoIterator<Item = String>) -> Self {
        Self { pinned, position: None, names: names.into_iter().collect(), staged: None }
    }

    /// The store the agent belongs to.
    #[must_use]
    pub fn pinned(&self) -> Option<StoreIdentity> {
        self.pinned
    }

    /// What `Hello.resume` is to say.
    #[must_use]
    pub fn resume(&self) -> Option<Position> {
        self.position.clone()
    }

    /// A new session begins: what was not committed in the last one is forgotten.
    pub fn welcome(&mut self, welcome: &Welcome) -> Result<(), ReceiveError> {
        self.staged = None;
        let position = welcome.position.as_ref();
        let position = position.ok_or(ReceiveError::Protocol { what: "the welcome names no store" })?;
        self.check(position)?;
        if welcome.resumed {
            if self.position.is_none() {
                return Err(ReceiveError::NoBase);
            }
            self.staged = Some(Staged::default());
        }
        Ok(())
    }

    /// Takes a frame; answers the change when it is a commit.
    pub fn frame(&mut self, frame: ClosedFrame) -> Result<Option<Change>, ReceiveError> {
        match frame.frame {
            // A frame of a later version of the protocol.
            None => Ok(None),
            Some(Frame::Begin(_)) => {
                self.staged = Some(Staged { full: true, changes: BTreeMap::new() });
                Ok(None)
            }
            Some(Frame::Put(resource)) => {
                let resource = Encoded::new(resource)?;
                self.stage(resource.name.clone(), Some(resource))
            }
            Some(Frame::Remove(name)) => self.stage(name, None),
            Some(Frame::Commit(position)) => self.commit(position).map(Some),
        }
    }

    fn stage(&mut self, name: String, resource: Option<Encoded>) -> Result<Option<Change>, ReceiveError> {
        let staged = self.staged.as_mut().ok_or(ReceiveError::NoBase)?;
        if staged.changes.len() >= VIEW_RESOURCES_MAX {
            return Err(ReceiveError::TooMany);
        }
        staged.changes.insert(name, resource);
        Ok(None)
    }

    fn check(&self, position: &Position) -> Result<StoreIdentity, ReceiveError> {
        let found = position.store();
        let found = found.ok_or(ReceiveError::Protocol { what: "a store's id is not 16 bytes" })?;
        let Some(pinned) = self.pinned else { return Ok(found) };
        if found.id != pinned.id {
            return Err(ReceiveError::ForeignStore { pinned, found });
        }
        if found.epoch < pinned.epoch {
            return Err(ReceiveError::OldEpoch { pinned, found });
        }
        let held =
            self.position.as_ref().filter(|held| held.epoch == found.epoch).map_or(0, |held| held.revision);
        if position.revision < held {
            return Err(ReceiveError::Backwards { held, found: position.revision });
        }
        Ok(found)
    }

    fn commit(&mut self, position: Position) -> Result<Change, ReceiveError> {
        let store = self.check(&position)?;
        let staged = self.staged.take().ok_or(ReceiveError::NoBase)?;
        if !staged.full && self.position.as_ref().and_then(Position::store) != Some(store) {
            // Another epoch of the store is another history: changes say nothing about what is held.
            return Err(ReceiveError::NoBase);
        }
        let (mut puts, mut removes) = (Vec::new(), Vec::new());
        if staged.full {
            let there = |name: &String| staged.changes.get(name).is_some_and(Option::is_some);
            removes.extend(self.names.iter().filter(|name| !there(name)).cloned());
            self.names.clear();
        }
        for (name, resource) in staged.changes {
            match resource {
                Some(resource) => {
                    self.names.insert(name);
                    puts.push(resource);
                }
                None if self.names.remove(&name) => removes.push(name),
                None => {}
            }
        }
        self.pinned = Some(store);
        self.position = Some(position.clone());
        self.staged = Some(Staged::default());
        Ok(Change { position, full: staged.full, puts, removes })
    }
}

#[cfg(test)]
mod tests;
