//! What Services should not say: what is ignored, and ports that lead nowhere.

use serde_json::Value;

use super::{Warnings, at, list};

pub(super) fn service(service: &Value, warnings: &mut Warnings) {
    sctp(service, warnings);
    let hints = "service.kubernetes.io/topology-aware-hints";
    if service["metadata"]["annotations"].get(hints).is_some() {
        warnings.push(format!(
            "annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let external = at(service, "/spec/type") == "ExternalName";
    let has_externals = !list(service, "/spec/externalIPs").is_empty();
    if at(service, "/spec/type") == "ClusterIP" && at(service, "/spec/clusterIP") == "None" {
        let affinity = at(service, "/spec/sessionAffinity");
        for (field, set) in [
            ("loadBalancerIP", !at(service, "/spec/loadBalancerIP").is_empty()),
            ("externalIPs", has_externals),
            ("SessionAffinity", !matches!(affinity, "" | "None")),
        ] {
            if set {
                warnings.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    }
    if external && has_externals {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !external && !at(service, "/spec/externalName").is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
}

/// An SCTP port keeps its number on the way: the checksum of SCTP (RFC 9260, section 6.8) cannot be changed by a difference, so
/// ports are not rewritten. A number that has to change leads nowhere.
fn sctp(service: &Value, warnings: &mut Warnings) {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    for (at, port) in ports.into_iter().flatten().enumerate().filter(|(_, port)| port["protocol"] == "SCTP") {
        let number = port["port"].as_u64().unwrap_or(0);
        let target = match &port["targetPort"] {
            Value::Number(target) => target.as_u64().filter(|target| *target != 0).unwrap_or(number),
            Value::String(name) => {
                warnings.push(format!(
                    "spec.ports[{at}].targetPort: SCTP ports are not rewritten: {name:?} must be port {number} in every Pod"
                ));
                continue;
            }
            _ => number,
        };
        if target != number {
            warnings.push(format!(
                "spec.ports[{at}].targetPort: SCTP ports are not rewritten: {target} is not reached by port {number}"
            ));
        }
        let node_port = port["nodePort"].as_u64().unwrap_or(0);
        if node_port != 0 && node_port != target {
            warnings.push(format!(
                "spec.ports[{at}].nodePort: SCTP ports are not rewritten: {target} is not reached by node port {node_port}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(service: &Value) -> Vec<String> {
        let mut warnings = Warnings::default();
        super::service(service, &mut warnings);
        warnings.all
    }

    #[test]
    fn sctp_ports_that_would_have_to_change_are_warned_of() {
        let warned =
            |port: Value| service(&json!({ "spec": { "ports": [{ "port": 80, "protocol": "TCP" }, port] } }));
        let none: [String; 0] = [];
        assert_eq!(
            warned(json!({ "port": 80, "targetPort": 81, "nodePort": 30_000, "protocol": "UDP" })),
            none
        );
        assert_eq!(warned(json!({ "port": 38_412, "protocol": "SCTP" })), none);
        assert_eq!(warned(json!({ "port": 38_412, "targetPort": 38_412, "protocol": "SCTP" })), none);
        assert_eq!(
            warned(json!({ "port": 38_412, "targetPort": 9, "nodePort": 30_001, "protocol": "SCTP" })),
            [
                "spec.ports[1].targetPort: SCTP ports are not rewritten: 9 is not reached by port 38412",
                "spec.ports[1].nodePort: SCTP ports are not rewritten: 9 is not reached by node port 30001",
            ]
        );
        let equal = json!({ "port": 30_001, "targetPort": 30_001, "nodePort": 30_001, "protocol": "SCTP" });
        assert_eq!(warned(equal), none);
        let named = warned(json!({ "port": 7, "targetPort": "amf", "protocol": "SCTP" }));
        assert!(named[0].contains("\"amf\" must be port 7"), "{named:?}");
    }

    #[test]
    fn what_is_ignored_is_told() {
        let with = |spec: Value| service(&json!({ "spec": spec }));
        assert_eq!(
            with(
                json!({ "type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP", "externalIPs": ["192.0.2.1"] })
            ),
            [
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services"
            ]
        );
        assert!(
            with(json!({ "type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "None" })).is_empty()
        );
        assert_eq!(
            with(json!({ "type": "ExternalName", "externalName": "a.b", "externalIPs": ["192.0.2.1"] })),
            ["spec.externalIPs is ignored when spec.type is \"ExternalName\""]
        );
        assert_eq!(
            with(json!({ "type": "ClusterIP", "externalName": "a.b" })),
            ["spec.externalName is ignored when spec.type is not \"ExternalName\""]
        );
        let hints = json!({ "metadata": { "annotations": { "service.kubernetes.io/topology-aware-hints": "auto" } } });
        assert!(
            service(&hints)[0]
                .starts_with("annotation service.kubernetes.io/topology-aware-hints is deprecated")
        );
    }
}
