//! The maps as the programs see them. Names, kinds and capacities are those of the table in the abi crate, which a test
//! compares with the object.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::backend::{Backend, Slot, SlotKey};
use weft_dataplane_abi::choice::{Choices, ChoicesMany, PLACES, PLACES_MANY, place};
use weft_dataplane_abi::config::Config;
use weft_dataplane_abi::conntrack::{Flow, Tuple};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::endpoint::{Endpoint, Netns};
use weft_dataplane_abi::flow_table::Group;
use weft_dataplane_abi::fragment::{FragmentKey, FragmentPorts};
use weft_dataplane_abi::route::{Node, Route};
use weft_dataplane_abi::service::{
    Affinity, AffinityKey, SERVICE_CHOICES, SERVICE_CHOICES_MANY, Service, ServiceKey, Source, SourceRange,
};
use weft_dataplane_abi::socket::{SocketFlow, SocketKey};
use weft_dataplane_abi::{LAYOUT, maps as table};

use crate::dry::dry;
use crate::walk::Scratch;
use crate::{before, table as table_of_flows};

/// The kernel's "there is one".
pub(crate) const EEXIST: i32 = -17;
/// Memory for rows is taken when they are written: by the agent, never by a program.
const GROWS: u32 = aya_ebpf::bindings::BPF_F_NO_PREALLOC;

/// The agent reads it as its own memory.
pub(crate) const MAPPED: u32 = aya_ebpf::bindings::BPF_F_MMAPABLE;

#[map(name = "config")]
static CONFIG: Array<Config> = Array::with_max_entries(table::CONFIG.capacity, 0);
#[map(name = "services")]
pub(crate) static SERVICES: HashMap<ServiceKey, Service> =
    HashMap::with_max_entries(table::SERVICES.capacity, GROWS);
#[map(name = "slots")]
pub(crate) static SLOTS: HashMap<SlotKey, Slot> = HashMap::with_max_entries(table::SLOTS.capacity, GROWS);
#[map(name = "sources")]
pub(crate) static SOURCES: LpmTrie<SourceRange, Source> =
    LpmTrie::with_max_entries(table::SOURCES.capacity, 0);
#[map(name = "choices")]
static CHOICES: HashMap<u32, Choices> = HashMap::with_max_entries(table::CHOICES.capacity, GROWS);
#[map(name = "choices_many")]
static CHOICES_MANY: HashMap<u32, ChoicesMany> =
    HashMap::with_max_entries(table::CHOICES_MANY.capacity, GROWS);
#[map(name = "backends")]
pub(crate) static BACKENDS: Array<Backend> = Array::with_max_entries(table::BACKENDS.capacity, 0);
#[map(name = "affinity")]
pub(crate) static AFFINITY: LruHashMap<AffinityKey, Affinity> =
    LruHashMap::with_max_entries(table::AFFINITY.capacity, 0);
#[map(name = "flows")]
pub(crate) static FLOWS: Array<Group> = Array::with_max_entries(table::FLOWS.capacity, MAPPED);
#[map(name = "endpoints")]
pub(crate) static ENDPOINTS: HashMap<Address, Endpoint> =
    HashMap::with_max_entries(table::ENDPOINTS.capacity, GROWS);
#[map(name = "routes")]
pub(crate) static ROUTES: LpmTrie<Address, Route> = LpmTrie::with_max_entries(table::ROUTES.capacity, 0);
#[map(name = "nodes")]
pub(crate) static NODES: HashMap<Address, Node> = HashMap::with_max_entries(table::NODES.capacity, GROWS);
#[map(name = "netns")]
pub(crate) static NETNS: HashMap<u64, Netns> = HashMap::with_max_entries(table::NETNS.capacity, GROWS);
#[map(name = "socket_flows")]
pub(crate) static SOCKET_FLOWS: LruHashMap<SocketKey, SocketFlow> =
    LruHashMap::with_max_entries(table::SOCKET_FLOWS.capacity, 0);
#[map(name = "fragments")]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts> =
    LruHashMap::with_max_entries(table::FRAGMENTS.capacity, 0);
#[map(name = "events")]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(table::EVENTS.capacity, 0);
#[map(name = "counters")]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(table::COUNTERS_MAP.capacity, 0);
/// Room for one walk: the stack has 512 bytes. A packet program is never interrupted by another on its CPU.
#[map(name = "scratch")]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The node's settings; none before the agent wrote them in this layout.
#[inline(always)]
pub(crate) fn config() -> Option<&'static Config> {
    let config = CONFIG.get_ptr(0)?;
    // SAFETY: the row is in an array map, which never frees rows; the agent replaces it as a whole.
    let config = unsafe { &*config };
    (config.layout == LAYOUT).then_some(config)
}

/// This CPU's room for a walk.
#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: only packet programs use it, each to its end, with bottom halves disabled.
    SCRATCH.get_ptr_mut(0).map(|row| unsafe { &mut *row })
}

/// Counts one.
#[inline(always)]
pub(crate) fn count(counter: Counter) {
    add(counter as u32, 1);
}

/// Counts several.
#[inline(always)]
pub(crate) fn count_by(counter: Counter, several: u64) {
    add(counter as u32, several);
}

/// Counts one in a row of the table of counters.
#[inline(always)]
pub(crate) fn count_row(row: u32) {
    add(row, 1);
}

#[inline(always)]
fn add(row: u32, several: u64) {
    if let Some(value) = COUNTERS.get_ptr_mut(row) {
        // SAFETY: the row is this CPU's own.
        unsafe { *value = (*value).wrapping_add(several) };
    }
}

/// The row under this key, to read and write.
#[inline(always)]
pub(crate) fn flow(key: &Tuple) -> Option<&'static mut Flow> {
    let mut number = table_of_flows::flow_find(key);
    if number < 0 && before::bridging() && before::adopt(key) {
        number = table_of_flows::flow_find(key);
    }
    // SAFETY: rows of an array are there always; one may be given to another flow under us, which makes one packet meet that
    // flow's row once. No row has pointers.
    table_of_flows::row(number).map(|row| unsafe { &mut *row })
}

/// Writes a flow's row, with the kernel's flags for an insert.
#[inline(always)]
pub(crate) fn put_flow(key: &Tuple, row: &Flow, flags: u64) -> Result<(), i32> {
    if dry() {
        return if flags != 0 && table_of_flows::flow_find(key) >= 0 { Err(EEXIST) } else { Ok(()) };
    }
    match table_of_flows::flow_put(key, row, flags) {
        0 => {}
        error => return Err(error),
    }
    if before::bridging() {
        before::tell(key, row);
    }
    Ok(())
}

/// Writes both rows of a flow that begins, if its reverse tuple is free and that is simple; if not, neither.
#[inline(always)]
pub(crate) fn put_both(key: &Tuple, row: &Flow, twin_key: &Tuple, twin: &Flow) -> bool {
    !dry() && !before::bridging() && table_of_flows::flow_put_both(key, row, twin_key, twin) == 0
}

/// Removes a flow's row; one that is gone already is what is wanted.
#[inline(always)]
pub(crate) fn remove_flow(key: &Tuple) {
    if dry() {
        return;
    }
    let _ = table_of_flows::flow_remove(key);
    if before::bridging() {
        before::forget(key);
    }
}

/// The number of the backend that a Service row's table has for a point; 0 when there is none.
#[inline(always)]
pub(crate) fn choice(service: &Service, point: u32) -> u32 {
    if service.flags & SERVICE_CHOICES == 0 {
        return 0;
    }
    if service.flags & SERVICE_CHOICES_MANY != 0 {
        let Some(row) = CHOICES_MANY.get_ptr(&service.id) else { return 0 };
        return at(row.cast(), place(point, PLACES_MANY), PLACES_MANY);
    }
    let Some(row) = CHOICES.get_ptr(&service.id) else { return 0 };
    at(row.cast(), place(point, PLACES), PLACES)
}

#[inline(always)]
fn at(row: *const u32, place: usize, places: usize) -> u32 {
    // The compiler knows that it is less, and would write that so that the verifier does not see it.
    let place = core::hint::black_box(place);
    if place >= places {
        return 0;
    }
    // SAFETY: a row has so many; it is written as a whole, and a reused one is another Service's, whose backends are checked
    // as any.
    unsafe { row.add(place).read_volatile() }
}

/// The backend of this number, whether ready or not.
#[inline(always)]
pub(crate) fn backend(id: u32) -> Option<&'static Backend> {
    BACKENDS.get(id)
}

/// The Pod of this node with this address.
#[inline(always)]
pub(crate) fn endpoint(address: &Address) -> Option<&'static Endpoint> {
    // SAFETY: a reused row is a Pod that came in this instant; no row has pointers.
    ENDPOINTS.get_ptr(address).map(|row| unsafe { &*row })
}

/// The node with this underlay address.
#[inline(always)]
pub(crate) fn node(address: &Address) -> Option<&'static Node> {
    // SAFETY: as for endpoints.
    NODES.get_ptr(address).map(|row| unsafe { &*row })
}
