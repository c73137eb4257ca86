//! A place in one store's history, and which store that is.

use std::fmt;

use bytes::Bytes;

use crate::message::Position;

/// Which history a revision belongs to: the same revision of another store, or of this one restored, is another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StoreIdentity {
    /// Random, made when the store was created.
    pub id: [u8; 16],
    /// Raised by every restore.
    pub epoch: u64,
}

impl fmt::Display for StoreIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.id {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "/{}", self.epoch)
    }
}

impl StoreIdentity {
    /// The place of a revision in this history.
    #[must_use]
    pub fn at(&self, revision: u64) -> Position {
        Position { store_id: Bytes::copy_from_slice(&self.id), epoch: self.epoch, revision }
    }
}

impl Position {
    /// Whose history it is in; `None` when the id is not 16 bytes.
    #[must_use]
    pub fn store(&self) -> Option<StoreIdentity> {
        Some(StoreIdentity { id: self.store_id.as_ref().try_into().ok()?, epoch: self.epoch })
    }
}
