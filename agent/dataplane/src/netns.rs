//! Namespaces of Pods: made, pinned as files, entered for a moment, unpinned. Knows nothing of devices.
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::FsType;
use thiserror::Error;

/// Longest host name the kernel takes, bytes (`__NEW_UTS_LEN`).
const HOSTNAME_BYTES_MAX: usize = 64;

/// Why namespaces could not be made, entered or removed.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// A file or directory of the pins could not be made, opened or removed.
    #[error("namespace file {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused an operation on a namespace.
    #[error("cannot {action} for {}", path.display())]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// Which pin it was for.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The helper thread could not be started, or panicked.
    #[error("cannot run a thread in the namespace {}", path.display())]
    Thread {
        /// Which.
        path: PathBuf,
    },
}

/// The namespaces all containers of one Pod share, each pinned as a file they join by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNamespaces {
    /// Network namespace.
    pub net: PathBuf,
    /// System V IPC and POSIX queues.
    pub ipc: PathBuf,
    /// Host name.
    pub uts: PathBuf,
}

impl PodNamespaces {
    /// Where the pins of one Pod lie in its directory.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self { net: directory.join("net"), ipc: directory.join("ipc"), uts: directory.join("uts") }
    }

    /// Whether all of them are there and are namespaces (after a reboot the files are empty ones).
    #[must_use]
    pub fn exist(&self) -> bool {
        [&self.net, &self.ipc, &self.uts].into_iter().all(|path| is_namespace(path))
    }
}

/// Makes new network, IPC and UTS namespaces and pins them in `directory`, which is made with mode 0700.
///
/// Pins that are already there are kept: calling it again after an agent's restart changes nothing. Blocks for a few
/// milliseconds.
///
/// # Errors
/// When a file cannot be made or the kernel refuses; whatever was pinned before the failure is unpinned again.
pub fn create(directory: &Path, hostname: &str) -> Result<PodNamespaces, NamespaceError> {
    let pins = PodNamespaces::in_directory(directory);
    if pins.exist() {
        return Ok(pins);
    }
    remove(directory)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| NamespaceError::File { path: directory.to_owned(), source })?;
    let mut hostname = hostname.to_owned();
    while hostname.len() > HOSTNAME_BYTES_MAX - 1 {
        hostname.pop();
    }
    let made = on_thread(directory, || unshare_and_pin(&pins, &hostname));
    if let Err(error) = made.and_then(|inner| inner) {
        // The first failure is what the caller must hear; leftovers are removed as far as possible.
        if let Err(cleanup) = remove(directory) {
            tracing::warn!(error = %cleanup, "namespaces left behind");
        }
        return Err(error);
    }
    Ok(pins)
}

fn unshare_and_pin(pins: &PodNamespaces, hostname: &str) -> Result<(), NamespaceError> {
    let kernel = |action, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| NamespaceError::Kernel { action, path, source }
    };
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
        .map_err(|errno| kernel("make namespaces", &pins.net)(errno.into()))?;
    // SAFETY: the pointer and length describe a live string; the call only reads it.
    let named = unsafe { libc::sethostname(hostname.as_ptr().cast(), hostname.len()) };
    if named != 0 {
        return Err(kernel("set the host name", &pins.uts)(io::Error::last_os_error()));
    }
    for (path, kind) in [(&pins.net, "net"), (&pins.ipc, "ipc"), (&pins.uts, "uts")] {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| NamespaceError::File { path: path.clone(), source })?;
        let own = format!("/proc/thread-self/ns/{kind}");
        mount(Some(own.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| kernel("pin the namespace", path)(errno.into()))?;
    }
    Ok(())
}

/// Unpins everything in `directory` and removes it; nothing there is no error.
///
/// The namespaces live on while processes are in them.
///
/// # Errors
/// When an unmount or removal fails for another reason than that nothing is there.
pub fn remove(directory: &Path) -> Result<(), NamespaceError> {
    let pins = PodNamespaces::in_directory(directory);
    for path in [&pins.net, &pins.ipc, &pins.uts] {
        if is_namespace(path) {
            umount2(path, MntFlags::MNT_DETACH).map_err(|errno| NamespaceError::Kernel {
                action: "unpin the namespace",
                path: path.clone(),
                source: errno.into(),
            })?;
        }
        ignore_missing(fs::remove_file(path))
            .map_err(|source| NamespaceError::File { path: path.clone(), source })?;
    }
    ignore_missing(fs::remove_dir(directory))
        .map_err(|source| NamespaceError::File { path: directory.to_owned(), source })
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn is_namespace(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|stat| stat.filesystem_type() == FsType(libc::NSFS_MAGIC))
}

/// Runs `work` on a thread of its own inside the network namespace pinned at `path`, and waits for it.
///
/// Only the network namespace changes: mounts, and with them bpffs and cgroups, stay the caller's.
///
/// # Errors
/// When the file cannot be opened or is no namespace.
pub fn within<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
    let file = File::open(path).map_err(|source| NamespaceError::File { path: path.to_owned(), source })?;
    on_thread(path, move || {
        setns(&file, CloneFlags::CLONE_NEWNET).map_err(|errno| NamespaceError::Kernel {
            action: "enter the namespace",
            path: path.to_owned(),
            source: errno.into(),
        })?;
        Ok(work())
    })?
}

fn on_thread<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
    let failed = || NamespaceError::Thread { path: path.to_owned() };
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("weft-netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|_| failed())?
            .join()
            .map_err(|_| failed())
    })
}

/// The kernel's cookie of the calling thread's network namespace: unique until reboot, and what socket hooks see.
///
/// # Errors
/// When no socket can be made or the kernel (before 5.14) does not know the option.
pub fn current_cookie() -> io::Result<u64> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the pointers describe a live u64 and its length, which is all the option writes.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if got == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_namespaces_are_entered_kept_and_removed() {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("WEFT_TESTS_SKIP_KERNEL").is_some_and(|value| value == "1"),
                "only root makes namespaces; WEFT_TESTS_SKIP_KERNEL=1 skips this test"
            );
            return;
        }
        let directory = std::env::temp_dir().join(format!("weft-netns-{}", std::process::id()));
        let pins = create(&directory, "web-0").expect("created");
        assert!(pins.exist());
        let own = current_cookie().expect("cookie");
        let first = within(&pins.net, current_cookie).expect("entered").expect("cookie");
        assert_ne!(own, first);
        let again = create(&directory, "web-0").expect("kept");
        assert_eq!(within(&again.net, current_cookie).expect("entered").expect("cookie"), first);
        remove(&directory).expect("removed");
        assert!(!directory.exists());
        remove(&directory).expect("removing twice is no error");
    }

    #[test]
    fn a_plain_file_is_no_namespace() {
        let path = std::env::temp_dir().join(format!("weft-plain-{}", std::process::id()));
        fs::write(&path, b"").expect("written");
        assert!(matches!(within(&path, || ()), Err(NamespaceError::Kernel { .. })));
        fs::remove_file(&path).expect("removed");
    }
}
