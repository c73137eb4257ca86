//! The kernel's tables: rows written, many at once where they are many, all read back. Decides nothing; order and content are the caller's.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::mem::discriminant;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap as KernelHash, Map, MapData, MapError, PerCpuArray};
use thiserror::Error;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::backend::{BACKEND_READY, Backend, Slot, SlotKey};
use weft_dataplane_abi::choice::PLACES;
use weft_dataplane_abi::config::Config as ConfigRow;
use weft_dataplane_abi::conntrack::{Flow, Tuple};
use weft_dataplane_abi::endpoint::{Endpoint, Netns};
use weft_dataplane_abi::maps;
use weft_dataplane_abi::route::{Node, Route, RouteKey};
use weft_dataplane_abi::service::{SOURCE_KEY_BITS, Service, ServiceKey, Source, SourceKey, SourceRange};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::diff::Write;
use crate::flow_table::FlowTable;
use crate::rows::{Rows, ServiceRow};
use crate::sys;

/// Fewer rows are written one by one.
const BATCH_ROWS_MIN: usize = 4;
/// Most rows that are written at once.
const BATCH_ROWS_MAX: usize = 4_096;

/// Why the kernel's tables could not be opened, read or written.
#[derive(Debug, Error)]
pub enum TableError {
    /// A table could not be opened from its pin.
    #[error("cannot open table {name}")]
    Open {
        /// Which.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
    /// A row could not be written or removed.
    #[error("cannot write a row of table {name}")]
    Write {
        /// Which.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
    /// Rows could not be read, many at once.
    #[error("cannot read all of table {name}")]
    Batch {
        /// Which.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// Rows could not be read.
    #[error("cannot read table {name}")]
    Read {
        /// Which.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
}

/// A row as aya takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub(crate) struct Row<T>(pub(crate) T);

// SAFETY: the wrapper is transparent, and zerocopy proves that every bit pattern of `T` is a value and that it has no
// padding.
unsafe impl<T: Copy + FromBytes + IntoBytes + 'static> aya::Pod for Row<T> {}

type Hash<K, V> = KernelHash<MapData, Row<K>, Row<V>>;

/// Open tables of one set of pins.
pub(crate) struct Tables {
    config: Array<MapData, Row<ConfigRow>>,
    services: Hash<ServiceKey, Service>,
    slots: Hash<SlotKey, Slot>,
    /// Written as bytes, as the next: their values are large.
    choices: MapData,
    choices_many: MapData,
    sources: LpmTrie<MapData, Row<SourceRange>, Row<Source>>,
    backends: Array<MapData, Row<Backend>>,
    /// The same tables again: what reads or writes many rows at once needs their descriptors.
    services_data: MapData,
    slots_data: MapData,
    backends_data: MapData,
    endpoints: Hash<Address, Endpoint>,
    routes: LpmTrie<MapData, Row<Address>, Row<Route>>,
    nodes: Hash<Address, Node>,
    netns: Hash<u64, Netns>,
    /// Mapped while it is read: its pages count as the agent's memory for as long.
    flows: MapData,
    counters: PerCpuArray<MapData, u64>,
}

/// Opens one table as the kernel has it.
pub(crate) fn open_data(directory: &Path, spec: &maps::MapSpec) -> Result<MapData, TableError> {
    MapData::from_pin(directory.join(spec.name))
        .map_err(|source| TableError::Open { name: spec.name, source: Box::new(source) })
}

/// Opens one table and gives it its type.
pub(crate) fn open<T: TryFrom<Map, Error = MapError>>(
    directory: &Path,
    spec: &maps::MapSpec,
) -> Result<T, TableError> {
    let failed = |source| TableError::Open { name: spec.name, source: Box::new(source) };
    let data = open_data(directory, spec)?;
    T::try_from(Map::from_map_data(data).map_err(failed)?).map_err(failed)
}

/// Opens the table of flows.
pub(crate) fn flows(directory: &Path) -> Result<FlowTable, TableError> {
    FlowTable::open(&directory.join(maps::FLOWS.name))
        .map_err(|source| TableError::Batch { name: maps::FLOWS.name, source })
}

/// Names the table that a write failed for.
pub(crate) fn writing(name: &'static str) -> impl FnOnce(MapError) -> TableError {
    move |source| TableError::Write { name, source: Box::new(source) }
}

fn reading(name: &'static str) -> impl FnOnce(MapError) -> TableError {
    move |source| TableError::Read { name, source: Box::new(source) }
}

/// Removing what is not there leaves it as it is wanted.
pub(crate) fn removed(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

impl Tables {
    /// Opens all tables pinned in a directory.
    pub(crate) fn open(directory: &Path) -> Result<Self, TableError> {
        Ok(Self {
            config: open(directory, &maps::CONFIG)?,
            services: open(directory, &maps::SERVICES)?,
            slots: open(directory, &maps::SLOTS)?,
            choices: open_data(directory, &maps::CHOICES)?,
            choices_many: open_data(directory, &maps::CHOICES_MANY)?,
            sources: open(directory, &maps::SOURCES)?,
            backends: open(directory, &maps::BACKENDS)?,
            services_data: open_data(directory, &maps::SERVICES)?,
            slots_data: open_data(directory, &maps::SLOTS)?,
            backends_data: open_data(directory, &maps::BACKENDS)?,
            endpoints: open(directory, &maps::ENDPOINTS)?,
            routes: open(directory, &maps::ROUTES)?,
            nodes: open(directory, &maps::NODES)?,
            netns: open(directory, &maps::NETNS)?,
            flows: open_data(directory, &maps::FLOWS)?,
            counters: open(directory, &maps::COUNTERS_MAP)?,
        })
    }

    /// Makes writes in their order; rows of one table that follow each other by few system calls.
    pub(crate) fn write(&mut self, writes: &[Write]) -> Result<(), TableError> {
        for alike in writes.chunk_by(|a, b| discriminant(a) == discriminant(b)) {
            for some in alike.chunks(BATCH_ROWS_MAX) {
                let done = if some.len() < BATCH_ROWS_MIN { 0 } else { self.write_alike(some) };
                some[done..].iter().try_for_each(|write| self.write_one(write))?;
            }
        }
        Ok(())
    }

    /// Makes as many of a table's writes as the kernel takes at once; answers how many, from the first.
    fn write_alike(&self, writes: &[Write]) -> usize {
        match writes[0] {
            Write::PutBackend(..) => {
                let rows = writes.iter().filter_map(|write| match write {
                    Write::PutBackend(id, row) => Some((*id, *row)),
                    _ => None,
                });
                put_rows(&self.backends_data, rows)
            }
            Write::PutSlot(..) => {
                let rows = writes.iter().filter_map(|write| match write {
                    Write::PutSlot(key, id) => Some((*key, slot(*id))),
                    _ => None,
                });
                put_rows(&self.slots_data, rows)
            }
            Write::PutService(..) => {
                let rows = writes.iter().filter_map(|write| match write {
                    Write::PutService(key, row) => Some((*key, *row)),
                    _ => None,
                });
                put_rows(&self.services_data, rows)
            }
            _ => 0,
        }
    }

    fn write_one(&mut self, write: &Write) -> Result<(), TableError> {
        match write.clone() {
            Write::PutBackend(id, row) => self.backends.set(id, Row(row), 0).map_err(writing("backends")),
            Write::PutSlot(key, backend_id) => {
                self.slots.insert(Row(key), Row(slot(backend_id)), 0).map_err(writing("slots"))
            }
            Write::RemoveSlot(key) => removed(self.slots.remove(&Row(key))).map_err(writing("slots")),
            Write::PutSource(key) => self
                .sources
                .insert(&source_trie_key(key), Row(Source { allowed: 1 }), 0)
                .map_err(writing("sources")),
            Write::RemoveSource(key) => {
                removed(self.sources.remove(&source_trie_key(key))).map_err(writing("sources"))
            }
            Write::PutChoices(id, ids) => {
                let (spec, table) = self.choices_of(ids.len());
                sys::put_row(table, id.as_bytes(), ids.as_bytes(), 0)
                    .map_err(|source| TableError::Batch { name: spec.name, source })
            }
            Write::RemoveChoices(id, places) => {
                let (spec, table) = self.choices_of(places);
                sys::remove_row(table, id.as_bytes())
                    .map_err(|source| TableError::Batch { name: spec.name, source })
            }
            Write::PutService(key, row) => {
                self.services.insert(Row(key), Row(row), 0).map_err(writing("services"))
            }
            Write::RemoveService(key) => {
                removed(self.services.remove(&Row(key))).map_err(writing("services"))
            }
            Write::PutRoute(key, row) => {
                self.routes.insert(&trie_key(key), Row(row), 0).map_err(writing("routes"))
            }
            Write::RemoveRoute(key) => removed(self.routes.remove(&trie_key(key))).map_err(writing("routes")),
            Write::PutNode(key, row) => self.nodes.insert(Row(key), Row(row), 0).map_err(writing("nodes")),
            Write::RemoveNode(key) => removed(self.nodes.remove(&Row(key))).map_err(writing("nodes")),
            Write::PutEndpoint(key, row) => {
                self.endpoints.insert(Row(key), Row(row), 0).map_err(writing("endpoints"))
            }
            Write::RemoveEndpoint(key) => {
                removed(self.endpoints.remove(&Row(key))).map_err(writing("endpoints"))
            }
            Write::PutNetns(key, row) => self.netns.insert(Row(key), Row(row), 0).map_err(writing("netns")),
            Write::RemoveNetns(key) => removed(self.netns.remove(&Row(key))).map_err(writing("netns")),
        }
    }

    /// The table of choices with so many places.
    fn choices_of(&self, places: usize) -> (maps::MapSpec, BorrowedFd<'_>) {
        match places {
            PLACES => (maps::CHOICES, self.choices.fd().as_fd()),
            _ => (maps::CHOICES_MANY, self.choices_many.fd().as_fd()),
        }
    }

    /// Writes the row of settings.
    pub(crate) fn set_config(&mut self, row: ConfigRow) -> Result<(), TableError> {
        self.config.set(0, Row(row), 0).map_err(writing("config"))
    }

    /// The epoch of the ways kept with flows; 0 before the settings were ever written.
    pub(crate) fn epoch(&self) -> Result<u32, TableError> {
        Ok(self.config.get(&0, 0).map_err(reading("config"))?.0.epoch)
    }

    /// Everything the tables hold, and the generation of every backend row ever used.
    pub(crate) fn read(&self) -> Result<(Rows, HashMap<u32, u32>), TableError> {
        let mut rows = Rows::default();
        let mut generations = HashMap::new();
        let failed = |source| TableError::Batch { name: "backends", source };
        let backends: Vec<Backend> =
            sys::array_rows(self.backends_data.fd().as_fd(), self.backends.len()).map_err(failed)?;
        for (id, row) in (0..).zip(backends) {
            if row.generation != 0 {
                generations.insert(id, row.generation);
            }
            if row.flags & BACKEND_READY != 0 {
                rows.backends.insert(id, row);
            }
        }
        let mut sources = self.read_sources()?;
        for entry in self.services.iter() {
            let (key, value) = entry.map_err(reading("services"))?;
            let mut backends = Vec::new();
            for index in 0..value.0.backend_count {
                match self.slots.get(&Row(SlotKey { service_id: value.0.id, index }), 0) {
                    Ok(slot) => backends.push(slot.0.backend_id),
                    Err(MapError::KeyNotFound) => break,
                    Err(error) => return Err(reading("slots")(error)),
                }
            }
            let sources = sources.remove(&value.0.id).unwrap_or_default().into();
            rows.services.insert(key.0, ServiceRow { value: value.0, backends, sources, filled: false });
        }
        for entry in self.routes.iter() {
            let (key, value) = entry.map_err(reading("routes"))?;
            rows.routes.insert(RouteKey { prefix_bits: key.prefix_len(), address: key.data().0 }, value.0);
        }
        let local = self.read_local()?;
        rows.nodes = local.nodes;
        rows.endpoints = local.endpoints;
        rows.netns = local.netns;
        Ok((rows, generations))
    }

    /// The ranges of sources of each Service row, by its number.
    fn read_sources(&self) -> Result<HashMap<u32, Vec<RouteKey>>, TableError> {
        let mut sources: HashMap<u32, Vec<RouteKey>> = HashMap::new();
        for entry in self.sources.iter() {
            let (key, _) = entry.map_err(reading("sources"))?;
            let (bits, range) = (key.prefix_len(), key.data().0);
            let prefix_bits = bits.saturating_sub(SOURCE_KEY_BITS);
            sources
                .entry(range.service_id)
                .or_default()
                .push(RouteKey { prefix_bits, address: range.address });
        }
        Ok(sources)
    }

    /// Rows of nodes, Pods and namespaces only.
    pub(crate) fn read_local(&self) -> Result<Rows, TableError> {
        Ok(Rows {
            nodes: all(&self.nodes, "nodes")?,
            endpoints: all(&self.endpoints, "endpoints")?,
            netns: all(&self.netns, "netns")?,
            ..Rows::default()
        })
    }

    /// Tracked flows, at most so many.
    pub(crate) fn flows(&self, rows_max: usize) -> Result<Vec<(Tuple, Flow)>, TableError> {
        let table = FlowTable::of(&self.flows)
            .map_err(|source| TableError::Batch { name: maps::FLOWS.name, source })?;
        Ok(table.rows().take(rows_max).collect())
    }

    /// A counter, summed over the CPUs.
    pub(crate) fn counter(&self, row: u32) -> Result<u64, TableError> {
        let values = self.counters.get(&row, 0).map_err(reading("counters"))?;
        Ok(values.iter().fold(0, |sum, value| sum.wrapping_add(*value)))
    }
}

fn put_rows<K: IntoBytes + Immutable, V: IntoBytes + Immutable>(
    table: &MapData,
    rows: impl Iterator<Item = (K, V)>,
) -> usize {
    let (keys, values): (Vec<K>, Vec<V>) = rows.unzip();
    sys::put_rows(table.fd().as_fd(), &keys, &values)
}

fn slot(backend_id: u32) -> Slot {
    Slot {
        backend_id,
        #[cfg(feature = "other-layout")]
        other: 0,
    }
}

fn trie_key(key: RouteKey) -> Key<Row<Address>> {
    Key::new(key.prefix_bits, Row(key.address))
}

fn source_trie_key(key: SourceKey) -> Key<Row<SourceRange>> {
    Key::new(key.prefix_bits, Row(key.range))
}

fn all<K, V>(table: &Hash<K, V>, name: &'static str) -> Result<HashMap<K, V>, TableError>
where
    K: Copy + Eq + std::hash::Hash + FromBytes + IntoBytes + 'static,
    V: Copy + FromBytes + IntoBytes + 'static,
{
    Ok(first(table, name, usize::MAX)?.into_iter().collect())
}

fn first<K, V>(table: &Hash<K, V>, name: &'static str, rows_max: usize) -> Result<Vec<(K, V)>, TableError>
where
    K: Copy + FromBytes + IntoBytes + 'static,
    V: Copy + FromBytes + IntoBytes + 'static,
{
    let mut rows = Vec::new();
    for entry in table.iter().take(rows_max) {
        match entry {
            Ok((key, value)) => rows.push((key.0, value.0)),
            // A row that went while it was read.
            Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(reading(name)(error)),
        }
    }
    Ok(rows)
}
