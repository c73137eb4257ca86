//! Service and EndpointSlice.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::meta::{ObjectMeta, null_default};

/// `v1` Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Service {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Desired state.
    pub spec: ServiceSpec,
    /// Observed state.
    pub status: ServiceStatus,
}

/// `status` of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Where a LoadBalancer Service is reached.
    #[serde(deserialize_with = "null_default")]
    pub load_balancer: LoadBalancerStatus,
}

/// `status.loadBalancer` of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// One entry per address.
    #[serde(deserialize_with = "null_default")]
    pub ingress: Vec<LoadBalancerIngress>,
}

/// One address of a LoadBalancer Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoadBalancerIngress {
    /// The address; empty where the load balancer is known by name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// The name; empty where it is known by address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// `VIP` (also when empty): packets arrive with this destination; `Proxy`: with a node's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip_mode: String,
}

/// `spec` of a Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Labels of the Pods behind it; empty: endpoints are somebody else's to write.
    #[serde(deserialize_with = "null_default")]
    pub selector: BTreeMap<String, String>,
    /// The first cluster address, `None` for headless, empty until allocated.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// One address per family, the first equal to `cluster_ip`.
    #[serde(rename = "clusterIPs", deserialize_with = "null_default")]
    pub cluster_ips: Vec<String>,
    /// `IPv4`, `IPv6`.
    #[serde(deserialize_with = "null_default")]
    pub ip_families: Vec<String>,
    /// `SingleStack`, `PreferDualStack` or `RequireDualStack`; empty until decided, and for ExternalName.
    #[serde(deserialize_with = "null_default")]
    pub ip_family_policy: String,
    /// Ports.
    #[serde(deserialize_with = "null_default")]
    pub ports: Vec<ServicePort>,
    /// CNAME target of an ExternalName Service.
    pub external_name: String,
    /// `Cluster` (default) or `Local`.
    pub external_traffic_policy: String,
    /// `Cluster` (default) or `Local`.
    pub internal_traffic_policy: String,
    /// `None` (default) or `ClientIP`.
    pub session_affinity: String,
    /// Which endpoints are preferred: `PreferSameZone` (or `PreferClose`, its older name), `PreferSameNode`; empty: none.
    pub traffic_distribution: String,
    /// Whether unready addresses are published too.
    pub publish_not_ready_addresses: bool,
    /// Addresses outside the cluster that somebody else routes to the nodes.
    #[serde(rename = "externalIPs", deserialize_with = "null_default")]
    pub external_ips: Vec<String>,
    /// The address a LoadBalancer Service asks for; empty: any.
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: String,
    /// Who is to give a LoadBalancer Service its address; none: the cluster's own.
    pub load_balancer_class: Option<String>,
    /// Who may reach a LoadBalancer Service's address; empty: everybody.
    #[serde(deserialize_with = "null_default")]
    pub load_balancer_source_ranges: Vec<String>,
    /// Where load balancers ask each node whether it has endpoints, with `externalTrafficPolicy: Local`; 0 for nowhere.
    pub health_check_node_port: u16,
}

/// One port of a Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    /// Name, empty only for a Service with one port.
    pub name: String,
    /// `TCP` (default), `UDP` or `SCTP`.
    pub protocol: String,
    /// Port on the Service address.
    pub port: u16,
    /// Number or container port name; unset or 0: same as `port`.
    pub target_port: Value,
    /// Port on every node; 0 for none.
    pub node_port: u16,
    /// Application protocol hint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// `discovery.k8s.io/v1` EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice {
    /// Metadata; the label `kubernetes.io/service-name` names the Service.
    pub metadata: ObjectMeta,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// Endpoints.
    #[serde(deserialize_with = "null_default")]
    pub endpoints: Vec<Endpoint>,
    /// Ports that each endpoint serves.
    #[serde(deserialize_with = "null_default")]
    pub ports: Vec<EndpointPort>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    /// Addresses, the first is used.
    #[serde(deserialize_with = "null_default")]
    pub addresses: Vec<String>,
    /// Readiness.
    pub conditions: EndpointConditions,
    /// DNS name of the endpoint within a headless Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The node it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The zone of that node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Who should use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hints: Option<EndpointHints>,
    /// The Pod behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<ObjectReference>,
}

/// Who should use an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointHints {
    /// Nodes of these zones.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub for_zones: Vec<Hint>,
    /// These nodes.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub for_nodes: Vec<Hint>,
}

/// A zone or node that should use an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hint {
    /// Its name.
    pub name: String,
}

/// An endpoint's readiness; unset `ready` counts as true, unset `serving` as `ready`, unset `terminating` as false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// Takes new connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Answers, whether or not it is terminating.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    /// Its Pod is being deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating: Option<bool>,
}

/// One port of a slice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointPort {
    /// The Service port's name.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port number at the endpoint.
    pub port: u16,
    /// Application protocol hint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// A reference to another object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObjectReference {
    /// Kind.
    pub kind: String,
    /// Namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// `apiVersion`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Revision.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// A part of the object, for example `spec.containers{web}`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
}
