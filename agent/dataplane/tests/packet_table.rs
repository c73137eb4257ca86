//! The table of flows: what the programs write the agent finds, and the other way round; what happens when it is full.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/frame.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame;
#[path = "packet/object.rs"]
mod object;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bench::{Bench, DROP, NODE, OUTSIDE, POD_A, POD_B, POD_FAR, REDIRECT};
use frame::{ACK, SYN, TCP, tcp};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::conntrack::{FLOW_TWIN, Flow, Tuple};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::flow_table::{WAYS, spot};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::service::{SCOPE_NODE, ServiceKey};
use zerocopy::IntoBytes as _;

/// Both Pods are behind the one interface a test run has.
fn bench() -> Option<Bench> {
    let mut bench = Bench::new()?;
    bench.endpoint(POD_B, bench::POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xb]);
    Some(bench)
}

fn tuple(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Tuple {
    Tuple {
        source: Address::v4(source.0),
        destination: Address::v4(destination.0),
        source_port: Be16::new(source.1),
        destination_port: Be16::new(destination.1),
        protocol: TCP,
        reserved: [0; 3],
    }
}

/// Ports of a client whose first row is in one bucket, so many of them.
fn ports_of_one_bucket(bench: &Bench, count: usize) -> Vec<u16> {
    let table = bench.flows();
    let mut by_bucket: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
    for port in 1_024..=u16::MAX {
        let key: [u64; 5] = zerocopy::transmute!(tuple((POD_A, port), (POD_B, 80)));
        by_bucket.entry(spot(key, table.seed(), table.buckets()).first).or_default().push(port);
    }
    let found =
        by_bucket.into_values().find(|ports| ports.len() >= count).expect("a bucket of so many ports");
    found.into_iter().take(count).collect()
}

#[test]
fn the_agent_finds_what_the_programs_write_and_they_what_it_writes() {
    let Some(mut bench) = bench() else { return };
    let there = tuple((POD_A, 40_000), (POD_B, 80));
    assert_eq!(bench.send(Hook::FromPod, &tcp((POD_A, 40_000, POD_B, 80), SYN)).0, REDIRECT);
    let row = bench.flows().find(&there).expect("the flow's row");
    let twin = bench.flows().find(&there.reversed()).expect("its twin");
    assert_eq!((row.to, twin.to, twin.flags), (there, there.reversed(), FLOW_TWIN));
    assert_eq!(bench.flows().rows().count(), 2);
    assert_eq!(bench.flows().used(), 2);

    bench.flows().remove(&there).expect("removed");
    assert!(bench.flows().find(&there).is_none());
    assert!(bench.flows().put(&there, Flow { packets: 700, ..row }.as_bytes(), false).expect("written"));
    assert!(!bench.flows().put(&there, row.as_bytes(), false).expect("there is one"));
    assert_eq!(bench.send(Hook::FromPod, &tcp((POD_A, 40_000, POD_B, 80), ACK)).0, REDIRECT);
    assert_eq!(bench.flows().find(&there).expect("the row").packets, 701);
}

#[test]
fn a_full_bucket_sends_flows_to_a_second_one() {
    let Some(mut bench) = bench() else { return };
    let ports = ports_of_one_bucket(&bench, 3 * WAYS / 2);
    for port in &ports {
        assert_eq!(bench.send(Hook::FromPod, &tcp((POD_A, *port, POD_B, 80), SYN)).0, REDIRECT);
    }
    let begun = bench.counter(Counter::FlowsBegun);
    for port in &ports {
        let key = tuple((POD_A, *port), (POD_B, 80));
        assert!(bench.flows().find(&key).is_some(), "port {port}");
        assert_eq!(bench.send(Hook::FromPod, &tcp((POD_A, *port, POD_B, 80), ACK)).0, REDIRECT);
        assert_eq!(bench.flows().find(&key).expect("its row").packets, 2, "port {port}");
        assert!(!bench.flows().put(&key, &[0; size_of::<Flow>()], false).expect("there is one"));
    }
    assert_eq!(bench.counter(Counter::FlowsBegun), begun, "every flow was known");
    assert_eq!(bench.flows().used(), 2 * ports.len());
    for port in &ports {
        bench.flows().remove(&tuple((POD_A, *port), (POD_B, 80))).expect("removed");
    }
    assert_eq!(bench.flows().used(), ports.len(), "their twins");
}

#[test]
fn a_packet_that_begins_a_flow_while_its_bucket_is_held_is_dropped_and_told() {
    let Some(mut bench) = bench() else { return };
    let known = tcp((POD_A, 40_000, POD_B, 80), SYN);
    assert_eq!(bench.send(Hook::FromPod, &known).0, REDIRECT);
    bench.lock_buckets(true);
    bench.events();
    let new = tcp((POD_A, 40_001, POD_B, 80), SYN);
    assert_eq!(bench.send(Hook::FromPod, &new).0, DROP);
    assert_eq!(bench.events()[0].reason, Reason::FlowTableBusy as u8);
    // Who reads needs no lock.
    assert_eq!(bench.send(Hook::FromPod, &tcp((POD_A, 40_000, POD_B, 80), ACK)).0, REDIRECT);
    bench.lock_buckets(false);
    assert_eq!(bench.send(Hook::FromPod, &new).0, REDIRECT);
    assert_eq!(bench.flows().used(), 4, "nothing is left of the attempt");
}

#[test]
fn a_constant_that_is_set_changes_nothing_else() {
    let Some(mut bench) = Bench::bridging() else { return };
    // The key of a node port has an address of zeros, as the other layout's seed has before it is set.
    let key =
        ServiceKey { port: Be16::new(30_080), protocol: TCP, scope: SCOPE_NODE, ..ServiceKey::default() };
    bench.service(key, 8, &[(POD_FAR, 8080)]);
    assert_eq!(bench.send(Hook::FromUplink, &tcp((OUTSIDE, 40_001, NODE, 30_080), SYN)).0, REDIRECT);
    assert_eq!(bench.counter(Counter::BalancedNodePort), 1);
}
