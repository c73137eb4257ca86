//! Why a node does not take a Pod: one file per reason, asked in this order.

pub mod affinity;
pub mod host_ports;
pub mod ready;
pub mod resources;
pub mod spread;
pub mod taints;
pub mod unschedulable;

use std::fmt;

use weft_api::view::{Pod, Taint};

use crate::snapshot::NodeInfo;

/// Why a node does not take a Pod. Its text is the one users know from Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The node is cordoned.
    Unschedulable,
    /// A taint the Pod does not bear: key and value.
    Taint(String, String),
    /// nodeSelector or required node affinity.
    Affinity,
    /// Another Pod holds the host port.
    HostPorts,
    /// Not enough left of a resource.
    Insufficient(String),
    /// As many Pods as the node takes.
    TooManyPods,
    /// A topology spread constraint with `DoNotSchedule`.
    Spread,
    /// The node lacks the label a topology spread constraint names.
    SpreadLabel,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unschedulable => f.write_str("node(s) were unschedulable"),
            Self::Taint(key, value) => write!(f, "node(s) had untolerated taint {{{key}: {value}}}"),
            Self::Affinity => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Self::HostPorts => f.write_str("node(s) didn't have free ports for the requested pod ports"),
            Self::Insufficient(resource) => write!(f, "Insufficient {resource}"),
            Self::TooManyPods => f.write_str("Too many pods"),
            Self::Spread => f.write_str("node(s) didn't match pod topology spread constraints"),
            Self::SpreadLabel => {
                f.write_str("node(s) didn't match pod topology spread constraints (missing required label)")
            }
        }
    }
}

/// Every reason of the first filter that refuses the node; none: the node takes the Pod.
pub fn reasons(pod: &Pod, node: &NodeInfo, spread: &spread::Domains) -> Vec<Reason> {
    let one = unschedulable::refuses(pod, node)
        .or_else(|| taints::refuses(pod, node))
        .or_else(|| ready::refuses(pod, node))
        .or_else(|| affinity::refuses(pod, node))
        .or_else(|| host_ports::refuses(pod, node));
    if let Some(reason) = one {
        return vec![reason];
    }
    let resources = resources::refuses(pod, node);
    if !resources.is_empty() {
        return resources;
    }
    spread.refuses(node).into_iter().collect()
}

/// Whether one of the Pod's tolerations bears a taint.
pub fn tolerates(pod: &Pod, taint: &Taint) -> bool {
    pod.spec.tolerations.iter().any(|toleration| {
        (toleration.effect.is_empty() || toleration.effect == taint.effect)
            && match toleration.operator.as_str() {
                "Exists" => toleration.key.is_empty() || toleration.key == taint.key,
                _ => toleration.key == taint.key && toleration.value == taint.value,
            }
    })
}

/// A taint nobody wrote down, by what it would be called.
pub(crate) fn implied_taint(key: &str) -> Taint {
    Taint { key: key.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() }
}
