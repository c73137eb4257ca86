//! Traffic through the real kernel: machines are network namespaces, Pods too, and every packet goes by the programs.

use std::collections::BTreeSet;

use weft_dataplane::Config;

use crate::bed::{Bed, CLIENT};
use crate::object;

pub(crate) fn names(answers: &[(String, String)]) -> BTreeSet<&str> {
    answers.iter().map(|(name, _)| name.as_str()).collect()
}

/// Two machines, two Pods on each, and the Service `web` before three of them.
pub(crate) fn furnished() -> Option<(Bed, Vec<std::net::IpAddr>)> {
    furnished_with(|_| {})
}

/// The same with other settings.
pub(crate) fn furnished_with(adjust: impl Fn(&mut Config)) -> Option<(Bed, Vec<std::net::IpAddr>)> {
    let mut bed = Bed::new(3, &object::path()?, adjust);
    let pods = vec![bed.pod(0, "a1"), bed.pod(0, "a2"), bed.pod(1, "b1"), bed.pod(1, "b2")];
    bed.service("web", "10.96.0.10", 30_080, &[(0, pods[0]), (1, pods[2]), (1, pods[3])]);
    Some((bed, pods))
}

#[test]
fn pods_reach_pods_here_and_there_with_their_own_addresses() {
    let Some((mut bed, pods)) = furnished() else { return };
    let own = pods[0].to_string();
    for (name, to) in [("a2", pods[1]), ("b1", pods[2])] {
        for protocol in ["tcp", "udp"] {
            let answers = bed.pods.get_mut("a1").expect("a Pod").reach(protocol, &format!("{to}:8080"), 3);
            assert_eq!(names(&answers), BTreeSet::from([name]), "{protocol}");
            assert!(answers.iter().all(|(_, peer)| peer.starts_with(&format!("{own}:"))), "{answers:?}");
        }
    }
    let fetched = bed.pods.get_mut("a1").expect("a Pod").ask(&format!("fetch {}:8080 20000000", pods[2]));
    assert_eq!(fetched, "identical");
}

#[test]
fn a_cluster_address_reaches_every_backend_on_both_paths() {
    let Some((mut bed, _)) = furnished() else { return };
    for socket_lb in [true, false] {
        bed.socket_lb(socket_lb);
        let counter = if socket_lb { "balanced_socket" } else { "balanced_packet" };
        let before = bed.counter(0, counter);
        for protocol in ["tcp", "udp"] {
            let answers = bed.pods.get_mut("a2").expect("a Pod").reach(protocol, "10.96.0.10:80", 60);
            assert_eq!(
                names(&answers),
                BTreeSet::from(["a1", "b1", "b2"]),
                "{protocol}, socket_lb {socket_lb}"
            );
            // A backend that asks its own Service gets itself, too.
            let answers = bed.pods.get_mut("a1").expect("a Pod").reach(protocol, "10.96.0.10:80", 60);
            assert_eq!(
                names(&answers),
                BTreeSet::from(["a1", "b1", "b2"]),
                "{protocol}, socket_lb {socket_lb}"
            );
        }
        // A source port drawn twice is a flow known already: of 240 there may be a few.
        let balanced = bed.counter(0, counter) - before;
        assert!(balanced >= 230, "{counter}: {balanced}");
    }
}

#[test]
fn processes_of_a_machine_reach_services_and_pods() {
    let Some((bed, pods)) = furnished() else { return };
    let mut process = bed.process(2, "node", false);
    for to in [pods[0], pods[2]] {
        process.reach("tcp", &format!("{to}:8080"), 3);
        process.reach("udp", &format!("{to}:8080"), 3);
    }
    for protocol in ["tcp", "udp"] {
        let answers = process.reach(protocol, "10.96.0.10:80", 60);
        assert_eq!(names(&answers), BTreeSet::from(["a1", "b1", "b2"]), "{protocol}");
        let own = bed.machines[2].ip;
        let answers = process.reach(protocol, &format!("{own}:30080"), 60);
        assert_eq!(names(&answers), BTreeSet::from(["a1", "b1", "b2"]), "{protocol} by the node port");
    }
    bed.socket_lb(false);
    drop(process);
    let mut stranger = bed.process(0, "stranger", true);
    for protocol in ["tcp", "udp"] {
        let answers = stranger.reach(protocol, "10.96.0.10:80", 60);
        assert_eq!(names(&answers), BTreeSet::from(["a1", "b1", "b2"]), "{protocol} without a socket hook");
    }
}

#[test]
fn the_node_meets_its_pods_as_itself_others_as_its_overlay_address_and_answers_addresses_of_its_own() {
    let Some(object) = object::path() else { return };
    let dns: std::net::IpAddr = "10.96.0.53".parse().expect("an address");
    let mut bed = Bed::new(2, &object, |config| config.answered_here = vec![dns]);
    let pods = [bed.pod(0, "a1"), bed.pod(1, "b1")];
    let mut process = bed.process(0, "node", false);
    for (to, source) in [(pods[0], bed.machines[0].ip.to_string()), (pods[1], "10.244.1.1".to_owned())] {
        for protocol in ["tcp", "udp"] {
            let answers = process.reach(protocol, &format!("{to}:8080"), 3);
            assert!(answers.iter().all(|(_, peer)| peer.starts_with(&format!("{source}:"))), "{answers:?}");
        }
    }
    for socket_lb in [true, false] {
        bed.socket_lb(socket_lb);
        let answers = bed.pods.get_mut("a1").expect("a Pod").reach("tcp", &format!("{dns}:8080"), 3);
        assert_eq!(names(&answers), BTreeSet::from(["node"]));
    }
}

#[test]
fn a_node_port_answers_on_every_machine() {
    let Some((bed, _)) = furnished() else { return };
    let mut client = bed.client();
    for (number, machine) in bed.machines.iter().enumerate() {
        let before = bed.counter(number, "balanced_node_port");
        for protocol in ["tcp", "udp"] {
            let answers = client.reach(protocol, &format!("{}:30080", machine.ip), 60);
            assert_eq!(names(&answers), BTreeSet::from(["a1", "b1", "b2"]), "{protocol} on {}", machine.name);
        }
        assert!(bed.counter(number, "balanced_node_port") >= before + 110, "{}", machine.name);
    }
}

#[test]
fn machines_agree_on_who_answers_a_client() {
    let Some((bed, _)) = furnished() else { return };
    let mut client = bed.client();
    let mut chosen = bed.machines.iter().map(|machine| {
        let said = client.ask(&format!("each {}:30080 20000 60", machine.ip));
        let name = |answer: &str| {
            answer.split_once('=').map(|(name, _)| name.to_owned()).unwrap_or_else(|| panic!("{said}"))
        };
        said.split(' ').map(name).collect::<Vec<_>>()
    });
    let first = chosen.next().expect("a machine");
    assert_eq!(first.iter().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(["a1", "b1", "b2"]));
    assert!(chosen.all(|other| other == first), "by the same ports, whichever machine was asked");
}

#[test]
fn pods_reach_the_outside_as_their_machine() {
    let Some((mut bed, _)) = furnished() else { return };
    let _client = bed.client();
    let machine = bed.machines[0].ip.to_string();
    for protocol in ["tcp", "udp"] {
        let answers = bed.pods.get_mut("a1").expect("a Pod").reach(protocol, &format!("{CLIENT}:8080"), 5);
        assert_eq!(names(&answers), BTreeSet::from(["client"]));
        assert!(answers.iter().all(|(_, peer)| peer.starts_with(&format!("{machine}:"))), "{answers:?}");
    }
}

#[test]
fn a_restart_of_the_agent_breaks_no_connection() {
    for socket_lb in [true, false] {
        let Some((mut bed, _)) = furnished() else { return };
        bed.socket_lb(socket_lb);
        let node_port = format!("{}:30080", bed.machines[0].ip);
        let mut client = bed.client();
        assert_eq!(client.ask(&format!("hold {node_port}")), "held");
        let outside = client.ask("again");
        let pod = bed.pods.get_mut("a2").expect("a Pod");
        assert_eq!(pod.ask("hold 10.96.0.10:80"), "held");
        let inside = pod.ask("again");
        assert_eq!(pod.ask("peer"), "10.96.0.10:80", "the process sees the address it asked for");

        bed.kill(0);
        let pod = bed.pods.get_mut("a2").expect("a Pod");
        assert_eq!(pod.ask("again"), inside, "while there is no agent");
        assert_eq!(
            names(&pod.reach("tcp", "10.96.0.10:80", 60)).len(),
            3,
            "new ones while there is no agent"
        );
        bed.machines[0].config.socket_lb = socket_lb;
        bed.start(0);
        let pod = bed.pods.get_mut("a2").expect("a Pod");
        assert_eq!(pod.ask("again"), inside, "before the control plane was heard");
        assert_eq!(client.ask("again"), outside);
        bed.tell_one(0);
        let pod = bed.pods.get_mut("a2").expect("a Pod");
        assert_eq!(pod.ask("again"), inside);
        assert_eq!(client.ask("again"), outside);
        assert_eq!(names(&pod.reach("tcp", "10.96.0.10:80", 60)).len(), 3);

        let dataplane = bed.machines[0].dataplane.clone().expect("started");
        let status = bed.ask(dataplane.status()).expect("a status");
        assert!(status.hooks.values().all(|done| done == "replaced"), "{:?}", status.hooks);
        assert_eq!(bed.ask(dataplane.known_pods()).expect("Pods").len(), 2);
        assert!(bed.ask(dataplane.apply(Vec::new())).is_ok());
    }
}

#[test]
fn events_tell_flows_with_service_and_backend() {
    let Some((mut bed, pods)) = furnished() else { return };
    let dataplane = bed.machines[0].dataplane.clone().expect("started");
    for socket_lb in [true, false] {
        bed.socket_lb(socket_lb);
        let mut events = bed.ask(async { dataplane.events() }).expect("events");
        bed.pods.get_mut("a2").expect("a Pod").reach("tcp", "10.96.0.10:80", 1);
        let found = bed.ask(async {
            let wait = async {
                loop {
                    let event = events.next().await.expect("an event");
                    if event.service == Some("10.96.0.10:80".parse().expect("an address"))
                        && event.at_connect == socket_lb
                        && event.source.ip() == pods[1]
                    {
                        return event;
                    }
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(30), wait).await
        });
        let event = found.expect("an event of the flow");
        assert!(event.forwarded && event.backend.is_some(), "{event:?}");
    }
}

#[test]
fn a_service_without_backends_refuses_at_once() {
    let Some((mut bed, _)) = furnished() else { return };
    bed.service("empty", "10.96.0.20", 30_081, &[]);
    let node_port = format!("{}:30081", bed.machines[0].ip);
    let refused = |answer: &str| answer.starts_with("failed: ConnectionRefused");
    for socket_lb in [true, false] {
        bed.socket_lb(socket_lb);
        let pod = bed.pods.get_mut("a2").expect("a Pod");
        let answer = pod.ask("tcp 10.96.0.20:80 1");
        assert!(refused(&answer), "{answer}, socket_lb {socket_lb}");
        let answer = if socket_lb {
            pod.ask("connect 10.96.0.20:80")
        } else {
            pod.ask("connect 10.96.0.20:80") + &pod.ask("say")
        };
        assert!(answer.contains("failed: ConnectionRefused"), "{answer}, socket_lb {socket_lb}");
    }
    let mut client = bed.client();
    let answer = client.ask(&format!("tcp {node_port} 1"));
    assert!(refused(&answer), "{answer}");
    assert_eq!(client.ask(&format!("connect {node_port}")), "connected");
    let answer = client.ask("say");
    assert!(refused(&answer), "{answer}");
    let mut stranger = bed.process(1, "stranger", true);
    let answer = stranger.ask("tcp 10.96.0.20:80 1");
    assert!(refused(&answer), "{answer}");
    assert_eq!(stranger.ask("connect 10.96.0.20:80"), "connected");
    let answer = stranger.ask("say");
    assert!(refused(&answer), "{answer}");
}

#[test]
fn a_connected_udp_socket_does_not_outlive_its_backend() {
    let Some((mut bed, pods)) = furnished() else { return };
    bed.service("one", "10.96.0.30", 0, &[(0, pods[0])]);
    for process in [true, false] {
        let mut node = bed.process(0, "node", false);
        let client = if process { &mut node } else { bed.pods.get_mut("a2").expect("a Pod") };
        assert_eq!(client.ask("connect 10.96.0.30:80"), "connected");
        assert!(client.ask("say").starts_with("a1="));
        bed.service("one", "10.96.0.30", 0, &[(1, pods[2])]);
        let client = if process { &mut node } else { bed.pods.get_mut("a2").expect("a Pod") };
        // Not a silence, but an error.
        let answer = client.ask("wait");
        assert!(answer.starts_with("failed: ConnectionAborted"), "{answer}");
        assert_eq!(client.ask("connect 10.96.0.30:80"), "connected");
        assert!(client.ask("say").starts_with("b1="));
        bed.service("one", "10.96.0.30", 0, &[(0, pods[0])]);
    }
}
