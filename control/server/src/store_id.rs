//! Which store a data directory belongs to: its id lies beside the CA, so that the keys of one cluster do not come to serve the
//! objects of another, or none.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use uuid::Uuid;

use crate::pki;

/// The store of a data directory, if it had one before.
pub(crate) struct StoreId {
    path: PathBuf,
    /// As in the store's identity.
    pub(crate) id: Option<[u8; 16]>,
}

impl StoreId {
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub(crate) fn read(pki: &Path) -> anyhow::Result<Self> {
        let path = pki.join("store-id");
        let text = pki::read(&path)?;
        let id = text.map(|text| Uuid::parse_str(text.trim())).transpose();
        let id = id.with_context(|| format!("{} holds no id of a store", path.display()))?;
        Ok(Self { path, id: id.map(Uuid::into_bytes) })
    }

    /// Keeps the id from the first opening on; the directory must be there.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn keep(&self, id: [u8; 16]) -> anyhow::Result<()> {
        if self.id.is_none() {
            pki::write_secret(&self.path, format!("{}\n", Uuid::from_bytes(id)).as_bytes())?;
        }
        Ok(())
    }

    /// What the operator can do about another one.
    pub(crate) fn advice(&self) -> String {
        let id = self.id.map(|id| Uuid::from_bytes(id).to_string()).unwrap_or_default();
        format!(
            "this data directory belongs to the store {id}: see that --store names it, or restore a backup of it; to begin \
             a new cluster with the CA of this one, remove {}",
            self.path.display()
        )
    }
}
