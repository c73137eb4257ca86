//! Single IPv6 packets through the real programs, station by station: what comes in, what stands in the tables, what comes
//! out. The walk is that of IPv4; what is looked at here is what differs, and that nothing else does.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/frame6.rs"]
mod frame6;
#[path = "packet/object.rs"]
mod object;

use std::net::Ipv6Addr;

use bench::{
    Bench, DROP, NEXT, NODE_6, OUTSIDE_6, OVERLAY_6, PEER, POD_A_6, POD_B_6, POD_FAR_6, REDIRECT, SERVICE_6,
};
use frame6::{Ends, FRAGMENT, ICMP, L3, L4, TCP, UDP, assert_valid, ends, icmp, ip, tcp, tcp_with, udp};
use weft_dataplane_abi::address::{Address, FAMILY_V6};
use weft_dataplane_abi::conntrack::{FLOW_TWIN, Tuple};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::event::{EVENT_SERVICE, EVENT_SOURCE};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{OVERLAY_MAC, OVERLAY_RETURN_MAC, OVERLAY_SOURCE_MAC, ROUTE_TUNNEL};
use weft_dataplane_abi::service::{SCOPE_CLUSTER, SCOPE_NODE, SCOPE_V6, SERVICE_OUTWARD, ServiceKey};
use weft_dataplane_abi::station::Station;

const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const NODE_PORT: u16 = 30_080;
const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0x77, 0, 1);
/// An address that is no machine's.
const GIVEN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0x50, 0, 0, 0, 7);
const TOO_BIG: (u8, u8) = (2, 0);
const NO_PORT: (u8, u8) = (1, 4);

fn cluster(address: Ipv6Addr, port: u16, protocol: u8) -> ServiceKey {
    ServiceKey { address: Address::v6(address), port: Be16::new(port), protocol, scope: SCOPE_CLUSTER }
}

fn node_port(protocol: u8) -> ServiceKey {
    let scope = SCOPE_NODE | SCOPE_V6;
    ServiceKey { address: Address::ZERO, port: Be16::new(NODE_PORT), protocol, scope }
}

fn tuple(ends: Ends, protocol: u8) -> Tuple {
    Tuple {
        source: Address::v6(ends.0),
        destination: Address::v6(ends.2),
        source_port: Be16::new(ends.1),
        destination_port: Be16::new(ends.3),
        protocol,
        reserved: [0; 3],
    }
}

/// TCP and UDP, each with the packet of a flow.
type Packets = [(u8, fn(Ends, u8) -> Vec<u8>); 2];
const PACKETS: Packets = [(TCP, tcp), (UDP, |ends, _| udp(ends))];

#[test]
fn what_is_dropped_says_where_and_why() {
    let Some(mut bench) = Bench::new() else { return };
    bench.service_6(cluster(SERVICE_6, 81, TCP), 3, 0, &[]);
    let nowhere = Ipv6Addr::new(0xfd00, 0x244, 0, 9, 0, 0, 0, 9);
    let source = |station| (station, Reason::ForeignSource);
    let (here, there): (Ends, Ends) = ((POD_A_6, 1, POD_B_6, 80), (POD_A_6, 1, nowhere, 53));
    let options = [1, 4, 0, 0, 0, 0];
    let six: [(u8, &[u8]); 7] = [(60, &options); 7];
    let table: [(&str, Vec<u8>, (Station, Reason)); 9] = [
        ("foreign source", tcp((OUTSIDE_6, 1, POD_B_6, 80), SYN), source(Station::Parse)),
        (
            "foreign neighbour",
            icmp(OUTSIDE_6, multicast(), (135, 0), [0; 4], &[0; 16]),
            source(Station::Parse),
        ),
        ("no service", tcp((POD_A_6, 1, SERVICE_6, 9), SYN), (Station::Route, Reason::NoService)),
        ("no backend", tcp((POD_A_6, 1, SERVICE_6, 81), ACK), (Station::Balance, Reason::NoBackend)),
        ("no such pod", udp(there), (Station::Route, Reason::NoSuchPod)),
        ("short header", ip(POD_A_6, POD_B_6, &[], TCP, &[0; 4]), (Station::Parse, Reason::Malformed)),
        ("many headers", tcp_with(here, SYN, &six, b""), (Station::Parse, Reason::HeadersUnread)),
        (
            "a route not used up",
            tcp_with(here, SYN, &[(43, &[0, 1, 0, 0, 0, 0])], b""),
            (Station::Parse, Reason::HeadersUnread),
        ),
        (
            "an extension header cut off",
            ip(POD_A_6, POD_B_6, &[(60, &options)], 0, &[]),
            (Station::Parse, Reason::HeadersUnread),
        ),
    ];
    for (name, packet, (station, reason)) in table {
        let (verdict, _) = bench.send(Hook::FromPod, &packet);
        assert_eq!(verdict, DROP, "{name}");
        let events = bench.events();
        assert_eq!(events.len(), 1, "{name}");
        assert_eq!((events[0].station, events[0].reason), (station as u8, reason as u8), "{name}");
        assert_eq!((events[0].family, events[0].hook), (FAMILY_V6, Hook::FromPod as u8), "{name}");
    }
    for packet in [tcp((POD_FAR_6, 1, POD_A_6, 80), SYN), icmp(link(9), multicast(), (134, 0), [0; 4], &[])] {
        assert_eq!(
            bench.send(Hook::FromOverlay, &packet).0,
            DROP,
            "nobody speaks to neighbours by the tunnel"
        );
    }
}

fn link(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host)
}

fn multicast() -> Ipv6Addr {
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 6)
}

#[test]
fn what_is_of_the_link_or_not_ours_passes_untouched() {
    let Some(mut bench) = Bench::new() else { return };
    let solicitation = |source| icmp(source, multicast(), (135, 0), [0; 4], &[0; 16]);
    let seven: [(u8, &[u8]); 7] = [(60, &[1, 4, 0, 0, 0, 0]); 7];
    let table = [
        (Hook::FromPod, solicitation(POD_A_6)),
        (Hook::FromPod, solicitation(link(5))),
        (Hook::FromPod, solicitation(Ipv6Addr::UNSPECIFIED)),
        (Hook::FromPod, icmp(link(5), link(1), (136, 0), [0x60, 0, 0, 0], &[0; 16])),
        (Hook::ToPod, solicitation(link(1))),
        (Hook::FromUplink, solicitation(OUTSIDE_6)),
        (Hook::FromUplink, icmp(OUTSIDE_6, NODE_6, (135, 0), [0; 4], &[0; 16])),
        (Hook::FromUplink, tcp((OUTSIDE_6, 5_000, NODE_6, 22), SYN)),
        (Hook::FromUplink, tcp((OUTSIDE_6, 5_000, GIVEN, 80), SYN)),
        (Hook::FromUplink, tcp((OUTSIDE_6, 5_000, NODE_6, NODE_PORT), SYN)),
        (Hook::FromUplink, tcp((OUTSIDE_6, 5_000, POD_B_6, 80), SYN)),
        (Hook::FromUplink, tcp_with((OUTSIDE_6, 5_000, NODE_6, NODE_PORT), SYN, &seven, b"")),
        (Hook::ToUplink, tcp((NODE_6, 22, OUTSIDE_6, 5_000), SYN)),
    ];
    for (number, (hook, packet)) in table.into_iter().enumerate() {
        let (verdict, after) = bench.send(hook, &packet);
        assert_eq!((verdict, after == packet), (NEXT, true), "{hook}, row {number}");
    }
    assert!(bench.events().is_empty());
    assert_eq!(bench.counter(Counter::FlowsBegun), 0);
}

#[test]
fn pods_here_and_there_keep_their_addresses() {
    let Some(mut bench) = Bench::new() else { return };
    let here: Ends = (POD_A_6, 40_000, POD_B_6, 80);
    let packet = tcp(here, SYN);
    let (verdict, after) = bench.send(Hook::FromPod, &packet);
    assert_eq!((verdict, &after[12..]), (REDIRECT, &packet[12..]));
    assert_eq!(after[..12], [2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 1, 1]);
    let twin = bench.flow(&tuple(here, TCP).reversed()).expect("the twin");
    assert_eq!((twin.flags & FLOW_TWIN, twin.to), (FLOW_TWIN, tuple(here, TCP).reversed()));

    let packet = udp((POD_A_6, 40_000, POD_FAR_6, 80));
    let (verdict, after) = bench.send(Hook::FromPod, &packet);
    assert_eq!((verdict, &after[12..]), (REDIRECT, &packet[12..]));
    assert_eq!((&after[..6], &after[6..12]), (&OVERLAY_MAC[..], &OVERLAY_SOURCE_MAC[..]));

    let packet = tcp((POD_A_6, 40_000, NODE_6, 6443), SYN);
    assert_eq!(bench.send(Hook::FromPod, &packet), (NEXT, packet));
    let events = bench.events();
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event.family == FAMILY_V6 && event.flags == 0));
}

#[test]
fn a_service_is_translated_there_and_back_behind_extension_headers_too() {
    let options: &[u8] = &[1, 4, 0, 0, 0, 0];
    let used_up: &[u8] = &[4, 0, 0, 0, 0, 0];
    let whole: &[u8] = &[0, 0, 1, 2, 3, 4];
    let ways: [frame6::Extensions<'_>; 4] = [
        &[],
        &[(0, options)],
        &[(0, options), (60, options), (43, used_up), (FRAGMENT, whole), (60, options)],
        &[(60, &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
    ];
    for (protocol, packet) in PACKETS {
        let Some(mut bench) = Bench::new() else { return };
        bench.service_6(cluster(SERVICE_6, 80, protocol), 7, 0, &[(POD_B_6, 8080)]);
        let (asked, given): (Ends, Ends) =
            ((POD_A_6, 40_000, SERVICE_6, 80), (POD_A_6, 40_000, POD_B_6, 8080));
        for extensions in ways {
            let sent = match protocol {
                TCP => tcp_with(asked, SYN, extensions, b"1"),
                _ => frame6::udp_with(asked, extensions),
            };
            let (verdict, after) = bench.send(Hook::FromPod, &sent);
            assert_eq!((verdict, ends(&after)), (REDIRECT, given), "{} headers", extensions.len());
            assert_eq!(after.len(), sent.len());
            assert_valid(&after);
        }
        let (verdict, back) = bench.send(Hook::FromPod, &packet((POD_B_6, 8080, POD_A_6, 40_000), SYN | ACK));
        assert_eq!((verdict, ends(&back)), (REDIRECT, (SERVICE_6, 80, POD_A_6, 40_000)));
        assert_valid(&back);
        let events = bench.events();
        assert_eq!((events.len(), events[0].flags, events[0].service_id), (1, EVENT_SERVICE, 7));
        assert_eq!((events[0].service, events[0].backend), (Address::v6(SERVICE_6), Address::v6(POD_B_6)));
        assert_eq!(bench.counter(Counter::PacketsTranslated), 5);
    }
}

#[test]
fn the_outside_sees_the_node_and_a_pod_that_asks_itself_the_overlay() {
    let Some(mut bench) = Bench::new() else { return };
    for (protocol, packet) in PACKETS {
        let (verdict, after) = bench.send(Hook::FromPod, &packet((POD_A_6, 40_000, OUTSIDE_6, 443), SYN));
        let (source, port, destination, to_port) = ends(&after);
        assert_eq!((verdict, source, destination, to_port), (REDIRECT, NODE_6, OUTSIDE_6, 443));
        assert!((61_000..=61_007).contains(&port), "{port}");
        assert_valid(&after);
        let answer = packet((OUTSIDE_6, 443, NODE_6, port), SYN | ACK);
        let (verdict, back) = bench.send(Hook::FromUplink, &answer);
        assert_eq!((verdict, ends(&back)), (REDIRECT, (OUTSIDE_6, 443, POD_A_6, 40_000)));
        assert_valid(&back);
        assert_eq!(bench.events()[0].flags, EVENT_SOURCE);

        bench.service_6(cluster(SERVICE_6, 80, protocol), 7, 0, &[(POD_A_6, 8080)]);
        let (verdict, after) = bench.send(Hook::FromPod, &packet((POD_A_6, 40_000, SERVICE_6, 80), SYN));
        let (source, port, destination, _) = ends(&after);
        assert_eq!((verdict, source, destination), (REDIRECT, OVERLAY_6, POD_A_6));
        assert_valid(&after);
        let (_, back) = bench.send(Hook::FromPod, &packet((POD_A_6, 8080, OVERLAY_6, port), SYN | ACK));
        assert_eq!(ends(&back), (SERVICE_6, 80, POD_A_6, 40_000));
        bench.events();
    }
    assert_eq!(bench.counter(Counter::Masqueraded), 2);
}

#[test]
fn a_node_without_an_address_of_the_family_says_so() {
    let Some(mut bench) = Bench::new() else { return };
    bench.without_v6();
    let (verdict, _) = bench.send(Hook::FromPod, &tcp((POD_A_6, 40_000, OUTSIDE_6, 443), SYN));
    let event = bench.events()[0];
    assert_eq!(
        (verdict, event.station, event.reason),
        (DROP, Station::Route as u8, Reason::FamilyUnsupported as u8)
    );
}

#[test]
fn node_ports_and_given_addresses_lead_here_there_and_to_the_host() {
    let Some(mut bench) = Bench::new() else { return };
    // The port of the other family has backends of its own.
    bench.service(ServiceKey { scope: SCOPE_NODE, ..node_port(TCP) }, 6, &[(bench::POD_B, 9)]);
    for (key, flags, asked) in
        [(node_port(TCP), 0, (NODE_6, NODE_PORT)), (cluster(GIVEN, 80, TCP), SERVICE_OUTWARD, (GIVEN, 80))]
    {
        let (client, to) = (OUTSIDE_6, asked);
        bench.service_6(key, 8, flags, &[(POD_B_6, 8080)]);
        let (verdict, after) = bench.send(Hook::FromUplink, &tcp((client, 5_000, to.0, to.1), SYN));
        assert_eq!((verdict, ends(&after)), (REDIRECT, (client, 5_000, POD_B_6, 8080)));
        assert_valid(&after);
        let (verdict, back) = bench.send(Hook::FromPod, &tcp((POD_B_6, 8080, client, 5_000), SYN | ACK));
        assert_eq!((verdict, ends(&back)), (REDIRECT, (to.0, to.1, client, 5_000)));
        assert_valid(&back);
        // The answers' row would be the other address's otherwise.
        bench.remove_flow(&tuple((client, 5_000, to.0, to.1), TCP));
        bench.remove_flow(&tuple((POD_B_6, 8080, client, 5_000), TCP));

        bench.service_6(key, 9, flags, &[(POD_FAR_6, 8080)]);
        let (verdict, after) = bench.send(Hook::FromUplink, &tcp((client, 5_001, to.0, to.1), SYN));
        let (source, port, destination, to_port) = ends(&after);
        assert_eq!((verdict, source, destination, to_port), (REDIRECT, OVERLAY_6, POD_FAR_6, 8080));
        assert!((61_000..=61_007).contains(&port), "{port}");
        assert_valid(&after);

        bench.service_6(key, 10, flags, &[(NODE_6, 8080)]);
        let (verdict, after) = bench.send(Hook::FromUplink, &tcp((client, 5_002, to.0, to.1), SYN));
        assert_eq!((verdict, ends(&after)), (NEXT, (client, 5_002, NODE_6, 8080)), "up into the host");
        let (verdict, back) = bench.send(Hook::ToUplink, &tcp((NODE_6, 8080, client, 5_002), SYN | ACK));
        assert_eq!((verdict, ends(&back)), (NEXT, (to.0, to.1, client, 5_002)));
        assert_valid(&back);
        bench.remove_flow(&tuple((NODE_6, 8080, client, 5_002), TCP));
    }
    // A Pod that names the node's port is balanced where it is.
    bench.service_6(node_port(TCP), 11, 0, &[(POD_B_6, 8080)]);
    let (verdict, after) = bench.send(Hook::FromPod, &tcp((POD_A_6, 5_000, NODE_6, NODE_PORT), SYN));
    assert_eq!((verdict, ends(&after)), (REDIRECT, (POD_A_6, 5_000, POD_B_6, 8080)));
}

#[test]
fn the_nodes_own_packets_get_a_backend_and_a_key() {
    let Some(mut bench) = Bench::new() else { return };
    bench.service_6(cluster(SERVICE_6, 80, TCP), 7, 0, &[(POD_FAR_6, 8080)]);
    let (verdict, after) = bench.send(Hook::ToOverlay, &tcp((OVERLAY_6, 40_000, SERVICE_6, 80), SYN));
    assert_eq!((verdict, ends(&after)), (NEXT, (OVERLAY_6, 40_000, POD_FAR_6, 8080)));
    assert_eq!((&after[..6], &after[6..12]), (&OVERLAY_MAC[..], &OVERLAY_SOURCE_MAC[..]));
    assert_valid(&after);
}

#[test]
fn a_flow_follows_its_pod_to_another_node() {
    let Some(mut bench) = Bench::new() else { return };
    let here: Ends = (POD_A_6, 40_000, POD_B_6, 80);
    assert_eq!(bench.send(Hook::FromPod, &udp(here)).1[5], 0xb);
    bench.remove_endpoint(POD_B_6);
    bench.route(POD_B_6, 128, ROUTE_TUNNEL, Some(PEER));
    bench.turn_epoch();
    let (verdict, after) = bench.send(Hook::FromPod, &udp(here));
    assert_eq!((verdict, &after[..6]), (REDIRECT, &OVERLAY_MAC[..]));
}

#[test]
fn fragments_follow_their_first() {
    let Some(mut bench) = Bench::new() else { return };
    bench.service_6(cluster(SERVICE_6, 53, UDP), 7, 0, &[(POD_B_6, 5353)]);
    let (first, later): (&[u8], &[u8]) = (&[0, 1, 0xa, 0xb, 0xc, 0xd], &[0, 0xb8, 0xa, 0xb, 0xc, 0xd]);
    let later = ip(POD_A_6, SERVICE_6, &[(FRAGMENT, later)], UDP, &[7; 64]);
    assert_eq!(bench.send(Hook::FromPod, &later).0, DROP);
    assert_eq!(bench.events()[0].reason, Reason::FragmentUnknown as u8);

    let whole = udp((POD_A_6, 40_000, SERVICE_6, 53));
    let first = ip(POD_A_6, SERVICE_6, &[(FRAGMENT, first)], UDP, &whole[L4..]);
    let (verdict, after) = bench.send(Hook::FromPod, &first);
    assert_eq!((verdict, ends(&after)), (REDIRECT, (POD_A_6, 40_000, POD_B_6, 5353)));
    let (verdict, after) = bench.send(Hook::FromPod, &later);
    assert_eq!((verdict, ends(&after).2), (REDIRECT, POD_B_6));
    assert_eq!(after[L4 + 8..], [7; 64], "a later fragment has no ports to change");
    assert_eq!(bench.counter(Counter::FragmentsJoined), 1);
    // Another datagram's, by the half of its number that IPv4 has not.
    let other = ip(POD_A_6, SERVICE_6, &[(FRAGMENT, &[0, 0xb8, 0xa, 0xa, 0xc, 0xd])], UDP, &[7; 64]);
    assert_eq!(bench.send(Hook::FromPod, &other).0, DROP);
}

#[test]
fn echoes_are_masqueraded_and_errors_find_their_sender() {
    let Some(mut bench) = Bench::new() else { return };
    let (verdict, after) =
        bench.send(Hook::FromPod, &icmp(POD_A_6, OUTSIDE_6, (128, 0), [0, 99, 0, 1], &[1; 24]));
    assert_eq!((verdict, ends(&after).0), (REDIRECT, NODE_6));
    assert_valid(&after);
    let identifier = frame6::identifier(&after).to_be_bytes();
    let reply = icmp(OUTSIDE_6, NODE_6, (129, 0), [identifier[0], identifier[1], 0, 1], &[1; 24]);
    let (verdict, back) = bench.send(Hook::FromUplink, &reply);
    assert_eq!((verdict, ends(&back).2, frame6::identifier(&back)), (REDIRECT, POD_A_6, 99));
    assert_valid(&back);

    let (_, sent) = bench.send(Hook::FromPod, &udp((POD_A_6, 40_000, OUTSIDE_6, 33_434)));
    for kind in [TOO_BIG, NO_PORT, (3, 0)] {
        let error = icmp(ROUTER, NODE_6, kind, [0, 0, 5, 0], &sent[L3..]);
        let (verdict, back) = bench.send(Hook::FromUplink, &error);
        assert_eq!((verdict, ends(&back).0, ends(&back).2), (REDIRECT, ROUTER, POD_A_6));
        assert_eq!(inner(&back), (POD_A_6, 40_000, OUTSIDE_6, 33_434), "as the Pod sent it");
        assert_eq!(back[L4 + 4..L4 + 8], [0, 0, 5, 0], "the MTU");
        assert_valid(&back);
    }
    // An echo inside.
    let error = icmp(ROUTER, NODE_6, (3, 0), [0; 4], &after[L3..]);
    let (verdict, back) = bench.send(Hook::FromUplink, &error);
    assert_eq!((verdict, ends(&back).2, &back[L4 + 8 + 44..L4 + 8 + 46]), (REDIRECT, POD_A_6, &[0, 99][..]));
    assert_valid(&back);
    let (verdict, _) = bench.send(Hook::FromPod, &icmp(POD_A_6, OUTSIDE_6, NO_PORT, [0; 4], &sent[L3..]));
    assert_eq!(verdict, DROP, "about no flow");
}

/// The ends of the packet inside an error.
fn inner(frame: &[u8]) -> Ends {
    ends(&[&frame[..L3], &frame[L4 + 8..]].concat())
}

#[test]
fn path_mtu_is_learnt_through_services_by_clients_and_backends() {
    let Some(mut bench) = Bench::new() else { return };
    bench.service_6(cluster(SERVICE_6, 53, UDP), 7, 0, &[(POD_B_6, 5353)]);
    let (_, sent) = bench.send(Hook::FromPod, &udp((POD_A_6, 40_000, SERVICE_6, 53)));
    let error = icmp(POD_B_6, POD_A_6, TOO_BIG, [0, 0, 5, 0], &sent[L3..]);
    let (verdict, back) = bench.send(Hook::FromPod, &error);
    assert_eq!((verdict, ends(&back).0, ends(&back).2), (REDIRECT, SERVICE_6, POD_A_6));
    assert_eq!(inner(&back), (POD_A_6, 40_000, SERVICE_6, 53));
    assert_valid(&back);

    bench.service_6(cluster(GIVEN, 80, TCP), 8, SERVICE_OUTWARD, &[(POD_B_6, 8080)]);
    bench.send(Hook::FromUplink, &tcp((OUTSIDE_6, 5_000, GIVEN, 80), SYN));
    let (_, sent) = bench.send(Hook::FromPod, &tcp((POD_B_6, 8080, OUTSIDE_6, 5_000), ACK));
    let (verdict, back) =
        bench.send(Hook::FromUplink, &icmp(ROUTER, GIVEN, TOO_BIG, [0, 0, 5, 0], &sent[L3..]));
    assert_eq!((verdict, ends(&back).0, ends(&back).2), (REDIRECT, ROUTER, POD_B_6));
    assert_eq!(inner(&back), (POD_B_6, 8080, OUTSIDE_6, 5_000));
    assert_valid(&back);

    bench.service_6(cluster(SERVICE_6, 54, UDP), 9, 0, &[(NODE_6, 5353)]);
    let (verdict, sent) = bench.send(Hook::FromPod, &udp((POD_A_6, 40_000, SERVICE_6, 54)));
    assert_eq!(verdict, NEXT);
    let (verdict, back) = bench.send(Hook::ToPod, &icmp(NODE_6, POD_A_6, NO_PORT, [0; 4], &sent[L3..]));
    assert_eq!((verdict, ends(&back).0, inner(&back)), (NEXT, SERVICE_6, (POD_A_6, 40_000, SERVICE_6, 54)));
    assert_valid(&back);
}

/// A sender, by the hook that its packets meet, and the Service it asks.
type Sender = (Hook, (Ipv6Addr, u16), (Ipv6Addr, u16));
const SENDERS: [Sender; 3] = [
    (Hook::FromPod, (POD_A_6, 40_000), (SERVICE_6, 81)),
    (Hook::FromUplink, (OUTSIDE_6, 40_000), (NODE_6, NODE_PORT)),
    (Hook::ToOverlay, (OVERLAY_6, 40_000), (SERVICE_6, 81)),
];

#[test]
fn services_without_backends_refuse() {
    let Some(mut bench) = Bench::new() else { return };
    for protocol in [TCP, UDP] {
        bench.service_6(cluster(SERVICE_6, 81, protocol), 3, 0, &[]);
        bench.service_6(node_port(protocol), 4, 0, &[]);
    }
    for (hook, from, to) in SENDERS {
        let asked = (from.0, from.1, to.0, to.1);
        let (verdict, back) = bench.send(hook, &tcp_with(asked, SYN, &[], b""));
        assert_eq!((verdict, ends(&back)), (REDIRECT, (to.0, to.1, from.0, from.1)), "{hook}");
        assert_valid(&back);
        assert_eq!((back[L4 + 13], &back[L4 + 4..L4 + 12]), (RST | ACK, &[0, 0, 0, 0, 0, 0, 0, 2][..]));

        let packet = udp(asked);
        let (verdict, back) = bench.send(hook, &packet);
        assert_eq!((verdict, back.len()), (REDIRECT, L4 + 8 + 48), "{hook}");
        assert_eq!((back[L3 + 6], &back[L4..L4 + 2]), (ICMP, &[NO_PORT.0, NO_PORT.1][..]));
        assert_eq!((ends(&back).0, ends(&back).2), (to.0, from.0));
        assert_valid(&back);
        assert_eq!(back[L4 + 8..], packet[L3..L3 + 48], "the packet as it was sent");
        if hook == Hook::ToOverlay {
            assert_eq!((&back[..6], &back[6..12]), (&OVERLAY_MAC[..], &OVERLAY_RETURN_MAC[..]));
        }
        let events = bench.events();
        assert!(events.len() == 2 && events.iter().all(|event| event.reason == Reason::NoBackend as u8));
    }
    // A reset is not answered, nor what cannot be cut.
    let asked = (POD_A_6, 40_000, SERVICE_6, 81);
    let options: &[u8] = &[1, 4, 0, 0, 0, 0];
    for packet in [tcp_with(asked, RST, &[], b""), tcp(asked, ACK), frame6::udp_with(asked, &[(60, options)])]
    {
        assert_eq!(bench.send(Hook::FromPod, &packet).0, DROP);
    }
}
