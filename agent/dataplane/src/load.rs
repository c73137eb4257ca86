//! The programs into the kernel: object read, tables found or made, everything verified before anything is attached.

use std::io;
use std::path::{Path, PathBuf};

use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use thiserror::Error;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::maps::MAPS;

use crate::config::Capacities;
use crate::pin::Pins;

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
    /// The object is another build's.
    #[error("the eBPF object has no program {0}")]
    NoProgram(&'static str),
    /// The verifier refused a program.
    #[error("the kernel refused the program {hook}")]
    Refused {
        /// Which.
        hook: &'static str,
        /// The verifier's words.
        #[source]
        source: Box<ProgramError>,
    },
}

/// Loads every program, with tables pinned in (or taken from) the pins' directory.
pub(crate) fn load(object: &Path, pins: &Pins, capacities: &Capacities) -> Result<Ebpf, LoadError> {
    let bytes =
        std::fs::read(object).map_err(|source| LoadError::Object { path: object.to_owned(), source })?;
    let directory = pins.maps();
    let mut loader = EbpfLoader::new();
    for spec in &MAPS {
        if spec.pinned {
            loader.map_pin_path(spec.name, directory.join(spec.name));
        }
        if spec.sized_by_setting {
            loader.map_max_entries(spec.name, capacities.of_map(spec.name, spec.capacity));
        }
    }
    let mut ebpf = loader
        .load(&bytes)
        .map_err(|source| LoadError::Load { path: object.to_owned(), source: Box::new(source) })?;
    for hook in Hook::ALL {
        let name = hook.text();
        let program = ebpf.program_mut(name).ok_or(LoadError::NoProgram(name))?;
        let loaded = match program {
            Program::CgroupSockAddr(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => return Err(LoadError::NoProgram(name)),
        };
        loaded.map_err(|source| LoadError::Refused { hook: name, source: Box::new(source) })?;
    }
    Ok(ebpf)
}
