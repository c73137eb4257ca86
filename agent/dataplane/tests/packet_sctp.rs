//! SCTP: balanced and tracked, with every port as it was. Its checksum (CRC32c) covers the whole packet and no address, so that
//! nothing behind the IP header may change.

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

use std::net::Ipv4Addr;

use bench::{
    Bench, DROP, NODE, NODE_6, OUTSIDE, OUTSIDE_6, OVERLAY, OVERLAY_6, POD_A, POD_A_6, POD_A_IFINDEX, POD_B,
    POD_B_6, POD_FAR, POD_FAR_6, REDIRECT, SERVICE, SERVICE_6,
};
use frame::{Ends, ICMP, L3, L4, ends, ip};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::service::{SCOPE_CLUSTER, SCOPE_NODE, SCOPE_V6, ServiceKey};

const SCTP: u8 = 132;
/// Types of chunks (RFC 9260, section 3.2).
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SHUTDOWN_COMPLETE: u8 = 14;
const NODE_PORT: u16 = 30_080;

/// A packet with one chunk. The checksum is any: who receives it judges, nobody on the way.
fn sctp(ends: Ends, chunk: u8) -> Vec<u8> {
    ip(ends.0, ends.2, SCTP, 0, &payload(ends.1, ends.3, chunk))
}

fn payload(from: u16, to: u16, chunk: u8) -> Vec<u8> {
    let mut payload = [from.to_be_bytes(), to.to_be_bytes()].concat();
    payload.extend([0, 0, 0, 7, 0xde, 0xad, 0xbe, 0xef, chunk, 0, 0, 12]);
    payload.extend(*b"8 octets");
    payload
}

fn key(address: Option<Ipv4Addr>, port: u16) -> ServiceKey {
    ServiceKey {
        address: address.map_or(Address::ZERO, Address::v4),
        port: Be16::new(port),
        protocol: SCTP,
        scope: if address.is_some() { SCOPE_CLUSTER } else { SCOPE_NODE },
    }
}

/// Both Pods are behind the one interface a test run has.
fn bench() -> Option<Bench> {
    let mut bench = Bench::new()?;
    bench.endpoint(POD_B, POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xb]);
    Some(bench)
}

/// Sends one, and says what came of it: the ends, if nothing else behind the IP header changed.
#[track_caller]
fn sent(bench: &mut Bench, hook: Hook, ends_before: Ends, chunk: u8) -> Ends {
    let before = sctp(ends_before, chunk);
    let (verdict, after) = bench.send(hook, &before);
    assert_eq!(verdict, REDIRECT);
    assert_eq!(after[L4..], before[L4..], "neither ports nor checksum nor chunks");
    let header: u32 =
        after[L3..L4].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    assert_eq!((header & 0xffff) + (header >> 16), 0xffff, "the IP header's checksum");
    ends(&after)
}

/// The same of IPv6, whose header has no checksum.
#[track_caller]
fn sent_6(bench: &mut Bench, hook: Hook, ends: frame6::Ends, chunk: u8) -> frame6::Ends {
    let before = frame6::ip(ends.0, ends.2, &[], SCTP, &payload(ends.1, ends.3, chunk));
    let (verdict, after) = bench.send(hook, &before);
    assert_eq!(verdict, REDIRECT);
    assert_eq!(after[frame6::L4..], before[frame6::L4..], "neither ports nor checksum nor chunks");
    frame6::ends(&after)
}

#[test]
fn a_service_with_the_backends_port_is_balanced_and_answers_come_from_it() {
    let Some(mut bench) = bench() else { return };
    bench.service(key(Some(SERVICE), 3_868), 7, &[(POD_B, 3_868)]);
    let there = sent(&mut bench, Hook::FromPod, (POD_A, 40_000, SERVICE, 3_868), INIT);
    assert_eq!(there, (POD_A, 40_000, POD_B, 3_868));
    let back = sent(&mut bench, Hook::FromPod, (POD_B, 3_868, POD_A, 40_000), INIT_ACK);
    assert_eq!(back, (SERVICE, 3_868, POD_A, 40_000));
    assert_eq!(bench.counter(Counter::BalancedPacket), 1);
    assert_eq!(bench.counter(Counter::FlowsBegun), 1);
}

#[test]
fn a_backend_with_another_port_is_no_backend_and_that_is_said() {
    let Some(mut bench) = bench() else { return };
    bench.service(key(Some(SERVICE), 3_868), 7, &[(POD_B, 8_080)]);
    let (verdict, _) = bench.send(Hook::FromPod, &sctp((POD_A, 40_000, SERVICE, 3_868), INIT));
    assert_eq!((verdict, bench.events()[0].reason), (DROP, Reason::PortsMustBeEqual as u8));
    assert_eq!(bench.flows().used(), 0);
}

#[test]
fn an_association_that_ended_gives_its_tuple_to_the_next() {
    let Some(mut bench) = bench() else { return };
    bench.service(key(Some(SERVICE), 3_868), 7, &[(POD_B, 3_868)]);
    let ends = (POD_A, 40_000, SERVICE, 3_868);
    for chunk in [INIT, DATA, INIT] {
        sent(&mut bench, Hook::FromPod, ends, chunk);
    }
    assert_eq!(bench.counter(Counter::FlowsBegun), 1, "an INIT that comes late ends nothing");
    sent(&mut bench, Hook::FromPod, ends, SHUTDOWN_COMPLETE);
    sent(&mut bench, Hook::FromPod, ends, INIT);
    assert_eq!((bench.counter(Counter::FlowsBegun), bench.counter(Counter::FlowsReplaced)), (2, 1));
}

#[test]
fn pods_reach_the_outside_with_their_own_ports_while_nobody_else_has_them() {
    let Some(mut bench) = bench() else { return };
    let out = sent(&mut bench, Hook::FromPod, (POD_A, 2_905, OUTSIDE, 2_905), INIT);
    assert_eq!(out, (NODE, 2_905, OUTSIDE, 2_905));
    let back = sent(&mut bench, Hook::FromUplink, (OUTSIDE, 2_905, NODE, 2_905), INIT_ACK);
    assert_eq!(back, (OUTSIDE, 2_905, POD_A, 2_905));
    bench.events();
    let (verdict, _) = bench.send(Hook::FromPod, &sctp((POD_B, 2_905, OUTSIDE, 2_905), INIT));
    assert_eq!((verdict, bench.events()[0].reason), (DROP, Reason::SourcePortsExhausted as u8));
}

#[test]
fn a_node_port_leads_to_backends_with_its_number_here_and_there() {
    let Some(mut bench) = bench() else { return };
    for (backend, source) in [(POD_B, OUTSIDE), (POD_FAR, OVERLAY)] {
        bench.service(key(None, NODE_PORT), 8, &[(backend, NODE_PORT)]);
        let client = if backend == POD_B { 5_000 } else { 5_001 };
        let there = sent(&mut bench, Hook::FromUplink, (OUTSIDE, client, NODE, NODE_PORT), INIT);
        assert_eq!(there, (source, client, backend, NODE_PORT));
    }
    let back = sent(&mut bench, Hook::FromPod, (POD_B, NODE_PORT, OUTSIDE, 5_000), INIT_ACK);
    assert_eq!(back, (NODE, NODE_PORT, OUTSIDE, 5_000));
}

#[test]
fn a_service_without_backends_answers_at_once() {
    let Some(mut bench) = bench() else { return };
    bench.service(key(Some(SERVICE), 3_868), 7, &[]);
    let (verdict, answer) = bench.send(Hook::FromPod, &sctp((POD_A, 40_000, SERVICE, 3_868), INIT));
    assert_eq!(verdict, REDIRECT);
    assert_eq!((answer[L3 + 9], answer[L4], answer[L4 + 1]), (ICMP, 3, 3), "port unreachable");
    assert_eq!(bench.events()[0].reason, Reason::NoBackend as u8);
}

#[test]
fn services_of_ipv6_are_balanced_with_their_ports_as_they_were() {
    let Some(mut bench) = bench() else { return };
    let service = |port| ServiceKey { address: Address::v6(SERVICE_6), ..key(Some(SERVICE), port) };
    bench.service_6(service(3_868), 7, 0, &[(POD_B_6, 3_868)]);
    bench.service_6(service(3_869), 8, 0, &[(POD_B_6, 8_080)]);
    let there = sent_6(&mut bench, Hook::FromPod, (POD_A_6, 40_000, SERVICE_6, 3_868), INIT);
    assert_eq!(there, (POD_A_6, 40_000, POD_B_6, 3_868));
    let back = sent_6(&mut bench, Hook::FromPod, (POD_B_6, 3_868, POD_A_6, 40_000), INIT_ACK);
    assert_eq!(back, (SERVICE_6, 3_868, POD_A_6, 40_000));
    assert_eq!((bench.counter(Counter::BalancedPacket), bench.counter(Counter::FlowsBegun)), (1, 1));
    bench.events();
    let other = frame6::ip(POD_A_6, SERVICE_6, &[], SCTP, &payload(40_000, 3_869, INIT));
    let (verdict, _) = bench.send(Hook::FromPod, &other);
    assert_eq!((verdict, bench.events()[0].reason), (DROP, Reason::PortsMustBeEqual as u8));
}

#[test]
fn a_node_port_of_ipv6_leads_to_backends_with_its_number_here_and_there() {
    let Some(mut bench) = bench() else { return };
    let node_port = ServiceKey { scope: SCOPE_NODE | SCOPE_V6, ..key(None, NODE_PORT) };
    for (backend, source, client) in [(POD_B_6, OUTSIDE_6, 5_000), (POD_FAR_6, OVERLAY_6, 5_001)] {
        bench.service_6(node_port, 8, 0, &[(backend, NODE_PORT)]);
        let there = sent_6(&mut bench, Hook::FromUplink, (OUTSIDE_6, client, NODE_6, NODE_PORT), INIT);
        assert_eq!(there, (source, client, backend, NODE_PORT));
    }
    let back = sent_6(&mut bench, Hook::FromPod, (POD_B_6, NODE_PORT, OUTSIDE_6, 5_000), INIT_ACK);
    assert_eq!(back, (NODE_6, NODE_PORT, OUTSIDE_6, 5_000));
}
