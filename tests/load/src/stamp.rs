//! When an object was sent, as a text of fixed length that is found in a stream of events without reading their JSON.

use std::fmt;

use memchr::memmem;

/// What stands before it, in an object's data.
const MARK: &[u8] = br#""sent":""#;
/// Digits of each of the two numbers.
const DIGITS: usize = 16;
const BYTES: usize = MARK.len() + 2 * DIGITS;

/// One update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Counted from 0.
    pub(crate) number: u64,
    /// When, on the load's own clock, nanoseconds.
    pub(crate) sent_ns: u64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$x}{:0DIGITS$x}", self.number, self.sent_ns)
    }
}

impl Stamp {
    /// Reads what [`fmt::Display`] writes.
    fn read(text: &[u8]) -> Option<Self> {
        Some(Self {
            number: hexadecimal(text.get(..DIGITS)?)?,
            sent_ns: hexadecimal(text.get(DIGITS..2 * DIGITS)?)?,
        })
    }
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| Some(number << 4 | u64::from(char::from(*digit).to_digit(16)?)))
}

/// Finds stamps in a stream, however it is cut.
#[derive(Default)]
pub(crate) struct Scanner {
    /// The last bytes, fewer than a stamp has: its beginning may be among them.
    tail: Vec<u8>,
}

impl Scanner {
    /// Takes the next part of the stream.
    pub(crate) fn scan(&mut self, part: &[u8], mut found: impl FnMut(Stamp)) {
        let mut take = |at: usize, text: &[u8]| {
            if let Some(stamp) = text.get(at + MARK.len()..).and_then(Stamp::read) {
                found(stamp);
            }
        };
        let before = self.tail.len();
        self.tail.extend_from_slice(&part[..part.len().min(BYTES - 1)]);
        for at in memmem::find_iter(&self.tail, MARK).filter(|at| *at < before) {
            take(at, &self.tail);
        }
        for at in memmem::find_iter(part, MARK) {
            take(at, part);
        }
        if part.len() >= BYTES - 1 {
            self.tail.clear();
            self.tail.extend_from_slice(&part[part.len() - (BYTES - 1)..]);
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(BYTES - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> (Vec<u8>, Vec<Stamp>) {
        let stamps: Vec<Stamp> = (0..5).map(|n| Stamp { number: n, sent_ns: u64::MAX - n * 1_000 }).collect();
        let text: String = stamps
            .iter()
            .map(|stamp| {
                format!("{{\"type\":\"MODIFIED\",\"object\":{{\"f:sent\":{{}},\"data\":{{\"sent\":\"{stamp}\"}}}}}}\n")
            })
            .collect();
        (text.into_bytes(), stamps)
    }

    #[test]
    fn every_stamp_is_found_once_however_the_stream_is_cut() {
        let (stream, stamps) = stream();
        for length in 1..=stream.len() {
            let (mut scanner, mut found) = (Scanner::default(), Vec::new());
            for part in stream.chunks(length) {
                scanner.scan(part, |stamp| found.push(stamp));
            }
            assert_eq!(found, stamps, "in parts of {length}");
        }
    }

    #[test]
    fn what_is_no_stamp_is_passed_over() {
        let mut found = 0;
        Scanner::default().scan(br#"{"sent":"not a stamp, though long enough for one!"}"#, |_| found += 1);
        assert_eq!(found, 0);
    }
}
