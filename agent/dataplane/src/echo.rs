//! Whether a machine is there: an ICMP echo that its kernel answers (RFC 792, RFC 4443), with or without an agent.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// Echoes that may stay without an answer.
const ECHOES: u16 = 3;
/// How long each is waited for.
const WAIT: Duration = Duration::from_secs(1);
const WAIT_SLICE_MS: i64 = 100;
/// Type of request and answer, by family.
const V4: (u8, u8) = (8, 0);
const V6: (u8, u8) = (128, 129);
const ECHO_BYTES: usize = 8;
const ANSWER_BYTES: usize = 512;

/// Asks; an error is one of this machine. Takes up to three seconds when nobody answers.
pub(crate) fn answers(address: IpAddr) -> io::Result<bool> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(WAIT_SLICE_MS))?;
    // Only what comes from there is heard, and that there is no way is told.
    if let Err(error) = connect(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, 0))) {
        return silence(error.into()).map(|()| false);
    }
    let id = std::process::id().to_ne_bytes();
    for number in 0..ECHOES {
        let request = request(address, [id[0], id[1]], number);
        if let Err(error) = send(socket.as_raw_fd(), &request, MsgFlags::empty()) {
            silence(error.into())?;
        }
        if answered(&socket, address, &request)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Errors that say that nobody is there, or nothing at all.
fn silence(error: io::Error) -> io::Result<()> {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, Interrupted, NetworkUnreachable, WouldBlock};
    match error.kind() {
        ConnectionRefused | HostUnreachable | Interrupted | NetworkUnreachable | WouldBlock => Ok(()),
        _ => Err(error),
    }
}

fn answered(socket: &OwnedFd, address: IpAddr, request: &[u8; ECHO_BYTES]) -> io::Result<bool> {
    let end = Instant::now() + WAIT;
    while Instant::now() < end {
        let mut answer = [0; ANSWER_BYTES];
        match recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
            Ok(bytes) if is_answer(&answer[..bytes], address, request) => return Ok(true),
            Ok(_) => {}
            Err(error) => silence(error.into())?,
        }
    }
    Ok(false)
}

fn request(address: IpAddr, id: [u8; 2], number: u16) -> [u8; ECHO_BYTES] {
    let kind = if address.is_ipv4() { V4.0 } else { V6.0 };
    let [high, low] = number.to_be_bytes();
    let mut request = [kind, 0, 0, 0, id[0], id[1], high, low];
    if address.is_ipv4() {
        // Of ICMPv6 the kernel does it.
        let words = request.chunks_exact(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        request[2..4].copy_from_slice(&(!sum as u16).to_be_bytes());
    }
    request
}

/// An IPv4 answer comes with its IP header, an IPv6 one without.
fn is_answer(packet: &[u8], address: IpAddr, request: &[u8; ECHO_BYTES]) -> bool {
    let (kind, skip) = match address {
        IpAddr::V4(_) => (V4.1, packet.first().map_or(0, |first| usize::from(first & 0xf) * 4)),
        IpAddr::V6(_) => (V6.1, 0),
    };
    let Some(message) = packet.get(skip..skip + ECHO_BYTES) else { return false };
    message[0] == kind && message[4..] == request[4..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_requests_number_behind_its_ip_header() {
        let address: IpAddr = "10.0.0.1".parse().expect("an address");
        let request = request(address, [7, 8], 2);
        assert_eq!(request, [8, 0, 0xf0, 0xf5, 7, 8, 0, 2], "the sum of all words is all ones");
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet.extend([0, 0, 0, 0, 7, 8, 0, 2]);
        assert!(is_answer(&packet, address, &request));
        assert!(!is_answer(&packet[..27], address, &request));
        packet[27] = 3;
        assert!(!is_answer(&packet, address, &request));
        let v6 = "fd00::1".parse().expect("an address");
        assert!(is_answer(&[129, 0, 1, 2, 7, 8, 0, 2], v6, &request));
    }
}
