//! The paths that are seldom walked: node ports from within, backends in a host's own network, large datagrams, sockets that
//! outlive their backends.

use std::collections::BTreeSet;

use crate::bed::Bed;
use crate::traffic::{furnished, names};

#[test]
fn pods_reach_node_ports_of_every_machine() {
    let Some((mut bed, _)) = furnished() else { return };
    let addresses: Vec<String> = bed.machines.iter().map(|machine| format!("{}:30080", machine.ip)).collect();
    for socket_lb in [true, false] {
        bed.socket_lb(socket_lb);
        for to in &addresses {
            for protocol in ["tcp", "udp"] {
                let answers = bed.pods.get_mut("a2").expect("a Pod").reach(protocol, to, 40);
                let all = BTreeSet::from(["a1", "b1", "b2"]);
                assert_eq!(names(&answers), all, "{protocol} to {to}, socket_lb {socket_lb}");
            }
        }
    }
}

#[test]
fn backends_in_a_hosts_own_network_serve_everybody() {
    let Some((mut bed, _)) = furnished() else { return };
    let _host = bed.process(1, "host", false);
    let address = bed.machines[1].ip;
    bed.service("host", "10.96.0.40", 30_090, &[(1, address)]);
    let node_ports: Vec<String> =
        bed.machines.iter().map(|machine| format!("{}:30090", machine.ip)).collect();
    for protocol in ["tcp", "udp"] {
        for socket_lb in [true, false] {
            bed.socket_lb(socket_lb);
            for pod in ["a1", "b1"] {
                let pod = bed.pods.get_mut(pod).expect("a Pod");
                assert_eq!(names(&pod.reach(protocol, "10.96.0.40:80", 3)), BTreeSet::from(["host"]));
                for to in &node_ports {
                    assert_eq!(names(&pod.reach(protocol, to, 3)), BTreeSet::from(["host"]), "{to}");
                }
            }
        }
        let mut client = bed.client();
        for to in &node_ports {
            assert_eq!(names(&client.reach(protocol, to, 3)), BTreeSet::from(["host"]), "{to} from outside");
        }
        drop(client);
        // Another machine's stranger goes by the VXLAN device and leaves as its machine.
        let mut stranger = bed.process(0, "stranger", true);
        assert_eq!(names(&stranger.reach(protocol, "10.96.0.40:80", 3)), BTreeSet::from(["host"]));
    }
}

#[test]
fn datagrams_larger_than_the_mtu_arrive_on_every_path() {
    let Some((mut bed, pods)) = furnished() else { return };
    bed.service("here", "10.96.0.50", 30_100, &[(0, pods[0])]);
    bed.service("there", "10.96.0.51", 30_101, &[(1, pods[2])]);
    for socket_lb in [true, false] {
        bed.socket_lb(socket_lb);
        let pod = bed.pods.get_mut("a2").expect("a Pod");
        for to in [format!("{}:8080", pods[2]), "10.96.0.50:80".to_owned(), "10.96.0.51:80".to_owned()] {
            let answer = pod.ask(&format!("large {to} 4000"));
            assert_eq!(answer, "4000 bytes", "{to}, socket_lb {socket_lb}");
        }
    }
    let mut client = bed.client();
    for port in [30_100, 30_101] {
        let to = format!("{}:{port}", bed.machines[0].ip);
        assert_eq!(client.ask(&format!("large {to} 4000")), "4000 bytes", "{to} from outside");
    }
}

#[test]
fn a_socket_that_is_kept_follows_the_service_to_its_next_backend() {
    let Some((mut bed, pods)) = furnished() else { return };
    let (first, second) = ([(0, pods[0])], [(1, pods[2])]);
    for socket_lb in [true, false] {
        bed.socket_lb(socket_lb);
        bed.service("one", "10.96.0.30", 0, &first);
        assert_eq!(bed.pods.get_mut("a2").expect("a Pod").ask("bind"), "bound");
        for (endpoints, name) in [(&first, "a1"), (&second, "b1"), (&first, "a1")] {
            bed.service("one", "10.96.0.30", 0, endpoints);
            let answer = bed.pods.get_mut("a2").expect("a Pod").ask("send 10.96.0.30:80");
            assert!(answer.starts_with(&format!("{name}=")), "{answer}, socket_lb {socket_lb}");
        }
    }
}

#[test]
fn a_backend_that_stays_behind_another_service_leaves_the_first() {
    let Some((mut bed, pods)) = furnished() else { return };
    for socket_lb in [true, false] {
        bed.socket_lb(socket_lb);
        for name in ["one", "two"] {
            let address = if name == "one" { "10.96.0.60" } else { "10.96.0.61" };
            bed.service(name, address, 0, &[(0, pods[0])]);
        }
        assert_eq!(bed.pods.get_mut("a2").expect("a Pod").ask("bind"), "bound");
        let said =
            |bed: &mut Bed, to: &str| bed.pods.get_mut("a2").expect("a Pod").ask(&format!("send {to}"));
        assert!(said(&mut bed, "10.96.0.60:80").starts_with("a1="));
        bed.service("one", "10.96.0.60", 0, &[(1, pods[3])]);
        let answer = said(&mut bed, "10.96.0.60:80");
        assert!(answer.starts_with("b2="), "{answer}, socket_lb {socket_lb}");
    }
}

#[test]
fn a_local_policy_is_for_the_outside() {
    let Some((mut bed, _)) = furnished() else { return };
    bed.external_local("web");
    let addresses: Vec<String> = bed.machines.iter().map(|machine| format!("{}:30080", machine.ip)).collect();
    for socket_lb in [true, false] {
        bed.socket_lb(socket_lb);
        for protocol in ["tcp", "udp"] {
            let pod = bed.pods.get_mut("a2").expect("a Pod");
            let answers = pod.reach(protocol, &addresses[0], 60);
            assert_eq!(
                names(&answers),
                BTreeSet::from(["a1", "b1", "b2"]),
                "its own node, {protocol}, {socket_lb}"
            );
            let answers = pod.reach(protocol, &addresses[1], 40);
            assert_eq!(
                names(&answers),
                BTreeSet::from(["b1", "b2"]),
                "another node, {protocol}, {socket_lb}"
            );
        }
    }
    let mut client = bed.client();
    let answers = client.reach("tcp", &addresses[0], 20);
    assert_eq!(names(&answers), BTreeSet::from(["a1"]));
    assert!(answers.iter().all(|(_, peer)| peer.starts_with(crate::bed::CLIENT)), "the client's own address");
    let answer = client.ask(&format!("tcp {} 1", addresses[2]));
    assert!(answer.starts_with("failed: TimedOut"), "nobody is there: {answer}");
}
