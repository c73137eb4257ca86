//! From the tables of another layout to this one's, while programs of both work: every row goes over, none is waited for.
//!
//! What the agent writes is brought over before any program is replaced; what the programs write is bridged by the programs
//! (`dataplane-ebpf/src/before.rs`) and swept up when all are. Rows go over as bytes, by the rule in the abi's `bridge.rs`:
//! as far as both layouts know them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{MapData, MapError};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use thiserror::Error;
use weft_dataplane_abi::bridge::{BRIDGES, SWEEP, SWEEP_ROWS, VALUE_BYTES_MAX};
use weft_dataplane_abi::flow_table::ROWS;
use weft_dataplane_abi::maps::{FLOWS, MAPS, MapKind, MapSpec};

use crate::flow_table::FlowTable;
use crate::{sys, test_run};

/// `BPF_ANY`: insert, or replace.
const ANY: u64 = 0;
/// `BPF_NOEXIST`: insert only where nothing is.
const NOEXIST: u64 = 1;
/// How long a bucket's lock may be waited for.
const HELD_MAX: Duration = Duration::from_secs(5);

/// Why rows did not go over. Until then the programs from before are in force, or bridge.
#[derive(Debug, Error)]
pub enum MigrateError {
    /// A table of one of the two layouts could not be opened.
    #[error("cannot open table {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
    /// The rows could not be read or written.
    #[error("cannot bring over the rows of table {name} from layout {layout}")]
    Copy {
        /// Which.
        name: &'static str,
        /// The other layout.
        layout: u32,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// The tables of another layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Before {
    /// Where they are pinned.
    pub(crate) directory: PathBuf,
    /// Its number.
    pub(crate) layout: u32,
    /// How many rows each holds.
    pub(crate) capacities: BTreeMap<&'static str, u32>,
}

/// A table as it is in the kernel.
struct Table {
    data: MapData,
    key_bytes: usize,
    value_bytes: usize,
    rows_max: u32,
    kind: u32,
}

impl Table {
    fn open(path: &Path) -> Result<Self, MigrateError> {
        let failed = |source| MigrateError::Open { path: path.to_owned(), source: Box::new(source) };
        let data = MapData::from_pin(path).map_err(failed)?;
        let info = data.info().map_err(failed)?;
        Ok(Self {
            key_bytes: info.key_size() as usize,
            value_bytes: info.value_size() as usize,
            rows_max: info.max_entries(),
            kind: info.map_type().map_err(failed)? as u32,
            data,
        })
    }
}

impl Before {
    /// Looks at the tables of another layout; `None` when their rows cannot go over, for they keep to another rule.
    pub(crate) fn inspect(directory: &Path, layout: u32) -> Result<Option<Self>, MigrateError> {
        let mut capacities = BTreeMap::new();
        for spec in MAPS.iter().filter(|spec| goes_over(spec)) {
            let path = directory.join(spec.name);
            if spec.name == FLOWS.name {
                let Ok(table) = FlowTable::open(&path) else { return Ok(None) };
                capacities.insert(spec.name, table.groups());
                continue;
            }
            let bridge = BRIDGES.iter().find(|bridge| bridge.table.name == spec.name);
            if !path.exists() {
                // The agent's own rows come again by and by; flows would not.
                if bridge.is_some() {
                    return Ok(None);
                }
                continue;
            }
            let table = Table::open(&path)?;
            let fits = bridge.is_none_or(|bridge| {
                (bridge.shared_bytes as usize..=VALUE_BYTES_MAX as usize).contains(&table.value_bytes)
            });
            if table.kind != spec.kind as u32 || table.key_bytes != spec.key_bytes as usize || !fits {
                return Ok(None);
            }
            capacities.insert(spec.name, table.rows_max);
        }
        Ok(Some(Self { directory: directory.to_owned(), layout, capacities }))
    }

    /// Brings over what the agent writes: nobody else does, and no program reads it yet. Says how many rows.
    pub(crate) fn bring_over(&self, to: &Path) -> Result<usize, MigrateError> {
        let by_programs = |spec: &MapSpec| spec.kind == MapKind::LruHash || spec.name == FLOWS.name;
        let own = MAPS.iter().filter(|spec| goes_over(spec) && !by_programs(spec));
        own.map(|spec| self.copy(spec, to, ANY)).sum()
    }

    /// Brings over what programs wrote and is not there yet, once all of them bridge. Says how many rows.
    pub(crate) fn sweep(&self, ebpf: &mut Ebpf, to: &Path) -> Result<usize, MigrateError> {
        let others =
            BRIDGES.iter().map(|bridge| self.copy(&bridge.table, to, NOEXIST)).sum::<Result<usize, _>>()?;
        let groups = self.capacities.get(FLOWS.name).copied().unwrap_or(0);
        let flows = sweep_flows(ebpf, groups.saturating_mul(ROWS as u32));
        Ok(others
            + flows.map_err(|source| MigrateError::Copy { name: FLOWS.name, layout: self.layout, source })?)
    }

    fn copy(&self, spec: &MapSpec, to: &Path, flags: u64) -> Result<usize, MigrateError> {
        if !self.capacities.contains_key(spec.name) {
            return Ok(0);
        }
        let old = Table::open(&self.directory.join(spec.name))?;
        let new = Table::open(&to.join(spec.name))?;
        let mut value = vec![0; new.value_bytes];
        let shared = old.value_bytes.min(new.value_bytes);
        let mut copied = 0;
        let put = |key: &[u8], row: &[u8]| {
            // Rows of an array are there always, and all zero when nobody has written them.
            if spec.kind == MapKind::Array && row.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            value[..shared].copy_from_slice(&row[..shared]);
            match sys::put_row(new.data.fd().as_fd(), key, &value, flags) {
                Err(error) if flags == NOEXIST && error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
                other => other.map(|()| copied += 1),
            }
        };
        sys::each_row(old.data.fd().as_fd(), old.key_bytes, old.value_bytes, put)
            .map_err(|source| MigrateError::Copy { name: spec.name, layout: self.layout, source })?;
        Ok(copied)
    }
}

/// Has the programs bring over so many rows of flows. Says how many were not there yet.
fn sweep_flows(ebpf: &mut Ebpf, rows: u32) -> io::Result<usize> {
    let program = ebpf.program_mut(SWEEP).ok_or(io::ErrorKind::NotFound)?;
    let program: &mut SchedClassifier = program.try_into().map_err(io::Error::other)?;
    let mut written = 0;
    for first in (0..rows).step_by(SWEEP_ROWS as usize) {
        let end = Instant::now() + HELD_MAX;
        loop {
            let mut options = TestRunOptions::new();
            let context = test_run::context(0, first);
            options.data_in = Some(&test_run::LEAST);
            options.ctx_in = Some(&context);
            let answer = program.test_run(options).map_err(io::Error::other)?.return_value;
            written += (answer & 0xffff) as usize;
            if answer >> 16 == 0 {
                break;
            }
            // A program holds a lock for some hundred nanoseconds, or for as long as something interrupts it.
            if Instant::now() >= end {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            thread::yield_now();
        }
    }
    Ok(written)
}

/// Whether a table's rows are worth anything to another layout: not those of the moment, nor what was counted.
fn goes_over(spec: &MapSpec) -> bool {
    match spec.kind {
        MapKind::Hash | MapKind::Array | MapKind::LpmTrie => true,
        MapKind::LruHash => BRIDGES.iter().any(|bridge| bridge.table.name == spec.name),
        MapKind::PerCpuArray | MapKind::RingBuf => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rows_go_over_but_fragments_counters_and_events() {
        let left: Vec<&str> = MAPS.iter().filter(|spec| !goes_over(spec)).map(|spec| spec.name).collect();
        assert_eq!(left, ["fragments", "events", "counters"]);
    }
}
