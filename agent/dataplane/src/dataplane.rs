//! What the agent holds: a handle to the thread that owns the kernel's side. Dropping it detaches nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::attach::AttachError;
use crate::config::{Config, ConfigError};
use crate::desired::{Change, Desired};
use crate::dry::{self, DryError};
use crate::events::{Events, EventsError};
use crate::inspect::{Fill, FlowEntry, ServiceEntry};
use crate::links::{self, LinkError};
use crate::load::LoadError;
use crate::migrate::MigrateError;
use crate::netlink::Netlink;
use crate::pin::{self, PinError, Pins};
use crate::plan::PlanError;
use crate::pods::{PodError, PodLink, PodNetwork};
use crate::probe::{Abilities, TooOld};
use crate::tables::TableError;
use crate::worker::{Command, Worker};
use crate::xdp::XdpStatus;

/// Commands that wait for the thread before senders wait, too.
const COMMANDS_MAX: usize = 256;

/// Why the dataplane did not start. What was attached before stays attached.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings are wrong.
    #[error("dataplane settings")]
    Config(#[from] ConfigError),
    /// The kernel is too old.
    #[error(transparent)]
    TooOld(#[from] TooOld),
    /// The pins.
    #[error("dataplane pins")]
    Pin(#[from] PinError),
    /// The programs.
    #[error("dataplane programs")]
    Load(#[from] LoadError),
    /// The node's devices.
    #[error("dataplane devices")]
    Link(#[from] LinkError),
    /// The tables.
    #[error("dataplane tables")]
    Table(#[from] TableError),
    /// Rows from before an upgrade.
    #[error("dataplane tables of another layout")]
    Migrate(#[from] MigrateError),
    /// The hooks.
    #[error("dataplane hooks")]
    Attach(#[from] AttachError),
    /// Pods from before.
    #[error("pods from before the restart")]
    Pod(#[from] PodError),
    /// The node's own rows have no room.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The cookie of the node's network namespace.
    #[error("the kernel tells no network namespace cookie; Linux 5.14 does")]
    Cookie(#[source] std::io::Error),
    /// The thread.
    #[error("cannot start the dataplane's thread")]
    Thread(#[source] std::io::Error),
    /// The thread ended before it was ready.
    #[error("the dataplane's thread died while starting")]
    Died,
}

/// Why changes were not all written. What was written stays, and the next call begins by putting it right.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// A row.
    #[error("dataplane tables")]
    Table(#[from] TableError),
    /// A route of the node's own.
    #[error("dataplane routes")]
    Link(#[from] LinkError),
    /// What the kernel holds could not be put right after an earlier failure.
    #[error("dataplane resync")]
    Resync(#[source] Box<StartError>),
    /// The thread has ended.
    #[error("the dataplane has stopped")]
    Stopped,
}

/// What became of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows written.
    pub writes: usize,
    /// What could not be taken in, each with the reason.
    pub refused: Vec<PlanError>,
}

/// How the dataplane is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What the kernel can.
    pub abilities: Abilities,
    /// Version of the tables' layout.
    pub layout: u32,
    /// How long the start took, milliseconds.
    pub start_ms: u64,
    /// Device towards the other nodes.
    pub uplink: String,
    /// Device of the tunnel.
    pub overlay: String,
    /// MTU of Pods, bytes.
    pub pod_mtu_bytes: u32,
    /// How other nodes are reached.
    pub routing: Routing,
    /// Services are balanced at connect.
    pub socket_lb: bool,
    /// Whether the uplink's driver carries packets by itself.
    pub xdp: XdpStatus,
    /// What comes from outside for other nodes' Pods is answered by those nodes themselves.
    pub direct_return: bool,
    /// Hooks, and whether a link from before the start was `replaced` or a new one `attached`.
    pub hooks: BTreeMap<String, String>,
    /// Linked Pods.
    pub pods: usize,
    /// Fill of the tables.
    pub tables: Vec<Fill>,
    /// The latest refused changes, in words.
    pub refused: Vec<String>,
}

/// How packets travel to the Pods of other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Routing {
    /// The setting: `tunnel` or `native`.
    pub mode: &'static str,
    /// Nodes of which some Pods are reached as they are.
    pub native_nodes: usize,
    /// Nodes of which some Pods are reached by the tunnel with outer addresses of IPv4.
    pub tunnel_v4_nodes: usize,
    /// The same of IPv6.
    pub tunnel_v6_nodes: usize,
    /// Nodes of which some Pods are not reached: they have no address of a family that this node has one of.
    pub unreached_nodes: usize,
}

/// The dataplane of one node. Cheap to clone; when the last clone is dropped its thread ends, and everything stays
/// attached and pinned for the next start.
#[derive(Clone, Debug)]
pub struct Dataplane {
    commands: mpsc::Sender<Command>,
    maps: PathBuf,
}

/// The thread has ended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the dataplane has stopped")]
pub struct Stopped;

/// Why a question about the tables has no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The thread has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Dataplane {
    /// Loads, attaches and pins everything in the network namespace of the calling thread, adopting what an earlier
    /// agent left: its connections go on.
    ///
    /// # Errors
    /// With the step that failed and its causes; what was attached before stays so.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_knowing(config, None).await
    }

    /// The same, with what is known of the cluster already: [`Change::ReplaceAll`] as the first change, but a node that has no
    /// rows yet gets them while the kernel looks at the programs. What is refused of it stands in [`Dataplane::status`].
    ///
    /// # Errors
    /// As [`Dataplane::start`].
    pub async fn start_knowing(config: Config, known: Option<Desired>) -> Result<Self, StartError> {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (ready, started) = oneshot::channel();
        let bpffs_dir = config.bpffs_dir.clone();
        // A thread of its own: loading takes long, and threads inherit the network namespace of the one that makes them.
        std::thread::Builder::new()
            .name("weft-dataplane".to_owned())
            .spawn(move || {
                let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(ready.send(Err(StartError::Thread(error)))),
                };
                runtime.block_on(async {
                    match Worker::start(config, known).await {
                        Ok(worker) => {
                            if ready.send(Ok(())).is_ok() {
                                worker.run(receiver).await;
                            }
                        }
                        Err(error) => drop(ready.send(Err(error))),
                    }
                });
            })
            .map_err(StartError::Thread)?;
        started.await.map_err(|_| StartError::Died)??;
        Ok(Self { commands, maps: Pins::at(&bpffs_dir).maps() })
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Takes changes in, one after the other; each touches only its own rows.
    ///
    /// # Errors
    /// When the kernel refuses a row or a route. Changes that cannot be taken in at all are no error but in the answer.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<Applied, ApplyError> {
        self.ask(|answer| Command::Apply(changes, answer)).await.map_err(|Stopped| ApplyError::Stopped)?
    }

    /// Links a Pod, or adopts its link when it has one: calling it again changes nothing.
    ///
    /// # Errors
    /// With the step that failed; [`Self::remove_pod`] cleans up after it.
    pub async fn add_pod(&self, pod: PodNetwork) -> Result<PodLink, PodError> {
        self.ask(|answer| Command::AddPod(Box::new(pod), answer))
            .await
            .map_err(|Stopped| PodError::Stopped)?
    }

    /// Removes a Pod's link and rows; one that is gone already is no error.
    ///
    /// # Errors
    /// With the step that failed; it may be called again.
    pub async fn remove_pod(&self, uid: &str) -> Result<(), PodError> {
        let uid = uid.to_owned();
        self.ask(|answer| Command::RemovePod(uid, answer)).await.map_err(|Stopped| PodError::Stopped)?
    }

    /// The Pods linked, those adopted at the start included.
    ///
    /// # Errors
    /// The dataplane has stopped.
    pub async fn known_pods(&self) -> Result<Vec<PodLink>, Stopped> {
        self.ask(Command::Pods).await
    }

    /// The stream of flow events. Open one only: several would share the events between them. Must be called inside a
    /// tokio runtime.
    ///
    /// # Errors
    /// The ring cannot be opened.
    pub fn events(&self) -> Result<Events, EventsError> {
        Events::open(&self.maps)
    }

    /// The Service table.
    ///
    /// # Errors
    /// The dataplane has stopped.
    pub async fn services(&self) -> Result<Vec<ServiceEntry>, Stopped> {
        self.ask(Command::Services).await
    }

    /// Every counter by name.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn counters(&self) -> Result<BTreeMap<String, u64>, AskError> {
        Ok(self.ask(Command::Counters).await??)
    }

    /// Tracked flows, at most `rows_max` of them.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn flows(&self, rows_max: usize) -> Result<Vec<FlowEntry>, AskError> {
        Ok(self.ask(|answer| Command::Flows(rows_max, answer)).await??)
    }

    /// What would become of a packet that a Pod of this node sends, as far as this node knows. Nothing is sent, and nothing
    /// is left behind. One such question at a time.
    ///
    /// # Errors
    /// There is no such Pod, or the programs cannot be asked.
    pub async fn probe(
        &self,
        namespace: &str,
        name: &str,
        packet: dry::Packet,
    ) -> Result<dry::Answer, DryError> {
        let pod = (namespace.to_owned(), name.to_owned());
        self.ask(|answer| Command::Probe(pod, packet, answer)).await.map_err(|Stopped| DryError::Stopped)?
    }

    /// The directory of the live tables.
    #[must_use]
    pub fn maps(&self) -> &Path {
        &self.maps
    }

    /// How the dataplane is.
    ///
    /// # Errors
    /// The dataplane has stopped.
    pub async fn status(&self) -> Result<Status, Stopped> {
        self.ask(Command::Status).await
    }

    /// Switches balancing at connect on or off; off, packets are balanced one by one. Connections that stand stay.
    ///
    /// # Errors
    /// The row of settings cannot be written.
    pub async fn set_socket_lb(&self, on: bool) -> Result<(), AskError> {
        Ok(self.ask(|answer| Command::SocketLb(on, answer)).await??)
    }

    /// Removes every pin, device and file of a node, in the network namespace of the calling thread. No dataplane may
    /// run with this configuration; nothing there is no error.
    ///
    /// # Errors
    /// With the first thing that could not be removed.
    pub async fn remove_everything(config: &Config) -> Result<(), StartError> {
        pin::remove_all(&config.bpffs_dir)?;
        let netlink = Netlink::open().map_err(LinkError::from)?;
        links::remove_all(&netlink, config).await?;
        match std::fs::remove_dir_all(&config.state_dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(PodError::State { path: config.state_dir.clone(), source }.into())
            }
            _ => Ok(()),
        }
    }
}
