//! Direct return, at the node that an outside client asks: what is for another node's Pod goes there as it came, and so do
//! errors about what that node has answered. What becomes of it there needs a tunnel: the cluster tests show it.

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
    Bench, DROP, NEXT, NODE, NODE_6, OUTSIDE, OUTSIDE_6, OVERLAY, PEER, POD_B, POD_FAR, POD_FAR_6, REDIRECT,
};
use frame::{ACK, FIN, L3, RST, SYN, TCP, UDP};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::{BALANCE_PACKET, BALANCE_SOCKET, DIRECT_RETURN, FLOW_EVENTS};
use weft_dataplane_abi::conntrack::{FLOW_DIRECT, FLOW_NODE_PORT, Flow, Tuple};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::event::{EVENT_SERVICE, EVENT_SOURCE};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{OVERLAY_DIRECT_MAC, OVERLAY_MAC, ROUTE_NATIVE, ROUTE_NOWHERE, ROUTE_TUNNEL};
use weft_dataplane_abi::service::{SCOPE_CLUSTER, SCOPE_NODE, SCOPE_V6, SERVICE_OUTWARD, ServiceKey};

const NODE_PORT: u16 = 30_080;
/// Addresses that are no machine's.
const GIVEN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const GIVEN_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x50, 0, 0, 0, 0, 7);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ROUTER_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x60, 0, 0, 0, 0, 1);

fn settings(bench: &mut Bench, direct: bool) {
    bench.epoch += 1;
    let flags = BALANCE_PACKET | BALANCE_SOCKET | FLOW_EVENTS;
    bench.configure(if direct { flags | DIRECT_RETURN } else { flags });
}

fn node_port(protocol: u8) -> ServiceKey {
    ServiceKey { address: Address::ZERO, port: Be16::new(NODE_PORT), protocol, scope: SCOPE_NODE }
}

/// Services at a node port and at given addresses of both families, before Pods of another node.
fn furnish(bench: &mut Bench) {
    settings(bench, true);
    for protocol in [TCP, UDP] {
        let port = Be16::new(80);
        let given = |address: Address| ServiceKey { address, port, protocol, scope: SCOPE_CLUSTER };
        bench.service(node_port(protocol), 7, &[(POD_FAR, 8080)]);
        let scope = SCOPE_NODE | SCOPE_V6;
        bench.service_6(ServiceKey { scope, ..node_port(protocol) }, 8, 0, &[(POD_FAR_6, 8080)]);
        bench.service_with(given(Address::v4(GIVEN)), 9, SERVICE_OUTWARD, &[(POD_FAR, 8080)]);
        bench.service_6(given(Address::v6(GIVEN_6)), 10, SERVICE_OUTWARD, &[(POD_FAR_6, 8080)]);
    }
}

fn bench() -> Option<Bench> {
    let mut bench = Bench::new()?;
    furnish(&mut bench);
    Some(bench)
}

fn tuple(source: impl Into<Address>, source_port: u16, to: impl Into<Address>, port: u16, of: u8) -> Tuple {
    Tuple {
        source: source.into(),
        destination: to.into(),
        source_port: Be16::new(source_port),
        destination_port: Be16::new(port),
        protocol: of,
        reserved: [0; 3],
    }
}

/// What a test sends to the node port.
fn asked(port: u16, flags: u8) -> Vec<u8> {
    frame::tcp((OUTSIDE, port, NODE, NODE_PORT), flags)
}

fn row(bench: &mut Bench, port: u16) -> Flow {
    bench.flow(&tuple(OUTSIDE, port, NODE, NODE_PORT, TCP)).expect("the flow")
}

/// Sends a packet that must go into the tunnel byte for byte, marked.
#[track_caller]
fn as_it_came(bench: &mut Bench, packet: &[u8]) {
    let (verdict, after) = bench.send(Hook::FromUplink, packet);
    assert_eq!(verdict, REDIRECT);
    assert_eq!((&after[..6], &after[6..12]), (&OVERLAY_MAC[..], &OVERLAY_DIRECT_MAC[..]));
    assert!(after[12..] == packet[12..], "changed: {after:?}");
    // The other program on its way knows that it has been walked.
    assert_eq!(bench.send(Hook::ToOverlay, &after), (NEXT, after));
}

#[test]
fn what_is_for_another_nodes_pod_goes_there_as_it_came() {
    let Some(mut bench) = bench() else { return };
    let v4 = |to: Ipv4Addr, port: u16, protocol: u8, flags: u8| match protocol {
        TCP => frame::tcp((OUTSIDE, 5_000, to, port), flags),
        _ => frame::udp((OUTSIDE, 5_000, to, port)),
    };
    let v6 = |to: Ipv6Addr, port: u16, protocol: u8, flags: u8| match protocol {
        TCP => frame6::tcp((OUTSIDE_6, 5_000, to, port), flags),
        _ => frame6::udp((OUTSIDE_6, 5_000, to, port)),
    };
    for (number, protocol) in [TCP, UDP].into_iter().enumerate() {
        for (id, to, port) in [
            (7, IpAddr::from(NODE), NODE_PORT),
            (8, NODE_6.into(), NODE_PORT),
            (9, GIVEN.into(), 80),
            (10, GIVEN_6.into(), 80),
        ] {
            let packet = |flags: u8| match to {
                IpAddr::V4(to) => v4(to, port, protocol, flags),
                IpAddr::V6(to) => v6(to, port, protocol, flags),
            };
            let (client, backend): (IpAddr, IpAddr) = if to.is_ipv4() {
                (OUTSIDE.into(), POD_FAR.into())
            } else {
                (OUTSIDE_6.into(), POD_FAR_6.into())
            };
            as_it_came(&mut bench, &packet(SYN));
            as_it_came(&mut bench, &packet(ACK));
            let key = tuple(client, 5_000, to, port, protocol);
            let flow = bench.flow(&key).expect("the flow");
            assert_eq!((flow.flags, u32::from(flow.way)), (FLOW_DIRECT | FLOW_NODE_PORT, ROUTE_TUNNEL));
            assert_eq!((flow.service_id, flow.backend_id, flow.packets), (id, id * 10, 2));
            assert_eq!(flow.to, tuple(client, 5_000, backend, 8080, protocol));
            assert_eq!((bench.flow(&key.reversed()), bench.flow(&flow.to.reversed())), (None, None));
            let events = bench.events();
            assert_eq!(events.len(), 1, "one event a flow");
            assert_eq!(events[0].flags & (EVENT_SERVICE | EVENT_SOURCE), EVENT_SERVICE);
            assert_eq!((events[0].backend, events[0].backend_port.get()), (backend.into(), 8080));
        }
        assert_eq!(bench.counter(Counter::DirectSent), 4 * (number as u64 + 1));
    }
    assert_eq!(bench.counter(Counter::PacketsTranslated), 0);
}

#[test]
fn neighbours_hear_of_it_by_the_tunnel_whatever_else_goes_natively() {
    let Some(mut bench) = bench() else { return };
    let peer_6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2);
    bench.route_by(Ipv4Addr::new(10, 244, 2, 0), 24, ROUTE_NATIVE, Address::v4(PEER));
    bench.route_by(Ipv6Addr::new(0xfd00, 0x244, 0, 2, 0, 0, 0, 0), 64, ROUTE_NATIVE, Address::v6(peer_6));
    for (packet, key) in [
        (asked(5_000, SYN), tuple(OUTSIDE, 5_000, NODE, NODE_PORT, TCP)),
        (
            frame6::tcp((OUTSIDE_6, 5_000, NODE_6, NODE_PORT), SYN),
            tuple(OUTSIDE_6, 5_000, NODE_6, NODE_PORT, TCP),
        ),
    ] {
        as_it_came(&mut bench, &packet);
        // And so it does when its row is made true again.
        settings(&mut bench, true);
        as_it_came(&mut bench, &packet);
        let flow = bench.flow(&key).expect("the flow");
        assert_eq!((flow.flags, u32::from(flow.way)), (FLOW_DIRECT | FLOW_NODE_PORT, ROUTE_TUNNEL));
    }
    // Without the setting this node answers, with its own address in the other's sight.
    settings(&mut bench, false);
    let (verdict, after) = bench.send(Hook::FromUplink, &asked(5_001, SYN));
    assert_eq!((verdict, frame::ends(&after).0, frame::ends(&after).2), (REDIRECT, OVERLAY, POD_FAR));
}

#[test]
fn pods_here_hosts_elsewhere_and_nodes_without_the_setting_are_served_as_before() {
    let Some(mut bench) = bench() else { return };
    bench.service(node_port(TCP), 7, &[(POD_B, 8080)]);
    let (verdict, after) = bench.send(Hook::FromUplink, &asked(5_000, SYN));
    assert_eq!((verdict, frame::ends(&after)), (REDIRECT, (OUTSIDE, 5_000, POD_B, 8080)));
    bench.service(node_port(TCP), 7, &[(PEER, 8080)]);
    let (verdict, after) = bench.send(Hook::FromUplink, &asked(5_001, SYN));
    assert_eq!((verdict, frame::ends(&after).0, frame::ends(&after).2), (REDIRECT, NODE, PEER));

    // A flow stays as it began, whatever the setting becomes.
    bench.service(node_port(TCP), 7, &[(POD_FAR, 8080)]);
    as_it_came(&mut bench, &asked(5_002, SYN));
    settings(&mut bench, false);
    let (verdict, after) = bench.send(Hook::FromUplink, &asked(5_003, SYN));
    assert_eq!((verdict, frame::ends(&after).0, frame::ends(&after).2), (REDIRECT, OVERLAY, POD_FAR));
    as_it_came(&mut bench, &asked(5_002, ACK));
    settings(&mut bench, true);
    let (_, after) = bench.send(Hook::FromUplink, &asked(5_003, ACK));
    assert_eq!((frame::ends(&after).0, frame::ends(&after).2), (OVERLAY, POD_FAR));
    assert_eq!(bench.counter(Counter::DirectSent), 1);
}

#[test]
fn fragments_go_after_their_first() {
    let Some(mut bench) = bench() else { return };
    for (to, port) in [(NODE, NODE_PORT), (GIVEN, 80)] {
        let whole = frame::udp((OUTSIDE, 5_000, to, port));
        as_it_came(&mut bench, &frame::ip(OUTSIDE, to, UDP, 0x2000, &whole[frame::L4..]));
        as_it_came(&mut bench, &frame::ip(OUTSIDE, to, UDP, 185, &[7; 64]));
    }
    let (first, later) = ([0, 1, 0, 0, 0, 9], [0, 0xb8, 0, 0, 0, 9]);
    let whole = frame6::udp_with((OUTSIDE_6, 5_000, GIVEN_6, 80), &[(frame6::FRAGMENT, &first)]);
    as_it_came(&mut bench, &whole);
    as_it_came(&mut bench, &frame6::ip(OUTSIDE_6, GIVEN_6, &[(frame6::FRAGMENT, &later)], UDP, &[7; 64]));
    assert_eq!(bench.counter(Counter::FragmentsJoined), 3);
}

#[test]
fn errors_about_what_that_node_has_answered_go_there_too() {
    let Some(mut bench) = bench() else { return };
    for (to, port) in [(NODE, NODE_PORT), (GIVEN, 80)] {
        let answer = frame::tcp((to, port, OUTSIDE, 5_000), ACK);
        let error = frame::icmp(ROUTER, to, 3, 0, &answer[L3..]);
        assert_eq!(bench.send(Hook::FromUplink, &error), (NEXT, error.clone()), "nobody was answered yet");
        as_it_came(&mut bench, &frame::tcp((OUTSIDE, 5_000, to, port), SYN));
        as_it_came(&mut bench, &error);
        let other = if to == NODE { GIVEN } else { NODE };
        let astray = frame::icmp(ROUTER, other, 3, 0, &answer[L3..]);
        assert_eq!(bench.send(Hook::FromUplink, &astray), (NEXT, astray), "nobody's there");
    }
    for (to, port) in [(NODE_6, NODE_PORT), (GIVEN_6, 80)] {
        as_it_came(&mut bench, &frame6::tcp((OUTSIDE_6, 5_000, to, port), SYN));
        let answer = frame6::tcp((to, port, OUTSIDE_6, 5_000), ACK);
        as_it_came(&mut bench, &frame6::icmp(ROUTER_6, to, (2, 0), [0, 0, 5, 0], &answer[L3..]));
    }
    assert_eq!(bench.counter(Counter::ErrorsTranslated), 0);
    // Where the way is not known any more, an error has none either.
    bench.route(POD_FAR, 32, ROUTE_NOWHERE, None);
    bench.events();
    let answer = frame::tcp((NODE, NODE_PORT, OUTSIDE, 5_000), ACK);
    let (verdict, _) = bench.send(Hook::FromUplink, &frame::icmp(ROUTER, NODE, 3, 0, &answer[L3..]));
    assert_eq!((verdict, bench.events()[0].reason), (DROP, Reason::NoSuchPod as u8));
}

#[test]
fn a_connection_stays_with_its_node_until_the_client_ends_it() {
    let Some(mut bench) = bench() else { return };
    as_it_came(&mut bench, &asked(5_000, SYN));
    as_it_came(&mut bench, &asked(5_000, ACK));
    // Another backend is in front now: it is for new ones.
    let other = Ipv4Addr::new(10, 244, 2, 8);
    bench.backend(75, other, 8080, 1);
    bench.service(node_port(TCP), 7, &[(other, 8080)]);
    bench.backend(70, other, 8080, 1);
    for flags in [SYN, ACK, SYN] {
        as_it_came(&mut bench, &asked(5_000, flags));
        assert_eq!(row(&mut bench, 5_000).to.destination, Address::v4(POD_FAR));
    }
    for end in [FIN | ACK, RST] {
        as_it_came(&mut bench, &asked(5_000, end));
        as_it_came(&mut bench, &asked(5_000, SYN));
        let flow = row(&mut bench, 5_000);
        assert_eq!((flow.to.destination, flow.packets), (Address::v4(other), 1), "begun anew");
        as_it_came(&mut bench, &asked(5_000, ACK));
    }
    // One that the table had no room for is chosen for again, in the middle.
    bench.forget_flows();
    as_it_came(&mut bench, &asked(5_000, ACK));
    assert_eq!(row(&mut bench, 5_000).to.destination, Address::v4(other));
}

#[test]
fn datagrams_leave_a_backend_that_is_gone() {
    let Some(mut bench) = bench() else { return };
    let packet = frame::udp((OUTSIDE, 5_000, NODE, NODE_PORT));
    as_it_came(&mut bench, &packet);
    let other = Ipv4Addr::new(10, 244, 2, 8);
    bench.backend(70, other, 8080, 2);
    as_it_came(&mut bench, &packet);
    let flow = bench.flow(&tuple(OUTSIDE, 5_000, NODE, NODE_PORT, UDP)).expect("the flow");
    assert_eq!((flow.to.destination, flow.generation), (Address::v4(other), 2));
    assert_eq!(bench.counter(Counter::BackendsReplaced), 1);
    // And one that is here is served here.
    bench.backend(70, POD_B, 8080, 3);
    let (verdict, after) = bench.send(Hook::FromUplink, &packet);
    assert_eq!((verdict, frame::ends(&after)), (REDIRECT, (OUTSIDE, 5_000, POD_B, 8080)));
    frame::assert_valid(&after);
}

#[test]
fn a_way_that_is_gone_is_not_gone() {
    let Some(mut bench) = bench() else { return };
    as_it_came(&mut bench, &asked(5_000, SYN));
    settings(&mut bench, true);
    as_it_came(&mut bench, &asked(5_000, ACK));
    bench.route(POD_FAR, 32, ROUTE_NOWHERE, None);
    settings(&mut bench, true);
    bench.events();
    let (verdict, _) = bench.send(Hook::FromUplink, &asked(5_000, ACK));
    assert_eq!((verdict, bench.events()[0].reason), (DROP, Reason::NoSuchPod as u8));
    // Never untranslated into a Pod: that would be an address which it does not have.
    bench.endpoint(POD_FAR, bench::POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xc]);
    settings(&mut bench, true);
    let (verdict, _) = bench.send(Hook::FromUplink, &asked(5_000, ACK));
    assert_eq!(verdict, DROP);
}

#[test]
fn programs_that_look_tell_of_it_and_write_nothing() {
    let Some(mut bench) = Bench::dry() else { return };
    furnish(&mut bench);
    let before = bench.bytes();
    let (verdict, after) = bench.send(Hook::FromUplink, &asked(5_000, SYN));
    assert_eq!((verdict, &after[6..12]), (REDIRECT, &OVERLAY_DIRECT_MAC[..]));
    let walked = bench.walked();
    assert_eq!(walked.flow.flags, FLOW_DIRECT | FLOW_NODE_PORT);
    assert_eq!(walked.flow.to.destination, Address::v4(POD_FAR));
    assert!(bench.bytes() == before, "a table has changed");
}
