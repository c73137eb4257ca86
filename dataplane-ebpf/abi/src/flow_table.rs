//! The table of flows: buckets of a few rows each, and for each a line of memory, its head, that says which flows they are. The
//! heads of a group of buckets stand together: all of them are a sixteenth of the table, which the CPU's caches hold where they
//! do not hold the rows.
//!
//! A flow's row is in the bucket that its key's hash names, or, when that one was full, in a second one. A row is found by its
//! tag, a part of the hash, and then by its key. Whoever writes holds the lock of the flow's first bucket; whoever reads holds
//! none: a row is written while its tag is 0.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::conntrack::{Flow, Tuple};

/// Rows of a bucket.
pub const WAYS: usize = 8;
/// Buckets, unless configured otherwise.
pub const BUCKETS: u32 = 16_384;
/// Bytes of a bucket's head, in every layout.
pub const HEAD_BYTES: usize = 64;
/// Buckets of a group, in every layout: their heads are one page.
pub const GROUP: usize = 64;
/// Rows of a group.
pub const ROWS: usize = GROUP * WAYS;
/// Bytes of a group before its rows, in every layout.
pub const HEADS_BYTES: usize = GROUP * HEAD_BYTES;

/// Name of the programs' constant that says whether the machine keeps stores in order, a `u32`: 0 or 1.
pub const ORDERED_STORES: &str = "ORDERED_STORES";
/// Name of the programs' constant of how many buckets there are, a `u32`.
pub const FLOW_BUCKETS: &str = "FLOW_BUCKETS";
/// Name of their constant of the hash's seed, two `u64`.
pub const FLOW_SEED: &str = "FLOW_SEED";
/// As [`FLOW_BUCKETS`], of the other layout's table.
pub const BEFORE_BUCKETS: &str = "BEFORE_BUCKETS";
/// As [`FLOW_SEED`], of the other layout's table.
pub const BEFORE_SEED: &str = "BEFORE_SEED";
/// Name of the programs' constant of the words of 8 bytes in a row of the other layout's table, a `u32`.
pub const BEFORE_ROW_WORDS: &str = "BEFORE_ROW_WORDS";

/// A row with its key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Row {
    /// The ends of its packets as they come.
    pub key: Tuple,
    /// What becomes of them.
    pub flow: Flow,
}

/// What is known of a bucket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Head {
    /// 1 while somebody writes.
    pub lock: u64,
    /// Not 0 once a flow of this bucket went to its second one.
    pub spilled: u64,
    /// Tags of the rows; 0 for one that is free.
    pub tags: [u32; WAYS],
    /// Of the first bucket, the seed of the table's hash; of the others zero.
    pub seed: [u64; 2],
}

/// Value of the map `flows`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Group {
    /// The buckets' heads.
    pub heads: [Head; GROUP],
    /// Their rows.
    pub rows: [[Row; WAYS]; GROUP],
}

const _: () = assert!(size_of::<Head>() == HEAD_BYTES && core::mem::offset_of!(Group, rows) == HEADS_BYTES);
const _: () = assert!(size_of::<Row>().is_multiple_of(8) && (BUCKETS as usize).is_multiple_of(GROUP));

/// Where a key's row may be, and its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The first bucket.
    pub first: u32,
    /// The second.
    pub second: u32,
    /// Never 0.
    pub tag: u32,
}

/// Where a key's row may be in a table of so many buckets. `words` are the key as it stands in memory.
#[inline(always)]
#[must_use]
pub fn spot(words: [u64; 5], seed: [u64; 2], buckets: u32) -> Spot {
    let [s0, s1, d0, d1, ports] = words;
    let mut sum = pair(ports, seed[1]);
    if s0 | d0 == 0 {
        // Two IPv4 addresses: the upper halves of the second words are theirs.
        sum = sum.wrapping_add(pair((s1 >> 32) | (d1 & 0xffff_ffff_0000_0000), seed[0]));
    } else {
        sum = sum.wrapping_add(pair(s0, seed[0]));
        sum = sum.wrapping_add(pair(s1, seed[0].wrapping_mul(KEYS[0]) ^ seed[1]));
        sum = sum.wrapping_add(pair(d0, seed[0].wrapping_mul(KEYS[1]) ^ seed[1]));
        sum = sum.wrapping_add(pair(d1, seed[0].wrapping_mul(KEYS[2]) ^ seed[1]));
    }
    let hash = spread(sum);
    let (high, low) = (hash >> 32, hash & 0xffff_ffff);
    Spot {
        first: ((high * buckets as u64) >> 32) as u32,
        second: ((low * buckets as u64) >> 32) as u32,
        tag: (hash >> 16) as u32 | 1,
    }
}

/// Odd numbers that make more keys of a seed.
const KEYS: [u64; 3] = [0xd6e8_feb8_6659_fd93, 0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];
/// Multipliers of [`spread`].
const SPREAD: [u64; 2] = [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53];

/// One word's part of the sum: its halves, each with a key of its own, by each other. Two keys of the table that an outsider
/// picks have the same sum once in 2^32 seeds (the hash NH of UMAC, RFC 4418, section 5.2.2).
#[inline(always)]
const fn pair(word: u64, key: u64) -> u64 {
    let low = (word as u32).wrapping_add(key as u32);
    let high = ((word >> 32) as u32).wrapping_add((key >> 32) as u32);
    (low as u64).wrapping_mul(high as u64)
}

/// Lets each bit of the sum count in each of the hash.
#[inline(always)]
const fn spread(mut sum: u64) -> u64 {
    sum ^= sum >> 32;
    sum = sum.wrapping_mul(SPREAD[0]);
    sum ^= sum >> 29;
    sum = sum.wrapping_mul(SPREAD[1]);
    sum ^ (sum >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];
    const MAPPED: u64 = 0xffff_0000;
    const BUCKETS_HERE: u32 = 1_024;

    /// How many of the keys the fullest bucket of 1,024 has.
    fn fullest(keys: impl Iterator<Item = [u64; 5]>) -> usize {
        let mut counts = [0; BUCKETS_HERE as usize];
        for key in keys {
            counts[spot(key, SEED, BUCKETS_HERE).first as usize] += 1;
        }
        counts.into_iter().max().unwrap_or(0)
    }

    #[test]
    fn keys_that_differ_in_one_place_are_spread() {
        // 4,096 keys, four to a bucket: of random ones the fullest bucket has 15 or fewer, all but once in a thousand.
        let v4 = |source: u64, destination: u64, last: u64| {
            [0, source << 32 | MAPPED, 0, destination << 32 | MAPPED, last]
        };
        let n = || 0..4_096_u64;
        assert!(fullest(n().map(|n| v4(n, 7, 9))) < 20, "sources");
        assert!(fullest(n().map(|n| v4(n << 12, 7, 9))) < 20, "networks");
        assert!(fullest(n().map(|n| v4(7, n, 9))) < 20, "destinations");
        assert!(fullest(n().map(|n| v4(7, 8, n << 32))) < 20, "protocols and what follows");
        for shift in [0, 8, 16] {
            assert!(fullest(n().map(|n| v4(7, 8, n << shift | 6 << 32))) < 20, "ports");
        }
        for word in 0..5 {
            for shift in [0, 20, 32, 50] {
                let key = |n: u64| {
                    let mut key = [1 << 40, 2, 3 << 40, 4, 6 << 32];
                    key[word] ^= n << shift;
                    key
                };
                assert!(fullest(n().map(key)) < 20, "word {word} of IPv6 by {shift}");
            }
        }
    }

    #[test]
    fn another_seed_is_another_order() {
        let key = |port: u64| [0, 5 << 32 | MAPPED, 0, 6 << 32 | MAPPED, port | 6 << 32];
        let other = [SEED[0] ^ 1 << 40, SEED[1]];
        let same = (0..1_000).filter(|port| {
            spot(key(*port), SEED, BUCKETS_HERE).first == spot(key(*port), other, BUCKETS_HERE).first
        });
        assert!(same.count() < 20);
    }
}
