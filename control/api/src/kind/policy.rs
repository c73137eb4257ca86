//! Kinds of `policy`.

use super::{BASE as CORE, Kind, Subresource::*};
use crate::validate::name;
use crate::{default, table, validate};

const BASE: Kind = Kind { group: "policy", ..CORE };

/// `PodDisruptionBudget`.
pub(super) const POD_DISRUPTION_BUDGET: Kind = Kind {
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    subresources: &[Status],
    schema: "io.k8s.api.policy.v1.PodDisruptionBudget",
    has_generation: true,
    name_rules: name::path_segment,
    default: default::policy::disruption_budget,
    rules: &validate::disruption::RULES,
    printer: &table::policy::DISRUPTION_BUDGET,
    ..BASE
};
