//! Services that have nobody to give: what the sender hears, and which backends count.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/frame.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame;
#[path = "packet/object.rs"]
mod object;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bench::{Bench, DROP, NODE, OUTSIDE, OVERLAY, PEER, POD_A, POD_B, POD_FAR, REDIRECT, SERVICE};
use frame::{ACK, ICMP, L3, L4, RST, SYN, TCP, UDP, assert_valid, ends, tcp, udp};
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::event::Verdict;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::maps::AFFINITY;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::{OVERLAY_MAC, OVERLAY_RETURN_MAC};
use weft_dataplane_abi::service::{AffinityKey, SCOPE_CLUSTER, SCOPE_INSIDE, SCOPE_NODE, ServiceKey};
use zerocopy::IntoBytes as _;

const NODE_PORT: u16 = 30_080;

fn key(address: Option<Ipv4Addr>, port: u16, protocol: u8) -> ServiceKey {
    ServiceKey {
        address: address.map_or(Address::ZERO, Address::v4),
        port: Be16::new(port),
        protocol,
        scope: if address.is_some() { SCOPE_CLUSTER } else { SCOPE_NODE },
    }
}

/// Services without a backend, by address and by node port.
fn bench() -> Option<Bench> {
    let mut bench = Bench::new()?;
    bench.endpoint(POD_B, bench::POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xb]);
    for protocol in [TCP, UDP] {
        bench.service(key(Some(SERVICE), 81, protocol), 3, &[]);
        bench.service(key(None, NODE_PORT, protocol), 4, &[]);
    }
    Some(bench)
}

/// A SYN as a client sends it: no payload, sequence number 1.
fn syn(from: End, to: End, flags: u8) -> Vec<u8> {
    frame::bare_tcp((from.0, from.1, to.0, to.1), flags)
}

/// Address and port.
type End = (Ipv4Addr, u16);

const SENDERS: [(Hook, End, End); 3] = [
    (Hook::FromPod, (POD_A, 40_000), (SERVICE, 81)),
    (Hook::FromUplink, (OUTSIDE, 40_000), (NODE, NODE_PORT)),
    (Hook::ToOverlay, (OVERLAY, 40_000), (SERVICE, 81)),
];

#[test]
fn a_connection_is_reset() {
    let Some(mut bench) = bench() else { return };
    for (hook, from, to) in SENDERS {
        let packet = syn(from, to, SYN);
        let (verdict, back) = bench.send(hook, &packet);
        assert_eq!((verdict, ends(&back)), (REDIRECT, (to.0, to.1, from.0, from.1)), "{hook}");
        assert_valid(&back);
        assert_eq!((back[L4 + 13], &back[L4 + 4..L4 + 12]), (RST | ACK, &[0, 0, 0, 0, 0, 0, 0, 2][..]));
        let macs = if hook == Hook::ToOverlay { (OVERLAY_MAC, OVERLAY_RETURN_MAC) } else { swapped(&packet) };
        assert_eq!((&back[..6], &back[6..12]), (&macs.0[..], &macs.1[..]), "{hook}");
        let events = bench.events();
        assert_eq!((events.len(), events[0].reason), (1, Reason::NoBackend as u8));
        assert_eq!(events[0].verdict, Verdict::Dropped as u8);
    }
    // What is left of a connection nobody knows: its reset begins where it would have gone on.
    let (verdict, back) = bench.send(Hook::FromPod, &syn((POD_A, 40_000), (SERVICE, 81), ACK));
    assert_eq!((verdict, back[L4 + 13], &back[L4 + 4..L4 + 8]), (REDIRECT, RST, &[0, 0, 0, 0][..]));
    assert_valid(&back);
    // A reset is not answered, or two would answer each other for ever.
    assert_eq!(bench.send(Hook::FromPod, &syn((POD_A, 40_000), (SERVICE, 81), RST)).0, DROP);
}

fn swapped(packet: &[u8]) -> ([u8; 6], [u8; 6]) {
    (packet[6..12].try_into().expect("six bytes"), packet[..6].try_into().expect("six bytes"))
}

#[test]
fn a_datagram_is_told_that_the_port_is_unreachable() {
    let Some(mut bench) = bench() else { return };
    for (hook, from, to) in SENDERS {
        let packet = udp((from.0, from.1, to.0, to.1));
        let (verdict, back) = bench.send(hook, &packet);
        assert_eq!(verdict, REDIRECT, "{hook}");
        assert_eq!((back.len(), back[L3 + 9], &back[L4..L4 + 2]), (L3 + 56, ICMP, &[3, 3][..]));
        assert_eq!((ends(&back).0, ends(&back).2), (to.0, from.0));
        assert_valid(&back);
        assert_eq!(back[L4 + 8..], packet[L3..L3 + 28], "the packet as it was sent");
    }
}

#[test]
fn a_flood_of_datagrams_is_not_answered_with_a_flood_of_errors() {
    let Some(mut bench) = bench() else { return };
    let packet = udp((OUTSIDE, 40_000, NODE, NODE_PORT));
    // Each CPU has a thousand a second, and this test may run on any.
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let began = std::time::Instant::now();
    let verdicts: Vec<u32> =
        (0..1_000 * cpus + 100).map(|_| bench.send(Hook::FromUplink, &packet).0).collect();
    let answered = verdicts.iter().filter(|verdict| **verdict == REDIRECT).count();
    let seconds = 1 + began.elapsed().as_secs() as usize;
    assert!(answered >= 1_000 && answered <= 1_000 * cpus * seconds, "{answered} in {seconds} s");
    assert!(answered < verdicts.len() || seconds > 1);
}

#[test]
fn fragments_and_options_end_without_an_answer() {
    let Some(mut bench) = bench() else { return };
    let whole = udp((POD_A, 40_000, SERVICE, 81));
    let first = frame::ip(POD_A, SERVICE, UDP, 0x2000, &whole[L4..]);
    assert_eq!(bench.send(Hook::FromPod, &first).0, DROP);
    // A segment with a payload would need to be cut.
    assert_eq!(bench.send(Hook::FromPod, &tcp((POD_A, 40_000, SERVICE, 81), ACK)).0, DROP);
}

#[test]
fn a_client_stays_with_its_backend_while_it_is_there() {
    let Some(mut bench) = bench() else { return };
    let backends: Vec<(Ipv4Addr, u16)> = (1..=30).map(|port| (POD_B, port)).collect();
    bench.service(key(Some(SERVICE), 80, TCP), 2, &backends);
    bench.affinity(key(Some(SERVICE), 80, TCP), 2, 30, 600);
    let drawn = |bench: &mut Bench, range: std::ops::Range<u16>| -> BTreeSet<u16> {
        let packet = |port| tcp((POD_A, port, SERVICE, 80), SYN);
        range.map(|port| ends(&bench.send(Hook::FromPod, &packet(port)).1).3).collect()
    };
    let first = drawn(&mut bench, 1_000..1_020);
    assert_eq!(first.len(), 1, "{first:?}");
    let port = *first.first().expect("one");
    bench.backend(20 + u32::from(port) - 1, POD_FAR, 9_999, 2);
    let then = drawn(&mut bench, 2_000..2_020);
    assert_eq!(then.len(), 1, "{then:?}");
    assert_ne!(then, first, "what the row stands for now is another");
}

/// The kernel lets go of many rows at a time (up to 128), and of none that was asked for lately.
#[test]
fn the_clients_silent_for_longest_are_forgotten_where_there_are_too_many() {
    const ROWS: u32 = 1_024;
    let Some(mut bench) = Bench::with_rows(AFFINITY.name, ROWS) else { return };
    bench.endpoint(POD_B, bench::POD_A_IFINDEX, [2, 0, 0, 0, 0, 0xb]);
    let backends: Vec<(Ipv4Addr, u16)> = (1..=30).map(|port| (POD_B, port)).collect();
    bench.service(key(None, NODE_PORT, TCP), 2, &backends);
    bench.affinity(key(None, NODE_PORT, TCP), 2, 30, 600);
    let address = |client: u32| Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + client);
    // By a new connection each time.
    let ask = |bench: &mut Bench, client, port| {
        let (verdict, after) =
            bench.send(Hook::FromUplink, &syn((address(client), port), (NODE, NODE_PORT), SYN));
        assert_eq!(verdict, REDIRECT, "client {client}");
        ends(&after).3
    };
    let loyal = ask(&mut bench, 0, 1_000);
    let last = 4 * ROWS;
    for client in 1..=last {
        ask(&mut bench, client, 1_000);
        if client % 16 == 0 {
            assert_eq!(ask(&mut bench, 0, 1_000 + client as u16), loyal, "before client {client}");
        }
    }
    let bytes = bench.bytes();
    let known = |client| {
        let key = AffinityKey { client: Address::v4(address(client)), service_id: 2 };
        bytes.contains_key(&(AFFINITY.name, key.as_bytes().to_vec()))
    };
    assert_eq!([0, 1, ROWS, last].map(known), [true, false, false, true]);
    let rows = bytes.keys().filter(|(name, _)| *name == AFFINITY.name).count();
    assert!(rows <= ROWS as usize && rows > ROWS as usize / 2, "{rows}");
}

#[test]
fn a_local_policy_without_a_backend_here_says_so() {
    let Some(mut bench) = bench() else { return };
    bench.local(key(None, NODE_PORT, TCP), 4);
    let packet = syn((OUTSIDE, 40_000), (NODE, NODE_PORT), SYN);
    assert_eq!(bench.send(Hook::FromUplink, &packet).0, DROP);
    assert_eq!(bench.events()[0].reason, Reason::NoLocalBackend as u8);
    // A Pod that names another node means that node's backends.
    let (verdict, after) = bench.send(Hook::FromPod, &syn((POD_A, 40_000), (PEER, NODE_PORT), SYN));
    assert_eq!((verdict, ends(&after).0, ends(&after).2, ends(&after).3), (REDIRECT, NODE, PEER, NODE_PORT));
    // At its own node it gets all of them: the policy is for the outside.
    let inside = ServiceKey { scope: SCOPE_NODE | SCOPE_INSIDE, ..key(None, NODE_PORT, TCP) };
    bench.service(inside, 5, &[(POD_FAR, 8080)]);
    let (verdict, after) = bench.send(Hook::FromPod, &syn((POD_A, 40_001), (NODE, NODE_PORT), SYN));
    assert_eq!((verdict, ends(&after)), (REDIRECT, (POD_A, 40_001, POD_FAR, 8080)));
}
