//! Network namespaces by name, as `ip netns` knows them, and the links between them.
//!
//! A process joins one by `setns(CLONE_NEWNET)` alone: `ip netns exec` would hide bpffs and cgroups under a new `/sys`.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::command::output_with_input;
use crate::up::machine::{Cluster, Machine, Record};
use crate::workspace::which;

/// Where named network namespaces are bound.
pub(crate) const NETNS_DIR: &str = "/run/netns";
const BRIDGE: &str = "br0";
/// Name of every machine's device towards the underlay.
pub(crate) const UPLINK: &str = "uplink0";

/// The file a network namespace is bound to.
pub(crate) fn path(netns: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(netns)
}

/// Makes a network namespace and binds it to its name.
pub(crate) fn create(netns: &str) -> Result<()> {
    fs::create_dir_all(NETNS_DIR).with_context(|| format!("{NETNS_DIR} cannot be made"))?;
    let path = path(netns);
    File::create_new(&path).with_context(|| format!("{} cannot be made", path.display()))?;
    // A thread leaves its namespace for a new one, binds that, and ends: the process stays where it was.
    let bind = thread::spawn({
        let path = path.clone();
        move || {
            unshare(CloneFlags::CLONE_NEWNET).context("no new network namespace (are you root?)")?;
            mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("{} cannot be bound", path.display()))
        }
    });
    let done = bind.join().unwrap_or_else(|_| Err(anyhow!("the thread that makes {netns} is lost")));
    if done.is_err() {
        let _ = fs::remove_file(&path);
    }
    done
}

/// Takes the name away; the namespace ends with its last process.
pub(crate) fn remove(netns: &str) -> Result<()> {
    let path = path(netns);
    while umount2(&path, MntFlags::MNT_DETACH).is_ok() {}
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// Names of this cluster's namespaces that are there.
pub(crate) fn list(cluster: &Cluster) -> Vec<(String, Machine)> {
    let Ok(entries) = fs::read_dir(NETNS_DIR) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| cluster.machine_of_netns(&name).map(|machine| (name, machine)))
        .collect();
    found.sort();
    found
}

/// Opens a named namespace.
pub(crate) fn open(netns: &str) -> Result<File> {
    let path = path(netns);
    File::open(&path).with_context(|| format!("there is no namespace {netns}: is the cluster up?"))
}

/// Moves the calling thread into a namespace.
pub(crate) fn enter(netns: &str) -> Result<()> {
    setns(open(netns)?, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("namespace {netns} cannot be entered"))
}

/// Makes the underlay and a machine for each name in the record, each with `uplink0` and a default route.
pub(crate) fn build(cluster: &Cluster, record: &Record) -> Result<()> {
    let underlay = cluster.netns(Machine::Underlay);
    create(&underlay)?;
    for machine in record.machines() {
        create(&cluster.netns(machine))?;
    }
    ip(&underlay, &underlay_commands(cluster, record))?;
    for machine in record.machines() {
        ip(&cluster.netns(machine), &machine_commands(record, machine))?;
    }
    Ok(())
}

/// A bridge with the gateway's address, and a cable to each machine.
fn underlay_commands(cluster: &Cluster, record: &Record) -> String {
    let mut commands = format!("link set lo up\nlink add {BRIDGE} type bridge\n");
    commands += &addresses(record, Machine::Underlay, BRIDGE);
    commands += &format!("link set {BRIDGE} up\n");
    for machine in record.machines() {
        let netns = cluster.netns(machine);
        commands += &format!(
            "link add {machine} type veth peer name {UPLINK} netns {netns}\nlink set {machine} master {BRIDGE} up\n"
        );
    }
    commands
}

fn machine_commands(record: &Record, machine: Machine) -> String {
    let mut commands = "link set lo up\n".to_owned();
    commands += &addresses(record, machine, UPLINK);
    commands += &format!("link set {UPLINK} up\n");
    for gateway in record.addresses(Machine::Underlay) {
        commands += &format!("route add default via {gateway}\n");
    }
    commands
}

/// Gives a device a machine's addresses. Nobody else has them: IPv6 ones can be used at once.
fn addresses(record: &Record, machine: Machine, device: &str) -> String {
    let all = record.families.iter().zip(record.addresses(machine));
    all.map(|(family, address)| {
        let bits = family.underlay_bits();
        let at_once = if address.is_ipv6() { " nodad" } else { "" };
        format!("addr add {address}/{bits} dev {device}{at_once}\n")
    })
    .collect()
}

/// Runs `ip` commands, one a line, in a namespace.
fn ip(netns: &str, commands: &str) -> Result<()> {
    let ip = which("ip").context("there is no ip: apt-get install iproute2")?;
    output_with_input(Command::new(ip).args(["-netns", netns, "-batch", "-"]), commands)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::output;
    use crate::up::machine::Family;
    use crate::workspace::Workspace;

    /// A cluster of namespaces only, gone at the end of the test however it ends.
    struct Scratch(Cluster);

    impl Scratch {
        fn new(what: &str) -> Self {
            let workspace =
                Workspace { root: std::env::temp_dir(), target: "/t".into(), version: "0".into() };
            Self(Cluster::new(&workspace, &format!("x{what}{}", std::process::id())).unwrap())
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            for (netns, _) in list(&self.0) {
                let _ = remove(&netns);
            }
        }
    }

    #[test]
    fn machines_reach_each_other_over_the_underlay() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not root: skipped");
            return;
        }
        let scratch = Scratch::new("ns");
        let record =
            Record { nodes: 2, subnet: 250, families: vec![Family::Ipv4, Family::Ipv6], ..Record::default() };
        build(&scratch.0, &record).unwrap();
        assert_eq!(list(&scratch.0).len(), 5);
        let names = list(&scratch.0);
        let from = scratch.0.netns(Machine::Client);
        let to = record.addresses(Machine::Node(2));
        assert_eq!(to.len(), 2);
        thread::spawn(move || {
            enter(&from).unwrap();
            for to in to {
                output(Command::new("busybox").args(["ping", "-c", "1", "-W", "5", &to.to_string()]))
                    .unwrap();
            }
        })
        .join()
        .unwrap();
        for (netns, _) in names {
            remove(&netns).unwrap();
            remove(&netns).unwrap();
        }
        assert!(list(&scratch.0).is_empty());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&scratch.0.name), "{mounts}");
    }
}
