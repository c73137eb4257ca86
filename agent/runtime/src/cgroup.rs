//! Cgroups of Pods, on v1, hybrid and v2 hosts: a directory per Pod in every hierarchy, its shim and loggers in the leaf
//! `shim`, each container in a leaf of its own. It sets no limits; the OCI runtime does.

mod counters;

use std::fs;
use std::io;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// Leaf that holds a Pod's shim and loggers.
const SHIM_LEAF: &str = "shim";
/// How long a cgroup whose processes have just died may stay busy.
const REMOVE_PATIENCE: Duration = Duration::from_secs(3);

/// The mounted hierarchies of this machine.
#[derive(Clone, Debug)]
pub struct Hierarchies {
    roots: Vec<Root>,
}

#[derive(Clone, Debug)]
struct Root {
    path: PathBuf,
    options: String,
    v2: bool,
}

impl Root {
    /// Whether it is the version 1 hierarchy of that controller.
    fn has(&self, controller: &str) -> bool {
        !self.v2 && self.options.split(',').any(|option| option == controller)
    }
}

/// Moves the calling process into `parent/leaf` in every hierarchy, so that `parent` itself stays free of processes, as
/// cgroup v2 wants of a group that hands out controllers.
///
/// # Errors
/// A cgroup cannot be made or entered.
pub fn enter(parent: &Path, leaf: &str) -> io::Result<()> {
    let hierarchies = Hierarchies::find()?;
    for file in hierarchies.make(&parent.join(leaf))? {
        fs::OpenOptions::new().write(true).open(file)?.write_all(b"0")?;
    }
    Ok(())
}

/// Moves the calling process to where a Pod's shim is; `pod` is the Pod's group. Nothing is made for a Pod that is gone.
///
/// # Errors
/// The Pod has no such group, or it cannot be entered.
pub fn join_pod(pod: &Path) -> io::Result<()> {
    for root in Hierarchies::find()?.roots {
        let group: PathBuf = names(pod).fold(root.path, |path, name| path.join(name));
        let file = group.join(SHIM_LEAF).join("cgroup.procs");
        fs::OpenOptions::new().write(true).open(file)?.write_all(b"0")?;
    }
    Ok(())
}

/// Kills what is left in `group`, and removes it and all below, in every hierarchy.
///
/// # Errors
/// The hierarchies are not known, or the group stays busy.
pub fn remove(group: &Path) -> io::Result<()> {
    Hierarchies::find()?.remove(group)
}

impl Hierarchies {
    /// Reads what is mounted.
    ///
    /// # Errors
    /// `/proc/self/mountinfo` is not readable, or no hierarchy is mounted.
    pub fn find() -> io::Result<Self> {
        let found = Self::parse(&fs::read_to_string("/proc/self/mountinfo")?);
        if found.roots.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no cgroup hierarchy is mounted"));
        }
        Ok(found)
    }

    fn parse(mountinfo: &str) -> Self {
        let mut roots: Vec<Root> = Vec::new();
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let mut after = after.split(' ');
            let (kind, options) = (after.next().unwrap_or(""), after.nth(1).unwrap_or(""));
            let Some(path) = before.split(' ').nth(4) else { continue };
            if matches!(kind, "cgroup" | "cgroup2") && path.starts_with("/sys/fs/cgroup") {
                let v2 = kind == "cgroup2";
                if !roots.iter().any(|r| r.options == options && r.v2 == v2) {
                    roots.push(Root { path: path.into(), options: options.to_owned(), v2 });
                }
            }
        }
        Self { roots }
    }

    /// Whether cgroup v2 is all there is.
    #[must_use]
    pub fn v2_only(&self) -> bool {
        self.roots.iter().all(|r| r.v2)
    }

    /// Makes `group` in every hierarchy and answers each one's `cgroup.procs`.
    pub(crate) fn make(&self, group: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::with_capacity(self.roots.len());
        for root in &self.roots {
            let cpuset = root.has("cpuset");
            let mut at = root.path.clone();
            for part in names(group) {
                let above = at.clone();
                at.push(part);
                match fs::create_dir(&at) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                    _ => {}
                }
                if cpuset {
                    inherit_cpuset(&above, &at)?;
                }
            }
            files.push(at.join("cgroup.procs"));
        }
        Ok(files)
    }

    /// Makes a Pod's cgroup and the leaf of its shim; answers the files that a process writes itself into.
    pub(crate) fn make_pod(&self, pod: &Path) -> io::Result<Vec<PathBuf>> {
        self.make(&pod.join(SHIM_LEAF))
    }

    /// Kills what is left in `group` and removes it and all below, in every hierarchy.
    pub(crate) fn remove(&self, group: &Path) -> io::Result<()> {
        let deadline = Instant::now() + REMOVE_PATIENCE;
        for root in &self.roots {
            let at: PathBuf = names(group).fold(root.path.clone(), |p, n| p.join(n));
            loop {
                match remove_tree(&at) {
                    Ok(()) => break,
                    Err(e) if Instant::now() > deadline => return Err(e),
                    Err(_) => {
                        kill_all(&at);
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            }
        }
        Ok(())
    }

    /// How often the kernel's memory killer struck in `group`.
    pub(crate) fn oom_kills(&self, group: &Path) -> u64 {
        let count = |root: &Root| {
            let at: PathBuf = names(group).fold(root.path.clone(), |p, n| p.join(n));
            let file = if root.v2 { "memory.events" } else { "memory.oom_control" };
            let text = fs::read_to_string(at.join(file)).ok()?;
            text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok())
        };
        self.roots.iter().filter_map(count).max().unwrap_or(0)
    }
}

fn names(group: &Path) -> impl Iterator<Item = &std::ffi::OsStr> {
    group.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

/// A new v1 cpuset is empty, and nobody can enter it: it takes over what is above.
fn inherit_cpuset(above: &Path, group: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if fs::read_to_string(group.join(file))?.trim().is_empty() {
            fs::write(group.join(file), fs::read_to_string(above.join(file))?.trim())?;
        }
    }
    Ok(())
}

fn remove_tree(at: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(at) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(at)
}

fn kill_all(at: &Path) {
    // Version 2 kills a group at once, however fast it forks; version 1 has no such file.
    if fs::OpenOptions::new()
        .write(true)
        .open(at.join("cgroup.kill"))
        .and_then(|mut f| f.write_all(b"1"))
        .is_ok()
    {
        return;
    }
    for pid in fs::read_to_string(at.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Ok(pid) = pid.parse::<i32>() {
            // It may have died meanwhile; then there is nothing to do.
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
    for entry in fs::read_dir(at).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            kill_all(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    const V2: &str = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn hybrid_and_v2_only_are_told_apart() {
        let hybrid = Hierarchies::parse(HYBRID);
        assert_eq!(hybrid.roots.len(), 3);
        assert!(!hybrid.v2_only());
        let v2 = Hierarchies::parse(V2);
        assert_eq!(v2.roots.len(), 1);
        assert!(v2.v2_only());
    }

    #[test]
    fn a_path_cannot_climb_out() {
        let parts: Vec<_> = names(Path::new("/weft/../../etc")).collect();
        assert_eq!(parts, ["weft", "etc"]);
    }
}
