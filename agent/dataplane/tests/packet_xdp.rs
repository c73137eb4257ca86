//! The program at the uplink's driver: what it carries is, byte for byte, what the stack's program would have sent, and what it
//! does not carry it has not touched.

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

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;

use bench::{
    Bench, NODE, NODE_6, OUTSIDE, OUTSIDE_6, OVERLAY, OVERLAY_6, PEER, POD_FAR, POD_FAR_6, REDIRECT,
};
use frame::{ACK, FIN, SYN, TCP, UDP};
use weft_dataplane::netns;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::{BALANCE_PACKET, BALANCE_SOCKET, DIRECT_RETURN, FLOW_EVENTS};
use weft_dataplane_abi::conntrack::{Flow, Tuple};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::route::{OVERLAY_MAC, OVERLAY_SOURCE_MAC, ROUTE_NATIVE};
use weft_dataplane_abi::service::{SCOPE_NODE, SCOPE_V6, ServiceKey};

/// What the kernel calls the ends of such a program.
const PASS: u32 = 2;
const TX: u32 = 3;

const NODE_PORT: u16 = 30_080;
const PORT: u16 = 5_000;
/// What the tunnel puts before a frame.
const OUTER: usize = 50;
/// Addresses of frames: the uplink's own, the other node's, the router's.
const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 9, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 2];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 0xfe];

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A network namespace with an uplink whose neighbours are known.
struct Place(String);

impl Place {
    fn new() -> Self {
        static PLACES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = PLACES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let place = Self(format!("wtx{}x{number}", std::process::id()));
        let name = &place.0;
        ip(&format!("netns add {name}"));
        let inside = |arguments: &str| ip(&format!("-n {name} {arguments}"));
        inside("link add wire type veth peer name far");
        inside("link set wire address 02:00:00:00:09:01");
        inside("link set lo up");
        inside("link set far up");
        inside("link set wire up");
        inside(&format!("addr add {NODE}/24 dev wire"));
        inside(&format!("addr add {NODE_6}/64 dev wire nodad"));
        inside(&format!("neigh add {PEER} lladdr 02:00:00:00:09:02 dev wire nud permanent"));
        inside("neigh add 192.168.0.254 lladdr 02:00:00:00:09:fe dev wire nud permanent");
        inside("neigh add fe80::fe lladdr 02:00:00:00:09:fe dev wire nud permanent");
        inside("route add default via 192.168.0.254 dev wire");
        inside("route add default via fe80::fe dev wire");
        place
    }

    /// Does something there, with a bench whose uplink is the one there; nothing where tests are to be skipped.
    fn with(test: impl FnOnce(&mut Bench) + Send) {
        if object::path().is_none() {
            return;
        }
        let place = Self::new();
        let path = PathBuf::from("/run/netns").join(&place.0);
        let work = || {
            for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{setting}"), "1").expect("forwarding");
            }
            let uplink = nix::net::if_::if_nametoindex("wire").expect("the uplink");
            let mut bench = Bench::new().expect("the object is there");
            bench.uplink_ifindex = uplink;
            furnish(&mut bench);
            test(&mut bench);
        };
        netns::within(&path, work).expect("the namespace");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "del", &self.0]).output());
    }
}

fn furnish(bench: &mut Bench) {
    settings(bench, 0);
    for protocol in [TCP, UDP] {
        let key =
            ServiceKey { address: Address::ZERO, port: Be16::new(NODE_PORT), protocol, scope: SCOPE_NODE };
        bench.service(key, 7, &[(POD_FAR, 8080)]);
        bench.service_6(ServiceKey { scope: SCOPE_NODE | SCOPE_V6, ..key }, 8, 0, &[(POD_FAR_6, 8080)]);
    }
}

fn settings(bench: &mut Bench, more: u32) {
    bench.epoch += 1;
    bench.configure(BALANCE_PACKET | BALANCE_SOCKET | FLOW_EVENTS | more);
}

/// The four kinds of packet that are carried.
const KINDS: [(u8, bool); 4] = [(TCP, false), (UDP, false), (TCP, true), (UDP, true)];

/// A client's packet to the node port.
fn asked(protocol: u8, v6: bool, flags: u8) -> Vec<u8> {
    match (protocol, v6) {
        (TCP, false) => frame::tcp((OUTSIDE, PORT, NODE, NODE_PORT), flags),
        (_, false) => frame::udp((OUTSIDE, PORT, NODE, NODE_PORT)),
        (TCP, true) => frame6::tcp((OUTSIDE_6, PORT, NODE_6, NODE_PORT), flags),
        (_, true) => frame6::udp((OUTSIDE_6, PORT, NODE_6, NODE_PORT)),
    }
}

/// The backend's answer to a flow that goes to it.
fn answered(protocol: u8, v6: bool, flow: &Flow) -> Vec<u8> {
    let port = flow.to.source_port.get();
    match (protocol, v6) {
        (TCP, false) => frame::tcp((POD_FAR, 8080, OVERLAY, port), ACK),
        (_, false) => frame::udp((POD_FAR, 8080, OVERLAY, port)),
        (TCP, true) => frame6::tcp((POD_FAR_6, 8080, OVERLAY_6, port), ACK),
        (_, true) => frame6::udp((POD_FAR_6, 8080, OVERLAY_6, port)),
    }
}

fn key(protocol: u8, v6: bool) -> Tuple {
    let (source, destination): (IpAddr, IpAddr) =
        if v6 { (OUTSIDE_6.into(), NODE_6.into()) } else { (OUTSIDE.into(), NODE.into()) };
    Tuple {
        source: source.into(),
        destination: destination.into(),
        source_port: Be16::new(PORT),
        destination_port: Be16::new(NODE_PORT),
        protocol,
        reserved: [0; 3],
    }
}

/// Begins a flow by the stack's program, and has it seen there once more.
fn begun(bench: &mut Bench, protocol: u8, v6: bool) -> Flow {
    for flags in [SYN, ACK] {
        let (verdict, _) = bench.send(Hook::FromUplink, &asked(protocol, v6, flags));
        assert_eq!(verdict, REDIRECT);
    }
    seen_now(bench, &key(protocol, v6))
}

/// A row as if it had been seen in this instant.
fn seen_now(bench: &mut Bench, key: &Tuple) -> Flow {
    let mut flow = bench.flow(key).expect("the flow");
    flow.seen_ns = bench::now_ns();
    bench.set_flow(key, &flow);
    flow
}

/// Has the answers' row settled, as the stack's program settles it when the first one comes from the other node.
fn settled(bench: &mut Bench, flow: &Flow, origin: u32) -> Tuple {
    let key = flow.to.reversed();
    let mut twin = bench.flow(&key).expect("the twin");
    (twin.epoch, twin.origin, twin.way) = (bench.epoch, origin, 3);
    bench.set_flow(&key, &twin);
    seen_now(bench, &key);
    key
}

/// What the other node sends by the tunnel.
fn in_tunnel(from: Ipv4Addr, inner: &[u8]) -> Vec<u8> {
    let mut payload = [40_000u16.to_be_bytes(), 4789u16.to_be_bytes()].concat();
    payload.extend((16 + inner.len() as u16).to_be_bytes());
    payload.extend([0, 0, 8, 0, 0, 0, 0, 0, 1, 0]);
    payload.extend(OVERLAY_MAC);
    payload.extend(OVERLAY_SOURCE_MAC);
    payload.extend(&inner[12..]);
    frame::ip(from, NODE, UDP, 0, &payload)
}

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

/// A frame for the uplink.
fn for_uplink(packet: &[u8]) -> Vec<u8> {
    [&OWN_MAC[..], &packet[6..]].concat()
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
            assert!(carried[OUTER..] == by_stack, "{protocol} {v6}\n{carried:?}\n{by_stack:?}");
            assert_valid(v6, &carried[OUTER..]);
            frame::assert_valid(&carried[..]);
            assert_eq!((&carried[..6], &carried[6..12]), (&PEER_MAC[..], &OWN_MAC[..]));
            let (from, port, to, to_port) = frame::ends(&carried);
            assert_eq!((from, to, to_port), (NODE, PEER, 4789));
            assert!((32_768..61_000).contains(&port), "{port}");
            assert_ne!(carried[40..42], [0, 0], "the outer checksum");
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
            assert_valid(v6, &carried);
            assert_eq!((&carried[..6], &carried[6..12]), (&ROUTER_MAC[..], &OWN_MAC[..]));
            if v6 {
                assert_eq!(frame6::ends(&carried), (NODE_6, NODE_PORT, OUTSIDE_6, PORT));
            } else {
                assert_eq!(frame::ends(&carried), (NODE, NODE_PORT, OUTSIDE, PORT));
            }
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
            assert!(carried[OUTER..] == by_stack, "{protocol} {v6}");
            assert!(carried[OUTER + 12..] == packet[12..], "as it came");
            frame::assert_valid(&carried);
        }
        bench.forget_flows();
        settings(bench, 0);
        bench.route(Ipv4Addr::new(10, 244, 2, 0), 24, ROUTE_NATIVE, Some(PEER));
        for protocol in [TCP, UDP] {
            let flow = begun(bench, protocol, false);
            let (_, by_stack) = bench.send(Hook::FromUplink, &asked(protocol, false, ACK));
            let there = carried(bench, &key(protocol, false), &asked(protocol, false, ACK));
            assert!(there[12..] == by_stack[12..]);
            assert_eq!((&there[..6], &there[6..12]), (&PEER_MAC[..], &OWN_MAC[..]));
            let twin = settled(bench, &flow, u32::MAX);
            let back = carried(bench, &twin, &answered(protocol, false, &flow));
            assert_eq!(frame::ends(&back), (NODE, NODE_PORT, OUTSIDE, PORT));
            frame::assert_valid(&back);
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
