//! What a runtime must be told before it starts. It knows no flags and no files: the daemon fills this in.

use std::net::IpAddr;
use std::path::PathBuf;

/// The settings of one runtime; two runtimes on one machine share no directory, namespace or cgroup.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the node, for `spec.nodeName` and events.
    pub node_name: String,
    /// The node's addresses, the first of each family counts; become `status.hostIPs`.
    pub host_ips: Vec<IpAddr>,
    /// Survives a reboot: images, writable layers, volumes, logs, records of Pods. Made with mode 0700.
    pub data_dir: PathBuf,
    /// Does not need to survive a reboot: pinned namespaces, bundles, FIFOs, tmpfs volumes. Made with mode 0700.
    pub run_dir: PathBuf,
    /// containerd namespace of the shims, unique per node on this machine: `[A-Za-z0-9_-]`, 1 to 63 characters.
    pub namespace: String,
    /// Path below each cgroup hierarchy that Pods live under, for example `/weft/node-1`. Must not be `/`. On hosts with
    /// cgroup v2 only, no process may sit in it directly (see [`crate::cgroup::enter`]).
    pub cgroup_parent: PathBuf,
    /// `containerd-shim-runc-v2`; a name is looked up in `PATH`.
    pub shim: PathBuf,
    /// The OCI runtime, `runc`; a name is looked up in `PATH`.
    pub oci_runtime: PathBuf,
    /// Who writes containers' logs.
    pub logger: Logger,
    /// Registries (`host:port`) that are spoken to in plain HTTP, beside those on loopback addresses.
    pub insecure_registries: Vec<String>,
    /// Most Pods at a time; one more is refused with an event.
    pub pods_max: usize,
    /// Image pulls at a time.
    pub pulls_max: usize,
    /// Largest image archive or layer that is taken, in bytes, unpacked.
    pub image_bytes_max: u64,
    /// When images go that nobody uses.
    pub image_collection: ImageCollection,
    /// How often it is measured what containers and the node use, milliseconds.
    pub usage_every_ms: u32,
}

/// When images are removed to free disk space; the defaults are the kubelet's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageCollection {
    /// Disk use above which images go, percent.
    pub high_percent: u8,
    /// Disk use at which that ends, percent.
    pub low_percent: u8,
    /// How long an image must have been unused, seconds.
    pub age_min_s: u32,
    /// How often the disk is looked at, seconds.
    pub every_s: u32,
}

impl Default for ImageCollection {
    fn default() -> Self {
        Self { high_percent: 85, low_percent: 80, age_min_s: 120, every_s: 300 }
    }
}

/// A program that a shim starts for each container as `BINARY ARGUMENT LOG_FILE`, and that then calls
/// [`crate::log_writer_main`] with what follows `ARGUMENT`. It outlives the agent.
#[derive(Clone, Debug)]
pub struct Logger {
    /// Absolute path.
    pub binary: PathBuf,
    /// One argument, for example `log-writer`.
    pub argument: String,
}

impl Config {
    /// Settings with every bound at its default; directories and names are the caller's.
    #[must_use]
    pub fn new(node_name: &str, data_dir: PathBuf, run_dir: PathBuf, logger: Logger) -> Self {
        Self {
            node_name: node_name.to_owned(),
            host_ips: Vec::new(),
            data_dir,
            run_dir,
            namespace: format!("weft-{node_name}").replace('.', "-"),
            cgroup_parent: PathBuf::from("/weft").join(node_name),
            shim: PathBuf::from("containerd-shim-runc-v2"),
            oci_runtime: PathBuf::from("runc"),
            logger,
            insecure_registries: Vec::new(),
            pods_max: 250,
            pulls_max: 4,
            image_bytes_max: 32 << 30,
            image_collection: ImageCollection::default(),
            usage_every_ms: 10_000,
        }
    }
}
