//! The dry run: the real programs once more, with a constant that makes them look only, over the live tables. Made-up packets
//! walk through them by test run; nothing is attached, and no row, port, counter or event is left behind.

pub mod ask;
mod frame;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use aya::maps::Array;
use aya::programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfError, EbpfLoader};
use serde::Serialize;
use thiserror::Error;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::dry::{DRY, End, Known, OWN, WALKED, Walked};
use weft_dataplane_abi::flow_table;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::maps::{FLOWS, MAPS};
use weft_dataplane_abi::order::Be32;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route;
use weft_dataplane_abi::station::Station;

use crate::flow_table::FlowTable;
use crate::tables::Row;
use crate::test_run;

pub use frame::Packet;

/// Programs that a Pod's packet can meet on its own node.
const HOOKS: [Hook; 3] = [Hook::FromPod, Hook::ToOverlay, Hook::ToUplink];
/// What the programs may lengthen a packet by, bytes.
const GROWTH_BYTES: usize = 128;

/// The programs' words for a packet that may not be cut and is too long.
pub const TOO_LARGE: &str = Reason::TooLarge.text();
/// The programs' words for an address and port that no Service has.
pub const NO_SERVICE: &str = Reason::NoService.text();
/// The programs' words for the policy `Local` where no backend is.
pub const NO_LOCAL_BACKEND: &str = Reason::NoLocalBackend.text();

/// Why nothing can be said of a packet.
#[derive(Debug, Error)]
pub enum DryError {
    /// The Pod is not on this node, or in the node's own network.
    #[error("this node has linked no Pod {0}")]
    NoPod(String),
    /// The Pod has no address of the destination's family.
    #[error("Pod {0} has no address of that family")]
    NoAddress(String),
    /// Another dry run has not ended.
    #[error("another dry run has not ended yet; ask again")]
    Busy,
    /// The object could not be read.
    #[error("cannot read the eBPF object {}", path.display())]
    Object {
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The table of flows could not be read.
    #[error("cannot read the table of flows")]
    Flows(#[source] io::Error),
    /// The object or a table was refused.
    #[error("cannot load the programs for a dry run")]
    Load(#[source] Box<EbpfError>),
    /// A program was refused, or did not run.
    #[error("cannot run {hook} dry")]
    Program {
        /// Which.
        hook: &'static str,
        /// Why.
        #[source]
        source: Box<ProgramError>,
    },
    /// What a program told could not be read.
    #[error("what {0} told cannot be read")]
    Untold(&'static str),
    /// The dataplane has stopped.
    #[error("the dataplane has stopped")]
    Stopped,
}

/// Where a packet goes on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "to")]
pub enum Way {
    /// Not looked for.
    None,
    /// A Pod of this node.
    Pod,
    /// The tunnel to a node with this address.
    Tunnel(IpAddr),
    /// As it is to a node with this address, by the uplink.
    Native(IpAddr),
    /// Up into the node's own stack.
    Host,
    /// Out of the uplink.
    Outside,
    /// The Service range, where no Service matched.
    Service,
    /// The Pod range, where no Pod and no node matched.
    Nowhere,
}

/// What one program did, or would have done, with the packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Passage {
    /// Name of the program, for example `from_pod`.
    pub hook: &'static str,
    /// Device it runs on; empty when that is not known.
    pub device: String,
    /// How it ended: `next`, `redirect`, `drop`, `refused`.
    pub end: &'static str,
    /// What was known of the flow.
    pub known: &'static str,
    /// Station that dropped it; empty when it goes on.
    pub station: &'static str,
    /// Why; empty when it goes on.
    pub reason: &'static str,
    /// Ends as it arrived.
    pub source: SocketAddr,
    /// See `source`.
    pub destination: SocketAddr,
    /// Ends it leaves with.
    pub to_source: SocketAddr,
    /// See `to_source`.
    pub to_destination: SocketAddr,
    /// Number of the Service row; 0 for none.
    pub service_id: u32,
    /// Index of the backend; 0 for none.
    pub backend_id: u32,
    /// Where it goes on to.
    pub way: Way,
}

/// Programs that look.
pub(crate) struct DryRun {
    ebpf: Ebpf,
}

impl DryRun {
    /// Loads them over the tables pinned in a directory.
    ///
    /// # Errors
    /// The object, a table or a program is refused.
    pub(crate) fn load(object: &Path, maps: &Path) -> Result<Self, DryError> {
        let bytes =
            std::fs::read(object).map_err(|source| DryError::Object { path: object.to_owned(), source })?;
        let mut loader = EbpfLoader::new();
        loader.override_global(DRY, &1_u32, true);
        let flows = FlowTable::open(&maps.join(FLOWS.name)).map_err(DryError::Flows)?;
        let (buckets, seed) = (flows.buckets(), flows.seed());
        loader.override_global(flow_table::FLOW_BUCKETS, &buckets, true);
        loader.override_global(flow_table::FLOW_SEED, &seed, true);
        for spec in MAPS.iter().filter(|spec| spec.pinned && !OWN.contains(&spec.name)) {
            loader.map_pin_path(spec.name, maps.join(spec.name));
        }
        let mut ebpf = loader.load(&bytes).map_err(|error| DryError::Load(Box::new(error)))?;
        for hook in HOOKS {
            let failed = |source| DryError::Program { hook: hook.text(), source: Box::new(source) };
            program(&mut ebpf, hook)?.load().map_err(failed)?;
        }
        Ok(Self { ebpf })
    }

    /// Walks a frame through a program, as if it came by a device of the calling thread's namespace. Gives what the program
    /// told, and the frame as it left it.
    pub(crate) fn walk(
        &mut self,
        hook: Hook,
        ifindex: u32,
        frame: &[u8],
    ) -> Result<(Passage, Vec<u8>), DryError> {
        let failed = |source| DryError::Program { hook: hook.text(), source: Box::new(source) };
        let context = test_run::context(ifindex, 0);
        let mut out = vec![0; frame.len() + GROWTH_BYTES];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        options.ctx_in = Some(&context);
        let result = program(&mut self.ebpf, hook)?.test_run(options).map_err(failed)?;
        out.truncate(result.data_size_out as usize);
        let walked = self.walked().ok_or(DryError::Untold(hook.text()))?;
        Ok((passage(hook, &walked), out))
    }

    fn walked(&self) -> Option<Walked> {
        let table: Array<_, Row<Walked>> = Array::try_from(self.ebpf.map(WALKED.name)?).ok()?;
        table.get(&0, 0).ok().map(|row| row.0)
    }
}

fn program(ebpf: &mut Ebpf, hook: Hook) -> Result<&mut SchedClassifier, DryError> {
    let program = ebpf.program_mut(hook.text()).ok_or(DryError::Untold(hook.text()))?;
    let failed = |source| DryError::Program { hook: hook.text(), source: Box::new(source) };
    program.try_into().map_err(failed)
}

fn passage(hook: Hook, walked: &Walked) -> Passage {
    let (tuple, to) = (&walked.tuple, &walked.flow.to);
    let socket = |ip: weft_dataplane_abi::address::Address, port: u16| SocketAddr::new(ip.ip(), port);
    let reason = Reason::try_from(walked.reason).unwrap_or(Reason::None);
    let source = socket(tuple.source, tuple.source_port.get());
    let destination = socket(tuple.destination, tuple.destination_port.get());
    // Before the flow is looked for, there is no row: the packet's own ends stand.
    let asked = walked.known != Known::NotAsked as u8;
    Passage {
        hook: hook.text(),
        device: String::new(),
        end: End::try_from(walked.end).map_or("unknown", End::text),
        known: Known::try_from(walked.known).map_or("unknown", Known::text),
        station: Station::try_from(walked.station).map_or("", Station::text),
        reason: if reason == Reason::None { "" } else { reason.text() },
        source,
        destination,
        to_source: if asked { socket(to.source, to.source_port.get()) } else { source },
        to_destination: if asked { socket(to.destination, to.destination_port.get()) } else { destination },
        service_id: walked.flow.service_id,
        backend_id: walked.flow.backend_id,
        way: way(walked),
    }
}

fn way(walked: &Walked) -> Way {
    match u32::from(walked.flow.way) {
        route::ROUTE_POD => Way::Pod,
        route::ROUTE_TUNNEL => {
            Way::Tunnel(Address { words: walked.flow.way_words.map(Be32::from_wire) }.ip())
        }
        route::ROUTE_NATIVE => {
            Way::Native(Address { words: walked.flow.way_words.map(Be32::from_wire) }.ip())
        }
        route::ROUTE_HOST => Way::Host,
        route::ROUTE_OUTSIDE => Way::Outside,
        route::ROUTE_SERVICE => Way::Service,
        route::ROUTE_NOWHERE | route::ROUTE_LOCKED => Way::Nowhere,
        _ => Way::None,
    }
}

/// A device that a packet leaves by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exit {
    /// Its name.
    pub device: String,
    /// The longest packet it takes, bytes.
    pub mtu_bytes: u32,
}

/// All that is known of a packet's way on its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Who sends.
    pub from: IpAddr,
    /// The programs it met, in their order.
    pub passages: Vec<Passage>,
    /// The device it leaves by, when it leaves.
    pub exit: Option<Exit>,
}

/// Where the packet begins, and the devices of its node.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) object: PathBuf,
    pub(crate) maps: PathBuf,
    pub(crate) pod_device: String,
    pub(crate) pod_ifindex: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) gateway_mac: [u8; 6],
    /// The Pod's address of the packet's family.
    pub(crate) from: IpAddr,
    pub(crate) pod_mtu_bytes: u32,
    pub(crate) overlay: (String, u32, u32),
    pub(crate) uplink: (String, u32, u32),
}

/// Walks a packet from its Pod to where this node lets go of it. In the node's network namespace.
pub(crate) fn run(start: &Start, packet: &Packet) -> Result<Answer, DryError> {
    let mut programs = DryRun::load(&start.object, &start.maps)?;
    let frame = frame::build(start, packet);
    let (mut first, frame) = programs.walk(Hook::FromPod, start.pod_ifindex, &frame)?;
    first.device.clone_from(&start.pod_device);
    let mut answer = Answer { from: start.from, passages: Vec::new(), exit: None };
    let next = match (first.end, first.way) {
        ("redirect", Way::Pod) => {
            answer.exit = Some(Exit { device: "the Pod's eth0".to_owned(), mtu_bytes: start.pod_mtu_bytes });
            None
        }
        ("redirect", Way::Tunnel(_)) => Some((Hook::ToOverlay, &start.overlay)),
        ("redirect", Way::Outside | Way::Native(_)) => Some((Hook::ToUplink, &start.uplink)),
        _ => None,
    };
    answer.passages.push(first);
    if let Some((hook, (device, ifindex, mtu_bytes))) = next {
        let (mut second, _) = programs.walk(hook, *ifindex, &frame)?;
        second.device.clone_from(device);
        answer.passages.push(second);
        answer.exit = Some(Exit { device: device.clone(), mtu_bytes: *mtu_bytes });
    }
    Ok(answer)
}
