//! Kinds of `discovery.k8s.io`.

use super::{BASE as CORE, Kind};
use crate::{default, table, validate};

const BASE: Kind = Kind { group: "discovery.k8s.io", ..CORE };

/// `EndpointSlice`.
pub(super) const ENDPOINT_SLICE: Kind = Kind {
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    schema: "io.k8s.api.discovery.v1.EndpointSlice",
    default: default::config::endpoint_slice,
    rules: &validate::endpoints::SLICE,
    printer: &table::network::ENDPOINT_SLICE,
    ..BASE
};
