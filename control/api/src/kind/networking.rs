//! Kinds of `networking.k8s.io`.

use super::{BASE as CORE, Kind, STATUS_ALONE, Subresource::*};
use crate::validate::address;
use crate::{default, table, validate};

const BASE: Kind = Kind { group: "networking.k8s.io", ..CORE };

/// `NetworkPolicy`.
pub(super) const NETWORK_POLICY: Kind = Kind {
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short_names: &["netpol"],
    schema: "io.k8s.api.networking.v1.NetworkPolicy",
    has_generation: true,
    default: default::networking::network_policy,
    rules: &validate::networking::NETWORK_POLICY,
    printer: &table::networking::NETWORK_POLICY,
    ..BASE
};
/// `Ingress`.
pub(super) const INGRESS: Kind = Kind {
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    subresources: &[Status],
    schema: "io.k8s.api.networking.v1.Ingress",
    has_generation: true,
    default: default::networking::ingress,
    rules: &validate::ingress::INGRESS,
    printer: &table::networking::INGRESS,
    ..BASE
};
/// `IngressClass`.
pub(super) const INGRESS_CLASS: Kind = Kind {
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    namespaced: false,
    schema: "io.k8s.api.networking.v1.IngressClass",
    has_generation: true,
    default: default::networking::ingress_class,
    rules: &validate::ingress::CLASS,
    printer: &table::networking::INGRESS_CLASS,
    ..BASE
};
/// `IPAddress`: who has a Service address; its name is the address.
pub(super) const IP_ADDRESS: Kind = Kind {
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    namespaced: false,
    schema: "io.k8s.api.networking.v1.IPAddress",
    name_rules: address::ip,
    rules: &validate::networking::IP_ADDRESS,
    printer: &table::networking::IP_ADDRESS,
    ..BASE
};
/// `ServiceCIDR`.
pub(super) const SERVICE_CIDR: Kind = Kind {
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    namespaced: false,
    subresources: &[Status],
    status_keeps: STATUS_ALONE,
    schema: "io.k8s.api.networking.v1.ServiceCIDR",
    rules: &validate::networking::SERVICE_CIDR,
    printer: &table::networking::SERVICE_CIDR,
    ..BASE
};
