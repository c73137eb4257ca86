//! What a packet costs, by `BPF_PROG_TEST_RUN`: a guard, and a figure to look at. The machine does other things too, so that
//! the least of several rounds is taken, less what a run costs that does nothing.

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
use frame::{ACK, Ends, SYN, TCP, tcp};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::conntrack::{FLOW_DESTINATION, Flow, Tuple};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::route::ROUTE_TUNNEL;
use weft_dataplane_abi::service::{SCOPE_NODE, ServiceKey};

const POD_C: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 8);
const ROUNDS: u32 = 15;

/// Nanoseconds of one run of those that take least.
fn least(bench: &mut Bench, hook: Hook, packet: &[u8], repeat: u32, verdict: u32) -> u64 {
    let times = (0..ROUNDS).map(|_| {
        let ((got, _), time) = bench.send_often(hook, packet, repeat);
        assert_eq!(got, verdict);
        bench.events();
        time.as_nanos() as u64
    });
    times.min().expect("rounds")
}

/// What a run costs in which the program does nothing.
fn nothing(hook: Hook, packet: &[u8]) -> u64 {
    let mut bench = Bench::new().expect("an object");
    bench.unconfigure();
    least(&mut bench, hook, packet, 100_000, bench::NEXT)
}

/// Each pass finds a flow that turns the packet into the other flow's, so that every pass translates.
#[test]
fn an_established_packet_is_quick() {
    let Some(mut bench) = Bench::new() else { return };
    bench.endpoint(POD_B, bench::POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xb]);
    bench.endpoint(POD_C, bench::POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xc]);
    let here: Ends = (POD_A, 40_000, POD_B, 80);
    let there: Ends = (POD_A, 40_000, POD_C, 8080);
    let tuple = |ends: Ends| Tuple {
        source: Address::v4(ends.0),
        destination: Address::v4(ends.2),
        source_port: Be16::new(ends.1),
        destination_port: Be16::new(ends.3),
        protocol: TCP,
        reserved: [0; 3],
    };
    for (from, to) in [(here, there), (there, here)] {
        bench.set_flow(&tuple(from), &Flow { to: tuple(to), flags: FLOW_DESTINATION, ..Flow::default() });
    }
    let packet = tcp(here, ACK);
    let all = least(&mut bench, Hook::FromPod, &packet, 100_000, REDIRECT);
    assert_eq!(bench.counter(Counter::PacketsTranslated), u64::from(ROUNDS) * 100_000);
    let idle = nothing(Hook::FromPod, &packet);
    println!("{} ns for an established translated packet ({all} less {idle})", all - idle);
    assert!(all - idle < 2_000);
}

/// Two node ports lead to each other through the tunnel, each time with another source port: nearly every pass begins a
/// flow, with a Service, a route, a port, both rows and an event.
#[test]
fn a_new_flow_is_quick() {
    const RUNS: u32 = 3_000;
    let Some(mut bench) = Bench::new() else { return };
    bench.source_ports = (32_768, 65_535);
    bench.turn_epoch();
    bench.route(NODE, 32, ROUTE_TUNNEL, Some(PEER));
    let key =
        |port| ServiceKey { address: Address::ZERO, port: Be16::new(port), protocol: TCP, scope: SCOPE_NODE };
    bench.service(key(30_001), 1, &[(NODE, 30_002)]);
    bench.service(key(30_002), 2, &[(NODE, 30_001)]);
    let mut best = u64::MAX;
    for round in 0..8 {
        let before = bench.counter(Counter::FlowsBegun);
        let packet = tcp((OUTSIDE, 1_000 + round, NODE, 30_001), SYN);
        let ((verdict, _), time) = bench.send_often(Hook::FromUplink, &packet, RUNS);
        assert_ne!(verdict, DROP);
        let begun = bench.counter(Counter::FlowsBegun) - before;
        assert_eq!(bench.events().len() as u64, begun, "an event each");
        assert!(begun > u64::from(RUNS) / 2, "{begun} of {RUNS} were new");
        // What was no new flow cost less, and is counted as if it had cost nothing.
        best = best.min(time.as_nanos() as u64 * u64::from(RUNS) / begun);
    }
    let idle = nothing(Hook::FromUplink, &tcp((OUTSIDE, 1, NODE, 30_001), SYN));
    println!("{} ns for a new translated flow ({best} less {idle})", best - idle);
    assert!(best - idle < 9_000);
}
