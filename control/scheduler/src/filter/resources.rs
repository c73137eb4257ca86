//! Requests against what the node has left, and the number of Pods.

use weft_api::quantity::Quantity;
use weft_api::view::Pod;

use super::Reason;
use crate::snapshot::{NodeInfo, requests_of};

/// Every resource there is too little of. A node that names no bound of Pods takes 110.
pub(super) fn refuses(pod: &Pod, node: &NodeInfo) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let pods_max = match node.allocatable("pods") {
        none if none.is_zero() => 110,
        pods => pods.units_ceil(),
    };
    if i64::from(node.load.map_or(0, |load| load.pods)) >= pods_max {
        reasons.push(Reason::TooManyPods);
    }
    for (resource, request) in requests_of(pod) {
        if request <= Quantity::zero() {
            continue;
        }
        if node.requested(&resource) + request > node.allocatable(&resource) {
            reasons.push(Reason::Insufficient(resource));
        }
    }
    reasons
}
