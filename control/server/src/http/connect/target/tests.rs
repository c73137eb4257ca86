//! Names of paths, and what they lead to.

use serde_json::{Value, json};

use super::*;

fn pod(status: &Value) -> Pod {
    let containers = json!([
        { "name": "sidecar" },
        { "name": "web", "ports": [{ "containerPort": 8080, "name": "http" }, { "containerPort": 9090, "name": "metrics" }] },
    ]);
    let pod = json!({
        "metadata": { "name": "p", "namespace": "d" },
        "spec": { "nodeName": "n1", "containers": containers },
        "status": status,
    });
    serde_json::from_value(pod).unwrap()
}

fn slice(endpoints: &Value) -> EndpointSlice {
    let ports = json!([{ "name": "web", "protocol": "TCP", "port": 8080 }, { "name": "dns", "protocol": "UDP", "port": 53 }]);
    serde_json::from_value(json!({ "endpoints": endpoints, "ports": ports })).unwrap()
}

#[test]
fn names_have_a_scheme_and_a_port_or_neither() {
    let named = |tls, name, port| Named { tls, name, port };
    for (text, wanted) in [
        ("web", named(false, "web", "")),
        ("web:80", named(false, "web", "80")),
        ("web:", named(false, "web", "")),
        ("http:web:metrics", named(false, "web", "metrics")),
        ("https:web:", named(true, "web", "")),
        (":web:80", named(false, "web", "80")),
    ] {
        assert_eq!(Named::parse(text).unwrap(), wanted, "{text}");
    }
    for wrong in ["", ":", ":80", "ftp:web:21", "a:b:c:d", "https::443"] {
        assert_eq!(Named::parse(wrong).unwrap_err().code, 400, "{wrong}");
    }
}

#[test]
fn a_pod_is_asked_at_its_address_and_the_port() {
    let pod = pod(&json!({ "podIP": "10.1.2.3" }));
    for (port, wanted) in [("", "10.1.2.3:8080"), ("metrics", "10.1.2.3:9090"), ("1234", "10.1.2.3:1234")] {
        let place = of_pod(&pod, port).unwrap();
        assert_eq!((place.node.as_str(), place.address), ("n1", wanted.parse().unwrap()), "{port}");
    }
    assert_eq!(of_pod(&pod, "nothing").unwrap_err().code, 400);
    let unscheduled = Pod { spec: Default::default(), ..pod };
    assert_eq!(of_pod(&unscheduled, "80").unwrap_err().code, 400);
}

#[test]
fn nobody_is_led_to_what_only_a_node_reaches() {
    assert_eq!(of_pod(&pod(&json!({})), "80").unwrap_err().code, 503);
    for local in [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "::",
        "169.254.169.254",
        "fe80::1",
        "224.0.0.1",
        "ff02::1",
    ] {
        let refused = of_pod(&pod(&json!({ "podIP": local })), "80").unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (400, "address not allowed"), "{local}");
    }
}

#[test]
fn a_services_port_has_a_number_or_a_name() {
    let service = |ports: &Value| -> Service {
        serde_json::from_value(json!({ "metadata": { "name": "s" }, "spec": { "ports": ports } })).unwrap()
    };
    let two = service(&json!([{ "name": "web", "port": 80 }, { "name": "metrics", "port": 90 }]));
    assert_eq!(port_name(&two, "80").unwrap(), "web");
    assert_eq!(port_name(&two, "metrics").unwrap(), "metrics");
    assert_eq!(port_name(&two, "").unwrap(), "", "none of them");
    assert_eq!(port_name(&two, "81").unwrap_err().message, "no service port 81 found for service \"s\"");
    let one = service(&json!([{ "name": "web", "port": 80 }]));
    assert_eq!(port_name(&one, "").unwrap(), "web");
}

#[test]
fn a_service_is_asked_by_one_of_its_ready_pods() {
    let target = |name: &str| json!({ "kind": "Pod", "name": name });
    let slices = [
        slice(&json!([
            { "addresses": ["10.1.2.3"], "targetRef": target("p") },
            { "addresses": ["10.1.2.4"], "targetRef": target("q"), "conditions": { "ready": false } },
            // Somebody's own, which is no Pod; and a Pod's name with another address.
            { "addresses": ["10.0.0.1"] },
            { "addresses": ["10.0.0.1"], "targetRef": target("p") },
        ])),
        slice(&json!([{ "addresses": ["10.1.2.5"], "targetRef": target("r") }])),
    ];
    let pods = |name: &str| match name {
        "p" => Some(pod(&json!({ "podIP": "10.1.2.3" }))),
        "q" => Some(pod(&json!({ "podIP": "10.1.2.4" }))),
        "r" => {
            Some(pod(&json!({ "podIP": "fd00::5", "podIPs": [{ "ip": "fd00::5" }, { "ip": "10.1.2.5" }] })))
        }
        _ => None,
    };
    let mut asked: Vec<String> = (0..4)
        .map(|choice| of_service("s", "web", &slices, choice, pods).unwrap().address.to_string())
        .collect();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["10.1.2.3:8080", "10.1.2.5:8080"]);
    for name in ["dns", "nothing", ""] {
        let refused = of_service("s", name, &slices, 0, pods).unwrap_err();
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (503, "no endpoints available for service \"s\""),
            "{name}"
        );
    }
    assert_eq!(of_service("s", "web", &slices, 0, |_| None).unwrap_err().code, 503);
}
