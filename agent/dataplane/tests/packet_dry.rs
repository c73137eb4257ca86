//! Programs that only look (`dry.rs`): they end every packet as the others do, say where and why, and not a byte of a table is
//! another afterwards.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/frame.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame;
#[path = "packet/object.rs"]
mod object;

use std::net::Ipv4Addr;

use bench::{Bench, NODE, OUTSIDE, OVERLAY, POD_A, POD_B, POD_FAR, SERVICE};
use frame::{ACK, Ends, FIN, SYN, TCP, UDP, tcp, udp};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::conntrack::{Flow, TCP_SEEN_ACK, TCP_SEEN_FIN, Tuple};
use weft_dataplane_abi::counter::Counter;
use weft_dataplane_abi::dry::{End, Known};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{ROUTE_HOST, ROUTE_OUTSIDE, ROUTE_POD, ROUTE_TUNNEL};
use weft_dataplane_abi::service::{SCOPE_CLUSTER, SCOPE_NODE, ServiceKey};
use weft_dataplane_abi::station::Station;

/// Services of the tests: `(last byte of the address, protocol)`.
const WEB: Ipv4Addr = SERVICE;
const EMPTY: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 12);
const SELF: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 13);
const STICKY: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 14);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 99);

fn key(address: Ipv4Addr, protocol: u8) -> ServiceKey {
    ServiceKey { address: Address::v4(address), port: Be16::new(80), protocol, scope: SCOPE_CLUSTER }
}

fn furnish(bench: &mut Bench) {
    bench.service(key(WEB, TCP), 1, &[(POD_FAR, 8080)]);
    bench.service(key(EMPTY, TCP), 2, &[]);
    bench.local(key(LOCAL, TCP), 3);
    bench.service(key(SELF, TCP), 4, &[(POD_A, 8080)]);
    bench.service(key(STICKY, TCP), 5, &[(POD_B, 8080), (POD_FAR, 8080)]);
    bench.affinity(key(STICKY, TCP), 5, 2, 600);
    let node_port =
        ServiceKey { address: Address::ZERO, port: Be16::new(30_080), protocol: TCP, scope: SCOPE_NODE };
    bench.service(node_port, 6, &[(POD_B, 8080)]);
}

/// Nothing but what the dry run may say: end, station, reason, way, source it leaves with, destination it leaves with.
struct Wanted {
    what: &'static str,
    hook: Hook,
    packet: Vec<u8>,
    end: End,
    drop: Option<(Station, Reason)>,
    way: u32,
    source: Option<Ipv4Addr>,
    destination: Option<Ipv4Addr>,
}

impl Wanted {
    fn passes(what: &'static str, packet: Vec<u8>, way: u32) -> Self {
        let end = if way == ROUTE_HOST { End::Next } else { End::Redirect };
        Self { what, hook: Hook::FromPod, packet, end, drop: None, way, source: None, destination: None }
    }

    fn drops(what: &'static str, packet: Vec<u8>, end: End, station: Station, reason: Reason) -> Self {
        Self { end, drop: Some((station, reason)), ..Self::passes(what, packet, 0) }
    }
}

fn wanted() -> Vec<Wanted> {
    let syn = |to: Ipv4Addr, port| tcp((POD_A, 40_000, to, port), SYN);
    let bare = |to: Ipv4Addr| frame::bare_tcp((POD_A, 40_000, to, 80), SYN);
    vec![
        Wanted::passes("to a Pod here", syn(POD_B, 80), ROUTE_POD),
        Wanted::passes("to a Pod elsewhere", syn(POD_FAR, 80), ROUTE_TUNNEL),
        Wanted { source: Some(NODE), ..Wanted::passes("to the outside", syn(OUTSIDE, 443), ROUTE_OUTSIDE) },
        Wanted::passes("to the node", syn(NODE, 22), ROUTE_HOST),
        Wanted {
            destination: Some(POD_FAR),
            ..Wanted::passes("through a Service", syn(WEB, 80), ROUTE_TUNNEL)
        },
        Wanted { destination: Some(POD_B), ..Wanted::passes("to a node port", syn(NODE, 30_080), ROUTE_POD) },
        Wanted::passes("to an unknown node port", syn(NODE, 30_999), ROUTE_HOST),
        Wanted {
            source: Some(OVERLAY),
            destination: Some(POD_A),
            ..Wanted::passes("a hairpin", syn(SELF, 80), ROUTE_POD)
        },
        Wanted::drops("no endpoints", bare(EMPTY), End::Refused, Station::Balance, Reason::NoBackend),
        Wanted::drops("none here", bare(LOCAL), End::Drop, Station::Balance, Reason::NoLocalBackend),
        Wanted::drops("no Service", bare(NOBODY), End::Drop, Station::Route, Reason::NoService),
        Wanted::drops(
            "no Pod",
            syn(Ipv4Addr::new(10, 244, 9, 9), 80),
            End::Drop,
            Station::Route,
            Reason::NoSuchPod,
        ),
        Wanted::drops(
            "a foreign source",
            udp((OUTSIDE, 40_000, POD_B, 80)),
            End::Drop,
            Station::Parse,
            Reason::ForeignSource,
        ),
        Wanted::drops(
            "the tunnel's port",
            udp((POD_A, 40_000, NODE, 4789)),
            End::Drop,
            Station::Route,
            Reason::PodToTunnel,
        ),
    ]
}

#[test]
fn every_packet_ends_as_it_would_and_no_table_changes() {
    let (Some(mut dry), Some(mut wet)) = (Bench::dry(), Bench::new()) else { return };
    furnish(&mut dry);
    furnish(&mut wet);
    for want in wanted() {
        let what = want.what;
        let before = dry.bytes();
        let (verdict, _) = dry.send(want.hook, &want.packet);
        assert_eq!(dry.bytes(), before, "{what}: tables");
        let walked = dry.walked();
        assert_eq!(End::try_from(walked.end), Ok(want.end), "{what}: {walked:?}");
        let (station, reason) =
            want.drop.map_or((0, Reason::None), |(station, reason)| (station as u8, reason));
        assert_eq!((walked.station, walked.reason), (station, reason as u8), "{what}");
        if want.drop.is_none() {
            assert_eq!(u32::from(walked.flow.way), want.way, "{what}: way");
            assert_eq!(Known::try_from(walked.known), Ok(Known::New), "{what}");
            let to = walked.flow.to;
            assert_eq!(to.source.ip(), want.source.map_or(walked.tuple.source.ip(), Into::into), "{what}");
            let destination = want.destination.map_or(walked.tuple.destination.ip(), Into::into);
            assert_eq!(to.destination.ip(), destination, "{what}");
        }
        let (real, _) = wet.send(want.hook, &want.packet);
        assert_eq!(verdict, real, "{what}: what the real programs do");
        let mut events = wet.events();
        let event = events.pop().unwrap_or_else(|| panic!("{what}: no event"));
        assert_eq!((event.reason, event.service_id), (walked.reason, walked.flow.service_id), "{what}");
    }
    assert_ne!(wet.bytes(), dry.bytes(), "the real programs have written flows");
}

fn tuple(ends: Ends, protocol: u8) -> Tuple {
    Tuple {
        source: Address::v4(ends.0),
        destination: Address::v4(ends.2),
        source_port: Be16::new(ends.1),
        destination_port: Be16::new(ends.3),
        protocol,
        reserved: [0; 3],
    }
}

#[test]
fn known_flows_are_found_and_left_as_they_are() {
    let Some(mut dry) = Bench::dry() else { return };
    furnish(&mut dry);
    let ends = (POD_A, 40_000, POD_B, 80);
    let row = Flow {
        to: tuple(ends, TCP),
        origin: bench::POD_A_IFINDEX,
        epoch: 1,
        way: ROUTE_POD as u8,
        way_words: [1, 2, 3, 77],
        tcp_seen: TCP_SEEN_ACK,
        packets: 63,
        ..Flow::default()
    };
    let twin = Flow { to: tuple(ends, TCP).reversed(), flags: 1, ..row };
    for (row, flags, known) in [
        (row, ACK, Known::Settled),
        (Flow { epoch: 7, ..row }, ACK, Known::Unsettled),
        (row, SYN, Known::Settled),
        (Flow { tcp_seen: TCP_SEEN_ACK | TCP_SEEN_FIN, ..row }, SYN, Known::Anew),
        (row, FIN | ACK, Known::Settled),
    ] {
        dry.set_flow(&tuple(ends, TCP), &row);
        dry.set_flow(&tuple(ends, TCP).reversed(), &twin);
        let before = dry.bytes();
        let (verdict, _) = dry.send(Hook::FromPod, &tcp(ends, flags));
        assert_eq!(dry.bytes(), before, "{known}");
        assert_eq!((verdict, Known::try_from(dry.walked().known)), (bench::REDIRECT, Ok(known)));
    }
    // A flow of another Pod has the answers' tuple: a port would be taken, and is not.
    let taken = (POD_B, 80, POD_A, 41_000);
    let other = Flow { to: tuple((OUTSIDE, 1, OUTSIDE, 2), TCP), seen_ns: bench::now_ns(), ..row };
    dry.set_flow(&tuple(taken, TCP), &other);
    let before = dry.bytes();
    dry.send(Hook::FromPod, &tcp((POD_A, 41_000, POD_B, 80), SYN));
    assert_eq!(dry.bytes(), before);
    let walked = dry.walked();
    assert_eq!(End::try_from(walked.end), Ok(End::Redirect));
    assert_ne!(walked.flow.to.source_port.get(), 41_000, "another port was found");
}

#[test]
fn affinity_is_looked_at_and_not_given() {
    let (Some(mut dry), Some(mut wet)) = (Bench::dry(), Bench::new()) else { return };
    furnish(&mut dry);
    furnish(&mut wet);
    let before = dry.bytes();
    let packet = |port| tcp((POD_A, port, STICKY, 80), SYN);
    let mut backends = std::collections::BTreeSet::new();
    for port in 40_000..40_064 {
        dry.send(Hook::FromPod, &packet(port));
        backends.insert(dry.walked().flow.backend_id);
    }
    assert_eq!(dry.bytes(), before);
    assert_eq!(backends.len(), 2, "nobody is remembered, so both are drawn in turn");
    wet.send(Hook::FromPod, &packet(40_000));
    assert!(wet.bytes().keys().any(|(name, _)| *name == "affinity"), "the real programs remember");
}

#[test]
fn a_node_port_from_outside_and_fragments_leave_nothing_behind() {
    let Some(mut dry) = Bench::dry() else { return };
    furnish(&mut dry);
    let before = dry.bytes();
    dry.send(Hook::FromUplink, &tcp((OUTSIDE, 5_000, NODE, 30_080), SYN));
    let walked = dry.walked();
    assert_eq!((walked.flow.service_id, walked.flow.to.destination.ip()), (6, POD_B.into()));
    let first = frame::ip(POD_A, POD_B, UDP, 0x2000, &[0x9c, 0x40, 0, 80, 0, 64, 0, 0]);
    dry.send(Hook::FromPod, &first);
    assert_eq!(dry.bytes(), before);
    assert_eq!(dry.counter(Counter::FlowsMended), 0);
}
