//! Which images go when the disk fills. Pure: uses, disk and time are arguments.
//!
//! The policy is the kubelet's: above the high mark of disk use images go, the one unused for longest first, until use is
//! below the low mark. An image that a Pod uses stays, and so does one that was used or came only a moment ago.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::config::ImageCollection;

/// The file system that images lie on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk {
    /// All of it, bytes.
    pub(crate) bytes: u64,
    /// What is left to root, bytes.
    pub(crate) free_bytes: u64,
}

impl Disk {
    /// Bytes that must be free again, if use is above the high mark.
    pub(crate) fn goal(self, policy: &ImageCollection) -> Option<u64> {
        let percent =
            |p: u8| u64::try_from(u128::from(self.bytes) * u128::from(p.min(100)) / 100).unwrap_or(u64::MAX);
        let used = self.bytes.saturating_sub(self.free_bytes);
        (used > percent(policy.high_percent)).then(|| self.bytes - percent(policy.low_percent))
    }
}

/// When each image was last used, as far as this run of the agent knows.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    last: BTreeMap<String, Timestamp>,
}

impl Uses {
    /// Notes which of the images that are there are in use. One that is seen for the first time counts as used just now.
    pub(crate) fn note(&mut self, images: &[(String, bool)], now: Timestamp) {
        self.last.retain(|id, _| images.iter().any(|(known, _)| known == id));
        for (id, used) in images {
            let last = self.last.entry(id.clone()).or_insert(now);
            if *used {
                *last = now;
            }
        }
    }

    /// The images that may go, the one unused for longest first.
    pub(crate) fn unused(
        &self,
        images: &[(String, bool)],
        policy: &ImageCollection,
        now: Timestamp,
    ) -> Vec<String> {
        let age_min = SignedDuration::from_secs(policy.age_min_s.into());
        let old = |id: &String| self.last.get(id).is_some_and(|last| now.duration_since(*last) >= age_min);
        let mut ids: Vec<String> =
            images.iter().filter(|(id, used)| !used && old(id)).map(|(id, _)| id.clone()).collect();
        ids.sort_by_key(|id| self.last.get(id).copied());
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: ImageCollection =
        ImageCollection { high_percent: 85, low_percent: 80, age_min_s: 120, every_s: 300 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_low_mark_is_the_goal_only_above_the_high_one() {
        let disk = |free_bytes| Disk { bytes: 1000, free_bytes };
        assert_eq!(disk(150).goal(&POLICY), None);
        assert_eq!(disk(149).goal(&POLICY), Some(200));
        assert_eq!(Disk { bytes: 0, free_bytes: 0 }.goal(&POLICY), None);
    }

    #[test]
    fn what_was_unused_for_longest_goes_first_and_what_is_used_or_new_stays() {
        let mut uses = Uses::default();
        let images = |used: &[&str]| -> Vec<(String, bool)> {
            ["a", "b", "c"].iter().map(|id| ((*id).to_owned(), used.contains(id))).collect()
        };
        uses.note(&images(&["a", "b"]), at(0));
        uses.note(&images(&["b"]), at(100));
        assert_eq!(uses.unused(&images(&["b"]), &POLICY, at(119)), [""; 0]);
        assert_eq!(uses.unused(&images(&["b"]), &POLICY, at(120)), ["a", "c"]);
        assert_eq!(uses.unused(&images(&[]), &POLICY, at(400)), ["a", "c", "b"]);
        uses.note(&[("b".to_owned(), false)], at(500));
        uses.note(&images(&[]), at(501));
        assert_eq!(uses.unused(&images(&[]), &POLICY, at(620)), ["b"], "what came back is new");
    }
}
