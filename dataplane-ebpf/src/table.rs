//! The table of flows: found, written, removed. What it looks like stands in the abi's `flow_table.rs`.
//!
//! The functions that search and write are looked at by the verifier once and not at each call: they take and give numbers.

use core::intrinsics::{AtomicOrdering, atomic_xchg};

use aya_ebpf::helpers::bpf_ktime_get_ns;
use weft_dataplane_abi::conntrack::{Flow, Tuple};
use weft_dataplane_abi::flow_table::{BUCKETS, GROUP, HEAD_BYTES, HEADS_BYTES, ROWS, Row, Spot, WAYS, spot};

use crate::before;
use crate::constant::Constant;
use crate::maps::{EEXIST, FLOWS};

/// Buckets of the table, and the seed of its hash. Set by the agent before it loads the programs.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.set")]
static FLOW_BUCKETS: Constant<u32> = Constant::new(BUCKETS);
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.set")]
static FLOW_SEED: Constant<[u64; 2]> = Constant::new([0; 2]);

/// Whether this machine's CPUs show each other's plain stores in the order in which they were made (x86). Set by the agent.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.set")]
static ORDERED_STORES: Constant<u32> = Constant::new(0);

/// How often a lock is tried at once: its holder is done within some hundred nanoseconds.
const LOCK_TRIES_MAX: u32 = 4;
/// How long it is then waited for: its holder's CPU may be at an interrupt.
const WAIT_NS_MAX: u64 = 50_000;
/// And how often it is tried meanwhile, at most.
const WAITS_MAX: u32 = 256;
/// How often that of a second bucket is tried while the first one's is held.
const SECOND_TRIES_MAX: u32 = 4;
/// The kernel's "somebody has it".
const EBUSY: i32 = -16;
/// `BPF_NOEXIST`: insert only where nothing is.
const NOEXIST: u64 = 1;
/// No row.
const NONE: i64 = -1;
const KEY_WORDS: usize = size_of::<Tuple>() / 8;
const FLOW_WORDS: usize = size_of::<Flow>() / 8;
/// Words before a row's `seen_ns`.
const SEEN: usize = KEY_WORDS + core::mem::offset_of!(Flow, seen_ns) / 8;

/// A table with this algorithm: this layout's, or the one from before.
pub(crate) trait Table {
    /// The group of buckets of this number, as its first word.
    fn group(number: u32) -> Option<*mut u64>;
    /// How many buckets there are.
    fn buckets() -> u32;
    /// The seed of its hash.
    fn seed() -> [u64; 2];
    /// Words of a row with its key.
    fn row_words() -> usize;
}

/// What nobody outside knows.
#[inline(always)]
pub(crate) fn flow_seed() -> [u64; 2] {
    FLOW_SEED.get()
}

/// This layout's.
struct Here;

impl Table for Here {
    #[inline(always)]
    fn group(number: u32) -> Option<*mut u64> {
        FLOWS.get_ptr_mut(number).map(<*mut _>::cast)
    }

    #[inline(always)]
    fn buckets() -> u32 {
        FLOW_BUCKETS.get()
    }

    #[inline(always)]
    fn seed() -> [u64; 2] {
        FLOW_SEED.get()
    }

    #[inline(always)]
    fn row_words() -> usize {
        size_of::<Row>() / 8
    }
}

/// Number of a flow's row; negative when there is none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flow_find(key: *const Tuple) -> i64 {
    find_in::<Here>(key)
}

/// Writes a flow's row; 0, or an error of the kernel's.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flow_put(key: *const Tuple, flow: *const Flow, flags: u64) -> i32 {
    put_in::<Here>(key, flow, flags)
}

/// Writes both rows of a flow that begins, where that is simple: the twin's key is free, and both buckets have room. 0, or an
/// error, and then neither is written. Both locks are taken before a row is written, for the second one would wait until the
/// first row's memory has come.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flow_put_both(
    key: *const Tuple,
    flow: *const Flow,
    twin_key: *const Tuple,
    twin: *const Flow,
) -> i32 {
    if key.is_null() || flow.is_null() || twin_key.is_null() || twin.is_null() {
        return EBUSY;
    }
    let (spot, twin_spot) = (spot_of::<Here>(key), spot_of::<Here>(twin_key));
    let (Some(first), Some(other)) = (bucket_of::<Here>(spot.first), bucket_of::<Here>(twin_spot.first))
    else {
        return EBUSY;
    };
    if spot.first == twin_spot.first || !lock(first, SECOND_TRIES_MAX) {
        return EBUSY;
    }
    if !lock(other, SECOND_TRIES_MAX) {
        unlock(first);
        return EBUSY;
    }
    let room = match way_of::<Here>(first, spot.tag, key) {
        None => room_in(first),
        known => known,
    };
    let twin_room = match way_of::<Here>(other, twin_spot.tag, twin_key) {
        None => room_in(other),
        Some(_) => None,
    };
    let answer = match (room, twin_room) {
        (Some(way), Some(twin_way)) => {
            fill::<Here>(other, twin_way, twin_spot.tag, twin_key, twin);
            fill::<Here>(first, way, spot.tag, key, flow);
            0
        }
        _ => EBUSY,
    };
    unlock(other);
    unlock(first);
    answer
}

/// Copies a row of the table from before by its number, with its key: 1, 0 where there is none, or an error of the kernel's.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn before_copy(number: u64, to: *mut before::Room) -> i32 {
    if to.is_null() {
        return EBUSY;
    }
    copy_in::<before::Flows>(number, to)
}

/// Removes a flow's row; 0, or an error of the kernel's.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flow_remove(key: *const Tuple) -> i32 {
    remove_in::<Here>(key)
}

/// As [`flow_find`], of the table from before.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn before_find(key: *const Tuple) -> i64 {
    find_in::<before::Flows>(key)
}

/// As [`flow_put`], of the table from before.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn before_put(key: *const Tuple, flow: *const Flow, flags: u64) -> i32 {
    put_in::<before::Flows>(key, flow, flags)
}

/// As [`flow_remove`], of the table from before.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn before_remove(key: *const Tuple) -> i32 {
    remove_in::<before::Flows>(key)
}

/// The row of this layout's table with this number.
#[inline(always)]
pub(crate) fn row(number: i64) -> Option<*mut Flow> {
    row_in::<Here>(number).map(<*mut _>::cast)
}

/// A row's flow, by its number.
#[inline(always)]
pub(crate) fn row_in<T: Table>(number: i64) -> Option<*mut u64> {
    if number < 0 {
        return None;
    }
    let group = T::group((number as u64 / ROWS as u64) as u32)?;
    // SAFETY: a group has so many rows.
    Some(unsafe { group.add(HEADS_BYTES / 8 + (number as usize % ROWS) * T::row_words() + KEY_WORDS) })
}

/// A bucket.
#[derive(Clone, Copy)]
struct Bucket {
    /// The first word of its head.
    head: *mut u64,
    /// The first word of its rows.
    rows: *mut u64,
}

#[inline(always)]
fn bucket_of<T: Table>(number: u32) -> Option<Bucket> {
    let group = T::group(number / GROUP as u32)?;
    let number = number as usize % GROUP;
    // SAFETY: a group has so many heads, and then so many times WAYS rows.
    unsafe {
        let rows = group.add(HEADS_BYTES / 8 + number * WAYS * T::row_words());
        Some(Bucket { head: group.add(number * HEAD_BYTES / 8), rows })
    }
}

/// The first word of a row.
///
/// # Safety
/// `way` is below WAYS.
#[inline(always)]
unsafe fn words<T: Table>(bucket: Bucket, way: usize) -> *mut u64 {
    // SAFETY: a bucket has so many rows.
    unsafe { bucket.rows.add(way * T::row_words()) }
}

#[inline(always)]
fn lock_of(bucket: Bucket) -> *mut u64 {
    bucket.head
}

#[inline(always)]
fn spilled_of(bucket: Bucket) -> *mut u64 {
    // SAFETY: the second word of the head.
    unsafe { bucket.head.add(1) }
}

#[inline(always)]
fn tag_of(bucket: Bucket, way: usize) -> *mut u32 {
    // SAFETY: callers count to WAYS; the tags follow the two words.
    unsafe { bucket.head.add(2).cast::<u32>().add(way) }
}

#[inline(always)]
fn spot_of<T: Table>(key: *const Tuple) -> Spot {
    let words = key.cast::<u64>();
    // SAFETY: a key is so many aligned words.
    let word = |i: usize| unsafe { words.add(i).read_volatile() };
    spot([word(0), word(1), word(2), word(3), word(4)], T::seed(), T::buckets())
}

/// The way of a key's row.
#[inline(always)]
fn way_of<T: Table>(bucket: Bucket, tag: u32, key: *const Tuple) -> Option<usize> {
    let mut way = 0;
    while way < WAYS {
        // SAFETY: within the bucket; a key is so many aligned words, and the last of them differs most.
        unsafe {
            if tag_of(bucket, way).read_volatile() == tag {
                let (row, key) = (words::<T>(bucket, way), key.cast::<u64>());
                let same = |i: usize| row.add(i).read_volatile() == key.add(i).read_volatile();
                if same(4) && same(1) && same(3) && same(0) && same(2) {
                    return Some(way);
                }
            }
        }
        way += 1;
    }
    None
}

#[inline(always)]
fn free(bucket: Bucket) -> Option<usize> {
    let mut way = 0;
    while way < WAYS {
        // SAFETY: within the bucket.
        if unsafe { tag_of(bucket, way).read_volatile() } == 0 {
            return Some(way);
        }
        way += 1;
    }
    None
}

/// A free way of a bucket all of whose rows are its own.
#[inline(always)]
fn room_in(bucket: Bucket) -> Option<usize> {
    // SAFETY: within the bucket.
    if unsafe { spilled_of(bucket).read_volatile() } != 0 { None } else { free(bucket) }
}

/// The way that was not seen for longest.
#[inline(always)]
fn oldest<T: Table>(bucket: Bucket) -> usize {
    let (mut found, mut seen_ns) = (0, u64::MAX);
    let mut way = 0;
    while way < WAYS {
        // SAFETY: within the bucket.
        let seen = unsafe { words::<T>(bucket, way).add(SEEN).read_volatile() };
        if seen < seen_ns {
            (found, seen_ns) = (way, seen);
        }
        way += 1;
    }
    found
}

#[inline(always)]
fn exchange(lock: *mut u64, value: u64) -> u64 {
    // SAFETY: an aligned word of an array's row.
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(lock, value) }
}

#[inline(always)]
fn lock(bucket: Bucket, tries_max: u32) -> bool {
    let mut tries = 0;
    while tries < tries_max {
        if exchange(lock_of(bucket), 1) == 0 {
            return true;
        }
        tries += 1;
    }
    false
}

/// Takes a lock, and waits for who has it for as long as an interrupt lasts.
#[inline(always)]
fn lock_patiently(bucket: Bucket) -> bool {
    lock(bucket, LOCK_TRIES_MAX) || flow_wait(lock_of(bucket)) == 0
}

/// Waits for a lock that somebody has: 0 once it is taken, or the kernel's "somebody has it".
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn flow_wait(lock: *mut u64) -> i32 {
    if lock.is_null() {
        return EBUSY;
    }
    let until = time() + WAIT_NS_MAX;
    let mut waits = 0;
    // Each look at the clock takes some tens of nanoseconds, and the verifier one instruction.
    while waits < WAITS_MAX && (time(), time(), time(), time(), time(), time(), time(), time()).7 < until {
        // SAFETY: callers have an aligned word of an array's row.
        if unsafe { lock.read_volatile() } == 0 && exchange(lock, 1) == 0 {
            return 0;
        }
        waits += 1;
    }
    EBUSY
}

#[inline(always)]
fn time() -> u64 {
    // SAFETY: it takes nothing.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn unlock(bucket: Bucket) {
    if ORDERED_STORES.get() == 0 {
        exchange(lock_of(bucket), 0);
    } else {
        // SAFETY: an aligned word of an array's row.
        unsafe { lock_of(bucket).write_volatile(0) };
    }
}

/// What was written to a bucket whose lock is held is seen before what is written after. An exchange of the lock waits for all
/// stores, of which the row's are far away: where stores keep their order by themselves, none is needed.
#[inline(always)]
fn in_order(bucket: Bucket) {
    if ORDERED_STORES.get() == 0 {
        exchange(lock_of(bucket), 1);
    }
}

#[inline(always)]
fn find_in<T: Table>(key: *const Tuple) -> i64 {
    if key.is_null() {
        return NONE;
    }
    let spot = spot_of::<T>(key);
    let Some(bucket) = bucket_of::<T>(spot.first) else { return NONE };
    if let Some(way) = way_of::<T>(bucket, spot.tag, key) {
        return i64::from(spot.first) * WAYS as i64 + way as i64;
    }
    // SAFETY: within the bucket.
    if unsafe { spilled_of(bucket).read_volatile() } == 0 {
        return NONE;
    }
    let Some(bucket) = bucket_of::<T>(spot.second) else { return NONE };
    match way_of::<T>(bucket, spot.tag, key) {
        Some(way) => i64::from(spot.second) * WAYS as i64 + way as i64,
        None => NONE,
    }
}

/// Copies a row, and its key, which nobody writes meanwhile but the programs that meet its packets.
#[inline(always)]
fn copy_in<T: Table>(number: u64, to: *mut before::Room) -> i32 {
    let Some(bucket) = bucket_of::<T>((number / WAYS as u64) as u32) else { return 0 };
    let way = number as usize % WAYS;
    // SAFETY: within the bucket.
    if unsafe { tag_of(bucket, way).read_volatile() } == 0 {
        return 0;
    }
    if !lock_patiently(bucket) {
        return EBUSY;
    }
    // SAFETY: within the bucket; a room has so many aligned words, and a row of any layout has those that all share.
    let there = unsafe {
        let (row, room) = (words::<T>(bucket, way), to.cast::<u64>());
        let mut i = 0;
        while i < KEY_WORDS + before::FLOW_WORDS {
            room.add(i).write_volatile(row.add(i).read_volatile());
            i += 1;
        }
        tag_of(bucket, way).read_volatile() != 0
    };
    unlock(bucket);
    i32::from(there)
}

/// Writes a row into a bucket whose lock is held. Nobody finds it while it is half written.
#[inline(always)]
fn fill<T: Table>(bucket: Bucket, way: usize, tag: u32, key: *const Tuple, flow: *const Flow) {
    let (key, flow) = (key.cast::<u64>(), flow.cast::<u64>());
    // SAFETY: within the bucket; key and flow are so many aligned words.
    unsafe {
        let row = words::<T>(bucket, way);
        tag_of(bucket, way).write_volatile(0);
        in_order(bucket);
        let mut i = 0;
        while i < KEY_WORDS {
            row.add(i).write_volatile(key.add(i).read_volatile());
            i += 1;
        }
        i = 0;
        while i < FLOW_WORDS && KEY_WORDS + i < T::row_words() {
            row.add(KEY_WORDS + i).write_volatile(flow.add(i).read_volatile());
            i += 1;
        }
        // What another layout has more is not known.
        while KEY_WORDS + i < T::row_words() {
            row.add(KEY_WORDS + i).write_volatile(0);
            i += 1;
        }
        in_order(bucket);
        tag_of(bucket, way).write_volatile(tag);
    }
}

#[inline(always)]
fn put_in<T: Table>(key: *const Tuple, flow: *const Flow, flags: u64) -> i32 {
    if key.is_null() || flow.is_null() {
        return EBUSY;
    }
    let spot = spot_of::<T>(key);
    let Some(first) = bucket_of::<T>(spot.first) else { return EBUSY };
    if !lock_patiently(first) {
        return EBUSY;
    }
    let answer = put_locked::<T>(first, &spot, key, flow, flags);
    unlock(first);
    answer
}

#[inline(always)]
fn put_locked<T: Table>(first: Bucket, spot: &Spot, key: *const Tuple, flow: *const Flow, flags: u64) -> i32 {
    if let Some(way) = way_of::<T>(first, spot.tag, key) {
        if flags & NOEXIST != 0 {
            return EEXIST;
        }
        fill::<T>(first, way, spot.tag, key, flow);
        return 0;
    }
    // SAFETY: within the bucket.
    let spilled = unsafe { spilled_of(first).read_volatile() } != 0;
    let room = free(first);
    if (spilled || room.is_none())
        && spot.first != spot.second
        && let Some(answer) = put_second::<T>(first, spot, key, flow, flags, room.is_none())
    {
        return answer;
    }
    fill::<T>(first, room.unwrap_or_else(|| oldest::<T>(first)), spot.tag, key, flow);
    0
}

/// The second bucket's part: the row may be there, and a new one may go there. None: the first one has to take it.
#[inline(always)]
fn put_second<T: Table>(
    first: Bucket,
    spot: &Spot,
    key: *const Tuple,
    flow: *const Flow,
    flags: u64,
    new: bool,
) -> Option<i32> {
    let second = bucket_of::<T>(spot.second)?;
    // Who holds it may want ours.
    if !lock(second, SECOND_TRIES_MAX) {
        return None;
    }
    let found = way_of::<T>(second, spot.tag, key);
    let answer = match (found, found.or_else(|| if new { free(second) } else { None })) {
        (Some(_), _) if flags & NOEXIST != 0 => Some(EEXIST),
        (_, Some(way)) => {
            // SAFETY: within the bucket.
            unsafe { spilled_of(first).write_volatile(1) };
            fill::<T>(second, way, spot.tag, key, flow);
            Some(0)
        }
        _ => None,
    };
    unlock(second);
    answer
}

#[inline(always)]
fn remove_in<T: Table>(key: *const Tuple) -> i32 {
    if key.is_null() {
        return EBUSY;
    }
    let spot = spot_of::<T>(key);
    let Some(first) = bucket_of::<T>(spot.first) else { return EBUSY };
    if !lock_patiently(first) {
        return EBUSY;
    }
    let mut found = clear::<T>(first, spot.tag, key);
    // SAFETY: within the bucket.
    if !found && unsafe { spilled_of(first).read_volatile() } != 0 && spot.first != spot.second {
        if let Some(second) = bucket_of::<T>(spot.second) {
            if lock(second, SECOND_TRIES_MAX) {
                found = clear::<T>(second, spot.tag, key);
                unlock(second);
            }
        }
    }
    unlock(first);
    let _ = found;
    0
}

#[inline(always)]
fn clear<T: Table>(bucket: Bucket, tag: u32, key: *const Tuple) -> bool {
    let way = way_of::<T>(bucket, tag, key);
    if let Some(way) = way {
        // SAFETY: within the bucket.
        unsafe { tag_of(bucket, way).write_volatile(0) };
    }
    way.is_some()
}
