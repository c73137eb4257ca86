//! Crafted IPv6 frames, with extension headers or without, and the checks that a changed one is still a valid one.

use std::net::Ipv6Addr;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 58;
pub(crate) const FRAGMENT: u8 = 44;

/// Offset of the IP header, and of what follows it.
pub(crate) const L3: usize = 14;
pub(crate) const L4: usize = 54;

/// The four ends of a packet, to write and to compare.
pub(crate) type Ends = (Ipv6Addr, u16, Ipv6Addr, u16);

/// Extension headers: the number of each, and its bytes from the third on.
pub(crate) type Extensions<'a> = &'a [(u8, &'a [u8])];

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

/// Protocol and offset of what the extension headers of a frame lead to.
pub(crate) fn transport(frame: &[u8]) -> (u8, usize) {
    let (mut next, mut at) = (frame[L3 + 6], L4);
    while matches!(next, 0 | 43 | 44 | 60) {
        let bytes = if next == FRAGMENT { 8 } else { (usize::from(frame[at + 1]) + 1) * 8 };
        (next, at) = (frame[at], at + bytes);
    }
    (next, at)
}

/// Ethernet and an IPv6 header, with these extension headers, before this payload.
pub(crate) fn ip(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    extensions: Extensions<'_>,
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0xa, 0x86, 0xdd];
    frame.extend([0x60, 0, 0, 7, 0, 0, protocol, 64]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    let mut number_at = L3 + 6;
    for (number, rest) in extensions {
        frame[number_at] = *number;
        number_at = frame.len();
        let length = if *number == FRAGMENT { 0 } else { ((rest.len() + 2) / 8 - 1) as u8 };
        frame.extend([protocol, length]);
        frame.extend(*rest);
    }
    frame.extend(payload);
    let bytes = (frame.len() - L4) as u16;
    put(&mut frame, L3 + 4, bytes);
    frame
}

fn pseudo_header(frame: &[u8], protocol: u8, at: usize) -> u32 {
    sum(&frame[L3 + 8..L4]) + u32::from(protocol) + (frame.len() - at) as u32
}

fn with_checksum(mut frame: Vec<u8>, offset: usize) -> Vec<u8> {
    let (protocol, at) = transport(&frame);
    let checksum = finish(sum(&frame[at..]) + pseudo_header(&frame, protocol, at));
    put(&mut frame, at + offset, checksum);
    frame
}

/// A TCP segment with this payload, behind these extension headers.
pub(crate) fn tcp_with(ends: Ends, flags: u8, extensions: Extensions<'_>, rest: &[u8]) -> Vec<u8> {
    let mut payload = [ends.1.to_be_bytes(), ends.3.to_be_bytes()].concat();
    payload.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    payload.extend(rest);
    with_checksum(ip(ends.0, ends.2, extensions, TCP, &payload), 16)
}

/// A TCP segment with some payload.
pub(crate) fn tcp(ends: Ends, flags: u8) -> Vec<u8> {
    tcp_with(ends, flags, &[], b"some payload")
}

/// A UDP datagram behind these extension headers.
pub(crate) fn udp_with(ends: Ends, extensions: Extensions<'_>) -> Vec<u8> {
    let text = b"a datagram's payload";
    let mut payload =
        [ends.1.to_be_bytes(), ends.3.to_be_bytes(), (8 + text.len() as u16).to_be_bytes(), [0; 2]].concat();
    payload.extend(text);
    with_checksum(ip(ends.0, ends.2, extensions, UDP, &payload), 6)
}

/// A UDP datagram.
pub(crate) fn udp(ends: Ends) -> Vec<u8> {
    udp_with(ends, &[])
}

/// An ICMPv6 message: type and code, the four bytes after the checksum, and what follows its eight bytes.
pub(crate) fn icmp(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: (u8, u8),
    word: [u8; 4],
    rest: &[u8],
) -> Vec<u8> {
    let mut payload = vec![kind.0, kind.1, 0, 0];
    payload.extend(word);
    payload.extend(rest);
    with_checksum(ip(source, destination, &[], ICMP, &payload), 2)
}

/// The ends a frame has.
pub(crate) fn ends(frame: &[u8]) -> Ends {
    let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).expect("16 bytes"));
    let (_, at) = transport(frame);
    (address(L3 + 8), get(frame, at), address(L3 + 24), get(frame, at + 2))
}

/// The ICMP identifier.
pub(crate) fn identifier(frame: &[u8]) -> u16 {
    get(frame, L4 + 4)
}

/// Fails unless the frame's checksum is right, and its length what it says.
#[track_caller]
pub(crate) fn assert_valid(frame: &[u8]) {
    let (protocol, at) = transport(frame);
    assert_eq!(usize::from(get(frame, L3 + 4)), frame.len() - L4, "the payload's length");
    assert_eq!(frame[L3] >> 4, 6);
    assert_eq!(
        finish(sum(&frame[at..]) + pseudo_header(frame, protocol, at)),
        0,
        "the checksum of protocol {protocol}"
    );
}
