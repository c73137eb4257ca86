//! Properties of the diff: applied, it gives the new rows, and no step of it leaves a reader with nothing to hold on to.

use std::collections::{HashMap, HashSet};

use proptest::collection::{hash_map, hash_set, vec};
use proptest::prelude::*;
use weft_dataplane_abi::backend::BACKEND_READY;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::service::SERVICE_SOURCES;

use super::*;

/// The kernel's side: maps that know nothing of each other.
#[derive(Default)]
struct Kernel {
    services: HashMap<ServiceKey, Service>,
    slots: HashMap<SlotKey, u32>,
    sources: HashSet<SourceKey>,
    backends: HashMap<u32, Backend>,
    choices: HashMap<(u32, usize), Vec<u32>>,
    routes: HashMap<RouteKey, Route>,
}

impl Kernel {
    fn apply(&mut self, write: Write) {
        match write {
            Write::PutBackend(id, row) => drop(self.backends.insert(id, row)),
            Write::PutSlot(key, id) => drop(self.slots.insert(key, id)),
            Write::RemoveSlot(key) => drop(self.slots.remove(&key)),
            Write::PutSource(key) => drop(self.sources.insert(key)),
            Write::RemoveSource(key) => drop(self.sources.remove(&key)),
            Write::PutChoices(id, row) => drop(self.choices.insert((id, row.len()), row.to_vec())),
            Write::RemoveChoices(id, places) => drop(self.choices.remove(&(id, places))),
            Write::PutService(key, row) => drop(self.services.insert(key, row)),
            Write::RemoveService(key) => drop(self.services.remove(&key)),
            Write::PutRoute(key, row) => drop(self.routes.insert(key, row)),
            Write::RemoveRoute(key) => drop(self.routes.remove(&key)),
            _ => {}
        }
    }

    /// What a program that picks any slot of any Service would find.
    fn every_slot_has_a_ready_backend(&self) -> bool {
        self.services.values().all(|service| {
            (0..service.backend_count).all(|index| {
                let slot = self.slots.get(&SlotKey { service_id: service.id, index });
                slot.and_then(|id| self.backends.get(id)).is_some_and(|row| row.flags & BACKEND_READY != 0)
            })
        })
    }

    /// Who is let in by ranges meets some at any time.
    fn every_guarded_service_has_ranges(&self) -> bool {
        let guarded = self.services.values().filter(|service| service.flags & SERVICE_SOURCES != 0);
        guarded.map(|service| service.id).all(|id| self.sources.iter().any(|key| key.range.service_id == id))
    }

    /// What a program finds for any flow from outside: a backend of the Service, or one that is just going.
    fn every_table_is_there(&self) -> bool {
        self.services.values().filter(|service| choices::places(service.flags) > 0).all(|service| {
            let row = self.choices.get(&(service.id, choices::places(service.flags)));
            row.is_some_and(|row| row.iter().all(|id| *id != 0 && self.backends.contains_key(id)))
        })
    }

    fn ready(&self) -> HashMap<u32, Backend> {
        self.backends
            .iter()
            .filter(|(_, row)| row.flags & BACKEND_READY != 0)
            .map(|(k, v)| (*k, *v))
            .collect()
    }
}

fn backend(id: u32) -> Backend {
    Backend {
        port: Be16::new(80),
        flags: BACKEND_READY,
        generation: 1,
        node_index: id % 3,
        ..Backend::default()
    }
}

fn rows() -> impl Strategy<Value = Rows> {
    let services = hash_map(0_u16..6, (vec(1_u32..9, 0..6), 0_u32..2, hash_set(96_u32..128, 0..3)), 0..5);
    let routes = hash_map(0_u32..8, 1_u32..4, 0..6);
    (services, routes).prop_map(|(services, routes)| {
        let mut rows = Rows::default();
        for (port, (backends, affinity_seconds, bits)) in services {
            let key = ServiceKey { port: Be16::new(port), protocol: 6, ..ServiceKey::default() };
            rows.backends.extend(backends.iter().map(|id| (*id, backend(*id))));
            let backend_count = u32::try_from(backends.len()).expect("few");
            let outside = if port % 2 == 0 { choices::flags(backends.len()) } else { 0 };
            let flags = outside | if bits.is_empty() { 0 } else { SERVICE_SOURCES };
            let source = |prefix_bits| RouteKey { prefix_bits, ..RouteKey::default() };
            let sources = bits.into_iter().map(source).collect();
            let value = Service { id: u32::from(port) + 1, backend_count, flags, affinity_seconds };
            rows.services.insert(key, ServiceRow { value, backends, sources, filled: true });
        }
        for (bits, kind) in routes {
            let key = RouteKey { prefix_bits: bits, ..RouteKey::default() };
            rows.routes.insert(key, Route { kind, ..Route::default() });
        }
        rows
    })
}

proptest! {
    #[test]
    fn the_writes_lead_to_the_new_rows_and_every_step_is_safe(old in rows(), new in rows()) {
        let mut kernel = Kernel::default();
        for write in diff(&Rows::default(), &old) {
            kernel.apply(write);
            prop_assert!(kernel.every_slot_has_a_ready_backend() && kernel.every_table_is_there());
        }
        for write in diff(&old, &new) {
            let said = format!("{write:?}");
            kernel.apply(write);
            prop_assert!(kernel.every_slot_has_a_ready_backend(), "after {said}");
            prop_assert!(kernel.every_table_is_there(), "after {said}");
            prop_assert!(kernel.every_guarded_service_has_ranges(), "after {said}");
        }
        let mut full = Kernel::default();
        for write in diff(&Rows::default(), &new) {
            full.apply(write);
        }
        prop_assert_eq!(&kernel.services, &full.services);
        prop_assert_eq!(&kernel.slots, &full.slots);
        prop_assert_eq!(&kernel.choices, &full.choices);
        prop_assert_eq!(&kernel.sources, &full.sources);
        prop_assert_eq!(&kernel.routes, &full.routes);
        prop_assert_eq!(kernel.ready(), full.ready());
    }

    #[test]
    fn a_table_that_may_not_be_filled_is_filled(rows in rows()) {
        let mut old = rows.clone();
        old.services.values_mut().for_each(|row| row.filled = false);
        let tables = rows.services.values().filter(|row| choices::places(row.value.flags) > 0).count();
        let writes = diff(&old, &rows);
        prop_assert_eq!(writes.len(), tables);
        prop_assert!(writes.iter().all(|write| matches!(write, Write::PutChoices(..))));
    }

    #[test]
    fn the_same_rows_need_no_write(rows in rows()) {
        prop_assert!(diff(&rows, &rows).is_empty());
    }
}
