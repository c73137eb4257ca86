//! The table of flows, read as the agent's own memory while the programs work on it. Its shape and rules stand in the abi's
//! `flow_table.rs`. The agent writes no row there: who does so holds a bucket's lock, which programs want, and the agent may lose
//! its CPU at any place and for as long as the machine likes. What it takes away it takes by one exchange.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use aya::maps::MapData;
use weft_dataplane_abi::conntrack::{Flow, Tuple};
use weft_dataplane_abi::flow_table::{GROUP, HEAD_BYTES, HEADS_BYTES, ROWS, Spot, WAYS, spot};
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

use crate::sys;

/// Words of a key.
const KEY_WORDS: usize = size_of::<Tuple>() / 8;
/// Place of the first tag in a bucket, bytes.
const TAGS: usize = 16;
/// What [`ORDERED_STORES`](weft_dataplane_abi::flow_table::ORDERED_STORES) is on this machine.
pub const STORES_ARE_ORDERED: u32 = if cfg!(target_arch = "x86_64") { 1 } else { 0 };
/// Place of the seed in the first bucket, bytes.
const SEED: usize = TAGS + 4 * WAYS;

/// A table as it is in the kernel, of this layout or another.
#[derive(Debug)]
pub struct FlowTable {
    memory: NonNull<u8>,
    bytes: usize,
    buckets: usize,
    group_bytes: usize,
    row_words: usize,
}

// SAFETY: the memory is shared with the kernel in any case; everything here reads it by atomics.
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
        Self::mapped(map, libc::PROT_READ)
    }

    fn mapped(map: &MapData, access: i32) -> io::Result<Self> {
        let info = map.info().map_err(io::Error::other)?;
        let (group_bytes, groups) = (info.value_size() as usize, info.max_entries() as usize);
        let row_bytes = group_bytes.saturating_sub(HEADS_BYTES) / ROWS;
        let whole = row_bytes.is_multiple_of(8) && HEADS_BYTES + ROWS * row_bytes == group_bytes;
        if !whole || row_bytes / 8 <= KEY_WORDS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a table of flows"));
        }
        let fd = map.fd().as_fd().as_raw_fd();
        Self::map((access, libc::MAP_SHARED), fd, groups * GROUP, row_bytes / 8)
    }

    fn map((access, flags): (i32, i32), fd: RawFd, buckets: usize, row_words: usize) -> io::Result<Self> {
        let group_bytes = HEADS_BYTES + ROWS * row_words * 8;
        let bytes = group_bytes * buckets.div_ceil(GROUP);
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

    /// Gives a table that no program has used yet the seed that its programs are loaded with.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub(crate) fn sow(path: &Path, seed: [u64; 2]) -> io::Result<()> {
        let map = MapData::from_pin(path).map_err(io::Error::other)?;
        let mut group = vec![0; map.info().map_err(io::Error::other)?.value_size() as usize];
        group[SEED..SEED + 16].copy_from_slice(seed.as_bytes());
        sys::put_row(map.fd().as_fd(), &0_u32.to_ne_bytes(), &group, 0)
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

    fn spot(&self, key: &Tuple) -> Spot {
        spot(words_of(key), self.seed(), self.buckets())
    }

    fn read(&self, bucket: usize, way: usize) -> Option<(Tuple, Vec<u8>)> {
        // Of memory that is only read a relaxed load is all that is sure to be one: the order is the fence's.
        let tag = self.tag(bucket, way).load(Ordering::Relaxed);
        fence(Ordering::Acquire);
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
            let found = self.tag(bucket, *way).load(Ordering::Relaxed) == tag;
            fence(Ordering::Acquire);
            found
                && (0..KEY_WORDS).all(|i| self.row_word(bucket, *way, i).load(Ordering::Relaxed) == words[i])
        })
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

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at < self.bytes);
        // SAFETY: within the memory, which lives as long as this, and aligned.
        unsafe { AtomicU64::from_ptr(self.memory.as_ptr().add(at).cast()) }
    }
}

/// A table from which rows are taken away.
#[derive(Debug)]
pub struct Removal(FlowTable);

impl Removal {
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
        FlowTable::mapped(map, libc::PROT_READ | libc::PROT_WRITE).map(Self)
    }

    /// Takes the row of a key away, if there is one: its tag is exchanged, for which no lock is needed. A program that writes the
    /// row at the same time has it stay.
    pub fn remove(&self, key: &Tuple) {
        let Self(table) = self;
        let spot = table.spot(key);
        for bucket in [spot.first as usize, spot.second as usize] {
            if let Some(way) = table.way_of(bucket, spot.tag, key) {
                // If it is another flow's by now, that one has this tag once in 2^31.
                let tag = table.tag(bucket, way);
                let _ = tag.compare_exchange(spot.tag, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
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

    const FLOW_WORDS: usize = size_of::<Flow>() / 8;

    /// A table as programs might have written it, whose rows are so many words longer than this layout's.
    fn table(buckets: usize, more: usize) -> FlowTable {
        let memory = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let table = FlowTable::map(memory, -1, buckets, KEY_WORDS + FLOW_WORDS + more).unwrap();
        table.word(SEED).store(SEED_OF_TESTS[0], Ordering::Relaxed);
        table.word(SEED + 8).store(SEED_OF_TESTS[1], Ordering::Relaxed);
        table
    }

    fn key(n: u32) -> Tuple {
        Tuple { source: Address::v4(Ipv4Addr::from(n)), protocol: 6, ..Tuple::default() }
    }

    /// Writes a row to a way of its first bucket, or of its second.
    fn write(table: &FlowTable, n: u32, way: usize, second: bool) {
        let row = Flow { to: key(n), seen_ns: u64::from(n), ..Flow::default() };
        let flow: [u64; FLOW_WORDS] = zerocopy::transmute!(row);
        let spot = table.spot(&key(n));
        let bucket = if second { spot.second } else { spot.first } as usize;
        for (i, word) in words_of(&key(n)).into_iter().chain(flow).enumerate() {
            table.row_word(bucket, way, i).store(word, Ordering::Relaxed);
        }
        table.tag(bucket, way).store(spot.tag, Ordering::Relaxed);
    }

    #[test]
    fn rows_are_found_in_both_of_their_buckets() {
        let table = table(64, 0);
        assert_eq!((table.seed(), table.capacity(), table.used()), (SEED_OF_TESTS, 512, 0));
        write(&table, 1, 0, false);
        write(&table, 2, 7, false);
        write(&table, 3, 3, true);
        assert_eq!((table.used(), table.rows().count()), (3, 3));
        for n in 1..=3 {
            assert_eq!(table.find(&key(n)).map(|row| row.seen_ns), Some(u64::from(n)));
        }
        assert!(table.find(&key(4)).is_none());
    }

    #[test]
    fn a_row_is_taken_away_whoever_holds_the_lock_and_no_lock_is_touched() {
        let removal = Removal(table(64, 0));
        let Removal(table) = &removal;
        (1..=3).for_each(|n| write(table, n, 5, n == 2));
        let locks = || (0..64).map(|bucket| table.word(table.head(bucket)));
        locks().for_each(|lock| lock.store(1, Ordering::Relaxed));
        removal.remove(&key(1));
        removal.remove(&key(2));
        removal.remove(&key(4));
        assert_eq!(table.rows().map(|(key, _)| key).collect::<Vec<_>>(), [key(3)]);
        assert!(locks().all(|lock| lock.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn rows_of_other_layouts_are_read_as_far_as_they_are_known() {
        let longer = table(4, 2);
        write(&longer, 5, 1, false);
        let (found, row) = longer.raw_rows().next().unwrap();
        assert_eq!((found, row.len()), (key(5), size_of::<Flow>() + 16));
        assert_eq!(longer.find(&key(5)).map(|row| (row.to, row.seen_ns)), Some((key(5), 5)));
        assert_eq!(longer.rows().count(), 1);
    }
}
