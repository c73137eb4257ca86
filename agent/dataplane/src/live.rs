//! The live tables, read where they are pinned: a batch of rows at a time, whatever their number, and without the thread that
//! writes them. Reads only.

mod decode;
mod flows;
mod owners;
mod services;

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::Path;

use aya::maps::MapData;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_dataplane_abi::flow_table::{Group, ROWS, Row};
use weft_dataplane_abi::maps::{FLOWS, MAPS, MapKind, MapSpec};
use zerocopy::{FromBytes as _, IntoBytes as _};

pub use flows::{Connected, Flows, Tracked, connected};
pub use owners::{Owner, Share};
pub use services::{Backend, Frontend, frontends};

use crate::sys;
use crate::tables::TableError;

/// Gives every row of a table as bytes: key, value.
///
/// # Errors
/// The kernel refuses, or the table has no rows that could be read (a ring).
pub fn each_row(table: BorrowedFd<'_>, spec: &MapSpec, mut take: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
    rows(table, spec, |key, value| {
        take(key, value);
        ControlFlow::Continue(())
    })
}

/// The same, until the taker has enough.
fn rows(
    table: BorrowedFd<'_>,
    spec: &MapSpec,
    mut take: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut enough = false;
    let mut give = |key: &[u8], value: &[u8]| match take(key, value) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => {
            enough = true;
            Err(io::ErrorKind::Interrupted.into())
        }
    };
    let read = sys::each_row(table, spec.key_bytes as usize, value_bytes(spec)?, |key, value| {
        if !is_flows(spec) {
            return give(key, value);
        }
        // Each value is a group of buckets of rows.
        let Ok(group) = Group::ref_from_bytes(value) else { return Ok(()) };
        let tags = group.heads.iter().flat_map(|head| &head.tags);
        let rows = tags.zip(group.rows.iter().flatten()).filter(|(tag, _)| **tag != 0);
        rows.map(|(_, row)| row).try_for_each(|row| give(row.key.as_bytes(), row.flow.as_bytes()))
    });
    if enough { Ok(()) } else { read }
}

/// Bytes of a value as the kernel gives it: a word for each possible CPU where each has one.
fn value_bytes(spec: &MapSpec) -> io::Result<usize> {
    if spec.kind != MapKind::PerCpuArray {
        return Ok(spec.value_bytes as usize);
    }
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    Ok((spec.value_bytes as usize).next_multiple_of(8) * cpus)
}

/// A row in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decoded {
    /// Its key: an object of named fields.
    pub key: Value,
    /// Its value, the same.
    pub value: Value,
}

/// What there is to say of a table without its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Its name.
    pub name: String,
    /// Its kind, as the kernel calls it.
    pub kind: String,
    /// Rows in use; none where there are no rows (a ring).
    pub rows: Option<u64>,
    /// Rows it holds; bytes for a ring.
    pub capacity: u64,
    /// Bytes of one row, key and value.
    pub row_bytes: u64,
    /// Kernel memory it takes now.
    pub memory_bytes: u64,
    /// What happens when it is full.
    pub when_full: String,
}

/// A table that is open to read.
pub struct Table {
    spec: &'static MapSpec,
    data: MapData,
}

impl Table {
    /// Names of all tables.
    pub fn names() -> impl Iterator<Item = &'static str> {
        MAPS.iter().map(|spec| spec.name)
    }

    /// Opens a table below a directory of pins; none when there is no such table in this build.
    ///
    /// # Errors
    /// It is not pinned there.
    pub fn open(maps: &Path, name: &str) -> Result<Option<Self>, TableError> {
        let Some(spec) = MAPS.iter().find(|spec| spec.name == name) else { return Ok(None) };
        let data = MapData::from_pin(maps.join(spec.name))
            .map_err(|source| TableError::Open { name: spec.name, source: Box::new(source) })?;
        Ok(Some(Self { spec, data }))
    }

    /// Whether it has rows; a ring has none.
    #[must_use]
    pub fn has_rows(&self) -> bool {
        self.spec.kind != MapKind::RingBuf
    }

    /// Gives rows in words until the taker has enough. Rows of arrays that hold nothing are passed over.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn decoded(&self, mut take: impl FnMut(Decoded) -> ControlFlow<()>) -> Result<(), TableError> {
        self.rows(|key, value| match decode::row(self.spec.name, key, value) {
            Some(row) => take(row),
            None => ControlFlow::Continue(()),
        })
    }

    /// Gives every row as bytes: key, value.
    ///
    /// # Errors
    /// The kernel refuses, or it has no rows.
    pub fn bytes(&self, mut take: impl FnMut(&[u8], &[u8])) -> Result<(), TableError> {
        self.rows(|key, value| {
            take(key, value);
            ControlFlow::Continue(())
        })
    }

    /// What there is to say of it. Rows are counted by reading them.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn overview(&self) -> Result<Overview, TableError> {
        let spec = self.spec;
        let info = self
            .data
            .info()
            .map_err(|source| TableError::Read { name: spec.name, source: Box::new(source) })?;
        let mut count = 0;
        if self.has_rows() {
            self.rows(|_, value| {
                let there = is_flows(spec) || !is_array(spec) || value.iter().any(|byte| *byte != 0);
                count += u64::from(there);
                ControlFlow::Continue(())
            })?;
        }
        Ok(Overview {
            name: spec.name.to_owned(),
            kind: kind(spec.kind).to_owned(),
            rows: self.has_rows().then_some(count),
            capacity: u64::from(info.max_entries()) * if is_flows(spec) { ROWS as u64 } else { 1 },
            row_bytes: match is_flows(spec) {
                true => size_of::<Row>() as u64,
                false => u64::from(spec.key_bytes + spec.value_bytes),
            },
            memory_bytes: memory_bytes(&self.data).map_err(self.batch())?,
            when_full: when_full(spec).to_owned(),
        })
    }

    /// Who has most of its rows, the largest first; none for a table that has no owners to tell apart.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn owners(&self) -> Result<Vec<Share>, TableError> {
        let mut tally = owners::Tally::default();
        if self.has_rows() {
            self.rows(|key, value| {
                if let Some(owner) = owners::owner(self.spec.name, key, value) {
                    tally.add(owner);
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(tally.shares())
    }

    fn rows(&self, take: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>) -> Result<(), TableError> {
        rows(self.data.fd().as_fd(), self.spec, take).map_err(self.batch())
    }

    fn batch(&self) -> impl FnOnce(io::Error) -> TableError {
        let name = self.spec.name;
        move |source| TableError::Batch { name, source }
    }
}

/// Whether it is the table of flows, whose values are buckets.
fn is_flows(spec: &MapSpec) -> bool {
    spec.name == FLOWS.name
}

const fn is_array(spec: &MapSpec) -> bool {
    matches!(spec.kind, MapKind::Array | MapKind::PerCpuArray)
}

const fn kind(kind: MapKind) -> &'static str {
    match kind {
        MapKind::Hash => "hash",
        MapKind::Array => "array",
        MapKind::PerCpuArray => "percpu_array",
        MapKind::LruHash => "lru_hash",
        MapKind::LpmTrie => "lpm_trie",
        MapKind::RingBuf => "ringbuf",
    }
}

fn when_full(spec: &MapSpec) -> &'static str {
    match (spec.kind, spec.name) {
        (_, "flows") => "flows not seen for longest go",
        (MapKind::LruHash, _) => "rows not used for long go",
        (MapKind::RingBuf, _) => "events are lost, and counted",
        (_, "services" | "slots" | "sources" | "choices" | "choices_many" | "backends") => {
            "the Service is refused, and said"
        }
        (_, "endpoints" | "netns") => "the Pod is refused, and said",
        (_, "routes" | "nodes") => "the node is refused, and said",
        _ => "has one row for each number it can have",
    }
}

/// Kernel memory of a table, as its descriptor tells it.
fn memory_bytes(data: &MapData) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(line.and_then(|line| line.trim().parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_says_what_happens_when_it_is_full() {
        for spec in &MAPS {
            assert!(!when_full(spec).is_empty() && !kind(spec.kind).is_empty());
            let sized = when_full(spec) != "has one row for each number it can have";
            assert_eq!(sized, spec.sized_by_setting, "{}", spec.name);
        }
    }
}
