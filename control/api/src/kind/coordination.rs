//! Kinds of `coordination.k8s.io`.

use super::{BASE as CORE, Kind};
use crate::{table, validate};

const BASE: Kind = Kind { group: "coordination.k8s.io", ..CORE };

/// `Lease`.
pub(super) const LEASE: Kind = Kind {
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    schema: "io.k8s.api.coordination.v1.Lease",
    create_on_update: true,
    rules: &validate::config::LEASE,
    printer: &table::cluster::LEASE,
    ..BASE
};
