//! Nodes that are not Ready, or going away, also before anyone has tainted them.

use weft_api::view::Pod;

use super::{Reason, implied_taint, tolerates};
use crate::snapshot::NodeInfo;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// A node that does not say it is Ready is treated as tainted `node.kubernetes.io/not-ready`: between a node's first
/// appearance and its taint there is a moment in which a Pod must not be bound to it.
pub(super) fn refuses(pod: &Pod, node: &NodeInfo) -> Option<Reason> {
    let ready = node.node.status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    let refused = !ready && !tolerates(pod, &implied_taint(NOT_READY));
    if refused || node.node.metadata.is_terminating() {
        return Some(Reason::Taint(NOT_READY.to_owned(), String::new()));
    }
    None
}
