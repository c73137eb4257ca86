//! Most packets between nodes pass the tunnel's device by, and nobody can tell but by the counters.

use std::fs;
use std::net::IpAddr;
use std::process::Command;

use weft_dataplane::netns;

use crate::bed::{Bed, six};
use crate::object;
use crate::process::PORT;
use crate::release::takes_six_out;

/// Questions until a neighbour is found again, each of which waits for its answer for seconds: two or three do.
const ASKS_MAX: usize = 30;

/// Two machines with a Pod on each, and a Service before the second one's.
fn furnished() -> Option<(Bed, IpAddr)> {
    let mut bed = Bed::new(2, &object::path()?, |_| {});
    bed.pod(0, "a1");
    let pod = bed.pod(1, "b1");
    bed.service("there", "10.96.0.51", 0, &[(1, pod)]);
    Some((bed, pod))
}

fn ask(bed: &mut Bed, words: &str) -> String {
    bed.pods.get_mut("a1").expect("a Pod").ask(words)
}

/// Does something with `ip` on a machine.
fn ip(bed: &Bed, machine: usize, arguments: &str) {
    let run = || Command::new("ip").args(arguments.split(' ')).output();
    let done = netns::within(&bed.machines[machine].netns, run).expect("namespace").expect("ip runs");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// What both machines have counted: put into the tunnel, taken out of it, and both by the device.
fn counted(bed: &Bed) -> [u64; 4] {
    ["encapsulated", "decapsulated", "seen_to_overlay", "seen_from_overlay"]
        .map(|name| (0..2).map(|machine| bed.counter(machine, name)).sum())
}

#[test]
fn connections_and_datagrams_pass_the_device_by() {
    let Some((mut bed, pod)) = furnished() else { return };
    bed.socket_lb(false);
    for to in [format!("{pod}:{PORT}"), format!("[{}]:{PORT}", six(pod)), "10.96.0.51:80".to_owned()] {
        assert_eq!(ask(&mut bed, &format!("hold {to}")), "held");
        assert_eq!(ask(&mut bed, &format!("connect {to}")), "connected");
        for word in ["again", "say"] {
            assert!(!ask(&mut bed, word).starts_with("failed"), "{to}");
        }
        let before = counted(&bed);
        for _ in 0..200 {
            for word in ["again", "say"] {
                assert!(!ask(&mut bed, word).starts_with("failed"), "{to}");
            }
        }
        assert_eq!(ask(&mut bed, &format!("fetch {to} 20000000")), "identical", "{to}");
        let after = counted(&bed);
        let [put_in, taken_out, to_device, from_device] = [0, 1, 2, 3].map(|at| after[at] - before[at]);
        assert!(put_in >= 800, "{to}: {put_in}");
        // The first packets of each direction come out of the device; before Linux 6.3 all of IPv6 does.
        let (many, few) = if to.starts_with('[') && !takes_six_out() {
            (from_device, taken_out)
        } else {
            (taken_out, from_device)
        };
        assert!(many >= 800 && few < many / 20, "{to}: {taken_out} past the device, {from_device} by it");
        assert!(to_device < put_in / 20, "{to}: {put_in} past the device, {to_device} by it");
        // Pieces of a datagram come out of the device.
        assert_eq!(ask(&mut bed, &format!("large {to} 4000")), "4000 bytes", "{to}");
        assert!(counted(&bed)[3] >= after[3] + 6, "{to}");
    }
}

#[test]
fn a_way_that_takes_less_than_the_uplink_gets_what_it_takes() {
    let Some((mut bed, pod)) = furnished() else { return };
    let to = format!("{pod}:{PORT}");
    for (machine, other) in [(0, bed.machines[1].ip), (1, bed.machines[0].ip)] {
        ip(&bed, machine, &format!("route add {other}/32 dev eth0 mtu lock 1300"));
    }
    // Datagrams and large segments: their node's own stack cuts both.
    let before = bed.pieces(0);
    assert_eq!(ask(&mut bed, &format!("piece {to} 1400")), "1400 bytes");
    assert!(bed.pieces(0) > before);
    let before = (bed.pieces(1), bed.counter(1, "encapsulated"));
    assert_eq!(ask(&mut bed, &format!("fetch {to} 5000000")), "identical");
    assert!(bed.pieces(1) > before.0 + 1_000);
    assert!(bed.counter(1, "encapsulated") < before.1 + 100, "the few that are short");
}

#[test]
fn where_it_is_set_all_goes_by_the_device() {
    let Some(object) = object::path() else { return };
    let mut bed = Bed::new(2, &object, |config| config.tunnel_by_device = true);
    bed.pod(0, "a1");
    let to = format!("{}:{PORT}", bed.pod(1, "b1"));
    assert_eq!(ask(&mut bed, &format!("fetch {to} 5000000")), "identical");
    let [put_in, taken_out, to_device, from_device] = counted(&bed);
    assert_eq!((put_in, taken_out), (0, 0));
    assert!(to_device > 10 && from_device > 10);
}

#[test]
fn a_neighbour_that_has_another_address_is_found_again_by_who_asks() {
    is_found_again(1);
}

#[test]
fn and_by_who_answers() {
    is_found_again(0);
}

/// One machine's uplink gets another address, of which the other one is told nothing.
#[track_caller]
fn is_found_again(moved: usize) {
    let Some((mut bed, pod)) = furnished() else { return };
    for machine in 0..2 {
        let quickly = || {
            for (name, value) in [("delay_first_probe_time", "1"), ("base_reachable_time_ms", "1000")] {
                fs::write(format!("/proc/sys/net/ipv4/neigh/eth0/{name}"), value).expect("a setting");
            }
        };
        netns::within(&bed.machines[machine].netns, quickly).expect("namespace");
    }
    let to = format!("{pod}:{PORT}");
    assert_eq!(ask(&mut bed, &format!("connect {to}")), "connected");
    assert!(!ask(&mut bed, "say").starts_with("failed"));
    let other = bed.machines[1 - moved].ip;
    let hardware = bed.link(1 - moved, "eth0");
    let hardware =
        hardware.split("link/ether ").nth(1).expect("a MAC address").split(' ').next().expect("one");
    ip(&bed, moved, "link set eth0 address 02:00:00:00:77:02");
    // It need not ask for the other one, which would learn of it then.
    ip(&bed, moved, &format!("neigh replace {other} lladdr {hardware} dev eth0 nud permanent"));
    for _ in 0..ASKS_MAX {
        if !ask(&mut bed, "say").starts_with("failed") {
            return;
        }
    }
    panic!("the neighbour is not found");
}
