//! Times in buckets that are at most one part in 128 wide: millions of them cost no memory and sort in no time.

use std::time::Duration;

/// Buckets to a doubling, as a power of two.
const PART_BITS: u32 = 7;
const PARTS: usize = 1 << PART_BITS;
const BUCKETS: usize = PARTS * (64 - PART_BITS as usize + 1);

/// Times, nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    most: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, most: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, time: Duration) {
        self.record_ns(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn record_ns(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.count += 1;
        self.most = self.most.max(ns);
    }

    /// Takes another's times in.
    pub(crate) fn add(&mut self, other: &Self) {
        for (own, count) in self.counts.iter_mut().zip(&other.counts) {
            *own += count;
        }
        self.count += other.count;
        self.most = self.most.max(other.most);
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// The time that this part of all does not exceed, milliseconds, rounded up by less than a hundredth; 0 of none.
    pub(crate) fn percentile_ms(&self, part: f64) -> f64 {
        let rank = ((part * self.count as f64).ceil() as u64).max(1);
        let mut below = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                return ms(last(bucket).min(self.most));
            }
        }
        0.0
    }

    pub(crate) fn most_ms(&self) -> f64 {
        ms(self.most)
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// Below [`PARTS`] each number has its own; from there on each doubling has as many buckets.
fn bucket(ns: u64) -> usize {
    let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(PART_BITS + 1);
    shift as usize * PARTS + (ns >> shift) as usize
}

/// The largest number of a bucket.
fn last(bucket: usize) -> u64 {
    let shift = (bucket / PARTS).saturating_sub(1);
    let part = (bucket - shift * PARTS) as u64;
    (part << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_lies_in_its_bucket() {
        let mut before = None;
        for ns in (0..100_000).chain([1 << 20, (1 << 33) + 12_345, u64::MAX / 2, u64::MAX]) {
            let bucket = bucket(ns);
            assert!(bucket < BUCKETS, "{ns}");
            assert!(last(bucket) >= ns && (last(bucket) - ns) as f64 <= ns as f64 / 128.0, "{ns}");
            assert!(bucket == 0 || last(bucket - 1) < ns, "{ns}");
            assert!(before <= Some(bucket), "{ns}");
            before = Some(bucket);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_ranks() {
        let mut times = Histogram::default();
        assert_eq!(times.percentile_ms(0.99), 0.0);
        for milliseconds in 1..=100 {
            times.record(Duration::from_millis(milliseconds));
        }
        for (part, wanted) in [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = times.percentile_ms(part);
            assert!((wanted..=wanted * 1.008).contains(&found), "{part}: {found}");
        }
        assert_eq!(times.most_ms(), 100.0);
    }

    #[test]
    fn two_are_as_one() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        for ns in 1..1_000 {
            if ns % 3 == 0 { one.record_ns(ns) } else { other.record_ns(ns * 1_000) }
        }
        one.add(&other);
        assert_eq!(one.count(), 999);
        assert_eq!(one.most_ms(), 0.998);
        assert!(one.percentile_ms(0.33) < 0.001 && one.percentile_ms(0.34) >= 0.001);
    }
}
