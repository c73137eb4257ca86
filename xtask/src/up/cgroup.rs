//! Cgroups of the machines: the same path in every hierarchy, v1 and v2, as runc puts containers.
//!
//! Daemons run in the leaf `system` of their machine, so that on a v2 host controllers can be handed on to the Pods beside it.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::wait_for;

/// Where a machine's own processes are, below its cgroup.
pub(crate) const SYSTEM: &str = "system";
const REMOVE_MS_MAX: u64 = 10_000;

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// Whether it is the unified one.
    pub(crate) is_v2: bool,
    has_cpuset_v1: bool,
}

/// All hierarchies of this machine.
pub(crate) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo cannot be read")?;
    Ok(parse(&text))
}

/// Reads `mountinfo` (proc(5)): the mount point is the fifth field, the type the first after ` - `. Only mounts of
/// a hierarchy's root count, each hierarchy once.
fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for line in mountinfo.lines() {
        let Some((place, kind)) = line.split_once(" - ") else { continue };
        let place: Vec<&str> = place.split(' ').collect();
        let kind: Vec<&str> = kind.split(' ').collect();
        let ([_, _, device, root, mount, ..], [kind, _, options]) = (&place[..], &kind[..]) else { continue };
        if *root != "/" || !matches!(*kind, "cgroup" | "cgroup2") || !seen.insert(*device) {
            continue;
        }
        found.push(Hierarchy {
            mount: PathBuf::from(*mount),
            is_v2: *kind == "cgroup2",
            has_cpuset_v1: *kind == "cgroup" && options.split(',').any(|option| option == "cpuset"),
        });
    }
    found
}

impl Hierarchy {
    /// Makes a cgroup and those above it, and hands the controllers down.
    fn create(&self, path: &str) -> Result<()> {
        let mut dir = self.mount.clone();
        for part in Path::new(path) {
            if self.is_v2 && dir != self.mount {
                hand_down_controllers(&dir);
            }
            let above = dir.clone();
            dir.push(part);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| format!("cgroup {} cannot be made", dir.display()));
                }
                _ => {}
            }
            if self.has_cpuset_v1 {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    inherit(&above.join(file), &dir.join(file))?;
                }
            }
        }
        Ok(())
    }
}

/// A v1 cpuset begins empty and takes no process until it has CPUs and memory.
fn inherit(from: &Path, to: &Path) -> Result<()> {
    let now = fs::read_to_string(to).with_context(|| format!("{} cannot be read", to.display()))?;
    if !now.trim().is_empty() {
        return Ok(());
    }
    let value = fs::read_to_string(from).with_context(|| format!("{} cannot be read", from.display()))?;
    fs::write(to, value.trim()).with_context(|| format!("{} cannot be written", to.display()))
}

/// Best effort: a controller that cannot be handed down is one the host keeps for itself.
fn hand_down_controllers(dir: &Path) {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    for controller in available.split_whitespace() {
        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Makes the cgroup in every hierarchy, with its leaf for daemons, and gives the `cgroup.procs` files of that leaf.
pub(crate) fn create(cgroup: &str) -> Result<Vec<PathBuf>> {
    let leaf = format!("{cgroup}/{SYSTEM}");
    let hierarchies = hierarchies()?;
    for hierarchy in &hierarchies {
        if hierarchy.is_v2 {
            hand_down_controllers(&hierarchy.mount);
        }
        hierarchy.create(&leaf)?;
    }
    Ok(procs_files(&hierarchies, &leaf))
}

fn procs_files(hierarchies: &[Hierarchy], leaf: &str) -> Vec<PathBuf> {
    hierarchies.iter().map(|hierarchy| hierarchy.mount.join(leaf).join("cgroup.procs")).collect()
}

/// Directories of a cgroup that exist, in any hierarchy.
pub(crate) fn existing(cgroup: &str) -> Result<Vec<PathBuf>> {
    Ok(hierarchies()?
        .into_iter()
        .map(|hierarchy| hierarchy.mount.join(cgroup))
        .filter(|dir| dir.is_dir())
        .collect())
}

/// Every process in a cgroup or below it, in any hierarchy.
pub(crate) fn processes(cgroup: &str) -> Result<BTreeSet<i32>> {
    let mut pids = BTreeSet::new();
    for dir in existing(cgroup)? {
        collect(&dir, &mut pids);
    }
    Ok(pids)
}

fn collect(dir: &Path, pids: &mut BTreeSet<i32>) {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for child in children(dir) {
        collect(&child, pids);
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Removes a cgroup and all below it from every hierarchy; waits while the last processes leave.
pub(crate) fn remove(cgroup: &str) -> Result<()> {
    for dir in existing(cgroup)? {
        wait_for(
            &format!("cgroup {} to empty", dir.display()),
            Duration::from_millis(REMOVE_MS_MAX),
            20,
            || remove_tree(&dir).map(Some),
        )?;
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> Result<()> {
    // A frozen process does not even die.
    for (file, thawed) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        if dir.join(file).exists() {
            let _ = fs::write(dir.join(file), thawed);
        }
    }
    for child in children(dir) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a cgroup of every hierarchy if nothing is in it any more.
pub(crate) fn remove_if_empty(cgroup: &str) -> Result<()> {
    for dir in existing(cgroup)? {
        let _ = fs::remove_dir(dir);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
55 31 0:38 /some/container /elsewhere rw,relatime - cgroup2 cgroup2 rw
56 31 0:31 / /bound/again rw,relatime - cgroup cgroup rw,cpuset
";

    #[test]
    fn finds_each_hierarchy_once() {
        let found = parse(HYBRID);
        let mounts: Vec<_> = found.iter().map(|hierarchy| hierarchy.mount.to_str().unwrap()).collect();
        assert_eq!(
            mounts,
            [
                "/sys/fs/cgroup/cpuset",
                "/sys/fs/cgroup/cpu,cpuacct",
                "/sys/fs/cgroup/systemd",
                "/sys/fs/cgroup/unified"
            ]
        );
        assert!(found[0].has_cpuset_v1 && !found[1].has_cpuset_v1);
        assert!(found[3].is_v2 && !found[2].is_v2);
        assert_eq!(parse("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n").len(), 1);
    }

    #[test]
    fn is_made_joined_emptied_and_removed() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not root: skipped");
            return;
        }
        let name = format!("xcg{}", std::process::id());
        let cgroup = format!("{name}/node-1");
        let files = create(&cgroup).unwrap();
        assert_eq!(files.len(), hierarchies().unwrap().len());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        for file in &files {
            fs::write(file, pid.to_string()).unwrap();
        }
        assert_eq!(processes(&name).unwrap(), BTreeSet::from([pid]));
        child.kill().unwrap();
        child.wait().unwrap();
        remove(&name).unwrap();
        assert!(existing(&name).unwrap().is_empty());
    }
}
