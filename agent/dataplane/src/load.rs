//! The programs into the kernel: object read, tables found or made, everything verified before anything is attached.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use thiserror::Error;
use weft_dataplane_abi::bridge;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::maps::MAPS;

use crate::config::Capacities;
use crate::migrate::Before;
use crate::pin::Pins;

/// Threads that load programs at once, at most.
const LOADERS_MAX: usize = 4;

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
/// layout, bridging between those and these.
pub(crate) fn load(
    object: &Path,
    pins: &Pins,
    capacities: &Capacities,
    before: Option<&Before>,
) -> Result<Ebpf, LoadError> {
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
    if let Some(before) = before {
        loader.override_global(bridge::BRIDGE, &1_u32, true);
        for bridge in &bridge::BRIDGES {
            loader.map_pin_path(bridge.name, before.directory.join(bridge.table.name));
        }
    }
    let mut ebpf = loader
        .load(&bytes)
        .map_err(|source| LoadError::Load { path: object.to_owned(), source: Box::new(source) })?;
    verify(&mut ebpf)?;
    Ok(ebpf)
}

/// Hands every program to the verifier, several at a time: that is most of what a start takes.
fn verify(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    for hook in Hook::ALL {
        ebpf.program(hook.text()).ok_or(LoadError::NoProgram(hook.text()))?;
    }
    let waiting = Mutex::new(ebpf.programs_mut().collect::<Vec<_>>());
    let next = || waiting.lock().map_or(None, |mut programs| programs.pop());
    let work = || {
        while let Some((name, program)) = next() {
            let hook = Hook::ALL.iter().map(|hook| hook.text()).find(|text| *text == name);
            // A program of no hook is another build's, and of no use.
            let Some(hook) = hook else { continue };
            let loaded = match program {
                Program::CgroupSockAddr(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => return Err(LoadError::NoProgram(hook)),
            };
            loaded.map_err(|source| LoadError::Refused { hook, source: Box::new(source) })?;
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(LOADERS_MAX);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let all = others.into_iter().map(|thread| thread.join().unwrap_or(Err(LoadError::Panicked)));
        all.fold(own, Result::and)
    })
}
