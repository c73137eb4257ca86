//! Ports of a machine that lead to a Pod: from outside, from Pods here and elsewhere, from the machine itself; across a restart,
//! and when two want the same.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weft_dataplane::HostPort;
use weft_dataplane::desired::Protocol;

use crate::bed::Bed;
use crate::object;
use crate::process::PORT;
use crate::traffic::names;

/// Outside of the node ports, within them, and within the ports of translated flows.
const PORTS: [u16; 3] = [9_080, 30_500, 61_234];

fn ports(ip: Option<IpAddr>) -> Vec<HostPort> {
    let both =
        |port| [Protocol::Tcp, Protocol::Udp].map(|protocol| HostPort { protocol, ip, port, to: PORT });
    PORTS.into_iter().flat_map(both).collect()
}

/// The first machine's Pod `h1` has ports of it; `a1` and `b1` are neighbours here and there.
fn furnished(ip: impl Fn(&Bed) -> Option<IpAddr>) -> Option<(Bed, IpAddr)> {
    let mut bed = Bed::new(2, &object::path()?, |_| {});
    bed.pod(0, "a1");
    bed.pod(1, "b1");
    let at = ip(&bed);
    let pod = bed.pod_with(0, "h1", ports(at));
    bed.tell();
    Some((bed, pod))
}

#[test]
fn everybody_reaches_a_pod_by_a_port_of_its_machine() {
    let Some((mut bed, _)) = furnished(|_| None) else { return };
    let machine = bed.machines[0].ip;
    let only = BTreeSet::from(["h1"]);
    for protocol in ["tcp", "udp"] {
        let mut client = bed.client();
        for port in PORTS {
            let to = format!("{machine}:{port}");
            let answers = client.reach(protocol, &to, 3);
            assert_eq!(names(&answers), only, "{protocol} from outside");
            assert!(answers.iter().all(|(_, peer)| peer.starts_with("172.31.77.")), "{answers:?}");
            for socket_lb in [true, false] {
                bed.socket_lb(socket_lb);
                for pod in ["a1", "b1", "h1"] {
                    let answers = bed.pods.get_mut(pod).expect("a Pod").reach(protocol, &to, 3);
                    assert_eq!(names(&answers), only, "{protocol} {to} from {pod}, socket_lb {socket_lb}");
                }
            }
        }
        drop(client);
        bed.socket_lb(true);
        let mut process = bed.process(0, "node", false);
        for to in [format!("{machine}:9080"), "127.0.0.1:9080".to_owned()] {
            assert_eq!(names(&process.reach(protocol, &to, 3)), only, "{protocol} to {to} from the machine");
        }
        drop(process);
        let mut other = bed.process(1, "other", false);
        assert_eq!(names(&other.reach(protocol, &format!("{machine}:9080"), 3)), only);
        let answer = other.ask(&format!("{protocol} 127.0.0.1:9080 1"));
        assert!(answer.starts_with("failed"), "another machine has no such port: {answer}");
        let answer = bed.pods.get_mut("a1").expect("a Pod").ask(&format!("{protocol} 127.0.0.1:9080 1"));
        assert!(answer.starts_with("failed"), "a Pod's loopback is its own: {answer}");
    }
}

#[test]
fn a_port_at_one_address_is_at_no_other() {
    let Some((mut bed, _)) = furnished(|bed| Some(bed.machines[0].ip)) else { return };
    let machine = bed.machines[0].ip;
    let answers = bed.client().reach("tcp", &format!("{machine}:9080"), 3);
    assert_eq!(names(&answers), BTreeSet::from(["h1"]));
    let mut process = bed.process(0, "node", false);
    let answer = process.ask("tcp 127.0.0.1:9080 1");
    assert!(answer.starts_with("failed"), "{answer}");
    drop(process);
    bed.pods.get_mut("b1").expect("a Pod").reach("udp", &format!("{machine}:9080"), 3);
}

#[test]
fn host_ports_stay_across_a_restart_and_go_with_their_pod() {
    let Some((mut bed, pod)) = furnished(|_| None) else { return };
    let to = format!("{}:9080", bed.machines[0].ip);
    // Bound by another, too, which waits for its turn.
    bed.pod_with(0, "h2", ports(None));
    let mut client = bed.client();
    assert_eq!(names(&client.reach("tcp", &to, 3)), BTreeSet::from(["h1"]), "{pod} came first");
    bed.kill(0);
    assert_eq!(names(&client.reach("tcp", &to, 3)), BTreeSet::from(["h1"]), "with no agent");
    bed.start(0);
    assert_eq!(names(&client.reach("tcp", &to, 3)), BTreeSet::from(["h1"]), "before the view has come");
    let dataplane = bed.machines[0].dataplane.clone().expect("started");
    bed.ask(dataplane.remove_pod("uid-h1")).expect("removed");
    assert_eq!(names(&client.reach("tcp", &to, 3)), BTreeSet::from(["h2"]), "the port was given up");
    bed.ask(dataplane.remove_pod("uid-h2")).expect("removed");
    let answer = client.ask(&format!("tcp {to} 1"));
    assert!(answer.starts_with("failed: ConnectionRefused"), "the machine's own again: {answer}");
    assert_eq!(client.ask(&format!("connect {to}")), "connected");
    let answer = client.ask("say");
    assert!(answer.starts_with("failed: ConnectionRefused"), "the machine's own again: {answer}");
}
