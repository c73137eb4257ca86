//! When a Pod that found no node is tried again.

/// First wait, milliseconds.
const WAIT_MS_MIN: u64 = 1_000;
/// Longest wait, milliseconds: a change that no rule foresees (a device that came back) is seen after so long.
const WAIT_MS_MAX: u64 = 60_000;

/// The wait before the next try of a Pod that is unschedulable for `unschedulable_ms`, milliseconds.
///
/// As long again as it has waited already: tries come at doubling distances, and no count of them has to be kept.
/// Changes that may help (a node, a Pod that leaves) cause a try at once, besides.
pub fn retry_after_ms(unschedulable_ms: u64) -> u64 {
    unschedulable_ms.clamp(WAIT_MS_MIN, WAIT_MS_MAX)
}
