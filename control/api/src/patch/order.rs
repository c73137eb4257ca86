//! The order of a keyed list's items after an apply.
//!
//! The rule is that of Kubernetes' structured-merge-diff (`typed/merge.go`, `visitListItems`): items that the
//! configuration has stand as it orders them, the others keep their places before what stood behind them.

use std::collections::HashSet;
use std::hash::Hash;

/// Where an item of the merged list comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// From this place of the list as it is.
    Live(usize),
    /// From this place of the configuration, merged with the item of its key if there is one.
    Config(usize),
}

/// Interleaves two lists of keys. The configuration has each key once; one that it shares with several live items
/// stands for all of them.
pub(super) fn interleave<K: Eq + Hash>(live: &[K], config: &[K]) -> Vec<Origin> {
    let in_live: HashSet<&K> = live.iter().collect();
    let in_config: HashSet<&K> = config.iter().collect();
    let mut shared = config.iter().filter(|key| in_live.contains(key));
    let mut next_shared = shared.next();
    let mut merged = HashSet::new();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let (mut at, mut wanted) = (0, 0);
    while at < live.len() || wanted < config.len() {
        if let (Some(key), Some(other)) = (live.get(at), config.get(wanted)) {
            if key == other {
                merged.insert(key);
                out.push(Origin::Config(wanted));
                at += 1;
                wanted += 1;
                next_shared = shared.next();
                continue;
            }
            if in_config.contains(key) && next_shared.is_some_and(|next| next != key) {
                // Its turn comes where the configuration has it.
                at += 1;
                continue;
            }
        }
        if let Some(key) = live.get(at) {
            if !in_config.contains(key) {
                out.push(Origin::Live(at));
                at += 1;
                continue;
            }
            if merged.contains(key) {
                at += 1;
            }
        }
        if let Some(key) = config.get(wanted) {
            merged.insert(key);
            out.push(Origin::Config(wanted));
            wanted += 1;
            if next_shared == Some(key) {
                next_shared = shared.next();
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The letters of the list that comes of two lists of letters.
    fn merged(live: &str, config: &str) -> String {
        let (live, config): (Vec<char>, Vec<char>) = (live.chars().collect(), config.chars().collect());
        let items = interleave(&live, &config).into_iter();
        items
            .map(|origin| match origin {
                Origin::Live(at) => live[at],
                Origin::Config(at) => config[at],
            })
            .collect()
    }

    #[test]
    fn items_stand_as_the_configuration_orders_them() {
        // As the tests of structured-merge-diff have them.
        for (live, config, expected) in [
            ("abc", "ab", "abc"),
            ("ab", "abc", "abc"),
            ("abc", "", "abc"),
            ("", "abc", "abc"),
            ("ab", "ba", "ba"),
            ("abc", "def", "abcdef"),
            ("abc", "cdef", "abcdef"),
            ("abcgf", "cdef", "abcgdef"),
            ("cdef", "ace", "acdef"),
            ("abcxyz", "defxyz", "abcdefxyz"),
            ("cagf", "cfag", "cfag"),
            ("abcd", "defa", "bcdefa"),
            ("cdefghij", "2h3e4kl", "cdfg2hij3e4kl"),
            ("abcdefghij", "1b2h3e4kl", "a1bcdfg2hij3e4kl"),
        ] {
            assert_eq!(merged(live, config), expected, "{config} applied to {live}");
        }
    }

    #[test]
    fn what_is_there_twice_stays_so_while_it_is_not_stated() {
        for (live, config, expected) in [
            ("abb", "c", "abbc"),
            ("abb", "b", "ab"),
            ("abb", "a", "abb"),
            ("abcdec", "1b2ed", "a1bc2ecd"),
            ("abcdec", "1b2ced", "a1b2ced"),
            ("aabb", "bcd", "aabcd"),
            ("aabb", "", "aabb"),
            ("cagfca", "cfag", "cfag"),
            ("tft", "f", "tft"),
            ("tft", "t", "tf"),
        ] {
            assert_eq!(merged(live, config), expected, "{config} applied to {live}");
        }
    }
}
