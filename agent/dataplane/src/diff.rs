//! From one set of rows to another by few writes, in an order in which no reader meets a row that points to nothing. Pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::backend::{Backend, SlotKey};
use weft_dataplane_abi::endpoint::{Endpoint, Netns};
use weft_dataplane_abi::route::{Node, Route, RouteKey};
use weft_dataplane_abi::service::{Service, ServiceKey, SourceKey};

use crate::choices;
use crate::rows::{Rows, ServiceRow, source_key};

/// One write to one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Map `backends`: in use, or retired when its flags say so.
    PutBackend(u32, Backend),
    /// Map `slots`: the id of a backend.
    PutSlot(SlotKey, u32),
    /// Map `slots`.
    RemoveSlot(SlotKey),
    /// Map `sources`.
    PutSource(SourceKey),
    /// Map `sources`.
    RemoveSource(SourceKey),
    /// Map `choices` or, when it is that long, `choices_many`: the backends of a Service row by place.
    PutChoices(u32, Arc<[u32]>),
    /// Map `choices`, or `choices_many` for a row with so many places.
    RemoveChoices(u32, usize),
    /// Map `services`.
    PutService(ServiceKey, Service),
    /// Map `services`.
    RemoveService(ServiceKey),
    /// Map `routes`.
    PutRoute(RouteKey, Route),
    /// Map `routes`.
    RemoveRoute(RouteKey),
    /// Map `nodes`.
    PutNode(Address, Node),
    /// Map `nodes`.
    RemoveNode(Address),
    /// Map `endpoints`.
    PutEndpoint(Address, Endpoint),
    /// Map `endpoints`.
    RemoveEndpoint(Address),
    /// Map `netns`.
    PutNetns(u64, Netns),
    /// Map `netns`.
    RemoveNetns(u64),
}

impl Write {
    /// Whether packets of flows that stand may have to go another way after it.
    #[must_use]
    pub const fn turns_ways(&self) -> bool {
        matches!(
            self,
            Self::PutRoute(..)
                | Self::RemoveRoute(_)
                | Self::PutNode(..)
                | Self::RemoveNode(_)
                | Self::PutEndpoint(..)
                | Self::RemoveEndpoint(_)
        )
    }
}

/// The writes that make `old` into `new`: backends before slots before Services, and the other way round for what goes.
#[must_use]
pub fn diff(old: &Rows, new: &Rows) -> Vec<Write> {
    let mut writes = Vec::new();
    changed(&old.nodes, &new.nodes, |key, value| writes.push(Write::PutNode(key, value)));
    changed(&old.endpoints, &new.endpoints, |key, value| writes.push(Write::PutEndpoint(key, value)));
    changed(&old.netns, &new.netns, |key, value| writes.push(Write::PutNetns(key, value)));
    changed(&old.routes, &new.routes, |key, value| writes.push(Write::PutRoute(key, value)));
    changed(&old.backends, &new.backends, |key, value| writes.push(Write::PutBackend(key, value)));
    for (key, row) in &new.services {
        service(*key, old.services.get(key), Some((row, &new.backends)), &mut writes);
    }
    for (key, row) in &old.services {
        if !new.services.contains_key(key) {
            service(*key, Some(row), None, &mut writes);
        }
    }
    for (id, row) in &old.backends {
        if !new.backends.contains_key(id) {
            writes.push(Write::PutBackend(*id, retired(row)));
        }
    }
    gone(&old.routes, &new.routes, |key| writes.push(Write::RemoveRoute(key)));
    gone(&old.netns, &new.netns, |key| writes.push(Write::RemoveNetns(key)));
    gone(&old.endpoints, &new.endpoints, |key| writes.push(Write::RemoveEndpoint(key)));
    gone(&old.nodes, &new.nodes, |key| writes.push(Write::RemoveNode(key)));
    writes
}

/// The row a backend leaves behind: it takes nothing new, and flows that remember it choose again.
#[must_use]
pub fn retired(row: &Backend) -> Backend {
    Backend { flags: 0, generation: row.generation.wrapping_add(1), ..*row }
}

fn service(
    key: ServiceKey,
    old: Option<&ServiceRow>,
    new: Option<(&ServiceRow, &HashMap<u32, Backend>)>,
    writes: &mut Vec<Write>,
) {
    let slot = |row: &ServiceRow, index: usize| SlotKey {
        service_id: row.value.id,
        // The number of slots is bounded by a map's capacity, which is a u32.
        index: u32::try_from(index).unwrap_or(u32::MAX),
    };
    if let Some((new, backends)) = new {
        let before = old.filter(|old| old.value.id == new.value.id);
        for (index, id) in new.backends.iter().enumerate() {
            if before.is_none_or(|old| old.backends.get(index) != Some(id)) {
                writes.push(Write::PutSlot(slot(new, index), *id));
            }
        }
        for range in new.sources.iter().filter(|range| before.is_none_or(|old| !old.sources.contains(*range)))
        {
            writes.push(Write::PutSource(source_key(new.value.id, range)));
        }
        let places = choices::places(new.value.flags);
        let filled = before.is_some_and(|old| {
            old.filled && choices::places(old.value.flags) == places && old.backends == new.backends
        });
        if places > 0 && !filled {
            let held = new.backends.iter().filter_map(|id| Some((*id, *backends.get(id)?)));
            writes.push(Write::PutChoices(new.value.id, choices::table(held, |_| 1, places)));
        }
        if old.is_none_or(|old| old.value != new.value) {
            writes.push(Write::PutService(key, new.value));
        }
    } else {
        writes.push(Write::RemoveService(key));
    }
    if let Some(old) = old {
        let same = new.map(|(new, _)| new).filter(|new| new.value.id == old.value.id);
        let places = choices::places(old.value.flags);
        if places > 0 && same.is_none_or(|new| choices::places(new.value.flags) != places) {
            writes.push(Write::RemoveChoices(old.value.id, places));
        }
        for range in old.sources.iter().filter(|range| same.is_none_or(|new| !new.sources.contains(*range))) {
            writes.push(Write::RemoveSource(source_key(old.value.id, range)));
        }
        let kept = same.map_or(0, |new| new.backends.len());
        for index in kept..old.backends.len() {
            writes.push(Write::RemoveSlot(slot(old, index)));
        }
    }
}

fn changed<K: Copy + Eq + Hash, V: Copy + PartialEq>(
    old: &HashMap<K, V>,
    new: &HashMap<K, V>,
    mut put: impl FnMut(K, V),
) {
    for (key, value) in new {
        if old.get(key) != Some(value) {
            put(*key, *value);
        }
    }
}

fn gone<K: Copy + Eq + Hash, V>(old: &HashMap<K, V>, new: &HashMap<K, V>, mut remove: impl FnMut(K)) {
    for key in old.keys().filter(|key| !new.contains_key(key)) {
        remove(*key);
    }
}

#[cfg(test)]
mod tests;
