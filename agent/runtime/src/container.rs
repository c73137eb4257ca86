//! One run of one container: made, started, and cleared away when it has ended.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use sha2::{Digest, Sha256};
use weft_api::view::pod::Container;

use crate::image::Image;
use crate::log::files;
use crate::log::piped::{Keepers, Pipes};
use crate::node::{Node, Place};
use crate::outside::PodRef;
use crate::runtime::DesiredPod;
use crate::sandbox::volumes;
use crate::shim::cleanup;
use crate::shim::streams::Fifos;
use crate::shim::task::{Streams, Task, TaskError};
use crate::spec::environment::{EnvironmentError, environment};
use crate::spec::user::{UserError, find};
use crate::spec::{Bind, Parts, SpecError, build};
use crate::volume::VolumeError;

/// Bytes of last words that are kept.
const TERMINATION_BYTES_MAX: u64 = 4096;
/// Bytes of the log that stand in for them.
const TERMINATION_LOG_BYTES_MAX: u64 = 2048;

/// Why a container was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("cannot prepare {}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to create containerd task: {0}")]
    Create(#[source] TaskError),
    #[error("failed to start container: {0}")]
    Start(#[source] TaskError),
}

impl StartError {
    /// Whether the node failed, and not what the Pod asks for.
    pub(crate) fn is_of_the_node(&self) -> bool {
        matches!(self, Self::Io { .. })
    }

    /// The reason that a waiting container shows; `None` for a run that counts as ended.
    pub(crate) fn waiting_reason(&self) -> Option<&'static str> {
        match self {
            Self::Environment(_) | Self::User(_) | Self::Spec(_) => Some("CreateContainerConfigError"),
            Self::Volume(_) | Self::Io { .. } => Some("CreateContainerError"),
            Self::Create(_) | Self::Start(_) => None,
        }
    }
}

/// The id of a run: the same for the same run, also after the agent's restart.
pub(crate) fn run_id(uid: &str, container: &str, attempt: u32) -> String {
    let hash = Sha256::digest(format!("{uid}/{container}/{attempt}"));
    hash.iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// What a run is made from.
pub(crate) struct Run<'a> {
    pub(crate) node: &'a Node,
    pub(crate) desired: &'a DesiredPod,
    pub(crate) pod_ref: &'a PodRef,
    pub(crate) container: &'a Container,
    pub(crate) image: &'a Image,
    pub(crate) id: &'a str,
    pub(crate) attempt: u32,
    pub(crate) ips: &'a [IpAddr],
}

impl Run<'_> {
    /// Makes the run; its process waits for the start.
    pub(crate) async fn create(&self, task: &Task) -> Result<(), StartError> {
        let place = self.node.place(&self.pod_ref.uid);
        let bundle = place.bundle(self.id);
        match self.prepare(&place, &bundle) {
            Ok(()) => {}
            Err(error) => {
                clear(&place, self.id);
                return Err(error);
            }
        }
        let opened = match self.streams(&place) {
            Ok(streams) => self.logger(&place).await.map(|keepers| (streams, keepers)),
            Err(error) => Err(error),
        };
        let (streams, keepers) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                clear(&place, self.id);
                return Err(error);
            }
        };
        let runtime = &self.node.oci_runtime;
        let created = task.create(self.id, &bundle.to_string_lossy(), &streams, runtime).await;
        drop(keepers);
        if let Err(error) = created {
            // What half exists must not stand in the way of the next try.
            task.destroy(self.id).await;
            cleanup::delete(&self.node.shim, self.id, &bundle).await;
            clear(&place, self.id);
            return Err(StartError::Create(error));
        }
        Ok(())
    }

    fn prepare(&self, place: &Place, bundle: &Path) -> Result<(), StartError> {
        let fail = |path: &Path| {
            let path = path.to_path_buf();
            move |source| StartError::Io { path, source }
        };
        let pod = &self.desired.view;
        let root = bundle.join("rootfs");
        fs::create_dir_all(&root).map_err(fail(&root))?;
        mount_root(&self.node.config.data_dir, self.image, &place.writable(self.id), &root)
            .map_err(fail(&root))?;
        let config = &self.image.config;
        let here = self.node.here(self.ips);
        let variables = environment(pod, self.container, config, self.node.inputs.as_ref(), here)?;
        let volumes = volumes(self.node, pod, self.pod_ref, self.ips);
        let mut binds = volumes.binds(self.container, &variables, &place.parts(self.id))?;
        self.own_binds(place, &mut binds).map_err(fail(&place.data))?;
        let parts = Parts {
            pod,
            container: self.container,
            image: config,
            user: find(pod, self.container, &config.user, &root)?,
            env: variables.iter().map(|(n, v)| format!("{n}={v}")).collect(),
            variables: &variables,
            binds,
            namespaces: &place.namespaces(),
            cgroup: &place.cgroup.join(self.id),
            limits: &self.node.limits,
            cgroup_v2_only: self.node.hierarchies.v2_only(),
        };
        let spec = build(&parts)?;
        let text = serde_json::to_vec(&spec).map_err(SpecError::Shape)?;
        let file = bundle.join("config.json");
        fs::write(&file, text).map_err(fail(&file))
    }

    /// The files every container has, unless a volume takes their place.
    fn own_binds(&self, place: &Place, binds: &mut Vec<Bind>) -> io::Result<()> {
        let etc = place.etc();
        let termination = place.termination(self.id);
        fs::create_dir_all(place.data.join("term"))?;
        fs::write(&termination, b"")?;
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&termination, fs::Permissions::from_mode(0o666))?;
        let path = &self.container.termination_message_path;
        let last_words = if path.is_empty() { "/dev/termination-log" } else { path };
        let shared = match self.desired.view.spec.host_ipc {
            true => PathBuf::from("/dev/shm"),
            false => place.shared_memory(),
        };
        let own = [
            (shared, "/dev/shm"),
            (etc.join("hosts"), "/etc/hosts"),
            (etc.join("hostname"), "/etc/hostname"),
            (etc.join("resolv.conf"), "/etc/resolv.conf"),
            (termination, last_words),
        ];
        for (source, target) in own {
            if !binds.iter().any(|b| b.target == target) {
                binds.push(Bind::new(source, target, false));
            }
        }
        Ok(())
    }

    /// The logger of a container that reads without a terminal; the shim starts the others'.
    async fn logger(&self, place: &Place) -> Result<Option<Keepers>, StartError> {
        if !self.container.stdin || self.container.tty {
            return Ok(None);
        }
        let log = place.log(&self.container.name, self.attempt);
        let fail = |source| StartError::Io { path: log.clone(), source };
        let groups = self.node.hierarchies.make_pod(&place.cgroup).map_err(fail)?;
        let pipes = Pipes::of(&place.bundle(self.id));
        pipes.start(&self.node.config.logger, &log, &groups).await.map(Some).map_err(fail)
    }

    /// Output goes to the logger; input comes from a FIFO.
    fn streams(&self, place: &Place) -> Result<Streams, StartError> {
        let log = place.log(&self.container.name, self.attempt);
        let fail = |path: PathBuf| move |source| StartError::Io { path, source };
        if let Some(dir) = log.parent() {
            fs::create_dir_all(dir).map_err(fail(dir.into()))?;
        }
        // Two runs are kept: this one and the one before.
        if let Some(old) = self.attempt.checked_sub(2) {
            for file in files(&place.log(&self.container.name, old)) {
                let _ = fs::remove_file(file);
            }
        }
        fs::OpenOptions::new().create(true).append(true).open(&log).map_err(fail(log.clone()))?;
        let logger = &self.node.config.logger;
        let uri = format!(
            "binary://{}?{}={}",
            percent(&logger.binary.to_string_lossy(), true),
            percent(&logger.argument, false),
            percent(&log.to_string_lossy(), false)
        );
        let mut streams =
            Streams { terminal: self.container.tty, stdout: uri.clone(), stderr: uri, ..Streams::default() };
        if self.container.tty {
            streams.stderr = String::new();
        }
        if self.container.stdin && !self.container.tty {
            let pipes = Pipes::of(&place.bundle(self.id));
            streams.stdout = pipes.stdout.to_string_lossy().into_owned();
            streams.stderr = pipes.stderr.to_string_lossy().into_owned();
        }
        if self.container.stdin {
            let stdin = stdin_path(place, self.id);
            Fifos::make_one(&stdin).map_err(fail(stdin.clone()))?;
            streams.stdin = stdin.to_string_lossy().into_owned();
        }
        Ok(streams)
    }
}

/// The FIFO that a container reads.
pub(crate) fn stdin_path(place: &Place, id: &str) -> PathBuf {
    place.bundle(id).join("stdin")
}

/// Percent-encoding for the parts of a `binary://` address.
fn percent(text: &str, slashes: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || (slashes && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Mounts the image's layers with a writable one on top at `root`.
fn mount_root(data_dir: &Path, image: &Image, writable: &Path, root: &Path) -> io::Result<()> {
    let (upper, work) = (writable.join("upper"), writable.join("work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let layers = data_dir.join("images/layers");
    let names: Vec<_> = image.layers.iter().rev().filter_map(|l| l.file_name()?.to_str()).collect();
    let lower = if names.is_empty() {
        fs::create_dir_all(writable.join("empty"))?;
        writable.join("empty").to_string_lossy().into_owned()
    } else {
        names.join(":")
    };
    let options = format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
    // The kernel takes one page of options: layers are named from their own directory, which a thread of its own enters.
    let mounted = std::thread::scope(|scope| {
        let worker = scope.spawn(|| -> io::Result<()> {
            unshare(CloneFlags::CLONE_FS)?;
            nix::unistd::chdir(&layers)?;
            Ok(mount(Some("overlay"), root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?)
        });
        worker.join()
    });
    mounted.unwrap_or_else(|_| Err(io::Error::other("the worker thread failed")))
}

/// Unmounts a bundle's root file system.
pub(crate) fn unmount(bundle: &Path) {
    let _ = umount2(&bundle.join("rootfs"), MntFlags::MNT_DETACH);
}

/// Unmounts and removes the parts of volumes that a run mounted.
pub(crate) fn unmount_parts(parts: &Path) {
    for part in fs::read_dir(parts).into_iter().flatten().flatten() {
        let _ = umount2(&part.path(), MntFlags::MNT_DETACH);
        // Neither removes anything that is still mounted, or what is in it.
        let _ = fs::remove_dir(part.path()).or_else(|_| fs::remove_file(part.path()));
    }
    let _ = fs::remove_dir(parts);
}

/// Removes a run's mounts and files; its log stays.
pub(crate) fn clear(place: &Place, id: &str) {
    let bundle = place.bundle(id);
    unmount_parts(&place.parts(id));
    unmount(&bundle);
    // A mount that is still there must not be emptied.
    if fs::remove_dir(bundle.join("rootfs")).is_ok() || !bundle.join("rootfs").exists() {
        let _ = fs::remove_dir_all(&bundle);
    }
    let _ = fs::remove_dir_all(place.writable(id));
    let _ = fs::remove_file(place.termination(id));
}

/// What a run left to say.
pub(crate) fn last_words(
    place: &Place,
    container: &Container,
    id: &str,
    attempt: u32,
    failed: bool,
) -> String {
    let said = tail(&place.termination(id), TERMINATION_BYTES_MAX);
    if said.is_empty() && failed && container.termination_message_policy == "FallbackToLogsOnError" {
        let raw = tail(&place.log(&container.name, attempt), TERMINATION_LOG_BYTES_MAX);
        let text = |l: &str| l.splitn(4, ' ').nth(3).unwrap_or("").to_owned();
        return raw.lines().map(text).collect::<Vec<_>>().join("\n");
    }
    said
}

fn tail(path: &Path, bytes_max: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}
