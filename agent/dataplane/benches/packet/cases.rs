//! What is measured: packets that a program sees every day, what becomes of each, and the walks that end after a station.

use std::net::Ipv4Addr;

use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::service::{SCOPE_CLUSTER, SCOPE_NODE, SERVICE_OUTWARD, ServiceKey};

use crate::bench::{
    Bench, DROP, NEXT, NODE, OUTSIDE, OVERLAY, PEER, POD_A, POD_A_IFINDEX, POD_B, POD_FAR, REDIRECT, SERVICE,
};
use crate::frame::{ACK, Ends, SYN, TCP, tcp};

const FAR_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);
/// An address that the outside knows a Service by, and one that is nobody's here.
const GIVEN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const STRANGER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);
const NODE_PORT: u16 = 30_080;
/// The one of a Service whose Pod is another node's.
const FAR_NODE_PORT: u16 = 30_081;
/// Passes of an established flow.
const PASSES: u32 = 50_000;
/// Passes with a new flow or an event each: what the ring and the table of flows hold, drained and emptied in between.
const NEW_PASSES: u32 = 4_096;
/// Established flows in turn.
const FLOWS: u32 = 1_024;
const CLIENT_PORT: u16 = 40_000;

/// How far a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Until {
    /// To its verdict.
    End,
    /// Before its first station.
    Begin,
    Parse,
    Fragment,
    /// The first half of *track*.
    Find,
    Balance,
    Route,
    /// The second half of *track*, without the event.
    Write,
    Track,
    Translate,
}

impl Until {
    pub(crate) const ALL: [Self; 10] = [
        Self::End,
        Self::Begin,
        Self::Parse,
        Self::Fragment,
        Self::Find,
        Self::Balance,
        Self::Route,
        Self::Write,
        Self::Track,
        Self::Translate,
    ];

    /// Its name in the samples.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Begin => "begin",
            Self::Parse => "parse",
            Self::Fragment => "fragment",
            Self::Find => "find",
            Self::Balance => "balance",
            Self::Route => "route",
            Self::Write => "write",
            Self::Track => "track",
            Self::Translate => "translate",
        }
    }

    /// The bench's own program that ends there.
    pub(crate) const fn program(self) -> Option<&'static str> {
        match self {
            Self::End => None,
            Self::Begin => Some("bench_begin"),
            Self::Parse => Some("bench_parse"),
            Self::Fragment => Some("bench_fragment"),
            Self::Find => Some("bench_find"),
            Self::Balance => Some("bench_balance"),
            Self::Route => Some("bench_route"),
            Self::Write => Some("bench_write"),
            Self::Track => Some("bench_track"),
            Self::Translate => Some("bench_translate"),
        }
    }
}

/// Packets sent before, so that flows are there.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) hook: Hook,
    pub(crate) packet: Vec<u8>,
    /// As [`Case::ports`].
    pub(crate) ports: u32,
    pub(crate) tunnel_from: u32,
}

/// One packet at one program.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    pub(crate) until: Until,
    pub(crate) packet: Vec<u8>,
    /// How many source ports follow each other, a power of two; 0: the packet is the same in every pass.
    pub(crate) ports: u32,
    /// The node whose tunnel it comes from, host order; 0 for none.
    pub(crate) tunnel_from: u32,
    pub(crate) openings: Vec<Opening>,
    pub(crate) passes: u32,
    pub(crate) verdict: u32,
    /// Every pass begins a flow.
    pub(crate) begins: bool,
    /// Every pass translates.
    pub(crate) translated: bool,
    /// The ends the packet leaves with, where its port is the same in every pass.
    pub(crate) leaves_with: Option<Ends>,
    /// The table of flows is full of others.
    pub(crate) full: bool,
    /// The packet answers the first opening: it goes to the port that the program has chosen for that one.
    pub(crate) answers: bool,
}

/// Rows besides those every bench has.
pub(crate) fn furnish(bench: &mut Bench) {
    bench.source_ports = (32_768, 60_999);
    bench.turn_epoch();
    bench.endpoint(POD_B, POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xb]);
    let cluster = |address| ServiceKey {
        address: Address::v4(address),
        port: Be16::new(80),
        protocol: TCP,
        scope: SCOPE_CLUSTER,
    };
    bench.service(cluster(SERVICE), 1, &[(POD_B, 8080)]);
    bench.service(cluster(FAR_SERVICE), 2, &[(POD_FAR, 8080)]);
    let node_port =
        ServiceKey { address: Address::ZERO, port: Be16::new(NODE_PORT), protocol: TCP, scope: SCOPE_NODE };
    bench.service(node_port, 3, &[(POD_B, 8080)]);
    bench.service(ServiceKey { port: Be16::new(FAR_NODE_PORT), ..node_port }, 5, &[(POD_FAR, 8080)]);
    bench.service_with(cluster(GIVEN), 4, SERVICE_OUTWARD, &[(POD_B, 8080)]);
}

/// A known flow's packet, the same in every pass unless said otherwise.
fn established(name: &'static str, hook: Hook, ends: Ends, openings: &[(Hook, Ends, u8)]) -> Case {
    let opening = |&(hook, ends, flags): &(Hook, Ends, u8)| Opening {
        hook,
        packet: tcp(ends, flags),
        ports: 0,
        tunnel_from: tunnel(hook),
    };
    Case {
        name,
        hook,
        until: Until::End,
        packet: tcp(ends, ACK),
        ports: 0,
        tunnel_from: tunnel(hook),
        openings: openings.iter().map(opening).collect(),
        passes: PASSES,
        verdict: REDIRECT,
        begins: false,
        translated: false,
        leaves_with: Some(ends),
        full: false,
        answers: false,
    }
}

/// The first packet of a flow, another in every pass.
fn new(name: &'static str, hook: Hook, ends: Ends, translated: bool) -> Case {
    Case {
        packet: tcp(ends, SYN),
        ports: NEW_PASSES,
        passes: NEW_PASSES,
        begins: true,
        translated,
        leaves_with: None,
        ..established(name, hook, ends, &[])
    }
}

fn translated(case: Case, leaves_with: Ends) -> Case {
    Case { translated: true, leaves_with: Some(leaves_with), ..case }
}

/// The same with many flows in turn.
fn in_turn(name: &'static str, mut case: Case) -> Case {
    for opening in &mut case.openings {
        opening.ports = FLOWS;
    }
    Case { name, ports: FLOWS, leaves_with: None, ..case }
}

/// What comes out of the tunnel comes from the other node.
fn tunnel(hook: Hook) -> u32 {
    if hook == Hook::FromOverlay { u32::from(PEER) } else { 0 }
}

/// Every case, the walks that end early included.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = from_pod();
    cases.extend(from_uplink());
    cases.extend(from_overlay());
    cases.extend(stations());
    cases
}

fn to_service() -> Case {
    let ends = (POD_A, CLIENT_PORT, SERVICE, 80);
    let case = established("established, to a Service", Hook::FromPod, ends, &[(Hook::FromPod, ends, SYN)]);
    translated(case, (POD_A, CLIENT_PORT, POD_B, 8080))
}

fn new_to_service() -> Case {
    new("new, to a Service", Hook::FromPod, (POD_A, CLIENT_PORT, SERVICE, 80), true)
}

fn from_pod() -> Vec<Case> {
    let pod = Hook::FromPod;
    let (there, back) = ((POD_A, CLIENT_PORT, SERVICE, 80), (POD_B, 8080, POD_A, CLIENT_PORT));
    let answer =
        established("established, a Service's answer", pod, back, &[(pod, there, SYN), (pod, back, ACK)]);
    let (direct, far) = ((POD_A, CLIENT_PORT, POD_B, 80), (POD_A, CLIENT_PORT, POD_FAR, 80));
    let foreign = new("dropped, a foreign source", pod, (OUTSIDE, CLIENT_PORT, POD_B, 80), false);
    vec![
        to_service(),
        in_turn("established, to a Service, 1,024 flows in turn", to_service()),
        translated(answer, (SERVICE, 80, POD_A, CLIENT_PORT)),
        established("established, to a Pod here", pod, direct, &[(pod, direct, SYN)]),
        established("established, to a Pod of another node", pod, far, &[(pod, far, SYN)]),
        new_to_service(),
        new("new, to a Pod here", pod, direct, false),
        new("new, to the outside, masqueraded", pod, (POD_A, CLIENT_PORT, OUTSIDE, 80), true),
        Case { begins: false, verdict: DROP, ..foreign },
    ]
}

fn from_uplink() -> Vec<Case> {
    let uplink = Hook::FromUplink;
    let (client, host) = ((OUTSIDE, CLIENT_PORT, NODE, NODE_PORT), (OUTSIDE, CLIENT_PORT, NODE, 22));
    let known = established("established, to a node port", uplink, client, &[(uplink, client, SYN)]);
    let known = translated(known, (OUTSIDE, CLIENT_PORT, POD_B, 8080));
    let full = new("new, to a node port, table of flows full", uplink, client, true);
    let given = (OUTSIDE, CLIENT_PORT, GIVEN, 80);
    let balancer =
        established("established, to a load balancer's address", uplink, given, &[(uplink, given, SYN)]);
    let others = (OUTSIDE, CLIENT_PORT, STRANGER, 80);
    let far = established(
        "established, to a node port, a Pod of another node",
        uplink,
        (OUTSIDE, CLIENT_PORT, NODE, FAR_NODE_PORT),
        &[(uplink, (OUTSIDE, CLIENT_PORT, NODE, FAR_NODE_PORT), SYN)],
    );
    vec![
        Case { verdict: NEXT, ..established("passes, the host's own", uplink, host, &[]) },
        Case { verdict: NEXT, ..established("passes, another machine's", uplink, others, &[]) },
        translated(balancer, (OUTSIDE, CLIENT_PORT, POD_B, 8080)),
        new("new, to a load balancer's address", uplink, given, true),
        in_turn("established, to a node port, 1,024 flows in turn", known.clone()),
        known,
        new("new, to a node port", uplink, client, true),
        Case { full: true, ..full },
        // The source is a port that was drawn.
        Case { translated: true, leaves_with: None, ..far },
    ]
}

fn from_overlay() -> Vec<Case> {
    let overlay = Hook::FromOverlay;
    let here = (POD_FAR, CLIENT_PORT, POD_A, 80);
    let (asked, back) = ((POD_A, CLIENT_PORT, FAR_SERVICE, 80), (POD_FAR, 8080, POD_A, CLIENT_PORT));
    let answer = established(
        "established, a Service's answer",
        overlay,
        back,
        &[(Hook::FromPod, asked, SYN), (overlay, back, ACK)],
    );
    let stranger = new("dropped, an unknown node", overlay, here, false);
    let client = (OUTSIDE, CLIENT_PORT, NODE, FAR_NODE_PORT);
    let answered = established(
        "established, a node port's answer from another node",
        overlay,
        (POD_FAR, 8080, OVERLAY, 0),
        &[(Hook::FromUplink, client, SYN)],
    );
    vec![
        established("established, to a Pod here", overlay, here, &[(overlay, here, SYN)]),
        translated(answer, (FAR_SERVICE, 80, POD_A, CLIENT_PORT)),
        Case { answers: true, ..translated(answered, (NODE, FAR_NODE_PORT, OUTSIDE, CLIENT_PORT)) },
        new("new, to a Pod here", overlay, here, false),
        Case { begins: false, verdict: DROP, tunnel_from: u32::from(OUTSIDE), ..stranger },
    ]
}

/// The walk from a Pod to a Service again, as far as each station: the known flow, then the new one.
fn stations() -> Vec<Case> {
    let known = [Until::Begin, Until::Parse, Until::Fragment, Until::Find, Until::Translate];
    let fresh = [
        Until::Begin,
        Until::Parse,
        Until::Fragment,
        Until::Find,
        Until::Balance,
        Until::Route,
        Until::Write,
        Until::Track,
        Until::Translate,
    ];
    let cut = |case: Case, until: Until| Case {
        until,
        verdict: NEXT,
        begins: case.begins && matches!(until, Until::Write | Until::Track | Until::Translate),
        translated: until == Until::Translate,
        leaves_with: None,
        ..case
    };
    known
        .into_iter()
        .map(|until| cut(to_service(), until))
        .chain(fresh.into_iter().map(|until| cut(new_to_service(), until)))
        .collect()
}
