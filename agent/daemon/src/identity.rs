//! Who this node is to the control plane: its key, its certificate, the cluster's CA, and whose store it follows.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weft_link::position::StoreIdentity;

/// The files of a node's identity, mode 0600 in a directory of mode 0700.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

/// The file with key and certificates.
const IDENTITY: &str = "node.json";

/// What a joined node holds, PEM.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) key_pem: String,
    pub(crate) certificate_pem: String,
    pub(crate) ca_pem: String,
}

/// The history this node follows, as the file has it; another one is refused.
#[derive(Serialize, Deserialize)]
struct Pinned {
    store_id: [u8; 16],
    epoch: u64,
}

/// Why a file of the identity cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("{path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Directory {
    /// The identity's directory below the data directory, made if missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, IdentityError> {
        use std::os::unix::fs::DirBuilderExt;
        let path = data_dir.join("identity");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| IdentityError::Write { path: path.clone(), source })?;
        Ok(Self { path })
    }

    /// The identity of an earlier join.
    pub(crate) fn load(&self) -> Result<Option<Identity>, IdentityError> {
        let Some(text) = self.read(IDENTITY)? else { return Ok(None) };
        let path = self.path.join(IDENTITY);
        let identity = serde_json::from_str(&text);
        identity.map(Some).map_err(|error| IdentityError::Read { path, source: error.into() })
    }

    /// Keeps an identity, in one file: a key without its certificate would be none.
    pub(crate) fn save(&self, identity: &Identity) -> Result<(), IdentityError> {
        let path = self.path.join(IDENTITY);
        let text = serde_json::to_vec(identity)
            .map_err(|error| IdentityError::Write { path, source: error.into() })?;
        self.write(IDENTITY, &text)
    }

    /// The history that is followed, if one is.
    pub(crate) fn pinned(&self) -> Result<Option<StoreIdentity>, IdentityError> {
        let Some(text) = self.read("store.json")? else { return Ok(None) };
        let path = self.path.join("store.json");
        let pinned: Pinned = serde_json::from_str(&text)
            .map_err(|error| IdentityError::Read { path, source: error.into() })?;
        Ok(Some(StoreIdentity { id: pinned.store_id, epoch: pinned.epoch }))
    }

    /// Follows a history from now on.
    pub(crate) fn pin(&self, store: StoreIdentity) -> Result<(), IdentityError> {
        let pinned = Pinned { store_id: store.id, epoch: store.epoch };
        let path = self.path.join("store.json");
        let text = serde_json::to_vec(&pinned)
            .map_err(|error| IdentityError::Write { path, source: error.into() })?;
        self.write("store.json", &text)
    }

    fn read(&self, name: &str) -> Result<Option<String>, IdentityError> {
        let path = self.path.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::Read { path, source }),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
        let path = self.path.join(name);
        replace(&path, bytes).map_err(|source| IdentityError::Write { path, source })
    }
}

/// Replaces a file whole: written beside it, synced, renamed, the directory synced.
///
/// # Errors
/// Any of these steps.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(parent) => std::fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_renewal_that_is_cut_off_leaves_the_identity_before() {
        let dir = tempfile::tempdir().unwrap();
        let files = Directory::open(dir.path()).unwrap();
        let of = |n: &str| Identity { key_pem: n.into(), certificate_pem: n.into(), ca_pem: n.into() };
        files.save(&of("old")).unwrap();
        let names = || -> Vec<_> {
            let all = std::fs::read_dir(dir.path().join("identity")).unwrap();
            all.map(|entry| entry.unwrap().file_name()).collect()
        };
        assert_eq!(names(), ["node.json"], "whatever is written last, key and certificate change together");
        // Cut off before the rename.
        std::fs::write(dir.path().join("identity/node.new"), "half").unwrap();
        let loaded = files.load().unwrap().unwrap();
        assert_eq!((loaded.key_pem.as_str(), loaded.certificate_pem.as_str()), ("old", "old"));
        files.save(&of("new")).unwrap();
        assert_eq!(files.load().unwrap().unwrap().key_pem, "new");
    }

    #[test]
    fn an_identity_is_kept_and_is_nobody_elses_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let files = Directory::open(dir.path()).unwrap();
        assert!(files.load().unwrap().is_none() && files.pinned().unwrap().is_none());
        let identity = Identity { key_pem: "k".into(), certificate_pem: "c".into(), ca_pem: "a".into() };
        files.save(&identity).unwrap();
        files.pin(StoreIdentity { id: [7; 16], epoch: 3 }).unwrap();
        assert_eq!(files.load().unwrap().unwrap().certificate_pem, "c");
        assert_eq!(files.pinned().unwrap(), Some(StoreIdentity { id: [7; 16], epoch: 3 }));
        let mode = |name: &str| {
            dir.path().join("identity").join(name).metadata().unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("node.json"), 0o600);
        assert_eq!(mode(""), 0o700);
    }
}
