//! A Pod's volumes: directories that are bound into its containers.
//!
//! What is made from objects (ConfigMaps, Secrets, tokens, fields) lies in a tmpfs of the Pod and never on a disk.

mod atomic;
mod content;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use base64::Engine;
use jiff::Timestamp;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use weft_api::quantity::Quantity;
use weft_api::view::pod::{Container, EmptyDir, HostPath, Pod, Volume, VolumeMount};

use crate::beneath;
use crate::outside::{Inputs, PodRef, Refusal};
use crate::spec::Bind;
use crate::spec::environment::{EnvironmentError, expand};
use crate::spec::fields::Here;

/// Bytes that all volumes of a Pod made from objects may take.
const GENERATED_BYTES_MAX: u64 = 64 << 20;

/// Why a volume is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("volume \"{volume}\": {source}")]
    Object {
        volume: String,
        #[source]
        source: EnvironmentError,
    },
    #[error("volume \"{volume}\": {kind} {name} has no key {key}")]
    MissingKey { volume: String, kind: &'static str, name: String, key: String },
    #[error("volume \"{volume}\": no token: {source}")]
    Token {
        volume: String,
        #[source]
        source: Refusal,
    },
    #[error("volume \"{volume}\": {path} is no path below the volume")]
    Path { volume: String, path: String },
    #[error("volume \"{volume}\": {} is not a {wanted}", path.display())]
    HostPath { volume: String, path: PathBuf, wanted: String },
    #[error("volume \"{0}\" has a source that is not supported")]
    Unsupported(String),
    #[error("volume \"{volume}\": cannot use {}: {source}", path.display())]
    Io {
        volume: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("volume mount refers to volume \"{0}\", which the pod does not have")]
    NoVolume(String),
}

/// Tokens that were handed out, by volume and path: text, when asked for, when it ends.
pub(crate) type Tokens = HashMap<(String, String), (String, Timestamp, Timestamp)>;

/// The volumes of one Pod.
pub(crate) struct Volumes<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) pod_ref: &'a PodRef,
    pub(crate) inputs: &'a dyn Inputs,
    pub(crate) here: Here<'a>,
    /// Directory on disk, removed with the Pod.
    pub(crate) disk: PathBuf,
    /// Directory that is a tmpfs once prepared.
    pub(crate) memory: PathBuf,
}

impl Volumes<'_> {
    /// Makes what is missing and brings up to date what is there. What was there before survives a failure.
    pub(crate) async fn prepare(&self, tokens: &mut Tokens) -> Result<(), VolumeError> {
        let fail = |path: &Path| {
            let path = path.to_path_buf();
            move |source| VolumeError::Io { volume: String::new(), path, source }
        };
        fs::create_dir_all(&self.disk).map_err(fail(&self.disk))?;
        mount_tmpfs(&self.memory, GENERATED_BYTES_MAX, 0o755).map_err(fail(&self.memory))?;
        for volume in &self.pod.spec.volumes {
            self.prepare_one(volume, tokens).await?;
        }
        Ok(())
    }

    async fn prepare_one(&self, volume: &Volume, tokens: &mut Tokens) -> Result<(), VolumeError> {
        if let Some(host) = &volume.host_path {
            return host_path(&volume.name, host);
        }
        if let Some(empty) = &volume.empty_dir {
            return self.empty_dir(&volume.name, empty);
        }
        let dir = self.memory.join(&volume.name);
        let first = !dir.join("..data").exists();
        match content::of(self, volume, tokens).await {
            Ok(files) => {
                let group = self.pod.spec.security_context.fs_group;
                atomic::write(&dir, &files, group).map_err(|source| VolumeError::Io {
                    volume: volume.name.clone(),
                    path: dir,
                    source,
                })
            }
            Err(error) if first => Err(error),
            Err(error) => {
                tracing::warn!(pod = %self.pod_ref, %error, "volume stays as it was");
                Ok(())
            }
        }
    }

    fn empty_dir(&self, name: &str, empty: &EmptyDir) -> Result<(), VolumeError> {
        let disk = match empty.medium.as_str() {
            "" => true,
            "Memory" => false,
            _ => return Err(VolumeError::Unsupported(name.to_owned())),
        };
        let dir = self.empty_path(name, disk);
        let fail = |source| VolumeError::Io { volume: name.to_owned(), path: dir.clone(), source };
        if disk {
            if dir.is_dir() {
                return Ok(());
            }
            fs::create_dir_all(&dir).map_err(fail)?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).map_err(fail)?;
        } else {
            let limit = empty.size_limit.as_ref().and_then(|q| Quantity::from_value(q).ok());
            let bytes = limit.and_then(|q| u64::try_from(q.units_ceil()).ok()).unwrap_or(0);
            mount_tmpfs(&dir, bytes, 0o777).map_err(fail)?;
        }
        if let Some(group) = self.pod.spec.security_context.fs_group {
            chown(&dir, None, Some(group)).map_err(fail)?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o2777)).map_err(fail)?;
        }
        Ok(())
    }

    fn empty_path(&self, name: &str, disk: bool) -> PathBuf {
        if disk { self.disk.join(name) } else { self.memory.with_extension("empty").join(name) }
    }

    /// The Pod's ServiceAccount.
    fn service_account(&self) -> &str {
        let name = &self.pod.spec.service_account_name;
        if name.is_empty() { "default" } else { name }
    }

    /// What a container mounts. Parts of volumes (`subPath`) are shown in the directory `parts`, which goes with the run.
    pub(crate) fn binds(
        &self,
        container: &Container,
        variables: &[(String, String)],
        parts: &Path,
    ) -> Result<Vec<Bind>, VolumeError> {
        let mut binds = Vec::new();
        for wanted in &container.volume_mounts {
            let volume = self.pod.spec.volumes.iter().find(|v| v.name == wanted.name);
            let volume = volume.ok_or_else(|| VolumeError::NoVolume(wanted.name.clone()))?;
            let root = match (&volume.host_path, &volume.empty_dir) {
                (Some(host), _) => PathBuf::from(&host.path),
                (None, Some(empty)) => self.empty_path(&volume.name, empty.medium != "Memory"),
                (None, None) => self.memory.join(&volume.name),
            };
            let part = match wanted.sub_path_expr.as_str() {
                "" => wanted.sub_path.clone(),
                expression => expand(expression, variables),
            };
            let source = match part.as_str() {
                "" => root,
                part => sub_path(&volume.name, &root, part, &parts.join(binds.len().to_string()))?,
            };
            let generated = volume.host_path.is_none() && volume.empty_dir.is_none();
            binds.push(bind(source, wanted, generated));
        }
        Ok(binds)
    }
}

fn bind(source: PathBuf, wanted: &VolumeMount, generated: bool) -> Bind {
    let recursive = matches!(wanted.recursive_read_only.as_str(), "Enabled" | "IfPossible");
    let access = match wanted.read_only || generated {
        true if recursive => "rro",
        true => "ro",
        false => "rw",
    };
    let propagation = match wanted.mount_propagation.as_str() {
        "HostToContainer" => "rslave",
        "Bidirectional" => "rshared",
        _ => "rprivate",
    };
    let target = wanted.mount_path.trim_end_matches('/').to_owned();
    Bind { source, target, options: [access, propagation] }
}

/// A part of a volume, which must not lead out of it, shown at `shown`. A missing one becomes a directory. A container of the
/// Pod may change the volume at this moment: what was looked up is what is shown, whatever its name stands for then.
fn sub_path(volume: &str, root: &Path, part: &str, shown: &Path) -> Result<PathBuf, VolumeError> {
    let bad = || VolumeError::Path { volume: volume.to_owned(), path: part.to_owned() };
    let relative = atomic::relative(part).ok_or_else(bad)?;
    let fail = |source: io::Error| match source.raw_os_error() {
        Some(libc::EXDEV | libc::ELOOP) => bad(),
        _ => VolumeError::Io { volume: volume.to_owned(), path: root.join(part), source },
    };
    let opened = beneath::open_or_make(root, &relative).map_err(fail)?;
    let made = shown.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| beneath::bind(&opened, shown)).map_err(fail)?;
    Ok(shown.to_path_buf())
}

fn host_path(volume: &str, host: &HostPath) -> Result<(), VolumeError> {
    let path = PathBuf::from(&host.path);
    let fail = |source| VolumeError::Io { volume: volume.to_owned(), path: path.clone(), source };
    let kind = host.type_.as_str();
    match kind {
        "" => {
            if !path.exists() {
                fs::create_dir_all(&path).map_err(fail)?;
            }
            return Ok(());
        }
        "DirectoryOrCreate" => fs::create_dir_all(&path).map_err(fail)?,
        "FileOrCreate" => {
            fs::OpenOptions::new().create(true).append(true).open(&path).map_err(fail)?;
        }
        _ => {}
    }
    use std::os::unix::fs::FileTypeExt;
    let found = fs::metadata(&path).map_err(fail)?.file_type();
    let good = match kind {
        "Directory" | "DirectoryOrCreate" => found.is_dir(),
        "File" | "FileOrCreate" => found.is_file(),
        "Socket" => found.is_socket(),
        "CharDevice" => found.is_char_device(),
        "BlockDevice" => found.is_block_device(),
        _ => false,
    };
    if good {
        Ok(())
    } else {
        Err(VolumeError::HostPath { volume: volume.to_owned(), path, wanted: kind.to_owned() })
    }
}

/// Mounts a tmpfs unless one is there; 0 bytes leave the kernel's default bound, half of the memory.
pub(crate) fn mount_tmpfs(dir: &Path, bytes: u64, mode: u32) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    if is_mount_point(dir) {
        return Ok(());
    }
    let mut options = format!("mode={mode:o}");
    if bytes > 0 {
        options.push_str(&format!(",size={bytes}"));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options.as_str()))?)
}

/// Whether a directory lies in another file system than its parent.
fn is_mount_point(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |p: &Path| fs::symlink_metadata(p).map(|m| m.dev());
    match (device(dir), dir.parent().map(device)) {
        (Ok(own), Some(Ok(above))) => own != above,
        _ => false,
    }
}

/// Unmounts what [`Volumes::prepare`] mounted and removes the volumes.
pub(crate) fn remove(disk: &Path, memory: &Path) {
    let empties = memory.with_extension("empty");
    for entry in fs::read_dir(&empties).into_iter().flatten().flatten() {
        let _ = umount2(&entry.path(), MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(entry.path());
    }
    let _ = fs::remove_dir(&empties);
    let _ = umount2(memory, MntFlags::MNT_DETACH);
    let _ = fs::remove_dir(memory);
    if let Err(error) = fs::remove_dir_all(disk)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %disk.display(), %error, "volumes are not removed");
    }
}

/// Standard base64, as objects carry bytes.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()
}
