//! What one watch has seen: every update once, or it missed some.

/// Numbers of updates, a bit each.
#[derive(Debug, Default)]
pub(crate) struct Received {
    seen: Vec<u64>,
    count: u64,
    repeated: u64,
}

impl Received {
    pub(crate) fn take(&mut self, number: u64) {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.count += 1;
        } else {
            self.repeated += 1;
        }
    }

    /// How many different ones.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// How many came again.
    pub(crate) const fn repeated(&self) -> u64 {
        self.repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counts_once() {
        let mut received = Received::default();
        for number in [0, 63, 64, 1_000, 64, 64] {
            received.take(number);
        }
        assert_eq!((received.count(), received.repeated()), (4, 2));
    }
}
