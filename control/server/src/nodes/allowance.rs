//! How much one node may say that costs others: so many at once, and so many more with time. It reads no clock.

use std::time::{Duration, Instant};

/// An allowance that fills up with time.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    burst_max: u32,
    /// The time one more takes to come.
    every: Duration,
    filled: Instant,
}

impl Allowance {
    /// A full one.
    pub(super) fn new(burst_max: u32, every: Duration, now: Instant) -> Self {
        Self { left: burst_max, burst_max, every, filled: now }
    }

    /// Takes one; `false` when none is left.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled);
        let come = u32::try_from(since.as_nanos() / self.every.as_nanos().max(1)).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(come).min(self.burst_max);
        self.filled = if self.left == self.burst_max { now } else { self.filled + self.every * come };
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_spent_and_comes_back_one_by_one() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut allowance = Allowance::new(3, Duration::from_millis(100), begin);
        let taken = |allowance: &mut Allowance, ms| (0..10).filter(|_| allowance.take(at(ms))).count();
        assert_eq!(taken(&mut allowance, 0), 3);
        assert_eq!(taken(&mut allowance, 99), 0);
        assert_eq!(taken(&mut allowance, 150), 1);
        assert_eq!(taken(&mut allowance, 200), 1, "the half that had come counts");
        assert_eq!(taken(&mut allowance, 3_600_000), 3, "never more than a burst");
    }
}
