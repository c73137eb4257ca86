//! The other layout's tables, while its programs are replaced by these: hook by hook, with packets under way.
//!
//! Until the last hook is replaced, programs of both layouts work side by side on the same flows. So these look where the others
//! have written when they know nothing themselves, and write what they begin where the others look. A constant says whether there
//! is another layout; where there is none, the verifier takes all of this out.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray};
use weft_dataplane_abi::bridge::{
    AFFINITY_BRIDGE, FLOW_BYTES_SHARED, SOCKETS_BRIDGE, SWEEP_HELD, SWEEP_ROWS, VALUE_BYTES_MAX,
};
use weft_dataplane_abi::conntrack::{Flow, Tuple};
use weft_dataplane_abi::flow_table::{GROUP, Group, Row};
use weft_dataplane_abi::service::{Affinity, AffinityKey};
use weft_dataplane_abi::socket::{SocketFlow, SocketKey};

use crate::constant::Constant;
use crate::maps::{AFFINITY, EEXIST, MAPPED, SOCKET_FLOWS};
use crate::table::{self, Table};

/// Set by the agent before it loads the programs.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.set")]
static BRIDGE: Constant<u32> = Constant::new(0);

/// Of the other layout's table of flows: its buckets, the seed of its hash, and words of a row with its key.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.set")]
static BEFORE_BUCKETS: Constant<u32> = Constant::new(GROUP as u32);
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.set")]
static BEFORE_SEED: Constant<[u64; 2]> = Constant::new([0; 2]);
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.set")]
static BEFORE_ROW_WORDS: Constant<u32> = Constant::new((size_of::<Row>() / 8) as u32);

/// A value of any layout; what this one does not know is zero.
type Value = [u64; VALUE_BYTES_MAX as usize / 8];
/// Rows of a table that stands for none.
const NONE: u32 = 16;
/// Words of a flow's row that all layouts share.
pub(crate) const FLOW_WORDS: usize = FLOW_BYTES_SHARED / 8;
const _: () = assert!(SOCKETS_BRIDGE.shared_bytes == 40 && AFFINITY_BRIDGE.shared_bytes == 16);
/// `BPF_NOEXIST`: insert only where nothing is.
const NOEXIST: u64 = 1;

#[map(name = "flows_before")]
static FLOWS_BEFORE: Array<Group> = Array::with_max_entries(1, MAPPED);
#[map(name = "sockets_before")]
static SOCKETS_BEFORE: LruHashMap<SocketKey, Value> = LruHashMap::with_max_entries(NONE, 0);
#[map(name = "affinity_before")]
static AFFINITY_BEFORE: LruHashMap<AffinityKey, Value> = LruHashMap::with_max_entries(NONE, 0);
/// Room for one row of a flow with its key.
#[repr(C)]
pub struct Room {
    key: Tuple,
    row: Value,
}

/// A room for packet programs, which do not interrupt each other on their CPU, and one for the sweep, which older kernels let
/// packets interrupt.
#[map(name = "before_room")]
static ROOMS: PerCpuArray<Room> = PerCpuArray::with_max_entries(2, 0);
const OF_PACKETS: u32 = 0;
const OF_SWEEP: u32 = 1;

/// Whether there is another layout.
#[inline(always)]
pub(crate) fn bridging() -> bool {
    BRIDGE.get() != 0
}

/// The other layout's table of flows.
pub(crate) struct Flows;

impl Table for Flows {
    #[inline(always)]
    fn group(number: u32) -> Option<*mut u64> {
        FLOWS_BEFORE.get_ptr_mut(number).map(<*mut _>::cast)
    }

    #[inline(always)]
    fn buckets() -> u32 {
        BEFORE_BUCKETS.get()
    }

    #[inline(always)]
    fn seed() -> [u64; 2] {
        BEFORE_SEED.get()
    }

    #[inline(always)]
    fn row_words() -> usize {
        BEFORE_ROW_WORDS.get() as usize
    }
}

/// Brings over the flow under this key; whether there was one.
#[inline(never)]
pub(crate) fn adopt(key: &Tuple) -> bool {
    let Some(from) = table::row_in::<Flows>(table::before_find(key)) else { return false };
    let Some(room) = ROOMS.get_ptr_mut(OF_PACKETS) else { return false };
    // SAFETY: the room is this CPU's own.
    let row = unsafe { &raw mut (*room).row }.cast::<u64>();
    let mut i = 0;
    while i < FLOW_WORDS {
        // SAFETY: a row of any layout has so many words, and the room more.
        unsafe { row.add(i).write_volatile(from.add(i).read_volatile()) };
        i += 1;
    }
    // It may have been brought over in this instant by another CPU.
    let _ = table::flow_put(key, row.cast(), NOEXIST);
    true
}

/// Brings over what rows there are from this number on and not here yet. Its answer is told in the abi's `bridge.rs`.
#[inline(always)]
pub(crate) fn sweep(first: u32) -> i32 {
    let mut answer = 0;
    let mut i = 0;
    while i < u64::from(SWEEP_ROWS) {
        answer += before_bring(u64::from(first) + i);
        i += 1;
    }
    answer
}

/// Brings over the row of this number: 1 if it is written, 0 if it need not be, [`SWEEP_HELD`] where somebody holds a bucket.
/// A function that the verifier looks at once, and whose answer is a number to it: else it would go through the loop by as many
/// ways as there are sums.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn before_bring(number: u64) -> i32 {
    let Some(room) = ROOMS.get_ptr_mut(OF_SWEEP) else { return 0 };
    match table::before_copy(number, room) {
        0 => 0,
        // SAFETY: the room is this CPU's own, and a row has been copied to it.
        1 => {
            match unsafe { table::flow_put(&raw const (*room).key, (&raw const (*room).row).cast(), NOEXIST) }
            {
                0 => 1,
                EEXIST => 0,
                _ => SWEEP_HELD,
            }
        }
        _ => SWEEP_HELD,
    }
}

/// Tells the other layout's programs of a row that was written.
#[inline(always)]
pub(crate) fn tell(key: &Tuple, row: &Flow) {
    // A row that could not be written is one that the table had no room for.
    let _ = table::before_put(key, row, 0);
}

/// Has the other layout's programs forget a row.
#[inline(always)]
pub(crate) fn forget(key: &Tuple) {
    let _ = table::before_remove(key);
}

/// What was decided at connect. Only fields that all layouts share may be read.
#[inline(always)]
pub(crate) fn socket_flow(key: &SocketKey) -> Option<*const SocketFlow> {
    match SOCKET_FLOWS.get_ptr(key) {
        None if bridging() => SOCKETS_BEFORE.get_ptr(key).map(<*const Value>::cast),
        found => found,
    }
}

/// The backend a client had. Only fields that all layouts share may be read or written.
#[inline(always)]
pub(crate) fn affinity(key: &AffinityKey) -> Option<*mut Affinity> {
    match AFFINITY.get_ptr_mut(key) {
        None if bridging() => AFFINITY_BEFORE.get_ptr_mut(key).map(<*mut Value>::cast),
        found => found,
    }
}
