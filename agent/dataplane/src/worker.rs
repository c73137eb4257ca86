//! The thread that owns everything in the kernel: it starts, takes commands one after the other, and leaves all behind pinned.

mod first;
mod linked;
mod peers;
mod probing;
mod uplink;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use aya::Ebpf;
use tokio::sync::{mpsc, oneshot};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::{
    BALANCE_PACKET, BALANCE_SOCKET, Config as ConfigRow, DIRECT_RETURN, ENCRYPTED, FLOW_EVENTS, OUTWARD_HERE,
    TUNNEL_BY_DEVICE,
};
use weft_dataplane_abi::hook::Hook;

use crate::attach::{self, Attached, Place};
use crate::config::{Capacities, Config};
use crate::dataplane::{Applied, ApplyError, StartError, Status};
use crate::departed::{Departed, departed};
use crate::desired::{Change, Desired};
use crate::diff::Write;
use crate::dry::{self, DryError, Packet};
use crate::inspect::{self, Fill, FlowEntry, ServiceEntry};
use crate::links::{self, NodeLinks};
use crate::load;
use crate::migrate::Before;
use crate::netlink::Netlink;
use crate::netns;
use crate::pin::{Found, Pins};
use crate::plan::{Holder, PlanError, Planner};
use crate::pods::{ALIAS, PodError, PodFiles, PodLink, PodNetwork};
use crate::probe::{Abilities, probe};
use crate::rows::{self, Rows};
use crate::sockets::{self, Gone, Undertaker};
use crate::sys::{self, LinkTarget};
use crate::tables::{TableError, Tables};
use crate::xdp::{self, XdpStatus};
use peers::Routes;

/// Refused changes remembered for the status.
const REFUSED_MAX: usize = 64;

/// What the thread is asked.
pub(crate) enum Command {
    Apply(Vec<Change>, oneshot::Sender<Result<Applied, ApplyError>>),
    AddPod(Box<PodNetwork>, oneshot::Sender<Result<PodLink, PodError>>),
    RemovePod(String, oneshot::Sender<Result<(), PodError>>),
    Pods(oneshot::Sender<Vec<PodLink>>),
    Services(oneshot::Sender<Vec<ServiceEntry>>),
    Counters(oneshot::Sender<Result<BTreeMap<String, u64>, TableError>>),
    Flows(usize, oneshot::Sender<Result<Vec<FlowEntry>, TableError>>),
    Status(oneshot::Sender<Status>),
    Probe((String, String), Packet, oneshot::Sender<Result<dry::Answer, DryError>>),
    SocketLb(bool, oneshot::Sender<Result<(), TableError>>),
}

/// All the thread holds.
pub(crate) struct Worker {
    config: Config,
    abilities: Abilities,
    pins: Pins,
    found: Found,
    ebpf: Ebpf,
    netlink: Netlink,
    links: NodeLinks,
    tables: Tables,
    undertaker: Undertaker,
    capacities: Capacities,
    planner: Planner,
    /// The row of settings as it was written last; none before that.
    row: Option<ConfigRow>,
    /// Raised after every write that turns ways: flows find theirs again.
    epoch: u32,
    desired: Desired,
    /// A complete view has come: what is not in `desired` is to be gone.
    complete: bool,
    files: PodFiles,
    pods: BTreeMap<String, PodLink>,
    hooks: BTreeMap<String, Attached>,
    xdp: XdpStatus,
    refused: Vec<String>,
    /// How long the start took, milliseconds.
    start_ms: u64,
    /// A write failed: the planner's picture of the kernel is not to be trusted.
    stale: bool,
    /// A dry run is under way.
    probing: Arc<AtomicBool>,
    /// Routes to other nodes could not all be put: they are put again.
    routes_owed: bool,
    /// A device could not be given its MTU: it is given again.
    mtu_owed: bool,
}

impl Worker {
    /// Brings everything up, adopting what is there. What is known of the cluster already is in the tables when this returns.
    pub(crate) async fn start(config: Config, known: Option<Desired>) -> Result<Self, StartError> {
        let began = Instant::now();
        config.check()?;
        let abilities = probe(config.packet_hooks)?;
        let netlink = Netlink::open().map_err(links::LinkError::from)?;
        let uplink = links::uplink(&netlink, &config).await?;
        let reach = links::reach(&netlink, &config, &uplink).await?;
        let (pins, before) = Pins::prepare(&config.bpffs_dir)?;
        let found = pins.sift(&config.capacities)?;
        // Reading costs a system call a row; tables just made have none.
        let fresh = found.adopted.is_empty() && before.is_none();
        // What an upgrade brings over has to be there before the rows are read.
        let fill = || first::fill(&config, &pins, fresh, known.as_ref(), &reach);
        let filled = || if before.is_none() { Some(fill()) } else { None };
        let (ebpf, filled) =
            load::load(&config.object_path, &pins, &config.capacities, before.as_ref(), filled)
                .inspect_err(|_| pins.give_up())?;
        if let Some(before) = &before {
            before.bring_over(&pins.maps())?;
        }
        let (tables, planner) = filled.unwrap_or_else(fill)?;
        let peers = known.iter().flat_map(|known| known.peers.values());
        let links = links::prepare(&netlink, &config, (uplink, reach.clone()), peers).await?;
        let undertaker = Undertaker::start(pins.home()).map_err(StartError::Thread)?;
        let capacities = pins.capacities(config.capacities)?;
        let epoch = tables.epoch()?;
        let files = PodFiles::open(&config.state_dir)?;
        let mut worker = Self {
            abilities,
            pins,
            found,
            ebpf,
            netlink,
            links,
            tables,
            undertaker,
            capacities,
            planner,
            row: None,
            epoch: next_epoch(epoch),
            desired: Desired::default(),
            complete: false,
            files,
            pods: BTreeMap::new(),
            hooks: BTreeMap::new(),
            xdp: XdpStatus::default(),
            refused: Vec::new(),
            start_ms: 0,
            stale: false,
            probing: Arc::default(),
            routes_owed: false,
            mtu_owed: false,
            config,
        };
        worker.put_node()?;
        if before.is_some() {
            // The rows are there already: a program that replaces another is to work at once.
            worker.write_config(worker.config.socket_lb)?;
        }
        worker.adopt_pods().await?;
        worker.write_config(worker.config.socket_lb)?;
        worker.attach()?;
        if let Some(before) = &before {
            worker.leave(before)?;
        }
        worker.tidy().await?;
        worker.start_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        worker.report_start();
        if let Some(known) = known
            && let Err(error) = worker.know(known, fresh).await
        {
            // As with any later change: the next one begins by putting it right.
            tracing::error!(error = %chain(&error), "the kernel's tables do not hold all of the view");
        }
        Ok(worker)
    }

    /// Takes in what was known at the start, of which the rows may be there already.
    async fn know(&mut self, known: Desired, written: bool) -> Result<(), ApplyError> {
        let change = Change::ReplaceAll(Box::new(known));
        if !written {
            return self.apply(vec![change]).await.map(drop);
        }
        self.remember_refused(&self.planner.refused_of(&change));
        self.desired.apply(change);
        self.complete = true;
        let routed = self.put_peers().await;
        self.routes_owed |= routed.is_err();
        Ok(routed?)
    }

    fn put_node(&mut self) -> Result<(), StartError> {
        let cookie = netns::current_cookie().map_err(StartError::Cookie)?;
        let address = self.config.node.addresses.first().map(|ip| Address::from(*ip));
        let index = self.planner.node_index(&self.config.node.name, address);
        let writes = self.planner.put(Holder::Node, rows::of_this_node(&self.config, index, cookie))?;
        Ok(self.write(&writes)?)
    }

    /// Links again the Pods remembered, and removes what is left of those that are gone.
    async fn adopt_pods(&mut self) -> Result<(), StartError> {
        for pod in self.files.read()? {
            let network = PodNetwork {
                uid: pod.uid.clone(),
                namespace: pod.namespace,
                name: pod.name,
                netns: pod.netns,
                ips: pod.ips,
                host_ports: pod.host_ports,
            };
            if let Err(error) = self.add_pod(&network).await {
                tracing::warn!(pod = %format!("{}/{}", network.namespace, network.name), error = %chain(&error),
                    "pod is gone, or cannot be linked again");
                self.remove_pod(&pod.uid).await?;
            }
        }
        let known: Vec<String> = self.pods.values().map(|pod| pod.device.clone()).collect();
        let devices = self.netlink.devices().await.map_err(links::LinkError::from)?;
        for device in devices.iter().filter(|device| device.alias.starts_with(ALIAS)) {
            if !known.contains(&device.name) {
                self.netlink.delete(device).await.map_err(links::LinkError::from)?;
            }
        }
        let writes = self.planner.drop_adopted_pods();
        Ok(self.write(&writes)?)
    }

    fn write_config(&mut self, socket_lb: bool) -> Result<(), TableError> {
        let address = |ip: Option<std::net::IpAddr>| ip.map_or(Address::ZERO, Address::from);
        let config = &self.config;
        let row = ConfigRow {
            layout: weft_dataplane_abi::LAYOUT,
            flags: BALANCE_PACKET
                | FLOW_EVENTS
                | if socket_lb { BALANCE_SOCKET } else { 0 }
                | if self.planner.outward_here() { OUTWARD_HERE } else { 0 }
                | if config.direct_return { DIRECT_RETURN } else { 0 }
                | if config.encrypted { ENCRYPTED } else { 0 }
                | if config.tunnel_by_device { TUNNEL_BY_DEVICE } else { 0 },
            node_v4: address(config.node_address(false)),
            node_v6: address(config.node_address(true)),
            overlay_v4: address(config.overlay_address(false)),
            overlay_v6: address(config.overlay_address(true)),
            node_index: self.planner.node_index(&config.node.name, None),
            overlay_ifindex: self.links.vxlan.index,
            uplink_ifindex: self.links.uplink.index,
            node_port_first: config.node_ports.0,
            node_port_last: config.node_ports.1,
            source_port_first: config.source_ports.0,
            source_port_last: config.source_ports.1,
            overlay_port: config.vxlan_port,
            pod_bits_v4: config.pod_bits(false),
            pod_bits_v6: config.pod_bits(true),
            epoch: self.epoch,
        };
        self.tables.set_config(row)?;
        self.row = Some(row);
        self.config.socket_lb = socket_lb;
        Ok(())
    }

    /// Programs at the node's hooks, the socket hooks last: nothing is sent where nobody forwards yet.
    fn attach(&mut self) -> Result<(), StartError> {
        let links = self.links.clone();
        let (vxlan, uplink) = (&links.vxlan, &links.uplink);
        let cipher = links.ciphers.iter().map(|device| (Hook::FromCipher, device));
        let others = [
            (Hook::FromOverlay, vxlan),
            (Hook::ToOverlay, vxlan),
            (Hook::FromUplink, uplink),
            (Hook::ToUplink, uplink),
        ];
        for (hook, device) in cipher.chain(others) {
            let place = Place { device: &device.name, index: device.index, tcx: self.abilities.tcx };
            let done = attach::device(&mut self.ebpf, &self.pins.links(), hook, &place)?;
            self.hooks.insert(format!("{} on {}", hook.text(), device.name), done);
        }
        // After the stack's program: what the driver does not carry has to meet one.
        self.xdp = xdp::settle(&mut self.ebpf, &self.pins.links(), &self.config, uplink)?;
        let done = attach::sockets(&mut self.ebpf, &self.pins.links(), &self.config.cgroup_path)?;
        for (hook, done) in done {
            self.hooks.insert(hook.text().to_owned(), done);
        }
        Ok(())
    }

    /// All programs bridge: what they have not met goes over now, and programs that know this layout alone replace them.
    fn leave(&mut self, before: &Before) -> Result<(), StartError> {
        let rows = before.sweep(&mut self.ebpf, &self.pins.maps())?;
        self.pins.arrive(before)?;
        tracing::info!(from_layout = before.layout, rows, "tables of another layout taken over");
        (self.ebpf, ()) =
            load::load(&self.config.object_path, &self.pins, &self.config.capacities, None, || ())?;
        for pod in self.pods.values().cloned().collect::<Vec<_>>() {
            self.attach_pod(&pod)?;
        }
        self.attach()
    }

    fn attach_pod(&mut self, pod: &PodLink) -> Result<(), attach::AttachError> {
        let place = Place { device: &pod.device, index: pod.ifindex, tcx: self.abilities.tcx };
        for hook in [Hook::FromPod, Hook::ToPod] {
            attach::device(&mut self.ebpf, &self.pins.links(), hook, &place)?;
        }
        Ok(())
    }

    /// Unpins links whose device is gone, and tables that no program reads any more.
    async fn tidy(&self) -> Result<(), StartError> {
        let directory = self.pins.links();
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let gone = sys::open_pin(&entry.path())
                .and_then(|link| sys::link_target(std::os::fd::AsFd::as_fd(&link)))
                .is_ok_and(|target| matches!(target, LinkTarget::Device(0) | LinkTarget::Cgroup(0)));
            if gone && let Err(error) = fs::remove_file(entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "stale pin stays");
            }
        }
        for path in self.pins.remove_other_layouts()? {
            tracing::info!(path = %path.display(), "removed tables of another layout");
        }
        Ok(())
    }

    fn report_start(&self) {
        let replaced = self.hooks.values().filter(|done| **done == Attached::Replaced).count();
        tracing::info!(
            uplink = %self.links.uplink.name,
            mtu_bytes = self.links.mtu.pods_bytes,
            tables_adopted = self.found.adopted.len(),
            hooks_replaced = replaced,
            hooks_made = self.hooks.len() - replaced,
            pods_adopted = self.pods.len(),
            start_ms = self.start_ms,
            "dataplane attached"
        );
        match &self.xdp.why_not {
            None => tracing::info!("the uplink's driver carries packets by itself"),
            Some(reason) => tracing::info!(%reason, "no XDP on the uplink"),
        }
        for name in &self.found.reshaped {
            tracing::warn!(table = name, "table had another shape and was made anew");
        }
        for (name, there, wanted) in &self.found.other_capacity {
            tracing::warn!(
                table = name,
                rows = there,
                wanted,
                "table keeps its capacity until the pins are removed"
            );
        }
        for sentence in &self.abilities.missing {
            tracing::warn!("{sentence}");
        }
        self.report_cut();
    }

    /// Takes commands until nobody can send any.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut looks = uplink::looks();
        loop {
            let command = tokio::select! {
                command = commands.recv() => command,
                _ = looks.tick() => {
                    self.look_at_uplink().await;
                    continue;
                }
            };
            let Some(command) = command else { return };
            // An answer nobody waits for any more is dropped: the deed is done all the same.
            match command {
                Command::Apply(changes, answer) => drop(answer.send(self.apply(changes).await)),
                Command::AddPod(pod, answer) => drop(answer.send(self.add_pod(&pod).await)),
                Command::RemovePod(uid, answer) => drop(answer.send(self.remove_pod(&uid).await)),
                Command::Pods(answer) => drop(answer.send(self.pods.values().cloned().collect())),
                Command::Services(answer) => drop(answer.send(inspect::services(&self.planner))),
                Command::Counters(answer) => drop(answer.send(inspect::counters(&self.tables))),
                Command::Flows(max, answer) => drop(answer.send(self.flows(max))),
                Command::Status(answer) => drop(answer.send(self.status())),
                Command::Probe(pod, packet, answer) => self.probe(&pod, packet, answer),
                Command::SocketLb(on, answer) => drop(answer.send(self.write_config(on))),
            }
        }
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), TableError> {
        let written = self.tables.write(writes);
        // After the rows, and however far they came: whoever finds his way in the new epoch finds it in the new rows.
        let turned = if writes.iter().any(Write::turns_ways) { self.turn_epoch() } else { Ok(()) };
        let result = written.and(turned);
        self.stale |= result.is_err();
        let gone = sockets::retired(writes);
        if !gone.is_empty() {
            self.undertaker.order(Gone { backends: gone, ..Gone::default() }, self.namespaces());
        }
        result
    }

    /// The namespaces of all Pods.
    fn namespaces(&self) -> Vec<PathBuf> {
        self.pods.values().map(|pod| pod.netns.clone()).collect()
    }

    /// Sockets that are connected to who left wait for nothing.
    fn bury(&self, departed: Departed) {
        if !departed.gone.is_empty() {
            let gone = Gone { addresses: departed.gone, ..Gone::default() };
            self.undertaker.order(gone, self.namespaces());
        }
        let asked = departed.doubtful.into_iter().filter_map(|(node, pods)| {
            // Of this node's own it is known when they are gone.
            Some((*self.desired.peers.get(&node)?.addresses.first()?, pods))
        });
        let asked: BTreeMap<_, _> = asked.collect();
        if !asked.is_empty() {
            self.undertaker.doubt(asked, self.namespaces());
        }
    }

    fn turn_epoch(&mut self) -> Result<(), TableError> {
        self.epoch = next_epoch(self.epoch);
        // Before the settings are written the programs do nothing, and then they are written with this epoch.
        let Some(row) = &mut self.row else { return Ok(()) };
        row.epoch = self.epoch;
        self.tables.set_config(*row)
    }

    async fn apply(&mut self, changes: Vec<Change>) -> Result<Applied, ApplyError> {
        let mut applied = Applied::default();
        if self.stale {
            self.resync()?;
        }
        if self.routes_owed {
            self.put_peers().await?;
        }
        for change in changes {
            let departed = departed(&self.desired, &change);
            self.complete |= matches!(change, Change::ReplaceAll(_));
            let written = self.carry(&change);
            let routes = Routes::of(&change);
            self.desired.apply(change);
            self.bury(departed);
            let (writes, refused) = written?;
            applied.writes += writes;
            self.remember_refused(&refused);
            applied.refused.extend(refused);
            self.route(routes).await?;
        }
        Ok(applied)
    }

    /// Makes a change's writes, step by step. Says how many, and what was refused.
    fn carry(&mut self, change: &Change) -> Result<(usize, Vec<PlanError>), TableError> {
        let (mut count, mut refused) = (0, Vec::new());
        for step in self.planner.steps(change) {
            let (writes, errors) = self.planner.step(step);
            count += writes.len();
            refused.extend(errors);
            self.write(&writes)?;
        }
        if count > 0 {
            let writes = self.planner.try_refused();
            count += writes.len();
            self.write(&writes)?;
        }
        self.heed_outward_here()?;
        refused.extend(self.planner.refused_of(change));
        Ok((count, refused))
    }

    fn remember_refused(&mut self, refused: &[PlanError]) {
        for error in refused {
            tracing::warn!(%error, "change refused");
            if self.refused.len() == REFUSED_MAX {
                self.refused.remove(0);
            }
            self.refused.push(error.to_string());
        }
    }

    /// After a failed write: what the kernel holds is read back, and everything known is put again.
    fn resync(&mut self) -> Result<(), ApplyError> {
        let (rows, generations) = self.tables.read()?;
        self.planner = Planner::adopt(&self.config.node.name, self.capacities, rows, &generations);
        self.planner.set_reach(self.links.reach.clone());
        self.put_node().map_err(|error| ApplyError::Resync(Box::new(error)))?;
        for pod in self.pods.values().cloned().collect::<Vec<_>>() {
            let writes = self
                .planner
                .put(Holder::Pod(pod.uid.clone()), pod.rows())
                .map_err(|error| ApplyError::Resync(Box::new(StartError::Plan(error))))?;
            self.write(&writes)?;
            self.put_host_ports(&pod)?;
        }
        let writes = self.planner.drop_adopted_pods();
        self.write(&writes)?;
        let desired = std::mem::take(&mut self.desired);
        let put = self.put_again(&desired);
        self.desired = desired;
        put?;
        self.stale = false;
        Ok(())
    }

    fn put_again(&mut self, desired: &Desired) -> Result<(), TableError> {
        let steps = if self.complete { self.planner.replace_all(desired) } else { Planner::put_all(desired) };
        for step in steps {
            let writes = self.planner.step(step).0;
            self.write(&writes)?;
        }
        let writes = self.planner.try_refused();
        self.write(&writes)?;
        self.heed_outward_here()
    }

    fn flows(&self, rows_max: usize) -> Result<Vec<FlowEntry>, TableError> {
        let rows = self.tables.flows(rows_max)?;
        Ok(rows.iter().map(|row| inspect::flow(row, &self.planner)).collect())
    }

    fn status(&self) -> Status {
        let (services, slots, backends) = self.planner.fill();
        let count = |count: fn(&Rows) -> usize| self.tables.read_local().map_or(0, |rows| count(&rows));
        let fill = |table: &str, rows: usize, capacity: u32| Fill {
            table: table.to_owned(),
            rows,
            capacity: capacity as usize,
        };
        let capacities = &self.capacities;
        Status {
            abilities: self.abilities.clone(),
            layout: weft_dataplane_abi::LAYOUT,
            start_ms: self.start_ms,
            uplink: self.links.uplink.name.clone(),
            overlay: self.links.vxlan.name.clone(),
            pod_mtu_bytes: self.links.mtu.pods_bytes,
            routing: self.routing(),
            socket_lb: self.config.socket_lb,
            xdp: self.xdp.clone(),
            direct_return: self.config.direct_return,
            hooks: self
                .hooks
                .iter()
                .map(|(hook, done)| {
                    (
                        hook.clone(),
                        if *done == Attached::Replaced { "replaced" } else { "attached" }.to_owned(),
                    )
                })
                .collect(),
            pods: self.pods.len(),
            tables: vec![
                fill("services", services, capacities.services_max),
                fill("slots", slots, capacities.slots_max),
                fill("backends", backends, capacities.backends_max),
                fill("endpoints", count(|rows| rows.endpoints.len()), capacities.endpoints_max),
                fill("netns", count(|rows| rows.netns.len()), capacities.namespaces_max),
                fill("nodes", count(|rows| rows.nodes.len()), capacities.nodes_max),
            ],
            refused: self.refused.clone(),
        }
    }
}

/// The epoch after this one; 0 is none.
const fn next_epoch(epoch: u32) -> u32 {
    let next = epoch.wrapping_add(1);
    if next == 0 { 1 } else { next }
}

/// An error with its causes, on one line; for log lines and answers to people.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
