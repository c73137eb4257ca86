//! Containers' logs: files in the CRI format, written by a small process per container that outlives the agent.
//!
//! A line on disk is `TIME STREAM TAG TEXT`; the tag is `F` for a whole line and `P` for a part of one.

mod follow;
mod line;
pub(crate) mod piped;
mod writer;

pub(crate) use follow::{Filter, LogFollower};
pub use writer::log_writer_main;

use std::path::{Path, PathBuf};

/// A file is put aside when it has grown to this, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 10 << 20;
/// Files kept per container run, the one that grows included.
pub(crate) const FILES_MAX: u32 = 3;

/// The files of one log, newest first: `N.log`, `N.log.1`, `N.log.2`.
pub(crate) fn files(newest: &Path) -> Vec<PathBuf> {
    let mut all = vec![newest.to_path_buf()];
    for age in 1..FILES_MAX {
        let mut name = newest.as_os_str().to_owned();
        name.push(format!(".{age}"));
        all.push(name.into());
    }
    all
}
