//! Kinds of `certificates.k8s.io`.

use super::{BASE as CORE, Kind, STATUS_ALONE, Subresource::*};
use crate::validate::name;
use crate::{default, table, validate};

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
/// `ClusterTrustBundle`: who is trusted, by those that a signer's certificates are shown to.
pub(super) const CLUSTER_TRUST_BUNDLE: Kind = Kind {
    kind: "ClusterTrustBundle",
    plural: "clustertrustbundles",
    singular: "clustertrustbundle",
    namespaced: false,
    selectable_fields: &["spec.signerName"],
    schema: "io.k8s.api.certificates.v1.ClusterTrustBundle",
    // Which names a bundle may have hangs on its signer: its rules judge them.
    name_rules: |_| Vec::new(),
    rules: &validate::bundle::RULES,
    printer: &table::cluster::CLUSTER_TRUST_BUNDLE,
    ..BASE
};
/// `PodCertificateRequest`.
pub(super) const POD_CERTIFICATE_REQUEST: Kind = Kind {
    kind: "PodCertificateRequest",
    plural: "podcertificaterequests",
    singular: "podcertificaterequest",
    subresources: &[Status],
    selectable_fields: &["spec.signerName", "spec.podName", "spec.nodeName"],
    status_keeps: STATUS_ALONE,
    schema: "io.k8s.api.certificates.v1.PodCertificateRequest",
    default: default::config::pod_certificate_request,
    rules: &validate::pod_certificate::RULES,
    part_rules: validate::pod_certificate::part,
    printer: &table::cluster::POD_CERTIFICATE_REQUEST,
    ..BASE
};
