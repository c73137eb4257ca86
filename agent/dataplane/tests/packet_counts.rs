//! Many packets in one go: what the programs count and tell must be every one of them. What they cost is shown by
//! `cargo xtask bench packet`.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/frame.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame;
#[path = "packet/object.rs"]
mod object;

use std::net::Ipv4Addr;

use bench::{Bench, DROP, NODE, OUTSIDE, PEER, POD_A, POD_B, REDIRECT};
use frame::{ACK, Ends, SYN, TCP, assert_valid, ends, tcp};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::conntrack::{FLOW_DESTINATION, Flow, Tuple};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::route::ROUTE_TUNNEL;
use weft_dataplane_abi::service::{SCOPE_NODE, ServiceKey};

const POD_C: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 8);

fn tuple(ends: Ends) -> Tuple {
    Tuple {
        source: Address::v4(ends.0),
        destination: Address::v4(ends.2),
        source_port: Be16::new(ends.1),
        destination_port: Be16::new(ends.3),
        protocol: TCP,
        reserved: [0; 3],
    }
}

/// Each pass finds a flow that turns the packet into the other flow's, so that every pass translates, and sums must stay right
/// over all of them.
#[test]
fn every_packet_of_a_known_flow_is_translated_and_counted() {
    const PASSES: u32 = 10_000;
    let Some(mut bench) = Bench::new() else { return };
    bench.endpoint(POD_B, bench::POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xb]);
    bench.endpoint(POD_C, bench::POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xc]);
    let here: Ends = (POD_A, 40_000, POD_B, 80);
    let there: Ends = (POD_A, 40_000, POD_C, 8080);
    for (from, to) in [(here, there), (there, here)] {
        bench.set_flow(&tuple(from), &Flow { to: tuple(to), flags: FLOW_DESTINATION, ..Flow::default() });
    }
    let ((verdict, after), _) = bench.send_often(Hook::FromPod, &tcp(here, ACK), PASSES);
    assert_eq!((verdict, ends(&after)), (REDIRECT, here), "an even number of turns");
    assert_valid(&after);
    assert_eq!(bench.counter(Counter::PacketsTranslated), u64::from(PASSES));
    for from in [here, there] {
        let flow = bench.flow(&tuple(from)).expect("the flow");
        assert_eq!(flow.packets, u64::from(PASSES) / 2);
    }
    assert_eq!(bench.counter(Counter::FlowsBegun), 0);
}

/// Two node ports lead to each other through the tunnel, each time with another source port: nearly every pass begins a
/// flow, with a Service, a route, a port, both rows and an event.
#[test]
fn every_new_flow_has_an_event() {
    const PASSES: u32 = 3_000;
    let Some(mut bench) = Bench::new() else { return };
    bench.source_ports = (32_768, 65_535);
    bench.turn_epoch();
    bench.route(NODE, 32, ROUTE_TUNNEL, Some(PEER));
    let key =
        |port| ServiceKey { address: Address::ZERO, port: Be16::new(port), protocol: TCP, scope: SCOPE_NODE };
    bench.service(key(30_001), 1, &[(NODE, 30_002)]);
    bench.service(key(30_002), 2, &[(NODE, 30_001)]);
    for round in 0..4 {
        let before = bench.counter(Counter::FlowsBegun);
        let packet = tcp((OUTSIDE, 1_000 + round, NODE, 30_001), SYN);
        let ((verdict, after), _) = bench.send_often(Hook::FromUplink, &packet, PASSES);
        assert_ne!(verdict, DROP);
        assert_valid(&after);
        let begun = bench.counter(Counter::FlowsBegun) - before;
        let events = bench.events();
        assert_eq!(events.len() as u64, begun, "an event each");
        assert!(begun > u64::from(PASSES) / 2, "{begun} of {PASSES} were new");
    }
    assert_eq!(bench.counter(Counter::EventsLost), 0);
    assert_eq!(bench.counter(Counter::BalancedNodePort), bench.counter(Counter::FlowsBegun));
}
