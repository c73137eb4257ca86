//! Which cluster addresses and NodePorts a Service gets. Called by the write path before a Service is stored; it must
//! not know how writes are serialised: the caller keeps two allocations from running at once.

mod families;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::status::FieldError;
use weft_api::view::Service;

use crate::action::key_of;
use crate::settings::{Settings, nth_address};

/// Addresses below this one within the range are left to those who ask for one by name, as far as others are free.
const STATIC_BAND_MAX: u128 = 256;

/// A protocol and a port on every node.
pub type NodePort = (String, u16);

/// What Services hold, and who holds it. Bounded by the Services there are.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    addresses: HashMap<IpAddr, ObjectKey>,
    node_ports: HashMap<NodePort, ObjectKey>,
}

impl Taken {
    /// Takes in what a Service holds.
    pub fn add(&mut self, service: &Service) {
        let key = key_of(&service.metadata);
        self.addresses.extend(addresses_of(service).map(|address| (address, key.clone())));
        self.node_ports.extend(node_ports_of(service).map(|port| (port, key.clone())));
    }

    /// Gives back what a Service held; what is another's by now stays.
    pub fn remove(&mut self, service: &Service) {
        let key = key_of(&service.metadata);
        for address in addresses_of(service) {
            if self.addresses.get(&address) == Some(&key) {
                self.addresses.remove(&address);
            }
        }
        for port in node_ports_of(service) {
            if self.node_ports.get(&port) == Some(&key) {
                self.node_ports.remove(&port);
            }
        }
    }

    fn has_address(&self, address: &IpAddr, but: &ObjectKey) -> bool {
        self.addresses.get(address).is_some_and(|holder| holder != but)
    }

    fn has_port(&self, port: &NodePort, but: &ObjectKey) -> bool {
        self.node_ports.get(port).is_some_and(|holder| holder != but)
    }
}

fn addresses_of(service: &Service) -> impl Iterator<Item = IpAddr> {
    let spec = &service.spec;
    spec.cluster_ips.iter().chain([&spec.cluster_ip]).filter_map(|text| text.parse().ok())
}

/// Every port of the nodes that a Service holds: those of its ports, and the TCP port of its health check.
pub fn node_ports_of(service: &Service) -> impl Iterator<Item = NodePort> {
    let ports = service.spec.ports.iter().map(|port| (protocol(&port.protocol), port.node_port));
    let all = ports.chain([("TCP", service.spec.health_check_node_port)]);
    all.filter(|(_, port)| *port != 0).map(|(protocol, port)| (protocol.to_owned(), port))
}

/// What one Service is completed from: what the others hold, the settings, a random number.
struct Source<'a> {
    taken: &'a Taken,
    /// The Service itself, whose own holdings are free to it.
    own: ObjectKey,
    /// The ports that it has already, also where the range is another one by now.
    held: HashSet<NodePort>,
    settings: &'a Settings,
    random: u64,
}

/// Completes a Service that is about to be stored: `clusterIP`, `clusterIPs`, `ipFamilies`, `ipFamilyPolicy`,
/// `nodePort`s and `healthCheckNodePort`. `old` is the stored Service of an update: what it holds and the new one does not name is kept.
///
/// The range is searched from a place that `random` chooses, so that a released address is not reused at once.
///
/// # Errors
/// A requested address or port lies outside its range or is taken, or none is left; by field, as the API answers it.
pub fn complete(
    service: &mut Value,
    old: Option<&Service>,
    taken: &Taken,
    settings: &Settings,
    random: u64,
) -> Result<(), Vec<FieldError>> {
    let mut errors = Vec::new();
    families::canonicalize(&mut service["spec"]);
    if let Some(old) = old {
        carry_over(service, old);
    }
    let meta = |field: &str| text(&service["metadata"][field]).to_owned();
    let own = ObjectKey::namespaced(meta("namespace"), meta("name"));
    let held = old.into_iter().flat_map(node_ports_of).collect();
    let source = Source { taken, own, held, settings, random };
    let had_addresses = |old: &&Service| old.spec.type_ != "ExternalName";
    source.complete_addresses(service, old.filter(had_addresses), &mut errors);
    source.complete_node_ports(service, &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Keeps what the old Service was given where the new one is silent, and drops what its type no longer has.
fn carry_over(service: &mut Value, old: &Service) {
    let type_ = type_of(service);
    let spec = &mut service["spec"];
    let had_address = old.spec.type_ != "ExternalName";
    if type_ == "ExternalName" {
        if spec["clusterIP"] == json!(old.spec.cluster_ip) {
            clear_addresses(spec);
        }
    } else if had_address {
        families::carry_over(spec, old);
    }
    let has_node_ports = has_node_ports(&type_);
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        let before = old.spec.ports.iter().find(|before| {
            port["port"] == json!(before.port)
                && protocol(text(&port["protocol"])) == protocol(&before.protocol)
        });
        let Some(before) = before.filter(|before| before.node_port != 0) else { continue };
        if has_node_ports && number(&port["nodePort"]) == 0 {
            port["nodePort"] = json!(before.node_port);
        } else if !has_node_ports && port["nodePort"] == json!(before.node_port) {
            remove(port, "nodePort");
        }
    }
    let kept = old.spec.health_check_node_port;
    if wants_health_check(service) {
        if kept != 0 && number(&service["spec"]["healthCheckNodePort"]) == 0 {
            service["spec"]["healthCheckNodePort"] = json!(kept);
        }
    } else if service["spec"]["healthCheckNodePort"] == json!(kept) {
        remove(&mut service["spec"], "healthCheckNodePort");
    }
    if old.spec.type_ == "LoadBalancer" && type_ != "LoadBalancer" {
        // What a client that changes the type alone leaves behind means nothing any more.
        remove(&mut service["spec"], "allocateLoadBalancerNodePorts");
        if service["spec"]["loadBalancerClass"] == json!(old.spec.load_balancer_class) {
            remove(&mut service["spec"], "loadBalancerClass");
        }
    }
    let outward = has_node_ports || service["spec"]["externalIPs"][0].is_string();
    if !outward && service["spec"]["externalTrafficPolicy"] == json!(old.spec.external_traffic_policy) {
        remove(&mut service["spec"], "externalTrafficPolicy");
    }
}

impl Source<'_> {
    fn complete_addresses(&self, service: &mut Value, old: Option<&Service>, errors: &mut Vec<FieldError>) {
        if type_of(service) == "ExternalName"
            || old.is_some_and(|old| families::is_unchanged(&service["spec"], old))
        {
            return;
        }
        if let Err(wrong) = families::settle(service, old, self.settings) {
            return errors.extend(wrong);
        }
        let spec = &mut service["spec"];
        if text(&spec["clusterIP"]) == "None" {
            return;
        }
        let asked = families::texts(&spec["clusterIPs"]);
        let held = old.map_or(&[][..], |old| &old.spec.cluster_ips);
        let mut addresses = Vec::new();
        for (i, family) in families::texts(&spec["ipFamilies"]).iter().enumerate() {
            let asked = asked.get(i).map_or("", String::as_str);
            if held.iter().any(|held| held == asked) {
                addresses.push(asked.to_owned());
                continue;
            }
            let Some(net) = self.settings.service_cidrs.iter().find(|net| family_name(net) == family) else {
                continue;
            };
            match self.address(asked, net, i) {
                Ok(address) => addresses.push(address.to_string()),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            spec["clusterIP"] = json!(addresses.first());
            spec["clusterIPs"] = json!(addresses);
        }
    }

    /// The requested address if it is free, or a free one.
    fn address(&self, requested: &str, net: &IpNet, i: usize) -> Result<IpAddr, FieldError> {
        let path = format!("spec.clusterIPs[{i}]");
        if requested.is_empty() {
            return self.free_address(net).ok_or_else(|| {
                FieldError::invalid(path, "", format!("failed to allocate a serviceIP: range {net} is full"))
            });
        }
        let invalid = |detail: String| FieldError::invalid(path.clone(), requested, detail);
        let Ok(address) = requested.parse::<IpAddr>() else {
            return Err(invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()));
        };
        if !net.contains(&address) || address == net.network() || (is_v4(net) && address == net.broadcast()) {
            return Err(invalid(format!(
                "failed to allocate IP {requested}: the provided IP ({requested}) is not in the valid range. \
                 The range of valid IPs is {net}"
            )));
        }
        if self.taken.has_address(&address, &self.own) {
            return Err(invalid(format!(
                "failed to allocate IP {requested}: provided IP is already allocated"
            )));
        }
        Ok(address)
    }

    fn free_address(&self, net: &IpNet) -> Option<IpAddr> {
        let bits = u32::from(net.max_prefix_len() - net.prefix_len());
        // Both ends are left out: the network's own address, and the broadcast address. An IPv6 range is searched over its
        // first 2^64 addresses.
        let last = if bits >= 64 { u128::from(u64::MAX) } else { (1u128 << bits).saturating_sub(2) };
        let band = (last / 16).clamp(1.min(last), STATIC_BAND_MAX).max(16.min(last));
        self.free_between(net, band + 1, last).or_else(|| self.free_between(net, 1, band))
    }

    fn free_between(&self, net: &IpNet, first: u128, last: u128) -> Option<IpAddr> {
        let count = last.checked_sub(first)?.checked_add(1)?;
        let start = u128::from(self.random) % count;
        // More tries than there are addresses that cannot be given find one that can, if there is one; two are reserved.
        let tries = count.min(self.taken.addresses.len() as u128 + 3);
        (0..tries)
            .filter_map(|step| nth_address(net, first + (start + step) % count))
            .find(|address| !self.taken.has_address(address, &self.own) && !is_reserved(net, *address))
    }

    fn complete_node_ports(&self, service: &mut Value, errors: &mut Vec<FieldError>) {
        let type_ = type_of(service);
        let wanted = type_ == "NodePort"
            || (type_ == "LoadBalancer" && service["spec"]["allocateLoadBalancerNodePorts"] != json!(false));
        if !has_node_ports(&type_) {
            return;
        }
        let range = &self.settings.node_ports;
        let mut given: HashSet<NodePort> = HashSet::new();
        let ports = service["spec"]["ports"].as_array_mut();
        let mut ports: Vec<&mut Value> = ports.into_iter().flatten().collect();
        // Those who ask by number come first, so that no other port of the same Service is given theirs.
        for (i, port) in ports.iter().enumerate() {
            let asked = number(&port["nodePort"]);
            if asked == 0 {
                continue;
            }
            let path = format!("spec.ports[{i}].nodePort");
            let protocol = protocol(text(&port["protocol"]));
            let Some(asked_for) = self.ours(protocol, asked) else {
                let (first, last) = (range.start(), range.end());
                let detail = format!(
                    "provided port is not in the valid range. The range of valid ports is {first}-{last}"
                );
                errors.push(FieldError::invalid(path, asked, detail));
                continue;
            };
            if self.taken.has_port(&asked_for, &self.own) || !given.insert(asked_for) {
                errors.push(FieldError::invalid(path, asked, "provided port is already allocated"));
            }
        }
        if !errors.is_empty() {
            return;
        }
        if !wanted {
            return self.complete_health_check(service, &given, errors);
        }
        for (i, port) in ports.iter_mut().enumerate() {
            if number(&port["nodePort"]) != 0 {
                continue;
            }
            let protocol = protocol(text(&port["protocol"])).to_owned();
            match self.free_port(&protocol, &given, i as u64) {
                Some(free) => {
                    port["nodePort"] = json!(free.1);
                    given.insert(free);
                }
                None => {
                    let path = format!("spec.ports[{i}].nodePort");
                    errors.push(FieldError::invalid(path, 0, "failed to allocate a nodePort: range is full"));
                }
            }
        }
        self.complete_health_check(service, &given, errors);
    }

    /// The port of the health check comes from the node ports' range, beside the Service's own.
    fn complete_health_check(
        &self,
        service: &mut Value,
        given: &HashSet<NodePort>,
        errors: &mut Vec<FieldError>,
    ) {
        const PATH: &str = "spec.healthCheckNodePort";
        if !wants_health_check(service) {
            return;
        }
        let asked = number(&service["spec"]["healthCheckNodePort"]);
        if asked == 0 {
            match self.free_port("TCP", given, 0) {
                Some((_, port)) => service["spec"]["healthCheckNodePort"] = json!(port),
                None => {
                    errors.push(FieldError::invalid(PATH, 0, "failed to allocate a nodePort: range is full"));
                }
            }
            return;
        }
        let range = &self.settings.node_ports;
        let Some(port) = self.ours("TCP", asked) else {
            let (first, last) = (range.start(), range.end());
            let detail = format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            return errors.push(FieldError::invalid(PATH, asked, detail));
        };
        if given.contains(&port) || self.taken.has_port(&port, &self.own) {
            errors.push(FieldError::invalid(PATH, asked, "provided port is already allocated"));
        }
    }

    /// A port that may be asked for by its number: one of the range, or one that the Service has.
    fn ours(&self, protocol: &str, number: i64) -> Option<NodePort> {
        let port = (protocol.to_owned(), u16::try_from(number).ok()?);
        (self.settings.node_ports.contains(&port.1) || self.held.contains(&port)).then_some(port)
    }

    /// A free port, searched from a place of its own for each port of the Service.
    fn free_port(&self, protocol: &str, given: &HashSet<NodePort>, i: u64) -> Option<NodePort> {
        let range = &self.settings.node_ports;
        let count = u64::from(range.end().checked_sub(*range.start())?) + 1;
        (0..count)
            .filter_map(|step| {
                let place = self.random.wrapping_add(i).wrapping_add(step) % count;
                u16::try_from(place).ok()?.checked_add(*range.start())
            })
            .map(|port| (protocol.to_owned(), port))
            .find(|port| !given.contains(port) && !self.taken.has_port(port, &self.own))
    }
}

/// The API's and the DNS Service's addresses are given on request only.
fn is_reserved(net: &IpNet, address: IpAddr) -> bool {
    nth_address(net, 1) == Some(address) || nth_address(net, 10) == Some(address)
}

fn clear_addresses(spec: &mut Value) {
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        remove(spec, field);
    }
}

fn remove(value: &mut Value, field: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove(field);
    }
}

fn type_of(service: &Value) -> String {
    match text(&service["spec"]["type"]) {
        "" => "ClusterIP".to_owned(),
        type_ => type_.to_owned(),
    }
}

/// Whether load balancers ask each node of the cluster about this Service.
fn wants_health_check(service: &Value) -> bool {
    type_of(service) == "LoadBalancer" && text(&service["spec"]["externalTrafficPolicy"]) == "Local"
}

fn has_node_ports(type_: &str) -> bool {
    matches!(type_, "NodePort" | "LoadBalancer")
}

fn protocol(text: &str) -> &str {
    if text.is_empty() { "TCP" } else { text }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn is_v4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

fn family_name(net: &IpNet) -> &'static str {
    if is_v4(net) { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests;
