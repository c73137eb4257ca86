//! Validation of Ingresses and IngressClasses.

use std::net::IpAddr;

use serde_json::Value;

use super::{IMMUTABLE, Rules, items, name, not_empty, pod, rules, text};
use crate::status::{Errors, FieldError};

/// Longest name of an IngressClass' controller, bytes.
const CONTROLLER_BYTES_MAX: usize = 250;
/// Where the class of an Ingress stood before `spec.ingressClassName`.
const CLASS_ANNOTATION: &str = "/metadata/annotations/kubernetes.io~1ingress.class";
const PATH_TYPES: &[&str] = &["Exact", "Prefix", "ImplementationSpecific"];

/// An Ingress.
pub(crate) static INGRESS: Rules = Rules {
    create: |object, _, errors| {
        ingress(object, errors);
        one_class(object, errors);
    },
    update: |new, _, _, errors| ingress(new, errors),
    status,
};
/// An IngressClass.
pub(crate) static CLASS: Rules = Rules {
    create: |object, _, errors| class(object, errors),
    update: |new, old, _, errors| {
        let controller = |class: &Value| class.pointer("/spec/controller").cloned().unwrap_or_default();
        if controller(new) != controller(old) {
            errors.push(FieldError::invalid("spec.controller", controller(new), IMMUTABLE));
        }
        class(new, errors);
    },
    status: |_, _| {},
};

fn ingress(ingress: &Value, errors: &mut Errors) {
    let spec = ingress.get("spec").unwrap_or(&Value::Null);
    let ingress_rules = items(spec, "rules");
    let fallback = spec.get("defaultBackend").filter(|b| !b.is_null());
    if ingress_rules.is_empty() && fallback.is_none() {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid("spec", ingress_rules.to_vec(), why));
    }
    if let Some(fallback) = fallback {
        backend(fallback, "spec.defaultBackend", errors);
    }
    for (at, rule) in ingress_rules.iter().enumerate() {
        let path = format!("spec.rules[{at}]");
        let host = text(rule, "host");
        if !host.is_empty() {
            self::host(host, &format!("{path}.host"), errors);
        }
        if let Some(http) = rule.get("http").filter(|h| !h.is_null()) {
            paths(http, &format!("{path}.http"), errors);
        }
    }
    for (at, tls) in items(spec, "tls").iter().enumerate() {
        let path = format!("spec.tls[{at}]");
        for (at, host) in items(tls, "hosts").iter().enumerate() {
            dns_or_wildcard(host.as_str().unwrap_or(""), &format!("{path}.hosts[{at}]"), errors);
        }
        let secret = text(tls, "secretName");
        if !secret.is_empty() {
            rules(name::dns_subdomain(secret), &format!("{path}.secretName"), secret, errors);
        }
    }
    if let Some(class) = spec.get("ingressClassName").and_then(Value::as_str) {
        rules(name::dns_subdomain(class), "spec.ingressClassName", class, errors);
    }
}

/// The annotation of old and the field may both name the class, the same one.
fn one_class(ingress: &Value, errors: &mut Errors) {
    let class = ingress.pointer("/spec/ingressClassName").filter(|c| !c.is_null());
    if let (Some(annotation), Some(class)) = (ingress.pointer(CLASS_ANNOTATION), class)
        && annotation != class
    {
        let why = "must match `ingressClassName` when both are specified";
        errors.push(FieldError::invalid("annotations.kubernetes.io/ingress.class", annotation.clone(), why));
    }
}

fn host(host: &str, path: &str, errors: &mut Errors) {
    if host.parse::<IpAddr>().is_ok() {
        errors.push(FieldError::invalid(path, host, "must be a DNS name, not an IP address"));
    }
    dns_or_wildcard(host, path, errors);
}

fn dns_or_wildcard(host: &str, path: &str, errors: &mut Errors) {
    let broken = if host.contains('*') { name::wildcard_subdomain(host) } else { name::dns_subdomain(host) };
    rules(broken, path, host, errors);
}

fn paths(http: &Value, path: &str, errors: &mut Errors) {
    let paths = items(http, "paths");
    if paths.is_empty() {
        errors.push(FieldError::required(format!("{path}.paths"), ""));
    }
    for (at, entry) in paths.iter().enumerate() {
        let path = format!("{path}.paths[{at}]");
        let Some(type_) = entry.get("pathType").and_then(Value::as_str) else {
            errors.push(FieldError::required(format!("{path}.pathType"), "pathType must be specified"));
            continue;
        };
        let url = text(entry, "path");
        let mut wrong = |why: String| errors.push(FieldError::invalid(format!("{path}.path"), url, why));
        match type_ {
            "Exact" | "Prefix" => {
                if !url.starts_with('/') {
                    wrong("must be an absolute path".to_owned());
                }
                for part in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|part| url.contains(**part)) {
                    wrong(format!("must not contain '{part}'"));
                }
                for end in ["/..", "/."].iter().filter(|end| url.ends_with(**end)) {
                    wrong(format!("cannot end with '{end}'"));
                }
            }
            "ImplementationSpecific" if !url.is_empty() && !url.starts_with('/') => {
                wrong("must be an absolute path".to_owned());
            }
            "ImplementationSpecific" => {}
            other => {
                errors.push(FieldError::not_supported(format!("{path}.pathType"), other, PATH_TYPES));
            }
        }
        backend(entry.get("backend").unwrap_or(&Value::Null), &format!("{path}.backend"), errors);
    }
}

fn backend(backend: &Value, path: &str, errors: &mut Errors) {
    let given = |key: &str| backend.get(key).filter(|v| !v.is_null());
    match (given("resource"), given("service")) {
        (Some(_), Some(_)) => {
            let why = "cannot set both resource and service backends";
            errors.push(FieldError::invalid(path, "", why));
        }
        (Some(resource), None) => reference(resource, &format!("{path}.resource"), errors),
        (None, Some(service)) => self::service(service, path, errors),
        (None, None) => {
            errors.push(FieldError::invalid(path, "", "resource or service backend is required"));
        }
    }
}

fn service(service: &Value, path: &str, errors: &mut Errors) {
    let (given, at) = (text(service, "name"), format!("{path}.service.name"));
    if given.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else {
        rules(name::dns_label_1035(given), &at, given, errors);
    }
    let port = service.get("port").unwrap_or(&Value::Null);
    let (named, number) = (text(port, "name"), port.get("number").and_then(Value::as_i64).unwrap_or(0));
    match (named.is_empty(), number) {
        (true, 0) => errors.push(FieldError::required(path, "port name or number is required")),
        (true, number) => {
            if let Some(rule) = name::port(number) {
                errors.push(FieldError::invalid(format!("{path}.service.port.number"), number, rule));
            }
        }
        (false, 0) => rules(name::port_name(named), &format!("{path}.service.port.name"), named, errors),
        (false, _) => {
            errors.push(FieldError::invalid(path, "", "cannot set both port name & port number"));
        }
    }
}

/// A group, kind and name of some object.
fn reference(reference: &Value, path: &str, errors: &mut Errors) {
    if let Some(group) = reference.get("apiGroup").and_then(Value::as_str) {
        rules(name::dns_subdomain(group), &format!("{path}.apiGroup"), group, errors);
    }
    for key in ["kind", "name"] {
        not_empty(reference, path, key, errors);
        let value = text(reference, key);
        rules(name::path_segment(value), &format!("{path}.{key}"), value, errors);
    }
}

fn class(class: &Value, errors: &mut Errors) {
    let spec = class.get("spec").unwrap_or(&Value::Null);
    let controller = text(spec, "controller");
    if controller.is_empty() {
        errors.push(FieldError::required("spec.controller", ""));
    } else {
        if controller.len() > CONTROLLER_BYTES_MAX {
            errors.push(FieldError::too_long("spec.controller", CONTROLLER_BYTES_MAX));
        }
        domain_path(controller, "spec.controller", errors);
    }
    let Some(parameters) = spec.get("parameters").filter(|p| !p.is_null()) else { return };
    reference(parameters, "spec.parameters", errors);
    let namespace = parameters.get("namespace").and_then(Value::as_str);
    let at = "spec.parameters.namespace";
    match (text(parameters, "scope"), namespace) {
        ("", _) => errors.push(FieldError::required("spec.parameters.scope", "")),
        ("Namespace", None) => {
            errors.push(FieldError::required(at, "`parameters.scope` is set to 'Namespace'"));
        }
        ("Namespace", Some(namespace)) => rules(name::dns_label(namespace), at, namespace, errors),
        ("Cluster", Some(_)) => {
            errors.push(FieldError::forbidden(at, "`parameters.scope` is set to 'Cluster'"));
        }
        ("Cluster", None) => {}
        (other, _) => {
            let valid = &["Cluster", "Namespace"];
            errors.push(FieldError::not_supported("spec.parameters.scope", other, valid));
        }
    }
}

/// A path behind a domain, such as `acme.io/foo`.
fn domain_path(given: &str, path: &str, errors: &mut Errors) {
    match given.split_once('/') {
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            rules(name::dns_subdomain(domain), path, domain, errors);
            let allowed = |c: u8| c.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&c);
            if !rest.bytes().all(allowed) {
                let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                errors.push(FieldError::invalid(path, rest, why));
            }
        }
        _ => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(path, given, why));
        }
    }
}

fn status(ingress: &Value, errors: &mut Errors) {
    let balancer = ingress.pointer("/status/loadBalancer").unwrap_or(&Value::Null);
    for (at, entry) in items(balancer, "ingress").iter().enumerate() {
        let path = format!("status.loadBalancer.ingress[{at}]");
        let (ip, host) = (text(entry, "ip"), text(entry, "hostname"));
        if !ip.is_empty() {
            pod::ip(ip, &format!("{path}.ip"), errors);
        }
        if !host.is_empty() {
            let path = format!("{path}.hostname");
            rules(name::dns_subdomain(host), &path, host, errors);
            if host.parse::<IpAddr>().is_ok() {
                errors.push(FieldError::invalid(path, host, "must be a DNS name, not an IP address"));
            }
        }
    }
}
