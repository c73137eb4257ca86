//! Turns a layer's tar into a directory that overlayfs takes as a lower one. What would leave the directory is refused.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};

/// Prefix of a name that hides the same name below.
const WHITEOUT: &str = ".wh.";
/// Entries of a layer.
const ENTRIES_MAX: usize = 1 << 22;
/// Hides everything below its directory.
const OPAQUE: &str = ".wh..wh..opq";

/// Why a layer is not usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error("layer entry {} leaves the image", path.display())]
    Escape { path: PathBuf },
    #[error("layer entry {} cannot be unpacked: {source}", path.display())]
    Entry {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("layer is not a readable tar: {0}")]
    Tar(#[source] io::Error),
    #[error("layer has more than {ENTRIES_MAX} entries")]
    TooMany,
    #[error("layer is larger than {bytes_max} bytes unpacked")]
    TooLarge { bytes_max: u64 },
}

/// Unpacks a layer (tar, gzip or zstd) into `dir`. Answers the digest of the plain tar, `sha256:…`, and the bytes of it.
pub(crate) fn unpack(layer: impl Read, dir: &Path, bytes_max: u64) -> Result<(String, u64), UnpackError> {
    let mut plain = Counted {
        inner: decompress(layer).map_err(UnpackError::Tar)?,
        hash: Sha256::new(),
        bytes: 0,
        bytes_max,
    };
    let unpacked = unpack_entries(&mut plain, dir);
    if plain.bytes > bytes_max {
        return Err(UnpackError::TooLarge { bytes_max });
    }
    unpacked?;
    // Padding after the last entry belongs to the digest.
    io::copy(&mut plain, &mut io::sink()).map_err(UnpackError::Tar)?;
    Ok((format!("sha256:{}", hex(&plain.hash.finalize())), plain.bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The plain bytes of what may be compressed.
pub(crate) fn decompress<'a>(source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = BufReader::with_capacity(128 << 10, source);
    let magic = source.fill_buf()?;
    if magic.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(source)))
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Ok(Box::new(zstd::stream::read::Decoder::with_buffer(source)?))
    } else {
        Ok(Box::new(source))
    }
}

struct Counted<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
    bytes_max: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.bytes += count as u64;
        if self.bytes > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.hash.update(&buf[..count]);
        Ok(count)
    }
}

fn unpack_entries(plain: &mut impl Read, dir: &Path) -> Result<(), UnpackError> {
    let mut archive = Archive::new(plain);
    for (count, entry) in archive.entries().map_err(UnpackError::Tar)?.enumerate() {
        if count == ENTRIES_MAX {
            return Err(UnpackError::TooMany);
        }
        let mut entry = entry.map_err(UnpackError::Tar)?;
        let path = entry.path().map_err(UnpackError::Tar)?.into_owned();
        let relative = inside(&path)?;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            continue;
        }
        let fail = |source| UnpackError::Entry { path: path.clone(), source };
        let Some(name) = relative.file_name().and_then(|n| n.to_str()).map(str::to_owned) else {
            if kind == EntryType::Directory && relative.as_os_str().is_empty() {
                set_metadata(&mut entry, dir).map_err(fail)?;
                continue;
            }
            place(&mut entry, dir, &relative, &path)?;
            continue;
        };
        let parent = parent_inside(dir, &relative)?;
        if name == OPAQUE {
            set_xattr(&parent, "trusted.overlay.opaque", b"y").map_err(fail)?;
        } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            // `.wh..` and `.wh...` name the directory itself and the one above; `.wh..wh.…` are another driver's notes.
            match hidden {
                "" | "." | ".." => return Err(UnpackError::Escape { path }),
                note if note.starts_with(WHITEOUT) => continue,
                _ => {}
            }
            let target = parent.join(hidden);
            clear(&target).map_err(fail)?;
            mknod(&target, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).map_err(|e| fail(e.into()))?;
        } else {
            place(&mut entry, dir, &relative, &path)?;
        }
    }
    Ok(())
}

/// The path without root and dots; one that climbs is refused.
fn inside(path: &Path) -> Result<PathBuf, UnpackError> {
    let mut relative = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(UnpackError::Escape { path: path.into() });
            }
        }
    }
    Ok(relative)
}

/// The directory that `relative` lies in. It is made if missing; a symbolic link on the way is refused, since it may point anywhere.
fn parent_inside(dir: &Path, relative: &Path) -> Result<PathBuf, UnpackError> {
    let mut at = dir.to_path_buf();
    for part in relative.parent().into_iter().flat_map(Path::components) {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(UnpackError::Escape { path: relative.into() }),
            Err(_) => {
                fs::create_dir(&at).map_err(|source| UnpackError::Entry { path: relative.into(), source })?;
            }
        }
    }
    Ok(at)
}

fn place(
    entry: &mut Entry<'_, impl Read>,
    dir: &Path,
    relative: &Path,
    path: &Path,
) -> Result<(), UnpackError> {
    let fail = |source: io::Error| UnpackError::Entry { path: path.into(), source };
    let parent = parent_inside(dir, relative)?;
    let Some(name) = relative.file_name() else { return Ok(()) };
    let target = parent.join(name);
    let kind = entry.header().entry_type();
    let link = entry.link_name().map_err(fail)?.map(std::borrow::Cow::into_owned);
    let link = || {
        link.clone().ok_or_else(|| fail(io::Error::new(io::ErrorKind::InvalidData, "link without target")))
    };
    if kind == EntryType::Directory {
        match fs::symlink_metadata(&target) {
            Ok(found) if found.is_dir() => {}
            _ => {
                clear(&target).map_err(fail)?;
                fs::create_dir(&target).map_err(fail)?;
            }
        }
        return set_metadata(entry, &target).map_err(fail);
    }
    clear(&target).map_err(fail)?;
    match kind {
        EntryType::Symlink => symlink(link()?, &target).map_err(fail)?,
        EntryType::Link => {
            let source = inside(&link()?)?;
            let from = parent_inside(dir, &source)?.join(source.file_name().unwrap_or_default());
            // The link shares everything with its source; there is no metadata of its own.
            return fs::hard_link(from, &target).map_err(fail);
        }
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            let flag = match kind {
                EntryType::Char => SFlag::S_IFCHR,
                EntryType::Block => SFlag::S_IFBLK,
                _ => SFlag::S_IFIFO,
            };
            let major = entry.header().device_major().map_err(fail)?.unwrap_or(0);
            let minor = entry.header().device_minor().map_err(fail)?.unwrap_or(0);
            mknod(&target, flag, Mode::empty(), makedev(major.into(), minor.into()))
                .map_err(|e| fail(e.into()))?;
        }
        _ => {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&target).map_err(fail)?;
            io::copy(entry, &mut file).map_err(fail)?;
        }
    }
    set_metadata(entry, &target).map_err(fail)
}

fn clear(target: &Path) -> io::Result<()> {
    match fs::symlink_metadata(target) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(target),
        Ok(_) => fs::remove_file(target),
        Err(_) => Ok(()),
    }
}

fn set_metadata(entry: &mut Entry<'_, impl Read>, target: &Path) -> io::Result<()> {
    let header = entry.header();
    // Makers that know no owner or time leave the field empty, which means 0.
    let id = |n: io::Result<u64>| {
        u32::try_from(n.unwrap_or(0)).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    };
    lchown(target, Some(id(header.uid())?), Some(id(header.gid())?))?;
    let (mode, kind, mtime) = (header.mode()?, header.entry_type(), header.mtime().unwrap_or(0));
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions.flatten() {
            if let Some(name) = extension.key().ok().and_then(|k| k.strip_prefix("SCHILY.xattr."))
                && (name.starts_with("user.") || name == "security.capability")
            {
                set_xattr(target, name, extension.value_bytes())?;
            }
        }
    }
    if kind != EntryType::Symlink {
        fs::set_permissions(target, fs::Permissions::from_mode(mode & 0o7777))?;
    }
    if kind.is_file() {
        fs::File::open(target)?.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(mtime))?;
    }
    Ok(())
}

fn set_xattr(target: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let path = CString::new(target.as_os_str().as_bytes())?;
    let name = CString::new(name)?;
    // SAFETY: two terminated strings and a buffer with its length, all alive and only read.
    let rc = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
#[path = "unpack/tests.rs"]
mod tests;
