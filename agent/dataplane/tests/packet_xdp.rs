//! The program at the uplink's driver: what it carries is, byte for byte, what the stack's program would have sent, and what it
//! does not carry it has not touched.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/driver.rs"]
mod driver;
#[path = "packet/frame.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame;
#[path = "packet/frame6.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame6;
#[path = "packet/object.rs"]
mod object;

use std::net::{Ipv4Addr, Ipv6Addr};

use bench::{Bench, DROP, NODE, NODE_6, OUTSIDE, OUTSIDE_6, PEER, POD_FAR, REDIRECT};
use driver::{
    KINDS, NODE_PORT, OWN_MAC, PASS, PEER_6, PEER_MAC, PORT, Place, ROUTER_MAC, TX, answered, asked, begun,
    for_uplink, in_tunnel, key, seen_now, settings, settled,
};
use frame::{ACK, FIN, SYN, TCP, UDP};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::{DIRECT_RETURN, TUNNEL_BY_DEVICE};
use weft_dataplane_abi::conntrack::Tuple;
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::ROUTE_NATIVE;
use weft_dataplane_abi::service::{SCOPE_CLUSTER, SERVICE_OUTWARD, SERVICE_SOURCES, ServiceKey};

/// What the tunnel puts before a frame.
const OUTER: usize = 50;

/// Sends a frame of a flow that must be carried, with the row under `key` seen just before.
#[track_caller]
fn carried(bench: &mut Bench, key: &Tuple, packet: &[u8]) -> Vec<u8> {
    // Now and then one is the stack's, and the machine may have been busy in between.
    for _ in 0..10 {
        seen_now(bench, key);
        let (verdict, after) = bench.send_xdp(&for_uplink(packet));
        if verdict == TX {
            return after;
        }
        assert_eq!(verdict, PASS);
    }
    panic!("never carried: {packet:?}");
}

#[track_caller]
fn assert_valid(protocol_v6: bool, packet: &[u8]) {
    if protocol_v6 { frame6::assert_valid(packet) } else { frame::assert_valid(packet) }
}

/// With the ends that the client knows.
#[track_caller]
fn assert_leaves_for_client(v6: bool, packet: &[u8]) {
    assert_valid(v6, packet);
    if v6 {
        assert_eq!(frame6::ends(packet), (NODE_6, NODE_PORT, OUTSIDE_6, PORT));
    } else {
        assert_eq!(frame::ends(packet), (NODE, NODE_PORT, OUTSIDE, PORT));
    }
}

#[track_caller]
fn passes(bench: &mut Bench, packet: &[u8]) {
    let packet = &for_uplink(packet)[..];
    let before = bench.counter(Counter::XdpCarried);
    let rows: Vec<_> = bench.flows().rows().collect();
    let (verdict, after) = bench.send_xdp(packet);
    assert_eq!(verdict, PASS);
    assert!(after == packet, "changed: {after:?}");
    assert_eq!(bench.counter(Counter::XdpCarried), before);
    assert!(bench.flows().rows().eq(rows), "a row has changed");
}

#[test]
fn a_clients_packets_go_into_the_tunnel_as_the_stack_would_put_them() {
    Place::with(|bench| {
        for (number, (protocol, v6)) in KINDS.into_iter().enumerate() {
            passes(bench, &asked(protocol, v6, SYN));
            begun(bench, protocol, v6);
            let packet = asked(protocol, v6, ACK);
            let (_, by_stack) = bench.send(Hook::FromUplink, &packet);
            let before = bench.flow(&key(protocol, v6)).expect("the flow");
            let carried = carried(bench, &key(protocol, v6), &packet);
            assert!(carried[OUTER..] == by_stack[OUTER..], "{protocol} {v6}\n{carried:?}\n{by_stack:?}");
            assert_valid(v6, &carried[OUTER..]);
            frame::assert_outer(&carried);
            assert_eq!((&carried[..6], &carried[6..12]), (&PEER_MAC[..], &OWN_MAC[..]));
            let (from, port, to, to_port) = frame::ends(&carried);
            assert_eq!((from, to, to_port), (NODE, PEER, 4789));
            assert!((32_768..61_000).contains(&port), "{port}");
            assert_eq!(carried[42..50], [8, 0, 0, 0, 0, 0, 1, 0]);
            let flow = bench.flow(&key(protocol, v6)).expect("the flow");
            assert_eq!((flow.packets, flow.bytes), (before.packets + 1, before.bytes + packet.len() as u64));
            assert_eq!(bench.counter(Counter::XdpCarried), number as u64 + 1);
        }
    });
}

#[test]
fn answers_come_out_of_the_tunnel_and_leave_for_the_client() {
    Place::with(|bench| {
        for (protocol, v6) in KINDS {
            let flow = begun(bench, protocol, v6);
            let inner = answered(protocol, v6, &flow);
            let packet = in_tunnel(PEER, &inner);
            // What nobody has settled is the stack's.
            passes(bench, &packet);
            let twin = settled(bench, &flow, u32::from(PEER));
            passes(bench, &in_tunnel(Ipv4Addr::new(192, 168, 0, 3), &inner));
            passes(bench, &inner);
            let carried = carried(bench, &twin, &packet);
            assert_eq!(carried.len(), inner.len());
            assert_eq!((&carried[..6], &carried[6..12]), (&ROUTER_MAC[..], &OWN_MAC[..]));
            assert_leaves_for_client(v6, &carried);
            let row = bench.flow(&twin).expect("the twin");
            assert_eq!((row.packets, row.bytes), (1, inner.len() as u64));
        }
    });
}

#[test]
fn native_routes_and_direct_return_are_carried_too() {
    Place::with(|bench| {
        settings(bench, DIRECT_RETURN);
        for (protocol, v6) in KINDS {
            begun(bench, protocol, v6);
            let packet = asked(protocol, v6, ACK);
            let (_, by_stack) = bench.send(Hook::FromUplink, &packet);
            let carried = carried(bench, &key(protocol, v6), &packet);
            assert!(carried[OUTER..] == by_stack[OUTER..], "{protocol} {v6}");
            assert!(carried[OUTER + 12..] == packet[12..], "as it came");
            frame::assert_outer(&carried);
        }
        bench.forget_flows();
        settings(bench, 0);
        bench.route_by(Ipv4Addr::new(10, 244, 2, 0), 24, ROUTE_NATIVE, Address::v4(PEER));
        bench.route_by(Ipv6Addr::new(0xfd00, 0x244, 0, 2, 0, 0, 0, 0), 64, ROUTE_NATIVE, Address::v6(PEER_6));
        for (protocol, v6) in KINDS {
            let flow = begun(bench, protocol, v6);
            assert_eq!(u32::from(flow.way), ROUTE_NATIVE);
            let (_, by_stack) = bench.send(Hook::FromUplink, &asked(protocol, v6, ACK));
            let there = carried(bench, &key(protocol, v6), &asked(protocol, v6, ACK));
            assert!(there[12..] == by_stack[12..], "{protocol} {v6}");
            assert_eq!((&there[..6], &there[6..12]), (&PEER_MAC[..], &OWN_MAC[..]));
            let twin = settled(bench, &flow, u32::MAX);
            let back = carried(bench, &twin, &answered(protocol, v6, &flow));
            assert_leaves_for_client(v6, &back);
        }
    });
}

#[test]
fn what_is_not_plain_is_the_stacks_and_is_not_touched() {
    Place::with(|bench| {
        begun(bench, TCP, false);
        begun(bench, UDP, false);
        let packet = asked(TCP, false, ACK);
        for (at, bytes) in [(20, [0x20, 0]), (20, [0, 9])] {
            let mut fragment = packet.clone();
            fragment[at..at + 2].copy_from_slice(&bytes);
            passes(bench, &fragment);
        }
        passes(bench, &asked(TCP, false, SYN));
        passes(bench, &frame::icmp(OUTSIDE, NODE, 8, 1, b"echo"));
        passes(bench, &frame::tcp((OUTSIDE, PORT, NODE, 22), ACK));
        // A checksum that is left to a device: the sum over the pseudo-header.
        let mut unfinished = packet.clone();
        let bytes = (packet.len() - 34) as u32;
        let mut sum: u32 = packet[26..34]
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum::<u32>()
            + u32::from(TCP)
            + bytes;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        unfinished[50..52].copy_from_slice(&(sum as u16).to_be_bytes());
        passes(bench, &unfinished);
        // Longer than the way takes, with what the tunnel adds.
        let long = frame::ip(OUTSIDE, NODE, TCP, 0, &[&packet[34..54], &vec![7; 1_440][..]].concat());
        passes(bench, &long);
        // One of a flow that was silent for long, and of one whose way may be another by now.
        let mut flow = bench.flow(&key(TCP, false)).expect("the flow");
        flow.seen_ns -= 2_000_000_000;
        bench.set_flow(&key(TCP, false), &flow);
        passes(bench, &packet);
        seen_now(bench, &key(TCP, false));
        settings(bench, 0);
        passes(bench, &packet);
        bench.unconfigure();
        passes(bench, &packet);
    });
}

#[test]
fn what_is_to_go_by_the_tunnels_device_does() {
    Place::with(|bench| {
        for setting in [0, TUNNEL_BY_DEVICE] {
            bench.forget_flows();
            settings(bench, setting);
            let flow = begun(bench, TCP, false);
            let (there, back) = (asked(TCP, false, ACK), in_tunnel(PEER, &answered(TCP, false, &flow)));
            let twin = settled(bench, &flow, u32::from(PEER));
            if setting == 0 {
                carried(bench, &key(TCP, false), &there);
                carried(bench, &twin, &back);
                continue;
            }
            seen_now(bench, &key(TCP, false));
            passes(bench, &there);
            seen_now(bench, &twin);
            passes(bench, &back);
        }
    });
}

#[test]
fn a_frame_for_another_machine_is_not_carried() {
    Place::with(|bench| {
        begun(bench, TCP, false);
        let packet = asked(TCP, false, ACK);
        let mut overheard = for_uplink(&packet);
        overheard[5] ^= 1;
        let carries = |bench: &mut Bench| {
            (0..10).any(|_| {
                seen_now(bench, &key(TCP, false));
                bench.send_xdp(&overheard).0 == TX
            })
        };
        assert!(!carries(bench));
        carried(bench, &key(TCP, false), &packet);
    });
}

#[test]
fn what_a_packet_says_of_its_connection_is_remembered() {
    Place::with(|bench| {
        begun(bench, TCP, false);
        carried(bench, &key(TCP, false), &asked(TCP, false, FIN | ACK));
        let flow = bench.flow(&key(TCP, false)).expect("the flow");
        assert_ne!(flow.tcp_seen & weft_dataplane_abi::conntrack::TCP_SEEN_FIN, 0);
    });
}

#[test]
fn it_is_counted_as_the_stack_would_count_it() {
    Place::with(|bench| {
        for (protocol, v6) in KINDS {
            begun(bench, protocol, v6);
            bench.events();
            let packet = asked(protocol, v6, ACK);
            let counts = |bench: &mut Bench| {
                let past = [Counter::XdpCarried, Counter::Encapsulated];
                let others = Counter::ALL.iter().filter(|counter| !past.contains(counter));
                others.map(|counter| bench.counter(*counter)).collect::<Vec<_>>()
            };
            let grown = |bench: &mut Bench, send: &dyn Fn(&mut Bench)| {
                let (before, row) = (counts(bench), seen_now(bench, &key(protocol, v6)));
                send(bench);
                let after = bench.flow(&key(protocol, v6)).expect("the flow");
                let counted = counts(bench).into_iter().zip(before).map(|(now, before)| now - before);
                (
                    counted.collect::<Vec<_>>(),
                    after.packets - row.packets,
                    after.bytes - row.bytes,
                    after.tcp_seen,
                )
            };
            let by_stack = grown(bench, &|bench| drop(bench.send(Hook::FromUplink, &packet)));
            let by_driver = grown(bench, &|bench| drop(carried(bench, &key(protocol, v6), &packet)));
            assert_eq!(by_stack, by_driver, "{protocol} {v6}");
            assert_eq!(by_driver.0.iter().sum::<u64>(), 1, "one packet was translated");
            assert!(bench.events().is_empty(), "the flow was told as it began");
        }
    });
}

#[test]
fn who_may_not_ask_is_the_stacks_to_refuse() {
    const GIVEN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
    Place::with(|bench| {
        let service = ServiceKey {
            address: Address::v4(GIVEN),
            port: Be16::new(80),
            protocol: TCP,
            scope: SCOPE_CLUSTER,
        };
        bench.service_with(service, 9, SERVICE_OUTWARD | SERVICE_SOURCES, &[(POD_FAR, 8080)]);
        bench.source(9, OUTSIDE, 32);
        let ask = |client: Ipv4Addr, flags: u8| frame::tcp((client, PORT, GIVEN, 80), flags);
        for flags in [SYN, ACK] {
            assert_eq!(bench.send(Hook::FromUplink, &ask(OUTSIDE, flags)).0, REDIRECT);
        }
        bench.events();
        let key = Tuple { destination: GIVEN.into(), destination_port: Be16::new(80), ..key(TCP, false) };
        carried(bench, &key, &ask(OUTSIDE, ACK));
        for flags in [SYN, ACK] {
            let other = ask(Ipv4Addr::new(203, 0, 113, 10), flags);
            passes(bench, &other);
            assert_eq!(bench.send(Hook::FromUplink, &other).0, DROP);
            let events = bench.events();
            assert_eq!((events.len(), events[0].reason), (1, Reason::SourceNotAllowed as u8));
        }
    });
}

#[test]
fn a_driver_that_leaves_too_little_room_leaves_it_to_the_stack() {
    Place::with(|bench| {
        begun(bench, TCP, false);
        let packet = for_uplink(&asked(TCP, false, ACK));
        let row = seen_now(bench, &key(TCP, false));
        // What a driver says of a frame stands before it, and takes of the 256 bytes that there are.
        let Some((verdict, after)) = bench.send_xdp_after(&[7; 252], &packet) else {
            eprintln!("this kernel has no such frames");
            return;
        };
        assert_eq!(verdict, PASS);
        assert!(after[252..] == packet, "changed: {after:?}");
        assert_eq!(bench.flow(&key(TCP, false)).expect("the flow"), row);
        assert_eq!(bench.counter(Counter::XdpCarried), 0);
        let roomy = (0..10).any(|_| {
            seen_now(bench, &key(TCP, false));
            bench.send_xdp_after(&[7; 32], &packet).is_some_and(|(verdict, _)| verdict == TX)
        });
        assert!(roomy);
    });
}
