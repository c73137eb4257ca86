//! The made-up packet: an Ethernet frame as a Pod sends it, valid to its checksums.

use std::net::{SocketAddr, SocketAddrV4};

use crate::desired::Protocol;
use crate::dry::Start;

/// What the kernel's test run takes at most, less what it wants for itself; a longer packet walks as one of this length, which no
/// station tells from it.
const FRAME_BYTES_MAX: usize = 1_500;
/// Lengths of headers, bytes.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const TCP: usize = 20;
const UDP: usize = 8;
/// "Don't fragment".
const DONT_FRAGMENT: u16 = 0x4000;
/// TCP's SYN, and a header of five words.
const SYN: u16 = 0x5002;
/// Length of `struct __sk_buff`, and where the interface stands in it, bytes.
const CONTEXT_BYTES: usize = 192;
const IFINDEX_AT: usize = 40;

/// A packet to ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// TCP (a SYN) or UDP (a datagram).
    pub protocol: Protocol,
    /// Its source port.
    pub source_port: u16,
    /// Where it goes.
    pub to: SocketAddr,
    /// Its length with its IP header, bytes; a SYN has no other than its own.
    pub bytes: u32,
}

/// The context of a test run on a device.
pub(crate) fn context(ifindex: u32) -> [u8; CONTEXT_BYTES] {
    let mut context = [0; CONTEXT_BYTES];
    context[IFINDEX_AT..IFINDEX_AT + 4].copy_from_slice(&ifindex.to_ne_bytes());
    context
}

/// The frame as it leaves the Pod.
pub(crate) fn build(start: &Start, packet: &Packet, to: SocketAddrV4) -> Vec<u8> {
    let udp = packet.protocol == Protocol::Udp;
    let header = if udp { UDP } else { TCP };
    // A connection begins with a segment that carries nothing, however long the later ones are.
    let wanted = if udp { packet.bytes as usize } else { 0 };
    let bytes = wanted.clamp(IPV4 + header, FRAME_BYTES_MAX - ETHERNET);
    let mut frame = vec![0_u8; ETHERNET + bytes];
    frame[..6].copy_from_slice(&start.gateway_mac);
    frame[6..12].copy_from_slice(&start.mac);
    put(&mut frame, 12, 0x0800);
    let ip = ETHERNET;
    frame[ip] = 0x45;
    put(&mut frame, ip + 2, bytes as u16);
    put(&mut frame, ip + 6, DONT_FRAGMENT);
    frame[ip + 8] = 64;
    frame[ip + 9] = if udp { 17 } else { 6 };
    frame[ip + 12..ip + 16].copy_from_slice(&start.from.octets());
    frame[ip + 16..ip + 20].copy_from_slice(&to.ip().octets());
    let sum = finish(sum(&frame[ip..ip + IPV4]));
    put(&mut frame, ip + 10, sum);
    let l4 = ETHERNET + IPV4;
    put(&mut frame, l4, packet.source_port);
    put(&mut frame, l4 + 2, to.port());
    let at = if udp {
        put(&mut frame, l4 + 4, (bytes - IPV4) as u16);
        l4 + 6
    } else {
        put(&mut frame, l4 + 12, SYN);
        put(&mut frame, l4 + 14, 0xffff);
        l4 + 16
    };
    let pseudo = self::sum(&frame[ip + 12..ip + 20]) + u32::from(frame[ip + 9]) + (bytes - IPV4) as u32;
    let sum = finish(pseudo + self::sum(&frame[l4..]));
    put(&mut frame, at, sum);
    frame
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The sum of RFC 1071.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum()
}

fn finish(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_valid_and_as_long_as_asked() {
        let start = Start {
            object: "o".into(),
            maps: "m".into(),
            pod_device: "veth".into(),
            pod_ifindex: 3,
            mac: [2, 0, 0, 0, 0, 1],
            gateway_mac: [2, 0, 0, 0, 0, 2],
            from: [10, 244, 1, 5].into(),
            pod_mtu_bytes: 1_450,
            overlay: ("weft".into(), 5, 1_450),
            uplink: ("eth0".into(), 6, 1_500),
        };
        let to: SocketAddrV4 = "10.96.0.1:443".parse().expect("an address");
        for (protocol, asked, bytes) in [
            (Protocol::Tcp, 0, 40),
            (Protocol::Udp, 0, 28),
            (Protocol::Udp, 101, 101),
            (Protocol::Udp, 9_000, 1_486),
        ] {
            let packet = Packet { protocol, source_port: 40_000, to: to.into(), bytes: asked };
            let frame = build(&start, &packet, to);
            assert_eq!(frame.len(), ETHERNET + bytes);
            assert_eq!(finish(sum(&frame[ETHERNET..ETHERNET + IPV4])), 0, "the IP header's checksum");
            let l4 = ETHERNET + IPV4;
            let pseudo =
                sum(&frame[ETHERNET + 12..l4]) + u32::from(frame[ETHERNET + 9]) + (frame.len() - l4) as u32;
            assert_eq!(finish(sum(&frame[l4..]) + pseudo), 0, "the transport's checksum");
        }
    }
}
