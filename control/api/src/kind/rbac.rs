//! Kinds of `rbac.authorization.k8s.io`.

use super::{BASE as CORE, Kind};
use crate::validate::name;
use crate::{default, table, validate};

const BASE: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    // `system:node` and the like: what a path takes.
    name_rules: name::path_segment,
    create_on_update: true,
    ..CORE
};

/// `Role`.
pub(super) const ROLE: Kind = Kind {
    kind: "Role",
    plural: "roles",
    singular: "role",
    schema: "io.k8s.api.rbac.v1.Role",
    rules: &validate::rbac::ROLE,
    printer: &table::NAME_AND_TIME,
    ..BASE
};
/// `RoleBinding`.
pub(super) const ROLE_BINDING: Kind = Kind {
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    schema: "io.k8s.api.rbac.v1.RoleBinding",
    default: default::rbac::binding,
    rules: &validate::rbac::ROLE_BINDING,
    printer: &table::rbac::BINDING,
    ..BASE
};
/// `ClusterRole`.
pub(super) const CLUSTER_ROLE: Kind = Kind {
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    schema: "io.k8s.api.rbac.v1.ClusterRole",
    rules: &validate::rbac::CLUSTER_ROLE,
    printer: &table::NAME_AND_TIME,
    ..BASE
};
/// `ClusterRoleBinding`.
pub(super) const CLUSTER_ROLE_BINDING: Kind = Kind {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    namespaced: false,
    schema: "io.k8s.api.rbac.v1.ClusterRoleBinding",
    default: default::rbac::binding,
    rules: &validate::rbac::CLUSTER_ROLE_BINDING,
    printer: &table::rbac::BINDING,
    ..BASE
};
