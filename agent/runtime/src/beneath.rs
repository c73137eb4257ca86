//! Files below a directory whose content others may change at any moment: opened by the kernel without ever leaving it, and
//! used by what was opened, not by the name again.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};

/// How often a lookup is repeated that a rename disturbed.
const TRIES_MAX: usize = 16;

/// Opens the directory itself.
fn root_of(root: &Path) -> io::Result<OwnedFd> {
    Ok(open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

fn lookup(root: &OwnedFd, part: &Path, flags: OFlag, resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
    let how =
        OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut last = Errno::EAGAIN;
    for _ in 0..TRIES_MAX {
        match openat2(root.as_fd(), part, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => last = Errno::EAGAIN,
            other => return other,
        }
    }
    Err(last)
}

/// The file or directory `part` below `root`; missing directories are made. Symbolic links lead on while they stay below.
///
/// # Errors
/// `EXDEV` for a way out, else what the kernel says.
pub(crate) fn open_or_make(root: &Path, part: &Path) -> io::Result<OwnedFd> {
    let root = root_of(root)?;
    let find = |path: &Path| lookup(&root, path, OFlag::O_PATH, ResolveFlag::RESOLVE_BENEATH);
    let mut at = PathBuf::from(".");
    let mut parent = find(&at)?;
    for name in part.components() {
        at.push(name);
        parent = match find(&at) {
            Err(Errno::ENOENT) => {
                match mkdirat(parent.as_fd(), name.as_os_str(), Mode::from_bits_truncate(0o755)) {
                    // Somebody made it meanwhile, or it is a link that leads nowhere: the next look tells.
                    Ok(()) | Err(Errno::EEXIST) => find(&at)?,
                    Err(error) => return Err(error.into()),
                }
            }
            other => other?,
        };
    }
    Ok(parent)
}

/// Shows what is open at `target`, which is made.
pub(crate) fn bind(opened: &OwnedFd, target: &Path) -> io::Result<()> {
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    if std::fs::metadata(&source)?.is_dir() {
        std::fs::create_dir_all(target)?;
    } else {
        File::create(target)?;
    }
    Ok(mount(Some(&source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?)
}

/// A small text file of an image, links taken as the image means them: an absolute one begins at `root`.
///
/// # Errors
/// There is none, it is no file, or it is larger than `bytes_max`.
pub(crate) fn read_in_root(root: &Path, part: &Path, bytes_max: u64) -> io::Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut file = File::from(lookup(&root_of(root)?, part, flags, ResolveFlag::RESOLVE_IN_ROOT)?);
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > bytes_max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = String::new();
    file.by_ref().take(bytes_max).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_may_lead_on_and_never_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("real")).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        symlink("real", root.join("good")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("/etc", root.join("absolute")).unwrap();
        open_or_make(&root, Path::new("good/made/deeper")).unwrap();
        assert!(root.join("real/made/deeper").is_dir());
        for bad in ["up/secret", "up/made", "absolute/passwd", "absolute/made"] {
            let error = open_or_make(&root, Path::new(bad)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EXDEV), "{bad}: {error}");
        }
        assert!(!dir.path().join("made").exists());
    }

    #[test]
    fn an_images_links_begin_at_its_root() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::create_dir_all(dir.path().join("data")).unwrap();
        fs::write(dir.path().join("data/passwd"), "web:x:33:33::/:\n").unwrap();
        symlink("/data/passwd", dir.path().join("etc/passwd")).unwrap();
        symlink("../../../../../../etc/hostname", dir.path().join("etc/group")).unwrap();
        let read = |name: &str| read_in_root(dir.path(), Path::new(name), 1 << 20);
        assert_eq!(read("etc/passwd").unwrap(), "web:x:33:33::/:\n");
        assert!(read("etc/group").is_err() && read("etc").is_err());
    }
}
