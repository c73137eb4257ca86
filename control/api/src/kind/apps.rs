//! Kinds of `apps`.

use super::{BASE as CORE, Kind, Subresource::*};
use crate::{default, table, validate};

const BASE: Kind = Kind { group: "apps", ..CORE };

/// `Deployment`.
pub(super) const DEPLOYMENT: Kind = Kind {
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &[Status, Scale],
    schema: "io.k8s.api.apps.v1.Deployment",
    has_generation: true,
    default: default::workload::deployment,
    rules: &validate::workload::DEPLOYMENT,
    printer: &table::workload::DEPLOYMENT,
    ..BASE
};
/// `ReplicaSet`.
pub(super) const REPLICA_SET: Kind = Kind {
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[Status, Scale],
    selectable_fields: &["status.replicas"],
    schema: "io.k8s.api.apps.v1.ReplicaSet",
    has_generation: true,
    default: default::workload::replica_set,
    rules: &validate::workload::REPLICA_SET,
    printer: &table::workload::REPLICA_SET,
    ..BASE
};
