//! A dry run on a node that works: the right station and reason, and not a byte of the live tables is another afterwards.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use aya::maps::{Map, MapData, RingBuf};
use weft_dataplane::desired::Protocol;
use weft_dataplane::dry::ask::Asked;
use weft_dataplane::dry::{Answer, Packet, Way};
use weft_dataplane::live;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::counter::seen_by;
use weft_dataplane_abi::event::FlowEvent;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::maps::{COUNTERS_MAP, EVENTS, MAPS, MapKind};
use zerocopy::FromBytes as _;

use crate::bed::Bed;
use crate::traffic::furnished;

/// Attempts at a moment in which nobody else writes: neighbours are asked for and counted now and then.
const ATTEMPTS_MAX: usize = 10;

type Bytes = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

/// Packets that a packet hook has seen: IPv6 of devices that came up lately is among them.
fn is_noise(table: &str, key: &[u8]) -> bool {
    let seen = |hook: &Hook| !hook.is_socket() && seen_by(*hook).to_ne_bytes() == *key;
    table == COUNTERS_MAP.name && Hook::ALL.iter().any(seen)
}

/// Every byte of every live table of the first machine, all counters but those included.
fn bytes(bed: &Bed) -> Bytes {
    let mut all = Bytes::new();
    let maps = bed.machines[0].dataplane.as_ref().expect("started").maps().to_owned();
    for spec in MAPS.iter().filter(|spec| spec.kind != MapKind::RingBuf) {
        let table = MapData::from_pin(maps.join(spec.name)).expect("the table");
        live::each_row(table.fd().as_fd(), spec, |key, value| {
            // Most rows of the arrays hold nothing.
            if value.iter().any(|byte| *byte != 0) && !is_noise(spec.name, key) {
                all.insert((spec.name, key.to_vec()), value.to_vec());
            }
        })
        .unwrap_or_else(|error| panic!("{}: {error}", spec.name));
    }
    all
}

/// What the first machine's programs have told since the last call.
fn events(bed: &Bed) -> Vec<FlowEvent> {
    let maps = bed.machines[0].dataplane.as_ref().expect("started").maps();
    let ring = MapData::from_pin(maps.join(EVENTS.name)).expect("the ring");
    let mut ring = RingBuf::try_from(Map::RingBuf(ring)).expect("a ring");
    let mut events = Vec::new();
    while let Some(item) = ring.next() {
        events.push(FlowEvent::read_from_bytes(&item).expect("an event"));
    }
    events
}

/// Does something between two looks at all tables, and fails unless they were the same once, and no event was made.
fn untouched<T>(bed: &mut Bed, what: &str, mut doing: impl FnMut(&mut Bed) -> T) -> T {
    let (mut changed, mut told) = (Vec::new(), Vec::new());
    for _ in 0..ATTEMPTS_MAX {
        let before = bytes(bed);
        events(bed);
        let done = doing(bed);
        told = events(bed);
        let after = bytes(bed);
        if before == after && told.is_empty() {
            return done;
        }
        changed = after
            .iter()
            .filter(|(key, value)| before.get(*key) != Some(value))
            .map(|(key, _)| key.0)
            .collect();
    }
    panic!("{what}: tables change or events are made each time: {changed:?}, {told:?}")
}

/// The Pod `a2`'s packet, walked by the packet programs.
pub(crate) fn walk(bed: &mut Bed, protocol: Protocol, to: SocketAddr) -> Answer {
    untouched(bed, &format!("{protocol} to {to}"), |bed| {
        let dataplane = bed.machines[0].dataplane.clone().expect("started");
        let packet = Packet { protocol, source_port: 40_000, to, bytes: 60 };
        bed.ask(dataplane.probe("default", "a2", packet))
            .unwrap_or_else(|error| panic!("{}", crate::bed::chain(&error)))
    })
}

/// The Pod `a2`'s connect, by a process in its cgroup.
pub(crate) fn ask(bed: &mut Bed, protocol: Protocol, to: SocketAddr) -> Asked {
    let maps = bed.machines[0].dataplane.as_ref().expect("started").maps().display().to_string();
    let netns = bed.pod_directory(0, "a2").join("net").display().to_string();
    let command = format!("ask {maps} {netns} {to} {}", protocol.number());
    let said = untouched(bed, &format!("connect, {protocol} to {to}"), |bed| {
        bed.pods.get_mut("a2").expect("a Pod").ask(&command)
    });
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error} in {said}"))
}

pub(crate) fn to(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

/// Station and reason of the packet programs' drop.
pub(crate) fn dropped(answer: &Answer) -> (&str, &str, &str) {
    let last = answer.passages.last().expect("a passage");
    (last.hook, last.station, last.reason)
}

const NO_BACKEND: &str = "service has no ready backend";
const NOT_HERE: &str = "service has no ready backend on this node";

#[test]
fn a_dry_run_says_what_would_be_and_leaves_no_trace() {
    let Some((mut bed, pods)) = furnished() else { return };
    bed.service("empty", "10.96.0.70", 0, &[]);
    bed.service("far", "10.96.0.71", 30_171, &[(1, pods[2])]);
    bed.internal_local("far");
    bed.service("mirror", "10.96.0.72", 0, &[(0, pods[1])]);
    bed.service("there", "10.96.0.73", 0, &[(1, pods[2])]);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let asked = ask(&mut bed, protocol, to([10, 96, 0, 70], 80));
        assert_eq!((asked.peer, asked.reason.as_deref()), (None, Some(NO_BACKEND)));
        let asked = ask(&mut bed, protocol, to([10, 96, 0, 71], 80));
        assert_eq!((asked.peer, asked.reason.as_deref()), (None, Some(NOT_HERE)));
        let asked = ask(&mut bed, protocol, to([10, 96, 0, 73], 80));
        assert_eq!((asked.peer, asked.mtu_bytes), (Some(to(pods[2], 8080)), 1_450));
        let asked = ask(&mut bed, protocol, to([10, 96, 0, 72], 80));
        assert_eq!(asked.peer, Some(to(pods[1], 8080)), "itself");
        let node_port = to(bed.machines[0].ip, 30_999);
        assert_eq!(ask(&mut bed, protocol, node_port).peer, Some(node_port), "nobody's");

        let answer = walk(&mut bed, protocol, to([10, 96, 0, 70], 80));
        assert_eq!(dropped(&answer), ("from_pod", "balance", NO_BACKEND));
        assert_eq!(answer.passages[0].end, "refused");
    }
    let node_port = to(bed.machines[0].ip, 30_999);
    let mut walk = |to| walk(&mut bed, Protocol::Tcp, to);
    let answer = walk(to([10, 96, 0, 71], 80));
    assert_eq!(dropped(&answer), ("from_pod", "balance", NOT_HERE));
    let answer = walk(to([10, 96, 0, 99], 80));
    assert_eq!(dropped(&answer), ("from_pod", "route", "no service at this address and port"));
    let answer = walk(node_port);
    assert_eq!((answer.passages[0].end, answer.passages[0].way), ("next", Way::Host));
    let answer = walk(to([10, 96, 0, 72], 80));
    let hairpin = &answer.passages[0];
    assert_eq!((hairpin.end, hairpin.way), ("redirect", Way::Pod));
    assert_eq!(hairpin.to_destination, to(pods[1], 8080));
    assert_eq!(hairpin.to_source.ip(), IpAddr::from([10, 244, 1, 1]));
    let answer = walk(to([10, 96, 0, 73], 80));
    assert_eq!(answer.passages[0].way, Way::Tunnel(IpAddr::from([172, 31, 77, 12])));
    assert_eq!((answer.passages[1].hook, answer.passages[1].end), ("to_overlay", "next"));
    assert_eq!(answer.exit.as_ref().map(|exit| exit.mtu_bytes), Some(1_450));
    let answer = walk(to([172, 31, 77, 100], 443));
    assert_eq!((answer.passages[0].way, answer.passages[1].hook), (Way::Outside, "to_uplink"));
    assert_eq!(answer.passages[0].to_source.ip(), IpAddr::from([172, 31, 77, 11]));
    let dataplane = bed.machines[0].dataplane.clone().expect("started");
    let packet = Packet { protocol: Protocol::Tcp, source_port: 1, to: to(pods[0], 1), bytes: 60 };
    assert!(bed.ask(dataplane.probe("default", "nobody", packet)).is_err());
    // What the tables hold is not changed by a dry run, and not hidden from one either.
    events(&bed);
    let answers = bed.pods.get_mut("a2").expect("a Pod").reach("udp", "10.96.0.73:80", 1);
    assert_eq!(answers.len(), 1);
    let told = events(&bed);
    let of_service = |event: &FlowEvent| event.service == Address::from(IpAddr::from([10, 96, 0, 73]));
    assert!(told.iter().any(of_service), "what is no dry run makes an event: {told:?}");
}
