//! The table of all maps: a row per map, with its name in the object and under the pins, kind, row sizes and default capacity.

use crate::address::Address;
use crate::backend::{Backend, Slot, SlotKey};
use crate::choice::{Choices, ChoicesMany};
use crate::config::Config;
use crate::counter::COUNTERS;
use crate::dry::Asking;
use crate::endpoint::{Endpoint, Netns};
use crate::flow_table::{BUCKETS, GROUP, Group};
use crate::fragment::{FragmentKey, FragmentPorts};
use crate::route::{Node, Route, RouteKey};
use crate::service::{Affinity, AffinityKey, Service, ServiceKey, Source, SourceKey};
use crate::socket::{SocketFlow, SocketKey};

/// Kind of a map, by the kernel's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MapKind {
    /// `BPF_MAP_TYPE_HASH`: full means that an insert fails.
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`.
    Array = 2,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`.
    PerCpuArray = 6,
    /// `BPF_MAP_TYPE_LRU_HASH`: full means that rows not used for long go.
    LruHash = 9,
    /// `BPF_MAP_TYPE_LPM_TRIE`.
    LpmTrie = 11,
    /// `BPF_MAP_TYPE_RINGBUF`: the capacity is in bytes, a power of two.
    RingBuf = 27,
}

/// One map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSpec {
    /// Name in the object, at most 15 bytes.
    pub name: &'static str,
    /// Kind.
    pub kind: MapKind,
    /// Size of a key in bytes.
    pub key_bytes: u32,
    /// Size of a value in bytes.
    pub value_bytes: u32,
    /// Rows it holds unless configured otherwise; bytes for a ring buffer.
    pub capacity: u32,
    /// Whether the capacity is a setting; otherwise it is part of the layout.
    pub sized_by_setting: bool,
    /// Whether memory is taken row by row, by the agent's writes alone; otherwise all of it at the start.
    pub grows: bool,
    /// Whether its rows must outlive the agent: pinned, and used again when the layout fits.
    pub pinned: bool,
}

const fn map<K, V>(name: &'static str, kind: MapKind, capacity: u32) -> MapSpec {
    MapSpec {
        name,
        kind,
        key_bytes: size_of::<K>() as u32,
        value_bytes: size_of::<V>() as u32,
        capacity,
        sized_by_setting: true,
        grows: false,
        pinned: true,
    }
}

const fn growing(spec: MapSpec) -> MapSpec {
    MapSpec { grows: true, ..spec }
}

const fn fixed(spec: MapSpec) -> MapSpec {
    MapSpec { sized_by_setting: false, ..spec }
}

/// The one row of [`Config`].
pub const CONFIG: MapSpec = fixed(map::<u32, Config>("config", MapKind::Array, 1));
/// [`ServiceKey`] → [`Service`].
pub const SERVICES: MapSpec = growing(map::<ServiceKey, Service>("services", MapKind::Hash, 65_536));
/// [`SlotKey`] → [`Slot`].
pub const SLOTS: MapSpec = growing(map::<SlotKey, Slot>("slots", MapKind::Hash, 131_072));
/// [`SourceKey`] → [`Source`].
pub const SOURCES: MapSpec = growing(map::<SourceKey, Source>("sources", MapKind::LpmTrie, 16_384));
/// [`crate::service::Service::id`] → [`Choices`], for rows that the outside asks.
pub const CHOICES: MapSpec = growing(map::<u32, Choices>("choices", MapKind::Hash, 65_536));
/// The same for rows with many backends: [`ChoicesMany`].
pub const CHOICES_MANY: MapSpec = growing(map::<u32, ChoicesMany>("choices_many", MapKind::Hash, 65_536));
/// Index → [`Backend`]; one for every slot, and row 0.
pub const BACKENDS: MapSpec = map::<u32, Backend>("backends", MapKind::Array, 131_073);
/// [`AffinityKey`] → [`Affinity`].
pub const AFFINITY: MapSpec = map::<AffinityKey, Affinity>("affinity", MapKind::LruHash, 16_384);
/// Index → [`Group`], of the table that `flow_table.rs` describes; two rows a flow, 144 bytes each.
pub const FLOWS: MapSpec = map::<u32, Group>("flows", MapKind::Array, BUCKETS / GROUP as u32);
/// [`Address`] → [`Endpoint`].
pub const ENDPOINTS: MapSpec = growing(map::<Address, Endpoint>("endpoints", MapKind::Hash, 1_024));
/// [`RouteKey`] → [`Route`].
pub const ROUTES: MapSpec = growing(map::<RouteKey, Route>("routes", MapKind::LpmTrie, 16_384));
/// [`Address`] → [`Node`].
pub const NODES: MapSpec = growing(map::<Address, Node>("nodes", MapKind::Hash, 16_384));
/// Netns cookie → [`Netns`].
pub const NETNS: MapSpec = growing(map::<u64, Netns>("netns", MapKind::Hash, 1_024));
/// [`SocketKey`] → [`SocketFlow`].
pub const SOCKET_FLOWS: MapSpec = map::<SocketKey, SocketFlow>("socket_flows", MapKind::LruHash, 32_768);
/// [`FragmentKey`] → [`FragmentPorts`].
pub const FRAGMENTS: MapSpec = map::<FragmentKey, FragmentPorts>("fragments", MapKind::LruHash, 8_192);
/// Ring of [`crate::event::FlowEvent`]; 1 MiB is about 6,500 events.
pub const EVENTS: MapSpec =
    MapSpec { key_bytes: 0, value_bytes: 0, ..map::<(), ()>("events", MapKind::RingBuf, 1 << 20) };
/// [`crate::counter::Counter`] → `u64` per CPU.
pub const COUNTERS_MAP: MapSpec = fixed(map::<u32, u64>("counters", MapKind::PerCpuArray, COUNTERS));

/// The one row of [`Asking`].
pub const ASKING: MapSpec = fixed(map::<u32, Asking>("asking", MapKind::Array, 1));

/// All maps the agent sizes, pins and writes.
pub const MAPS: [MapSpec; 18] = [
    CONFIG,
    SERVICES,
    SLOTS,
    SOURCES,
    CHOICES,
    CHOICES_MANY,
    BACKENDS,
    AFFINITY,
    FLOWS,
    ENDPOINTS,
    ROUTES,
    NODES,
    NETNS,
    SOCKET_FLOWS,
    FRAGMENTS,
    EVENTS,
    COUNTERS_MAP,
    ASKING,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_the_kernel() {
        for (i, spec) in MAPS.iter().enumerate() {
            assert!(spec.name.len() <= 15, "{} is too long", spec.name);
            assert!(
                MAPS.iter().skip(i + 1).all(|other| other.name != spec.name),
                "{} stands twice",
                spec.name
            );
        }
    }

    #[test]
    fn the_ring_is_a_power_of_two() {
        assert!(EVENTS.capacity.is_power_of_two());
    }
}
