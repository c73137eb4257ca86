//! The images on disk: configurations by digest, layers unpacked once by the digest of their plain tar, names in an index.
//!
//! Compressed blobs are not kept. What may be removed is said by [`super::collect`]; a layer that another image has, or one
//! that is just being put together, stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    state: Mutex<State>,
    bytes_max: u64,
    removed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    index: Index,
    /// Layers of images that are being put together, with how many those are.
    pinned: BTreeMap<String, usize>,
    /// The index could not be read: what it does not name may yet be mounted somewhere.
    index_lost: bool,
}

/// Layers that stay while an image is put together from them.
pub(super) struct Pins<'a> {
    store: &'a ImageStore,
    layers: Vec<String>,
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        let mut state = self.store.lock();
        for layer in &self.layers {
            if let Some(count) = state.pinned.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    state.pinned.remove(layer);
                }
            }
        }
    }
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
        let mut state = State::default();
        match fs::read(&file) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(index) => state.index = index,
                Err(error) => {
                    tracing::warn!(%error, "image index is not readable: images must be pulled or loaded again");
                    state.index_lost = true;
                }
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(made(file)(e)),
        }
        Ok(Self { root: root.into(), state: Mutex::new(state), bytes_max, removed: AtomicU64::new(0) })
    }

    /// Its directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Images that were removed, since the start.
    pub(crate) fn removed(&self) -> u64 {
        self.removed.load(Ordering::Relaxed)
    }

    /// Keeps the layers until the answer is dropped.
    pub(super) fn pin(&self, layers: &[String]) -> Pins<'_> {
        let mut state = self.lock();
        for layer in layers {
            *state.pinned.entry(layer.clone()).or_default() += 1;
        }
        Pins { store: self, layers: layers.to_vec() }
    }

    /// Removes an image and the layers that no other has; answers its names. The caller knows that nobody uses it.
    pub(crate) fn remove(&self, id: &str) -> Result<Vec<String>, StoreError> {
        let mut state = self.lock();
        let Some(record) = state.index.images.remove(id) else { return Ok(Vec::new()) };
        if let Err(error) = self.write_index(&state.index) {
            state.index.images.insert(id.to_owned(), record);
            return Err(error);
        }
        self.removed.fetch_add(1, Ordering::Relaxed);
        let _ = fs::remove_file(self.config_path(id));
        let kept = state.kept_layers();
        let unwanted = record.layers.iter().map(|l| layer_name(l)).filter(|name| !kept.contains(name));
        let aside = self.put_aside(unwanted);
        drop(state);
        aside.iter().for_each(remove_tree);
        Ok(record.names.into_iter().collect())
    }

    /// Removes layers that belong to no image and are older than `age_min`: an agent that was killed leaves them.
    pub(crate) fn sweep(&self, age_min: Duration) {
        let state = self.lock();
        if state.index_lost {
            return;
        }
        let kept = state.kept_layers();
        let old = |name: &String| {
            let noted = fs::metadata(self.root.join("layers").join(name).with_extension("bytes"));
            let age = noted.ok().and_then(|m| m.modified().ok()).and_then(|at| at.elapsed().ok());
            age.is_none_or(|age| age >= age_min)
        };
        let all = fs::read_dir(self.root.join("layers")).into_iter().flatten().flatten();
        let directories = all.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        let names = directories.filter_map(|e| e.file_name().into_string().ok());
        let aside = self.put_aside(names.filter(|name| !kept.contains(name) && old(name)));
        drop(state);
        aside.iter().for_each(remove_tree);
    }

    /// Takes layers out of the store at once; removing them may then take its time.
    fn put_aside(&self, names: impl Iterator<Item = String>) -> Vec<PathBuf> {
        let take = |name: String| {
            let layer = self.root.join("layers").join(&name);
            let _ = fs::remove_file(layer.with_extension("bytes"));
            let aside = self.spool().join(format!("removed-{}", uuid_like()));
            fs::rename(layer, &aside).is_ok().then_some(aside)
        };
        names.filter_map(take).collect()
    }

    fn write_index(&self, index: &Index) -> Result<(), StoreError> {
        let text = serde_json::to_vec_pretty(index).map_err(StoreError::Config)?;
        let file = self.root.join("index.json");
        write_atomic(&file, &text).map_err(|source| StoreError::Io { path: file, source })
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
        let state = self.lock();
        let holds =
            |id: &String, r: &Record| id == name || r.names.contains(name) || r.digests.contains(name);
        let (id, record) = state.index.images.iter().find(|(id, r)| holds(id, r))?;
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
        let state = self.lock();
        let info = |(id, r): (&String, &Record)| ImageInfo {
            id: id.clone(),
            names: r.names.iter().cloned().collect(),
            digests: r.digests.iter().cloned().collect(),
            size_bytes: r.size_bytes,
        };
        state.index.images.iter().map(info).collect()
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
        let mut state = self.lock();
        let index = &mut state.index;
        for record in index.images.values_mut() {
            record.names.retain(|n| !names.contains(n));
        }
        let record = index.images.entry(id.clone()).or_default();
        record.names.extend(names.iter().cloned());
        record.digests.extend(digest);
        record.layers = blob.rootfs.diff_ids;
        record.size_bytes = size_bytes;
        // An image that lost its last name stays in the index: a container may run from it.
        self.write_index(index)?;
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
        self.root.join("layers").join(layer_name(diff_id))
    }

    fn config_path(&self, id: &str) -> PathBuf {
        self.root.join("configs").join(id.trim_start_matches("sha256:"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Names of the layers that some image has or will have.
    fn kept_layers(&self) -> BTreeSet<String> {
        let of_images = self.index.images.values().flat_map(|r| &r.layers);
        of_images.chain(self.pinned.keys()).map(|l| layer_name(l)).collect()
    }
}

/// The directory of a layer.
fn layer_name(diff_id: &str) -> String {
    diff_id.trim_start_matches("sha256:").chars().take(LAYER_NAME_DIGITS).collect()
}

fn remove_tree(path: &PathBuf) {
    // The spool is emptied at the next start in any case.
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "a removed layer still takes disk space");
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
