//! A bench for single packets: the real object in the real kernel, with tables of its own, and `BPF_PROG_TEST_RUN`.
//!
//! Nothing is attached and nothing is pinned, so that tests may run side by side and on any machine.

mod rows;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::{CgroupSockAddr, Program, SchedClassifier, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use weft_dataplane::desired::Change;
use weft_dataplane::diff::Write;
use weft_dataplane::flow_table::{FlowTable, Removal, STORES_ARE_ORDERED};
use weft_dataplane::plan::Planner;
use weft_dataplane_abi::LAYOUT;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::backend::{BACKEND_READY, Backend, Slot, SlotKey};
use weft_dataplane_abi::bridge::{BRIDGE, SWEEP};
use weft_dataplane_abi::choice::{Choices, ChoicesMany, PLACES};
use weft_dataplane_abi::config::{BALANCE_PACKET, BALANCE_SOCKET, Config, FLOW_EVENTS};
use weft_dataplane_abi::conntrack::{Flow, Tuple};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::dry::{DRY, OWN, WALKED, Walked};
use weft_dataplane_abi::endpoint::Endpoint;
use weft_dataplane_abi::event::FlowEvent;
use weft_dataplane_abi::flow_table::{BEFORE_SEED, ORDERED_STORES};
use weft_dataplane_abi::hook::{Hook, XDP_UPLINK};
use weft_dataplane_abi::maps::{MAPS, MapKind, MapSpec};
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::route::{
    NODE_SELF, Node, ROUTE_HOST, ROUTE_NOWHERE, ROUTE_SERVICE, ROUTE_TUNNEL, Route,
};
use weft_dataplane_abi::service::{SERVICE_LOCAL, SOURCE_KEY_BITS, Service, ServiceKey, Source, SourceRange};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What `TCX_NEXT`, `TCX_DROP` and `TC_ACT_REDIRECT` are as the kernel returns them.
pub(crate) const NEXT: u32 = u32::MAX;
pub(crate) const DROP: u32 = 2;
pub(crate) const REDIRECT: u32 = 7;

/// This node, the other one, and who lives there. Pod A's interface is the loopback device: the only one that a test
/// run accepts without a device of its own.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 2);
pub(crate) const OVERLAY: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);
pub(crate) const POD_A: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 5);
pub(crate) const POD_B: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 6);
pub(crate) const POD_FAR: Ipv4Addr = Ipv4Addr::new(10, 244, 2, 7);
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
pub(crate) const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
pub(crate) const POD_A_IFINDEX: u32 = 1;
/// The same of IPv6; the other node has an IPv4 address only, which is the tunnel's.
pub(crate) const NODE_6: Ipv6Addr = v6(0x2001_0db8_0000_0001, 1);
pub(crate) const OVERLAY_6: Ipv6Addr = v6(0xfd00_0244_0000_0001, 1);
pub(crate) const POD_A_6: Ipv6Addr = v6(0xfd00_0244_0000_0001, 5);
pub(crate) const POD_B_6: Ipv6Addr = v6(0xfd00_0244_0000_0001, 6);
pub(crate) const POD_FAR_6: Ipv6Addr = v6(0xfd00_0244_0000_0002, 7);
pub(crate) const OUTSIDE_6: Ipv6Addr = v6(0x2001_0db8_0000_0099, 9);
pub(crate) const SERVICE_6: Ipv6Addr = v6(0xfd00_0096_0000_0000, 10);

const fn v6(network: u64, host: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits((network as u128) << 64 | host as u128)
}

/// Seed of the other layout's table of flows, where there is one.
const BEFORE: [u64; 2] = [0x1234_5678_9abc_def0, 17];

pub(crate) struct Bench {
    pub(crate) ebpf: Ebpf,
    /// Raised when Pods, routes or nodes change under flows, as the agent does.
    pub(crate) epoch: u32,
    /// First and last source port for translation.
    pub(crate) source_ports: (u16, u16),
    /// Lengths of the node's own Pod ranges, where it knows them.
    pub(crate) pod_bits: (u8, u8),
    /// Index of the uplink.
    pub(crate) uplink_ifindex: u32,
    /// Interface of the tunnel's device.
    pub(crate) overlay_ifindex: u32,
}

impl Bench {
    /// All programs in the kernel, with this node's furniture in the tables; `None` where tests are to be skipped.
    pub(crate) fn new() -> Option<Self> {
        Some(Self::furnished(load(&crate::object::path()?)))
    }

    /// The same, with programs that only look.
    pub(crate) fn dry() -> Option<Self> {
        let set = |loader: &mut EbpfLoader<'_>| {
            loader.override_global(DRY, &1_u32, true);
        };
        Some(Self::furnished(load_with(&crate::object::path()?, set, |_, _| ())))
    }

    /// The same, with programs that bridge to tables of another layout, which are empty, on a machine that may show stores in
    /// another order.
    pub(crate) fn bridging() -> Option<Self> {
        let set = |loader: &mut EbpfLoader<'_>| {
            loader.override_global(BRIDGE, &1_u32, true);
            loader.override_global(ORDERED_STORES, &0_u32, true);
            loader.override_global(BEFORE_SEED, &BEFORE, true);
        };
        Some(Self::furnished(load_with(&crate::object::path()?, set, |_, _| ())))
    }

    /// The same as the first, with so many rows in one of the tables.
    pub(crate) fn with_rows(table: &'static str, rows: u32) -> Option<Self> {
        let set = |loader: &mut EbpfLoader<'_>| {
            loader.map_max_entries(table, rows);
        };
        Some(Self::furnished(load_with(&crate::object::path()?, set, |_, _| ())))
    }

    fn furnished(ebpf: Ebpf) -> Self {
        let mut bench = Self {
            ebpf,
            epoch: 1,
            source_ports: (61_000, 61_007),
            pod_bits: (96 + 24, 64),
            uplink_ifindex: 6,
            overlay_ifindex: 5,
        };
        bench.configure(BALANCE_PACKET | BALANCE_SOCKET | FLOW_EVENTS);
        bench.endpoint(POD_A, POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xa]);
        bench.endpoint(POD_B, 77, [2, 0, 0, 0, 0, 0xb]);
        bench.node(NODE, Node { index: 1, flags: NODE_SELF });
        bench.node(PEER, Node { index: 2, flags: 0 });
        bench.route(NODE, 32, ROUTE_HOST, None);
        bench.route(OVERLAY, 32, ROUTE_HOST, None);
        bench.route(Ipv4Addr::new(10, 244, 2, 0), 24, ROUTE_TUNNEL, Some(PEER));
        bench.route(Ipv4Addr::new(10, 244, 0, 0), 16, ROUTE_NOWHERE, None);
        bench.route(Ipv4Addr::new(10, 96, 0, 0), 16, ROUTE_SERVICE, None);
        bench.endpoint(POD_A_6, POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xa]);
        bench.endpoint(POD_B_6, POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xb]);
        bench.node(NODE_6, Node { index: 1, flags: NODE_SELF });
        bench.route(NODE_6, 128, ROUTE_HOST, None);
        bench.route(OVERLAY_6, 128, ROUTE_HOST, None);
        bench.route(v6(0xfd00_0244_0000_0002, 0), 64, ROUTE_TUNNEL, Some(PEER));
        bench.route(v6(0xfd00_0244_0000_0000, 0), 48, ROUTE_NOWHERE, None);
        bench.route(v6(0xfd00_0096_0000_0000, 0), 112, ROUTE_SERVICE, None);
        bench
    }

    pub(crate) fn configure(&mut self, flags: u32) {
        let config = self.config(flags);
        self.set_array::<_, { size_of::<Config>() }>("config", 0, &config);
    }

    fn config(&self, flags: u32) -> Config {
        Config {
            layout: LAYOUT,
            flags,
            node_v4: Address::v4(NODE),
            node_v6: Address::v6(NODE_6),
            overlay_v4: Address::v4(OVERLAY),
            overlay_v6: Address::v6(OVERLAY_6),
            node_index: 1,
            overlay_ifindex: self.overlay_ifindex,
            uplink_ifindex: self.uplink_ifindex,
            node_port_first: 30_000,
            node_port_last: 32_767,
            source_port_first: self.source_ports.0,
            source_port_last: self.source_ports.1,
            overlay_port: 4789,
            pod_bits_v4: self.pod_bits.0,
            pod_bits_v6: self.pod_bits.1,
            epoch: self.epoch,
        }
    }

    /// Takes the node's IPv6 addresses out of the settings.
    pub(crate) fn without_v6(&mut self) {
        let mut config = self.config(BALANCE_PACKET | BALANCE_SOCKET | FLOW_EVENTS);
        (config.node_v6, config.overlay_v6) = (Address::ZERO, Address::ZERO);
        self.set_array::<_, { size_of::<Config>() }>("config", 0, &config);
    }

    /// Takes the settings away again, as before the agent wrote them.
    pub(crate) fn unconfigure(&mut self) {
        self.set_array::<_, { size_of::<Config>() }>("config", 0, &Config::default());
    }

    pub(crate) fn endpoint(&mut self, address: impl Into<Address>, ifindex: u32, mac: [u8; 6]) {
        let row = Endpoint { ifindex, mac, gateway_mac: [2, 0, 0, 0, 1, 1], ..Endpoint::default() };
        self.put::<_, _, 16, { size_of::<Endpoint>() }>("endpoints", &address.into(), &row);
    }

    pub(crate) fn remove_endpoint(&mut self, address: impl Into<Address>) {
        self.remove::<_, 16, { size_of::<Endpoint>() }>("endpoints", &address.into());
    }

    /// What the agent does after rows of Pods, routes or nodes have changed.
    pub(crate) fn turn_epoch(&mut self) {
        self.epoch += 1;
        self.configure(BALANCE_PACKET | BALANCE_SOCKET | FLOW_EVENTS);
    }

    pub(crate) fn node(&mut self, address: impl Into<Address>, row: Node) {
        self.put::<_, _, 16, 8>("nodes", &address.into(), &row);
    }

    pub(crate) fn route(
        &mut self,
        prefix: impl Into<Address>,
        bits: u32,
        kind: u32,
        tunnel: Option<Ipv4Addr>,
    ) {
        self.route_by(prefix, bits, kind, tunnel.map_or(Address::ZERO, Address::v4));
    }

    /// The same by an address of any family.
    pub(crate) fn route_by(&mut self, prefix: impl Into<Address>, bits: u32, kind: u32, by: Address) {
        let row = Route { kind, node_index: 0, tunnel: by };
        let map = self.ebpf.map_mut("routes").expect("the map routes");
        let mut map: LpmTrie<&mut MapData, [u8; 16], [u8; size_of::<Route>()]> =
            LpmTrie::try_from(map).expect("a trie");
        let prefix = prefix.into();
        let bits = if prefix.is_v4() { 96 + bits } else { bits };
        let key = Key::new(bits, bytes_of(&prefix));
        map.insert(&key, bytes_of::<_, { size_of::<Route>() }>(&row), 0).expect("a route");
    }

    /// A Service with these backends; each slot's backend has the number `id * 10 + index`.
    pub(crate) fn service(&mut self, key: ServiceKey, id: u32, backends: &[(Ipv4Addr, u16)]) {
        self.service_with(key, id, 0, backends);
    }

    /// The same with `SERVICE_*` flags.
    pub(crate) fn service_with(
        &mut self,
        key: ServiceKey,
        id: u32,
        flags: u32,
        backends: &[(Ipv4Addr, u16)],
    ) {
        let backends: Vec<_> =
            backends.iter().map(|(address, port)| (Address::v4(*address), *port)).collect();
        self.service_of(key, id, flags, &backends);
    }

    /// The same with backends of IPv6.
    pub(crate) fn service_6(&mut self, key: ServiceKey, id: u32, flags: u32, backends: &[(Ipv6Addr, u16)]) {
        let backends: Vec<_> =
            backends.iter().map(|(address, port)| (Address::v6(*address), *port)).collect();
        self.service_of(key, id, flags, &backends);
    }

    fn service_of(&mut self, key: ServiceKey, id: u32, flags: u32, backends: &[(Address, u16)]) {
        for (index, (address, port)) in (0u32..).zip(backends) {
            self.backend(id * 10 + index, *address, *port, 1);
            let slot = SlotKey { service_id: id, index };
            self.put::<_, _, 8, 4>("slots", &slot, &Slot { backend_id: id * 10 + index });
        }
        let row = Service { id, backend_count: backends.len() as u32, flags, ..Service::default() };
        self.put::<_, _, 20, 16>("services", &key, &row);
    }

    /// Makes Service rows by the agent's own hand, and writes what it would.
    pub(crate) fn planned(&mut self, planner: &mut Planner, change: &Change) {
        for write in planner.change(change).0 {
            match write {
                Write::PutBackend(id, row) => {
                    self.set_array::<_, { size_of::<Backend>() }>("backends", id, &row);
                }
                Write::PutSlot(key, backend_id) => {
                    self.put::<_, _, 8, { size_of::<Slot>() }>("slots", &key, &Slot { backend_id });
                }
                Write::PutChoices(id, ids) if ids.len() == PLACES => {
                    let ids: Choices = ids.as_ref().try_into().expect("so many places");
                    self.put::<_, _, 4, { size_of::<Choices>() }>("choices", &id, &ids);
                }
                Write::PutChoices(id, ids) => {
                    let ids: ChoicesMany = ids.as_ref().try_into().expect("so many places");
                    self.put::<_, _, 4, { size_of::<ChoicesMany>() }>("choices_many", &id, &ids);
                }
                Write::PutService(key, row) => self.put::<_, _, 20, 16>("services", &key, &row),
                Write::RemoveSlot(key) => self.remove::<_, 8, { size_of::<Slot>() }>("slots", &key),
                Write::RemoveChoices(id, PLACES) => {
                    self.remove::<_, 4, { size_of::<Choices>() }>("choices", &id);
                }
                Write::RemoveChoices(id, _) => {
                    self.remove::<_, 4, { size_of::<ChoicesMany>() }>("choices_many", &id);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Lets a range of clients in.
    pub(crate) fn source(&mut self, service_id: u32, prefix: Ipv4Addr, bits: u32) {
        let map = self.ebpf.map_mut("sources").expect("the map sources");
        let mut map: LpmTrie<&mut MapData, [u8; size_of::<SourceRange>()], [u8; size_of::<Source>()]> =
            LpmTrie::try_from(map).expect("a trie");
        let range = SourceRange { service_id, address: Address::v4(prefix) };
        let key = Key::new(SOURCE_KEY_BITS + 96 + bits, bytes_of(&range));
        map.insert(&key, bytes_of::<_, { size_of::<Source>() }>(&Source { allowed: 1 }), 0).expect("a range");
    }

    /// Gives a Service of so many backends session affinity.
    pub(crate) fn affinity(&mut self, key: ServiceKey, id: u32, backend_count: u32, affinity_seconds: u32) {
        let row = Service { id, backend_count, affinity_seconds, ..Service::default() };
        self.put::<_, _, 20, 16>("services", &key, &row);
    }

    /// Gives a Service the policy `Local`, and no backend here.
    pub(crate) fn local(&mut self, key: ServiceKey, id: u32) {
        let row = Service { id, flags: SERVICE_LOCAL, ..Service::default() };
        self.put::<_, _, 20, 16>("services", &key, &row);
    }

    pub(crate) fn backend(&mut self, id: u32, address: impl Into<Address>, port: u16, generation: u32) {
        let row = Backend {
            address: address.into(),
            port: Be16::new(port),
            flags: BACKEND_READY,
            generation,
            ..Backend::default()
        };
        self.set_array::<_, { size_of::<Backend>() }>("backends", id, &row);
    }

    /// Sends one packet through a program: what it returned, and the packet after it.
    pub(crate) fn send(&mut self, hook: Hook, packet: &[u8]) -> (u32, Vec<u8>) {
        self.send_often(hook, packet, 1).0
    }

    /// The same, often; also how long one took on average.
    pub(crate) fn send_often(
        &mut self,
        hook: Hook,
        packet: &[u8],
        repeat: u32,
    ) -> ((u32, Vec<u8>), Duration) {
        let program: &mut SchedClassifier =
            self.ebpf.program_mut(hook.text()).expect("the program").try_into().expect("a tc program");
        let mut out = vec![0; packet.len() + 64];
        let mut options = TestRunOptions::new();
        options.data_in = Some(packet);
        options.data_out = Some(&mut out);
        options.repeat = repeat;
        let result = program.test_run(options).expect("a test run");
        out.truncate(result.data_size_out as usize);
        ((result.return_value, out), result.duration)
    }

    /// Sends one frame through the program at the uplink's driver.
    pub(crate) fn send_xdp(&mut self, packet: &[u8]) -> (u32, Vec<u8>) {
        self.send_xdp_after(&[], packet).expect("a test run")
    }

    /// The same with bytes before the frame that the driver has put there, which what comes back has, too; none if the kernel
    /// knows of no such thing.
    pub(crate) fn send_xdp_after(&mut self, before: &[u8], packet: &[u8]) -> Option<(u32, Vec<u8>)> {
        let program: &mut Xdp =
            self.ebpf.program_mut(XDP_UPLINK).expect("the program").try_into().expect("an XDP program");
        let packet = [before, packet].concat();
        let mut out = vec![0; packet.len() + 64];
        // `struct xdp_md`: where the frame begins and ends, and four more.
        let context = [before.len() as u32, packet.len() as u32, 0, 0, 0, 0].map(u32::to_ne_bytes).concat();
        let mut options = TestRunOptions::new();
        options.data_in = Some(&packet);
        options.data_out = Some(&mut out);
        options.ctx_in = (!before.is_empty()).then_some(&context);
        let result = program.test_run(options).ok()?;
        out.truncate(result.data_size_out as usize);
        Some((result.return_value, out))
    }

    /// Runs the program that brings over flows of the other layout, from this row on; its answer.
    pub(crate) fn sweep(&mut self, first: u32) -> u32 {
        let program = self.ebpf.program_mut(SWEEP).expect("the program");
        let program: &mut SchedClassifier = program.try_into().expect("a classifier");
        // `struct __sk_buff`: the mark is its third word.
        let mut context = [0; 192];
        context[8..12].copy_from_slice(&first.to_ne_bytes());
        let mut options = TestRunOptions::new();
        options.data_in = Some(&[0; 14]);
        options.ctx_in = Some(&context);
        program.test_run(options).expect("a test run").return_value
    }

    /// The table of flows.
    pub(crate) fn flows(&self) -> FlowTable {
        FlowTable::of(self.map_of_flows()).expect("a table of flows")
    }

    pub(crate) fn map_of_flows(&self) -> &MapData {
        let Map::Array(map) = self.ebpf.map("flows").expect("the map flows") else {
            panic!("flows are no array");
        };
        map
    }

    pub(crate) fn flow(&mut self, tuple: &Tuple) -> Option<Flow> {
        self.flows().find(tuple)
    }

    /// Takes all rows of flows away.
    pub(crate) fn forget_flows(&self) {
        let table = self.flows();
        let keys: Vec<Tuple> = table.rows().map(|(key, _)| key).collect();
        let removal = Removal::of(self.map_of_flows()).expect("a table of flows");
        keys.iter().for_each(|key| removal.remove(key));
    }

    pub(crate) fn counter(&mut self, counter: Counter) -> u64 {
        let map: PerCpuArray<&MapData, u64> =
            PerCpuArray::try_from(self.ebpf.map("counters").expect("the map counters"))
                .expect("a per-CPU array");
        map.get(&(counter as u32), 0).expect("a counter").iter().sum()
    }

    /// What programs that only look told of the last walk.
    pub(crate) fn walked(&mut self) -> Walked {
        let map = self.ebpf.map(WALKED.name).expect("the map walked");
        let map: Array<&MapData, [u8; size_of::<Walked>()]> = Array::try_from(map).expect("an array");
        Walked::read_from_bytes(&map.get(&0, 0).expect("the row")).expect("a walk")
    }

    /// Every byte of every table that programs which only look share with others, by name and key.
    pub(crate) fn bytes(&self) -> std::collections::BTreeMap<(&'static str, Vec<u8>), Vec<u8>> {
        let mut all = std::collections::BTreeMap::new();
        for spec in MAPS.iter().filter(|spec| !OWN.contains(&spec.name)) {
            let map = self.ebpf.map(spec.name).unwrap_or_else(|| panic!("no map {}", spec.name));
            let (Map::HashMap(data) | Map::Array(data) | Map::LruHashMap(data) | Map::LpmTrie(data)) = map
            else {
                panic!("{} has no rows", spec.name)
            };
            weft_dataplane::live::each_row(data.fd().as_fd(), spec, |key, value| {
                // Most rows of the arrays hold nothing.
                if value.iter().any(|byte| *byte != 0) {
                    all.insert((spec.name, key.to_vec()), value.to_vec());
                }
            })
            .unwrap_or_else(|error| panic!("{}: {error}", spec.name));
        }
        all
    }

    /// All events since the last call.
    pub(crate) fn events(&mut self) -> Vec<FlowEvent> {
        let mut ring =
            RingBuf::try_from(self.ebpf.map_mut("events").expect("the map events")).expect("a ring");
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            events.push(FlowEvent::read_from_bytes(&item).expect("an event"));
        }
        events
    }

    fn put<K, V, const KEY: usize, const VALUE: usize>(&mut self, name: &str, key: &K, value: &V)
    where
        K: IntoBytes + Immutable,
        V: IntoBytes + Immutable,
    {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("the map {name}"));
        let mut map: HashMap<&mut MapData, [u8; KEY], [u8; VALUE]> = HashMap::try_from(map).expect("a hash");
        map.insert(bytes_of::<K, KEY>(key), bytes_of::<V, VALUE>(value), 0).expect("a row");
    }

    fn remove<K, const KEY: usize, const VALUE: usize>(&mut self, name: &str, key: &K)
    where
        K: IntoBytes + Immutable,
    {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("the map {name}"));
        let mut map: HashMap<&mut MapData, [u8; KEY], [u8; VALUE]> = HashMap::try_from(map).expect("a hash");
        map.remove(&bytes_of::<K, KEY>(key)).expect("a row to remove");
    }

    fn set_array<V, const VALUE: usize>(&mut self, name: &str, index: u32, value: &V)
    where
        V: IntoBytes + Immutable,
    {
        let map = self.ebpf.map_mut(name).unwrap_or_else(|| panic!("the map {name}"));
        let mut map: Array<&mut MapData, [u8; VALUE]> = Array::try_from(map).expect("an array");
        map.set(index, bytes_of::<V, VALUE>(value), 0).expect("a row");
    }
}

/// What `seen_ns` of a row seen now would be.
pub(crate) fn now_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).expect("a clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

fn bytes_of<T: IntoBytes + Immutable, const N: usize>(value: &T) -> [u8; N] {
    value.as_bytes().try_into().expect("the row's size")
}

/// The object with small tables, every program verified.
pub(crate) fn load(object: &Path) -> Ebpf {
    load_timed(object, |_, _| ())
}

/// The same; tells how long each step took.
pub(crate) fn load_timed(object: &Path, tell: impl FnMut(&str, Duration)) -> Ebpf {
    load_with(object, |_| (), tell)
}

/// The same, with some of the programs' constants set.
pub(crate) fn load_with(
    object: &Path,
    set: impl FnOnce(&mut EbpfLoader<'_>),
    mut tell: impl FnMut(&str, Duration),
) -> Ebpf {
    let mut began = Instant::now();
    let mut lap = |what: &str| {
        tell(what, began.elapsed());
        began = Instant::now();
    };
    let object = std::fs::read(object).expect("the object");
    let mut loader = EbpfLoader::new();
    let rows = |spec: &&MapSpec| spec.sized_by_setting && spec.kind != MapKind::RingBuf;
    for spec in MAPS.iter().filter(rows) {
        loader.map_max_entries(spec.name, spec.capacity.min(1 << 16));
    }
    // As the agent sets it.
    loader.override_global(ORDERED_STORES, &STORES_ARE_ORDERED, true);
    set(&mut loader);
    lap("the kernel's types");
    let mut ebpf = loader.load(&object).expect("the object loads");
    lap("object and tables");
    for name in Hook::ALL.iter().map(|hook| hook.text()).chain([XDP_UPLINK, SWEEP]) {
        let program = ebpf.program_mut(name).unwrap_or_else(|| panic!("no program {name}"));
        let loaded = match program {
            Program::CgroupSockAddr(program) => CgroupSockAddr::load(program),
            Program::SchedClassifier(program) => SchedClassifier::load(program),
            Program::Xdp(program) => Xdp::load(program),
            _ => panic!("{name} is a program of another type"),
        };
        if let Err(error) = loaded {
            let mut text = format!("{error}");
            if let aya::programs::ProgramError::LoadError { verifier_log, .. } = &error {
                text = format!("{error}\n{verifier_log}");
            }
            panic!("the kernel refuses {name}: {text}");
        }
        lap(name);
    }
    ebpf
}
