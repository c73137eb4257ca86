//! The Services and EndpointSlices that are written: Services without selector, ten endpoints each, addresses by number.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// Endpoints of every Service.
pub(crate) const ENDPOINTS: usize = 10;
/// Which of a Service's endpoints is changed.
const CHANGED: usize = 3;
pub(crate) const PORT: u16 = 80;
const TARGET_PORT: u16 = 8080;
const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

fn plus(first: [u8; 4], number: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::from(first)) + u32::try_from(number).expect("few addresses"))
}

/// A Service's address: above those that the cluster gives itself at its start.
pub(crate) fn service_ip(service: usize) -> Ipv4Addr {
    plus([10, 96, 16, 0], service)
}

fn endpoint_ip(service: usize, endpoint: usize) -> Ipv4Addr {
    plus([172, 16, 0, 1], service * ENDPOINTS + endpoint)
}

/// An address that no endpoint had before.
pub(crate) fn changed_address(run: usize, sample: usize) -> Ipv4Addr {
    plus([172, 24, 0, 1], run * 10_000 + sample)
}

/// Path and body that make a Service.
pub(crate) fn service(service: usize) -> (String, String) {
    let object = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name(service) },
        "spec": {
            "clusterIP": service_ip(service).to_string(),
            "ports": [{ "name": "http", "port": PORT, "targetPort": TARGET_PORT, "protocol": "TCP" }],
        },
    });
    (SERVICES.to_owned(), object.to_string())
}

/// Path and body that make its EndpointSlice.
pub(crate) fn slice(service: usize) -> (String, String) {
    let object = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": slice_name(service),
            "labels": {
                "kubernetes.io/service-name": name(service),
                "endpointslice.kubernetes.io/managed-by": "weft-bench",
            },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": TARGET_PORT, "protocol": "TCP" }],
        "endpoints": endpoints(service, None),
    });
    (SLICES.to_owned(), object.to_string())
}

/// Path and merge patch that give one of its endpoints another address.
pub(crate) fn change(service: usize, address: Ipv4Addr) -> (String, String) {
    let patch = json!({ "endpoints": endpoints(service, Some(address)) });
    (format!("{SLICES}/{}", slice_name(service)), patch.to_string())
}

fn endpoints(service: usize, changed: Option<Ipv4Addr>) -> Vec<Value> {
    let endpoint = |number: usize| {
        let own = endpoint_ip(service, number);
        let address = if number == CHANGED { changed.unwrap_or(own) } else { own };
        json!({ "addresses": [address.to_string()], "conditions": { "ready": true } })
    };
    (0..ENDPOINTS).map(endpoint).collect()
}

fn name(service: usize) -> String {
    format!("bench-{service}")
}

fn slice_name(service: usize) -> String {
    format!("bench-{service}-a")
}
