//! A tunnel of IPv6, which nobody cuts: who sends from outside what does not fit hears how long a packet may be.

#[path = "packet/bench.rs"]
#[allow(dead_code, reason = "each test uses a part of the bench")]
mod bench;
#[path = "packet/driver.rs"]
#[allow(dead_code, reason = "each test uses a part of the place")]
mod driver;
#[path = "packet/frame.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame;
#[path = "packet/frame6.rs"]
#[allow(dead_code, reason = "each test uses a part of the frames")]
mod frame6;
#[path = "packet/object.rs"]
mod object;

use std::net::{Ipv4Addr, Ipv6Addr};

use bench::{Bench, DROP, NODE, NODE_6, OUTSIDE, OUTSIDE_6, PEER, REDIRECT};
use driver::{NODE_PORT, PEER_6, PORT, Place, ip, settings};
use frame6::FRAGMENT;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::DIRECT_RETURN;
use weft_dataplane_abi::event::Verdict;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::reason::Reason;
use weft_dataplane_abi::route::ROUTE_TUNNEL;
use weft_dataplane_abi::station::Station;

/// What the tunnel's device takes, bytes without a frame.
const LONGEST: usize = 1_430;
const IP_4: usize = 20;
const IP_6: usize = 40;
/// Cutting is forbidden, in the field of fragments.
const WHOLE: u16 = 0x4000;

/// A bench whose tunnel's device takes so much, by which both families of the other node's Pods are reached.
fn with_tunnel_by(peer: impl Into<Address> + Send, test: impl FnOnce(&mut Bench) + Send) {
    Place::with(|bench| {
        ip("link add tunnel type bridge");
        ip(&format!("link set tunnel mtu {LONGEST}"));
        bench.overlay_ifindex = nix::net::if_::if_nametoindex("tunnel").expect("the tunnel's device");
        let peer = peer.into();
        bench.route_by(Ipv4Addr::new(10, 244, 2, 0), 24, ROUTE_TUNNEL, peer);
        bench.route_by(Ipv6Addr::new(0xfd00, 0x244, 0, 2, 0, 0, 0, 0), 64, ROUTE_TUNNEL, peer);
        settings(bench, 0);
        test(bench);
    });
}

/// A client's packet of IPv6 to the node port, so many bytes without its frame.
fn six(bytes: usize) -> Vec<u8> {
    frame6::tcp_with((OUTSIDE_6, PORT, NODE_6, NODE_PORT), frame::ACK, &[], &vec![7; bytes - IP_6 - 20])
}

/// A fragment of a datagram, with as much behind its header.
fn piece(place: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let header = [place[0], place[1], 0, 0, 0, 9];
    frame6::ip(OUTSIDE_6, NODE_6, &[(FRAGMENT, &header)], frame::UDP, payload)
}

/// The same of IPv4.
fn four(bytes: usize, fragment: u16) -> Vec<u8> {
    let whole = frame::udp((OUTSIDE, PORT, NODE, NODE_PORT));
    let mut payload = whole[frame::L4..frame::L4 + 8].to_vec();
    payload[4..6].copy_from_slice(&((bytes - IP_4) as u16).to_be_bytes());
    // No checksum.
    payload[6..8].fill(0);
    payload.resize(bytes - IP_4, 7);
    frame::ip(OUTSIDE, NODE, frame::UDP, fragment, &payload)
}

/// Sends what does not fit, and checks what the client hears.
#[track_caller]
fn is_told(bench: &mut Bench, packet: &[u8]) {
    bench.events();
    let (verdict, answer) = bench.send(Hook::FromUplink, packet);
    assert_eq!(verdict, REDIRECT);
    assert_eq!((&answer[..6], &answer[6..12]), (&packet[6..12], &packet[..6]), "back where it came from");
    let longest = (LONGEST as u32).to_be_bytes();
    if packet[12] == 0x86 {
        frame6::assert_valid(&answer);
        assert_eq!(answer[frame6::L3 + 8..][..32], [NODE_6.octets(), OUTSIDE_6.octets()].concat());
        let error = &answer[frame6::L4..];
        assert_eq!((&error[..2], &error[4..8]), (&[2, 0][..], &longest[..]));
        assert_eq!(error[8..], packet[frame6::L3..][..IP_6 + 16], "the packet as it was sent");
    } else {
        frame::assert_valid(&answer);
        assert_eq!((frame::ends(&answer).0, frame::ends(&answer).2), (NODE, OUTSIDE));
        let error = &answer[frame::L4..];
        assert_eq!((&error[..2], &error[4..8]), (&[3, 4][..], &longest[..]));
        assert_eq!(error[8..], packet[frame::L3..][..IP_4 + 8], "the packet as it was sent");
    }
    let events = bench.events();
    let event = events.last().expect("an event");
    assert_eq!((event.verdict, event.reason), (Verdict::Dropped as u8, Reason::TooLarge as u8));
    assert_eq!(event.station, Station::Route as u8);
}

/// Sends what fits: it goes into the tunnel, as long as it was.
#[track_caller]
fn passes(bench: &mut Bench, packet: &[u8]) {
    let (verdict, after) = bench.send(Hook::FromUplink, packet);
    assert_eq!((verdict, after.len()), (REDIRECT, packet.len()));
    assert_ne!(&after[..6], &packet[6..12], "it came back");
}

#[test]
fn who_sends_what_does_not_fit_hears_how_long_a_packet_may_be() {
    with_tunnel_by(PEER_6, |bench| {
        for setting in [0, DIRECT_RETURN] {
            settings(bench, setting);
            bench.forget_flows();
            passes(bench, &six(LONGEST));
            is_told(bench, &six(LONGEST + 1));
            passes(bench, &four(LONGEST, WHOLE));
            is_told(bench, &four(LONGEST + 1, WHOLE));
        }
    });
}

#[test]
fn fragments_hear_it_too_and_are_made_smaller_by_who_sends_them() {
    with_tunnel_by(PEER_6, |bench| {
        let ports = [PORT.to_be_bytes(), NODE_PORT.to_be_bytes(), 4_000u16.to_be_bytes(), [1, 1]].concat();
        let payload = |bytes: usize| [&ports[..], &vec![7; bytes - IP_6 - 8 - 8]].concat();
        is_told(bench, &piece([0, 1], &payload(1_496)));
        is_told(bench, &piece([5, 0xa8], &[7; 1_448]));
        passes(bench, &piece([0, 1], &payload(1_424)));
        passes(bench, &piece([5, 0x60], &[7; 1_376]));
    });
}

#[test]
fn what_may_be_cut_is_lost_with_its_reason() {
    with_tunnel_by(PEER_6, |bench| {
        passes(bench, &four(LONGEST, 0));
        bench.events();
        assert_eq!(bench.send(Hook::FromUplink, &four(LONGEST + 1, 0)).0, DROP);
        assert_eq!(bench.events()[0].reason, Reason::TooLarge as u8);
    });
}

#[test]
fn a_tunnel_of_ipv4_takes_everything_for_the_kernel_cuts_it() {
    with_tunnel_by(PEER, |bench| {
        // No neighbour takes it past the device, where lengths are the device's to see to.
        settings(bench, weft_dataplane_abi::config::TUNNEL_BY_DEVICE);
        passes(bench, &six(1_500));
        passes(bench, &four(1_500, WHOLE));
    });
}
