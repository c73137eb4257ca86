//! TCP connections whose backend goes: they stay with one that terminates, and end at once with one that is gone.

use std::time::{Duration, Instant};

use crate::bed::Bed;
use crate::process::Process;
use crate::traffic::furnished;

/// How long a process may wait for the end of its connection.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The same when the backend's node must be asked first.
const ASKED: Duration = Duration::from_secs(5);

/// Holds a connection and gives the answer it had.
fn hold(process: &mut Process, to: &str) -> String {
    assert_eq!(process.ask(&format!("hold {to}")), "held", "{to}");
    process.ask("again")
}

/// Waits for the end of a connection on which nothing is asked.
fn aborted(process: &mut Process, within: Duration) {
    let began = Instant::now();
    let answer = process.ask("hear");
    assert!(answer.starts_with("failed: ConnectionAborted"), "{answer}");
    assert!(began.elapsed() < within, "after {:?}", began.elapsed());
}

/// A process that no socket hook sees, or one that is balanced at connect.
fn node(bed: &Bed, socket_lb: bool) -> Process {
    bed.process(0, if socket_lb { "node" } else { "stranger" }, !socket_lb)
}

#[test]
fn connections_stay_with_a_backend_that_terminates_and_end_with_its_pod() {
    for socket_lb in [true, false] {
        let Some((mut bed, pods)) = furnished() else { return };
        bed.socket_lb(socket_lb);
        bed.service("one", "10.96.0.30", 30_130, &[(1, pods[2])]);
        let outside = format!("{}:30130", bed.machines[0].ip);
        let (mut node, mut client) = (node(&bed, socket_lb), bed.client());
        let mut pod = bed.pods.remove("a2").expect("a Pod");
        let mut direct = bed.process(0, "direct", false);
        let mut held: Vec<(&mut Process, String)> = Vec::new();
        for (process, to) in [
            (&mut node, "10.96.0.30:80"),
            (&mut pod, "10.96.0.30:80"),
            (&mut client, outside.as_str()),
            (&mut direct, &format!("{}:8080", pods[2])),
        ] {
            let answer = hold(process, to);
            assert!(answer.starts_with("b1="), "{answer}");
            held.push((process, answer));
        }

        bed.service("one", "10.96.0.30", 30_130, &[(1, pods[2]), (1, pods[3])]);
        bed.endpoint("one", pods[2], |endpoint| (endpoint.ready, endpoint.terminating) = (false, true));
        std::thread::sleep(AT_ONCE);
        for (process, answer) in &mut held {
            assert_eq!(process.ask("again"), *answer, "it terminates, socket_lb {socket_lb}");
        }
        let names = held[1].0.reach("tcp", "10.96.0.30:80", 10);
        assert!(names.iter().all(|(name, _)| name == "b2"), "new ones go to the one that stays: {names:?}");

        // The process goes on: it is not what ends the connections.
        bed.desired.addresses.remove(&pods[2]);
        bed.service("one", "10.96.0.30", 30_130, &[(1, pods[3])]);
        aborted(&mut node, AT_ONCE);
        aborted(&mut pod, AT_ONCE);
        aborted(&mut direct, AT_ONCE);
        let answer = client.ask("again");
        assert!(answer.starts_with("failed: ConnectionReset"), "{answer}");
        assert!(hold(&mut client, &outside).starts_with("b2="));
        bed.pods.insert("a2".to_owned(), pod);
    }
}

#[test]
fn connections_end_when_the_node_of_a_withdrawn_backend_is_dead_and_not_when_it_lives() {
    for socket_lb in [true, false] {
        let Some((mut bed, pods)) = furnished() else { return };
        bed.socket_lb(socket_lb);
        bed.service("one", "10.96.0.30", 30_130, &[(1, pods[2])]);
        let mut node = node(&bed, socket_lb);
        let mut pod = bed.pods.remove("a2").expect("a Pod");
        let withdrawn = |bed: &mut Bed, is: bool| {
            bed.endpoint("one", pods[2], |endpoint| {
                (endpoint.ready, endpoint.serving) = (!is, !is);
            });
        };
        let answers = [hold(&mut node, "10.96.0.30:80"), hold(&mut pod, "10.96.0.30:80")];
        withdrawn(&mut bed, true);
        assert!(pod.ask("tcp 10.96.0.30:80 1").starts_with("failed: ConnectionRefused"));
        std::thread::sleep(ASKED);
        assert_eq!([node.ask("again"), pod.ask("again")], answers, "it is not ready, socket_lb {socket_lb}");

        withdrawn(&mut bed, false);
        assert_eq!([node.ask("again"), pod.ask("again")], answers);
        bed.cut(1);
        withdrawn(&mut bed, true);
        aborted(&mut node, ASKED);
        aborted(&mut pod, AT_ONCE);
        bed.pods.insert("a2".to_owned(), pod);
    }
}
