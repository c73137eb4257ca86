//! Columns of NetworkPolicies, Ingresses, IngressClasses, IPAddresses and ServiceCIDRs.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, NAME, NONE, Printer, age_of, at, first_few, list, name, or, printer, selector, text};

pub(crate) static NETWORK_POLICY: Printer =
    printer(&[NAME, text("Pod-Selector", "The Pods it is about."), AGE], network_policy);

fn network_policy(policy: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(policy), or(&selector(policy.pointer("/spec/podSelector")), NONE), age_of(policy, now)]
}

pub(crate) static INGRESS: Printer = printer(
    &[
        NAME,
        text("Class", "The IngressClass that serves it."),
        text("Hosts", "Hosts that it is about."),
        text("Address", "Addresses that it is reached at."),
        text("Ports", "Ports of TLS configurations that open."),
        AGE,
    ],
    ingress,
);

fn ingress(ingress: &Value, now: Timestamp) -> Vec<Value> {
    let hosts: Vec<String> = list(ingress, "/spec/rules")
        .iter()
        .map(|rule| at(rule, "/host").to_owned())
        .filter(|host| !host.is_empty())
        .collect();
    let addresses: BTreeSet<&str> = list(ingress, "/status/loadBalancer/ingress")
        .iter()
        .map(|i| if at(i, "/ip").is_empty() { at(i, "/hostname") } else { at(i, "/ip") })
        .filter(|address| !address.is_empty())
        .collect();
    let ports = if list(ingress, "/spec/tls").is_empty() { "80" } else { "80, 443" };
    vec![
        name(ingress),
        or(at(ingress, "/spec/ingressClassName"), NONE),
        or(&first_few(&hosts), "*"),
        addresses.into_iter().collect::<Vec<_>>().join(",").into(),
        ports.into(),
        age_of(ingress, now),
    ]
}

pub(crate) static INGRESS_CLASS: Printer = printer(
    &[
        NAME,
        text("Controller", "The controller that serves Ingresses of this class."),
        text("Parameters", "The object with the controller's settings."),
        AGE,
    ],
    ingress_class,
);

fn ingress_class(class: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = class.pointer("/spec/parameters").filter(|p| !p.is_null()).map(|p| {
        let group = at(p, "/apiGroup");
        let dot = if group.is_empty() { "" } else { "." };
        format!("{}{dot}{group}/{}", at(p, "/kind"), at(p, "/name"))
    });
    vec![
        name(class),
        at(class, "/spec/controller").into(),
        or(&parameters.unwrap_or_default(), NONE),
        age_of(class, now),
    ]
}

pub(crate) static IP_ADDRESS: Printer =
    printer(&[NAME, text("ParentRef", "Who has the address."), AGE], ip_address);

fn ip_address(address: &Value, now: Timestamp) -> Vec<Value> {
    let parent = address.pointer("/spec/parentRef").filter(|p| !p.is_null()).map(|p| {
        let (resource, group) = (at(p, "/resource"), at(p, "/group"));
        let dot = if group.is_empty() { "" } else { "." };
        let place = match at(p, "/namespace") {
            "" => String::new(),
            namespace => format!("/{namespace}"),
        };
        format!("{}{place}/{}", format!("{resource}{dot}{group}").to_lowercase(), at(p, "/name"))
    });
    vec![name(address), or(&parent.unwrap_or_default(), NONE), age_of(address, now)]
}

pub(crate) static SERVICE_CIDR: Printer =
    printer(&[NAME, text("CIDRs", "Ranges that Service addresses are given from."), AGE], service_cidr);

fn service_cidr(object: &Value, now: Timestamp) -> Vec<Value> {
    let ranges: Vec<&str> = list(object, "/spec/cidrs").iter().filter_map(Value::as_str).collect();
    vec![name(object), ranges.join(",").into(), age_of(object, now)]
}
