//! Objects in the shape the link carries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bytes::Bytes;
use serde::Deserialize;
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind};
use weft_api::object::Object;
use weft_api::view::network::{EndpointHints, EndpointPort, Hint};
use weft_api::view::{Endpoint, EndpointSlice, Node, Pod, Service};
use weft_link::message::{self, Resource, resource::Body};

use crate::load_balancer::{ANNOUNCED_BY, is_ours};
use crate::node_key::{self, Generation};
use crate::world::{Entry, World};

/// Session affinity without a bound of its own lasts so long, seconds.
const AFFINITY_SECONDS_DEFAULT: u32 = 10_800;

pub(super) fn service_name(key: &ObjectKey) -> String {
    format!("service/{}/{}", key.namespace, key.name)
}

pub(super) fn peer_name(node: &str) -> String {
    format!("peer/{node}")
}

pub(super) fn address_name(address: &[u8]) -> String {
    to_ip(address).map_or_else(String::new, |ip| format!("address/{ip}"))
}

pub(super) fn object_name(kind: &'static Kind, key: &ObjectKey) -> String {
    format!("object/{}/{}/{}", kind.kind, key.namespace, key.name)
}

/// The Service a slice belongs to, by its label.
pub(super) fn service_of(object: &Object) -> Option<ObjectKey> {
    let name = object.meta.labels.get(crate::world::SERVICE_NAME_LABEL)?;
    (object.kind == &kind::ENDPOINT_SLICE)
        .then(|| ObjectKey::namespaced(object.meta.namespace.clone(), name.clone()))
}

pub(super) fn object(object: &Object) -> Resource {
    let meta = &object.meta;
    Resource {
        name: object_name(object.kind, &object.key()),
        body: Some(Body::Object(message::ApiObject {
            kind: object.kind.kind.to_owned(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            json: object.json.clone(),
        })),
    }
}

pub(super) fn peer(node: &Node, world: &World) -> Resource {
    let addresses = node.status.addresses.iter().filter(|a| a.type_ == "InternalIP");
    Resource {
        name: peer_name(&node.metadata.name),
        body: Some(Body::Peer(message::Peer {
            node: node.metadata.name.clone(),
            addresses: addresses.filter_map(|a| octets(&a.address)).map(Bytes::from).collect(),
            pod_cidrs: node.spec.pod_cidrs.clone(),
            keys: keys(&node.metadata.name, world),
        })),
    }
}

/// A node's public keys; none where nodes do not encrypt.
fn keys(node: &str, world: &World) -> Vec<message::NodeKey> {
    let key = |generation: &Generation| message::NodeKey {
        generation: generation.number,
        public: Bytes::copy_from_slice(&generation.public),
    };
    node_key::generations(node, world).iter().map(key).collect()
}

/// The addresses that are a Pod's own: none for one on the node's network, or one that has ended.
pub(super) fn pod_addresses(pod: &Pod) -> BTreeSet<Vec<u8>> {
    if pod.spec.host_network || pod.status.is_finished() {
        return BTreeSet::new();
    }
    let status = &pod.status;
    status.pod_ips.iter().map(|ip| &ip.ip).chain([&status.pod_ip]).filter_map(|text| octets(text)).collect()
}

pub(super) fn address(address: &[u8], pod: &Pod) -> Resource {
    Resource {
        name: address_name(address),
        body: Some(Body::Address(message::Address {
            address: Bytes::copy_from_slice(address),
            pod: format!("{}/{}", pod.metadata.namespace, pod.metadata.name),
            node: pod.spec.node_name.clone(),
        })),
    }
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Affinity {
    spec: AffinitySpec,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct AffinitySpec {
    session_affinity_config: Option<AffinityConfig>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Option<u32>,
}

/// A Service with the endpoints of all its slices.
pub(super) fn service(entry: &Entry, world: &World) -> Option<Resource> {
    let service = entry.view::<Service>()?;
    let key = entry.object.key();
    let spec = &service.spec;
    let mut cluster_ips: Vec<Bytes> =
        spec.cluster_ips.iter().filter_map(|ip| octets(ip)).map(Bytes::from).collect();
    if cluster_ips.is_empty() {
        cluster_ips.extend(octets(&spec.cluster_ip).map(Bytes::from));
    }
    let affinity_seconds = if spec.session_affinity == "ClientIP" {
        let affinity: Affinity = entry.object.view().unwrap_or_default();
        let client = affinity.spec.session_affinity_config.and_then(|config| config.client_ip);
        client.and_then(|client| client.timeout_seconds).unwrap_or(AFFINITY_SECONDS_DEFAULT)
    } else {
        0
    };
    let body = message::Service {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        r#type: if spec.type_.is_empty() { "ClusterIP".to_owned() } else { spec.type_.clone() },
        cluster_ips,
        ports: spec.ports.iter().map(port).collect(),
        endpoints: endpoints(&key, world),
        external_name: spec.external_name.clone(),
        external_local: spec.external_traffic_policy == "Local",
        internal_local: spec.internal_traffic_policy == "Local",
        publish_not_ready: spec.publish_not_ready_addresses,
        affinity_seconds,
        external_ips: spec.external_ips.iter().filter_map(|ip| octets(ip)).map(Bytes::from).collect(),
        announcer: announcer(service).to_owned(),
        load_balancer_ips: virtual_addresses(service),
        health_check_node_port: health_check_node_port(service).into(),
        source_ranges: spec.load_balancer_source_ranges.clone(),
    };
    Some(Resource { name: service_name(&key), body: Some(Body::Service(body)) })
}

/// Addresses of the load balancer whose packets arrive with them as destination, whoever gave them.
fn virtual_addresses(service: &Service) -> Vec<Bytes> {
    if service.spec.type_ != "LoadBalancer" {
        return Vec::new();
    }
    let ingress = service.status.load_balancer.ingress.iter();
    let virtual_ = ingress.filter(|entry| matches!(entry.ip_mode.as_str(), "" | "VIP"));
    virtual_.filter_map(|entry| octets(&entry.ip)).map(Bytes::from).collect()
}

/// The node that announces the addresses; none for those of another load balancer.
fn announcer(service: &Service) -> &str {
    if !is_ours(service) {
        return "";
    }
    service.metadata.annotations.get(ANNOUNCED_BY).map_or("", String::as_str)
}

fn health_check_node_port(service: &Service) -> u16 {
    let asked = service.spec.type_ == "LoadBalancer" && service.spec.external_traffic_policy == "Local";
    if asked { service.spec.health_check_node_port } else { 0 }
}

fn port(port: &weft_api::view::ServicePort) -> message::Port {
    let protocol = match port.protocol.as_str() {
        "UDP" => 17,
        "SCTP" => 132,
        _ => 6,
    };
    message::Port {
        name: port.name.clone(),
        protocol,
        port: port.port.into(),
        node_port: port.node_port.into(),
    }
}

/// The endpoints of all slices of a Service, by address; one that stands in two slices has the ports of both.
fn endpoints(service: &ObjectKey, world: &World) -> Vec<message::Endpoint> {
    let mut merged: BTreeMap<Vec<u8>, message::Endpoint> = BTreeMap::new();
    for slice in world.slices_of(service).filter_map(|entry| entry.view::<EndpointSlice>()) {
        if slice.metadata.is_terminating() {
            continue;
        }
        for endpoint in &slice.endpoints {
            let Some(address) = endpoint.addresses.first().and_then(|text| octets(text)) else { continue };
            let ready = endpoint.conditions.ready.unwrap_or(true);
            let pod = endpoint.target_ref.as_ref().filter(|target| target.kind == "Pod");
            let merged = merged.entry(address.clone()).or_insert_with(|| message::Endpoint {
                address: Bytes::from(address),
                ports: BTreeMap::new(),
                node: endpoint.node_name.clone().unwrap_or_default(),
                pod: pod.map(|pod| format!("{}/{}", pod.namespace, pod.name)).unwrap_or_default(),
                hostname: endpoint.hostname.clone().unwrap_or_default(),
                ready,
                serving: endpoint.conditions.serving.unwrap_or(ready),
                terminating: endpoint.conditions.terminating.unwrap_or(false),
                zone_hints: names(endpoint, |hints| &hints.for_zones),
                node_hints: names(endpoint, |hints| &hints.for_nodes),
            });
            let ports = slice.ports.iter().filter(|port| port.port != 0);
            merged
                .ports
                .extend(ports.map(|EndpointPort { name, port, .. }| (name.clone(), u32::from(*port))));
        }
    }
    merged.into_values().collect()
}

fn names(endpoint: &Endpoint, of: fn(&EndpointHints) -> &Vec<Hint>) -> Vec<String> {
    endpoint.hints.iter().flat_map(of).map(|hint| hint.name.clone()).collect()
}

/// An address in network byte order, 4 or 16 bytes.
fn octets(text: &str) -> Option<Vec<u8>> {
    match text.parse().ok()? {
        IpAddr::V4(ip) => Some(ip.octets().to_vec()),
        IpAddr::V6(ip) => Some(ip.octets().to_vec()),
    }
}

fn to_ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}
