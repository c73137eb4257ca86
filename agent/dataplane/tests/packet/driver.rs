//! A place and flows for the program at the uplink's driver: a network namespace with an uplink whose neighbours are known, and a
//! client who asks a node port whose backend is another node's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;

use weft_dataplane::netns;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::config::{BALANCE_PACKET, BALANCE_SOCKET, FLOW_EVENTS};
use weft_dataplane_abi::conntrack::{Flow, Tuple};
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::order::Be16;
use weft_dataplane_abi::route::{OVERLAY_MAC, OVERLAY_SOURCE_MAC, ROUTE_OUTSIDE};
use weft_dataplane_abi::service::{SCOPE_NODE, SCOPE_V6, ServiceKey};

use crate::bench::{
    Bench, NODE, NODE_6, OUTSIDE, OUTSIDE_6, OVERLAY, OVERLAY_6, PEER, POD_FAR, POD_FAR_6, REDIRECT, now_ns,
};
use crate::frame::{self, ACK, SYN, TCP, UDP};
use crate::{frame6, object};

/// What the kernel calls the ends of such a program.
pub(crate) const PASS: u32 = 2;
pub(crate) const TX: u32 = 3;

pub(crate) const NODE_PORT: u16 = 30_080;
pub(crate) const PORT: u16 = 5_000;
/// The other node.
pub(crate) const PEER_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 2);
/// Addresses of frames: the uplink's own, the other node's, the router's.
pub(crate) const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 9, 1];
pub(crate) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 2];
pub(crate) const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 0xfe];

pub(crate) fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A network namespace with an uplink whose neighbours are known.
pub(crate) struct Place(String);

impl Place {
    pub(crate) fn new() -> Self {
        static PLACES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = PLACES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let place = Self(format!("wtx{}x{number}", std::process::id()));
        let name = &place.0;
        ip(&format!("netns add {name}"));
        let inside = |arguments: &str| ip(&format!("-n {name} {arguments}"));
        inside("link add wire type veth peer name far");
        inside("link set wire address 02:00:00:00:09:01");
        inside("link set lo up");
        inside("link set far up");
        inside("link set wire up");
        inside(&format!("addr add {NODE}/24 dev wire"));
        inside(&format!("addr add {NODE_6}/64 dev wire nodad"));
        inside(&format!("neigh add {PEER} lladdr 02:00:00:00:09:02 dev wire nud permanent"));
        inside("neigh add 192.168.0.254 lladdr 02:00:00:00:09:fe dev wire nud permanent");
        inside("neigh add fe80::fe lladdr 02:00:00:00:09:fe dev wire nud permanent");
        inside(&format!("neigh add {PEER_6} lladdr 02:00:00:00:09:02 dev wire nud permanent"));
        inside("route add default via 192.168.0.254 dev wire");
        inside("route add default via fe80::fe dev wire");
        place
    }

    /// Does something there, with a bench whose uplink is the one there; nothing where tests are to be skipped.
    pub(crate) fn with(test: impl FnOnce(&mut Bench) + Send) {
        if object::path().is_none() {
            return;
        }
        let place = Self::new();
        place.within(|| test(&mut furnished()));
    }

    /// Does something there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::within(&PathBuf::from("/run/netns").join(&self.0), work).expect("the namespace")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "del", &self.0]).output());
    }
}

/// A bench of the calling thread's place, with a node port before a Pod of another node.
pub(crate) fn furnished() -> Bench {
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{setting}"), "1").expect("forwarding");
    }
    let mut bench = Bench::new().expect("the object is there");
    bench.uplink_ifindex = nix::net::if_::if_nametoindex("wire").expect("the uplink");
    settings(&mut bench, 0);
    for protocol in [TCP, UDP] {
        let key =
            ServiceKey { address: Address::ZERO, port: Be16::new(NODE_PORT), protocol, scope: SCOPE_NODE };
        bench.service(key, 7, &[(POD_FAR, 8080)]);
        bench.service_6(ServiceKey { scope: SCOPE_NODE | SCOPE_V6, ..key }, 8, 0, &[(POD_FAR_6, 8080)]);
    }
    bench
}

/// Other settings, and with them another epoch.
pub(crate) fn settings(bench: &mut Bench, more: u32) {
    bench.epoch += 1;
    bench.configure(BALANCE_PACKET | BALANCE_SOCKET | FLOW_EVENTS | more);
}

/// The four kinds of packet that are carried.
pub(crate) const KINDS: [(u8, bool); 4] = [(TCP, false), (UDP, false), (TCP, true), (UDP, true)];

/// A client's packet to the node port.
pub(crate) fn asked(protocol: u8, v6: bool, flags: u8) -> Vec<u8> {
    match (protocol, v6) {
        (TCP, false) => frame::tcp((OUTSIDE, PORT, NODE, NODE_PORT), flags),
        (_, false) => frame::udp((OUTSIDE, PORT, NODE, NODE_PORT)),
        (TCP, true) => frame6::tcp((OUTSIDE_6, PORT, NODE_6, NODE_PORT), flags),
        (_, true) => frame6::udp((OUTSIDE_6, PORT, NODE_6, NODE_PORT)),
    }
}

/// The backend's answer to a flow that goes to it.
pub(crate) fn answered(protocol: u8, v6: bool, flow: &Flow) -> Vec<u8> {
    let port = flow.to.source_port.get();
    match (protocol, v6) {
        (TCP, false) => frame::tcp((POD_FAR, 8080, OVERLAY, port), ACK),
        (_, false) => frame::udp((POD_FAR, 8080, OVERLAY, port)),
        (TCP, true) => frame6::tcp((POD_FAR_6, 8080, OVERLAY_6, port), ACK),
        (_, true) => frame6::udp((POD_FAR_6, 8080, OVERLAY_6, port)),
    }
}

pub(crate) fn key(protocol: u8, v6: bool) -> Tuple {
    let (source, destination): (IpAddr, IpAddr) =
        if v6 { (OUTSIDE_6.into(), NODE_6.into()) } else { (OUTSIDE.into(), NODE.into()) };
    Tuple {
        source: source.into(),
        destination: destination.into(),
        source_port: Be16::new(PORT),
        destination_port: Be16::new(NODE_PORT),
        protocol,
        reserved: [0; 3],
    }
}

/// Begins a flow by the stack's program, and has it seen there once more.
pub(crate) fn begun(bench: &mut Bench, protocol: u8, v6: bool) -> Flow {
    for flags in [SYN, ACK] {
        let (verdict, _) = bench.send(Hook::FromUplink, &asked(protocol, v6, flags));
        assert_eq!(verdict, REDIRECT);
    }
    seen_now(bench, &key(protocol, v6))
}

/// A row as if it had been seen in this instant.
pub(crate) fn seen_now(bench: &mut Bench, key: &Tuple) -> Flow {
    let mut flow = bench.flow(key).expect("the flow");
    flow.seen_ns = now_ns();
    bench.set_flow(key, &flow);
    flow
}

/// Has the answers' row settled, as the stack's program settles it when the first one comes from the other node.
pub(crate) fn settled(bench: &mut Bench, flow: &Flow, origin: u32) -> Tuple {
    let key = flow.to.reversed();
    let mut twin = bench.flow(&key).expect("the twin");
    (twin.epoch, twin.origin, twin.way) = (bench.epoch, origin, ROUTE_OUTSIDE as u8);
    bench.set_flow(&key, &twin);
    seen_now(bench, &key);
    key
}

/// What the other node sends by the tunnel.
pub(crate) fn in_tunnel(from: Ipv4Addr, inner: &[u8]) -> Vec<u8> {
    let mut payload = [40_000u16.to_be_bytes(), 4789u16.to_be_bytes()].concat();
    payload.extend((16 + inner.len() as u16).to_be_bytes());
    payload.extend([0, 0, 8, 0, 0, 0, 0, 0, 1, 0]);
    payload.extend(OVERLAY_MAC);
    payload.extend(OVERLAY_SOURCE_MAC);
    payload.extend(&inner[12..]);
    frame::ip(from, NODE, UDP, 0, &payload)
}

/// A frame for the uplink.
pub(crate) fn for_uplink(packet: &[u8]) -> Vec<u8> {
    [&OWN_MAC[..], &packet[6..]].concat()
}
