//! Where this machine keeps its cgroups, and which device and address it has towards the others.

use std::io;
use std::path::{Path, PathBuf};

/// The mount point of the cgroup version 2 hierarchy, hybrid hosts included.
///
/// # Errors
/// The mounts cannot be read, or there is no such hierarchy.
pub(crate) fn cgroup2_mount() -> io::Result<PathBuf> {
    cgroup2_in(&std::fs::read_to_string("/proc/self/mounts")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup2 file system is mounted"))
}

fn cgroup2_in(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    })
}

/// The cgroup of `--cgroup-root` in the version 2 hierarchy, made if missing.
///
/// # Errors
/// It cannot be made.
pub(crate) fn cgroup_root(relative: &Path) -> io::Result<PathBuf> {
    let path = cgroup2_mount()?.join(relative);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_unified_hierarchy_is_found_among_others() {
        let mounts =
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(super::cgroup2_in(mounts).unwrap().to_str(), Some("/sys/fs/cgroup/unified"));
        assert!(super::cgroup2_in("proc /proc proc rw 0 0\n").is_none());
    }
}
