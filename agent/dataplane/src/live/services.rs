//! Services as the tables hold them.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;

use aya::maps::{Array, HashMap, MapData, MapError};
use weft_dataplane_abi::backend::{BACKEND_READY, Backend as BackendRow, Slot, SlotKey};
use weft_dataplane_abi::maps;
use weft_dataplane_abi::service::{SCOPE_INSIDE, SCOPE_NODE, SERVICE_LOCAL, Service, ServiceKey};
use zerocopy::FromBytes as _;

use super::Table;
use crate::inspect;
use crate::tables::{self, Row, TableError};

/// One backend of a Service row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where it is.
    pub address: SocketAddr,
    /// It takes new flows.
    pub ready: bool,
}

/// One row: a port of a Service at one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    /// Its address; unspecified, of its family, for a port of every node.
    pub address: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// A port of every node.
    pub node_port: bool,
    /// What those inside the cluster get there, when the policy `Local` is for the outside only.
    pub inside: bool,
    /// The policy is `Local`: only backends of this node.
    pub local: bool,
    /// Number of the row.
    pub id: u32,
    /// How many backends it has.
    pub backend_count: u32,
    /// Session affinity, seconds; 0 for none.
    pub affinity_seconds: u32,
    /// Its backends; empty when they were not asked for.
    pub backends: Vec<Backend>,
}

/// Gives Service rows until the taker has enough; `wanted` says whose backends are read, too.
///
/// # Errors
/// A table cannot be read.
pub fn frontends(
    maps: &Path,
    wanted: impl Fn(&Frontend) -> bool,
    mut take: impl FnMut(Frontend) -> ControlFlow<()>,
) -> Result<(), TableError> {
    let slots: HashMap<MapData, Row<SlotKey>, Row<Slot>> = tables::open(maps, &maps::SLOTS)?;
    let backends: Array<MapData, Row<BackendRow>> = tables::open(maps, &maps::BACKENDS)?;
    let Some(table) = Table::open(maps, maps::SERVICES.name)? else { return Ok(()) };
    let mut failed = None;
    table.rows(|key, value| {
        let (Ok(key), Ok(row)) = (ServiceKey::read_from_bytes(key), Service::read_from_bytes(value)) else {
            return ControlFlow::Continue(());
        };
        let mut frontend = frontend(&key, &row);
        if wanted(&frontend) {
            match of_row(&slots, &backends, &row) {
                Ok(found) => frontend.backends = found,
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
        }
        take(frontend)
    })?;
    failed.map_or(Ok(()), Err)
}

fn frontend(key: &ServiceKey, row: &Service) -> Frontend {
    let node_port = key.scope & SCOPE_NODE != 0;
    Frontend {
        address: SocketAddr::new(inspect::front(key), key.port.get()),
        protocol: key.protocol,
        node_port,
        inside: key.scope & SCOPE_INSIDE != 0,
        local: row.flags & SERVICE_LOCAL != 0,
        id: row.id,
        backend_count: row.backend_count,
        affinity_seconds: row.affinity_seconds,
        backends: Vec::new(),
    }
}

fn of_row(
    slots: &HashMap<MapData, Row<SlotKey>, Row<Slot>>,
    backends: &Array<MapData, Row<BackendRow>>,
    row: &Service,
) -> Result<Vec<Backend>, TableError> {
    let reading = |name| move |source| TableError::Read { name, source: Box::new(source) };
    let mut found = Vec::new();
    for index in 0..row.backend_count {
        let slot = match slots.get(&Row(SlotKey { service_id: row.id, index }), 0) {
            Ok(slot) => slot.0,
            // The list shrank meanwhile.
            Err(MapError::KeyNotFound) => break,
            Err(error) => return Err(reading(maps::SLOTS.name)(error)),
        };
        let backend = backends.get(&slot.backend_id, 0).map_err(reading(maps::BACKENDS.name))?.0;
        found.push(Backend {
            address: SocketAddr::new(backend.address.ip(), backend.port.get()),
            ready: backend.flags & BACKEND_READY != 0,
        });
    }
    Ok(found)
}
