//! Preferred node affinity, and `PreferNoSchedule` taints.

use weft_api::view::Pod;

use super::SCORE_MAX;
use crate::filter::tolerates;
use crate::snapshot::NodeInfo;

/// Half for the weight of preferred terms that match, half for the absence of taints that would rather not.
pub(super) fn scores(pod: &Pod, nodes: &[&NodeInfo]) -> Vec<i64> {
    let weights: Vec<i64> = nodes.iter().map(|info| crate::affinity::preference(pod, info.node)).collect();
    let heaviest = weights.iter().copied().max().unwrap_or(0);
    let disliked: Vec<i64> = nodes
        .iter()
        .map(|info| {
            let taints = info.node.spec.taints.iter().filter(|t| t.effect == "PreferNoSchedule");
            taints.filter(|taint| !tolerates(pod, taint)).map(|_| 1).sum()
        })
        .collect();
    let liked =
        weights.iter().map(|w| if heaviest > 0 { w.max(&0) * SCORE_MAX / heaviest } else { SCORE_MAX });
    liked.zip(super::fewest(&disliked)).map(|(affinity, taints)| (affinity + taints) / 2).collect()
}
