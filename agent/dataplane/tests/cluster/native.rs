//! Native routing: the same traffic, and no packet of it in the tunnel.

use std::collections::BTreeSet;
use std::net::IpAddr;

use weft_dataplane::desired::Protocol;
use weft_dataplane::dry::Way;
use weft_dataplane::{Routing, RoutingMode};

use crate::bed::{Bed, six};
use crate::capture::Capture;
use crate::mtu::{gets_mtu, passes_in_one_piece};
use crate::process::PORT;
use crate::traffic::names;
use crate::{dry, object, six as sixes};

/// Two machines: two Pods on the first and one on the other, a Service before one of each, and one before the far one alone.
fn furnished(mode: RoutingMode) -> Option<(Bed, Vec<IpAddr>)> {
    let mut bed = Bed::new(2, &object::path()?, |config| config.routing_mode = mode);
    let pods = vec![bed.pod(0, "a1"), bed.pod(0, "a2"), bed.pod(1, "b1")];
    sixes::service(&mut bed, "both", 20, 30_120, &[(0, pods[0]), (1, pods[2])]);
    sixes::service(&mut bed, "there", 21, 30_121, &[(1, pods[2])]);
    Some((bed, pods))
}

fn captures(bed: &Bed) -> Vec<Capture> {
    bed.machines.iter().map(|machine| Capture::begin(&machine.netns)).collect()
}

fn tunnelled(captures: &[Capture]) -> (u64, u64) {
    let all = captures.iter().map(Capture::tunnelled);
    all.fold((0, 0), |(v4, v6), (more_v4, more_v6)| (v4 + more_v4, v6 + more_v6))
}

fn routing(bed: &Bed, machine: usize) -> Routing {
    let dataplane = bed.machines[machine].dataplane.clone().expect("started");
    bed.ask(dataplane.status()).expect("a status").routing
}

/// An address and port, as processes write them.
fn at(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

/// Everything that goes between two machines.
fn everything_passes(bed: &mut Bed, pods: &[IpAddr]) {
    let far = [pods[2], six(pods[2])];
    for (to, own) in far.into_iter().zip([pods[0], six(pods[0])]) {
        for protocol in ["tcp", "udp"] {
            let answers = bed.pods.get_mut("a1").expect("a Pod").reach(protocol, &at(to, PORT), 3);
            assert_eq!(names(&answers), BTreeSet::from(["b1"]), "{protocol} {to}");
            let own = at(own, 0);
            let own = own.trim_end_matches('0');
            assert!(answers.iter().all(|(_, peer)| peer.starts_with(own)), "{answers:?}");
        }
        let a1 = bed.pods.get_mut("a1").expect("a Pod");
        assert_eq!(a1.ask(&format!("fetch {} 2000000", at(to, PORT))), "identical", "{to}");
        assert_eq!(a1.ask(&format!("large {} 4000", at(to, PORT))), "4000 bytes", "{to}");
    }
    for socket_lb in [true, false] {
        bed.socket_lb(socket_lb);
        for to in ["10.96.0.21:80", "[fd00:96::21]:80"] {
            for protocol in ["tcp", "udp"] {
                let a2 = bed.pods.get_mut("a2").expect("a Pod");
                let answers = a2.reach(protocol, to, 3);
                assert_eq!(names(&answers), BTreeSet::from(["b1"]), "{protocol} {to}, socket_lb {socket_lb}");
            }
            let a2 = bed.pods.get_mut("a2").expect("a Pod");
            assert_eq!(a2.ask(&format!("large {to} 4000")), "4000 bytes", "{to}, socket_lb {socket_lb}");
        }
    }
    bed.socket_lb(true);
    // Processes of the machine, with a socket hook and without.
    let mut node = bed.process(0, "node", false);
    for (to, own) in far.into_iter().zip(["10.244.1.1:", "[fd00:244:0:1::1]:"]) {
        for protocol in ["tcp", "udp"] {
            let answers = node.reach(protocol, &at(to, PORT), 3);
            assert!(answers.iter().all(|(_, peer)| peer.starts_with(own)), "{protocol} {answers:?}");
        }
        assert_eq!(node.ask(&format!("large {} 4000", at(to, PORT))), "4000 bytes", "{to} from the node");
    }
    drop(node);
    let mut stranger = bed.process(0, "stranger", true);
    for to in ["10.96.0.21:80", "[fd00:96::21]:80"] {
        for protocol in ["tcp", "udp"] {
            let answers = stranger.reach(protocol, to, 3);
            assert_eq!(names(&answers), BTreeSet::from(["b1"]), "{protocol} {to} without a socket hook");
        }
    }
    drop(stranger);
    // From outside to the machine that has no backend.
    let mut client = bed.client();
    for ip in [bed.machines[0].ip, bed.machines[0].ip_6] {
        for protocol in ["tcp", "udp"] {
            let answers = client.reach(protocol, &at(ip, 30_121), 5);
            assert_eq!(names(&answers), BTreeSet::from(["b1"]), "{protocol} {ip} from outside");
        }
        assert_eq!(client.ask(&format!("large {} 4000", at(ip, 30_121))), "4000 bytes", "{ip} from outside");
    }
}

#[test]
fn everything_goes_between_neighbours_as_it_is() {
    let Some((mut bed, pods)) = furnished(RoutingMode::Native) else { return };
    let captures = captures(&bed);
    everything_passes(&mut bed, &pods);
    for to in [at(pods[2], PORT), at(six(pods[2]), PORT), "10.96.0.21:80".to_owned()] {
        passes_in_one_piece(&mut bed, &to, 1_500);
    }
    assert_eq!(tunnelled(&captures), (0, 0), "nothing went by the tunnel");
    let wanted = Routing { mode: "native", native_nodes: 1, ..Routing::default() };
    assert_eq!(routing(&bed, 0), wanted);
    // A probe tells the same.
    let neighbour = bed.machines[1].ip;
    let answer = dry::walk(&mut bed, Protocol::Tcp, dry::to(pods[2], PORT));
    assert_eq!((answer.passages[0].way, answer.passages[1].hook), (Way::Native(neighbour), "to_uplink"));
    assert_eq!(answer.exit.map(|exit| (exit.device, exit.mtu_bytes)), Some(("eth0".to_owned(), 1_500)));
}

#[test]
fn who_serves_natively_hears_of_a_smaller_mtu_on_the_way_to_a_client() {
    let Some((bed, _)) = furnished(RoutingMode::Native) else { return };
    let mut far = bed.client_behind(1_300);
    for ip in [bed.machines[0].ip, bed.machines[0].ip_6] {
        let (to, before) = (at(ip, 30_121), bed.counter(1, "errors_translated"));
        assert!((0..10).any(|_| !far.ask(&format!("tcp {to} 1")).starts_with("failed")), "{to}");
        assert_eq!(far.ask(&format!("fetch {to} 2000000")), "identical", "{to}");
        assert!(bed.counter(1, "errors_translated") > before, "{to}: the backend's machine was not told");
    }
}

#[test]
fn a_change_of_mode_machine_by_machine_breaks_no_connection() {
    let Some((mut bed, pods)) = furnished(RoutingMode::Tunnel) else { return };
    let mut client = bed.client();
    let mut node = bed.process(0, "node", false);
    let held =
        [("a1", at(six(pods[2]), PORT)), ("a2", "10.96.0.21:80".to_owned()), ("b1", at(pods[0], PORT))];
    for (pod, to) in &held {
        assert_eq!(bed.pods.get_mut(*pod).expect("a Pod").ask(&format!("hold {to}")), "held", "{to}");
    }
    assert_eq!(client.ask(&format!("hold {}", at(bed.machines[0].ip, 30_121))), "held");
    assert_eq!(node.ask(&format!("hold {}", at(pods[2], PORT))), "held");
    let mut say = |bed: &mut Bed| {
        let mut said: Vec<String> =
            held.iter().map(|(pod, _)| bed.pods.get_mut(*pod).expect("a Pod").ask("again")).collect();
        said.extend([client.ask("again"), node.ask("again")]);
        said
    };
    let said = say(&mut bed);
    assert!(said.iter().all(|answer| answer.contains('=')), "{said:?}");
    for mode in [RoutingMode::Native, RoutingMode::Tunnel] {
        for machine in 0..2 {
            bed.kill(machine);
            bed.machines[machine].config.routing_mode = mode;
            bed.start(machine);
            assert_eq!(say(&mut bed), said, "{mode:?}, machine {machine}, before it hears of the others");
            bed.tell_one(machine);
            assert_eq!(say(&mut bed), said, "{mode:?}, machine {machine}");
        }
        assert_eq!(routing(&bed, 0).mode, mode.text());
        let captures = captures(&bed);
        let answers = bed.pods.get_mut("a1").expect("a Pod").reach("tcp", &at(pods[2], PORT), 3);
        assert_eq!(answers.len(), 3);
        assert_eq!(tunnelled(&captures).0 == 0, mode == RoutingMode::Native, "{:?}", tunnelled(&captures));
    }
}

#[test]
fn who_is_no_neighbour_is_reached_by_the_tunnel_until_he_is_one() {
    let Some((mut bed, pods)) = furnished(RoutingMode::Native) else { return };
    let by_tunnel = Routing { mode: "native", tunnel_v4_nodes: 1, ..Routing::default() };
    let natively = Routing { mode: "native", native_nodes: 1, ..Routing::default() };
    for (shared, wanted, bytes) in [(false, by_tunnel, 1_450), (true, natively, 1_500)] {
        bed.share_network(shared);
        for (machine, name) in [(0, "a1"), (1, "b1")] {
            gets_mtu(&bed, machine, name, bytes);
            assert_eq!(routing(&bed, machine), wanted);
        }
        let captures = captures(&bed);
        for to in [pods[2], six(pods[2])] {
            let answers = bed.pods.get_mut("a1").expect("a Pod").reach("tcp", &at(to, PORT), 3);
            assert_eq!(answers.len(), 3);
            passes_in_one_piece(&mut bed, &at(to, PORT), bytes as usize);
        }
        assert_eq!(tunnelled(&captures).0 == 0, shared);
    }
}

#[test]
fn nodes_of_ipv6_alone_have_a_tunnel_too() {
    let Some(object) = object::path() else { return };
    let mut bed = Bed::new(2, &object, |config| config.node.addresses.retain(IpAddr::is_ipv6));
    let pods = [bed.pod(0, "a1"), bed.pod(0, "a2"), bed.pod(1, "b1")];
    sixes::service(&mut bed, "there", 21, 30_121, &[(1, pods[2])]);
    let captures = captures(&bed);
    for to in [at(pods[2], PORT), at(six(pods[2]), PORT)] {
        for protocol in ["tcp", "udp"] {
            let answers = bed.pods.get_mut("a1").expect("a Pod").reach(protocol, &to, 3);
            assert_eq!(names(&answers), BTreeSet::from(["b1"]), "{protocol} {to}");
        }
        let a1 = bed.pods.get_mut("a1").expect("a Pod");
        assert_eq!(a1.ask(&format!("fetch {to} 2000000")), "identical", "{to}");
        assert_eq!(a1.ask(&format!("large {to} 4000")), "4000 bytes", "{to}");
        passes_in_one_piece(&mut bed, &to, 1_430);
    }
    for to in ["10.96.0.21:80", "[fd00:96::21]:80"] {
        for socket_lb in [true, false] {
            bed.socket_lb(socket_lb);
            let answers = bed.pods.get_mut("a2").expect("a Pod").reach("tcp", to, 3);
            assert_eq!(names(&answers), BTreeSet::from(["b1"]), "{to}, socket_lb {socket_lb}");
        }
    }
    let mut node = bed.process(0, "node", false);
    assert_eq!(node.reach("tcp", &at(six(pods[2]), PORT), 3).len(), 3);
    drop(node);
    let mut client = bed.client();
    for protocol in ["tcp", "udp"] {
        let answers = client.reach(protocol, &at(bed.machines[0].ip_6, 30_121), 5);
        assert_eq!(names(&answers), BTreeSet::from(["b1"]), "{protocol} from outside");
    }
    // The client's fragments are too long for the tunnel, which nobody cuts. It hears so, and makes shorter ones.
    let ask = format!("large {} 4000", at(bed.machines[0].ip_6, 30_121));
    assert!((0..3).any(|_| client.ask(&ask) == "4000 bytes"));
    let (v4, v6) = tunnelled(&captures);
    assert!(v4 == 0 && v6 > 0, "{v4} with outer addresses of IPv4, {v6} of IPv6");
    let wanted = Routing { mode: "tunnel", tunnel_v6_nodes: 1, ..Routing::default() };
    assert_eq!(routing(&bed, 0), wanted);
    let by = bed.machines[1].ip_6;
    let answer = dry::walk(&mut bed, Protocol::Tcp, dry::to(pods[2], PORT));
    assert_eq!((answer.passages[0].way, answer.passages[1].hook), (Way::Tunnel(by), "to_overlay"));
}

#[test]
fn nobody_but_a_node_is_heard_by_the_tunnel() {
    let Some((bed, pods)) = furnished(RoutingMode::Tunnel) else { return };
    let (IpAddr::V4(from), IpAddr::V4(to)) = (pods[2], pods[0]) else { panic!("{pods:?}") };
    for machine in [bed.machines[0].ip, bed.machines[0].ip_6] {
        let before = bed.counter(0, "dropped_from_overlay");
        bed.forge(machine, from, to);
        let dropped = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            bed.counter(0, "dropped_from_overlay") > before
        });
        assert!(dropped, "{machine}");
    }
}
