//! Addresses of Services that the outside knows, LoadBalancer and external ones: packets that come for them by the uplink,
//! the answers, errors and fragments, and what is not touched.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/frame.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame;
#[path = "packet/object.rs"]
mod object;

use std::net::Ipv4Addr;

use bench::{Bench, DROP, NEXT, NODE, OUTSIDE, OVERLAY, POD_A, POD_B, POD_FAR, REDIRECT, SERVICE};
use frame::{ACK, SYN, TCP, UDP, assert_valid, bare_tcp, ends, tcp, udp};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::{BALANCE_PACKET, OUTWARD_HERE};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::event::{EVENT_SERVICE, Verdict};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::service::{
    SCOPE_CLUSTER, SERVICE_LOCAL, SERVICE_OUTWARD, SERVICE_SOURCES, ServiceKey,
};

/// An address that is no machine's.
const GIVEN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn key(address: Ipv4Addr, protocol: u8) -> ServiceKey {
    ServiceKey { address: Address::v4(address), port: Be16::new(80), protocol, scope: SCOPE_CLUSTER }
}

/// Both Pods are behind the one interface a test run has; `web` is at the given address and at a cluster address.
fn bench(backends: &[(Ipv4Addr, u16)]) -> Option<Bench> {
    let mut bench = Bench::new()?;
    bench.endpoint(POD_B, bench::POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xb]);
    for protocol in [TCP, UDP] {
        bench.service_with(key(GIVEN, protocol), 7, SERVICE_OUTWARD, backends);
        bench.service(key(SERVICE, protocol), 8, backends);
    }
    Some(bench)
}

/// A port of the node itself leads to a Pod of it; what has no row there is the host's, and only where there are such rows are
/// its own packets looked up at all.
#[test]
fn a_port_of_the_node_leads_to_its_pod() {
    let Some(mut bench) = Bench::new() else { return };
    bench.endpoint(POD_B, bench::POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xb]);
    for protocol in [TCP, UDP] {
        bench.service_with(key(NODE, protocol), 7, SERVICE_OUTWARD, &[(POD_B, 8080)]);
    }
    let (verdict, _) = bench.send(Hook::FromUplink, &tcp((OUTSIDE, 5_000, NODE, 80), SYN));
    assert_eq!(verdict, NEXT, "the settings say that there are none");
    bench.configure(BALANCE_PACKET | OUTWARD_HERE);
    for packet in [tcp as fn(frame::Ends, u8) -> Vec<u8>, |ends, _| udp(ends)] {
        let (verdict, after) = bench.send(Hook::FromUplink, &packet((OUTSIDE, 5_000, NODE, 80), SYN));
        assert_eq!((verdict, ends(&after)), (REDIRECT, (OUTSIDE, 5_000, POD_B, 8080)));
        assert_valid(&after);
        let (verdict, back) = bench.send(Hook::FromPod, &packet((POD_B, 8080, OUTSIDE, 5_000), SYN | ACK));
        assert_eq!((verdict, ends(&back)), (REDIRECT, (NODE, 80, OUTSIDE, 5_000)));
        assert_valid(&back);
        let other = packet((OUTSIDE, 5_000, NODE, 22), SYN);
        assert_eq!(bench.send(Hook::FromUplink, &other), (NEXT, other.clone()));
    }
}

#[test]
fn a_given_address_leads_to_a_pod_here_and_its_answers_come_from_it() {
    let Some(mut bench) = bench(&[(POD_B, 8080)]) else { return };
    for packet in [tcp as fn(frame::Ends, u8) -> Vec<u8>, |ends, _| udp(ends)] {
        let (verdict, after) = bench.send(Hook::FromUplink, &packet((OUTSIDE, 5_000, GIVEN, 80), SYN));
        assert_eq!(
            (verdict, ends(&after)),
            (REDIRECT, (OUTSIDE, 5_000, POD_B, 8080)),
            "with its own address"
        );
        assert_valid(&after);
        let (verdict, back) = bench.send(Hook::FromPod, &packet((POD_B, 8080, OUTSIDE, 5_000), SYN | ACK));
        assert_eq!((verdict, ends(&back)), (REDIRECT, (GIVEN, 80, OUTSIDE, 5_000)));
        assert_valid(&back);
        let (verdict, after) = bench.send(Hook::FromUplink, &packet((OUTSIDE, 5_000, GIVEN, 80), ACK));
        assert_eq!((verdict, ends(&after)), (REDIRECT, (OUTSIDE, 5_000, POD_B, 8080)));
        let events = bench.events();
        assert_eq!((events.len(), events[0].flags, events[0].service_id), (1, EVENT_SERVICE, 7));
        assert_eq!((events[0].service, events[0].service_port.get()), (Address::v4(GIVEN), 80));
    }
}

#[test]
fn a_given_address_leads_to_other_nodes_and_to_the_hosts_own_network() {
    let Some(mut bench) = bench(&[(POD_FAR, 8080)]) else { return };
    let (verdict, after) = bench.send(Hook::FromUplink, &tcp((OUTSIDE, 5_000, GIVEN, 80), SYN));
    let (source, port, destination, to_port) = ends(&after);
    assert_eq!((verdict, source, destination, to_port), (REDIRECT, OVERLAY, POD_FAR, 8080));
    assert!((61_000..=61_007).contains(&port), "{port}");
    assert_valid(&after);

    bench.service_with(key(GIVEN, TCP), 9, SERVICE_OUTWARD, &[(NODE, 8080)]);
    let (verdict, after) = bench.send(Hook::FromUplink, &tcp((OUTSIDE, 5_001, GIVEN, 80), SYN));
    assert_eq!((verdict, ends(&after)), (NEXT, (OUTSIDE, 5_001, NODE, 8080)), "up into the host");
    let (verdict, back) = bench.send(Hook::ToUplink, &tcp((NODE, 8080, OUTSIDE, 5_001), SYN | ACK));
    assert_eq!((verdict, ends(&back)), (NEXT, (GIVEN, 80, OUTSIDE, 5_001)));
    assert_valid(&back);
}

#[test]
fn what_is_for_others_passes_untouched() {
    let Some(mut bench) = bench(&[(POD_B, 8080)]) else { return };
    let other = Ipv4Addr::new(198, 51, 100, 8);
    let datagram = udp((OUTSIDE, 5_000, other, 80));
    let table = [
        ("another port", tcp((OUTSIDE, 5_000, GIVEN, 81), SYN)),
        ("another address", tcp((OUTSIDE, 5_000, other, 80), SYN)),
        ("a cluster address", tcp((OUTSIDE, 5_000, SERVICE, 80), SYN)),
        ("a Pod", tcp((OUTSIDE, 5_000, POD_B, 8080), SYN)),
        ("a first fragment", frame::ip(OUTSIDE, other, UDP, 0x2000, &datagram[frame::L4..])),
        ("a later fragment", frame::ip(OUTSIDE, other, UDP, 185, &[7; 64])),
        ("an echo", frame::icmp(OUTSIDE, GIVEN, 8, 9, &[1; 24])),
        ("an error", frame::icmp(ROUTER, other, 3, 0, &tcp((other, 80, OUTSIDE, 5_000), ACK)[frame::L3..])),
        ("an error cut off", frame::icmp(ROUTER, other, 3, 0, &[0x45, 0])),
    ];
    for (name, packet) in table {
        let (verdict, after) = bench.send(Hook::FromUplink, &packet);
        assert_eq!((verdict, after == packet), (NEXT, true), "{name}");
    }
    assert!(bench.events().is_empty());
    assert_eq!(bench.counter(Counter::FlowsBegun), 0);
    // And no fragment of theirs was remembered.
    bench.service_with(key(other, UDP), 10, SERVICE_OUTWARD, &[(POD_B, 8080)]);
    let (verdict, _) = bench.send(Hook::FromUplink, &frame::ip(OUTSIDE, other, UDP, 185, &[7; 64]));
    assert_eq!((verdict, bench.counter(Counter::FragmentsJoined)), (NEXT, 0));
}

#[test]
fn fragments_for_a_given_address_follow_their_first() {
    let Some(mut bench) = bench(&[(POD_B, 5353)]) else { return };
    let whole = udp((OUTSIDE, 5_000, GIVEN, 80));
    let first = frame::ip(OUTSIDE, GIVEN, UDP, 0x2000, &whole[frame::L4..]);
    let (verdict, after) = bench.send(Hook::FromUplink, &first);
    assert_eq!((verdict, ends(&after)), (REDIRECT, (OUTSIDE, 5_000, POD_B, 5353)));
    let (verdict, after) = bench.send(Hook::FromUplink, &frame::ip(OUTSIDE, GIVEN, UDP, 185, &[7; 64]));
    assert_eq!((verdict, ends(&after).2), (REDIRECT, POD_B));
    assert_eq!(after[frame::L4..], [7; 64]);
}

#[test]
fn errors_about_answers_of_a_given_address_reach_the_backend() {
    let Some(mut bench) = bench(&[(POD_B, 8080)]) else { return };
    bench.send(Hook::FromUplink, &tcp((OUTSIDE, 5_000, GIVEN, 80), SYN));
    let (_, sent) = bench.send(Hook::FromPod, &tcp((POD_B, 8080, OUTSIDE, 5_000), ACK));
    assert_eq!(ends(&sent), (GIVEN, 80, OUTSIDE, 5_000));
    let error = frame::icmp(ROUTER, GIVEN, 3, 0, &sent[frame::L3..]);
    let (verdict, back) = bench.send(Hook::FromUplink, &error);
    assert_eq!((verdict, ends(&back).0, ends(&back).2), (REDIRECT, ROUTER, POD_B));
    let inner = [&back[..frame::L3], &back[frame::L4 + 8..]].concat();
    assert_eq!(ends(&inner), (POD_B, 8080, OUTSIDE, 5_000), "the packet inside is as the Pod sent it");
    assert_valid(&back);

    // Who complains to another than the one that sent is not heard, nor who complains about what stayed inside.
    let astray = frame::icmp(ROUTER, NODE, 3, 0, &sent[frame::L3..]);
    assert_eq!(bench.send(Hook::FromUplink, &astray), (NEXT, astray));
    let inside = tcp((POD_A, 40_000, POD_B, 9090), SYN);
    bench.send(Hook::FromPod, &inside);
    let foreign = frame::icmp(ROUTER, POD_A, 3, 0, &inside[frame::L3..]);
    assert_eq!(bench.send(Hook::FromUplink, &foreign), (NEXT, foreign));
}

#[test]
fn a_given_address_without_backends_refuses_and_a_local_one_is_silent() {
    let Some(mut bench) = bench(&[]) else { return };
    let (verdict, back) = bench.send(Hook::FromUplink, &bare_tcp((OUTSIDE, 5_000, GIVEN, 80), SYN));
    assert_eq!((verdict, ends(&back)), (REDIRECT, (GIVEN, 80, OUTSIDE, 5_000)));
    assert_eq!(back[frame::L4 + 13], frame::RST | ACK);
    let event = bench.events()[0];
    assert_eq!((event.reason, event.verdict), (Reason::NoBackend as u8, Verdict::Dropped as u8));

    bench.service_with(key(GIVEN, TCP), 9, SERVICE_OUTWARD | SERVICE_LOCAL, &[]);
    let (verdict, _) = bench.send(Hook::FromUplink, &bare_tcp((OUTSIDE, 5_001, GIVEN, 80), SYN));
    assert_eq!((verdict, bench.events()[0].reason), (DROP, Reason::NoLocalBackend as u8));
}

#[test]
fn only_clients_of_the_ranges_are_let_in() {
    let Some(mut bench) = bench(&[(POD_B, 8080)]) else { return };
    let guarded = SERVICE_OUTWARD | SERVICE_SOURCES;
    bench.service_with(key(GIVEN, TCP), 7, guarded, &[(POD_B, 8080)]);
    let ask = |client: Ipv4Addr| tcp((client, 5_000, GIVEN, 80), SYN);
    let refused = |bench: &mut Bench, client: Ipv4Addr| {
        let (verdict, _) = bench.send(Hook::FromUplink, &ask(client));
        let events = bench.events();
        assert_eq!((verdict, events.len()), (DROP, 1), "{client}");
        assert_eq!((events[0].reason, events[0].service_id), (Reason::SourceNotAllowed as u8, 7), "{client}");
    };
    refused(&mut bench, OUTSIDE);
    bench.source(8, Ipv4Addr::new(0, 0, 0, 0), 0);
    refused(&mut bench, OUTSIDE);

    bench.source(7, Ipv4Addr::new(203, 0, 113, 0), 28);
    assert_eq!(bench.send(Hook::FromUplink, &ask(OUTSIDE)).0, REDIRECT);
    bench.events();
    refused(&mut bench, Ipv4Addr::new(203, 0, 113, 16));
    // Traffic from inside does not come by the load balancer.
    let (verdict, after) = bench.send(Hook::FromPod, &tcp((POD_A, 40_000, GIVEN, 80), SYN));
    assert_eq!((verdict, ends(&after)), (REDIRECT, (POD_A, 40_000, POD_B, 8080)));
}
