//! Direct return: the node that an outside client asks hands its packets on as they came, and the backend's node answers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use weft_dataplane::desired::{Endpoint, Protocol, Service, ServiceName, ServicePort, ServiceType};
use weft_dataplane::live::{Flows, Tracked};
use weft_dataplane::{Config, RoutingMode};
use weft_dataplane_abi::route::{OVERLAY_DIRECT_MAC, OVERLAY_MAC};

use crate::bed::{Bed, CLIENT, CLIENT_6, six};
use crate::capture::Capture;
use crate::frame;
use crate::mtu::gets_mtu;
use crate::object;
use crate::process::{PORT, Process};
use crate::traffic::names;

const NODE_PORT: u16 = 30_080;
/// Addresses that are routed to the machine that is asked.
const GIVEN: &str = "198.51.100.7";
const GIVEN_6: &str = "2001:db8:50::7";
/// The machine that clients ask; it has no Pods.
const ENTRY: usize = 2;

/// What machines are to know of the Service `web`, without telling it.
fn web(bed: &mut Bed, pods: &[(usize, IpAddr)]) {
    let endpoints: Vec<Endpoint> = pods
        .iter()
        .flat_map(|(machine, ip)| [*ip, six(*ip)].map(|ip| (*machine, ip)))
        .map(|(machine, ip)| Endpoint::ready(ip, PORT, &bed.machines[machine].name))
        .collect();
    let port = |protocol: Protocol| ServicePort {
        name: format!("{protocol}").to_lowercase(),
        protocol,
        port: 80,
        node_port: NODE_PORT,
        endpoints: endpoints.clone(),
    };
    let address = |text: &str| text.parse().expect("an address");
    let service = Service {
        name: ServiceName::new("default", "web"),
        kind: ServiceType::LoadBalancer,
        cluster_ips: vec![address("10.96.0.10"), address("fd00:96::10")],
        external_ips: vec![address(GIVEN), address(GIVEN_6)],
        ports: vec![port(Protocol::Tcp), port(Protocol::Udp)],
        ..Service::default()
    };
    bed.desired.services.insert(service.name.clone(), service.into());
}

fn put(bed: &mut Bed, pods: &[(usize, IpAddr)]) {
    web(bed, pods);
    bed.tell();
}

/// Three machines, two Pods on the first and on the second, and the Service `web` before three of them.
pub(crate) fn furnished() -> Option<(Bed, Vec<IpAddr>)> {
    furnished_with(|config| config.direct_return = true)
}

/// The same, with these settings.
fn furnished_with(adjust: impl Fn(&mut Config)) -> Option<(Bed, Vec<IpAddr>)> {
    let mut bed = Bed::new(3, &object::path()?, adjust);
    let pods = vec![bed.pod(0, "a1"), bed.pod(0, "a2"), bed.pod(1, "b1"), bed.pod(1, "b2")];
    put(&mut bed, &[(0, pods[0]), (1, pods[2]), (1, pods[3])]);
    for address in [GIVEN, GIVEN_6] {
        bed.route_from_client(address, ENTRY);
    }
    Some((bed, pods))
}

/// Where a client may ask, and how the address begins that it has itself.
fn fronts(bed: &Bed) -> [(String, String); 4] {
    let (v4, v6) = (format!("{CLIENT}:"), format!("[{CLIENT_6}]:"));
    let machine = &bed.machines[ENTRY];
    [
        (format!("{}:{NODE_PORT}", machine.ip), v4.clone()),
        (format!("[{}]:{NODE_PORT}", machine.ip_6), v6.clone()),
        (format!("{GIVEN}:80"), v4),
        (format!("[{GIVEN_6}]:80"), v6),
    ]
}

fn node_port(bed: &Bed, machine: usize) -> String {
    format!("{}:{NODE_PORT}", bed.machines[machine].ip)
}

/// Holds a connection and has a UDP flow; who answers on each.
fn begun(process: &mut Process, to: &str) -> [String; 2] {
    assert_eq!(process.ask(&format!("hold {to}")), "held", "{to}");
    assert_eq!(process.ask(&format!("connect {to}")), "connected", "{to}");
    on(process)
}

fn on(process: &mut Process) -> [String; 2] {
    let answers = [process.ask("again"), process.ask("say")];
    assert!(answers.iter().all(|answer| !answer.starts_with("failed")), "{answers:?}");
    answers
}

/// A machine's flows of an outside client's port.
fn flows(bed: &Bed, machine: usize, port: u16) -> Vec<Tracked> {
    let maps = bed.machines[machine].dataplane.as_ref().expect("started").maps();
    let mut all = Vec::new();
    let wanted = |flow: &Tracked| flow.source.port() == port && flow.source.ip().to_string() == CLIENT;
    Flows::open(maps)
        .and_then(|flows| {
            flows.each(wanted, |flow| {
                all.push(flow);
                ControlFlow::Continue(())
            })
        })
        .expect("the flows");
    all
}

#[test]
fn backends_see_the_client_and_answer_it_past_the_machine_it_asked() {
    let Some((bed, _)) = furnished() else { return };
    answer_past_the_machine_asked(&bed, 1);
}

#[test]
fn so_do_those_of_machines_that_are_reached_natively() {
    let natively = |config: &mut Config| {
        (config.direct_return, config.routing_mode) = (true, RoutingMode::Native);
    };
    let Some((mut bed, pods)) = furnished_with(natively) else { return };
    // By a tunnel of IPv6, which nobody cuts, a client has to hear first how long its packets may be.
    answer_past_the_machine_asked(&bed, 3);
    // Pods speak natively with each other, and leave the room that what they are asked needs.
    gets_mtu(&bed, 0, "a1", 1_430);
    let captures: Vec<Capture> = bed.machines.iter().map(|machine| Capture::begin(&machine.netns)).collect();
    for to in [pods[2], six(pods[2])] {
        let to = std::net::SocketAddr::new(to, PORT).to_string();
        let answers = bed.pods.get_mut("a1").expect("a Pod").reach("tcp", &to, 3);
        assert_eq!(names(&answers), BTreeSet::from(["b1"]), "{to}");
    }
    assert!(captures.iter().all(|capture| capture.tunnelled() == (0, 0)));
}

/// What the Service's backends and its clients see; of IPv6 one of so many large datagrams arrives, of IPv4 the first.
fn answer_past_the_machine_asked(bed: &Bed, large_6: usize) {
    let mut client = bed.client();
    for (to, own) in fronts(bed) {
        for protocol in ["tcp", "udp"] {
            let answers = client.reach(protocol, &to, 40);
            assert_eq!(names(&answers), BTreeSet::from(["a1", "b1", "b2"]), "{protocol} {to}");
            assert!(answers.iter().all(|(_, peer)| peer.starts_with(&own)), "{answers:?}");
        }
        let tries = if to.starts_with('[') { large_6 } else { 1 };
        let mut large = (0..tries).map(|_| client.ask(&format!("large {to} 4000")));
        assert!(large.any(|answer| answer == "4000 bytes"), "{to}");
        assert_eq!(client.ask(&format!("fetch {to} 5000000")), "identical", "{to}");
    }
    // Nothing comes back out of the tunnel, and nothing is translated where the client asked.
    assert_eq!(bed.counter(ENTRY, "seen_from_overlay"), 0);
    assert_eq!(bed.counter(ENTRY, "packets_translated"), 0);
    let taken = bed.counter(0, "direct_taken") + bed.counter(1, "direct_taken");
    let sent = bed.counter(ENTRY, "direct_sent");
    assert!(sent >= 300 && taken >= 300, "{sent} sent, {taken} taken");
    assert_eq!(bed.counter(0, "direct_sent") + bed.counter(1, "direct_sent"), 0);
}

#[test]
fn machines_without_the_setting_take_what_others_send_on() {
    let Some((bed, _)) = furnished_with(|config| config.direct_return = config.node.name == "node-3") else {
        return;
    };
    let mut client = bed.client();
    let answers = client.reach("tcp", &node_port(&bed, ENTRY), 20);
    assert!(answers.iter().all(|(_, peer)| peer.starts_with(CLIENT)), "{answers:?}");
    let answers = client.reach("tcp", &node_port(&bed, 0), 40);
    for (name, peer) in answers {
        assert_eq!(peer.starts_with(CLIENT), name == "a1", "{name} saw {peer}");
    }
    assert_eq!(bed.counter(0, "direct_sent"), 0);
}

#[test]
fn processes_of_machines_are_answered_too() {
    let Some((bed, _)) = furnished() else { return };
    for machine in [0, 1] {
        let mut stranger = bed.process(machine, "stranger", true);
        for protocol in ["tcp", "udp"] {
            let answers = stranger.reach(protocol, &node_port(&bed, ENTRY), 20);
            let own = format!("{}:", bed.machines[machine].ip);
            assert!(answers.iter().all(|(_, peer)| peer.starts_with(&own)), "{protocol}: {answers:?}");
        }
    }
}

#[test]
fn a_pod_hears_of_a_smaller_mtu_on_its_answers_way() {
    let Some((mut bed, pods)) = furnished() else { return };
    put(&mut bed, &[(1, pods[2])]);
    let mut far = bed.client_behind(1_300);
    for (to, _) in fronts(&bed).into_iter().take(2) {
        let before = bed.counter(1, "errors_translated");
        // The router asks for neighbours only once its own addresses are known to be nobody else's.
        assert!((0..10).any(|_| !far.ask(&format!("tcp {to} 1")).starts_with("failed")), "{to}");
        assert_eq!(far.ask(&format!("fetch {to} 2000000")), "identical", "{to}");
        assert!(bed.counter(1, "errors_translated") > before, "{to}: nobody was told");
    }
    assert_eq!(bed.counter(ENTRY, "errors_translated"), 0, "errors go on as they came, too");
    assert_eq!(bed.counter(ENTRY, "seen_from_overlay"), 0);
}

#[test]
fn agents_restart_on_either_side_and_addresses_move_without_a_word() {
    let Some((mut bed, _)) = furnished() else { return };
    let mut clients: Vec<(Process, [String; 2])> = Vec::new();
    for (to, own) in fronts(&bed) {
        for _ in 0..2 {
            let mut client = bed.client();
            let answers = begun(&mut client, &to);
            assert!(answers.iter().all(|answer| answer.contains(&own)), "{answers:?}");
            clients.push((client, answers));
        }
    }
    let mut as_before = |when: &str| {
        for (client, answers) in &mut clients {
            assert_eq!(on(client), *answers, "{when}");
        }
    };
    for machine in [ENTRY, 1, 0] {
        bed.kill(machine);
        as_before("while there is no agent");
        bed.start(machine);
        as_before("before the agent has heard of anything");
        bed.tell_one(machine);
        as_before("after it has");
    }
    // By a machine that has backends, by another, and back: whoever is asked, the same backend answers.
    for machine in [0, 1, ENTRY] {
        for address in [GIVEN, GIVEN_6] {
            bed.route_from_client(address, machine);
        }
        as_before("by another machine");
    }
    let new = bed.client().reach("tcp", &node_port(&bed, ENTRY), 40);
    assert_eq!(names(&new), BTreeSet::from(["a1", "b1", "b2"]));
}

#[test]
fn both_machines_tell_the_truth_of_a_flow() {
    let Some((mut bed, pods)) = furnished() else { return };
    put(&mut bed, &[(1, pods[2])]);
    let mut client = bed.client();
    let answers = begun(&mut client, &node_port(&bed, ENTRY));
    let port = |answer: &str| -> u16 {
        answer.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port")
    };
    for (answer, state) in answers.iter().zip(["established", "answered"]) {
        let (at_entry, at_backend) = (flows(&bed, ENTRY, port(answer)), flows(&bed, 1, port(answer)));
        let [entry] = at_entry.as_slice() else { panic!("{at_entry:?}") };
        assert_eq!((entry.direct, entry.half, entry.state, entry.way), (true, false, "direct", "tunnel"));
        assert_eq!((entry.destination_replaced, entry.source_replaced), (false, false));
        assert_eq!((entry.to_destination.ip(), entry.answer_packets), (pods[2], 0));
        let [backend] = at_backend.as_slice() else { panic!("{at_backend:?}") };
        assert_eq!((backend.direct, backend.state, backend.way), (false, state, "pod"));
        assert_eq!((backend.to_destination.ip(), backend.source_replaced), (pods[2], false));
        assert!(backend.node_port && backend.answer_packets > 0, "{backend:?}");
    }
}

#[test]
fn where_tables_disagree_the_second_machine_translates_and_nothing_is_sent_on_twice() {
    let Some((mut bed, pods)) = furnished() else { return };
    let to = node_port(&bed, ENTRY);
    let mut client = bed.client();
    put(&mut bed, &[(1, pods[2])]);
    web(&mut bed, &[(0, pods[0])]);
    bed.tell_one(1);
    for protocol in ["tcp", "udp"] {
        let before = bed.counter(1, "direct_taken");
        let answers = client.reach(protocol, &to, 3);
        let overlay = "10.244.2.1:";
        assert!(answers.iter().all(|(name, peer)| name == "a1" && peer.starts_with(overlay)), "{answers:?}");
        assert!(bed.counter(1, "direct_taken") >= before + 3);
    }
    assert_eq!((bed.counter(0, "direct_taken"), bed.counter(1, "direct_sent")), (0, 0));
    assert_eq!(client.ask(&format!("fetch {to} 2000000")), "identical");

    // Nobody serves any more, as far as that machine knows: it says so to the client itself.
    web(&mut bed, &[]);
    bed.tell_one(1);
    for (to, _) in fronts(&bed) {
        let answer = client.ask(&format!("tcp {to} 1"));
        assert!(answer.starts_with("failed: ConnectionRefused"), "{to}: {answer}");
        assert_eq!(client.ask(&format!("connect {to}")), "connected");
        let answer = client.ask("say");
        assert!(answer.starts_with("failed: ConnectionRefused"), "{to}: {answer}");
    }
    assert_eq!(bed.counter(ENTRY, "seen_from_overlay"), 0);
}

#[test]
fn connections_stay_with_a_backend_that_terminates_and_end_with_its_pod() {
    let Some((mut bed, pods)) = furnished() else { return };
    put(&mut bed, &[(1, pods[2])]);
    let to = node_port(&bed, ENTRY);
    let mut client = bed.client();
    let answers = begun(&mut client, &to);
    assert!(answers.iter().all(|answer| answer.starts_with("b1=")), "{answers:?}");
    put(&mut bed, &[(0, pods[0]), (1, pods[2])]);
    for ip in [pods[2], six(pods[2])] {
        bed.endpoint("web", ip, |endpoint| (endpoint.ready, endpoint.terminating) = (false, true));
    }
    assert_eq!(client.ask("again"), answers[0], "it terminates");
    assert!(client.ask("say").starts_with("a1="), "datagrams go to one that does not");
    let new = bed.client().reach("tcp", &to, 10);
    assert_eq!(names(&new), BTreeSet::from(["a1"]));

    bed.desired.addresses.remove(&pods[2]);
    put(&mut bed, &[(0, pods[0])]);
    // The process goes on: it ends because each machine's agent takes its flows away, at its leisure.
    let mut asked = (0..500).map(|_| {
        std::thread::sleep(Duration::from_millis(20));
        client.ask("again")
    });
    let answer = asked.find(|answer| *answer != answers[0]).expect("an end");
    assert!(answer.starts_with("failed: ConnectionReset"), "{answer}");
    assert!(begun(&mut client, &to)[0].starts_with("a1="));
}

#[test]
fn affinity_and_the_policy_local_hold() {
    let Some((mut bed, _)) = furnished() else { return };
    let mut client = bed.client();
    let web = ServiceName::new("default", "web");
    Arc::make_mut(bed.desired.services.get_mut(&web).expect("a Service")).affinity_seconds = 600;
    bed.tell();
    let mut found = BTreeSet::new();
    for (to, _) in [fronts(&bed)[0].clone(), (node_port(&bed, 1), String::new())] {
        let answers = client.reach("tcp", &to, 20);
        found.extend(answers.into_iter().map(|(name, _)| name));
    }
    assert_eq!(found.len(), 1, "one backend for a client, whichever machine it asks: {found:?}");

    let sent = bed.counter(1, "direct_sent") + bed.counter(ENTRY, "direct_sent");
    bed.external_local("web");
    assert!(client.ask(&format!("udp {} 1", node_port(&bed, ENTRY))).starts_with("failed"));
    let answers = client.reach("tcp", &node_port(&bed, 1), 10);
    assert!(
        answers.iter().all(|(name, peer)| name.starts_with('b') && peer.starts_with(CLIENT)),
        "{answers:?}"
    );
    assert_eq!(bed.counter(1, "direct_sent") + bed.counter(ENTRY, "direct_sent"), sent);
}

/// A frame as a machine sends it on, in what the tunnel puts around it.
fn tunnelled(mut frame: Vec<u8>) -> String {
    frame[..6].copy_from_slice(&OVERLAY_MAC);
    frame[6..12].copy_from_slice(&OVERLAY_DIRECT_MAC);
    let vxlan = [8, 0, 0, 0, 0, 0, 1, 0];
    vxlan.iter().chain(&frame).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn only_machines_may_send_on_and_only_what_came_to_them() {
    let Some((mut bed, pods)) = furnished() else { return };
    let v4 = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => panic!("{ip} is one of IPv6"),
    };
    let client_ip = CLIENT.parse().expect("an address");
    let (entry, other) = (v4(bed.machines[ENTRY].ip), v4(bed.machines[0].ip));
    let datagram = |port, to, to_port| tunnelled(frame::udp((client_ip, port, to, to_port)));
    let at = format!("{}:4789", bed.machines[1].ip);
    let (mut machine, mut client) = (bed.process(ENTRY, "machine", true), bed.client());
    let counts =
        |bed: &Bed| ["direct_taken", "dropped_from_overlay", "direct_sent"].map(|name| bed.counter(1, name));
    // Whoever waits for a datagram to have been walked.
    let settled = |bed: &Bed, before: [u64; 3]| {
        for _ in 0..200 {
            if counts(bed) != before {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let after = counts(bed);
        [0, 1, 2].map(|number| after[number] - before[number])
    };
    for (what, machine_sends, blob, counted) in [
        ("to its own node port", true, datagram(4_001, entry, NODE_PORT), [1, 0, 0]),
        ("to a given address", true, datagram(4_002, GIVEN.parse().expect("an address"), 80), [1, 0, 0]),
        ("to another's node port", true, datagram(4_003, other, NODE_PORT), [0, 1, 0]),
        ("to no Service", true, datagram(4_004, entry, NODE_PORT + 1), [0, 1, 0]),
        ("to a cluster address", true, datagram(4_005, "10.96.0.10".parse().expect("one"), 80), [0, 1, 0]),
        ("by the client itself", false, datagram(4_006, entry, NODE_PORT), [0, 1, 0]),
    ] {
        let before = counts(&bed);
        let sender = if machine_sends { &mut machine } else { &mut client };
        assert_eq!(sender.ask(&format!("blob {at} {blob}")), "sent");
        assert_eq!(settled(&bed, before), counted, "{what}");
    }

    // A flow that this machine itself has sent on, by an address that has moved since: sent to it, it is not sent back.
    put(&mut bed, &[(0, pods[0])]);
    bed.route_from_client(GIVEN, 1);
    assert!(client.ask(&format!("each {GIVEN}:80 4099 1")).starts_with("a1="));
    assert!(flows(&bed, 1, 4_100)[0].direct);
    let before = counts(&bed);
    let blob = datagram(4_100, GIVEN.parse().expect("an address"), 80);
    assert_eq!(machine.ask(&format!("blob {at} {blob}")), "sent");
    assert_eq!(settled(&bed, before), [1, 0, 0]);
    let again = flows(&bed, 1, 4_100);
    assert!(!again[0].direct && again[0].source_replaced, "{again:?}");
}
