//! Defaults of a Service. Addresses, families and node ports are allocated by the server.

use serde_json::{Map, Value};

use super::{made, objects, set};

pub(super) fn service(service: &mut Map<String, Value>) {
    if let Some(status) = made(service, "status") {
        made(status, "loadBalancer");
    }
    let Some(spec) = made(service, "spec") else { return };
    set(spec, "type", "ClusterIP");
    set(spec, "sessionAffinity", "None");
    let text =
        |spec: &Map<String, Value>, key: &str| spec.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    if text(spec, "sessionAffinity") == "ClientIP" {
        if let Some(client_ip) = made(spec, "sessionAffinityConfig").and_then(|c| made(c, "clientIP")) {
            set(client_ip, "timeoutSeconds", 10_800);
        }
    } else {
        spec.remove("sessionAffinityConfig");
    }
    let type_ = text(spec, "type");
    if type_ != "ExternalName" {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    let external = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    if matches!(type_.as_str(), "NodePort" | "LoadBalancer") || external {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if type_ == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
    for port in objects(spec, "ports") {
        set(port, "protocol", "TCP");
        let unset = match port.get("targetPort") {
            None | Some(Value::Null) => true,
            Some(Value::String(name)) => name.is_empty(),
            Some(number) => number.as_i64() == Some(0),
        };
        if let Some(number) = port.get("port").cloned().filter(|_| unset) {
            port.insert("targetPort".into(), number);
        }
    }
}

/// A client that replaces a Service need not know its addresses and node ports.
pub(super) fn carry_over(new: &mut Value, old: &Value) {
    let Some(before) = old.get("spec") else { return };
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let type_of = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("ClusterIP").to_owned();
    let (now, was) = (type_of(spec.get("type")), type_of(before.get("type")));
    let copy = |spec: &mut Map<String, Value>, key: &str| {
        if let Some(value) = before.get(key) {
            set(spec, key, value.clone());
        }
    };
    if now != "ExternalName" && was != "ExternalName" {
        // With one of the two address fields given, the other follows it.
        let given =
            |key: &str, spec: &Map<String, Value>| spec.get(key).is_some_and(|v| !v.is_null() && v != "");
        if !given("clusterIP", spec) && !given("clusterIPs", spec) {
            copy(spec, "clusterIP");
            copy(spec, "clusterIPs");
        }
        copy(spec, "ipFamilies");
        copy(spec, "ipFamilyPolicy");
    }
    let has_node_ports = |type_: &str| matches!(type_, "NodePort" | "LoadBalancer");
    if has_node_ports(&now) && has_node_ports(&was) {
        let old_ports = before.get("ports").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for port in objects(spec, "ports") {
            let same = |old: &&Value| {
                old.get("port") == port.get("port") && old.get("protocol") == port.get("protocol")
            };
            let found = old_ports.iter().find(same).and_then(|old| old.get("nodePort")).cloned();
            if let Some(number) = found.filter(|_| port.get("nodePort").is_none_or(|n| n.as_i64() == Some(0)))
            {
                port.insert("nodePort".into(), number);
            }
        }
        copy(spec, "healthCheckNodePort");
    }
}
