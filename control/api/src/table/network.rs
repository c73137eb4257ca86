//! Columns of Services, Endpoints and EndpointSlices.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, NAME, NONE, Printer, age_of, at, count, first_few, labels, list, name, or, printer, text, wide,
};

pub(crate) static SERVICE: Printer = printer(
    &[
        NAME,
        text("Type", "How the Service is exposed."),
        text("Cluster-IP", "The address of the Service within the cluster."),
        text("External-IP", "Addresses of the Service outside the cluster."),
        text("Port(s)", "The ports that are exposed by this service."),
        AGE,
        wide("Selector", "Route traffic to pods with these labels."),
    ],
    service,
);

fn service(service: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(service, "/spec/ports")
        .iter()
        .map(|port| {
            let (number, protocol) = (count(port, "/port"), at(port, "/protocol"));
            match count(port, "/nodePort") {
                0 => format!("{number}/{protocol}"),
                node_port => format!("{number}:{node_port}/{protocol}"),
            }
        })
        .collect();
    vec![
        name(service),
        at(service, "/spec/type").into(),
        or(at(service, "/spec/clusterIP"), NONE),
        external(service),
        or(&ports.join(","), NONE),
        age_of(service, now),
        labels(service.pointer("/spec/selector")),
    ]
}

fn external(service: &Value) -> Value {
    let own = || list(service, "/spec/externalIPs").iter().filter_map(Value::as_str);
    match at(service, "/spec/type") {
        "ExternalName" => or(at(service, "/spec/externalName"), NONE),
        "LoadBalancer" => {
            let given = list(service, "/status/loadBalancer/ingress");
            let given =
                given.iter().map(|i| if at(i, "/ip").is_empty() { at(i, "/hostname") } else { at(i, "/ip") });
            or(&given.chain(own()).collect::<Vec<_>>().join(","), "<pending>")
        }
        _ => or(&own().collect::<Vec<_>>().join(","), NONE),
    }
}

pub(crate) static ENDPOINTS: Printer =
    printer(&[NAME, text("Endpoints", "Addresses and ports that the Service leads to."), AGE], endpoints);

fn endpoints(endpoints: &Value, now: Timestamp) -> Vec<Value> {
    let mut shown = Vec::new();
    for subset in list(endpoints, "/subsets") {
        let addresses = list(subset, "/addresses");
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            shown.extend(addresses.iter().map(|a| at(a, "/ip").to_owned()));
        }
        for port in ports {
            let port = count(port, "/port");
            shown.extend(addresses.iter().map(|a| {
                let ip = at(a, "/ip");
                if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
            }));
        }
    }
    vec![name(endpoints), or(&first_few(&shown), NONE), age_of(endpoints, now)]
}

pub(crate) static ENDPOINT_SLICE: Printer = printer(
    &[
        NAME,
        text("AddressType", "The family of the addresses."),
        text("Ports", "Ports of the endpoints."),
        text("Endpoints", "Addresses of the endpoints."),
        AGE,
    ],
    endpoint_slice,
);

fn endpoint_slice(slice: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(slice, "/ports")
        .iter()
        .map(|p| p.get("port").and_then(Value::as_i64).map_or_else(|| "*".to_owned(), |n| n.to_string()))
        .collect();
    let addresses: Vec<String> = list(slice, "/endpoints")
        .iter()
        .flat_map(|e| list(e, "/addresses").iter().filter_map(Value::as_str).map(str::to_owned))
        .collect();
    vec![
        name(slice),
        at(slice, "/addressType").into(),
        or(&first_few(&ports), "<unset>"),
        or(&first_few(&addresses), "<unset>"),
        age_of(slice, now),
    ]
}
