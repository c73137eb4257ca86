//! What a user should know of an object that is taken as it is: warnings for the answer to a write. Pure.

use serde_json::Value;

use crate::kind;
use crate::object::Object;

/// The warnings about an object as it was stored.
#[must_use]
pub fn of(object: &Object) -> Vec<String> {
    if object.kind == &kind::SERVICE { service(&object.view().unwrap_or_default()) } else { Vec::new() }
}

/// An SCTP port keeps its number on the way: the checksum of SCTP (RFC 9260, section 6.8) cannot be changed by a difference, so
/// ports are not rewritten. A number that has to change leads nowhere.
fn service(service: &Value) -> Vec<String> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let mut warnings = Vec::new();
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
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
}
