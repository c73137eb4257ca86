//! Each way a packet can end, and where the node's knowledge does.

use bytes::Bytes;
use weft_link::message::{Address, Endpoint, Peer, Port, Resource, Service, resource::Body};

use super::*;

const POD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 1, 5));

fn view() -> View {
    let mut view = View::default();
    let mut put = |name: &str, body| view.put(Resource { name: name.into(), body: Some(body) });
    for (node, last) in [("node-1", 1), ("node-2", 2)] {
        let addresses = vec![Bytes::copy_from_slice(&[192, 0, 2, last])];
        put(
            &format!("peer/{node}"),
            Body::Peer(Peer { node: node.into(), addresses, pod_cidrs: Vec::new(), ..Peer::default() }),
        );
    }
    for (ip, pod, node) in
        [([10, 244, 1, 5], "default/a", "node-1"), ([10, 244, 2, 7], "default/far", "node-2")]
    {
        let address = Bytes::copy_from_slice(&ip);
        put(
            &format!("address/{}", IpAddr::from(ip)),
            Body::Address(Address { address, pod: pod.into(), node: node.into() }),
        );
    }
    let service = Service {
        namespace: "default".into(),
        name: "web".into(),
        cluster_ips: vec![Bytes::from_static(&[10, 96, 0, 7])],
        ports: vec![Port { name: String::new(), protocol: 6, port: 80, node_port: 30_080 }],
        endpoints: vec![Endpoint {
            address: Bytes::from_static(&[10, 244, 1, 9]),
            node: "node-1".into(),
            ready: true,
            serving: true,
            ..Default::default()
        }],
        external_local: true,
        ..Default::default()
    };
    put("service/default/web", Body::Service(service));
    view
}

fn facts(to: &str) -> Facts<'static> {
    let to: SocketAddr = to.parse().expect("an address");
    Facts {
        node: "node-1",
        pod: "default/a".into(),
        ips: &[POD],
        protocol: Protocol::Tcp,
        bytes: 60,
        to,
        found: None,
        socket_lb: true,
        asked: Asked { peer: Some(to), source_port: 40_000, mtu_bytes: 1_450, reason: None, error: None },
        walked: None,
        node_ports: (30_000, 32_767),
        backends: None,
        listening: None,
    }
}

/// What `from_pod` says of a new flow that goes this way, from the facts' Pod to where it was connected.
fn passes(facts: &Facts<'_>, way: Way) -> Passage {
    let source = SocketAddr::new(POD, 40_000);
    let to = facts.asked.peer.unwrap_or(facts.to);
    Passage {
        hook: "from_pod",
        device: "wefta".into(),
        end: "redirect",
        known: "new flow",
        station: "",
        reason: "",
        source,
        destination: to,
        to_source: source,
        to_destination: to,
        service_id: 0,
        backend_id: 0,
        way,
    }
}

fn walked(passage: Passage, mtu_bytes: u32) -> Option<Answer> {
    let exit = (passage.end == "redirect").then(|| Exit { device: "weft".into(), mtu_bytes });
    Some(Answer { from: POD, passages: vec![passage], exit })
}

fn end(probe: &Probe) -> (Outcome, &str, &str, &str) {
    (probe.outcome, &probe.hook, &probe.station, &probe.reason)
}

const NO_BACKEND: &str = "service has no ready backend";

#[test]
fn the_socket_station_refuses_with_the_programs_reason() {
    let mut facts = facts("10.96.0.7:80");
    facts.asked.peer = None;
    facts.asked.reason = Some(NO_BACKEND.into());
    let probe = explain(&facts, &view());
    assert_eq!(end(&probe), (Outcome::Refused, "connect4", "socket", NO_BACKEND));
    assert_eq!(probe.service.map(|service| service.name).as_deref(), Some("web"));
    assert!(probe.steps[0].text.contains("service default/web"), "{:?}", probe.steps);
}

#[test]
fn a_drop_stands_at_its_station_after_those_it_passed() {
    for (end_word, outcome) in [("refused", Outcome::Refused), ("drop", Outcome::Dropped)] {
        let mut facts = facts("10.96.0.7:80");
        facts.socket_lb = false;
        let dropped =
            Passage { end: end_word, station: "balance", reason: NO_BACKEND, ..passes(&facts, Way::None) };
        facts.walked = walked(dropped, 0);
        let probe = explain(&facts, &view());
        assert_eq!(end(&probe), (outcome, "from_pod", "balance", NO_BACKEND));
        let stations: Vec<&str> = probe.steps.iter().map(|step| step.station.as_str()).collect();
        assert_eq!(stations, ["socket", "parse", "track", "balance"]);
    }
}

#[test]
fn a_way_through_a_service_to_another_node_is_told_as_far_as_it_is_known() {
    let mut facts = facts("10.96.0.7:80");
    facts.asked.peer = Some("10.244.2.7:8080".parse().expect("an address"));
    facts.backends = Some(3);
    facts.walked = walked(passes(&facts, Way::Tunnel("192.0.2.2".parse().expect("an address"))), 1_450);
    let probe = explain(&facts, &view());
    assert_eq!(probe.outcome, Outcome::Forwarded);
    let text = probe.to_string();
    assert!(text.contains("default/web -> default/far (10.244.2.7:8080, node-2), this time, of 3"), "{text}");
    assert!(text.contains("through the tunnel to node-2"), "{text}");
    assert!(text.contains("node-2 hands it to default/far"), "{text}");
    assert!(text.contains("agentctl --node node-2 map endpoints"), "{text}");
}

#[test]
fn a_neighbour_gets_the_packet_as_it_is() {
    let mut facts = facts("10.244.2.7:8080");
    facts.walked = walked(passes(&facts, Way::Native("192.0.2.2".parse().expect("an address"))), 1_500);
    let probe = explain(&facts, &view());
    assert_eq!(probe.outcome, Outcome::Forwarded);
    let text = probe.to_string();
    assert!(text.contains("as it is to node-2 (192.0.2.2), a neighbour on the uplink"), "{text}");
    assert!(text.contains("node-2 hands it to default/far"), "{text}");
}

#[test]
fn too_long_a_packet_ends_in_the_pod_or_at_its_exit() {
    let mut facts = facts("10.244.2.7:8080");
    facts.bytes = 1_451;
    let probe = explain(&facts, &view());
    assert_eq!(end(&probe), (Outcome::Refused, "pod", "socket", TOO_LARGE));
    facts.asked.mtu_bytes = 9_000;
    facts.walked = walked(passes(&facts, Way::Tunnel("192.0.2.2".parse().expect("an address"))), 1_450);
    let probe = explain(&facts, &view());
    assert_eq!(end(&probe), (Outcome::Dropped, "from_pod", "route", TOO_LARGE));
    facts.bytes = 1_450;
    assert_eq!(explain(&facts, &view()).outcome, Outcome::Forwarded);
}

#[test]
fn a_hairpin_is_named_on_both_paths() {
    const NAMED: &str = "hairpin: the sender is its own backend";
    let mut facts = facts("10.96.0.7:80");
    facts.asked.peer = Some(SocketAddr::new(POD, 8080));
    let probe = explain(&facts, &view());
    assert_eq!(end(&probe), (Outcome::Forwarded, "connect4", "socket", NAMED));
    facts.asked.peer = Some(facts.to);
    facts.socket_lb = false;
    let back = Passage {
        service_id: 3,
        to_source: "10.244.1.1:61000".parse().expect("an address"),
        to_destination: SocketAddr::new(POD, 8080),
        ..passes(&facts, Way::Pod)
    };
    facts.walked = walked(back, 1_450);
    let probe = explain(&facts, &view());
    assert_eq!(end(&probe), (Outcome::Forwarded, "from_pod", "translate", NAMED));
    assert!(probe.to_string().contains("source 10.244.1.5:40000 becomes 10.244.1.1:61000"), "{probe}");
}

#[test]
fn unknown_node_ports_end_in_the_nodes_own_stack() {
    let mut here = facts("192.0.2.1:30999");
    here.walked = walked(Passage { end: "next", ..passes(&here, Way::Host) }, 0);
    here.listening = Some(false);
    let probe = explain(&here, &view());
    assert_eq!(end(&probe), (Outcome::Refused, "from_pod", "balance", NO_SERVICE));
    here.listening = Some(true);
    assert_eq!(explain(&here, &view()).outcome, Outcome::Forwarded);

    let mut there = facts("192.0.2.2:30999");
    there.walked = walked(passes(&there, Way::Outside), 1_500);
    let probe = explain(&there, &view());
    assert_eq!(end(&probe), (Outcome::Refused, "from_uplink", "balance", NO_SERVICE));
    assert!(!probe.unknown.is_empty());
}

#[test]
fn the_policy_of_another_node_is_told_as_far_as_it_is_known() {
    let mut facts = facts("192.0.2.2:30080");
    facts.walked = walked(passes(&facts, Way::Outside), 1_500);
    let probe = explain(&facts, &view());
    assert_eq!(end(&probe), (Outcome::Dropped, "from_uplink", "balance", NO_LOCAL_BACKEND));
    assert!(probe.unknown[0].contains("--node node-2"), "{:?}", probe.unknown);
}

#[test]
fn what_lies_outside_is_not_pretended_to_be_known() {
    let mut facts = facts("198.51.100.9:443");
    facts.walked = walked(passes(&facts, Way::Outside), 1_500);
    let probe = explain(&facts, &view());
    assert_eq!(probe.outcome, Outcome::Forwarded);
    assert_eq!(probe.unknown, ["whether 198.51.100.9 answers"]);
    facts.asked = Asked { peer: None, error: Some("Network is unreachable".into()), ..facts.asked };
    let probe = explain(&facts, &view());
    assert_eq!((probe.outcome, probe.hook.as_str()), (Outcome::Refused, "pod"));
}
