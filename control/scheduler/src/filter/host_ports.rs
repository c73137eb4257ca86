//! Host ports that another Pod of the node holds.

use weft_api::view::Pod;

use super::Reason;
use crate::snapshot::NodeInfo;

/// Host addresses are not told apart: a port is held on all of them.
pub(super) fn refuses(pod: &Pod, node: &NodeInfo) -> Option<Reason> {
    let load = node.load?;
    let clash = crate::snapshot::host_ports(pod).iter().any(|port| load.host_ports.contains_key(port));
    clash.then_some(Reason::HostPorts)
}
