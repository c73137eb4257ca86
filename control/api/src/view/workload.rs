//! Deployment and ReplicaSet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::node::Condition;
use crate::meta::{ObjectMeta, null_default};

/// A label selector, as workloads carry it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LabelSelector {
    /// All of these labels.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// And all of these requirements.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelRequirement>,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelRequirement {
    /// Label key.
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist` (node selectors also `Gt`, `Lt`).
    pub operator: String,
    /// Values, for `In` and `NotIn`.
    #[serde(deserialize_with = "null_default")]
    pub values: Vec<String>,
}

/// `apps/v1` Deployment.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Deployment {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Desired state.
    pub spec: DeploymentSpec,
    /// Observed state.
    pub status: WorkloadStatus,
}

/// `spec` of a Deployment.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeploymentSpec {
    /// Wanted Pods; unset means 1.
    pub replicas: Option<u32>,
    /// Which Pods are its own.
    pub selector: LabelSelector,
    /// The Pod template, whole: what is not read here must reach the Pod all the same.
    pub template: Value,
    /// How a change is rolled out.
    pub strategy: DeploymentStrategy,
    /// Seconds a Pod must be ready to count as available.
    pub min_ready_seconds: u32,
    /// Old ReplicaSets to keep; unset means 10.
    pub revision_history_limit: Option<u32>,
    /// Rollouts are halted.
    pub paused: bool,
    /// Seconds without progress until the rollout is said to have failed; unset means 600.
    pub progress_deadline_seconds: Option<u32>,
}

/// `spec.strategy` of a Deployment.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeploymentStrategy {
    /// `RollingUpdate` (default) or `Recreate`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Bounds of a rolling update.
    pub rolling_update: Option<RollingUpdate>,
}

/// Bounds of a rolling update: numbers, or percentages of `replicas` as `"25%"`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RollingUpdate {
    /// Pods that may be missing; rounded down; default 25%.
    pub max_unavailable: Value,
    /// Pods that may be too many; rounded up; default 25%.
    pub max_surge: Value,
}

/// `status` of Deployments and ReplicaSets; a ReplicaSet fills the fields it has.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// The generation this status speaks of.
    pub observed_generation: i64,
    /// Pods there are.
    pub replicas: u32,
    /// Pods of the newest template (Deployments).
    pub updated_replicas: u32,
    /// Ready Pods.
    pub ready_replicas: u32,
    /// Pods ready for `min_ready_seconds`.
    pub available_replicas: u32,
    /// Wanted less available (Deployments).
    pub unavailable_replicas: u32,
    /// Pods whose labels match the template's (ReplicaSets).
    pub fully_labeled_replicas: u32,
    /// Conditions.
    #[serde(deserialize_with = "null_default")]
    pub conditions: Vec<Condition>,
}

/// `apps/v1` ReplicaSet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ReplicaSet {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Desired state.
    pub spec: ReplicaSetSpec,
    /// Observed state.
    pub status: WorkloadStatus,
}

/// `spec` of a ReplicaSet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ReplicaSetSpec {
    /// Wanted Pods; unset means 1.
    pub replicas: Option<u32>,
    /// Which Pods are its own.
    pub selector: LabelSelector,
    /// The Pod template, whole.
    pub template: Value,
    /// Seconds a Pod must be ready to count as available.
    pub min_ready_seconds: u32,
}
