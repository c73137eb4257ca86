//! A Pod's namespaces (network, IPC, UTS), pinned as files: no process keeps them, the files do. Only a shared PID namespace
//! needs one ([`crate::pause`]).
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// How long a connection inside a Pod may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// What is to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// A network namespace; not for Pods that use the node's.
    pub(crate) net: bool,
    /// An IPC namespace; likewise.
    pub(crate) ipc: bool,
    /// Host name in the UTS namespace; unset for Pods that use the node's.
    pub(crate) hostname: Option<String>,
    /// Sysctls, dotted name and value.
    pub(crate) sysctls: Vec<(String, String)>,
}

/// Why a Pod has no namespaces.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    #[error("cannot {step} {}", path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("sysctl {name} is refused by the kernel")]
    Sysctl {
        name: String,
        #[source]
        source: io::Error,
    },
}

/// Makes the wanted namespaces and pins them as `dir/{net,ipc,uts}`. What is pinned already stays.
pub(crate) fn make(dir: &Path, wanted: &Wanted) -> Result<(), NamespaceError> {
    fs::create_dir_all(dir).map_err(|source| NamespaceError::Io {
        step: "make",
        path: dir.into(),
        source,
    })?;
    let complete = (!wanted.net || is_pinned(&dir.join("net")))
        && (!wanted.ipc || is_pinned(&dir.join("ipc")))
        && (wanted.hostname.is_none() || is_pinned(&dir.join("uts")));
    if complete {
        return Ok(());
    }
    // `unshare` changes the calling thread for good, so the thread ends with its work.
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| make_on_this_thread(dir, wanted));
        worker.join().unwrap_or_else(|_| {
            Err(NamespaceError::Io {
                step: "make",
                path: dir.into(),
                source: io::Error::other("the worker thread failed"),
            })
        })
    })
}

fn make_on_this_thread(dir: &Path, wanted: &Wanted) -> Result<(), NamespaceError> {
    let fail = |step, path: &Path, source: io::Error| NamespaceError::Io { step, path: path.into(), source };
    let mut flags = CloneFlags::empty();
    flags.set(CloneFlags::CLONE_NEWNET, wanted.net);
    flags.set(CloneFlags::CLONE_NEWIPC, wanted.ipc);
    flags.set(CloneFlags::CLONE_NEWUTS, wanted.hostname.is_some());
    unshare(flags).map_err(|e| fail("unshare the namespaces of", dir, e.into()))?;
    if let Some(hostname) = &wanted.hostname {
        // SAFETY: the pointer and the length name a live buffer that the call only reads.
        let rc = unsafe { libc::sethostname(hostname.as_ptr().cast(), hostname.len()) };
        if rc != 0 {
            return Err(fail("set the host name in", dir, io::Error::last_os_error()));
        }
    }
    for (name, value) in &wanted.sysctls {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::write(path, value).map_err(|source| NamespaceError::Sysctl { name: name.clone(), source })?;
    }
    for (name, on) in [("net", wanted.net), ("ipc", wanted.ipc), ("uts", wanted.hostname.is_some())] {
        if on {
            let file = dir.join(name);
            let own = PathBuf::from(format!("/proc/thread-self/ns/{name}"));
            pin(&own, &file).map_err(|e| fail("pin", &file, e))?;
        }
    }
    Ok(())
}

/// Whether a namespace is pinned as the file.
pub(crate) fn is_pinned(file: &Path) -> bool {
    nix::sys::statfs::statfs(file).is_ok_and(|s| s.filesystem_type().0 == libc::NSFS_MAGIC)
}

/// Pins a namespace of `/proc` as a file, in place of what was there.
pub(crate) fn pin(namespace: &Path, file: &Path) -> io::Result<()> {
    release(file);
    fs::File::create(file)?;
    Ok(mount(Some(namespace), file, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// Lets a pinned namespace go.
pub(crate) fn release(file: &Path) {
    // Not mounted and not there are both what is wanted.
    let _ = umount2(file, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(file);
}

/// Lets the namespaces go; they end with the last process or socket in them.
pub(crate) fn remove(dir: &Path) {
    for name in ["net", "ipc", "uts", "pid"] {
        release(&dir.join(name));
    }
    let _ = fs::remove_dir(dir);
}

/// Connects inside the network namespace `netns`; with `None` in the agent's own. Blocks up to `patience`.
pub(crate) fn connect(netns: Option<&Path>, to: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let Some(netns) = netns else { return TcpStream::connect_timeout(&to, patience) };
    let file = fs::File::open(netns)?;
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            TcpStream::connect_timeout(&to, patience)
        });
        worker.join().unwrap_or_else(|_| Err(io::Error::other("the worker thread failed")))
    })
}

/// [`connect`] for async callers.
pub(crate) async fn dial(netns: Option<PathBuf>, to: SocketAddr) -> io::Result<tokio::net::TcpStream> {
    let made = tokio::task::spawn_blocking(move || connect(netns.as_deref(), to, CONNECT_PATIENCE));
    let stream = made.await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    tokio::net::TcpStream::from_std(stream)
}
