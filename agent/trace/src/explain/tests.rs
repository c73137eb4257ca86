//! What a line of trace must say.

use super::*;
use crate::flow::{Path, Verdict};

struct Cluster;

impl Names for Cluster {
    fn pod(&self, address: IpAddr) -> Option<(String, String)> {
        match address.to_string().as_str() {
            "10.244.0.2" => Some(("default/client".into(), "node-1".into())),
            "10.244.1.3" => Some(("default/web-abc".into(), "node-2".into())),
            _ => None,
        }
    }
    fn node(&self, address: IpAddr) -> Option<String> {
        (address.to_string() == "10.89.0.11").then(|| "node-1".into())
    }
    fn service(&self, destination: SocketAddr, protocol: u8) -> Option<Service> {
        (destination.to_string() == "10.96.0.77:80" && protocol == 6).then(|| Service {
            namespace: "default".into(),
            name: "web".into(),
            port: "http".into(),
        })
    }
}

fn event() -> Event {
    Event {
        unix_ns: 1_700_000_000_123_456_789,
        verdict: Verdict::Forwarded,
        path: Path::Packet,
        hook: "from_pod".into(),
        station: "balance".into(),
        reason: String::new(),
        protocol: 6,
        source: "10.244.0.2:40000".parse().unwrap(),
        destination: "10.96.0.77:80".parse().unwrap(),
        backend: Some("10.244.1.3:8080".parse().unwrap()),
        source_pod: None,
    }
}

#[test]
fn a_service_flow_names_pod_service_and_backend() {
    let flow = explain(&event(), "node-1", &Cluster);
    assert_eq!(
        flow.to_string(),
        "2023-11-14T22:13:20.123456Z node-1 forwarded packet TCP default/client (10.244.0.2:40000, node-1) -> \
         service default/web:http (10.96.0.77:80) -> default/web-abc (10.244.1.3:8080, node-2)"
    );
}

#[test]
fn a_drop_names_station_and_reason() {
    let mut event = event();
    event.verdict = Verdict::Dropped;
    event.backend = None;
    event.station = "balance".into();
    event.reason = "service has no backend".into();
    let text = explain(&event, "node-1", &Cluster).to_string();
    assert!(text.contains("DROPPED"), "{text}");
    assert!(text.ends_with("at from_pod/balance: service has no backend"), "{text}");
}

#[test]
fn an_unbound_socket_takes_its_name_from_the_process() {
    let mut event = event();
    event.source = "0.0.0.0:0".parse().unwrap();
    event.source_pod = Some("default/client".into());
    let flow = explain(&event, "node-1", &Cluster);
    assert_eq!(flow.source.pod.as_deref(), Some("default/client"));
    assert_eq!(flow.source.node.as_deref(), Some("node-1"));
}

#[test]
fn a_node_address_is_named_as_a_node() {
    let mut event = event();
    event.source = "10.89.0.11:5000".parse().unwrap();
    let flow = explain(&event, "node-1", &Cluster);
    assert_eq!(flow.source.to_string(), "node node-1 (10.89.0.11:5000)");
}

#[test]
fn json_survives_a_round_trip() {
    let flow = explain(&event(), "node-1", &Cluster);
    let text = serde_json::to_string(&flow).unwrap();
    assert_eq!(serde_json::from_str::<Flow>(&text).unwrap(), flow);
}
