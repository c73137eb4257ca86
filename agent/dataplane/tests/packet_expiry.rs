//! How long a silent flow keeps its tuple from others, by its protocol and by what was seen of it.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/frame.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame;
#[path = "packet/object.rs"]
mod object;

use bench::{Bench, DROP, POD_A, POD_A_IFINDEX, POD_B, REDIRECT, SERVICE, now_ns};
use frame::{Ends, ICMP, SYN, TCP, UDP};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::conntrack::{
    FLOW_DESTINATION, FLOW_TWIN, Flow, TCP_SEEN_ACK, TCP_SEEN_FIN, TCP_SEEN_RST, TCP_SEEN_SYN, Tuple,
};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;

const SCTP: u8 = 132;
/// Source port of the flow that begins, or what its echoes are told apart by.
const PORT: u16 = 40_000;
/// How much less than its time a row is silent that lives: as long as this test may be kept from its CPU, seconds.
const MARGIN_SECONDS: u64 = 5;

/// What was seen of the row in the way: its protocol, its flags, and for how many seconds it lives.
const ROWS: [(&str, u8, u8, u64); 10] = [
    ("a connection", TCP, TCP_SEEN_SYN | TCP_SEEN_ACK, 8_000),
    ("a connection that was there before", TCP, TCP_SEEN_ACK, 8_000),
    ("a SYN alone", TCP, TCP_SEEN_SYN, 65),
    ("a connection whose answers never came", TCP, 0, 65),
    ("a connection that ended", TCP, TCP_SEEN_SYN | TCP_SEEN_ACK | TCP_SEEN_FIN, 65),
    ("a connection that was reset", TCP, TCP_SEEN_SYN | TCP_SEEN_ACK | TCP_SEEN_RST, 65),
    ("an association", SCTP, TCP_SEEN_SYN | TCP_SEEN_ACK, 8_000),
    ("an association that ended", SCTP, TCP_SEEN_ACK | TCP_SEEN_FIN, 65),
    ("datagrams", UDP, 0, 180),
    ("echoes", ICMP, 0, 30),
];

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

/// The first packet of a flow with these ends.
fn first(ends: Ends, protocol: u8) -> Vec<u8> {
    match protocol {
        TCP => frame::tcp(ends, SYN),
        UDP => frame::udp(ends),
        ICMP => frame::icmp(ends.0, ends.2, 8, ends.1, &[1; 24]),
        _ => {
            let mut init = [ends.1.to_be_bytes(), ends.3.to_be_bytes()].concat();
            init.extend([0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef, 1, 0, 0, 4]);
            frame::ip(ends.0, ends.2, protocol, 0, &init)
        }
    }
}

/// Puts a flow by a Service in the way of one that goes to its backend past the Service, and begins that one: verdict, the port
/// it left with, and whether the old flow's row is still there.
fn begun(bench: &mut Bench, protocol: u8, tcp_seen: u8, silent_seconds: u64) -> (u32, u16, bool) {
    // Echoes have no port at the end that answers.
    let (to, by) = if protocol == ICMP { (0, 0) } else { (8_080, 80) };
    let direct = (POD_A, PORT, POD_B, to);
    let old = tuple((POD_A, PORT, SERVICE, by), protocol);
    bench.forget_flows();
    let row = Flow { to: tuple(direct, protocol), flags: FLOW_DESTINATION, ..Flow::default() };
    bench.set_flow(&old, &row);
    // On a machine that came up later than that this is a time before its clock's first: times are subtracted modulo 2^64.
    let seen_ns = now_ns().wrapping_sub(silent_seconds * 1_000_000_000);
    let answers = Flow { to: old.reversed(), flags: FLOW_TWIN, tcp_seen, seen_ns, ..Flow::default() };
    bench.set_flow(&tuple(direct, protocol).reversed(), &answers);
    let (verdict, after) = bench.send(Hook::FromPod, &first(direct, protocol));
    let port = if protocol == ICMP { frame::identifier(&after) } else { frame::ends(&after).1 };
    (verdict, port, bench.flow(&old).is_some())
}

#[test]
fn a_silent_flow_keeps_its_tuple_for_the_time_of_its_state() {
    let Some(mut bench) = Bench::new() else { return };
    bench.endpoint(POD_B, POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xb]);
    for (what, protocol, tcp_seen, seconds) in ROWS {
        bench.events();
        let (verdict, port, old) = begun(&mut bench, protocol, tcp_seen, seconds - MARGIN_SECONDS);
        assert!(old, "{what}, nearly {seconds} s: its row is there");
        if protocol == SCTP {
            let reason = bench.events().pop().map(|event| event.reason);
            assert_eq!((verdict, reason), (DROP, Some(Reason::SourcePortsExhausted as u8)), "{what}");
        } else {
            assert_eq!(verdict, REDIRECT, "{what}");
            assert_ne!(port, PORT, "{what}, nearly {seconds} s: it has the tuple");
        }
        let after = begun(&mut bench, protocol, tcp_seen, seconds + 1);
        assert_eq!(after, (REDIRECT, PORT, false), "{what}, more than {seconds} s");
    }
}
