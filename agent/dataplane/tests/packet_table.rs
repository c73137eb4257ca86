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
use std::time::Duration;

use bench::{Bench, DROP, NODE, OUTSIDE, POD_A, POD_B, POD_FAR, REDIRECT};
use frame::{ACK, SYN, TCP, tcp};
use weft_dataplane::flow_table::Removal;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::bridge::SWEEP_ROWS;
use weft_dataplane_abi::conntrack::{FLOW_TWIN, Flow, Tuple};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::flow_table::{ROWS, WAYS, spot};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::service::{SCOPE_NODE, ServiceKey};

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
fn the_agent_finds_what_the_programs_write() {
    let Some(mut bench) = bench() else { return };
    let there = tuple((POD_A, 40_000), (POD_B, 80));
    assert_eq!(bench.send(Hook::FromPod, &tcp((POD_A, 40_000, POD_B, 80), SYN)).0, REDIRECT);
    let row = bench.flows().find(&there).expect("the flow's row");
    let twin = bench.flows().find(&there.reversed()).expect("its twin");
    assert_eq!((row.to, twin.to, twin.flags), (there, there.reversed(), FLOW_TWIN));
    assert_eq!(bench.flows().rows().count(), 2);
    assert_eq!(bench.flows().used(), 2);

    bench.remove_flow(&there);
    assert!(bench.flows().find(&there).is_none());
    bench.set_flow(&there, &Flow { packets: 700, ..row });
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
    }
    assert_eq!(bench.counter(Counter::FlowsBegun), begun, "every flow was known");
    assert_eq!(bench.flows().used(), 2 * ports.len());
    for port in &ports {
        bench.remove_flow(&tuple((POD_A, *port), (POD_B, 80)));
    }
    assert_eq!(bench.flows().used(), ports.len(), "their twins");
}

/// A flow whose two buckets are filled by others, and those others: first those of its first bucket.
fn flow_between_full_buckets(bench: &Bench) -> ((u16, u16), Vec<(u16, u16)>) {
    let table = bench.flows();
    let spot_of = |key: Tuple| spot(zerocopy::transmute!(key), table.seed(), table.buckets());
    let mut by_bucket: BTreeMap<u32, Vec<(u16, u16)>> = BTreeMap::new();
    for flow in (1_024..=u16::MAX).flat_map(|port| (80..84).map(move |to| (port, to))) {
        by_bucket.entry(spot_of(key_of(flow)).first).or_default().push(flow);
    }
    let found = by_bucket.values().flatten().find_map(|flow| {
        let buckets = [spot_of(key_of(*flow)).first, spot_of(key_of(*flow)).second];
        // Their answers' rows are elsewhere.
        let apart = |flow: &&(u16, u16)| !buckets.contains(&spot_of(key_of(**flow).reversed()).first);
        let others = |bucket| by_bucket.get(bucket).into_iter().flatten().filter(|other| *other != flow);
        let filling = |bucket| others(bucket).filter(apart).take(WAYS).copied();
        let all: Vec<_> = buckets.iter().flat_map(filling).collect();
        (buckets[0] != buckets[1] && apart(&flow) && all.len() == 2 * WAYS).then_some((*flow, all))
    });
    found.expect("two buckets with so many flows")
}

/// The key of a flow by its ports.
fn key_of((port, to): (u16, u16)) -> Tuple {
    tuple((POD_A, port), (POD_B, to))
}

#[test]
fn where_two_buckets_are_full_the_row_goes_that_was_silent_for_longest() {
    let Some(mut bench) = bench() else { return };
    let (new, others) = flow_between_full_buckets(&bench);
    let begin = |bench: &mut Bench, (port, to): (u16, u16)| {
        assert_eq!(bench.send(Hook::FromPod, &tcp((POD_A, port, POD_B, to), SYN)).0, REDIRECT);
    };
    for silent in 0..WAYS {
        bench.forget_flows();
        others.iter().for_each(|flow| begin(&mut bench, *flow));
        assert_eq!(bench.flows().used(), 2 * others.len(), "there is room for all");
        for (place, flow) in others.iter().enumerate() {
            // Neither the order in which they came nor the one in which they stand.
            let seen_ns = if place == silent { 1_000 } else { 2_000 + place as u64 * 7 % 16 };
            let row = bench.flow(&key_of(*flow)).expect("a row");
            bench.set_flow(&key_of(*flow), &Flow { seen_ns, ..row });
        }
        begin(&mut bench, new);
        let gone: Vec<usize> =
            (0..others.len()).filter(|place| bench.flow(&key_of(others[*place])).is_none()).collect();
        assert_eq!(gone, [silent]);
        for key in [key_of(new), key_of(new).reversed()] {
            assert!(bench.flow(&key).is_some(), "both rows of the new flow are there");
        }
        assert_eq!(bench.flows().used(), 2 * others.len() + 1, "its answers' row, and nothing else is gone");
    }
}

/// How long who has a bucket may be kept from giving it back.
const INTERRUPT: Duration = Duration::from_micros(20);

#[test]
fn a_packet_that_begins_a_flow_while_its_bucket_is_held_is_dropped_and_told() {
    let Some(mut bench) = bench() else { return };
    let known = tcp((POD_A, 40_000, POD_B, 80), SYN);
    assert_eq!(bench.send(Hook::FromPod, &known).0, REDIRECT);
    bench.table().lock(true);
    bench.events();
    let new = tcp((POD_A, 40_001, POD_B, 80), SYN);
    let ((verdict, _), took) = bench.send_often(Hook::FromPod, &new, 1);
    assert_eq!(verdict, DROP);
    assert_eq!(bench.events()[0].reason, Reason::FlowTableBusy as u8);
    assert!(took > INTERRUPT, "given up after {took:?}");
    // Who reads needs no lock.
    assert_eq!(bench.send(Hook::FromPod, &tcp((POD_A, 40_000, POD_B, 80), ACK)).0, REDIRECT);
    bench.table().lock(false);
    assert_eq!(bench.send(Hook::FromPod, &new).0, REDIRECT);
    assert_eq!(bench.flows().used(), 4, "nothing is left of the attempt");
}

#[test]
fn the_agent_cannot_write_rows_and_takes_them_away_while_their_bucket_is_held() {
    let Some(mut bench) = bench() else { return };
    let there = tuple((POD_A, 40_000), (POD_B, 80));
    assert_eq!(bench.send(Hook::FromPod, &tcp((POD_A, 40_000, POD_B, 80), SYN)).0, REDIRECT);
    let table = bench.flows();
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("this process's memory");
        maps.lines().filter(|line| line.ends_with("bpf-map")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(mapped().iter().any(|line| line.contains(" r--s ")), "{:?}", mapped());
    assert!(mapped().iter().all(|line| !line.contains(" rw-s ")), "{:?}", mapped());
    bench.table().lock(true);
    Removal::of(bench.map_of_flows()).expect("a table of flows").remove(&there);
    assert!(table.find(&there).is_none() && table.find(&there.reversed()).is_some());
}

/// Runs the sweep over rows from this one on: how many rows it wrote, and how many it had to leave.
fn sweep(bench: &mut Bench, first: u32) -> (u32, u32) {
    let answer = bench.sweep(first);
    (answer & 0xffff, answer >> 16)
}

#[test]
fn the_sweep_brings_over_what_is_not_there_and_leaves_what_is_held() {
    let Some(mut bench) = Bench::bridging() else { return };
    let key = |port: u16| tuple((POD_A, port), (POD_B, 80));
    let row = |port: u16, packets| Flow { to: key(port), packets, seen_ns: 5, way: 3, ..Flow::default() };
    let runs = ROWS as u32 / SWEEP_ROWS;
    let sweep_all = |bench: &mut Bench| {
        let answers = (0..runs).map(|run| sweep(bench, run * SWEEP_ROWS));
        answers.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    };
    (1..=100).for_each(|port| bench.before().put(&key(port), &row(port, 7)));
    (1..=10).for_each(|port| bench.set_flow(&key(port), &row(port, 9)));

    bench.before().lock(true);
    assert_eq!(sweep_all(&mut bench), (0, 100), "the other layout's programs write there");
    bench.before().lock(false);
    bench.table().lock(true);
    assert_eq!(sweep_all(&mut bench), (0, 100), "these programs write here");
    bench.table().lock(false);
    assert_eq!(bench.flows().used(), 10);

    assert_eq!(sweep_all(&mut bench), (90, 0));
    for port in 1..=100 {
        let packets = if port <= 10 { 9 } else { 7 };
        assert_eq!(bench.flow(&key(port)), Some(row(port, packets)), "port {port}");
    }
    assert_eq!(sweep_all(&mut bench), (0, 0), "all are there");
    // Rows that the other table does not have.
    assert_eq!(sweep(&mut bench, runs * SWEEP_ROWS), (0, 0));
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
