//! Node and Lease.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::meta::{ObjectMeta, null_default};

/// `v1` Node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Node {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Desired state.
    pub spec: NodeSpec,
    /// Observed state.
    pub status: NodeStatus,
}

/// The label that says which zone a node is in.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

impl Node {
    /// The zone it is in; empty: unknown.
    #[must_use]
    pub fn zone(&self) -> &str {
        self.metadata.labels.get(ZONE_LABEL).map_or("", String::as_str)
    }
}

/// `spec` of a Node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSpec {
    /// Pod addresses of this node, one CIDR per family; empty until allocated.
    #[serde(rename = "podCIDRs", deserialize_with = "null_default")]
    pub pod_cidrs: Vec<String>,
    /// Cordoned.
    pub unschedulable: bool,
    /// What keeps Pods away.
    #[serde(deserialize_with = "null_default")]
    pub taints: Vec<Taint>,
}

/// A taint on a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: String,
    /// When it was added, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_added: Option<String>,
}

/// `status` of a Node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeStatus {
    /// Total resources, quantities by name.
    #[serde(deserialize_with = "null_default")]
    pub capacity: BTreeMap<String, String>,
    /// What Pods may use of them.
    #[serde(deserialize_with = "null_default")]
    pub allocatable: BTreeMap<String, String>,
    /// `InternalIP`, `Hostname`, …
    #[serde(deserialize_with = "null_default")]
    pub addresses: Vec<NodeAddress>,
    /// `Ready` and others.
    #[serde(deserialize_with = "null_default")]
    pub conditions: Vec<Condition>,
}

/// One address of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname`.
    #[serde(rename = "type")]
    pub type_: String,
    /// The address.
    pub address: String,
}

/// A condition, as Nodes, Pods and Deployments carry them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// Condition type, for example `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// CamelCase reason.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Last heartbeat, RFC 3339 (Nodes).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<String>,
    /// Last change of `status`, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
    /// Last update, RFC 3339 (Deployments).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<String>,
}

/// `coordination.k8s.io/v1` Lease.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Lease {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Desired state.
    pub spec: LeaseSpec,
}

/// `spec` of a Lease.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LeaseSpec {
    /// Who holds it.
    pub holder_identity: String,
    /// Seconds it holds without renewal.
    pub lease_duration_seconds: u32,
    /// Last renewal, RFC 3339 with microseconds.
    pub renew_time: Option<String>,
}
