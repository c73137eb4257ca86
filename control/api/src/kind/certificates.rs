//! Kinds of `certificates.k8s.io`.

use super::{BASE as CORE, Kind, Subresource::*};
use crate::validate::name;
use crate::{table, validate};

const BASE: Kind = Kind { group: "certificates.k8s.io", ..CORE };

/// `CertificateSigningRequest`.
pub(super) const CERTIFICATE_SIGNING_REQUEST: Kind = Kind {
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short_names: &["csr"],
    namespaced: false,
    subresources: &[Status, Approval],
    selectable_fields: &["spec.signerName"],
    schema: "io.k8s.api.certificates.v1.CertificateSigningRequest",
    name_rules: name::path_segment,
    rules: &validate::certificates::REQUEST,
    part_rules: validate::certificates::part,
    printer: &table::cluster::CERTIFICATE_SIGNING_REQUEST,
    ..BASE
};
