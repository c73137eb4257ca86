//! Kinds of `metrics.k8s.io`: what nodes and Pods use, as metrics-server tells it.

use super::{BASE as CORE, Kind};
use crate::table;

/// Without a singular name, as metrics-server has it: clients then take the kind's, and `kubectl get podmetrics` is understood.
const BASE: Kind = Kind { group: "metrics.k8s.io", version: "v1beta1", verbs: &["get", "list"], ..CORE };

/// `NodeMetrics`.
pub(super) const NODE_METRICS: Kind = Kind {
    kind: "NodeMetrics",
    plural: "nodes",
    namespaced: false,
    schema: "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics",
    printer: &table::usage::NODE_METRICS,
    ..BASE
};
/// `PodMetrics`.
pub(super) const POD_METRICS: Kind = Kind {
    kind: "PodMetrics",
    plural: "pods",
    schema: "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics",
    printer: &table::usage::POD_METRICS,
    ..BASE
};
