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
use weft_api::view::ServiceAccount;
use weft_api::view::pod::{ConfigMapVolume, DownwardFile, DownwardVolume, FieldRef};
use weft_api::view::pod::{
    Container, EmptyDir, HostPath, Pod, Projected, ProjectedSource, TokenSource, Volume,
};

use crate::outside::{Inputs, Lookup, PodRef, Refusal};
use crate::spec::Bind;
use crate::spec::environment::EnvironmentError;
use crate::spec::fields::Here;

/// Bytes that all volumes of a Pod made from objects may take.
const GENERATED_BYTES_MAX: u64 = 64 << 20;
/// The volume that carries a Pod's own token when nobody asked for another place.
const TOKEN_VOLUME: &str = "kube-api-access";
/// Where clients look for it.
const TOKEN_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Lifetime of that token, seconds.
const TOKEN_LIFETIME_S: u64 = 3607;

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
        // A restarted agent may not know the ServiceAccounts yet; what was prepared before then stays.
        let marker = self.memory.with_extension("ready");
        match self.implicit() {
            Ok(Some(implicit)) => self.prepare_one(&implicit, tokens).await?,
            Ok(None) => {}
            Err(_) if marker.exists() => {}
            Err(error) => return Err(error),
        }
        fs::write(&marker, b"").map_err(fail(&marker))
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
        let disk = empty.medium != "Memory";
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

    /// The token volume of Pods whose ServiceAccount is to be carried and that bring no volume for it.
    fn implicit(&self) -> Result<Option<Volume>, VolumeError> {
        let spec = &self.pod.spec;
        let placed =
            spec.containers.iter().all(|c| c.volume_mounts.iter().any(|m| m.mount_path == TOKEN_MOUNT));
        if spec.automount_service_account_token == Some(false) || placed {
            return Ok(None);
        }
        let not_yet =
            || VolumeError::Object { volume: TOKEN_VOLUME.to_owned(), source: EnvironmentError::NotYet };
        match self.inputs.service_account(&self.pod_ref.namespace, self.service_account()) {
            Lookup::NotYet => return Err(not_yet()),
            Lookup::Missing => return Ok(None),
            Lookup::Found(json) => {
                let account: ServiceAccount = serde_json::from_slice(&json).unwrap_or_default();
                let asked = spec.automount_service_account_token.or(account.automount_service_account_token);
                if asked == Some(false) {
                    return Ok(None);
                }
            }
        }
        let token = TokenSource {
            expiration_seconds: Some(TOKEN_LIFETIME_S),
            path: "token".into(),
            ..Default::default()
        };
        let namespace = DownwardFile {
            path: "namespace".into(),
            field_ref: Some(FieldRef { field_path: "metadata.namespace".into() }),
            ..Default::default()
        };
        let sources = vec![
            ProjectedSource { service_account_token: Some(token), ..Default::default() },
            ProjectedSource {
                config_map: Some(ConfigMapVolume { name: content::ROOT_CA.into(), ..Default::default() }),
                ..Default::default()
            },
            ProjectedSource {
                downward_api: Some(DownwardVolume { items: vec![namespace], default_mode: None }),
                ..Default::default()
            },
        ];
        let projected = Some(Projected { sources, default_mode: None });
        Ok(Some(Volume { name: TOKEN_VOLUME.into(), projected, ..Default::default() }))
    }

    /// The Pod's ServiceAccount.
    fn service_account(&self) -> &str {
        let name = &self.pod.spec.service_account_name;
        if name.is_empty() { "default" } else { name }
    }

    /// What a container mounts.
    pub(crate) fn binds(&self, container: &Container) -> Result<Vec<Bind>, VolumeError> {
        let mut binds = Vec::new();
        for wanted in &container.volume_mounts {
            let volume = self.pod.spec.volumes.iter().find(|v| v.name == wanted.name);
            let volume = volume.ok_or_else(|| VolumeError::NoVolume(wanted.name.clone()))?;
            let root = match (&volume.host_path, &volume.empty_dir) {
                (Some(host), _) => PathBuf::from(&host.path),
                (None, Some(empty)) => self.empty_path(&volume.name, empty.medium != "Memory"),
                (None, None) => self.memory.join(&volume.name),
            };
            let source = if wanted.sub_path.is_empty() {
                root
            } else {
                sub_path(&volume.name, &root, &wanted.sub_path)?
            };
            let generated = volume.host_path.is_none() && volume.empty_dir.is_none();
            let target = wanted.mount_path.trim_end_matches('/').to_owned();
            binds.push(Bind { source, target, read_only: wanted.read_only || generated });
        }
        let token = self.memory.join(TOKEN_VOLUME);
        if token.join("..data").exists() && !binds.iter().any(|b| b.target == TOKEN_MOUNT) {
            binds.push(Bind { source: token, target: TOKEN_MOUNT.to_owned(), read_only: true });
        }
        Ok(binds)
    }
}

/// A part of a volume, which must not lead out of it. A missing one becomes a directory.
fn sub_path(volume: &str, root: &Path, part: &str) -> Result<PathBuf, VolumeError> {
    let bad = || VolumeError::Path { volume: volume.to_owned(), path: part.to_owned() };
    let relative = atomic::relative(part).ok_or_else(bad)?;
    let path = root.join(relative);
    let fail = |source| VolumeError::Io { volume: volume.to_owned(), path: path.clone(), source };
    if !path.exists() {
        fs::create_dir_all(&path).map_err(fail)?;
    }
    let (path, root) = (path.canonicalize().map_err(fail)?, root.canonicalize().map_err(fail)?);
    if path.starts_with(root) { Ok(path) } else { Err(bad()) }
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
fn mount_tmpfs(dir: &Path, bytes: u64, mode: u32) -> io::Result<()> {
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
