//! Cordoned nodes.

use weft_api::view::Pod;

use super::{Reason, implied_taint, tolerates};
use crate::snapshot::NodeInfo;

/// A cordoned node takes only Pods that bear `node.kubernetes.io/unschedulable`.
pub(super) fn refuses(pod: &Pod, node: &NodeInfo) -> Option<Reason> {
    let cordoned =
        node.node.spec.unschedulable && !tolerates(pod, &implied_taint("node.kubernetes.io/unschedulable"));
    cordoned.then_some(Reason::Unschedulable)
}
