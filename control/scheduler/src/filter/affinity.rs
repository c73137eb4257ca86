//! nodeSelector and required node affinity.

use weft_api::view::Pod;

use super::Reason;
use crate::snapshot::NodeInfo;

pub(super) fn refuses(pod: &Pod, node: &NodeInfo) -> Option<Reason> {
    (!crate::affinity::allows(pod, node.node)).then_some(Reason::Affinity)
}
