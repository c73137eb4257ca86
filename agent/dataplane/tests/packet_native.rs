//! Native routing, station by station and in both families: who is believed, what becomes of a packet that another node's Pod
//! sends by the uplink, and what stays the host's own.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/frame.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame;
#[path = "packet/frame6.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame6;
#[path = "packet/object.rs"]
mod object;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bench::{
    Bench, DROP, NEXT, NODE, NODE_6, OUTSIDE, OUTSIDE_6, OVERLAY, OVERLAY_6, PEER, POD_A, POD_A_6,
    POD_A_IFINDEX, POD_B, POD_B_6, POD_FAR, POD_FAR_6, REDIRECT, SERVICE, SERVICE_6,
};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::{BALANCE_PACKET, ENCRYPTED, FLOW_EVENTS};
use weft_dataplane_abi::conntrack::{Flow, ORIGIN_UPLINK, Tuple};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{ROUTE_NATIVE, ROUTE_TUNNEL};
use weft_dataplane_abi::service::{SCOPE_CLUSTER, SCOPE_NODE, SCOPE_V6, ServiceKey};
use weft_dataplane_abi::station::Station;

const SYN: u8 = 2;
const ACK: u8 = 16;
const TCP: u8 = 6;
const NODE_PORT: u16 = 30_080;
/// The other node's address of IPv6, and a router on the way.
const PEER_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 77);
const ROUTER_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x77);
/// A Pod of a third node, which is no neighbour.
const POD_THIRD: Ipv4Addr = Ipv4Addr::new(10, 244, 3, 9);
const POD_THIRD_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x244, 0, 3, 0, 0, 0, 9);

type Ends = (IpAddr, u16, IpAddr, u16);

/// Who is who in one family.
struct Family {
    node: IpAddr,
    peer: IpAddr,
    overlay: IpAddr,
    a: IpAddr,
    b: IpAddr,
    far: IpAddr,
    third: IpAddr,
    nobody: IpAddr,
    outside: IpAddr,
    service: IpAddr,
    router: IpAddr,
}

fn families() -> [Family; 2] {
    [
        Family {
            node: NODE.into(),
            peer: PEER.into(),
            overlay: OVERLAY.into(),
            a: POD_A.into(),
            b: POD_B.into(),
            far: POD_FAR.into(),
            third: POD_THIRD.into(),
            nobody: Ipv4Addr::new(10, 244, 1, 99).into(),
            outside: OUTSIDE.into(),
            service: SERVICE.into(),
            router: ROUTER.into(),
        },
        Family {
            node: NODE_6.into(),
            peer: PEER_6.into(),
            overlay: OVERLAY_6.into(),
            a: POD_A_6.into(),
            b: POD_B_6.into(),
            far: POD_FAR_6.into(),
            third: POD_THIRD_6.into(),
            nobody: Ipv6Addr::new(0xfd00, 0x244, 0, 1, 0, 0, 0, 0x99).into(),
            outside: OUTSIDE_6.into(),
            service: SERVICE_6.into(),
            router: ROUTER_6.into(),
        },
    ]
}

/// Runs with the two addresses of one family.
fn either<T>(
    (a, b): (IpAddr, IpAddr),
    four: impl FnOnce(Ipv4Addr, Ipv4Addr) -> T,
    six: impl FnOnce(Ipv6Addr, Ipv6Addr) -> T,
) -> T {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => four(a, b),
        (IpAddr::V6(a), IpAddr::V6(b)) => six(a, b),
        _ => panic!("{a} and {b}"),
    }
}

fn tcp((from, port, to, to_port): Ends, flags: u8) -> Vec<u8> {
    either(
        (from, to),
        |from, to| frame::tcp((from, port, to, to_port), flags),
        |from, to| frame6::tcp((from, port, to, to_port), flags),
    )
}

fn udp((from, port, to, to_port): Ends) -> Vec<u8> {
    either(
        (from, to),
        |from, to| frame::udp((from, port, to, to_port)),
        |from, to| frame6::udp((from, port, to, to_port)),
    )
}

/// The two fragments of a datagram.
fn fragments((from, port, to, to_port): Ends) -> [Vec<u8>; 2] {
    either(
        (from, to),
        |from, to| {
            let whole = frame::udp((from, port, to, to_port));
            [
                frame::ip(from, to, frame::UDP, 0x2000, &whole[frame::L4..]),
                frame::ip(from, to, frame::UDP, 185, &[7; 64]),
            ]
        },
        |from, to| {
            let whole = frame6::udp((from, port, to, to_port));
            let piece = |place: [u8; 2], payload: &[u8]| {
                let header = [place[0], place[1], 1, 2, 3, 4];
                frame6::ip(from, to, &[(frame6::FRAGMENT, &header)], frame6::UDP, payload)
            };
            [piece([0, 1], &whole[frame6::L4..]), piece([5, 0xc0], &[7; 64])]
        },
    )
}

/// "Too big", about a packet.
fn error(from: IpAddr, to: IpAddr, about: &[u8]) -> Vec<u8> {
    either(
        (from, to),
        |from, to| frame::icmp(from, to, 3, 0, &about[frame::L3..]),
        |from, to| frame6::icmp(from, to, (2, 0), [0; 4], &about[frame6::L3..]),
    )
}

fn is_four(packet: &[u8]) -> bool {
    packet[12] == 8
}

/// The ends of a frame that is valid.
#[track_caller]
fn ends(packet: &[u8]) -> Ends {
    if is_four(packet) {
        frame::assert_valid(packet);
        let (from, port, to, to_port) = frame::ends(packet);
        return (from.into(), port, to.into(), to_port);
    }
    frame6::assert_valid(packet);
    let (from, port, to, to_port) = frame6::ends(packet);
    (from.into(), port, to.into(), to_port)
}

/// The ends of the packet that an error is about.
fn inner_ends(packet: &[u8]) -> Ends {
    if is_four(packet) {
        let inner = [&packet[..frame::L3], &packet[frame::L4 + 8..]].concat();
        let (from, port, to, to_port) = frame::ends(&inner);
        return (from.into(), port, to.into(), to_port);
    }
    let inner = [&packet[..frame6::L3], &packet[frame6::L4 + 8..]].concat();
    let (from, port, to, to_port) = frame6::ends(&inner);
    (from.into(), port, to.into(), to_port)
}

fn tuple(ends: Ends) -> Tuple {
    Tuple {
        source: ends.0.into(),
        destination: ends.2.into(),
        source_port: Be16::new(ends.1),
        destination_port: Be16::new(ends.3),
        protocol: TCP,
        reserved: [0; 3],
    }
}

fn flow(bench: &mut Bench, ends: Ends) -> Flow {
    bench.flow(&tuple(ends)).unwrap_or_else(|| panic!("no flow of {ends:?}"))
}

/// A bench whose other node is a neighbour, and a third one is none.
fn native() -> Option<Bench> {
    let mut bench = Bench::new()?;
    bench.endpoint(POD_B, POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xb]);
    bench.route_by(Ipv4Addr::new(10, 244, 2, 0), 24, ROUTE_NATIVE, Address::v4(PEER));
    bench.route_by(Ipv6Addr::new(0xfd00, 0x244, 0, 2, 0, 0, 0, 0), 64, ROUTE_NATIVE, Address::v6(PEER_6));
    bench.route_by(Ipv4Addr::new(10, 244, 3, 0), 24, ROUTE_TUNNEL, Address::v4(PEER));
    bench.route_by(Ipv6Addr::new(0xfd00, 0x244, 0, 3, 0, 0, 0, 0), 64, ROUTE_TUNNEL, Address::v4(PEER));
    Some(bench)
}

fn service(bench: &mut Bench, front: Option<IpAddr>, port: u16, backend: (IpAddr, u16)) {
    let v6 = backend.0.is_ipv6();
    let scope = match front {
        Some(_) => SCOPE_CLUSTER,
        None if v6 => SCOPE_NODE | SCOPE_V6,
        None => SCOPE_NODE,
    };
    let address = front.map_or(Address::ZERO, Address::from);
    let key = ServiceKey { address, port: Be16::new(port), protocol: TCP, scope };
    let id = if v6 { 8 } else { 7 };
    match backend {
        (IpAddr::V4(ip), port) => bench.service(key, id, &[(ip, port)]),
        (IpAddr::V6(ip), port) => bench.service_6(key, id, 0, &[(ip, port)]),
    }
}

#[test]
fn a_pod_there_is_sent_to_by_the_neighbour_and_answers() {
    let Some(mut bench) = native() else { return };
    for it in families() {
        let there: Ends = (it.a, 40_000, it.far, 80);
        let back: Ends = (it.far, 80, it.a, 40_000);
        let sent = tcp(there, SYN);
        let (verdict, after) = bench.send(Hook::FromPod, &sent);
        assert_eq!((verdict, after), (REDIRECT, sent), "as it is");
        let row = flow(&mut bench, there);
        let by = Address { words: row.way_words.map(weft_dataplane_abi::order::Be32::from_wire) };
        assert_eq!((u32::from(row.way), by.ip()), (ROUTE_NATIVE, it.peer));

        for flags in [SYN | ACK, ACK] {
            let answer = tcp(back, flags);
            let (verdict, after) = bench.send(Hook::FromUplink, &answer);
            assert_eq!((verdict, &after[12..]), (REDIRECT, &answer[12..]));
            assert_eq!(after[..12], [2, 0, 0, 0, 0, 0xa, 2, 0, 0, 0, 1, 1], "straight into the Pod");
        }
        let row = flow(&mut bench, back);
        assert_eq!((row.origin, row.packets), (ORIGIN_UPLINK, 2));
        assert_eq!(bench.events().len(), 1, "one flow");
    }
}

#[test]
fn a_pod_there_begins_with_a_pod_here_and_with_the_node() {
    let Some(mut bench) = native() else { return };
    for it in families() {
        let packet = udp((it.far, 5_000, it.b, 53));
        let (verdict, after) = bench.send(Hook::FromUplink, &packet);
        assert_eq!((verdict, &after[12..]), (REDIRECT, &packet[12..]));
        let (verdict, _) = bench.send(Hook::FromPod, &udp((it.b, 53, it.far, 5_000)));
        assert_eq!(verdict, REDIRECT);
        let to_node = tcp((it.far, 5_000, it.overlay, 10_250), SYN);
        assert_eq!(bench.send(Hook::FromUplink, &to_node), (NEXT, to_node));
        assert_eq!(bench.events().len(), 2, "both are told");
        let (verdict, _) = bench.send(Hook::FromUplink, &tcp((it.far, 5_000, it.nobody, 80), SYN));
        let event = bench.events()[0];
        let told = (event.station, event.reason, event.hook);
        let wanted = (Station::Route as u8, Reason::NoSuchPod as u8, Hook::FromUplink as u8);
        assert_eq!((verdict, told), (DROP, wanted));
    }
}

#[test]
fn who_is_no_other_nodes_pod_is_not_believed_and_stays_the_hosts_own() {
    let Some(mut bench) = native() else { return };
    for it in families() {
        // A flow within the node, and one with a neighbour's Pod: their ends are no ticket.
        bench.send(Hook::FromPod, &tcp((it.a, 40_000, it.b, 80), SYN));
        bench.send(Hook::ToPod, &tcp((it.node, 40_000, it.a, 80), SYN));
        bench.events();
        let begun = bench.counter(Counter::FlowsBegun);
        let table = [
            ("outside", tcp((it.outside, 1, it.a, 80), SYN)),
            ("a Pod of this node", tcp((it.b, 80, it.a, 40_000), SYN | ACK)),
            ("the other end of one of its flows", tcp((it.a, 40_000, it.b, 80), ACK)),
            ("this node", tcp((it.node, 40_000, it.a, 80), ACK)),
            ("this node within", tcp((it.overlay, 40_000, it.a, 80), SYN)),
            ("the other node itself", tcp((it.peer, 40_000, it.a, 80), SYN)),
            ("nobody", tcp((it.nobody, 40_000, it.a, 80), SYN)),
            ("a first fragment", fragments((it.outside, 1, it.a, 53))[0].clone()),
            ("a later fragment", fragments((it.outside, 1, it.a, 53))[1].clone()),
            ("an error", error(it.outside, it.a, &tcp((it.a, 41_000, it.outside, 80), ACK))),
        ];
        for (name, packet) in table {
            let (verdict, after) = bench.send(Hook::FromUplink, &packet);
            assert_eq!((verdict, after == packet), (NEXT, true), "{name}");
        }
        assert!(bench.events().is_empty());
        assert_eq!(bench.counter(Counter::FlowsBegun), begun);
    }
    // Nor is anybody where the node's own ranges are not known.
    bench.pod_bits = (0, 0);
    bench.turn_epoch();
    for it in families() {
        let packet = tcp((it.far, 9, it.a, 80), SYN);
        assert_eq!(bench.send(Hook::FromUplink, &packet), (NEXT, packet));
    }
}

#[test]
fn where_nodes_encrypt_nothing_of_theirs_is_taken_in_clear() {
    let Some(mut bench) = native() else { return };
    bench.configure(BALANCE_PACKET | FLOW_EVENTS | ENCRYPTED);
    for it in families() {
        let (verdict, _) = bench.send(Hook::FromUplink, &tcp((it.far, 9, it.a, 80), SYN));
        let event = bench.events()[0];
        let wanted = (DROP, Station::Parse as u8, Reason::InClear as u8);
        assert_eq!((verdict, event.station, event.reason), wanted);
        let outside = tcp((it.outside, 9, it.a, 80), SYN);
        assert_eq!(bench.send(Hook::FromUplink, &outside), (NEXT, outside));
    }
}

#[test]
fn a_node_port_leads_to_a_pod_there_and_back() {
    let Some(mut bench) = native() else { return };
    for it in families() {
        service(&mut bench, None, NODE_PORT, (it.far, 8080));
        let asked: Ends = (it.outside, 5_000, it.node, NODE_PORT);
        let (verdict, sent) = bench.send(Hook::FromUplink, &tcp(asked, SYN));
        let (from, port, to, to_port) = ends(&sent);
        assert_eq!((verdict, from, to, to_port), (REDIRECT, it.overlay, it.far, 8080));
        assert!((61_000..=61_007).contains(&port), "{port}");
        for _ in 0..2 {
            let answer = tcp((it.far, 8080, it.overlay, port), SYN | ACK);
            let (verdict, back) = bench.send(Hook::FromUplink, &answer);
            assert_eq!((verdict, ends(&back)), (REDIRECT, (it.node, NODE_PORT, it.outside, 5_000)));
        }
        // What the way there says of it reaches who asked.
        let (verdict, back) = bench.send(Hook::FromUplink, &error(it.router, it.overlay, &sent));
        assert_eq!((verdict, inner_ends(&back)), (REDIRECT, asked));
    }
}

#[test]
fn an_error_about_what_a_service_led_there_reaches_the_pod_as_it_asked() {
    let Some(mut bench) = native() else { return };
    for it in families() {
        service(&mut bench, Some(it.service), 80, (it.far, 8080));
        let asked: Ends = (it.a, 40_000, it.service, 80);
        let (verdict, sent) = bench.send(Hook::FromPod, &tcp(asked, SYN));
        assert_eq!((verdict, ends(&sent)), (REDIRECT, (it.a, 40_000, it.far, 8080)));
        let (verdict, told) = bench.send(Hook::FromUplink, &error(it.router, it.a, &sent));
        assert_eq!((verdict, inner_ends(&told)), (REDIRECT, asked));
        // And one that the Pod has to say about what came from there goes back there.
        let came = tcp((it.far, 8080, it.a, 40_000), ACK);
        let (verdict, told) = bench.send(Hook::FromUplink, &came);
        assert_eq!((verdict, ends(&told)), (REDIRECT, (it.service, 80, it.a, 40_000)));
        let (verdict, back) = bench.send(Hook::FromPod, &error(it.a, it.service, &told));
        assert_eq!((verdict, inner_ends(&back)), (REDIRECT, (it.far, 8080, it.a, 40_000)));
    }
}

#[test]
fn fragments_follow_their_first() {
    let Some(mut bench) = native() else { return };
    for it in families() {
        let [first, later] = fragments((it.far, 5_000, it.a, 53));
        let (verdict, _) = bench.send(Hook::FromUplink, &later);
        assert_eq!((verdict, bench.events()[0].reason), (DROP, Reason::FragmentUnknown as u8));
        for piece in [first, later] {
            let (verdict, after) = bench.send(Hook::FromUplink, &piece);
            assert_eq!((verdict, &after[12..]), (REDIRECT, &piece[12..]));
        }
        assert_eq!(bench.events().len(), 1, "one flow");
        for piece in fragments((it.a, 53, it.far, 5_000)) {
            assert_eq!(bench.send(Hook::FromPod, &piece).0, REDIRECT);
        }
    }
}

#[test]
fn what_the_node_itself_sends_is_tracked_and_goes_its_way() {
    let Some(mut bench) = native() else { return };
    for it in families() {
        let there: Ends = (it.overlay, 40_000, it.far, 80);
        for flags in [SYN, ACK] {
            let packet = tcp(there, flags);
            assert_eq!(bench.send(Hook::ToUplink, &packet), (NEXT, packet));
        }
        assert_eq!(flow(&mut bench, there).packets, 2);
        let answer = tcp((it.far, 80, it.overlay, 40_000), ACK);
        assert_eq!(bench.send(Hook::FromUplink, &answer), (NEXT, answer));
        let events = bench.events();
        assert_eq!((events.len(), events[0].hook), (1, Hook::ToUplink as u8));
        // What goes elsewhere is nobody's business here.
        for packet in [tcp((it.overlay, 1, it.outside, 80), SYN), tcp((it.overlay, 1, it.third, 80), SYN)] {
            assert_eq!(bench.send(Hook::ToUplink, &packet), (NEXT, packet));
        }
        assert!(bench.events().is_empty());
    }
}

#[test]
fn a_flow_outlives_a_change_of_mode() {
    let Some(mut bench) = native() else { return };
    for it in families() {
        let (there, back): (Ends, Ends) = ((it.a, 40_000, it.far, 80), (it.far, 80, it.a, 40_000));
        bench.send(Hook::FromPod, &tcp(there, SYN));
        bench.send(Hook::FromUplink, &tcp(back, SYN | ACK));
        let route = |bench: &mut Bench, kind, by: Address| match it.far {
            IpAddr::V4(_) => bench.route_by(Ipv4Addr::new(10, 244, 2, 0), 24, kind, by),
            IpAddr::V6(_) => bench.route_by(Ipv6Addr::new(0xfd00, 0x244, 0, 2, 0, 0, 0, 0), 64, kind, by),
        };
        // Into the tunnel of either family, and out of it again; the other node changes later.
        for (kind, by) in [
            (ROUTE_TUNNEL, Address::v4(PEER)),
            (ROUTE_TUNNEL, Address::v6(PEER_6)),
            (ROUTE_NATIVE, it.peer.into()),
        ] {
            route(&mut bench, kind, by);
            bench.turn_epoch();
            let (verdict, after) = bench.send(Hook::FromPod, &tcp(there, ACK));
            assert_eq!((verdict, ends(&after)), (REDIRECT, there));
            assert_eq!(u32::from(flow(&mut bench, there).way), kind);
            assert_eq!(bench.send(Hook::FromUplink, &tcp(back, ACK)).0, REDIRECT);
        }
        assert_eq!(bench.events().len(), 1, "all of it is one flow");
    }
}
