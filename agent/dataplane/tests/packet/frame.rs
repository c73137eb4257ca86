//! Crafted IPv4 frames, and the checks that a changed one is still a valid one.

use std::net::Ipv4Addr;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Offset of the IP header, and of what it carries.
pub(crate) const L3: usize = 14;
pub(crate) const L4: usize = 34;

/// The four ends of a packet, to write and to compare.
pub(crate) type Ends = (Ipv4Addr, u16, Ipv4Addr, u16);

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum()
}

fn finish(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn put(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn get(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

fn pseudo_header(frame: &[u8]) -> u32 {
    let bytes = (frame.len() - L4) as u32;
    sum(&frame[L3 + 12..L3 + 20]) + u32::from(frame[L3 + 9]) + bytes
}

/// Ethernet and an IPv4 header with its checksum before this payload. The frame is for the device that a test run has, the
/// loopback device, whose address is all zeros.
pub(crate) fn ip(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0xa, 8, 0];
    frame.extend([0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, protocol, 0, 0]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(payload);
    let bytes = (frame.len() - L3) as u16;
    put(&mut frame, L3 + 2, bytes);
    put(&mut frame, L3 + 6, fragment);
    let checksum = finish(sum(&frame[L3..L4]));
    put(&mut frame, L3 + 10, checksum);
    frame
}

fn with_checksum(mut frame: Vec<u8>, at: usize, pseudo: bool) -> Vec<u8> {
    let header = if pseudo { pseudo_header(&frame) } else { 0 };
    let checksum = finish(sum(&frame[L4..]) + header);
    put(&mut frame, at, checksum);
    frame
}

/// A TCP segment with some payload.
pub(crate) fn tcp(ends: Ends, flags: u8) -> Vec<u8> {
    let mut payload = [ends.1.to_be_bytes(), ends.3.to_be_bytes()].concat();
    payload.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    payload.extend(*b"some payload");
    with_checksum(ip(ends.0, ends.2, TCP, 0, &payload), L4 + 16, true)
}

/// A TCP segment without a payload.
pub(crate) fn bare_tcp(ends: Ends, flags: u8) -> Vec<u8> {
    let mut payload = [ends.1.to_be_bytes(), ends.3.to_be_bytes()].concat();
    payload.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    with_checksum(ip(ends.0, ends.2, TCP, 0, &payload), L4 + 16, true)
}

/// A UDP datagram.
pub(crate) fn udp(ends: Ends) -> Vec<u8> {
    let text = b"a datagram's payload";
    let mut payload =
        [ends.1.to_be_bytes(), ends.3.to_be_bytes(), (8 + text.len() as u16).to_be_bytes(), [0; 2]].concat();
    payload.extend(text);
    with_checksum(ip(ends.0, ends.2, UDP, 0, &payload), L4 + 6, true)
}

/// An ICMP message: type, identifier, and what follows its eight bytes.
pub(crate) fn icmp(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    kind: u8,
    identifier: u16,
    rest: &[u8],
) -> Vec<u8> {
    let mut payload = vec![kind, 0, 0, 0];
    payload.extend(identifier.to_be_bytes());
    payload.extend([0, 1]);
    payload.extend(rest);
    with_checksum(ip(source, destination, ICMP, 0, &payload), L4 + 2, false)
}

/// The ends a frame has.
pub(crate) fn ends(frame: &[u8]) -> Ends {
    let address = |at: usize| Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
    (address(L3 + 12), get(frame, L4), address(L3 + 16), get(frame, L4 + 2))
}

/// The ICMP identifier.
pub(crate) fn identifier(frame: &[u8]) -> u16 {
    get(frame, L4 + 4)
}

/// Fails unless this is an outer packet of the tunnel: its header's checksum is right, its lengths are, and it has no other.
#[track_caller]
pub(crate) fn assert_outer(frame: &[u8]) {
    assert_eq!(finish(sum(&frame[L3..L4])), 0, "the outer header's checksum");
    let bytes = frame.len() as u16;
    assert_eq!((get(frame, L3 + 2), get(frame, L4 + 4)), (bytes - L3 as u16, bytes - L4 as u16));
    assert_eq!(get(frame, L4 + 6), 0, "the outer checksum");
}

/// Fails unless every checksum of the frame is right.
#[track_caller]
pub(crate) fn assert_valid(frame: &[u8]) {
    assert_eq!(finish(sum(&frame[L3..L4])), 0, "the IP header's checksum");
    match frame[L3 + 9] {
        TCP | UDP => {
            assert_eq!(finish(sum(&frame[L4..]) + pseudo_header(frame)), 0, "the transport's checksum");
        }
        ICMP => {
            assert_eq!(finish(sum(&frame[L4..])), 0, "the ICMP checksum");
        }
        _ => {}
    }
}
