//! Kinds of `node.k8s.io`.

use super::{BASE as CORE, Kind};
use crate::{table, validate};

const BASE: Kind = Kind { group: "node.k8s.io", ..CORE };

/// `RuntimeClass`.
pub(super) const RUNTIME_CLASS: Kind = Kind {
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    namespaced: false,
    schema: "io.k8s.api.node.v1.RuntimeClass",
    rules: &validate::runtime_class::RULES,
    printer: &table::storage::RUNTIME_CLASS,
    ..BASE
};
