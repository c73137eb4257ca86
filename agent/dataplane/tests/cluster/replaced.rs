//! A Service whose only backend is replaced again and again: nobody who speaks UDP to it stays with the one before.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::bed::Bed;
use crate::process::Process;
use crate::traffic::furnished;

/// How often the backend is replaced.
const TIMES: usize = 20;
/// How long anybody may be without an answer of the backend that is there.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// Between replacements: some clients have just asked then, some wait.
const REST: Duration = Duration::from_millis(170);

/// Begins a client with a connected socket and one without in a process, each with a source port of its own.
fn begin(process: &mut Process, to: &str) {
    for (how, port) in [("connected", 9_001), ("unconnected", 9_002)] {
        assert_eq!(process.ask(&format!("chat {how} {port} {to}")), "begun");
    }
}

/// Who answered each client of a process last, how long it was without an answer, and how many it had.
fn heard(process: &mut Process) -> Vec<(String, Duration, u32)> {
    let all = process.ask("chats");
    let one = |text: &str| {
        let parts: Vec<&str> = text.split(':').collect();
        let silent_ms = parts[1].parse().expect("milliseconds");
        (parts[0].to_owned(), Duration::from_millis(silent_ms), parts[2].parse().expect("a number"))
    };
    all.split(' ').map(one).collect()
}

/// Puts `next` in the place of the backend; everybody has its answers within the time.
fn replace(bed: &mut Bed, next: (usize, IpAddr), name: &str, others: &mut [Process], what: &str) {
    bed.service("one", "10.96.0.30", 30_130, &[next]);
    let began = Instant::now();
    loop {
        let pod = bed.pods.get_mut("a2").expect("a Pod");
        let answers: Vec<_> = others.iter_mut().chain([pod]).flat_map(heard).collect();
        if answers.iter().all(|(answered, ..)| answered == name) {
            return;
        }
        assert!(began.elapsed() < SILENT_MAX, "{what}: {name} is there, but who answers is {answers:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn replaced(socket_lb: bool) {
    let Some((mut bed, pods)) = furnished() else { return };
    bed.socket_lb(socket_lb);
    let backends = [("a1", (0, pods[0])), ("b1", (1, pods[2])), ("b2", (1, pods[3]))];
    bed.service("one", "10.96.0.30", 30_130, &[backends[0].1]);
    let (cluster_ip, node_port) = ("10.96.0.30:80", format!("{}:30130", bed.machines[0].ip));
    begin(bed.pods.get_mut("a2").expect("a Pod"), cluster_ip);
    // Processes of a node that has a backend, and of one that has none, with and without a socket hook; and the outside.
    let mut others = vec![bed.process(0, "node", !socket_lb), bed.process(2, "far", false)];
    others.iter_mut().for_each(|process| begin(process, cluster_ip));
    others.push(bed.client());
    begin(&mut others[2], &node_port);
    for time in 0..TIMES {
        std::thread::sleep(REST);
        let (name, next) = backends[(time + 1) % backends.len()];
        replace(&mut bed, next, name, &mut others, &format!("replacement {time}, socket_lb {socket_lb}"));
    }
    let pod = bed.pods.get_mut("a2").expect("a Pod");
    let all: Vec<_> = others.iter_mut().chain([pod]).flat_map(heard).collect();
    eprintln!("socket_lb {socket_lb}: {all:?}");
    for (_, silent, answers) in &all {
        assert!(*silent < SILENT_MAX && *answers > 100, "{all:?}");
    }
}

#[test]
fn udp_clients_follow_a_replaced_backend_at_once_balanced_at_connect() {
    replaced(true);
}

#[test]
fn udp_clients_follow_a_replaced_backend_at_once_balanced_packet_by_packet() {
    replaced(false);
}
