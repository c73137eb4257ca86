//! The disk below the server: that it is one, and how often it can sync.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::statfs::{FsType, statfs};

use crate::bench::samples::percentile;

/// `RAMFS_MAGIC` and `TMPFS_MAGIC` of linux/magic.h.
const IN_MEMORY: [FsType; 2] = [FsType(0x8584_58f6), FsType(0x0102_1994)];
const BLOCK: usize = 4096;
const BLOCKS: u64 = 4096;
const TIME: Duration = Duration::from_secs(2);

/// Writes of one block, each synced by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syncs {
    pub(super) per_second: f64,
    pub(super) p99_ms: f64,
}

/// Makes the directory; the kernel's words for the file system it is on.
///
/// # Errors
/// It is in memory: nothing there is durable.
pub(super) fn prepare(dir: &Path) -> Result<String> {
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    if IN_MEMORY.contains(&statfs(dir)?.filesystem_type()) {
        bail!("{} is in memory: name a directory on a disk with --data-dir", dir.display());
    }
    let mounts = fs::read_to_string("/proc/self/mounts").context("the mounts cannot be read")?;
    Ok(file_system(&mounts, &dir.canonicalize()?).unwrap_or("a file system without a name").to_owned())
}

/// The type of the mount that a path is below: the longest that fits, and of two the later.
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    mounts
        .filter(|(place, _)| path.starts_with(place))
        .max_by_key(|(place, _)| place.len())
        .map(|(_, file_system)| file_system)
}

/// Has what was written before brought to the disk: a build leaves hundreds of megabytes behind, and syncs would wait for them.
pub(super) fn settle() {
    nix::unistd::sync();
}

/// Blocks one after the other into a file that is there, each synced before the next: what a store that commits alone could do.
pub(super) fn syncs(dir: &Path) -> Result<Syncs> {
    let path = dir.join("syncs");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let done = measured(&file).with_context(|| format!("{} cannot be written", path.display()));
    fs::remove_file(&path)?;
    done
}

fn measured(file: &File) -> Result<Syncs> {
    let block = [0x5a; BLOCK];
    for number in 0..BLOCKS {
        file.write_all_at(&block, number * BLOCK as u64)?;
    }
    file.sync_all()?;
    let (began, mut times_ms) = (Instant::now(), Vec::new());
    while began.elapsed() < TIME {
        let one = Instant::now();
        file.write_all_at(&block, times_ms.len() as u64 % BLOCKS * BLOCK as u64)?;
        file.sync_data()?;
        times_ms.push(one.elapsed().as_secs_f64() * 1e3);
    }
    let per_second = times_ms.len() as f64 / began.elapsed().as_secs_f64();
    Ok(Syncs { per_second, p99_ms: percentile(&times_ms, 0.99).context("not one sync")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_no_disk() {
        let error = prepare(Path::new("/dev/shm")).unwrap_err().to_string();
        assert!(error.contains("--data-dir"), "{error}");
    }

    #[test]
    fn a_file_system_is_the_nearest_mount_s() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n";
        for (path, wanted) in [("/tmp/x", "tmpfs"), ("/tmp/disk/x", "xfs"), ("/tmpx", "ext4")] {
            assert_eq!(file_system(mounts, Path::new(path)), Some(wanted), "{path}");
        }
    }
}
