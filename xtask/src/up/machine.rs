//! What a cluster on this machine is called and where its parts lie: names only, nothing is touched here.
//!
//! Every name begins with the cluster's, so that two clusters live side by side and leftovers are found without a record.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::up::process::Process;
use crate::workspace::Workspace;

/// The cluster's name when none is given.
pub(crate) const DEFAULT_NAME: &str = "weft";
/// Most nodes of one cluster: the underlay is a /24.
pub(crate) const NODES_MAX: u8 = 150;
const NAME_BYTES_MAX: usize = 24;
const FIRST_NODE_HOST: u8 = 11;

/// One simulated machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Machine {
    /// The network between the machines, with its gateway address.
    Underlay,
    /// Where `weft-control` runs.
    Control,
    /// The outside client.
    Client,
    /// A node, counted from 1.
    Node(u8),
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Underlay => f.write_str("underlay"),
            Self::Control => f.write_str("control"),
            Self::Client => f.write_str("client"),
            Self::Node(number) => write!(f, "node-{number}"),
        }
    }
}

impl Machine {
    /// The machine that goes by `name` in commands and on disk.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "underlay" => Some(Self::Underlay),
            "control" => Some(Self::Control),
            "client" => Some(Self::Client),
            _ => {
                let digits = name.strip_prefix("node-")?;
                let number = digits.parse().ok().filter(|number| (1..=NODES_MAX).contains(number))?;
                (digits == number.to_string()).then_some(Self::Node(number))
            }
        }
    }
}

/// A cluster's names.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// What everything of it begins with.
    pub(crate) name: String,
    /// State on disk: `.weft` for the default name, else `.weft-<name>`.
    pub(crate) dir: PathBuf,
}

impl Cluster {
    /// Checks the name: it becomes part of paths, namespaces and cgroups.
    pub(crate) fn new(workspace: &Workspace, name: &str) -> Result<Self> {
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && !name.ends_with('-');
        if !fits {
            bail!(
                "{name:?} is no name for a cluster: at most {NAME_BYTES_MAX} of a-z, 0-9 and -, a letter first"
            );
        }
        let dir = if name == DEFAULT_NAME { ".weft".to_owned() } else { format!(".weft-{name}") };
        Ok(Self { name: name.to_owned(), dir: workspace.root.join(dir) })
    }

    /// Name of a machine's network namespace.
    pub(crate) fn netns(&self, machine: Machine) -> String {
        format!("{}-{machine}", self.name)
    }

    /// The machine whose network namespace goes by `netns`, if it is this cluster's.
    pub(crate) fn machine_of_netns(&self, netns: &str) -> Option<Machine> {
        Machine::named(netns.strip_prefix(&self.name)?.strip_prefix('-')?)
    }

    /// A machine's cgroup below each hierarchy's root.
    pub(crate) fn cgroup(&self, machine: Machine) -> String {
        format!("{}/{machine}", self.name)
    }

    /// Sockets and namespaces of a machine's daemon.
    pub(crate) fn run_dir(&self, machine: Machine) -> PathBuf {
        Path::new("/run").join(&self.name).join(machine.to_string())
    }

    /// Pins of a node's maps and programs.
    pub(crate) fn bpffs(&self, machine: Machine) -> PathBuf {
        Path::new("/sys/fs/bpf").join(self.netns(machine))
    }

    /// What a machine's daemon keeps.
    pub(crate) fn data_dir(&self, machine: Machine) -> PathBuf {
        self.dir.join("data").join(machine.to_string())
    }

    /// Log of a machine's daemon.
    pub(crate) fn log(&self, machine: Machine) -> PathBuf {
        self.dir.join("log").join(format!("{machine}.log"))
    }

    /// agentctl's socket on a node.
    pub(crate) fn socket(&self, machine: Machine) -> PathBuf {
        self.run_dir(machine).join("agent.sock")
    }

    /// The admin's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// The flag that names this cluster in a command line, with a space before it; empty for the default.
    pub(crate) fn flag(&self) -> String {
        if self.name == DEFAULT_NAME { String::new() } else { format!(" --name {}", self.name) }
    }

    fn record_path(&self) -> PathBuf {
        self.dir.join("cluster.json")
    }

    /// What `up` wrote down; nothing if there is no record or it cannot be read.
    pub(crate) fn record(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.record_path()).ok()?).ok()
    }

    /// The machine of that name, which must be one with a daemon, and the record of the cluster, which must be up.
    pub(crate) fn daemon_of(&self, name: &str) -> Result<(Machine, Record)> {
        let Some(record) = self.record() else {
            bail!("there is no cluster {}: `cargo xtask up{}` starts it", self.name, self.flag());
        };
        match Machine::named(name).filter(|machine| record.commands.contains_key(&machine.to_string())) {
            Some(machine) => Ok((machine, record)),
            None => {
                let daemons: Vec<&str> = record.commands.keys().map(String::as_str).collect();
                bail!("there is no daemon on {name:?}: say {}", daemons.join(" or "))
            }
        }
    }

    /// Writes the record in one step.
    pub(crate) fn write_record(&self, record: &Record) -> Result<()> {
        let path = self.record_path();
        let fresh = path.with_extension("new");
        fs::write(&fresh, serde_json::to_vec_pretty(record)?)
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// What `up` writes down for `down`, `exec` and the tests.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The cluster's name.
    pub(crate) name: String,
    /// How many nodes it has.
    pub(crate) nodes: u8,
    /// Families of Pods, Services and machines, the first the one Services have by default.
    #[serde(default = "only_v4")]
    pub(crate) families: Vec<Family>,
    /// Third byte of the underlay's addresses, 10.89.x.0/24, and third word of the IPv6 ones, fd00:89:x::/64.
    pub(crate) subnet: u8,
    /// TCP port of the API on 127.0.0.1.
    pub(crate) api_port: u16,
    /// Directory of the programs that run.
    pub(crate) bin_dir: PathBuf,
    /// The static `weft-demo`, for the outside client.
    pub(crate) demo: PathBuf,
    /// The daemons, with what tells them from a later process of the same number.
    pub(crate) processes: Vec<Process>,
    /// The daemons' command lines by machine, to start them again.
    #[serde(default)]
    pub(crate) commands: BTreeMap<String, Vec<String>>,
}

impl Record {
    /// Writes down a daemon that was started.
    pub(crate) fn note(&mut self, machine: Machine, command: &Command, process: Process) {
        let line = std::iter::once(command.get_program()).chain(command.get_args());
        self.commands
            .insert(machine.to_string(), line.map(|word| word.to_string_lossy().into_owned()).collect());
        self.processes.push(process);
    }

    /// All machines that have an uplink.
    pub(crate) fn machines(&self) -> Vec<Machine> {
        let mut machines = vec![Machine::Control, Machine::Client];
        machines.extend(self.node_machines());
        machines
    }

    /// The nodes.
    pub(crate) fn node_machines(&self) -> Vec<Machine> {
        (1..=self.nodes).map(Machine::Node).collect()
    }

    /// A machine's IPv4 address on the underlay; every machine has one.
    pub(crate) fn address(&self, machine: Machine) -> Ipv4Addr {
        Ipv4Addr::new(10, 89, self.subnet, host(machine))
    }

    /// A machine's addresses on the underlay, in the order of the families.
    pub(crate) fn addresses(&self, machine: Machine) -> Vec<IpAddr> {
        let of = |family: &Family| match family {
            Family::Ipv4 => self.address(machine).into(),
            Family::Ipv6 => {
                Ipv6Addr::new(0xfd00, 0x89, self.subnet.into(), 0, 0, 0, 0, host(machine).into()).into()
            }
        };
        self.families.iter().map(of).collect()
    }

    /// The underlay's range of a family.
    pub(crate) fn network(&self, family: Family) -> String {
        match family {
            Family::Ipv4 => format!("10.89.{}.0/24", self.subnet),
            Family::Ipv6 => format!("fd00:89:{:x}::/64", self.subnet),
        }
    }
}

fn host(machine: Machine) -> u8 {
    match machine {
        Machine::Underlay => 1,
        Machine::Control => 2,
        Machine::Client => 3,
        Machine::Node(number) => FIRST_NODE_HOST + (number - 1),
    }
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub(crate) enum Family {
    /// 32 bits.
    #[value(name = "IPv4")]
    Ipv4,
    /// 128 bits.
    #[value(name = "IPv6")]
    Ipv6,
}

impl Family {
    /// Length of the underlay's prefix, bits.
    pub(crate) fn underlay_bits(self) -> u8 {
        match self {
            Self::Ipv4 => 24,
            Self::Ipv6 => 64,
        }
    }

    /// The range of the cluster's Services.
    pub(crate) fn services(self) -> &'static str {
        match self {
            Self::Ipv4 => "10.96.0.0/16",
            Self::Ipv6 => "fd00:96::/112",
        }
    }

    /// The range of the cluster's Pods.
    pub(crate) fn pods(self) -> &'static str {
        match self {
            Self::Ipv4 => "10.244.0.0/16",
            Self::Ipv6 => "fd00:244::/48",
        }
    }
}

/// What the records of clusters from before there were families mean.
fn only_v4() -> Vec<Family> {
    vec![Family::Ipv4]
}

/// An underlay that no cluster beside this one has: 0 for the default name, else by the name. Two alike would not disturb each
/// other, since each underlay is a namespace of its own; different ones are easier on the reader of a trace.
pub(crate) fn choose_subnet(name: &str, taken: &BTreeSet<u8>) -> u8 {
    let hash = name.bytes().fold(7u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    let wish = if name == DEFAULT_NAME { 0 } else { hash };
    (0..=u8::MAX).map(|step| wish.wrapping_add(step)).find(|subnet| !taken.contains(subnet)).unwrap_or(wish)
}

/// Subnets of the clusters whose state lies beside this one's.
pub(crate) fn subnets_beside(workspace: &Workspace, but: &Cluster) -> BTreeSet<u8> {
    let Ok(entries) = fs::read_dir(&workspace.root) else { return BTreeSet::new() };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|dir| {
            *dir != but.dir && dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".weft"))
        })
        .filter_map(|dir| serde_json::from_slice::<Record>(&fs::read(dir.join("cluster.json")).ok()?).ok())
        .map(|record| record.subnet)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> Workspace {
        Workspace { root: "/w".into(), target: "/w/target".into(), version: "0".into() }
    }

    #[test]
    fn machines_have_names_and_names_machines() {
        for machine in
            [Machine::Underlay, Machine::Control, Machine::Client, Machine::Node(1), Machine::Node(150)]
        {
            assert_eq!(Machine::named(&machine.to_string()), Some(machine));
        }
        for name in ["node-0", "node-01", "node-151", "node-", "node-1 ", "Client", ""] {
            assert_eq!(Machine::named(name), None, "{name}");
        }
    }

    #[test]
    fn only_own_namespaces_are_recognized() {
        let cluster = Cluster::new(&workspace(), "weft").unwrap();
        assert_eq!(cluster.machine_of_netns("weft-node-2"), Some(Machine::Node(2)));
        assert_eq!(cluster.machine_of_netns("weft-client"), Some(Machine::Client));
        for foreign in ["weft", "weft-a-node-1", "weftnode-1", "other-node-1", "weft-node-x", "cni-1234"] {
            assert_eq!(cluster.machine_of_netns(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn unfit_names_are_refused() {
        for name in ["", "Weft", "a b", "-a", "a-", "1a", "../x", "a.b", "abcdefghijklmnopqrstuvwxyz"] {
            assert!(Cluster::new(&workspace(), name).is_err(), "{name}");
        }
        assert_eq!(Cluster::new(&workspace(), "weft").unwrap().dir, Path::new("/w/.weft"));
        assert_eq!(Cluster::new(&workspace(), "blue").unwrap().dir, Path::new("/w/.weft-blue"));
    }

    #[test]
    fn addresses_differ() {
        let record = Record { nodes: NODES_MAX, subnet: 4, ..Record::default() };
        let mut machines = record.machines();
        machines.push(Machine::Underlay);
        let addresses: BTreeSet<_> = machines.iter().map(|machine| record.address(*machine)).collect();
        assert_eq!(addresses.len(), machines.len());
        assert_eq!(record.address(Machine::Node(1)), Ipv4Addr::new(10, 89, 4, 11));
        let both = Record { families: vec![Family::Ipv6, Family::Ipv4], ..record };
        let text: Vec<String> = both.addresses(Machine::Node(1)).iter().map(ToString::to_string).collect();
        assert_eq!(text, ["fd00:89:4::b", "10.89.4.11"]);
        assert_eq!(both.network(Family::Ipv6), "fd00:89:4::/64");
    }

    #[test]
    fn two_clusters_get_different_subnets() {
        let first = choose_subnet("weft", &BTreeSet::new());
        assert_eq!(choose_subnet("weft", &BTreeSet::new()), first);
        assert_ne!(choose_subnet("weft", &BTreeSet::from([first])), first);
    }
}
