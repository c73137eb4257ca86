//! The images on disk: configurations by digest, layers unpacked once by the digest of their plain tar, names in an index.
//!
//! Compressed blobs are not kept. Nothing is removed yet: the store is bounded by what is pulled and loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::unpack::{UnpackError, hex, unpack};
use super::{ConfigBlob, Image, normalize};
use crate::runtime::ImageInfo;

/// Hex digits of a layer's digest that name its directory: short, since overlayfs takes one page of names.
const LAYER_NAME_DIGITS: usize = 24;
/// Most layers of an image: what overlayfs mounts from one page of names.
const LAYERS_MAX: usize = 128;

/// Why the store cannot do what is asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("image store cannot use {}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("image configuration is not readable: {0}")]
    Config(#[source] serde_json::Error),
    #[error("digest of {what} is {found}, and {wanted} was wanted")]
    Digest { what: &'static str, wanted: String, found: String },
    #[error("{0:?} is no sha256 digest")]
    BadDigest(String),
    #[error("image has {count} layers, more than {LAYERS_MAX}")]
    TooManyLayers { count: usize },
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

/// All images of a node.
#[derive(Debug)]
pub(crate) struct ImageStore {
    root: PathBuf,
    index: Mutex<Index>,
    bytes_max: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Index {
    images: BTreeMap<String, Record>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Record {
    names: BTreeSet<String>,
    digests: BTreeSet<String>,
    layers: Vec<String>,
    size_bytes: u64,
}

impl ImageStore {
    /// Opens or makes the store; what an interrupted unpacking left is removed.
    pub(crate) fn open(root: &Path, bytes_max: u64) -> Result<Self, StoreError> {
        let made = |path: PathBuf| move |source| StoreError::Io { path, source };
        for dir in ["configs", "layers"] {
            fs::create_dir_all(root.join(dir)).map_err(made(root.join(dir)))?;
        }
        let spool = root.join("spool");
        match fs::remove_dir_all(&spool) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(made(spool)(e)),
            _ => {}
        }
        fs::create_dir(&spool).map_err(made(spool.clone()))?;
        let file = root.join("index.json");
        let index = match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, "image index is not readable: images must be pulled or loaded again");
                Index::default()
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Index::default(),
            Err(e) => return Err(made(file)(e)),
        };
        Ok(Self { root: root.into(), index: Mutex::new(index), bytes_max })
    }

    /// Largest archive or layer, bytes unpacked.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// A file nobody else uses; whoever makes it removes it.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.spool().join(format!("scratch-{}", uuid_like()))
    }

    /// Where half-made things lie.
    pub(super) fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// The image of a full name, of a digest, or of an id.
    pub(crate) fn find(&self, name: &str) -> Option<Image> {
        let index = self.lock();
        let holds =
            |id: &String, r: &Record| id == name || r.names.contains(name) || r.digests.contains(name);
        let (id, record) = index.images.iter().find(|(id, r)| holds(id, r))?;
        let config = fs::read(self.config_path(id)).ok()?;
        let config: ConfigBlob = serde_json::from_slice(&config).ok()?;
        let layers: Vec<_> = record.layers.iter().map(|d| self.layer_path(d)).collect();
        if !layers.iter().all(|l| l.is_dir()) {
            return None;
        }
        Some(Image {
            id: id.clone(),
            digest: record.digests.first().cloned(),
            layers,
            config: config.config.unwrap_or_default(),
        })
    }

    /// What there is.
    pub(crate) fn list(&self) -> Vec<ImageInfo> {
        let index = self.lock();
        let info = |(id, r): (&String, &Record)| ImageInfo {
            id: id.clone(),
            names: r.names.iter().cloned().collect(),
            digests: r.digests.iter().cloned().collect(),
            size_bytes: r.size_bytes,
        };
        index.images.iter().map(info).collect()
    }

    /// Whether the layer is unpacked already.
    pub(super) fn has_layer(&self, diff_id: &str) -> bool {
        self.layer_path(diff_id).is_dir()
    }

    /// Unpacks a layer and checks that it is the one that was wanted.
    pub(super) fn add_layer(&self, diff_id: &str, layer: impl Read) -> Result<(), StoreError> {
        check_digest(diff_id)?;
        let scratch = self.spool().join(format!("layer-{}", uuid_like()));
        let result = self.unpack_layer(diff_id, layer, &scratch);
        if scratch.exists() {
            // Unpacked by another at the same time, or not good.
            let _ = fs::remove_dir_all(&scratch);
        }
        result
    }

    fn unpack_layer(&self, diff_id: &str, layer: impl Read, scratch: &Path) -> Result<(), StoreError> {
        let fail = |source| StoreError::Io { path: scratch.into(), source };
        let tree = scratch.join("tree");
        fs::create_dir_all(&tree).map_err(fail)?;
        let (found, bytes) = unpack(layer, &tree, self.bytes_max)?;
        if found != diff_id {
            return Err(StoreError::Digest { what: "a layer", wanted: diff_id.to_owned(), found });
        }
        fs::write(self.layer_path(diff_id).with_extension("bytes"), bytes.to_string()).map_err(fail)?;
        match fs::rename(&tree, self.layer_path(diff_id)) {
            Err(e) if !self.has_layer(diff_id) => Err(fail(e)),
            _ => Ok(()),
        }
    }

    /// Notes an image whose layers are all here under the names. A name moves from its old image to this one.
    pub(super) fn add_image(
        &self,
        config: &[u8],
        names: &[String],
        digest: Option<String>,
    ) -> Result<String, StoreError> {
        let blob: ConfigBlob = serde_json::from_slice(config).map_err(StoreError::Config)?;
        let id = format!("sha256:{}", hex(&Sha256::digest(config)));
        let path = self.config_path(&id);
        write_atomic(&path, config).map_err(|source| StoreError::Io { path, source })?;
        let size = |d: &String| -> u64 {
            let noted = fs::read_to_string(self.layer_path(d).with_extension("bytes"));
            noted.ok().and_then(|t| t.parse().ok()).unwrap_or(0)
        };
        let size_bytes = blob.rootfs.diff_ids.iter().map(size).sum();
        let mut index = self.lock();
        for record in index.images.values_mut() {
            record.names.retain(|n| !names.contains(n));
        }
        let record = index.images.entry(id.clone()).or_default();
        record.names.extend(names.iter().cloned());
        record.digests.extend(digest);
        record.layers = blob.rootfs.diff_ids;
        record.size_bytes = size_bytes;
        index.images.retain(|i, r| *i == id || !(r.names.is_empty() && r.digests.is_empty()));
        let text = serde_json::to_vec_pretty(&*index).map_err(StoreError::Config)?;
        let file = self.root.join("index.json");
        write_atomic(&file, &text).map_err(|source| StoreError::Io { path: file, source })?;
        Ok(id)
    }

    /// The layers a configuration names.
    pub(super) fn layers_of(&self, config: &[u8]) -> Result<Vec<String>, StoreError> {
        let blob: ConfigBlob = serde_json::from_slice(config).map_err(StoreError::Config)?;
        let layers = blob.rootfs.diff_ids;
        if layers.len() > LAYERS_MAX {
            return Err(StoreError::TooManyLayers { count: layers.len() });
        }
        layers.iter().try_for_each(|l| check_digest(l))?;
        Ok(layers)
    }

    fn layer_path(&self, diff_id: &str) -> PathBuf {
        let digits = diff_id.trim_start_matches("sha256:");
        self.root.join("layers").join(&digits[..LAYER_NAME_DIGITS.min(digits.len())])
    }

    fn config_path(&self, id: &str) -> PathBuf {
        self.root.join("configs").join(id.trim_start_matches("sha256:"))
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The full names of what an archive calls by short ones; those that are no names are passed over.
pub(super) fn full_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.filter_map(|n| normalize(n).ok()).collect()
}

fn check_digest(digest: &str) -> Result<(), StoreError> {
    let good = digest
        .strip_prefix("sha256:")
        .is_some_and(|d| d.len() == 64 && d.bytes().all(|b| b.is_ascii_hexdigit()));
    if good { Ok(()) } else { Err(StoreError::BadDigest(digest.to_owned())) }
}

/// A name that no other unpacking has.
pub(super) fn uuid_like() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Writes a file that is whole or not there, also after a power cut.
pub(crate) fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let half = path.with_extension(format!("half-{}", uuid_like()));
    let mut file = fs::File::create(&half)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&half, path)
}
