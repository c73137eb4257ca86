//! Single packets through the real programs: what comes in, what stands in the tables, what comes out.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/frame.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame;
#[path = "packet/object.rs"]
mod object;

use std::net::Ipv4Addr;

use bench::{
    Bench, DROP, NEXT, NODE, OUTSIDE, OVERLAY, PEER, POD_A, POD_B, POD_FAR, REDIRECT, SERVICE, now_ns,
};
use frame::{ACK, Ends, FIN, RST, SYN, TCP, UDP, assert_valid, ends, tcp, udp};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::conntrack::{
    FLOW_DESTINATION, FLOW_TWIN, Flow, TCP_SEEN_ACK, TCP_SEEN_FIN, TCP_SEEN_SYN, Tuple,
};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::event::{EVENT_SERVICE, EVENT_SOURCE, Verdict};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{OVERLAY_MAC, OVERLAY_SOURCE_MAC, ROUTE_TUNNEL};
use weft_dataplane_abi::service::{SCOPE_CLUSTER, SCOPE_NODE, ServiceKey};
use weft_dataplane_abi::station::Station;

const NODE_PORT: u16 = 30_080;

fn cluster(port: u16, protocol: u8) -> ServiceKey {
    ServiceKey { address: Address::v4(SERVICE), port: Be16::new(port), protocol, scope: SCOPE_CLUSTER }
}

fn node_port(protocol: u8) -> ServiceKey {
    ServiceKey { address: Address::ZERO, port: Be16::new(NODE_PORT), protocol, scope: SCOPE_NODE }
}

fn tuple(ends: Ends, protocol: u8) -> Tuple {
    Tuple {
        source: Address::v4(ends.0),
        destination: Address::v4(ends.2),
        source_port: Be16::new(ends.1),
        destination_port: Be16::new(ends.3),
        protocol,
        reserved: [0; 3],
    }
}

/// Both Pods are behind the one interface a test run has.
fn bench() -> Option<Bench> {
    let mut bench = Bench::new()?;
    bench.endpoint(POD_B, bench::POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xb]);
    Some(bench)
}

#[test]
fn what_is_dropped_says_where_and_why() {
    let Some(mut bench) = bench() else { return };
    bench.service(cluster(81, TCP), 3, &[]);
    let table: [(&str, Vec<u8>, Station, Reason); 6] = [
        ("foreign source", tcp((OUTSIDE, 1, POD_B, 80), SYN), Station::Parse, Reason::ForeignSource),
        ("no service", tcp((POD_A, 1, SERVICE, 9), SYN), Station::Route, Reason::NoService),
        ("no backend", tcp((POD_A, 1, SERVICE, 81), ACK), Station::Balance, Reason::NoBackend),
        ("no such pod", udp((POD_A, 1, Ipv4Addr::new(10, 244, 9, 9), 53)), Station::Route, Reason::NoSuchPod),
        ("to the tunnel", udp((POD_A, 1, PEER, 4789)), Station::Route, Reason::PodToTunnel),
        ("short header", frame::ip(POD_A, POD_B, TCP, 0, &[0; 4]), Station::Parse, Reason::Malformed),
    ];
    for (name, packet, station, reason) in table {
        let (verdict, _) = bench.send(Hook::FromPod, &packet);
        assert_eq!(verdict, DROP, "{name}");
        let events = bench.events();
        assert_eq!(events.len(), 1, "{name}");
        assert_eq!((events[0].station, events[0].reason), (station as u8, reason as u8), "{name}");
        assert_eq!(events[0].verdict, Verdict::Dropped as u8, "{name}");
        assert_eq!(events[0].hook, Hook::FromPod as u8, "{name}");
    }
    let (verdict, _) = bench.send(Hook::FromOverlay, &tcp((POD_FAR, 1, POD_A, 80), SYN));
    assert_eq!(verdict, DROP);
    assert_eq!(bench.events()[0].reason, Reason::UnknownTunnelSource as u8);
}

#[test]
fn what_is_not_ours_passes_untouched() {
    let Some(mut bench) = bench() else { return };
    let mut arp = tcp((POD_A, 1, POD_B, 80), SYN);
    arp[12..14].copy_from_slice(&[8, 6]);
    let ssh = tcp((OUTSIDE, 5_000, NODE, 22), SYN);
    let forwarded = tcp((OUTSIDE, 5_000, Ipv4Addr::new(198, 51, 100, 1), 80), SYN);
    let unknown = tcp((OUTSIDE, 5_000, NODE, NODE_PORT), SYN);
    let table = [
        (Hook::FromPod, arp),
        (Hook::FromUplink, ssh.clone()),
        (Hook::FromUplink, forwarded),
        (Hook::FromUplink, unknown),
        (Hook::ToUplink, ssh),
    ];
    for (hook, packet) in table {
        let (verdict, after) = bench.send(hook, &packet);
        assert_eq!((verdict, after == packet), (NEXT, true), "{hook}");
    }
    assert!(bench.events().is_empty());
}

#[test]
fn a_frame_for_another_machine_is_not_served() {
    let Some(mut bench) = bench() else { return };
    bench.service(node_port(TCP), 8, &[(POD_B, 8080)]);
    let ours = tcp((OUTSIDE, 5_000, NODE, NODE_PORT), SYN);
    let mut others = ours.clone();
    others[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0x99]);
    assert_eq!(bench.send(Hook::FromUplink, &others), (NEXT, others));
    assert_eq!((bench.flows().used(), bench.events().len()), (0, 0));
    assert_eq!(bench.send(Hook::FromUplink, &ours).0, REDIRECT);
}

#[test]
fn pods_here_and_there_keep_their_addresses() {
    let Some(mut bench) = bench() else { return };
    let here: Ends = (POD_A, 40_000, POD_B, 80);
    let (verdict, after) = bench.send(Hook::FromPod, &tcp(here, SYN));
    assert_eq!((verdict, ends(&after)), (REDIRECT, here));
    assert_eq!(after[..12], [2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 1, 1]);
    let twin = bench.flow(&tuple(here, TCP).reversed()).expect("the twin");
    assert_eq!((twin.flags & FLOW_TWIN, twin.to), (FLOW_TWIN, tuple(here, TCP).reversed()));

    let there: Ends = (POD_A, 40_000, POD_FAR, 80);
    let (verdict, after) = bench.send(Hook::FromPod, &udp(there));
    assert_eq!((verdict, ends(&after)), (REDIRECT, there));
    assert_eq!((&after[..6], &after[6..12]), (&OVERLAY_MAC[..], &OVERLAY_SOURCE_MAC[..]));

    let (verdict, after) = bench.send(Hook::FromPod, &tcp((POD_A, 40_000, NODE, 6443), SYN));
    assert_eq!((verdict, ends(&after)), (NEXT, (POD_A, 40_000, NODE, 6443)));
    let events = bench.events();
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event.verdict == Verdict::Forwarded as u8 && event.flags == 0));
}

#[test]
fn a_service_is_translated_there_and_back() {
    for (protocol, packet) in [(TCP, tcp as fn(Ends, u8) -> Vec<u8>), (UDP, |ends, _| udp(ends))] {
        let Some(mut bench) = bench() else { return };
        bench.service(cluster(80, protocol), 7, &[(POD_B, 8080)]);
        let (verdict, after) = bench.send(Hook::FromPod, &packet((POD_A, 40_000, SERVICE, 80), SYN));
        assert_eq!((verdict, ends(&after)), (REDIRECT, (POD_A, 40_000, POD_B, 8080)));
        assert_valid(&after);
        let (verdict, back) = bench.send(Hook::FromPod, &packet((POD_B, 8080, POD_A, 40_000), SYN | ACK));
        assert_eq!((verdict, ends(&back)), (REDIRECT, (SERVICE, 80, POD_A, 40_000)));
        assert_valid(&back);

        let events = bench.events();
        assert_eq!(events.len(), 1, "one event a flow");
        assert_eq!((events[0].flags, events[0].service_id), (EVENT_SERVICE, 7));
        assert_eq!((events[0].service, events[0].service_port.get()), (Address::v4(SERVICE), 80));
        assert_eq!((events[0].backend, events[0].backend_port.get()), (Address::v4(POD_B), 8080));
        assert_eq!(
            (bench.counter(Counter::BalancedPacket), bench.counter(Counter::PacketsTranslated)),
            (1, 2)
        );
    }
}

#[test]
fn all_backends_are_drawn() {
    let Some(mut bench) = bench() else { return };
    bench.service(cluster(80, TCP), 7, &[(POD_B, 1), (POD_B, 2), (POD_FAR, 3)]);
    let drawn: std::collections::BTreeSet<u16> = (1_000..1_060)
        .map(|port| ends(&bench.send(Hook::FromPod, &tcp((POD_A, port, SERVICE, 80), SYN)).1).3)
        .collect();
    assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn checksums_stay_true_where_the_addresses_differ_by_nothing() {
    let Some(mut bench) = bench() else { return };
    // The Pod's address with its halves exchanged: no checksum tells the two apart.
    let [a, b, c, d] = POD_B.octets();
    let swapped = Ipv4Addr::new(c, d, a, b);
    let key = ServiceKey { address: Address::v4(swapped), ..cluster(80, TCP) };
    bench.service(key, 7, &[(POD_B, 8080)]);
    for port in [40_000, 40_001, u16::MAX] {
        let (_, after) = bench.send(Hook::FromPod, &tcp((POD_A, port, swapped, 80), SYN));
        assert_eq!(ends(&after), (POD_A, port, POD_B, 8080));
        assert_valid(&after);
    }
}

#[test]
fn a_pod_that_asks_itself_meets_the_node() {
    let Some(mut bench) = bench() else { return };
    bench.service(cluster(80, TCP), 7, &[(POD_A, 8080)]);
    let (verdict, after) = bench.send(Hook::FromPod, &tcp((POD_A, 40_000, SERVICE, 80), SYN));
    let (source, port, destination, to_port) = ends(&after);
    assert_eq!((verdict, source, destination, to_port), (REDIRECT, OVERLAY, POD_A, 8080));
    assert_valid(&after);
    let (verdict, back) = bench.send(Hook::FromPod, &tcp((POD_A, 8080, OVERLAY, port), SYN | ACK));
    assert_eq!((verdict, ends(&back)), (REDIRECT, (SERVICE, 80, POD_A, 40_000)));
    assert_valid(&back);
}

#[test]
fn the_outside_sees_the_node() {
    let Some(mut bench) = bench() else { return };
    let (verdict, after) = bench.send(Hook::FromPod, &tcp((POD_A, 40_000, OUTSIDE, 443), SYN));
    let (source, port, destination, to_port) = ends(&after);
    assert_eq!((verdict, source, destination, to_port), (REDIRECT, NODE, OUTSIDE, 443));
    assert!((61_000..=61_007).contains(&port), "{port}");
    assert_valid(&after);
    let (verdict, back) = bench.send(Hook::FromUplink, &tcp((OUTSIDE, 443, NODE, port), SYN | ACK));
    assert_eq!((verdict, ends(&back)), (REDIRECT, (OUTSIDE, 443, POD_A, 40_000)));
    assert_valid(&back);
    let events = bench.events();
    assert_eq!(
        (events.len(), events[0].flags, events[0].translated_source_port.get()),
        (1, EVENT_SOURCE, port)
    );
}

#[test]
fn source_ports_run_out_with_a_reason_and_no_two_flows_share_one() {
    let Some(mut bench) = bench() else { return };
    let mut taken = std::collections::BTreeSet::new();
    for port in 1_000..1_200 {
        let (verdict, after) = bench.send(Hook::FromPod, &tcp((POD_A, port, OUTSIDE, 443), SYN));
        if verdict == REDIRECT {
            assert!(taken.insert(ends(&after).1), "a port twice");
        }
    }
    assert_eq!(taken.len(), 8, "the range has eight ports");
    bench.events();
    let (verdict, _) = bench.send(Hook::FromPod, &tcp((POD_A, 2_000, OUTSIDE, 443), SYN));
    assert_eq!((verdict, bench.events()[0].reason), (DROP, Reason::SourcePortsExhausted as u8));
    let (verdict, _) = bench.send(Hook::FromPod, &tcp((POD_A, 2_000, OUTSIDE, 444), SYN));
    assert_eq!(verdict, REDIRECT, "another destination has ports of its own");
}

#[test]
fn where_all_ports_are_in_use_one_that_ended_a_while_ago_is_given_away() {
    let Some(mut bench) = bench() else { return };
    let ask = |bench: &mut Bench, port| bench.send(Hook::FromPod, &tcp((POD_A, port, OUTSIDE, 443), SYN));
    let mut flows = std::collections::BTreeMap::new();
    for port in 1_000..1_200 {
        let (verdict, after) = ask(&mut bench, port);
        if verdict == REDIRECT {
            flows.insert(ends(&after).1, port);
        }
    }
    assert_eq!(flows.len(), 8, "the range has eight ports");
    let (&given, &from) = flows.iter().next().expect("a flow");
    let answers = tuple((OUTSIDE, 443, NODE, given), TCP);
    let mut row = bench.flow(&answers).expect("the answers' row");
    for (tcp_seen, seconds) in [(TCP_SEEN_SYN | TCP_SEEN_ACK, 60), (TCP_SEEN_ACK | TCP_SEEN_FIN, 5)] {
        (row.tcp_seen, row.seen_ns) = (tcp_seen, now_ns().wrapping_sub(seconds * 1_000_000_000));
        bench.set_flow(&answers, &row);
        assert!(
            (2_000..2_050).all(|port| ask(&mut bench, port).0 == DROP),
            "seen {tcp_seen} {seconds} s ago"
        );
    }
    row.seen_ns = now_ns().wrapping_sub(11_000_000_000);
    bench.set_flow(&answers, &row);
    let got = (3_000..3_100).map(|port| ask(&mut bench, port)).find(|(verdict, _)| *verdict == REDIRECT);
    assert_eq!(ends(&got.expect("a flow").1).1, given);
    assert!(bench.flow(&tuple((POD_A, from, OUTSIDE, 443), TCP)).is_none(), "its other row went with it");
}

#[test]
fn a_node_port_keeps_the_client_here_and_comes_back_from_there() {
    let Some(mut bench) = bench() else { return };
    bench.service(node_port(TCP), 8, &[(POD_B, 8080)]);
    let (verdict, after) = bench.send(Hook::FromUplink, &tcp((OUTSIDE, 5_000, NODE, NODE_PORT), SYN));
    assert_eq!((verdict, ends(&after)), (REDIRECT, (OUTSIDE, 5_000, POD_B, 8080)));
    assert_valid(&after);
    let (verdict, back) = bench.send(Hook::FromPod, &tcp((POD_B, 8080, OUTSIDE, 5_000), SYN | ACK));
    assert_eq!((verdict, ends(&back)), (REDIRECT, (NODE, NODE_PORT, OUTSIDE, 5_000)));
    assert_valid(&back);
    assert_eq!(bench.counter(Counter::BalancedNodePort), 1);

    bench.service(node_port(UDP), 9, &[(POD_FAR, 8080)]);
    let (verdict, after) = bench.send(Hook::FromUplink, &udp((OUTSIDE, 5_000, NODE, NODE_PORT)));
    let (source, port, destination, to_port) = ends(&after);
    assert_eq!((verdict, source, destination, to_port), (REDIRECT, OVERLAY, POD_FAR, 8080));
    assert!((61_000..=61_007).contains(&port), "{port}");
    assert_valid(&after);

    bench.service(node_port(TCP), 10, &[(NODE, 8080)]);
    let (verdict, after) = bench.send(Hook::FromUplink, &tcp((OUTSIDE, 5_001, NODE, NODE_PORT), SYN));
    assert_eq!((verdict, ends(&after)), (NEXT, (OUTSIDE, 5_001, NODE, 8080)), "up into the host");
    let (verdict, back) = bench.send(Hook::ToUplink, &tcp((NODE, 8080, OUTSIDE, 5_001), SYN | ACK));
    assert_eq!((verdict, ends(&back)), (NEXT, (NODE, NODE_PORT, OUTSIDE, 5_001)));
    assert_valid(&back);
}

#[test]
fn a_direct_connection_and_one_by_the_service_do_not_clash() {
    let Some(mut bench) = bench() else { return };
    bench.service(cluster(80, TCP), 7, &[(POD_B, 8080)]);
    bench.send(Hook::FromPod, &tcp((POD_A, 40_000, SERVICE, 80), SYN));
    let (verdict, after) = bench.send(Hook::FromPod, &tcp((POD_A, 40_000, POD_B, 8080), SYN));
    let (source, port, ..) = ends(&after);
    assert_eq!((verdict, source), (REDIRECT, POD_A));
    assert!(port != 40_000 && port >= 1_024, "remapped, since the reverse tuple is taken: {port}");
    assert_valid(&after);
    let (_, back) = bench.send(Hook::FromPod, &tcp((POD_B, 8080, POD_A, port), SYN | ACK));
    assert_eq!(ends(&back), (POD_B, 8080, POD_A, 40_000));
    let (_, back) = bench.send(Hook::FromPod, &tcp((POD_B, 8080, POD_A, 40_000), SYN | ACK));
    assert_eq!(ends(&back), (SERVICE, 80, POD_A, 40_000));
}

#[test]
fn a_syn_on_left_over_rows_begins_anew() {
    let Some(mut bench) = bench() else { return };
    bench.service(cluster(80, TCP), 7, &[(POD_B, 8080)]);
    let ours: Ends = (POD_A, 40_000, SERVICE, 80);
    bench.send(Hook::FromPod, &tcp(ours, SYN));
    bench.send(Hook::FromPod, &tcp(ours, SYN));
    assert_eq!(bench.counter(Counter::FlowsBegun), 1, "a repeated SYN stays with its backend");
    bench.send(Hook::FromPod, &tcp(ours, ACK | FIN));
    bench.send(Hook::FromPod, &tcp(ours, SYN));
    assert_eq!((bench.counter(Counter::FlowsBegun), bench.counter(Counter::FlowsReplaced)), (2, 1));
    bench.send(Hook::FromPod, &tcp(ours, ACK));
    bench.send(Hook::FromPod, &tcp((POD_B, 8080, POD_A, 40_000), RST));
    bench.send(Hook::FromPod, &tcp(ours, SYN));
    assert_eq!(bench.counter(Counter::FlowsReplaced), 2, "the other side had ended it");

    // The backend itself connects from the port it served: the twin must not swallow it.
    let theirs: Ends = (POD_B, 8080, POD_A, 40_000);
    let (verdict, after) = bench.send(Hook::FromPod, &tcp(theirs, SYN));
    assert_eq!((verdict, ends(&after)), (REDIRECT, theirs));
    assert_eq!(bench.counter(Counter::FlowsReplaced), 3);
}

#[test]
fn what_begins_anew_leaves_by_the_port_it_had() {
    let Some(mut bench) = bench() else { return };
    bench.service(cluster(80, TCP), 7, &[(POD_B, 8080)]);
    let (by_service, direct): (Ends, Ends) = ((POD_A, 40_000, SERVICE, 80), (POD_A, 40_000, POD_B, 8080));
    bench.send(Hook::FromPod, &tcp(by_service, SYN));
    let port = ends(&bench.send(Hook::FromPod, &tcp(direct, SYN)).1).1;
    assert_ne!(port, 40_000, "remapped");
    // The backend's end of each waits for stray packets, and knows each sender by its clock.
    for round in 0..8 {
        for (ours, port) in [(by_service, 40_000), (direct, port)] {
            bench.send(Hook::FromPod, &tcp(ours, ACK | FIN));
            let (verdict, after) = bench.send(Hook::FromPod, &tcp(ours, SYN));
            assert_eq!((verdict, ends(&after)), (REDIRECT, (POD_A, port, POD_B, 8080)), "round {round}");
            assert_valid(&after);
            let (_, back) = bench.send(Hook::FromPod, &tcp((POD_B, 8080, POD_A, port), SYN | ACK));
            assert_eq!(ends(&back), (ours.2, ours.3, POD_A, 40_000), "round {round}");
        }
    }
    assert_eq!(bench.counter(Counter::FlowsReplaced), 16);
}

#[test]
fn a_syn_that_comes_late_does_not_end_a_living_connection() {
    let Some(mut bench) = bench() else { return };
    let backends: Vec<(Ipv4Addr, u16)> = (1..=40).map(|port| (POD_B, port)).collect();
    bench.service(cluster(80, TCP), 1, &backends);
    let ours: Ends = (POD_A, 40_000, SERVICE, 80);
    let chosen = ends(&bench.send(Hook::FromPod, &tcp(ours, SYN)).1).3;
    bench.send(Hook::FromPod, &tcp((POD_B, chosen, POD_A, 40_000), SYN | ACK));
    bench.send(Hook::FromPod, &tcp(ours, ACK));
    for flags in [SYN, ACK] {
        assert_eq!(ends(&bench.send(Hook::FromPod, &tcp(ours, flags)).1).3, chosen, "flags {flags}");
    }
    assert_eq!((bench.counter(Counter::FlowsBegun), bench.counter(Counter::FlowsReplaced)), (1, 0));
}

#[test]
fn a_flow_follows_its_pod_and_its_routes() {
    let Some(mut bench) = bench() else { return };
    let here: Ends = (POD_A, 40_000, POD_B, 80);
    bench.send(Hook::FromPod, &udp(here));
    let mac = |after: &[u8]| after[5];
    assert_eq!(mac(&bench.send(Hook::FromPod, &udp(here)).1), 0xb);
    // Another Pod has the address now.
    bench.endpoint(POD_B, bench::POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xf]);
    bench.turn_epoch();
    assert_eq!(mac(&bench.send(Hook::FromPod, &udp(here)).1), 0xf);
    // And now none: the address is another node's.
    bench.remove_endpoint(POD_B);
    bench.route(POD_B, 32, ROUTE_TUNNEL, Some(PEER));
    bench.turn_epoch();
    let (verdict, after) = bench.send(Hook::FromPod, &udp(here));
    assert_eq!((verdict, &after[..6]), (REDIRECT, &OVERLAY_MAC[..]));
}

#[test]
fn a_known_flow_is_no_passport_for_another_pod() {
    let Some(mut bench) = bench() else { return };
    let ours: Ends = (POD_A, 40_000, POD_B, 80);
    assert_eq!(bench.send(Hook::FromPod, &udp(ours)).0, REDIRECT);
    // The address moves to another interface: what still comes from here is a stranger's.
    bench.endpoint(POD_A, 99, [2, 0, 0, 0, 0, 0xa]);
    bench.turn_epoch();
    assert_eq!(bench.send(Hook::FromPod, &udp(ours)).0, DROP);
    assert_eq!(bench.events().pop().map(|event| event.reason), Some(Reason::ForeignSource as u8));
    // Fragments of others are not believed either.
    let whole = udp(ours);
    let first = frame::ip(POD_A, POD_B, UDP, 0x2000, &whole[frame::L4..]);
    assert_eq!(bench.send(Hook::FromPod, &first).0, DROP);
}

#[test]
fn answers_find_their_way_though_their_row_was_let_go() {
    let Some(mut bench) = bench() else { return };
    bench.service(cluster(80, UDP), 7, &[(POD_B, 8080)]);
    let (ours, answer) = ((POD_A, 40_000, SERVICE, 80), (POD_B, 8080, POD_A, 40_000));
    bench.send(Hook::FromPod, &udp(ours));
    bench.remove_flow(&tuple(answer, UDP));
    for _ in 0..64 {
        bench.send(Hook::FromPod, &udp(ours));
    }
    let (verdict, back) = bench.send(Hook::FromPod, &udp(answer));
    assert_eq!((verdict, ends(&back)), (REDIRECT, (SERVICE, 80, POD_A, 40_000)));
    assert_eq!((bench.counter(Counter::FlowsMended), bench.counter(Counter::FlowsBegun)), (1, 1));

    // And the other way round.
    bench.remove_flow(&tuple(ours, UDP));
    for _ in 0..64 {
        bench.send(Hook::FromPod, &udp(answer));
    }
    bench.backend(70, POD_FAR, 9090, 1);
    assert_eq!(
        ends(&bench.send(Hook::FromPod, &udp(ours)).1),
        (POD_A, 40_000, POD_B, 8080),
        "the same backend"
    );
}

#[test]
fn a_tuple_of_a_dead_flow_is_taken_with_all_that_was_its() {
    let Some(mut bench) = bench() else { return };
    bench.service(cluster(80, UDP), 7, &[(POD_B, 8080)]);
    // An old flow to the Service, silent for more than its time.
    let (old, answers) = (tuple((POD_A, 40_000, SERVICE, 80), UDP), tuple((POD_B, 8080, POD_A, 40_000), UDP));
    let direct: Ends = (POD_A, 40_000, POD_B, 8080);
    let row = Flow { to: tuple(direct, UDP), flags: FLOW_DESTINATION, ..Flow::default() };
    bench.set_flow(&old, &row);
    let seen_ns = now_ns().wrapping_sub(200_000_000_000);
    bench.set_flow(&answers, &Flow { to: old.reversed(), flags: FLOW_TWIN, seen_ns, ..Flow::default() });
    let (verdict, after) = bench.send(Hook::FromPod, &udp(direct));
    assert_eq!((verdict, ends(&after)), (REDIRECT, direct), "with its own port");
    assert!(bench.flow(&old).is_none(), "its packets would meet the other flow's answers");
}

#[test]
fn the_host_complains_to_a_pod_about_what_it_sent() {
    let Some(mut bench) = bench() else { return };
    bench.service(cluster(53, UDP), 7, &[(NODE, 5353)]);
    let (verdict, sent) = bench.send(Hook::FromPod, &udp((POD_A, 40_000, SERVICE, 53)));
    assert_eq!((verdict, ends(&sent)), (NEXT, (POD_A, 40_000, NODE, 5353)));
    let error = frame::icmp(NODE, POD_A, 3, 0, &sent[frame::L3..]);
    let (verdict, back) = bench.send(Hook::ToPod, &error);
    assert_eq!((verdict, ends(&back).0, ends(&back).2), (NEXT, SERVICE, POD_A));
    let inner = [&back[..frame::L3], &back[frame::L4 + 8..]].concat();
    assert_eq!(ends(&inner), (POD_A, 40_000, SERVICE, 53), "the packet inside is as the Pod sent it");
    assert_valid(&back);
}

#[test]
fn a_service_that_leads_the_node_to_itself_says_so() {
    let Some(mut bench) = bench() else { return };
    bench.service(cluster(80, TCP), 7, &[(NODE, 8080)]);
    let (verdict, _) = bench.send(Hook::ToOverlay, &tcp((OVERLAY, 40_000, SERVICE, 80), SYN));
    assert_eq!((verdict, bench.events()[0].reason), (DROP, Reason::NodeToItself as u8));
}

#[test]
fn a_datagram_leaves_a_backend_that_is_gone_and_a_connection_stays() {
    let Some(mut bench) = bench() else { return };
    for protocol in [TCP, UDP] {
        bench.service(cluster(80, protocol), 7, &[(POD_B, 8080)]);
    }
    bench.send(Hook::FromPod, &udp((POD_A, 40_000, SERVICE, 80)));
    bench.send(Hook::FromPod, &tcp((POD_A, 40_001, SERVICE, 80), SYN));
    bench.backend(70, POD_FAR, 9090, 2);
    let (_, after) = bench.send(Hook::FromPod, &udp((POD_A, 40_000, SERVICE, 80)));
    assert_eq!(ends(&after), (POD_A, 40_000, POD_FAR, 9090));
    let (_, after) = bench.send(Hook::FromPod, &tcp((POD_A, 40_001, SERVICE, 80), ACK));
    assert_eq!(ends(&after), (POD_A, 40_001, POD_B, 8080));
    assert_eq!(bench.counter(Counter::BackendsReplaced), 1);
}

#[test]
fn fragments_follow_their_first() {
    let Some(mut bench) = bench() else { return };
    bench.service(cluster(53, UDP), 7, &[(POD_B, 5353)]);
    let later = frame::ip(POD_A, SERVICE, UDP, 185, &[7; 64]);
    let (verdict, _) = bench.send(Hook::FromPod, &later);
    assert_eq!((verdict, bench.events()[0].reason), (DROP, Reason::FragmentUnknown as u8));

    let whole = udp((POD_A, 40_000, SERVICE, 53));
    let first = frame::ip(POD_A, SERVICE, UDP, 0x2000, &whole[frame::L4..]);
    let (verdict, after) = bench.send(Hook::FromPod, &first);
    assert_eq!((verdict, ends(&after)), (REDIRECT, (POD_A, 40_000, POD_B, 5353)));
    let (verdict, after) = bench.send(Hook::FromPod, &later);
    assert_eq!((verdict, ends(&after).2), (REDIRECT, POD_B));
    assert_eq!(after[frame::L4..], [7; 64], "a later fragment has no ports to change");
    assert_eq!(bench.counter(Counter::FragmentsJoined), 1);
}

#[test]
fn echoes_are_masqueraded_and_errors_find_their_sender() {
    let Some(mut bench) = bench() else { return };
    let (verdict, after) = bench.send(Hook::FromPod, &frame::icmp(POD_A, OUTSIDE, 8, 99, &[1; 24]));
    assert_eq!((verdict, ends(&after).0), (REDIRECT, NODE));
    assert_valid(&after);
    let reply = frame::icmp(OUTSIDE, NODE, 0, frame::identifier(&after), &[1; 24]);
    let (verdict, back) = bench.send(Hook::FromUplink, &reply);
    assert_eq!((verdict, ends(&back).2, frame::identifier(&back)), (REDIRECT, POD_A, 99));
    assert_valid(&back);

    let (_, sent) = bench.send(Hook::FromPod, &udp((POD_A, 40_000, OUTSIDE, 33_434)));
    let router = Ipv4Addr::new(192, 0, 2, 1);
    let error = frame::icmp(router, NODE, 11, 0, &sent[frame::L3..]);
    let (verdict, back) = bench.send(Hook::FromUplink, &error);
    assert_eq!((verdict, ends(&back).0, ends(&back).2), (REDIRECT, router, POD_A));
    let inner = [&back[..frame::L3], &back[frame::L4 + 8..]].concat();
    assert_eq!(ends(&inner), (POD_A, 40_000, OUTSIDE, 33_434), "the packet inside is as the Pod sent it");
    assert_valid(&back);

    let (verdict, _) = bench.send(Hook::FromPod, &frame::icmp(POD_A, OUTSIDE, 3, 0, &sent[frame::L3..]));
    assert_eq!(verdict, DROP);
}

#[test]
fn nothing_is_done_before_the_settings_are_there() {
    let Some(mut bench) = bench() else { return };
    bench.configure(0);
    bench.service(cluster(80, TCP), 7, &[(POD_B, 8080)]);
    let (verdict, _) = bench.send(Hook::FromPod, &tcp((POD_A, 1, SERVICE, 80), SYN));
    assert_eq!(verdict, DROP, "per-packet balancing is switched off");
    bench.unconfigure();
    let packet = tcp((OUTSIDE, 1, SERVICE, 80), SYN);
    assert_eq!(bench.send(Hook::FromPod, &packet), (NEXT, packet));
}

#[test]
fn a_datagram_without_a_checksum_gets_none() {
    let Some(mut bench) = bench() else { return };
    bench.service(cluster(80, UDP), 7, &[(POD_B, 8080)]);
    let mut packet = udp((POD_A, 40_000, SERVICE, 80));
    packet[frame::L4 + 6..frame::L4 + 8].fill(0);
    let (verdict, after) = bench.send(Hook::FromPod, &packet);
    assert_eq!((verdict, ends(&after)), (REDIRECT, (POD_A, 40_000, POD_B, 8080)));
    assert_eq!(after[frame::L4 + 6..frame::L4 + 8], [0, 0], "zero means none (RFC 768)");
}

#[test]
fn events_that_find_the_ring_full_are_counted() {
    let Some(mut bench) = bench() else { return };
    let foreign = tcp((OUTSIDE, 1, POD_B, 80), SYN);
    let ((verdict, _), _) = bench.send_often(Hook::FromPod, &foreign, 10_000);
    let told = bench.events().len() as u64;
    assert_eq!((verdict, told + bench.counter(Counter::EventsLost)), (DROP, 10_000));
    assert!(told > 5_000, "{told}");
}

#[test]
fn headers_that_lie_about_themselves_are_malformed() {
    let Some(mut bench) = bench() else { return };
    for (name, first) in [("another version", 0x65), ("too short", 0x44), ("longer than the packet", 0x4f)] {
        let mut packet = tcp((POD_A, 1, POD_B, 80), SYN);
        packet[frame::L3] = first;
        packet.truncate(frame::L4 + 20);
        let (verdict, _) = bench.send(Hook::FromPod, &packet);
        let reason = bench.events().pop().map(|event| event.reason);
        assert_eq!((verdict, reason), (DROP, Some(Reason::Malformed as u8)), "{name}");
    }
}
