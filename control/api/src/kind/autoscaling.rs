//! Kinds of `autoscaling`.

mod first;

pub(crate) use first::drop_annotations;

use super::{BASE as CORE, Kind, Subresource::*};
use crate::{default, table, validate};

const BASE: Kind = Kind { group: "autoscaling", version: "v2", ..CORE };

/// `HorizontalPodAutoscaler`.
pub(super) const HORIZONTAL_POD_AUTOSCALER: Kind = Kind {
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    subresources: &[Status],
    schema: "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    default: default::autoscaler::autoscaler,
    rules: &validate::autoscaler::RULES,
    printer: &table::autoscaler::PRINTER,
    ..BASE
};

/// `HorizontalPodAutoscaler` as it was first.
pub(super) const FIRST_HORIZONTAL_POD_AUTOSCALER: Kind = Kind {
    version: "v1",
    schema: "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
    default: |_| {},
    rules: &validate::NONE,
    dialect: Some(&first::DIALECT),
    ..HORIZONTAL_POD_AUTOSCALER
};
