//! ARP for Ethernet and IPv4 (RFC 826), as frames.

use std::net::Ipv4Addr;

use super::claims::{Frame, Mac, Message};

/// Length of an ARP frame of Ethernet and IPv4, bytes.
pub(super) const FRAME_BYTES: usize = 42;
/// What an ARP message for Ethernet and IPv4 begins with: hardware type, protocol type, their lengths.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
pub(super) const REQUEST: u8 = 1;
const REPLY: u8 = 2;
pub(super) const BROADCAST: Mac = [0xff; 6];

/// Reads a frame with its Ethernet header; none when it is no ARP message for Ethernet and IPv4.
pub(super) fn read(frame: &[u8]) -> Option<Message> {
    let message = frame.get(14..FRAME_BYTES)?;
    if frame.get(12..14)? != [8, 6] || message.get(..6)? != KIND || message[6] != 0 {
        return None;
    }
    let address = |at: usize| <[u8; 4]>::try_from(message.get(at..at + 4)?).ok().map(Ipv4Addr::from);
    Some(Message {
        asks: message[7] == REQUEST,
        sender_mac: message.get(8..14)?.try_into().ok()?,
        sender: address(14)?.into(),
        target: address(24)?.into(),
    })
}

pub(super) fn frame(to: Mac, mac: Mac, operation: u8, sender: Ipv4Addr, target: (Mac, Ipv4Addr)) -> Frame {
    let parts: [&[u8]; 9] =
        [&to, &mac, &[8, 6], &KIND, &[0, operation], &mac, &sender.octets(), &target.0, &target.1.octets()];
    parts.concat()
}

/// The answer to one who asks.
pub(super) fn reply(mac: Mac, address: Ipv4Addr, to: (Mac, Ipv4Addr)) -> Frame {
    frame(to.0, mac, REPLY, address, to)
}

/// Asks who has an address without saying who asks: nobody learns anything by it (RFC 5227's probe).
pub(super) fn probe(mac: Mac, address: Ipv4Addr) -> Frame {
    frame(BROADCAST, mac, REQUEST, Ipv4Addr::UNSPECIFIED, ([0; 6], address))
}

/// Both forms of a gratuitous message: some machines only heed the one, some only the other.
pub(super) fn announcement(mac: Mac, address: Ipv4Addr) -> [Frame; 2] {
    [
        frame(BROADCAST, mac, REQUEST, address, ([0; 6], address)),
        frame(BROADCAST, mac, REPLY, address, (BROADCAST, address)),
    ]
}
