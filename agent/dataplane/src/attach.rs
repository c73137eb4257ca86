//! Programs at their hooks: links pinned, replaced in place after a restart, made anew when what they held on to is gone.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{
    CgroupAttachMode, CgroupSockAddr, LinkOrder, Program, ProgramError, SchedClassifier, TcAttachType,
};
use thiserror::Error;
use weft_dataplane_abi::hook::Hook;

use crate::clsact;
use crate::sys::{self, LinkTarget};

/// Why a program is not at its hook.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The cgroup is not there.
    #[error("no cgroup at {}", path.display())]
    Cgroup {
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The object lacks the program.
    #[error("no loaded program {0}")]
    NoProgram(&'static str),
    /// The kernel refused the attachment.
    #[error("cannot attach {hook} to {target}")]
    Refused {
        /// Which program.
        hook: &'static str,
        /// To what.
        target: String,
        /// What the kernel said.
        #[source]
        source: Box<ProgramError>,
    },
    /// A pinned link could not be opened, replaced or removed.
    #[error("cannot {action} the pinned link {}", path.display())]
    Link {
        /// What was tried.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A new link could not be pinned.
    #[error("cannot pin the link {}", path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What became of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attached {
    /// A link from before got the new program.
    Replaced,
    /// There was none.
    Made,
}

/// Attaches every socket program to a cgroup. Those that read what was decided come first: they know where programs of
/// another layout have written it, which do not know where these do.
pub(crate) fn sockets(
    ebpf: &mut Ebpf,
    links: &Path,
    cgroup: &Path,
) -> Result<Vec<(Hook, Attached)>, AttachError> {
    let missing = |source| AttachError::Cgroup { path: cgroup.to_owned(), source };
    let directory = fs::File::open(cgroup).map_err(missing)?;
    let id = directory.metadata().map_err(missing)?.ino();
    let mut done = Vec::new();
    let hooks = Hook::ALL.iter().copied().filter(|hook| hook.is_socket());
    let (writers, readers): (Vec<_>, Vec<_>) = hooks.partition(|hook| hook.decides());
    for hook in readers.into_iter().chain(writers) {
        let name = hook.text();
        let path = links.join(name);
        let program = program::<CgroupSockAddr>(ebpf, name)?;
        let refused = |source| AttachError::Refused {
            hook: name,
            target: cgroup.display().to_string(),
            source: Box::new(source),
        };
        let fd = program.fd().map_err(refused)?;
        if replace(&path, LinkTarget::Cgroup(id), fd.as_fd())? {
            done.push((hook, Attached::Replaced));
            continue;
        }
        let made = program.attach(&directory, CgroupAttachMode::Single).map_err(refused)?;
        let link = program.take_link(made).map_err(refused)?;
        pin(&path, FdLink::try_from(link).map_err(|error| unpinnable(&path, error))?)?;
        done.push((hook, Attached::Made));
    }
    Ok(done)
}

/// A device and how it is known to the pins.
pub(crate) struct Place<'a> {
    pub(crate) device: &'a str,
    pub(crate) index: u32,
    /// The kernel has tcx; otherwise clsact is used, and a device's deletion is what removes the program.
    pub(crate) tcx: bool,
}

/// Attaches a packet program to a device.
pub(crate) fn device(
    ebpf: &mut Ebpf,
    links: &Path,
    hook: Hook,
    place: &Place<'_>,
) -> Result<Attached, AttachError> {
    let name = hook.text();
    let path = links.join(format!("{name}-{}", place.device));
    let program = program::<SchedClassifier>(ebpf, name)?;
    let direction = direction(hook);
    let refused = |source| AttachError::Refused {
        hook: name,
        target: format!("device {}", place.device),
        source: Box::new(source),
    };
    if !place.tcx {
        let done = clsact::attach(program, place.device, direction).map_err(refused)?;
        // What hung there by tcx goes after the other has come: no packet meets none.
        unpin(&path)?;
        return Ok(done);
    }
    let fd = program.fd().map_err(refused)?;
    if replace(&path, LinkTarget::Device(place.index), fd.as_fd())? {
        return Ok(Attached::Replaced);
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let made = program.attach_with_options(place.device, direction, options).map_err(refused)?;
    let link = program.take_link(made).map_err(refused)?;
    pin(&path, FdLink::try_from(link).map_err(|error| unpinnable(&path, error))?)?;
    // A classifier from when this node used clsact goes now; a link that was there says that there is none.
    clsact::detach(place.device, direction);
    Ok(Attached::Made)
}

/// Which way the packets go that a hook sees.
fn direction(hook: Hook) -> TcAttachType {
    match hook {
        Hook::ToPod | Hook::ToOverlay | Hook::ToUplink => TcAttachType::Egress,
        _ => TcAttachType::Ingress,
    }
}

/// Unpins a device's links: the kernel lets go of the programs with the device.
pub(crate) fn forget_device(links: &Path, hooks: &[Hook], device: &str) -> Result<(), AttachError> {
    hooks.iter().try_for_each(|hook| unpin(&links.join(format!("{}-{device}", hook.text()))))
}

/// Gives the link pinned at `path` another program, if it still holds on to `target`; otherwise unpins it.
pub(crate) fn replace(
    path: &Path,
    target: LinkTarget,
    program: std::os::fd::BorrowedFd<'_>,
) -> Result<bool, AttachError> {
    let failed = |action| move |source| AttachError::Link { action, path: path.to_owned(), source };
    let link = match sys::open_pin(path) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("open")(error)),
    };
    if sys::link_target(link.as_fd()).map_err(failed("inspect"))? == target {
        match sys::update_link(link.as_fd(), program) {
            Ok(()) => return Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
            Err(error) => return Err(failed("replace the program of")(error)),
        }
    }
    unpin(path).map(|()| false)
}

pub(crate) fn unpin(path: &Path) -> Result<(), AttachError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(AttachError::Link { action: "remove", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn pin(path: &Path, link: FdLink) -> Result<(), AttachError> {
    link.pin(path).map(drop).map_err(|error| unpinnable(path, error))
}

fn unpinnable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> AttachError {
    AttachError::Pin { path: path.to_owned(), source: Box::new(error) }
}

pub(crate) fn program<'a, T>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, AttachError>
where
    &'a mut T: TryFrom<&'a mut Program>,
{
    ebpf.program_mut(name)
        .and_then(|program| <&mut T>::try_from(program).ok())
        .ok_or(AttachError::NoProgram(name))
}
