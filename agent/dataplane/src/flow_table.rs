//! The table of flows, read and written as the agent's own memory while the programs work on it. Its shape and rules stand in
//! the abi's `flow_table.rs`.
#![allow(unsafe_code)]

use std::hint::spin_loop;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::MapData;
use weft_dataplane_abi::conntrack::{Flow, Tuple};
use weft_dataplane_abi::flow_table::{GROUP, HEAD_BYTES, HEADS_BYTES, ROWS, Spot, WAYS, spot};
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

/// Words of a key.
const KEY_WORDS: usize = size_of::<Tuple>() / 8;
/// Place of a row's `seen_ns`, in words.
const SEEN: usize = KEY_WORDS + std::mem::offset_of!(Flow, seen_ns) / 8;
/// Place of the first tag in a bucket, bytes.
const TAGS: usize = 16;
/// What [`ORDERED_STORES`](weft_dataplane_abi::flow_table::ORDERED_STORES) is on this machine.
pub const STORES_ARE_ORDERED: u32 = if cfg!(target_arch = "x86_64") { 1 } else { 0 };
/// Place of the seed in the first bucket, bytes.
const SEED: usize = TAGS + 4 * WAYS;
/// How long a lock may be waited for: a program holds it for some hundred nanoseconds.
const LOCK_MAX: Duration = Duration::from_millis(100);
/// How long a lock must be held to be one that a killed agent has left.
const LOCK_DEAD: Duration = Duration::from_millis(20);

/// A table as it is in the kernel, of this layout or another.
#[derive(Debug)]
pub struct FlowTable {
    memory: NonNull<u8>,
    bytes: usize,
    buckets: usize,
    group_bytes: usize,
    row_words: usize,
}

// SAFETY: the memory is shared with the kernel in any case; everything here reads and writes it by atomics.
unsafe impl Send for FlowTable {}
// SAFETY: as above.
unsafe impl Sync for FlowTable {}

impl Drop for FlowTable {
    fn drop(&mut self) {
        // SAFETY: mapped in `of`, and nobody has a reference any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.bytes) };
    }
}

impl FlowTable {
    /// Opens the table that is pinned there.
    ///
    /// # Errors
    /// There is none, or it is another kind of table.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::symlink_metadata(path)?;
        Self::of(&MapData::from_pin(path).map_err(io::Error::other)?)
    }

    /// The memory of a table.
    ///
    /// # Errors
    /// It is another kind of table, or cannot be mapped.
    pub fn of(map: &MapData) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        let (group_bytes, groups) = (info.value_size() as usize, info.max_entries() as usize);
        let row_bytes = group_bytes.saturating_sub(HEADS_BYTES) / ROWS;
        let whole = row_bytes.is_multiple_of(8) && HEADS_BYTES + ROWS * row_bytes == group_bytes;
        if !whole || row_bytes / 8 <= SEEN {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a table of flows"));
        }
        Self::map(libc::MAP_SHARED, map.fd().as_fd().as_raw_fd(), groups * GROUP, row_bytes / 8)
    }

    fn map(flags: i32, fd: RawFd, buckets: usize, row_words: usize) -> io::Result<Self> {
        let group_bytes = HEADS_BYTES + ROWS * row_words * 8;
        let bytes = group_bytes * buckets.div_ceil(GROUP);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: asks for new memory; the kernel checks the descriptor and the length.
        let memory = unsafe { libc::mmap(null_mut(), bytes, access, flags, fd, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { memory, bytes, buckets, group_bytes, row_words })
    }

    /// How many buckets it has.
    #[must_use]
    pub fn buckets(&self) -> u32 {
        u32::try_from(self.buckets).unwrap_or(u32::MAX)
    }

    /// How many groups of buckets it has.
    #[must_use]
    pub fn groups(&self) -> u32 {
        u32::try_from(self.buckets.div_ceil(GROUP)).unwrap_or(u32::MAX)
    }

    /// Words of 8 bytes that a row has, with its key.
    #[must_use]
    pub fn row_words(&self) -> usize {
        self.row_words
    }

    /// How many rows it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buckets * WAYS
    }

    /// The seed of its hash; zero before it has one.
    #[must_use]
    pub fn seed(&self) -> [u64; 2] {
        [SEED, SEED + 8].map(|at| self.word(at).load(Ordering::Relaxed))
    }

    /// Gives an empty table the seed that its programs are loaded with.
    pub fn sow(&self, seed: [u64; 2]) {
        self.word(SEED).store(seed[0], Ordering::Relaxed);
        self.word(SEED + 8).store(seed[1], Ordering::Relaxed);
    }

    /// How many rows are in use.
    #[must_use]
    pub fn used(&self) -> usize {
        let ways = (0..self.buckets).flat_map(|bucket| (0..WAYS).map(move |way| (bucket, way)));
        ways.filter(|(bucket, way)| self.tag(*bucket, *way).load(Ordering::Relaxed) != 0).count()
    }

    /// Every row as far as this layout knows it. Rows that come or go meanwhile are given or not.
    pub fn rows(&self) -> impl Iterator<Item = (Tuple, Flow)> {
        self.raw_rows().map(|(key, row)| {
            let mut flow = Flow::new_zeroed();
            let shared = size_of::<Flow>().min(row.len());
            flow.as_mut_bytes()[..shared].copy_from_slice(&row[..shared]);
            (key, flow)
        })
    }

    /// Every row as bytes.
    pub fn raw_rows(&self) -> impl Iterator<Item = (Tuple, Vec<u8>)> {
        let ways = (0..self.buckets).flat_map(|bucket| (0..WAYS).map(move |way| (bucket, way)));
        ways.filter_map(|(bucket, way)| self.read(bucket, way))
    }

    /// The row of a key.
    #[must_use]
    pub fn find(&self, key: &Tuple) -> Option<Flow> {
        let spot = self.spot(key);
        let (bucket, way) = [spot.first, spot.second]
            .into_iter()
            .find_map(|bucket| Some((bucket as usize, self.way_of(bucket as usize, spot.tag, key)?)))?;
        let (found, row) = self.read(bucket, way)?;
        (found == *key).then(|| Flow::read_from_prefix(&row).ok().map(|(flow, _)| flow)).flatten()
    }

    /// Writes a row where there is none under its key, or replaces it. Says whether it did. What `flow` has more than a row
    /// holds is left out; what it lacks is zero.
    ///
    /// # Errors
    /// Nobody let go of the bucket's lock.
    pub fn put(&self, key: &Tuple, flow: &[u8], replace: bool) -> io::Result<bool> {
        let spot = self.spot(key);
        let (first, second) = (spot.first as usize, spot.second as usize);
        let _first = self.lock(first, LOCK_MAX)?;
        if let Some(way) = self.way_of(first, spot.tag, key) {
            if replace {
                self.fill(first, way, spot.tag, key, flow);
            }
            return Ok(replace);
        }
        let room = self.free(first);
        if first != second && (room.is_none() || self.word_of(first, 8).load(Ordering::Relaxed) != 0) {
            // As the programs do: who holds the second may want the first, so it is not waited for.
            if let Ok(_second) = self.lock(second, Duration::ZERO) {
                let there = self.way_of(second, spot.tag, key);
                if there.is_some() && !replace {
                    return Ok(false);
                }
                if let Some(way) = there.or_else(|| self.free(second).filter(|_| room.is_none())) {
                    self.word_of(first, 8).store(1, Ordering::Relaxed);
                    self.fill(second, way, spot.tag, key, flow);
                    return Ok(true);
                }
            }
        }
        let way = room.unwrap_or_else(|| self.oldest(first));
        self.fill(first, way, spot.tag, key, flow);
        Ok(true)
    }

    /// Removes the row of a key, if there is one.
    ///
    /// # Errors
    /// Nobody let go of the bucket's lock.
    pub fn remove(&self, key: &Tuple) -> io::Result<()> {
        let spot = self.spot(key);
        for bucket in [spot.first as usize, spot.second as usize] {
            if self.way_of(bucket, spot.tag, key).is_some() {
                let _locked = self.lock(bucket, LOCK_MAX)?;
                if let Some(way) = self.way_of(bucket, spot.tag, key) {
                    self.tag(bucket, way).store(0, Ordering::Release);
                }
            }
        }
        Ok(())
    }

    /// Frees locks that an agent held when it was killed: programs let go at once. Says how many.
    pub fn free_dead_locks(&self) -> usize {
        let held = |bucket: &usize| self.word_of(*bucket, 0).load(Ordering::Relaxed) != 0;
        let suspects: Vec<usize> = (0..self.buckets).filter(held).collect();
        if suspects.is_empty() {
            return 0;
        }
        // One that is free at any look is not dead.
        let end = Instant::now() + LOCK_DEAD;
        let mut dead = suspects;
        while Instant::now() < end && !dead.is_empty() {
            dead.retain(held);
            thread::yield_now();
        }
        dead.iter().for_each(|bucket| self.word_of(*bucket, 0).store(0, Ordering::Release));
        dead.len()
    }

    fn spot(&self, key: &Tuple) -> Spot {
        spot(words_of(key), self.seed(), self.buckets())
    }

    fn read(&self, bucket: usize, way: usize) -> Option<(Tuple, Vec<u8>)> {
        let tag = self.tag(bucket, way).load(Ordering::Acquire);
        if tag == 0 {
            return None;
        }
        let mut key = Tuple::new_zeroed();
        copy_words(key.as_mut_bytes(), |i| self.row_word(bucket, way, i).load(Ordering::Relaxed));
        let mut row = vec![0; (self.row_words - KEY_WORDS) * 8];
        copy_words(&mut row, |i| self.row_word(bucket, way, KEY_WORDS + i).load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        // A row is written while its tag is 0, and the tag is the key's.
        let still = self.tag(bucket, way).load(Ordering::Relaxed) == tag;
        (still && self.spot(&key).tag == tag).then_some((key, row))
    }

    fn way_of(&self, bucket: usize, tag: u32, key: &Tuple) -> Option<usize> {
        let words = words_of(key);
        (0..WAYS).find(|way| {
            self.tag(bucket, *way).load(Ordering::Acquire) == tag
                && (0..KEY_WORDS).all(|i| self.row_word(bucket, *way, i).load(Ordering::Relaxed) == words[i])
        })
    }

    fn free(&self, bucket: usize) -> Option<usize> {
        (0..WAYS).find(|way| self.tag(bucket, *way).load(Ordering::Relaxed) == 0)
    }

    fn oldest(&self, bucket: usize) -> usize {
        let seen = |way: &usize| self.row_word(bucket, *way, SEEN).load(Ordering::Relaxed);
        (0..WAYS).min_by_key(seen).unwrap_or(0)
    }

    fn fill(&self, bucket: usize, way: usize, tag: u32, key: &Tuple, flow: &[u8]) {
        self.tag(bucket, way).store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        for (i, word) in words_of(key).into_iter().enumerate() {
            self.row_word(bucket, way, i).store(word, Ordering::Relaxed);
        }
        let mut words = flow.chunks_exact(8).map(|bytes| bytes.try_into().map_or(0, u64::from_ne_bytes));
        for i in KEY_WORDS..self.row_words {
            self.row_word(bucket, way, i).store(words.next().unwrap_or(0), Ordering::Relaxed);
        }
        self.tag(bucket, way).store(tag, Ordering::Release);
    }

    fn lock(&self, bucket: usize, patience: Duration) -> io::Result<Locked<'_>> {
        let lock = self.word_of(bucket, 0);
        let end = Instant::now() + patience;
        while lock.swap(1, Ordering::SeqCst) != 0 {
            if Instant::now() >= end {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            spin_loop();
        }
        Ok(Locked(lock))
    }

    fn tag(&self, bucket: usize, way: usize) -> &AtomicU32 {
        let at = self.head(bucket) + TAGS + 4 * way;
        assert!(way < WAYS && bucket < self.buckets);
        // SAFETY: within the memory, which lives as long as this, and aligned.
        unsafe { AtomicU32::from_ptr(self.memory.as_ptr().add(at).cast()) }
    }

    fn row_word(&self, bucket: usize, way: usize, i: usize) -> &AtomicU64 {
        debug_assert!(way < WAYS && i < self.row_words);
        let row = bucket % GROUP * WAYS + way;
        self.word(bucket / GROUP * self.group_bytes + HEADS_BYTES + 8 * (row * self.row_words + i))
    }

    /// Place of a bucket's head, bytes.
    fn head(&self, bucket: usize) -> usize {
        bucket / GROUP * self.group_bytes + bucket % GROUP * HEAD_BYTES
    }

    fn word_of(&self, bucket: usize, at: usize) -> &AtomicU64 {
        self.word(self.head(bucket) + at)
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at < self.bytes);
        // SAFETY: within the memory, which lives as long as this, and aligned.
        unsafe { AtomicU64::from_ptr(self.memory.as_ptr().add(at).cast()) }
    }
}

/// A bucket's lock, held.
struct Locked<'a>(&'a AtomicU64);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

/// A key as it stands in memory.
fn words_of(key: &Tuple) -> [u64; KEY_WORDS] {
    zerocopy::transmute!(*key)
}

fn copy_words(to: &mut [u8], word: impl Fn(usize) -> u64) {
    for (i, bytes) in to.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&word(i).to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use weft_dataplane_abi::address::Address;

    const SEED_OF_TESTS: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];

    fn table(buckets: usize) -> FlowTable {
        let row_words = KEY_WORDS + size_of::<Flow>() / 8;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let table = FlowTable::map(flags, -1, buckets, row_words).unwrap();
        table.sow(SEED_OF_TESTS);
        table
    }

    fn key(n: u32) -> Tuple {
        Tuple { source: Address::v4(Ipv4Addr::from(n)), protocol: 6, ..Tuple::default() }
    }

    fn put(table: &FlowTable, n: u32, replace: bool) -> bool {
        let row = Flow { to: key(n), seen_ns: u64::from(n), ..Flow::default() };
        table.put(&key(n), row.as_bytes(), replace).unwrap()
    }

    #[test]
    fn rows_are_written_found_replaced_and_removed() {
        let table = table(64);
        assert_eq!((table.seed(), table.capacity(), table.used()), (SEED_OF_TESTS, 512, 0));
        (1..=200).for_each(|n| assert!(put(&table, n, false)));
        assert!(!put(&table, 17, false) && put(&table, 17, true));
        assert_eq!((table.used(), table.rows().count()), (200, 200));
        for n in 1..=200 {
            assert_eq!(table.find(&key(n)).map(|row| row.seen_ns), Some(u64::from(n)));
        }
        (1..=100).for_each(|n| table.remove(&key(n)).unwrap());
        assert_eq!(table.used(), 100);
        assert!(table.find(&key(100)).is_none() && table.find(&key(101)).is_some());
    }

    #[test]
    fn two_buckets_are_filled_before_a_row_goes_and_the_oldest_goes() {
        let table = table(2);
        let capacity = u32::try_from(table.capacity()).unwrap();
        let mut kept_all = true;
        for n in 1..=40 {
            assert!(put(&table, n, false));
            assert!(table.find(&key(n)).is_some(), "the newest is there");
            kept_all &= n > capacity || table.used() == n as usize || n > capacity / 2;
        }
        assert!(kept_all, "nothing goes while one bucket's rows fit");
        assert_eq!(table.used(), table.capacity());
        assert!(table.find(&key(1)).is_none(), "the oldest went");
    }

    #[test]
    fn rows_of_other_layouts_are_read_as_far_as_they_are_known() {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let longer = FlowTable::map(flags, -1, 4, KEY_WORDS + size_of::<Flow>() / 8 + 2).unwrap();
        assert!(put(&longer, 5, false));
        let (_, row) = longer.raw_rows().next().unwrap();
        assert_eq!(row.len(), size_of::<Flow>() + 16);
        assert!(row[size_of::<Flow>()..].iter().all(|byte| *byte == 0), "what is not known is zero");
        let table = table(4);
        assert!(table.put(&key(5), &row, false).unwrap());
        assert_eq!(table.find(&key(5)), longer.find(&key(5)));
    }

    #[test]
    fn a_lock_that_a_dead_agent_left_is_freed() {
        let table = table(4);
        assert_eq!(table.free_dead_locks(), 0);
        let bucket = table.spot(&key(1)).first as usize;
        std::mem::forget(table.lock(bucket, Duration::ZERO).unwrap());
        assert!(table.put(&key(1), &[], false).is_err(), "somebody has it");
        assert_eq!(table.free_dead_locks(), 1);
        assert!(table.put(&key(1), &[], false).unwrap());
    }
}
