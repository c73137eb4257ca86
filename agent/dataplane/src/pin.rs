//! What outlives the agent: the directory of pins, bpffs under it, the layout's version, and what fits of what is there.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapError};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use thiserror::Error;
use weft_dataplane_abi::LAYOUT;
use weft_dataplane_abi::maps::{MAPS, MapSpec};

use crate::config::Capacities;
use crate::migrate::{Before, MigrateError};

/// Where bpffs is mounted when the pins are to lie below it and it is not.
const BPFFS: &str = "/sys/fs/bpf";
/// What names of directories with tables begin with; the layout's number follows.
const HOME: &str = "maps-";
/// The same while the tables are filled from another layout's.
const INCOMING: &str = "incoming-";

/// Why pins could not be made ready or removed.
#[derive(Debug, Error)]
pub enum PinError {
    /// The kernel did not mount bpffs.
    #[error("cannot mount bpffs on {BPFFS}")]
    Mount(#[source] io::Error),
    /// The directory is on another filesystem.
    #[error("{} is not on a bpffs; mount one there or choose a directory below {BPFFS}", .0.display())]
    NotBpffs(PathBuf),
    /// A directory or pin could not be made, read or removed.
    #[error("pin {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Tables of another layout could not be looked at.
    #[error("tables of another layout")]
    Before(#[source] MigrateError),
    /// A pinned table could not be looked at.
    #[error("cannot inspect the pinned table {}", path.display())]
    Inspect {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
}

/// The directories of pins.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    root: PathBuf,
    /// The tables are being filled from another layout's, and do not count yet.
    arriving: bool,
}

/// What was found of tables from before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Tables that are used again.
    pub(crate) adopted: Vec<&'static str>,
    /// Tables of another shape in the same layout, removed: they are made anew.
    pub(crate) reshaped: Vec<&'static str>,
    /// Tables used again with another capacity than configured: name, rows there, rows wanted.
    pub(crate) other_capacity: Vec<(&'static str, u32, u32)>,
}

/// Makes a directory of pins, and sees that it is one.
fn make(directory: &Path) -> Result<(), PinError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed(directory))?;
    if is_bpffs(directory) { Ok(()) } else { Err(PinError::NotBpffs(directory.to_owned())) }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PinError + '_ {
    move |source| PinError::File { path: path.to_owned(), source }
}

impl Pins {
    /// Makes the directories, mounting bpffs first if the path is below its usual place and nothing is mounted there. Gives
    /// the tables of another layout when they are to be taken over.
    pub(crate) fn prepare(root: &Path) -> Result<(Self, Option<Before>), PinError> {
        let mut pins = Self::at(root);
        if root.starts_with(BPFFS) {
            mount_bpffs().map_err(PinError::Mount)?;
        }
        for directory in [pins.root.clone(), pins.links()] {
            make(&directory)?;
        }
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).map_err(failed(root))?;
        let before = pins.settle()?;
        pins.arriving = before.is_some();
        make(&pins.maps())?;
        Ok((pins, before))
    }

    /// Ends what a killed agent had begun, and says which tables there are to take over. Tables under `maps-` hold all the
    /// flows there are; those under `incoming-` do so only when there are no others: until the last moment the programs write
    /// to the others, too.
    fn settle(&self) -> Result<Option<Before>, PinError> {
        if self.numbered(HOME)?.is_empty()
            && let Some((layout, path)) = self.numbered(INCOMING)?.pop()
        {
            let home = self.root.join(format!("{HOME}{layout}"));
            fs::rename(&path, home).map_err(failed(&path))?;
        }
        for (_, path) in self.numbered(INCOMING)? {
            fs::remove_dir_all(&path).map_err(failed(&path))?;
        }
        let homes = self.numbered(HOME)?;
        if homes.iter().any(|(layout, _)| *layout == LAYOUT) {
            return Ok(None);
        }
        let Some((layout, path)) = homes.last() else { return Ok(None) };
        let before = Before::inspect(path, *layout).map_err(PinError::Before)?;
        if before.is_none() {
            tracing::warn!(layout, "tables of that layout cannot be read: established flows begin anew");
        }
        Ok(before)
    }

    /// Directories of tables by the number of their layout, the highest last.
    fn numbered(&self, kind: &str) -> Result<Vec<(u32, PathBuf)>, PinError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed(&self.root))? {
            let path = entry.map_err(failed(&self.root))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(layout) = name.strip_prefix(kind).and_then(|number| number.parse().ok()) {
                found.push((layout, path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// This layout's tables hold everything now: the others go. Killed in between, the next agent ends it.
    pub(crate) fn arrive(&mut self, before: &Before) -> Result<(), PinError> {
        fs::remove_dir_all(&before.directory).map_err(failed(&before.directory))?;
        let incoming = self.maps();
        fs::rename(&incoming, self.home()).map_err(failed(&incoming))?;
        self.arriving = false;
        Ok(())
    }

    /// Nothing came of taking over: what was made for it goes.
    pub(crate) fn give_up(&self) {
        if self.arriving
            && let Err(error) = fs::remove_dir_all(self.maps())
        {
            tracing::warn!(path = %self.maps().display(), %error, "tables stay that nobody reads");
        }
    }

    /// The pins in a directory that was prepared.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), arriving: false }
    }

    /// The directory of this layout's tables.
    pub(crate) fn maps(&self) -> PathBuf {
        if self.arriving { self.root.join(format!("{INCOMING}{LAYOUT}")) } else { self.home() }
    }

    /// The directory of this layout's tables once they hold everything.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.join(format!("{HOME}{LAYOUT}"))
    }

    /// The directory of links, the same for every layout: a link is replaced, never made anew.
    pub(crate) fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Looks at the tables of this layout; removes those whose shape does not fit, for aya would use them without a word.
    pub(crate) fn sift(&self, capacities: &Capacities) -> Result<Found, PinError> {
        let mut found = Found::default();
        for spec in MAPS.iter().filter(|spec| spec.pinned) {
            let path = self.maps().join(spec.name);
            if !path.exists() {
                continue;
            }
            let wanted = capacities.of_map(spec.name, spec.capacity);
            let inspect = |source| PinError::Inspect { path: path.clone(), source: Box::new(source) };
            let info = MapData::from_pin(&path).and_then(|map| map.info()).map_err(inspect)?;
            let kind = info.map_type().map_err(inspect)? as u32;
            if !same_shape(spec, kind, info.key_size(), info.value_size()) {
                fs::remove_file(&path).map_err(failed(&path))?;
                found.reshaped.push(spec.name);
            } else if info.max_entries() == wanted {
                found.adopted.push(spec.name);
            } else if spec.sized_by_setting {
                found.adopted.push(spec.name);
                found.other_capacity.push((spec.name, info.max_entries(), wanted));
            } else {
                fs::remove_file(&path).map_err(failed(&path))?;
                found.reshaped.push(spec.name);
            }
        }
        Ok(found)
    }

    /// Rows the pinned tables really hold.
    pub(crate) fn capacities(&self, wanted: Capacities) -> Result<Capacities, PinError> {
        let mut real = wanted;
        for (name, field) in [
            ("services", &mut real.services_max as &mut u32),
            ("slots", &mut real.slots_max),
            ("backends", &mut real.backends_max),
            ("endpoints", &mut real.endpoints_max),
            ("routes", &mut real.routes_max),
            ("nodes", &mut real.nodes_max),
            ("netns", &mut real.namespaces_max),
        ] {
            let path = self.maps().join(name);
            let info = MapData::from_pin(&path).and_then(|map| map.info());
            *field =
                info.map_err(|source| PinError::Inspect { path, source: Box::new(source) })?.max_entries();
        }
        Ok(real)
    }

    /// Removes tables of other layouts, once no program reads them any more.
    pub(crate) fn remove_other_layouts(&self) -> Result<Vec<PathBuf>, PinError> {
        let mut removed = Vec::new();
        for (_, path) in self.numbered(HOME)?.into_iter().filter(|(layout, _)| *layout != LAYOUT) {
            fs::remove_dir_all(&path).map_err(failed(&path))?;
            removed.push(path);
        }
        Ok(removed)
    }
}

/// Removes every pin below a directory, and the directory; nothing there is no error.
pub(crate) fn remove_all(root: &Path) -> Result<(), PinError> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed(root)),
    }
}

/// Mounts bpffs unless it is; agents that start together on one machine take turns, or one mount would hide the other's
/// pins.
fn mount_bpffs() -> io::Result<()> {
    let above = fs::File::open(Path::new(BPFFS).parent().unwrap_or(Path::new("/")))?;
    let _turn = Flock::lock(above, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
    if !is_bpffs(Path::new(BPFFS)) {
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700"))?;
    }
    Ok(())
}

fn same_shape(spec: &MapSpec, kind: u32, key_bytes: u32, value_bytes: u32) -> bool {
    spec.kind as u32 == kind && spec.key_bytes == key_bytes && spec.value_bytes == value_bytes
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}
