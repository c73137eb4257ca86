//! Validation of EndpointSlices and Endpoints.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::{IMMUTABLE, Rules, items, name, one_of, one_of_root, pod, rules, text};
use crate::status::{Errors, FieldError};

const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20_000;
const ADDRESSES_MAX: usize = 100;

/// An EndpointSlice.
pub(crate) static SLICE: Rules = Rules {
    create: |object, _, errors| slice(object, errors),
    update: |new, old, _, errors| {
        slice(new, errors);
        update(new, old, errors);
    },
    status: |_, _| {},
};
/// Endpoints.
pub(crate) static ENDPOINTS: Rules = Rules {
    create: |object, _, errors| endpoints(object, errors),
    update: |new, _, _, errors| endpoints(new, errors),
    status: |_, _| {},
};

pub(super) fn slice(slice: &Value, errors: &mut Errors) {
    let type_ = text(slice, "addressType");
    one_of_root(slice, "addressType", &["FQDN", "IPv4", "IPv6"], errors);
    let endpoints = items(slice, "endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        errors.push(FieldError::too_long("endpoints", ENDPOINTS_MAX));
    }
    for (at, endpoint) in endpoints.iter().enumerate() {
        let path = format!("endpoints[{at}]");
        let addresses = items(endpoint, "addresses");
        if addresses.is_empty() {
            errors.push(FieldError::required(format!("{path}.addresses"), "must contain at least 1 address"));
        } else if addresses.len() > ADDRESSES_MAX {
            errors.push(FieldError::too_long(format!("{path}.addresses"), ADDRESSES_MAX));
        }
        for (i, address) in addresses.iter().enumerate() {
            self::address(address.as_str().unwrap_or(""), type_, &format!("{path}.addresses[{i}]"), errors);
        }
        let host = text(endpoint, "hostname");
        if !host.is_empty() {
            rules(name::dns_label(host), &format!("{path}.hostname"), host, errors);
        }
    }
    let ports = items(slice, "ports");
    if ports.len() > PORTS_MAX {
        errors.push(FieldError::too_long("ports", PORTS_MAX));
    }
    self::ports(ports, "ports", false, errors);
}

fn address(address: &str, type_: &str, path: &str, errors: &mut Errors) {
    let fits = match type_ {
        "IPv4" => address.parse::<Ipv4Addr>().is_ok(),
        "IPv6" => address.parse::<Ipv6Addr>().is_ok(),
        _ => {
            rules(name::dns_subdomain(address), path, address, errors);
            return;
        }
    };
    if fits {
        reachable(address, path, errors);
    } else {
        errors.push(FieldError::invalid(path, address, format!("must be a valid {type_} address")));
    }
}

/// Addresses that would lead back into the node itself.
fn reachable(address: &str, path: &str, errors: &mut Errors) {
    let Ok(ip) = address.parse::<IpAddr>() else { return };
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let why = match () {
        () if ip.is_unspecified() => format!("may not be unspecified ({ip})"),
        () if ip.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        () if link_local => "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        () if ip.is_multicast() => "may not be in the multicast range (224.0.0.0/4, ff00::/8)".to_owned(),
        () => return,
    };
    errors.push(FieldError::invalid(path, address, why));
}

fn ports(ports: &[Value], path: &str, required: bool, errors: &mut Errors) {
    let mut seen = std::collections::HashSet::new();
    for (at, port) in ports.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let given = text(port, "name");
        if given.is_empty() {
            if required && ports.len() > 1 {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            }
        } else {
            rules(name::dns_label(given), &format!("{path}.name"), given, errors);
        }
        if !seen.insert(given) {
            errors.push(FieldError::duplicate(format!("{path}.name"), given));
        }
        one_of(port, &path, "protocol", PROTOCOLS, true, errors);
        if let Some(number) = port.get("port").and_then(Value::as_i64)
            && let Some(rule) = name::port(number)
        {
            errors.push(FieldError::invalid(format!("{path}.port"), number, rule));
        }
    }
}

/// Changes that a stored EndpointSlice allows.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    if text(new, "addressType") != text(old, "addressType") {
        errors.push(FieldError::invalid("addressType", text(new, "addressType"), IMMUTABLE));
    }
}

pub(super) fn endpoints(endpoints: &Value, errors: &mut Errors) {
    for (at, subset) in items(endpoints, "subsets").iter().enumerate() {
        let path = format!("subsets[{at}]");
        if items(subset, "addresses").is_empty() && items(subset, "notReadyAddresses").is_empty() {
            errors.push(FieldError::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for list in ["addresses", "notReadyAddresses"] {
            for (i, address) in items(subset, list).iter().enumerate() {
                let path = format!("{path}.{list}[{i}].ip");
                pod::ip(text(address, "ip"), &path, errors);
                reachable(text(address, "ip"), &path, errors);
            }
        }
        self::ports(items(subset, "ports"), &format!("{path}.ports"), true, errors);
    }
}
