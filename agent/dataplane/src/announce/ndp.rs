//! Neighbour discovery of IPv6 (RFC 4861), as frames: solicitations and advertisements.

use std::net::{IpAddr, Ipv6Addr};

use super::claims::{Frame, Mac, Message};

const ETHERNET_BYTES: usize = 14;
const IP_BYTES: usize = 40;
/// Type, code, checksum, flags, and the address that it is about.
const MESSAGE_BYTES: usize = 24;
/// ICMPv6 by its number.
pub(super) const ICMP: u8 = 58;
pub(super) const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;
/// What no router has let through.
const HOPS: u8 = 255;
/// Flags of an advertisement: it answers; it is more than what was known before.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// Options: link-layer address of the target, in an advertisement, and of the sender, in a solicitation.
const TARGET_MAC: u8 = 2;
#[cfg(test)]
const SENDER_MAC: u8 = 1;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Where those listen that have an address ending so (RFC 4291, section 2.7.1).
pub(super) fn group_of(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of a group (RFC 2464, section 7).
fn mac_of(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// Reads a frame with its Ethernet header; none when it is no valid solicitation or advertisement (RFC 4861, section 7.1).
pub(super) fn read(frame: &[u8]) -> Option<Message> {
    let ip = frame.get(ETHERNET_BYTES..)?;
    let valid = frame.get(12..ETHERNET_BYTES)? == [0x86, 0xdd]
        && ip.first()? >> 4 == 6
        && *ip.get(6)? == ICMP
        && *ip.get(7)? == HOPS;
    let bytes = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
    let message = ip.get(IP_BYTES..IP_BYTES + bytes)?;
    let (source, destination) = (address(ip, 8)?, address(ip, 24)?);
    let kind = *message.first()?;
    let known = matches!(kind, SOLICITATION | ADVERTISEMENT) && message.get(1) == Some(&0);
    if !valid || !known || bytes < MESSAGE_BYTES || checksum(source, destination, message) != 0 {
        return None;
    }
    let target = address(message, 8)?;
    Some(Message {
        asks: kind == SOLICITATION,
        sender_mac: frame.get(6..12)?.try_into().ok()?,
        sender: IpAddr::V6(if kind == SOLICITATION { source } else { target }),
        target: IpAddr::V6(target),
    })
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    <[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok().map(Ipv6Addr::from)
}

/// The checksum of a message as it stands; 0 when the one in it is right.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let sum = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0))).sum()
    };
    let length = u32::try_from(message.len()).unwrap_or(0);
    let mut all =
        sum(&source.octets()) + sum(&destination.octets()) + sum(message) + length + u32::from(ICMP);
    while all > 0xffff {
        all = (all & 0xffff) + (all >> 16);
    }
    !(all as u16)
}

/// Whose message goes to whom.
struct Between {
    from: (Mac, Ipv6Addr),
    to: (Mac, Ipv6Addr),
}

fn frame(between: &Between, kind: u8, flags: u8, target: Ipv6Addr, option: u8) -> Frame {
    let (mac, source) = between.from;
    let (to_mac, destination) = between.to;
    let parts: [&[u8]; 4] = [&[kind, 0, 0, 0, flags, 0, 0, 0], &target.octets(), &[option, 1], &mac];
    let mut message = parts.concat();
    let sum = checksum(source, destination, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let bytes = u16::try_from(message.len()).unwrap_or(0).to_be_bytes();
    let parts: [&[u8]; 7] = [
        &to_mac,
        &mac,
        &[0x86, 0xdd, 0x60, 0, 0, 0],
        &[bytes[0], bytes[1], ICMP, HOPS],
        &source.octets(),
        &destination.octets(),
        &message,
    ];
    parts.concat()
}

/// The answer to one who asks; to all, when he does not say who he is.
pub(super) fn reply(mac: Mac, address: Ipv6Addr, to: (Mac, Ipv6Addr)) -> Frame {
    if to.1.is_unspecified() {
        return announcement(mac, address);
    }
    let between = Between { from: (mac, address), to };
    frame(&between, ADVERTISEMENT, SOLICITED | OVERRIDE, address, TARGET_MAC)
}

/// Tells all neighbours that an address is here (RFC 4861, section 7.2.6).
pub(super) fn announcement(mac: Mac, address: Ipv6Addr) -> Frame {
    let between = Between { from: (mac, address), to: (mac_of(ALL_NODES), ALL_NODES) };
    frame(&between, ADVERTISEMENT, OVERRIDE, address, TARGET_MAC)
}

/// Asks who has an address.
#[cfg(test)]
pub(super) fn solicitation(mac: Mac, from: Ipv6Addr, target: Ipv6Addr) -> Frame {
    let group = group_of(target);
    let between = Between { from: (mac, from), to: (mac_of(group), group) };
    frame(&between, SOLICITATION, 0, target, SENDER_MAC)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];
    const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
    const NEIGHBOUR: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);

    #[test]
    fn groups_are_those_of_the_rfc() {
        let group = group_of("4037::01:800:200e:8c6c".parse().expect("an address"));
        assert_eq!(group, "ff02::1:ff0e:8c6c".parse::<Ipv6Addr>().expect("an address"));
        assert_eq!(mac_of(group), [0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]);
    }

    #[test]
    fn what_is_said_is_read() {
        let asked = read(&solicitation(OTHER, NEIGHBOUR, ADDRESS)).expect("a question");
        let (sender, target) = (NEIGHBOUR.into(), ADDRESS.into());
        assert_eq!(asked, Message { asks: true, sender_mac: OTHER, sender, target });
        let answer = reply(MAC, ADDRESS, (OTHER, NEIGHBOUR));
        assert_eq!((&answer[..6], answer[58]), (&OTHER[..], SOLICITED | OVERRIDE));
        let said = read(&answer).expect("an answer");
        assert_eq!(said, Message { asks: false, sender_mac: MAC, sender: target, target });
        // One who doubts whether an address is free does not say who he is: all hear the answer.
        let answer = reply(MAC, ADDRESS, (OTHER, Ipv6Addr::UNSPECIFIED));
        assert_eq!((&answer[..6], answer[58]), (&mac_of(ALL_NODES)[..], OVERRIDE));
    }

    #[test]
    fn what_is_not_valid_is_not_read() {
        let good = solicitation(OTHER, NEIGHBOUR, ADDRESS);
        for cut in 0..good.len() {
            assert_eq!(read(&good[..cut]), None, "{cut} bytes");
        }
        // Version, protocol, hops, code, and any byte that the checksum is over.
        for (at, value) in [(14, 0x45), (20, 17), (21, 254), (55, 1), (57, 9), (70, 1), (30, 7)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(read(&bad), None, "byte {at}");
        }
    }
}
