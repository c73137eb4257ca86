//! Taints that keep a Pod away.

use weft_api::view::Pod;

use super::{Reason, tolerates};
use crate::snapshot::NodeInfo;

/// The first `NoSchedule` or `NoExecute` taint the Pod does not bear.
pub(super) fn refuses(pod: &Pod, node: &NodeInfo) -> Option<Reason> {
    let taint = node
        .node
        .spec
        .taints
        .iter()
        .filter(|taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute")
        .find(|taint| !tolerates(pod, taint))?;
    Some(Reason::Taint(taint.key.clone(), taint.value.clone()))
}
