//! Which of the fitting nodes is best: one file per score, each 0 to 100 a node, added up by weight.

pub mod least_allocated;
pub mod preference;
pub mod spread;

use weft_api::view::Pod;

use crate::snapshot::{NodeInfo, Snapshot};

/// The best value of one score.
pub const SCORE_MAX: i64 = 100;

const LEAST_ALLOCATED_WEIGHT: i64 = 1;
const SPREAD_WEIGHT: i64 = 5;
const PREFERENCE_WEIGHT: i64 = 2;

/// The scores of these nodes, in their order.
pub fn all(pod: &Pod, nodes: &[&NodeInfo], snapshot: &Snapshot) -> Vec<i64> {
    let mut sums = vec![0; nodes.len()];
    for (weight, scores) in [
        (LEAST_ALLOCATED_WEIGHT, least_allocated::scores(pod, nodes)),
        (SPREAD_WEIGHT, spread::scores(pod, nodes, snapshot)),
        (PREFERENCE_WEIGHT, preference::scores(pod, nodes)),
    ] {
        for (sum, score) in sums.iter_mut().zip(scores) {
            *sum += weight * score;
        }
    }
    sums
}

/// Scores from counts where the smallest count is best.
fn fewest(counts: &[i64]) -> Vec<i64> {
    let most = counts.iter().copied().max().unwrap_or(0);
    if most == 0 {
        return vec![SCORE_MAX; counts.len()];
    }
    counts.iter().map(|count| (most - count) * SCORE_MAX / most).collect()
}
