//! Takes in image archives: what `docker save` and `skopeo copy` write, and OCI layouts, each with one image or several.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::store::{full_names, uuid_like};
use super::unpack::{decompress, hex};
use super::{ImageStore, StoreError};

/// Files in an archive.
const FILES_MAX: usize = 10_000;
/// Bytes of a manifest or configuration.
const JSON_BYTES_MAX: u64 = 4 << 20;
/// Nesting of indexes.
const INDEX_DEPTH_MAX: usize = 3;

/// Why an archive was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("it is not a readable tar: {0}")]
    Tar(#[source] io::Error),
    #[error("it holds neither manifest.json (docker archive) nor index.json (OCI layout)")]
    Unknown,
    #[error("it has no file {0}")]
    Missing(String),
    #[error("{name} is not readable: {source}")]
    Json {
        name: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("digest of {name} is wrong")]
    Digest { name: String },
    #[error("it is larger than {0} bytes or has more than {FILES_MAX} files")]
    TooLarge(u64),
    #[error("image without a name: tag it before saving")]
    NoName,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct OciIndex {
    manifests: Vec<OciDescriptor>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OciDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: HashMap<String, String>,
    #[serde(default)]
    platform: Option<OciPlatform>,
}

#[derive(Clone, Deserialize)]
struct OciPlatform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct OciManifest {
    config: OciDescriptor,
    layers: Vec<OciDescriptor>,
}

/// Takes in the archive and answers the full names of its images. Blocks.
pub(crate) fn load(store: &ImageStore, archive: impl Read) -> Result<Vec<String>, ArchiveError> {
    let dir = store.spool().join(format!("archive-{}", uuid_like()));
    let loaded = Files::spool(archive, &dir, store.bytes_max()).and_then(|files| {
        if files.find("manifest.json").is_ok() {
            load_docker(store, &files)
        } else if files.find("index.json").is_ok() {
            load_oci(store, &files)
        } else {
            Err(ArchiveError::Unknown)
        }
    });
    // The spool is emptied at the next start in any case.
    let _ = fs::remove_dir_all(&dir);
    loaded
}

fn load_docker(store: &ImageStore, files: &Files) -> Result<Vec<String>, ArchiveError> {
    let images: Vec<DockerImage> = files.json("manifest.json")?;
    let mut loaded = Vec::new();
    for image in images {
        let tags = image.repo_tags.unwrap_or_default();
        let names = full_names(tags.iter().map(String::as_str));
        let config = files.bytes(&image.config)?;
        load_image(store, files, &config, &image.layers, &names)?;
        loaded.extend(names);
    }
    Ok(loaded)
}

fn load_oci(store: &ImageStore, files: &Files) -> Result<Vec<String>, ArchiveError> {
    let index: OciIndex = files.json("index.json")?;
    let mut loaded = Vec::new();
    for descriptor in index.manifests {
        let named = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
        let name = named.iter().find_map(|k| descriptor.annotations.get(*k)).ok_or(ArchiveError::NoName)?;
        let names = full_names(std::iter::once(name.as_str()));
        let manifest = oci_manifest(files, &descriptor, 0)?;
        let config = files.blob(&manifest.config.digest)?;
        let layers: Vec<_> = manifest.layers.iter().map(|l| blob_path(&l.digest)).collect();
        load_image(store, files, &config, &layers, &names)?;
        loaded.extend(names);
    }
    Ok(loaded)
}

/// The manifest for this machine, through indexes.
fn oci_manifest(
    files: &Files,
    descriptor: &OciDescriptor,
    depth: usize,
) -> Result<OciManifest, ArchiveError> {
    let bytes = files.blob(&descriptor.digest)?;
    let unreadable = |source| ArchiveError::Json { name: descriptor.digest.clone(), source };
    let is_index = descriptor.media_type.contains("index") || descriptor.media_type.contains("manifest.list");
    if !is_index || depth == INDEX_DEPTH_MAX {
        return serde_json::from_slice(&bytes).map_err(unreadable);
    }
    let index: OciIndex = serde_json::from_slice(&bytes).map_err(unreadable)?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let fits = |d: &&OciDescriptor| {
        d.platform.as_ref().is_none_or(|p| p.os == "linux" && p.architecture == architecture)
    };
    let chosen = index.manifests.iter().find(fits);
    oci_manifest(
        files,
        chosen.ok_or_else(|| ArchiveError::Missing(format!("linux/{architecture}")))?,
        depth + 1,
    )
}

fn load_image(
    store: &ImageStore,
    files: &Files,
    config: &[u8],
    layers: &[String],
    names: &[String],
) -> Result<(), ArchiveError> {
    if names.is_empty() {
        return Err(ArchiveError::NoName);
    }
    let diff_ids = store.layers_of(config)?;
    let _pins = store.pin(&diff_ids);
    for (index, diff_id) in diff_ids.iter().enumerate() {
        if !store.has_layer(diff_id) {
            let name = layers.get(index).ok_or_else(|| ArchiveError::Missing(format!("layer {diff_id}")))?;
            let layer = File::open(files.find(name)?).map_err(ArchiveError::Tar)?;
            // The digest of the unpacked layer is what the configuration names, and that is checked.
            store.add_layer(diff_id, layer)?;
        }
    }
    store.add_image(config, names, None)?;
    Ok(())
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// The files of an archive, spooled under numbers: no name of the archive becomes a path of the machine.
struct Files {
    by_name: HashMap<PathBuf, Spooled>,
}

enum Spooled {
    File(PathBuf),
    Link(PathBuf),
}

impl Files {
    fn spool(archive: impl Read, dir: &Path, bytes_max: u64) -> Result<Self, ArchiveError> {
        fs::create_dir_all(dir).map_err(ArchiveError::Tar)?;
        let plain = decompress(archive).map_err(ArchiveError::Tar)?;
        let mut left = bytes_max;
        let mut by_name = HashMap::new();
        for entry in tar::Archive::new(plain).entries().map_err(ArchiveError::Tar)? {
            let entry = entry.map_err(ArchiveError::Tar)?;
            let name = lexical(&entry.path().map_err(ArchiveError::Tar)?);
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name().map_err(ArchiveError::Tar)?.unwrap_or_default().into_owned();
                let base =
                    if kind.is_symlink() { name.parent().unwrap_or(Path::new("")) } else { Path::new("") };
                by_name.insert(name.clone(), Spooled::Link(lexical(&base.join(target))));
            } else if kind.is_file() {
                left = left.checked_sub(entry.size()).ok_or(ArchiveError::TooLarge(bytes_max))?;
                let path = dir.join(by_name.len().to_string());
                let mut file = File::create(&path).map_err(ArchiveError::Tar)?;
                io::copy(&mut entry.take(left.saturating_add(1) + bytes_max), &mut file)
                    .map_err(ArchiveError::Tar)?;
                by_name.insert(name, Spooled::File(path));
            }
            if by_name.len() > FILES_MAX {
                return Err(ArchiveError::TooLarge(bytes_max));
            }
        }
        Ok(Self { by_name })
    }

    fn find(&self, name: &str) -> Result<&Path, ArchiveError> {
        let mut at = lexical(Path::new(name));
        for _ in 0..4 {
            match self.by_name.get(&at) {
                Some(Spooled::File(path)) => return Ok(path),
                Some(Spooled::Link(target)) => at.clone_from(target),
                None => break,
            }
        }
        Err(ArchiveError::Missing(name.to_owned()))
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        let file = File::open(self.find(name)?).map_err(ArchiveError::Tar)?;
        file.take(JSON_BYTES_MAX).read_to_end(&mut bytes).map_err(ArchiveError::Tar)?;
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, ArchiveError> {
        serde_json::from_slice(&self.bytes(name)?)
            .map_err(|source| ArchiveError::Json { name: name.to_owned(), source })
    }

    fn blob(&self, digest: &str) -> Result<Vec<u8>, ArchiveError> {
        let bytes = self.bytes(&blob_path(digest))?;
        if format!("sha256:{}", hex(&Sha256::digest(&bytes))) == digest {
            Ok(bytes)
        } else {
            Err(ArchiveError::Digest { name: digest.to_owned() })
        }
    }
}

/// A path with its dots resolved by text alone.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}
