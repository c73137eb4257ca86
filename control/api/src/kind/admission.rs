//! Kinds of `admissionregistration.k8s.io`.

use super::{BASE as CORE, Kind, STATUS_ALONE, Subresource::*};
use crate::{default, table, validate};

const BASE: Kind = Kind {
    group: "admissionregistration.k8s.io",
    categories: &["api-extensions"],
    namespaced: false,
    has_generation: true,
    ..CORE
};

/// `MutatingWebhookConfiguration`.
pub(super) const MUTATING_WEBHOOK_CONFIGURATION: Kind = Kind {
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    singular: "mutatingwebhookconfiguration",
    schema: "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
    default: default::admission::mutating,
    rules: &validate::admission::MUTATING,
    printer: &table::admission::WEBHOOKS,
    ..BASE
};
/// `ValidatingWebhookConfiguration`.
pub(super) const VALIDATING_WEBHOOK_CONFIGURATION: Kind = Kind {
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    singular: "validatingwebhookconfiguration",
    schema: "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
    default: default::admission::validating,
    rules: &validate::admission::VALIDATING,
    printer: &table::admission::WEBHOOKS,
    ..BASE
};
/// `ValidatingAdmissionPolicy`.
pub(super) const VALIDATING_ADMISSION_POLICY: Kind = Kind {
    kind: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    singular: "validatingadmissionpolicy",
    subresources: &[Status],
    status_keeps: STATUS_ALONE,
    schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
    default: default::admission::policy,
    rules: &validate::policy::POLICY,
    printer: &table::admission::POLICY,
    ..BASE
};
/// `ValidatingAdmissionPolicyBinding`.
pub(super) const VALIDATING_ADMISSION_POLICY_BINDING: Kind = Kind {
    kind: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    singular: "validatingadmissionpolicybinding",
    schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
    default: default::admission::policy_binding,
    rules: &validate::policy::BINDING,
    printer: &table::admission::BINDING,
    ..BASE
};
/// `MutatingAdmissionPolicy`.
pub(super) const MUTATING_ADMISSION_POLICY: Kind = Kind {
    kind: "MutatingAdmissionPolicy",
    plural: "mutatingadmissionpolicies",
    singular: "mutatingadmissionpolicy",
    schema: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
    default: default::admission::policy,
    rules: &validate::policy::MUTATING,
    printer: &table::admission::MUTATING_POLICY,
    ..BASE
};
/// `MutatingAdmissionPolicyBinding`.
pub(super) const MUTATING_ADMISSION_POLICY_BINDING: Kind = Kind {
    kind: "MutatingAdmissionPolicyBinding",
    plural: "mutatingadmissionpolicybindings",
    singular: "mutatingadmissionpolicybinding",
    schema: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
    default: default::admission::policy_binding,
    rules: &validate::policy::MUTATING_BINDING,
    printer: &table::admission::BINDING,
    ..BASE
};
