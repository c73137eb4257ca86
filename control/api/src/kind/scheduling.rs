//! Kinds of `scheduling.k8s.io`.

use super::{BASE as CORE, Kind};
use crate::{default, table, validate};

const BASE: Kind = Kind { group: "scheduling.k8s.io", ..CORE };

/// `PriorityClass`.
pub(super) const PRIORITY_CLASS: Kind = Kind {
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    namespaced: false,
    schema: "io.k8s.api.scheduling.v1.PriorityClass",
    has_generation: true,
    default: default::policy::priority_class,
    rules: &validate::priority_class::RULES,
    printer: &table::policy::PRIORITY_CLASS,
    ..BASE
};
