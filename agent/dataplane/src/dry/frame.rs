//! The made-up packet: an Ethernet frame as a Pod sends it, valid to its checksums.

use std::net::{IpAddr, SocketAddr};

use crate::desired::Protocol;
use crate::dry::Start;

/// What the kernel's test run takes at most, less what it wants for itself; a longer packet walks as one of this length, which no
/// station tells from it.
const FRAME_BYTES_MAX: usize = 1_500;
/// Lengths of headers, bytes.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;
const UDP: usize = 8;
/// "Don't fragment".
const DONT_FRAGMENT: u16 = 0x4000;
/// TCP's SYN, and a header of five words.
const SYN: u16 = 0x5002;

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

/// The frame as it leaves the Pod, whose address is of the family that it goes to.
pub(crate) fn build(start: &Start, packet: &Packet) -> Vec<u8> {
    let udp = packet.protocol == Protocol::Udp;
    let (header, number) = if udp { (UDP, 17) } else { (TCP, 6) };
    let ip_bytes = if start.from.is_ipv6() { IPV6 } else { IPV4 };
    // A connection begins with a segment that carries nothing, however long the later ones are.
    let wanted = if udp { packet.bytes as usize } else { 0 };
    let bytes = wanted.clamp(ip_bytes + header, FRAME_BYTES_MAX - ETHERNET);
    let mut frame = vec![0_u8; ETHERNET + bytes];
    frame[..6].copy_from_slice(&start.gateway_mac);
    frame[6..12].copy_from_slice(&start.mac);
    let addresses = match (start.from, packet.to.ip()) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            put(&mut frame, 12, 0x86dd);
            v6(&mut frame[ETHERNET..], number, [from.octets(), to.octets()].concat())
        }
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            put(&mut frame, 12, 0x0800);
            v4(&mut frame[ETHERNET..], number, [from.octets(), to.octets()].concat())
        }
        // Which no program reads.
        _ => return frame,
    };
    let l4 = ETHERNET + ip_bytes;
    put(&mut frame, l4, packet.source_port);
    put(&mut frame, l4 + 2, packet.to.port());
    let at = if udp {
        put(&mut frame, l4 + 4, (bytes - ip_bytes) as u16);
        l4 + 6
    } else {
        put(&mut frame, l4 + 12, SYN);
        put(&mut frame, l4 + 14, 0xffff);
        l4 + 16
    };
    let pseudo = self::sum(&addresses) + u32::from(number) + (bytes - ip_bytes) as u32;
    let sum = finish(pseudo + self::sum(&frame[l4..]));
    put(&mut frame, at, sum);
    frame
}

/// An IPv4 header with these addresses, which it gives back.
fn v4(packet: &mut [u8], protocol: u8, addresses: Vec<u8>) -> Vec<u8> {
    let bytes = packet.len() as u16;
    packet[0] = 0x45;
    put(packet, 2, bytes);
    put(packet, 6, DONT_FRAGMENT);
    packet[8] = 64;
    packet[9] = protocol;
    packet[12..IPV4].copy_from_slice(&addresses);
    let sum = finish(sum(&packet[..IPV4]));
    put(packet, 10, sum);
    addresses
}

/// The same of IPv6.
fn v6(packet: &mut [u8], protocol: u8, addresses: Vec<u8>) -> Vec<u8> {
    let bytes = (packet.len() - IPV6) as u16;
    packet[0] = 0x60;
    put(packet, 4, bytes);
    packet[6] = protocol;
    packet[7] = 64;
    packet[8..IPV6].copy_from_slice(&addresses);
    addresses
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
        for (from, to, ip_bytes) in
            [("10.244.1.5", "10.96.0.1:443", IPV4), ("fd00:244:0:1::5", "[fd00:96::1]:443", IPV6)]
        {
            let start = Start {
                object: "o".into(),
                maps: "m".into(),
                pod_device: "veth".into(),
                pod_ifindex: 3,
                mac: [2, 0, 0, 0, 0, 1],
                gateway_mac: [2, 0, 0, 0, 0, 2],
                from: from.parse().expect("an address"),
                pod_mtu_bytes: 1_450,
                overlay: ("weft".into(), 5, 1_450),
                uplink: ("eth0".into(), 6, 1_500),
            };
            let to: SocketAddr = to.parse().expect("an address");
            for (protocol, asked, bytes) in [
                (Protocol::Tcp, 0, ip_bytes + 20),
                (Protocol::Udp, 0, ip_bytes + 8),
                (Protocol::Udp, 101, 101),
                (Protocol::Udp, 9_000, 1_486),
            ] {
                let frame = build(&start, &Packet { protocol, source_port: 40_000, to, bytes: asked });
                assert_eq!(frame.len(), ETHERNET + bytes);
                let l4 = ETHERNET + ip_bytes;
                if ip_bytes == IPV4 {
                    assert_eq!(finish(sum(&frame[ETHERNET..l4])), 0, "the IP header's checksum");
                }
                let addresses = if ip_bytes == IPV4 { 8 } else { 32 };
                let pseudo = sum(&frame[l4 - addresses..l4])
                    + u32::from(protocol.number())
                    + (frame.len() - l4) as u32;
                assert_eq!(finish(sum(&frame[l4..]) + pseudo), 0, "the transport's checksum");
            }
        }
    }
}
