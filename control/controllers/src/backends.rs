//! Which Pods stand behind a Service, shared by EndpointSlices and the older Endpoints. No loop of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::meta::ObjectMeta;
use weft_api::selector::Selector;
use weft_api::view::network::EndpointPort;
use weft_api::view::{Pod, Service};

use crate::action::key_of;
use crate::pod_facts::is_ready;
use crate::table::LoopKey;
use crate::world::{Applied, World};

/// One Pod behind a Service, at one address.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Backend<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) address: IpAddr,
    /// The Service's ports as this Pod serves them.
    pub(crate) ports: Vec<EndpointPort>,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    /// DNS name within the Service.
    pub(crate) hostname: Option<String>,
}

/// Whether a loop writes this Service's endpoints: it has a selector and addresses of its own.
pub(crate) fn is_managed(service: &Service) -> bool {
    !service.spec.selector.is_empty() && service.spec.type_ != "ExternalName"
}

/// The Pods behind a Service, ended ones and those without an address left out, in key order.
pub(crate) fn of<'a>(service: &'a Service, world: &'a World) -> Vec<Backend<'a>> {
    let mut backends = Vec::new();
    for pod in world.all_in::<Pod>(&service.metadata.namespace) {
        if pod.status.is_finished() || !selects(service, pod) {
            continue;
        }
        let serving = is_ready(pod);
        let terminating = pod.metadata.is_terminating();
        let hostname = Some(pod.spec.hostname.clone())
            .filter(|name| !name.is_empty() && pod.spec.subdomain == service.metadata.name);
        for address in addresses(pod).into_iter().filter(|address| has_family(service, *address)) {
            backends.push(Backend {
                pod,
                address,
                ports: ports(service, pod),
                ready: service.spec.publish_not_ready_addresses || (serving && !terminating),
                serving,
                terminating,
                hostname: hostname.clone(),
            });
        }
    }
    backends
}

fn selects(service: &Service, pod: &Pod) -> bool {
    service.spec.selector.iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value))
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let status = &pod.status;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in status.pod_ips.iter().map(|ip| &ip.ip).chain([&status.pod_ip]) {
        if let Ok(address) = text.parse()
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}

/// The families of a Service, in its order; one that names none (written before they were) takes IPv4.
pub(crate) fn families(service: &Service) -> Vec<&'static str> {
    let of = |name: &String| ["IPv4", "IPv6"].into_iter().find(|family| name == family);
    match &service.spec.ip_families[..] {
        [] => vec!["IPv4"],
        names => names.iter().filter_map(of).collect(),
    }
}

fn has_family(service: &Service, address: IpAddr) -> bool {
    families(service).contains(&if address.is_ipv4() { "IPv4" } else { "IPv6" })
}

/// The Service's ports with the numbers the Pod serves them at; a named port the Pod lacks is left out.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.ports.iter().filter_map(|port| {
        let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
        let number = match &port.target_port {
            Value::Number(number) => u16::try_from(number.as_u64()?).ok()?,
            Value::String(name) => named_port(pod, name, protocol)?,
            _ => 0,
        };
        Some(EndpointPort {
            name: port.name.clone(),
            protocol: protocol.to_owned(),
            port: if number == 0 { port.port } else { number },
            app_protocol: port.app_protocol.clone(),
        })
    });
    ports.collect()
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<u16> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let containers = pod
        .spec
        .containers
        .iter()
        .chain(pod.spec.init_containers.iter().filter(|c| c.restart_policy == "Always"));
    let mut ports = containers.flat_map(|container| &container.ports);
    let found = ports.find(|port| {
        let its = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
        port.name == name && its == protocol
    });
    found.map(|port| port.container_port)
}

/// The Services whose endpoints a change of a Service or Pod may alter.
pub(crate) fn services_of(change: &Applied, world: &World) -> Vec<LoopKey> {
    if change.kind == &kind::SERVICE {
        return vec![LoopKey::new(&kind::SERVICE, change.key.clone())];
    }
    if change.kind != &kind::POD || !pod_matters(change) {
        return Vec::new();
    }
    let selected =
        |service: &&Service| is_managed(service) && change.views::<Pod>().any(|pod| selects(service, pod));
    let services = world.all_in::<Service>(&change.key.namespace).filter(selected);
    services.map(|service| LoopKey::new(&kind::SERVICE, key_of(&service.metadata))).collect()
}

/// The Services that have endpoints on a node.
pub(crate) fn services_of_node(node: &str, world: &World) -> Vec<LoopKey> {
    let services = world.pods_on(node).flat_map(|pod| {
        let services = world.all_in::<Service>(&pod.metadata.namespace);
        services.filter(move |service| is_managed(service) && selects(service, pod))
    });
    let keys: BTreeSet<ObjectKey> = services.map(|service| key_of(&service.metadata)).collect();
    keys.into_iter().map(|key| LoopKey::new(&kind::SERVICE, key)).collect()
}

/// Whether anything changed that an endpoint shows.
fn pod_matters(change: &Applied) -> bool {
    let facts = |pod: &Pod| {
        (
            pod.metadata.uid.clone(),
            pod.metadata.labels.clone(),
            pod.spec.node_name.clone(),
            addresses(pod),
            is_ready(pod),
            pod.metadata.is_terminating(),
            pod.status.is_finished(),
        )
    };
    let before = change.before.as_ref().and_then(|entry| entry.view::<Pod>()).map(facts);
    let after = change.after.as_ref().and_then(|entry| entry.view::<Pod>()).map(facts);
    before != after
}

/// The key of a Service by namespace and name.
pub(crate) fn service_key(namespace: &str, name: &str) -> LoopKey {
    LoopKey::new(&kind::SERVICE, ObjectKey::namespaced(namespace, name))
}

/// A merge patch that puts these labels in place of the ones an object has: what a Service's labels no longer say, its
/// endpoints' do not either.
pub(crate) fn instead(meta: &ObjectMeta, labels: &BTreeMap<String, String>) -> Value {
    let gone = meta.labels.keys().filter(|key| !labels.contains_key(*key));
    let gone = gone.map(|key| (key.clone(), Value::Null));
    gone.chain(labels.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())))).collect()
}

/// The selector in words, for messages.
pub(crate) fn selector_text(service: &Service) -> String {
    Selector::from_map(&service.spec.selector).to_string()
}
