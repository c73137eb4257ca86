//! The rows of the map `backends`: whose each is, and the numbers that nobody has. A row's number is its place here.

use std::collections::{HashMap, VecDeque};

use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::backend::{BACKEND_READY, Backend};
use weft_dataplane_abi::order::Be16;

use crate::rows::{Place, ServiceRow};

/// The mirror of the map: rows in use, and of the others the generation they were left with.
#[derive(Debug, Default)]
pub(super) struct Backends {
    /// Row 0 is nobody's.
    rows: Vec<Held>,
    /// Numbers given back, the longest unused first.
    free: VecDeque<u32>,
    /// Rows the map has.
    capacity: usize,
}

/// One row, and the number of the Service row that has it; 0 for none.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    service_id: u32,
    row: Backend,
}

impl Backends {
    /// As the kernel has them; `generations` are those of all rows ever used.
    pub(super) fn adopt<'a>(
        capacity: u32,
        kernel: &HashMap<u32, Backend>,
        generations: &HashMap<u32, u32>,
        services: impl Iterator<Item = &'a ServiceRow>,
    ) -> Self {
        let last = kernel.keys().chain(generations.keys()).max().map_or(0, |id| *id as usize);
        let mut rows = vec![Held::default(); last + 1];
        for (id, generation) in generations {
            rows[*id as usize].row.generation = *generation;
        }
        for service in services {
            for id in &service.backends {
                // A row that two Service rows share by mistake stays the first one's; the other takes a new one.
                if let Some(row) = kernel.get(id)
                    && rows[*id as usize].service_id == 0
                {
                    rows[*id as usize] = Held { service_id: service.value.id, row: *row };
                }
            }
        }
        let free = (1..).zip(rows.iter().skip(1)).filter(|(_, held)| held.service_id == 0);
        let free = free.map(|(id, _)| id).collect();
        Self { rows, free, capacity: capacity as usize }
    }

    /// How many rows nobody has.
    pub(super) fn left(&self) -> usize {
        self.capacity.saturating_sub(self.rows.len().max(1)) + self.free.len()
    }

    /// How many somebody has.
    pub(super) fn used(&self) -> usize {
        self.rows.len().saturating_sub(1 + self.free.len())
    }

    /// The rows of a Service row, by what they lead to.
    pub(super) fn of<'a>(
        &'a self,
        service: &'a ServiceRow,
    ) -> impl Iterator<Item = (u32, Backend)> + use<'a> {
        let held = service.backends.iter().filter_map(|id| Some((*id, self.rows.get(*id as usize)?)));
        held.filter(|(_, held)| held.service_id == service.value.id).map(|(id, held)| (id, held.row))
    }

    /// What a row in use leads to.
    pub(super) fn place(&self, id: u32) -> Option<Place> {
        self.rows.get(id as usize).filter(|held| held.service_id != 0).map(|held| place(&held.row))
    }

    /// Gives a Service row a row for this place; none when all are in use.
    pub(super) fn take(
        &mut self,
        service_id: u32,
        place: Place,
        protocol: u8,
        node_index: u32,
    ) -> Option<u32> {
        let id = if self.rows.len().max(1) < self.capacity {
            // The first is nobody's, and is there before any other.
            self.rows.resize(self.rows.len().max(1) + 1, Held::default());
            self.rows.len() as u32 - 1
        } else {
            self.free.pop_front()?
        };
        let held = self.rows.get_mut(id as usize)?;
        let row = Backend {
            address: Address::from(place.ip),
            port: Be16::new(place.port),
            flags: BACKEND_READY,
            generation: held.row.generation.wrapping_add(1),
            node_index,
            protocol: u32::from(protocol),
        };
        *held = Held { service_id, row };
        Some(id)
    }

    /// Takes a row back. Whoever remembers it is told by the generation.
    pub(super) fn release(&mut self, id: u32) {
        let Some(held) = self.rows.get_mut(id as usize) else { return };
        let generation = held.row.generation.wrapping_add(1);
        *held = Held { service_id: 0, row: Backend { generation, ..Backend::default() } };
        self.free.push_back(id);
    }
}

/// What a row leads to.
pub(super) fn place(row: &Backend) -> Place {
    Place { ip: row.address.ip(), port: row.port.get() }
}
