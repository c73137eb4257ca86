//! Puts the agent together, runs it, and lets go of it without stopping anything.

use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, SetOnce, mpsc};
use weft_dataplane::{Dataplane, Xdp, desired};
use weft_link::message::Cluster;
use weft_link::receiver::{Change, Receiver};
use weft_runtime::{Logger, Runtime};

use crate::addresses::{self as own, kernel_has_v6};
use crate::agent::Agent;
use crate::cipher::{self, Cipher};
use crate::config::{Config, LoadBalancerMode, XdpMode};
use crate::flows::Flows;
use crate::identity::Directory;
use crate::keep::Keeper;
use crate::knowledge::{Knowledge, addresses};
use crate::link::{self, Link};
use crate::network::PodNetworks;
use crate::node_status::{MachineFacts, Moment, registration, status};
use crate::outbox::Outbox;
use crate::round::{Round, own_zone, take};
use crate::translate::{self, Local, NodeNames};
use crate::view::address_of;
use crate::{disk, join, machine, memory, observe, outward, socket};

/// Committed changes that wait for their round.
const CHANGES_MAX: usize = 16;
/// How long a changed view may stay off the disk.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// After how many writes of the view memory is given back that a full list took.
const QUIET_TICKS: u32 = 1;
/// How long the machine waits for its Pod ranges before it says so in its log, again and again.
const RANGES_WAIT: Duration = Duration::from_secs(10);

/// What must be known before anything can run.
struct Essentials {
    cluster: Cluster,
    ranges: Vec<IpNet>,
}

/// Runs the agent until SIGTERM or SIGINT.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    // Fails when one is installed already, which is as well.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    make_private(&config.data_dir)?;
    make_private(&config.run_dir)?;
    let mut stop = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be waited for")?;
    tokio::select! {
        ended = live(config) => ended,
        _ = stop.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn live(config: Config) -> anyhow::Result<()> {
    let directory = Directory::open(&config.data_dir)?;
    let identity = join::ensure(&config, &directory).await?;
    let facts = MachineFacts::read(&config.data_dir);
    let (knowledge, requests) = Knowledge::new(config.resolv_conf.clone());
    let knowledge = Arc::new(knowledge);
    let outbox = Arc::new(Outbox::default());
    let state = Arc::new(link::State::default());
    let file = config.data_dir.join("view");
    load_kept(&knowledge, &file);
    let found = node_addresses(&config, &knowledge).await?;

    let held: Vec<String> = knowledge.view().names().cloned().collect();
    let (sender, mut changes) = mpsc::channel(CHANGES_MAX);
    let slot = Arc::new(SetOnce::new());
    let link = Link {
        receiver: Receiver::new(directory.pinned()?, held),
        node_json: first_node(&config, &facts, &found),
        config: config.clone(),
        directory,
        identity,
        knowledge: knowledge.clone(),
        outbox: outbox.clone(),
        changes: sender,
        requests,
        agent: slot.clone(),
        state: state.clone(),
    };
    let link = tokio::spawn(link.run());

    let essentials = essentials(&config, &knowledge, &mut changes).await?;
    let node_addresses = match &config.node_ips[..] {
        [] => own::of_cluster(found, &networks(&essentials.cluster.pod_cidrs)),
        given => given.to_vec(),
    };
    let names = NodeNames::default();
    let mut settings = dataplane_settings(&config, &essentials, &node_addresses)?;
    let encryption_port = essentials.cluster.encryption_port;
    // Before the dataplane, which has the tunnel run through its device.
    let cipher = match u16::try_from(encryption_port) {
        Ok(port @ 1..) => Some(Cipher::start(&config.run_dir, &mut settings, port, &knowledge).await?),
        _ => None,
    };
    let known = known(&config, &knowledge, &names, cipher.is_some());
    let dataplane =
        Dataplane::start_knowing(settings, Some(known)).await.context("the dataplane does not start")?;
    let runtime = start_runtime(&config, &knowledge, &dataplane, &essentials, &node_addresses).await?;
    let flows = Arc::new(Flows::new(config.flows_max));
    let agent = Arc::new(Agent {
        config,
        knowledge,
        runtime,
        dataplane,
        cipher,
        flows,
        outbox,
        link: state,
        addresses: node_addresses.clone(),
        ranges: essentials.ranges,
        carried: Notify::new(),
        records: OnceLock::new(),
    });
    let listener = socket::bind(&agent.config.socket)
        .with_context(|| format!("the socket {} cannot be bound", agent.config.socket.display()))?;
    let _first = slot.set(agent.clone());
    let tasks = [
        tokio::spawn(socket::serve(agent.clone(), listener)),
        tokio::spawn(observe::runtime(agent.clone())),
        tokio::spawn(observe::flows(agent.clone())),
        tokio::spawn(observe::node(agent.clone(), facts, node_addresses.clone())),
        tokio::spawn(outward::run(agent.clone(), node_addresses)),
        tokio::spawn(encrypt(agent.clone())),
    ];
    let records = crate::dns::start(&agent)?;
    let _first = agent.records.set(records.clone());
    tracing::info!(node = agent.config.node_name, "the node runs");
    let keeper = Keeper::new(file, agent.knowledge.clone());
    let zone = own_zone(&agent.knowledge.view(), &agent.config.node_name);
    let round = Round::new(agent, records, names, zone);
    round.beside_rows();
    let ended = rounds(&round, keeper, &mut changes, encryption_port).await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    link.abort();
    match ended {
        Ended::Link => Err(anyhow!("the link has ended")),
        // As with any restart nothing stops; it is the same process, for whoever looks after it.
        Ended::Anew => Err(anyhow!(anew()).context("the agent cannot start itself anew")),
    }
}

/// Looks after who encrypts, where nodes do.
async fn encrypt(agent: Arc<Agent>) {
    if let Some(cipher) = &agent.cipher {
        cipher.run(&agent.knowledge).await;
    }
}

/// Carries changes as they come, and keeps the view on disk.
/// Ends when the cluster's nodes begin to encrypt, or no longer do, and that is on disk.
async fn rounds(
    round: &Round,
    mut keeper: Keeper,
    changes: &mut mpsc::Receiver<Change>,
    encryption_port: u32,
) -> Ended {
    let mut keep = tokio::time::interval(KEEP_EVERY);
    keep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The start was such a step, too.
    let mut quiet_ticks = Some(0);
    loop {
        tokio::select! {
            change = changes.recv() => {
                let Some(change) = change else { return Ended::Link };
                keeper.note(&change);
                if change.full {
                    quiet_ticks = Some(0);
                }
                round.change(change).await;
            }
            _ = keep.tick() => {
                keeper.write().await;
                let other = keeper.kept_cluster().is_some_and(|kept| kept.encryption_port != encryption_port);
                if other {
                    tracing::info!("the cluster's encryption was switched; the agent starts anew");
                    return Ended::Anew;
                }
                quiet_ticks = match quiet_ticks {
                    Some(QUIET_TICKS) => {
                        tokio::task::spawn_blocking(memory::give_back);
                        None
                    }
                    ticks => ticks.map(|count| count + 1),
                };
            }
        }
    }
}

/// Why there are no rounds any more.
enum Ended {
    Link,
    Anew,
}

/// Becomes the same program, with what it was told at its start.
fn anew() -> std::io::Error {
    let mut arguments = std::env::args_os();
    let given = arguments.next();
    match std::env::current_exe().or_else(|error| given.map(PathBuf::from).ok_or(error)) {
        Ok(program) => std::process::Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

fn make_private(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("{} cannot be made", path.display()))
}

fn load_kept(knowledge: &Knowledge, file: &Path) {
    match disk::read(file) {
        Ok(Some(kept)) => {
            knowledge.set_cluster(kept.cluster);
            *knowledge.view_mut() = kept.view;
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(error = crate::api::answer::chain(&error), "the kept view is passed over");
        }
    }
}

/// The addresses that are given, or the one that packets to the control plane leave with and one of the other family. A node whose control plane cannot
/// be found at the moment keeps what it had.
async fn node_addresses(config: &Config, knowledge: &Knowledge) -> anyhow::Result<Vec<IpAddr>> {
    if !config.node_ips.is_empty() {
        return Ok(config.node_ips.clone());
    }
    match uplink_address(config).await {
        Ok(ip) => Ok(std::iter::once(ip).chain(own::beside(ip)).collect()),
        Err(error) => {
            let view = knowledge.view();
            let kept = view.peer(&config.node_name).map(|peer| peer.addresses.iter().filter_map(address_of));
            let kept: Vec<IpAddr> = kept.into_iter().flatten().collect();
            if kept.is_empty() {
                return Err(error);
            }
            tracing::warn!("this node goes on with the addresses it had: {error:#}");
            Ok(kept)
        }
    }
}

async fn uplink_address(config: &Config) -> anyhow::Result<IpAddr> {
    let control = join::resolve(&config.control).await?;
    let any: IpAddr = if control.is_ipv6() { [0u16; 8].into() } else { [0; 4].into() };
    let socket = tokio::net::UdpSocket::bind((any, 0)).await.context("no UDP socket")?;
    // Connecting a UDP socket sends nothing; it makes the kernel choose the source address.
    socket.connect(control).await.with_context(|| format!("there is no route to {control}"))?;
    Ok(socket.local_addr().context("no source address")?.ip())
}

fn first_node(config: &Config, facts: &MachineFacts, node_addresses: &[IpAddr]) -> Bytes {
    let now = observe::now();
    let moment = Moment {
        node: &config.node_name,
        addresses: node_addresses,
        pods_max: config.pods_max,
        not_ready: "the agent is starting",
        now: &now,
        changed: &now,
        images: &[],
    };
    Bytes::from(registration(&config.node_name, &config.labels, &status(facts, &moment)).to_string())
}

/// Waits for what must be known: from the kept view, or from the control plane.
async fn essentials(
    config: &Config,
    knowledge: &Knowledge,
    changes: &mut mpsc::Receiver<Change>,
) -> anyhow::Result<Essentials> {
    loop {
        let given = own_ranges(config, knowledge);
        if !given.is_empty() {
            let ranges = spoken(given.clone());
            anyhow::ensure!(
                !ranges.is_empty(),
                "the cluster's Pods have IPv6 addresses only, and IPv6 is switched off in this kernel"
            );
            if ranges != given {
                tracing::warn!(
                    "IPv6 is switched off in this kernel: this node's Pods have IPv4 addresses only"
                );
            }
            return Ok(Essentials { cluster: Cluster::clone(&knowledge.cluster()), ranges });
        }
        match tokio::time::timeout(RANGES_WAIT, changes.recv()).await {
            Ok(Some(change)) => {
                let full = change.full;
                take(knowledge, change);
                if full {
                    knowledge.set_complete();
                }
            }
            Ok(None) => return Err(anyhow!("the link has ended")),
            Err(_) => tracing::warn!("waiting for this node's Pod ranges from the control plane"),
        }
    }
}

/// The Pod ranges that the control plane has given this node.
pub(crate) fn own_ranges(config: &Config, knowledge: &Knowledge) -> Vec<IpNet> {
    let view = knowledge.view();
    view.peer(&config.node_name).map(|peer| networks(&peer.pod_cidrs)).unwrap_or_default()
}

/// What the view says to the kernel's tables, before anything else is there to be told.
fn known(config: &Config, knowledge: &Knowledge, names: &NodeNames, encrypted: bool) -> desired::Desired {
    let answered_here = addresses(&knowledge.cluster().dns_ips);
    let zone = own_zone(&knowledge.view(), &config.node_name);
    let local =
        Local { node: &config.node_name, encrypted, zone: &zone, answered_here: &answered_here, names };
    translate::whole(knowledge.view().resources(), &local)
}

fn networks(texts: &[String]) -> Vec<IpNet> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Those of the families that this kernel speaks.
fn spoken(mut ranges: Vec<IpNet>) -> Vec<IpNet> {
    ranges.retain(|range| range.addr().is_ipv4() || kernel_has_v6());
    ranges
}

fn dataplane_settings(
    config: &Config,
    essentials: &Essentials,
    node_addresses: &[IpAddr],
) -> anyhow::Result<weft_dataplane::Config> {
    let node = desired::Node {
        name: config.node_name.clone(),
        addresses: node_addresses.to_vec(),
        pod_cidrs: essentials.ranges.clone(),
        end: desired::TunnelEnd::default(),
    };
    let cluster = &essentials.cluster;
    let mut settings = weft_dataplane::Config::new(node, config.ebpf_object.clone());
    settings.cluster_cidrs = spoken(networks(&cluster.pod_cidrs));
    settings.service_cidrs = spoken(networks(&cluster.service_cidrs));
    settings.answered_here = addresses(&cluster.dns_ips);
    settings.answered_here.retain(|ip| ip.is_ipv4() || kernel_has_v6());
    settings.bpffs_dir = config.bpffs.clone();
    settings.state_dir = config.run_dir.join("dataplane");
    settings.cgroup_path =
        machine::cgroup_root(&config.cgroup_root).context("no cgroup for the socket hooks")?;
    settings.uplink = config.uplink.clone();
    settings.packet_hooks = config.packet_hooks;
    settings.routing_mode = config.routing_mode;
    if let Ok(port @ 1..) = u16::try_from(cluster.vxlan_port) {
        settings.vxlan_port = port;
    }
    if let (Ok(first @ 1..), Ok(last)) =
        (u16::try_from(cluster.node_port_first), u16::try_from(cluster.node_port_last))
    {
        settings.node_ports = (first, last);
    }
    settings.socket_lb = config.socket_lb;
    settings.tunnel_by_device = config.tunnel_by_device;
    settings.direct_return = config.load_balancer_mode == LoadBalancerMode::Dsr;
    settings.xdp = match config.xdp {
        XdpMode::Off => Xdp::Off,
        XdpMode::Auto => Xdp::Auto,
        XdpMode::On => Xdp::On,
    };
    settings.encrypted = cluster.encryption_port != 0;
    if settings.encrypted {
        settings.encryption_bytes = cipher::headers_bytes(node_addresses);
    }
    Ok(settings)
}

async fn start_runtime(
    config: &Config,
    knowledge: &Arc<Knowledge>,
    dataplane: &Dataplane,
    essentials: &Essentials,
    node_addresses: &[IpAddr],
) -> anyhow::Result<Runtime> {
    let mut settings = runtime_places(
        &config.node_name,
        &config.data_dir,
        &config.run_dir,
        &config.cgroup_root,
        logger().context("this program has no path")?,
    );
    settings.host_ips = node_addresses.to_vec();
    settings.shim = config.shim.clone();
    settings.oci_runtime = config.oci_runtime.clone();
    settings.insecure_registries = config.insecure_registries.clone();
    settings.pods_max = config.pods_max as usize;
    settings.image_collection.high_percent = config.image_gc_percent.1;
    settings.image_collection.low_percent = config.image_gc_percent.0;
    let leases: PathBuf = config.data_dir.join("addresses.json");
    let network = PodNetworks::open(
        dataplane.clone(),
        essentials.ranges.clone(),
        node_addresses.to_vec(),
        leases.clone(),
    )
    .with_context(|| format!("{} cannot be read", leases.display()))?;
    Runtime::start(settings, Arc::new(network), knowledge.clone()).await.context("the runtime does not start")
}

/// This program, as the writer of containers' logs.
pub(crate) fn logger() -> std::io::Result<Logger> {
    Ok(Logger { binary: std::env::current_exe()?, argument: "log-writer".into() })
}

/// The cgroup of all Pods, below each hierarchy's root.
pub(crate) fn pods_cgroup(cgroup_root: &Path) -> PathBuf {
    Path::new("/").join(cgroup_root).join("weft-pods")
}

/// The runtime's settings as far as they say where everything lies.
pub(crate) fn runtime_places(
    node_name: &str,
    data_dir: &Path,
    run_dir: &Path,
    cgroup_root: &Path,
    logger: Logger,
) -> weft_runtime::Config {
    let (data, run) = (data_dir.join("runtime"), run_dir.join("runtime"));
    let mut settings = weft_runtime::Config::new(node_name, data, run, logger);
    settings.cgroup_parent = pods_cgroup(cgroup_root);
    settings.namespace = shim_namespace(run_dir);
    settings
}

/// A name for the shims' sockets that no other agent of this machine has: its run directory, in a name's letters.
fn shim_namespace(run_dir: &Path) -> String {
    let text: String =
        run_dir.to_string_lossy().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    text.trim_matches('-').chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect()
}
