//! Defaults of a Service. Addresses, families and node ports are allocated by the server.

use serde_json::{Map, Value};

use super::{made, objects, set};

pub(crate) fn service(service: &mut Map<String, Value>) {
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
