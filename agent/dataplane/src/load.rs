//! The programs into the kernel: object read, tables found or made, everything verified before anything is attached.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use thiserror::Error;
use weft_dataplane_abi::bridge;
use weft_dataplane_abi::flow_table;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::maps::{FLOWS, MAPS};

use crate::config::Capacities;
use crate::flow_table::{FlowTable, STORES_ARE_ORDERED};
use crate::migrate::Before;
use crate::pin::Pins;

/// Threads that load programs at once, at most.
const LOADERS_MAX: usize = 4;
/// The longest rest between two programs.
const REST_MAX: Duration = Duration::from_millis(50);

/// Why the programs are not in the kernel.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The object could not be read.
    #[error("cannot read the eBPF object {}; `cargo xtask build-ebpf` builds it", path.display())]
    Object {
        /// Where it should be.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// aya or the kernel refused the object or a table.
    #[error("cannot load the eBPF object {}", path.display())]
    Load {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<EbpfError>,
    },
    /// The table of flows could not be read.
    #[error("cannot read the table of flows")]
    Flows(#[source] io::Error),
    /// A thread that loads programs panicked.
    #[error("loading the programs failed from within")]
    Panicked,
    /// The object is another build's.
    #[error("the eBPF object has no program {0}")]
    NoProgram(&'static str),
    /// The verifier refused a program.
    #[error("the kernel refused the program {hook}; what was attached before stays in force")]
    Refused {
        /// Which.
        hook: &'static str,
        /// The verifier's words.
        #[source]
        source: Box<ProgramError>,
    },
}

/// Loads every program, with tables pinned in (or taken from) the pins' directory; and, when there are tables of another
/// layout, bridging between those and these. `meanwhile` is called once the tables are there, while the verifier works.
pub(crate) fn load<T>(
    object: &Path,
    pins: &Pins,
    capacities: &Capacities,
    before: Option<&Before>,
    meanwhile: impl FnOnce() -> T,
) -> Result<(Ebpf, T), LoadError> {
    let bytes =
        std::fs::read(object).map_err(|source| LoadError::Object { path: object.to_owned(), source })?;
    let directory = pins.maps();
    let mut loader = EbpfLoader::new();
    for spec in &MAPS {
        if spec.pinned {
            loader.map_pin_path(spec.name, directory.join(spec.name));
        }
        if spec.sized_by_setting {
            // A table keeps its capacity: all of its rows are to have room.
            let there = before.and_then(|before| before.capacities.get(spec.name).copied()).unwrap_or(0);
            loader.map_max_entries(spec.name, capacities.of_map(spec.name, spec.capacity).max(there));
        }
    }
    let flows = Flows::settle(&directory, capacities, before)?;
    loader.override_global(flow_table::ORDERED_STORES, &STORES_ARE_ORDERED, true);
    loader.override_global(flow_table::FLOW_BUCKETS, &flows.buckets, true);
    loader.override_global(flow_table::FLOW_SEED, &flows.seed, true);
    let other = match before {
        Some(before) => Some(FlowTable::open(&before.directory.join(FLOWS.name)).map_err(LoadError::Flows)?),
        None => None,
    };
    let (other_buckets, other_seed, other_words) = other.as_ref().map_or(Default::default(), |table| {
        // A row is bounded by the size of a value, which is a u32.
        (table.buckets(), table.seed(), u32::try_from(table.row_words()).unwrap_or(u32::MAX))
    });
    if other.is_some() {
        loader.override_global(flow_table::BEFORE_BUCKETS, &other_buckets, true);
        loader.override_global(flow_table::BEFORE_SEED, &other_seed, true);
        loader.override_global(flow_table::BEFORE_ROW_WORDS, &other_words, true);
    }
    if let Some(before) = before {
        loader.override_global(bridge::BRIDGE, &1_u32, true);
        loader.map_pin_path(bridge::FLOWS_BEFORE, before.directory.join(FLOWS.name));
        for bridge in &bridge::BRIDGES {
            loader.map_pin_path(bridge.name, before.directory.join(bridge.table.name));
        }
    }
    let mut ebpf = loader
        .load(&bytes)
        .map_err(|source| LoadError::Load { path: object.to_owned(), source: Box::new(source) })?;
    // Before any program that would look for a row.
    let table = FlowTable::open(&directory.join(FLOWS.name)).map_err(LoadError::Flows)?;
    if table.seed() != flows.seed {
        FlowTable::sow(&directory.join(FLOWS.name), flows.seed).map_err(LoadError::Flows)?;
    }
    let pace = if before.is_some() || flows.found { Pace::Considerate } else { Pace::Fast };
    let done = verify(&mut ebpf, before.is_some(), pace, meanwhile)?;
    Ok((ebpf, done))
}

/// Buckets that one index of the table of flows stands for.
const GROUP: u32 = flow_table::GROUP as u32;

/// What the programs must know of the table of flows when they are loaded.
struct Flows {
    /// Whether it was there before.
    found: bool,
    buckets: u32,
    seed: [u64; 2],
}

impl Flows {
    /// That of the table that is there; a new one gets a seed that nobody can guess.
    fn settle(directory: &Path, capacities: &Capacities, before: Option<&Before>) -> Result<Self, LoadError> {
        let there = match FlowTable::open(&directory.join(FLOWS.name)) {
            Ok(table) => Some(table),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(LoadError::Flows(error)),
        };
        let seed = there.as_ref().map(FlowTable::seed).filter(|seed| *seed != [0; 2]);
        let least = before.and_then(|before| before.capacities.get(FLOWS.name).copied()).unwrap_or(0);
        let groups = there.as_ref().map(FlowTable::groups);
        let mut random = [0_u8; 16];
        std::fs::File::open("/dev/urandom")
            .and_then(|mut file| io::Read::read_exact(&mut file, &mut random))
            .map_err(LoadError::Flows)?;
        let (low, high) = random.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
        Ok(Self {
            found: there.is_some(),
            buckets: groups.unwrap_or_else(|| capacities.of_map(FLOWS.name, FLOWS.capacity).max(least))
                * GROUP,
            seed: seed.unwrap_or([word(low), word(high)]),
        })
    }
}

/// How the programs go to the verifier.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// On all CPUs: nothing goes through this node yet, and nothing will before they are loaded.
    Fast,
    /// On one, with a rest after each program. An agent before this one left its programs in force, and the Pods whose packets they
    /// carry need the CPUs more than a start does: where the verifier had both CPUs of a node, some of them were not run for a second.
    Considerate,
}

impl Pace {
    fn threads(self) -> usize {
        match self {
            Self::Fast => std::thread::available_parallelism().map_or(1, usize::from).min(LOADERS_MAX),
            Self::Considerate => 1,
        }
    }

    /// How long to rest after a program that took so long.
    fn rest(self, took: Duration) -> Duration {
        match self {
            Self::Fast => Duration::ZERO,
            Self::Considerate => (took / 2).min(REST_MAX),
        }
    }
}

/// Hands every program to the verifier: that is most of what a start takes.
fn verify<T>(
    ebpf: &mut Ebpf,
    bridging: bool,
    pace: Pace,
    meanwhile: impl FnOnce() -> T,
) -> Result<T, LoadError> {
    for hook in Hook::ALL {
        ebpf.program(hook.text()).ok_or(LoadError::NoProgram(hook.text()))?;
    }
    let waiting = Mutex::new(ebpf.programs_mut().collect::<Vec<_>>());
    let next = || waiting.lock().map_or(None, |mut programs| programs.pop());
    let work = || {
        while let Some((name, program)) = next() {
            let sweep = bridging.then_some(bridge::SWEEP);
            let hook = Hook::ALL.iter().map(|hook| hook.text()).chain(sweep).find(|text| *text == name);
            // A program of no hook is another build's, or for another time.
            let Some(hook) = hook else { continue };
            let began = Instant::now();
            let loaded = match program {
                Program::CgroupSockAddr(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => return Err(LoadError::NoProgram(hook)),
            };
            loaded.map_err(|source| LoadError::Refused { hook, source: Box::new(source) })?;
            std::thread::sleep(pace.rest(began.elapsed()));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..pace.threads()).map(|_| scope.spawn(work)).collect();
        let done = meanwhile();
        let own = work();
        let all = others.into_iter().map(|thread| thread.join().unwrap_or(Err(LoadError::Panicked)));
        all.fold(own, Result::and).map(|()| done)
    })
}
