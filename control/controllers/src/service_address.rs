//! Which cluster addresses and NodePorts a Service gets. Called by the write path before a Service is stored; it must
//! not know how writes are serialised: the caller keeps two allocations from running at once.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::status::FieldError;
use weft_api::view::Service;

use crate::settings::{Settings, nth_address};
use crate::world::World;

/// Addresses below this one within the range are left to those who ask for one by name, as far as others are free.
const STATIC_BAND_MAX: u128 = 256;

/// What other Services hold.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    addresses: HashSet<IpAddr>,
    node_ports: HashSet<(String, u16)>,
}

impl Taken {
    /// What every Service of the snapshot but `except` holds.
    pub fn of(world: &World, except: &ObjectKey) -> Self {
        let mut taken = Self::default();
        for service in world.all::<Service>() {
            if service.metadata.namespace != except.namespace || service.metadata.name != except.name {
                taken.add(service);
            }
        }
        taken
    }

    /// Takes in a Service that the snapshot does not have yet.
    pub fn add(&mut self, service: &Service) {
        let spec = &service.spec;
        let addresses = spec.cluster_ips.iter().chain([&spec.cluster_ip]);
        self.addresses.extend(addresses.filter_map(|text| text.parse::<IpAddr>().ok()));
        let ports = spec.ports.iter().filter(|port| port.node_port != 0);
        self.node_ports.extend(ports.map(|port| (protocol(&port.protocol).to_owned(), port.node_port)));
    }
}

/// Completes a Service that is about to be stored: `clusterIP`, `clusterIPs`, `ipFamilies`, `ipFamilyPolicy` and
/// `nodePort`s. `old` is the stored Service of an update: what it holds and the new one does not name is kept.
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
    if let Some(old) = old {
        carry_over(service, old);
    }
    complete_addresses(service, taken, settings, random, &mut errors);
    complete_node_ports(service, taken, settings, random, &mut errors);
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
    } else if had_address && text(&spec["clusterIP"]).is_empty() && !old.spec.cluster_ip.is_empty() {
        spec["clusterIP"] = json!(old.spec.cluster_ip);
        spec["clusterIPs"] = json!(old.spec.cluster_ips);
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
}

fn complete_addresses(
    service: &mut Value,
    taken: &Taken,
    settings: &Settings,
    random: u64,
    errors: &mut Vec<FieldError>,
) {
    if type_of(service) == "ExternalName" {
        return;
    }
    let spec = &mut service["spec"];
    let headless = text(&spec["clusterIP"]) == "None" || text(&spec["clusterIPs"][0]) == "None";
    let families = match families(spec, settings) {
        Ok(families) => families,
        Err(error) => return errors.push(error),
    };
    let names: Vec<&str> = families.iter().map(|net| family_name(net)).collect();
    if headless {
        spec["clusterIP"] = json!("None");
        spec["clusterIPs"] = json!(["None"]);
    } else {
        let mut addresses = Vec::new();
        for (i, net) in families.iter().enumerate() {
            let requested = match (text(&spec["clusterIPs"][i]), i) {
                ("", 0) => text(&spec["clusterIP"]).to_owned(),
                (asked, _) => asked.to_owned(),
            };
            match address(&requested, net, i, taken, random) {
                Ok(address) => addresses.push(address.to_string()),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return;
        }
        spec["clusterIP"] = json!(addresses.first());
        spec["clusterIPs"] = json!(addresses);
    }
    spec["ipFamilies"] = json!(names);
    if text(&spec["ipFamilyPolicy"]).is_empty() {
        spec["ipFamilyPolicy"] = json!(if names.len() > 1 { "RequireDualStack" } else { "SingleStack" });
    }
}

/// The ranges a Service draws its addresses from, in its order.
fn families<'a>(spec: &Value, settings: &'a Settings) -> Result<Vec<&'a IpNet>, FieldError> {
    let policy = text(&spec["ipFamilyPolicy"]).to_owned();
    let mut chosen: Vec<&IpNet> = Vec::new();
    for (i, asked) in spec["ipFamilies"].as_array().into_iter().flatten().enumerate() {
        let found = settings.service_cidrs.iter().find(|net| family_name(net) == text(asked));
        let Some(net) = found else {
            let path = format!("spec.ipFamilies[{i}]");
            return Err(FieldError::invalid(path, asked.clone(), "not configured on this cluster"));
        };
        chosen.push(net);
    }
    if chosen.is_empty() {
        // A requested address names its family.
        let requested: Option<IpAddr> = text(&spec["clusterIP"]).parse().ok();
        let matching =
            settings.service_cidrs.iter().find(|n| requested.is_some_and(|r| r.is_ipv4() == is_v4(n)));
        chosen.extend(matching.or(settings.service_cidrs.first()));
    }
    if policy == "PreferDualStack" || policy == "RequireDualStack" {
        let second = settings.service_cidrs.iter().find(|net| !chosen.contains(net));
        chosen.extend(second.filter(|_| chosen.len() < 2));
        if policy == "RequireDualStack" && chosen.len() < 2 {
            let detail = "this cluster is not configured for dual-stack services";
            return Err(FieldError::invalid("spec.ipFamilyPolicy", policy, detail));
        }
    }
    Ok(chosen)
}

/// The requested address if it is free, or a free one.
fn address(requested: &str, net: &IpNet, i: usize, taken: &Taken, random: u64) -> Result<IpAddr, FieldError> {
    let path = format!("spec.clusterIPs[{i}]");
    if requested.is_empty() {
        return free_address(net, taken, random).ok_or_else(|| {
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
    if taken.addresses.contains(&address) {
        return Err(invalid(format!("failed to allocate IP {requested}: provided IP is already allocated")));
    }
    Ok(address)
}

fn free_address(net: &IpNet, taken: &Taken, random: u64) -> Option<IpAddr> {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    // Both ends are left out: the network's own address, and the broadcast address. An IPv6 range is searched over its
    // first 2^64 addresses.
    let last = if bits >= 64 { u128::from(u64::MAX) } else { (1u128 << bits).saturating_sub(2) };
    let band = (last / 16).clamp(1.min(last), STATIC_BAND_MAX).max(16.min(last));
    free_between(net, band + 1, last, taken, random).or_else(|| free_between(net, 1, band, taken, random))
}

fn free_between(net: &IpNet, first: u128, last: u128, taken: &Taken, random: u64) -> Option<IpAddr> {
    let count = last.checked_sub(first)?.checked_add(1)?;
    let start = u128::from(random) % count;
    // More tries than there are addresses that cannot be given find one that can, if there is one; two are reserved.
    let tries = count.min(taken.addresses.len() as u128 + 3);
    (0..tries)
        .filter_map(|step| nth_address(net, first + (start + step) % count))
        .find(|address| !taken.addresses.contains(address) && !is_reserved(net, *address))
}

/// The API's and the DNS Service's addresses are given on request only.
fn is_reserved(net: &IpNet, address: IpAddr) -> bool {
    nth_address(net, 1) == Some(address) || nth_address(net, 10) == Some(address)
}

fn complete_node_ports(
    service: &mut Value,
    taken: &Taken,
    settings: &Settings,
    random: u64,
    errors: &mut Vec<FieldError>,
) {
    let type_ = type_of(service);
    let wanted = type_ == "NodePort"
        || (type_ == "LoadBalancer" && service["spec"]["allocateLoadBalancerNodePorts"] != json!(false));
    if !has_node_ports(&type_) {
        return;
    }
    let range = &settings.node_ports;
    let mut held = taken.node_ports.clone();
    let ports = service["spec"]["ports"].as_array_mut();
    let mut ports: Vec<&mut Value> = ports.into_iter().flatten().collect();
    // Those who ask by number come first, so that no other port of the same Service is given theirs.
    for (i, port) in ports.iter().enumerate() {
        let asked = number(&port["nodePort"]);
        if asked == 0 {
            continue;
        }
        let path = format!("spec.ports[{i}].nodePort");
        let number = u16::try_from(asked).ok().filter(|n| range.contains(n));
        let Some(number) = number else {
            let (first, last) = (range.start(), range.end());
            let detail = format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            errors.push(FieldError::invalid(path, asked, detail));
            continue;
        };
        if !held.insert((protocol(text(&port["protocol"])).to_owned(), number)) {
            errors.push(FieldError::invalid(path, asked, "provided port is already allocated"));
        }
    }
    if !wanted || !errors.is_empty() {
        return;
    }
    for (i, port) in ports.iter_mut().enumerate() {
        if number(&port["nodePort"]) != 0 {
            continue;
        }
        let protocol = protocol(text(&port["protocol"])).to_owned();
        match free_port(range, &protocol, &held, random.wrapping_add(i as u64)) {
            Some(free) => {
                held.insert((protocol, free));
                port["nodePort"] = json!(free);
            }
            None => {
                let path = format!("spec.ports[{i}].nodePort");
                errors.push(FieldError::invalid(path, 0, "failed to allocate a nodePort: range is full"));
            }
        }
    }
}

fn free_port(
    range: &std::ops::RangeInclusive<u16>,
    protocol: &str,
    held: &HashSet<(String, u16)>,
    random: u64,
) -> Option<u16> {
    let count = u64::from(range.end().checked_sub(*range.start())?) + 1;
    (0..count)
        .filter_map(|step| {
            u16::try_from((random.wrapping_add(step)) % count).ok()?.checked_add(*range.start())
        })
        .find(|port| !held.contains(&(protocol.to_owned(), *port)))
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
