//! Takes a cluster away, whatever is left of it: processes, mounts, namespaces, cgroups, pins, sockets, state.
//!
//! Works from names alone, so a cluster whose `up` was killed half way, or whose record is lost, goes as well. Every
//! step may find nothing to do.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use crate::command::wait_for;
use crate::up::machine::{Cluster, Machine};
use crate::up::process::{self, Process};
use crate::up::{cgroup, namespace};

const BPFFS: &str = "/sys/fs/bpf";
/// Says that `up` mounted bpffs, which the last `down` then undoes.
const BPFFS_MARK: &str = "/run/weft-xtask-mounted-bpffs";
const SHIM_SOCKETS: &str = "/run/containerd/s";
const RUNC_STATE: &str = "/run/containerd/runc";
const KILL_MS_MAX: u64 = 15_000;
const REAP_MS_MAX: u64 = 10_000;

/// What was taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// Processes that were killed.
    pub(crate) processes: usize,
    /// Mounts that were undone.
    pub(crate) mounts: usize,
    /// Network namespaces.
    pub(crate) namespaces: usize,
    /// Directories of cgroups, pins, sockets and state.
    pub(crate) dirs: usize,
}

impl Removed {
    /// Whether there was nothing.
    pub(crate) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// Removes every trace of a cluster.
pub(crate) fn remove(cluster: &Cluster) -> Result<Removed> {
    let mut removed = Removed::default();
    let machines = machines(cluster)?;
    let sockets = shim_sockets(cluster)?;
    removed.processes = kill_all(cluster)?;
    remove_containers(cluster, &sockets);
    removed.mounts = unmount_below(&own_dirs(cluster, &machines))?;
    for (netns, _) in namespace::list(cluster) {
        namespace::remove(&netns)?;
        removed.namespaces += 1;
    }
    for machine in &machines {
        let cgroup = cluster.cgroup(*machine);
        removed.dirs += cgroup::existing(&cgroup)?.len();
        cgroup::remove(&cgroup)?;
    }
    cgroup::remove_if_empty(&cluster.name)?;
    for dir in own_dirs(cluster, &machines) {
        if dir.symlink_metadata().is_ok() {
            fs::remove_dir_all(&dir).with_context(|| format!("{} cannot be removed", dir.display()))?;
            removed.dirs += 1;
        }
    }
    let _ = fs::remove_dir(Path::new("/run").join(&cluster.name));
    unmount_bpffs_if_ours();
    let _ = fs::remove_dir(namespace::NETNS_DIR);
    Ok(removed)
}

/// Every machine of which something is left, by any of the names.
fn machines(cluster: &Cluster) -> Result<Vec<Machine>> {
    let mut found: BTreeSet<Machine> =
        namespace::list(cluster).into_iter().map(|(_, machine)| machine).collect();
    let mut dirs = cgroup::existing(&cluster.name)?;
    dirs.push(Path::new("/run").join(&cluster.name));
    dirs.push(cluster.dir.join("data"));
    for dir in dirs {
        found.extend(names_in(&dir).iter().filter_map(|name| Machine::named(name)));
    }
    found.extend(names_in(Path::new(BPFFS)).iter().filter_map(|name| cluster.machine_of_netns(name)));
    if let Some(record) = cluster.record() {
        found.extend(record.machines());
    }
    Ok(found.into_iter().collect())
}

fn names_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// Directories that are the cluster's alone.
fn own_dirs(cluster: &Cluster, machines: &[Machine]) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> =
        machines.iter().flat_map(|machine| [cluster.run_dir(*machine), cluster.bpffs(*machine)]).collect();
    dirs.push(cluster.dir.clone());
    dirs
}

/// Kills what runs in the cluster's cgroups and namespaces and what is on record, until nothing is left.
fn kill_all(cluster: &Cluster) -> Result<usize> {
    let mut killed = BTreeSet::new();
    wait_for("the cluster's processes to end", Duration::from_millis(KILL_MS_MAX), 20, || {
        let alive = alive(cluster)?;
        for process in &alive {
            process.signal(Signal::SIGKILL);
            killed.insert(process.pid);
        }
        if alive.is_empty() {
            return Ok(Some(()));
        }
        let left: Vec<String> = alive.iter().map(|process| process.pid.to_string()).collect();
        bail!("still running: {}", left.join(" "))
    })?;
    wait_for_reaping(&killed);
    Ok(killed.len())
}

/// Waits a while for init to take note of the dead, so that a list of processes shows none of them. They hold
/// nothing any more, so it is no error if init is slow.
fn wait_for_reaping(killed: &BTreeSet<i32>) {
    let _ = wait_for("init", Duration::from_millis(REAP_MS_MAX), 20, || {
        Ok(killed.iter().all(|pid| !process::is_unreaped_by_init(*pid)).then_some(()))
    });
}

/// Everything of the cluster that runs, but this process.
fn alive(cluster: &Cluster) -> Result<Vec<Process>> {
    let mut pids = BTreeSet::new();
    for dir in cgroup::existing(&cluster.name)?.iter().flat_map(|dir| names_in(dir)).collect::<BTreeSet<_>>()
    {
        if let Some(machine) = Machine::named(&dir) {
            pids.extend(cgroup::processes(&cluster.cgroup(machine))?);
        }
    }
    pids.extend(in_namespaces(cluster));
    pids.remove(&i32::try_from(std::process::id()).unwrap_or_default());
    let mut alive: Vec<Process> = pids.into_iter().filter_map(|pid| Process::now("", pid)).collect();
    if let Some(record) = cluster.record() {
        alive.extend(record.processes.into_iter().filter(Process::is_alive));
    }
    Ok(alive)
}

/// Processes whose network namespace is one of the cluster's named ones.
fn in_namespaces(cluster: &Cluster) -> Vec<i32> {
    let own: BTreeSet<(u64, u64)> = namespace::list(cluster)
        .iter()
        .filter_map(|(netns, _)| namespace::path(netns).metadata().ok())
        .map(|meta| (meta.dev(), meta.ino()))
        .collect();
    let host = fs::metadata("/proc/self/ns/net").map(|meta| (meta.dev(), meta.ino())).ok();
    if own.is_empty() {
        return Vec::new();
    }
    names_in(Path::new("/proc"))
        .into_iter()
        .filter_map(|name| name.parse::<i32>().ok())
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .map(|meta| (meta.dev(), meta.ino()))
                .is_ok_and(|net| Some(net) != host && own.contains(&net))
        })
        .collect()
}

/// Sockets of the cluster's shims, read before they are killed: from what they listen on, and from the address files
/// that lie beside their bundles.
fn shim_sockets(cluster: &Cluster) -> Result<BTreeSet<PathBuf>> {
    let mut sockets = BTreeSet::new();
    for process in alive(cluster)? {
        sockets.extend(listening_sockets(process.pid));
    }
    for dir in [Path::new("/run").join(&cluster.name), cluster.dir.clone()] {
        collect_addresses(&dir, 8, &mut sockets);
    }
    sockets.retain(|path| path.parent() == Some(Path::new(SHIM_SOCKETS)));
    Ok(sockets)
}

/// Paths of the Unix sockets that a process holds (proc(5), `net/unix`: the inode is field 7, the path field 8).
fn listening_sockets(pid: i32) -> Vec<PathBuf> {
    let inodes: BTreeSet<String> = names_in(Path::new(&format!("/proc/{pid}/fd")))
        .iter()
        .filter_map(|fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok())
        .filter_map(|target| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    if inodes.is_empty() {
        return Vec::new();
    }
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.len() == 8 && inodes.contains(fields[6])).then(|| PathBuf::from(fields[7]))
        })
        .collect()
}

/// Shims write where they listen into a file `address` in their bundle's directory.
fn collect_addresses(dir: &Path, depth_max: u8, sockets: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.filter_map(Result::ok) {
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name();
        if kind.is_dir() && depth_max > 0 && !matches!(name.to_str(), Some("rootfs" | "layers" | "merged")) {
            collect_addresses(&entry.path(), depth_max - 1, sockets);
        } else if kind.is_file() && name == "address" {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            sockets.extend(text.trim().strip_prefix("unix://").map(PathBuf::from));
        }
    }
}

/// Removes what killed shims and runc leave under /run/containerd, and those directories once they are empty.
fn remove_containers(cluster: &Cluster, sockets: &BTreeSet<PathBuf>) {
    for socket in sockets {
        let _ = fs::remove_file(socket);
    }
    let mark = format!("/{}/", cluster.name);
    for namespace in names_in(Path::new(RUNC_STATE)) {
        let namespace = Path::new(RUNC_STATE).join(namespace);
        for container in names_in(&namespace) {
            let container = namespace.join(container);
            let state = fs::read_to_string(container.join("state.json")).unwrap_or_default();
            if names_cgroup(&state, &mark) {
                let _ = fs::remove_dir_all(&container);
            }
        }
        let _ = fs::remove_dir(&namespace);
    }
    for dir in [SHIM_SOCKETS, RUNC_STATE, "/run/containerd"] {
        let _ = fs::remove_dir(dir);
    }
}

/// Whether a container's state (runc's `state.json`) puts it into a machine's cgroup of this cluster.
fn names_cgroup(state: &str, mark: &str) -> bool {
    let Ok(state) = serde_json::from_str::<serde_json::Value>(state) else { return false };
    let Some(paths) = state["cgroup_paths"].as_object() else { return false };
    paths.values().filter_map(|path| path.as_str()).any(|path| {
        path.split_once(mark)
            .is_some_and(|(_, rest)| Machine::named(rest.split('/').next().unwrap_or_default()).is_some())
    })
}

/// Undoes every mount on or below the directories, the last made first.
fn unmount_below(dirs: &[PathBuf]) -> Result<usize> {
    let mut undone = 0;
    let mounts = mounts_below(dirs)?;
    for mount in mounts.iter().rev() {
        if umount2(mount, MntFlags::MNT_DETACH).is_ok() {
            undone += 1;
        }
    }
    match mounts_below(dirs)?.first() {
        // What is still mounted may be someone's: removing the directories would reach into it.
        Some(mount) => bail!("{} is still mounted", mount.display()),
        None => Ok(undone),
    }
}

fn mounts_below(dirs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo cannot be read")?;
    Ok(mount_points(&text).filter(|point| dirs.iter().any(|dir| point.starts_with(dir))).collect())
}

/// Mount points in the order in which they were made; the kernel writes space, tab, newline and backslash in octal.
fn mount_points(mountinfo: &str) -> impl Iterator<Item = PathBuf> + '_ {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(|escaped| {
        let mut point = escaped.to_owned();
        for (octal, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
            point = point.replace(octal, plain);
        }
        PathBuf::from(point)
    })
}

/// Mounts bpffs if nobody has, once for all nodes: three agents at the same moment would mount three.
pub(crate) fn mount_bpffs() -> Result<()> {
    use nix::mount::{MsFlags, mount};
    use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
    if statfs(BPFFS).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC) {
        return Ok(());
    }
    fs::create_dir_all(BPFFS).with_context(|| format!("{BPFFS} cannot be made"))?;
    fs::write(BPFFS_MARK, "").with_context(|| format!("{BPFFS_MARK} cannot be written"))?;
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .with_context(|| format!("bpffs cannot be mounted on {BPFFS}"))
}

fn unmount_bpffs_if_ours() {
    if Path::new(BPFFS_MARK).exists() && is_bare_bpffs(&names_in(Path::new(BPFFS))) {
        let _ = umount2(BPFFS, MntFlags::empty());
        let _ = fs::remove_file(BPFFS_MARK);
    }
}

/// Whether nobody has pinned anything; the kernel itself may put two files there.
fn is_bare_bpffs(names: &[String]) -> bool {
    names.iter().all(|name| matches!(name.as_str(), "maps.debug" | "progs.debug"))
}

#[cfg(test)]
mod tests;
