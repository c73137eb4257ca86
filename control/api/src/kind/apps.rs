//! Kinds of `apps`.

use super::{BASE as CORE, Kind, Subresource::*};
use crate::validate::name;
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
    status_keeps: &["labels"],
    schema: "io.k8s.api.apps.v1.Deployment",
    has_generation: true,
    default: default::workload::deployment,
    rules: &validate::workload::DEPLOYMENT,
    part_rules: validate::workload::status_change,
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
/// `StatefulSet`.
pub(super) const STATEFUL_SET: Kind = Kind {
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    categories: &["all"],
    subresources: &[Status, Scale],
    schema: "io.k8s.api.apps.v1.StatefulSet",
    has_generation: true,
    name_rules: name::dns_label,
    default: default::workload::stateful_set,
    rules: &validate::stateful_set::RULES,
    part_rules: validate::workload::status_change,
    printer: &table::workload::STATEFUL_SET,
    ..BASE
};
/// `DaemonSet`.
pub(super) const DAEMON_SET: Kind = Kind {
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    subresources: &[Status],
    schema: "io.k8s.api.apps.v1.DaemonSet",
    has_generation: true,
    default: default::workload::daemon_set,
    prepare: default::workload::template_generation,
    rules: &validate::daemon_set::RULES,
    part_rules: validate::workload::status_change,
    printer: &table::workload::DAEMON_SET,
    ..BASE
};
/// `ControllerRevision`: what a StatefulSet or DaemonSet once was.
pub(super) const CONTROLLER_REVISION: Kind = Kind {
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    schema: "io.k8s.api.apps.v1.ControllerRevision",
    rules: &validate::template::REVISION,
    printer: &table::workload::CONTROLLER_REVISION,
    ..BASE
};
