//! Past the tunnel's device: what goes into the tunnel gets the outer packet that the device would have given it, what comes out
//! of it at the uplink goes to its Pod as its row says, and all else is the device's, as it came.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/driver.rs"]
#[allow(dead_code, reason = "each test uses a part of the place")]
mod driver;
#[path = "packet/frame.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame;
#[path = "packet/frame6.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame6;
#[path = "packet/object.rs"]
mod object;
#[path = "packet/release.rs"]
mod release;

use std::net::Ipv4Addr;

use bench::{
    Bench, NEXT, NODE, OUTSIDE, PEER, POD_A, POD_A_6, POD_A_IFINDEX, POD_FAR, POD_FAR_6, REDIRECT, SERVICE,
};
use driver::{KINDS, OWN_MAC, PEER_MAC, PORT, Place, in_tunnel, ip, settings};
use frame::{ACK, SYN, TCP, UDP};
use release::takes_six_out;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::{DIRECT_RETURN, ENCRYPTED, TUNNEL_BY_DEVICE};
use weft_dataplane_abi::conntrack::{Flow, ORIGIN_UPLINK, Tuple};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::route::{OVERLAY_DIRECT_MAC, ROUTE_POD};
use weft_dataplane_abi::service::{SCOPE_CLUSTER, SCOPE_NODE, ServiceKey};

/// What the tunnel puts before a frame.
const OUTER: usize = 50;
const FAR_PORT: u16 = 8080;
/// Pod A's device.
const POD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xa];

/// What Pod A sends to the other node's Pod.
fn sent(protocol: u8, v6: bool, flags: u8) -> Vec<u8> {
    match (protocol, v6) {
        (TCP, false) => frame::tcp((POD_A, PORT, POD_FAR, FAR_PORT), flags),
        (_, false) => frame::udp((POD_A, PORT, POD_FAR, FAR_PORT)),
        (TCP, true) => frame6::tcp((POD_A_6, PORT, POD_FAR_6, FAR_PORT), flags),
        (_, true) => frame6::udp((POD_A_6, PORT, POD_FAR_6, FAR_PORT)),
    }
}

/// What that one answers.
fn answered(protocol: u8, v6: bool, flags: u8) -> Vec<u8> {
    match (protocol, v6) {
        (TCP, false) => frame::tcp((POD_FAR, FAR_PORT, POD_A, PORT), flags),
        (_, false) => frame::udp((POD_FAR, FAR_PORT, POD_A, PORT)),
        (TCP, true) => frame6::tcp((POD_FAR_6, FAR_PORT, POD_A_6, PORT), flags),
        (_, true) => frame6::udp((POD_FAR_6, FAR_PORT, POD_A_6, PORT)),
    }
}

/// The row of the answers.
fn key(protocol: u8, v6: bool) -> Tuple {
    let ends =
        |v6: bool| if v6 { (POD_FAR_6.into(), POD_A_6.into()) } else { (POD_FAR.into(), POD_A.into()) };
    let (source, destination) = ends(v6);
    Tuple {
        source,
        destination,
        source_port: Be16::new(FAR_PORT),
        destination_port: Be16::new(PORT),
        protocol,
        reserved: [0; 3],
    }
}

/// Has a flow begin and its answers' row settle, as `from_overlay` settles it when the first one comes from the other node.
fn under_way(bench: &mut Bench, protocol: u8, v6: bool) -> Flow {
    assert_eq!(bench.send(Hook::FromPod, &sent(protocol, v6, SYN)).0, REDIRECT);
    answers_settled(bench, key(protocol, v6))
}

fn answers_settled(bench: &mut Bench, key: Tuple) -> Flow {
    let mut row = bench.flow(&key).expect("the answers' row");
    (row.epoch, row.origin, row.way) = (bench.epoch, u32::from(PEER), ROUTE_POD as u8);
    let [a, b, c, d, e, f] = POD_MAC;
    row.way_words = [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, 2, 0]), 0, POD_A_IFINDEX];
    bench.set_flow(&key, &row);
    row
}

/// Has a packet say something of congestion.
fn says(v6: bool, packet: &mut [u8], what: u8) {
    if v6 {
        packet[15] = packet[15] & 0xcf | what << 4;
        return;
    }
    packet[15] = packet[15] & 0xfc | what;
    packet[24..26].fill(0);
    let sum: u32 =
        packet[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[24..26].copy_from_slice(&checksum.to_be_bytes());
}

/// Sends what is the device's.
#[track_caller]
fn is_left_to_the_device(bench: &mut Bench, hook: Hook, packet: &[u8]) -> Vec<u8> {
    let before = bench.counter(Counter::Encapsulated);
    let (verdict, after) = bench.send(hook, packet);
    assert_eq!((verdict, after.len()), (REDIRECT, packet.len()));
    assert_eq!(bench.counter(Counter::Encapsulated), before);
    after
}

/// Sends what the uplink's program must leave as it is.
#[track_caller]
fn is_left_as_it_came(bench: &mut Bench, packet: &[u8]) {
    let rows: Vec<_> = bench.flows().rows().collect();
    let (verdict, after) = bench.send(Hook::FromUplink, packet);
    assert_eq!(verdict, NEXT);
    assert!(after == packet, "changed: {after:?}");
    assert!(bench.flows().rows().eq(rows), "a row has changed");
}

#[test]
fn what_a_pod_sends_leaves_in_the_devices_outer_packet() {
    let Some(mut by_device) = Bench::new() else { return };
    Place::with(|bench| {
        for (number, (protocol, v6)) in (0..).zip(KINDS) {
            for (packet, flags) in (1..).zip([SYN, ACK]) {
                let sent = sent(protocol, v6, flags);
                let inside = is_left_to_the_device(&mut by_device, Hook::FromPod, &sent);
                let (verdict, after) = bench.send(Hook::FromPod, &sent);
                assert_eq!(verdict, REDIRECT);
                assert!(after[OUTER..] == inside, "{protocol} {v6}: {after:?}");
                assert_eq!((&after[..6], &after[6..12]), (&PEER_MAC[..], &OWN_MAC[..]));
                frame::assert_outer(&after);
                let (from, port, to, to_port) = frame::ends(&after);
                assert_eq!((from, to, to_port), (NODE, PEER, 4789));
                assert!((32_768..61_000).contains(&port), "{port}");
                assert_eq!(after[42..50], [8, 0, 0, 0, 0, 0, 1, 0]);
                assert_eq!(bench.counter(Counter::Encapsulated), 2 * number + packet);
            }
        }
    });
}

#[test]
fn so_does_what_another_node_is_to_balance() {
    Place::with(|bench| {
        settings(bench, DIRECT_RETURN);
        let packet = driver::asked(TCP, false, SYN);
        let (verdict, after) = bench.send(Hook::FromUplink, &packet);
        assert_eq!(verdict, REDIRECT);
        assert!(after[OUTER + 12..] == packet[12..], "as it came");
        assert_eq!(after[OUTER + 6..OUTER + 12], OVERLAY_DIRECT_MAC);
        frame::assert_outer(&after);
    });
}

#[test]
fn what_routers_say_of_congestion_crosses_the_tunnel() {
    Place::with(|bench| {
        for (inner, outer) in [(0, 0), (1, 1), (2, 2), (3, 2), (0xb9, 1)] {
            let mut packet = sent(UDP, false, 0);
            packet[15] = inner;
            let (verdict, after) = bench.send(Hook::FromPod, &packet);
            assert_eq!((verdict, after.len()), (REDIRECT, packet.len() + OUTER));
            assert_eq!((after[15], after[OUTER + 15]), (outer, inner));
            let mut packet = sent(UDP, true, 0);
            (packet[14], packet[15]) = (0x60 | inner >> 4, inner << 4);
            let (verdict, after) = bench.send(Hook::FromPod, &packet);
            assert_eq!((verdict, after.len()), (REDIRECT, packet.len() + OUTER));
            assert_eq!(after[15], outer);
        }
        for v6 in [false, true] {
            under_way(bench, UDP, v6);
            for said in [1, 2, 3] {
                let mut inside = answered(UDP, v6, 0);
                says(v6, &mut inside, said);
                let mut packet = in_tunnel(PEER, &inside);
                packet[15] = 3;
                let (verdict, after) = bench.send(Hook::FromUplink, &packet);
                if verdict == NEXT && v6 && !takes_six_out() {
                    continue;
                }
                assert_eq!(verdict, REDIRECT, "{v6} {said}");
                says(v6, &mut inside, 3);
                assert!(after[12..] == inside[12..], "{v6} {said}: {after:?}");
            }
            // What does not speak of it is lost, and the device does that.
            let mut packet = in_tunnel(PEER, &answered(UDP, v6, 0));
            packet[15] = 3;
            is_left_as_it_came(bench, &packet);
        }
    });
}

#[test]
fn what_the_uplink_does_not_lead_to_is_the_devices() {
    Place::with(|bench| {
        let packet = sent(TCP, false, SYN);
        let goes =
            |bench: &mut Bench| assert_eq!(bench.send(Hook::FromPod, &packet).1.len(), packet.len() + OUTER);
        goes(bench);
        ip(&format!("neigh del {PEER} dev wire"));
        is_left_to_the_device(bench, Hook::FromPod, &packet);
        ip(&format!("neigh add {PEER} lladdr 02:00:00:00:09:02 dev wire nud permanent"));
        goes(bench);
        ip("link add other type bridge");
        ip("link set other up");
        ip(&format!("route add {PEER}/32 dev other"));
        ip(&format!("neigh add {PEER} lladdr 02:00:00:00:09:03 dev other nud permanent"));
        is_left_to_the_device(bench, Hook::FromPod, &packet);
        ip(&format!("route del {PEER}/32 dev other"));
        goes(bench);
        let all = (packet.len() - 14 + OUTER) as u32;
        ip(&format!("route add {PEER}/32 dev wire mtu lock {all}"));
        goes(bench);
        ip(&format!("route change {PEER}/32 dev wire mtu lock {}", all - 1));
        is_left_to_the_device(bench, Hook::FromPod, &packet);
        ip(&format!("route del {PEER}/32 dev wire"));
        goes(bench);
        for setting in [ENCRYPTED, TUNNEL_BY_DEVICE] {
            settings(bench, setting);
            is_left_to_the_device(bench, Hook::FromPod, &packet);
            settings(bench, 0);
            goes(bench);
        }
    });
}

#[test]
fn what_is_under_way_to_a_pod_comes_out_at_the_uplink() {
    Place::with(|bench| {
        for (number, (protocol, v6)) in (1..).zip(KINDS) {
            under_way(bench, protocol, v6);
            let inside = answered(protocol, v6, ACK);
            let (verdict, after) = bench.send(Hook::FromUplink, &in_tunnel(PEER, &inside));
            if verdict == NEXT && v6 && !takes_six_out() {
                continue;
            }
            assert_eq!(verdict, REDIRECT, "{protocol} {v6}");
            assert!(after[12..] == inside[12..], "{protocol} {v6}: {after:?}");
            assert_eq!(after[..6], POD_MAC);
            let row = bench.flow(&key(protocol, v6)).expect("the row");
            assert_eq!((row.packets, row.bytes), (1, inside.len() as u64));
            assert_eq!(bench.counter(Counter::Decapsulated), number);
        }
    });
}

#[test]
fn a_services_answer_comes_out_with_the_services_address() {
    Place::with(|bench| {
        let service = ServiceKey {
            address: Address::v4(SERVICE),
            port: Be16::new(80),
            protocol: TCP,
            scope: SCOPE_CLUSTER,
        };
        bench.service(service, 5, &[(POD_FAR, FAR_PORT)]);
        let (verdict, asked) = bench.send(Hook::FromPod, &frame::tcp((POD_A, PORT, SERVICE, 80), SYN));
        assert_eq!((verdict, frame::ends(&asked[OUTER..])), (REDIRECT, (POD_A, PORT, POD_FAR, FAR_PORT)));
        answers_settled(bench, key(TCP, false));
        let packet = in_tunnel(PEER, &answered(TCP, false, ACK));
        let (verdict, after) = bench.send(Hook::FromUplink, &packet);
        assert_eq!((verdict, frame::ends(&after)), (REDIRECT, (SERVICE, 80, POD_A, PORT)));
        frame::assert_valid(&after);
    });
}

#[test]
fn a_client_may_have_the_tunnels_port() {
    Place::with(|bench| {
        let service =
            ServiceKey { address: Address::ZERO, port: Be16::new(30_081), protocol: UDP, scope: SCOPE_NODE };
        bench.service(service, 6, &[(NODE, 8080)]);
        let (verdict, asked) = bench.send(Hook::FromUplink, &frame::udp((OUTSIDE, 4789, NODE, 30_081)));
        assert_eq!((verdict, frame::ends(&asked)), (NEXT, (OUTSIDE, 4789, NODE, 8080)));
        let (verdict, answer) = bench.send(Hook::ToUplink, &frame::udp((NODE, 8080, OUTSIDE, 4789)));
        assert_eq!((verdict, frame::ends(&answer)), (NEXT, (NODE, 30_081, OUTSIDE, 4789)));
    });
}

#[test]
fn what_is_not_under_way_is_the_devices() {
    Place::with(|bench| {
        let inside = answered(TCP, false, ACK);
        let packet = in_tunnel(PEER, &inside);
        is_left_as_it_came(bench, &packet);
        let row = under_way(bench, TCP, false);
        let changed = |change: &dyn Fn(&mut Flow)| {
            let mut row = row;
            change(&mut row);
            row
        };
        let others = [
            changed(&|row| row.epoch -= 1),
            changed(&|row| row.origin = u32::from(OUTSIDE)),
            changed(&|row| row.way = weft_dataplane_abi::route::ROUTE_HOST as u8),
            changed(&|row| row.flags |= weft_dataplane_abi::conntrack::FLOW_DIRECT),
        ];
        for other in others {
            bench.set_flow(&key(TCP, false), &other);
            is_left_as_it_came(bench, &packet);
        }
        // What is no address in a row is none in a packet.
        for origin in [POD_A_IFINDEX, 0, ORIGIN_UPLINK, 0x7f00_0001, 0xe000_0001] {
            bench.set_flow(&key(TCP, false), &changed(&|row| row.origin = origin));
            is_left_as_it_came(bench, &in_tunnel(Ipv4Addr::from_bits(origin), &inside));
        }
        bench.set_flow(&key(TCP, false), &row);
        is_left_as_it_came(bench, &in_tunnel(Ipv4Addr::new(192, 168, 0, 3), &inside));
        is_left_as_it_came(bench, &in_tunnel(PEER, &answered(TCP, false, SYN | ACK)));
        let echo = Tuple {
            source_port: Be16::new(0),
            destination_port: Be16::new(1),
            protocol: frame::ICMP,
            ..key(TCP, false)
        };
        bench.set_flow(&echo, &Flow { to: echo, ..row });
        is_left_as_it_came(bench, &in_tunnel(PEER, &frame::icmp(POD_FAR, POD_A, 0, 1, b"echo")));
        let to_all = [&[0xff; 6][..], &packet[6..]].concat();
        is_left_as_it_came(bench, &to_all);
        assert_eq!(bench.send(Hook::FromUplink, &packet).0, REDIRECT);
        for setting in [ENCRYPTED, TUNNEL_BY_DEVICE] {
            settings(bench, setting);
            bench.set_flow(&key(TCP, false), &Flow { epoch: bench.epoch, ..row });
            is_left_as_it_came(bench, &packet);
        }
        settings(bench, 0);
        bench.set_flow(&key(TCP, false), &Flow { epoch: bench.epoch, ..row });
        assert_eq!(bench.send(Hook::FromUplink, &packet).0, REDIRECT);
    });
}

#[test]
fn what_is_not_plain_is_the_devices() {
    Place::with(|bench| {
        under_way(bench, TCP, false);
        let packet = in_tunnel(PEER, &answered(TCP, false, ACK));
        let spoilt = [
            ("a fragment", 20, 0x20),
            ("a later fragment", 21, 1),
            ("options", 14, 0x46),
            ("another port", 37, 0),
            ("no identifier", 42, 0),
            ("another identifier", 48, 2),
            ("a mark that is not ours", OUTER, 4),
            ("what another node is to balance", OUTER + 11, OVERLAY_DIRECT_MAC[5]),
            ("another protocol inside", OUTER + 13, 6),
            ("a fragment inside", OUTER + 20, 0x20),
        ];
        for (what, at, byte) in spoilt {
            let mut other = packet.clone();
            assert_ne!(other[at], byte, "{what}");
            other[at] = byte;
            eprintln!("{what}");
            is_left_as_it_came(bench, &other);
        }
        let mut inside = answered(TCP, false, ACK);
        inside[14] = 0x46;
        inside.splice(34..34, [1; 4]);
        is_left_as_it_came(bench, &in_tunnel(PEER, &inside));
        for bytes in [OUTER + 14, OUTER + 14 + 19, OUTER + 14 + 20 + 15] {
            is_left_as_it_came(bench, &packet[..bytes]);
        }
        assert_eq!(bench.send(Hook::FromUplink, &packet).0, REDIRECT);
    });
}
