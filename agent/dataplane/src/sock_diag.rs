//! The kernel's list of sockets, and its order to abort one (`sock_diag(7)`, `SOCK_DESTROY`), of the namespace in which the
//! list was opened. Knows nothing of backends.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use weft_dataplane_abi::address::Address;

/// IANA number of TCP.
pub(crate) const TCP: u8 = 6;
/// IANA number of UDP.
pub(crate) const UDP: u8 = 17;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// What of `idiag_states` stands for UDP sockets that are connected (`1 << TCP_ESTABLISHED`).
const UDP_CONNECTED: u32 = 1 << 1;
/// The same for TCP sockets whose other end is still expected to speak: established, SYN sent, FIN wait 1, close wait, last
/// acknowledgement, closing (`tcp_states.h`).
const TCP_CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 11;
/// Length of `struct nlmsghdr`, bytes.
const HEADER_BYTES: usize = 16;
/// Length of `struct inet_diag_req_v2`, bytes: eight, and the socket's identity.
const REQUEST_BYTES: usize = 8 + ID_BYTES;
/// Length of `struct inet_diag_sockid`, bytes.
const ID_BYTES: usize = 48;
/// Where the identity stands in `struct inet_diag_msg`.
const ID_AT: usize = 4;
/// Room for one answer of a dump; the kernel fills at most 32 KiB.
const ANSWER_BYTES: usize = 32 * 1024;
/// How long the kernel may take for an answer, seconds.
const PATIENCE_SECONDS: i64 = 2;

/// The two ends of a connected socket; ports in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ends {
    pub(crate) local: Address,
    pub(crate) local_port: u16,
    pub(crate) remote: Address,
    pub(crate) remote_port: u16,
}

/// A connected socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connected {
    pub(crate) cookie: u64,
    pub(crate) ends: Ends,
    protocol: u8,
    family: u8,
    id: [u8; ID_BYTES],
}

/// A way to the list of one namespace.
pub(crate) struct Sockets(OwnedFd);

impl Sockets {
    /// Opens the list of the calling thread's namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let (flag, kind) = (SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag);
        let netlink = socket(AddressFamily::Netlink, SockType::Raw, flag, kind)?;
        setsockopt(&netlink, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
        Ok(Self(netlink))
    }

    /// Every connected socket of a protocol, of both families.
    pub(crate) fn connected(&self, protocol: u8) -> io::Result<Vec<Connected>> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let family = u8::try_from(family).map_err(io::Error::other)?;
            let ids = self.list(protocol, family)?;
            found.extend(ids.into_iter().map(|id| Connected::read(protocol, family, id)));
        }
        Ok(found)
    }

    fn list(&self, protocol: u8, family: u8) -> io::Result<Vec<[u8; ID_BYTES]>> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
        let states = if protocol == TCP { TCP_CONNECTED } else { UDP_CONNECTED };
        self.ask(SOCK_DIAG_BY_FAMILY, flags, [family, protocol], states, &[0; ID_BYTES])?;
        let mut found = Vec::new();
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            let bytes = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..bytes];
            while let Some((kind, body, after)) = message(rest) {
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(found),
                    libc::NLMSG_ERROR => return refusal(body).map(|()| found),
                    _ => {
                        let id = body.get(ID_AT..ID_AT + ID_BYTES);
                        found.extend(id.and_then(|id| <[u8; ID_BYTES]>::try_from(id).ok()));
                    }
                }
                rest = after;
            }
        }
    }

    /// Aborts a socket: its process sees `ECONNABORTED`. False when it was gone already.
    pub(crate) fn abort(&self, socket: &Connected) -> io::Result<bool> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        self.ask(SOCK_DESTROY, flags, [socket.family, socket.protocol], u32::MAX, &socket.id)?;
        let mut buffer = [0; 1024];
        let bytes = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        match message(&buffer[..bytes]).map_or(Ok(()), |(_, body, _)| refusal(body)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn ask(
        &self,
        kind: u16,
        flags: libc::c_int,
        [family, protocol]: [u8; 2],
        states: u32,
        id: &[u8; ID_BYTES],
    ) -> io::Result<()> {
        let length = (HEADER_BYTES + REQUEST_BYTES) as u32;
        let flags = u16::try_from(flags).map_err(io::Error::other)?;
        let mut request = Vec::with_capacity(HEADER_BYTES + REQUEST_BYTES);
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        // Sequence number and sender: this socket has one question at a time.
        request.extend([0; 8]);
        request.extend([family, protocol, 0, 0]);
        request.extend(states.to_ne_bytes());
        request.extend(id);
        send(self.0.as_raw_fd(), &request, MsgFlags::empty())?;
        Ok(())
    }
}

impl Connected {
    /// Reads an identity: ports, two addresses of sixteen bytes, interface, cookie in two halves.
    fn read(protocol: u8, family: u8, id: [u8; ID_BYTES]) -> Self {
        let half = |at: usize| u64::from(u32::from_ne_bytes([id[at], id[at + 1], id[at + 2], id[at + 3]]));
        let address = |at: usize| {
            if i32::from(family) == libc::AF_INET {
                return Address::from(IpAddr::from(Ipv4Addr::new(
                    id[at],
                    id[at + 1],
                    id[at + 2],
                    id[at + 3],
                )));
            }
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&id[at..at + 16]);
            Address::from(IpAddr::from(Ipv6Addr::from(bytes)))
        };
        let ends = Ends {
            local: address(4),
            local_port: u16::from_be_bytes([id[0], id[1]]),
            remote: address(20),
            remote_port: u16::from_be_bytes([id[2], id[3]]),
        };
        Self { cookie: half(40) | half(44) << 32, ends, protocol, family, id }
    }
}

/// The first message of an answer: its type, its body, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER_BYTES..length)?;
    let aligned = length.next_multiple_of(4).min(bytes.len());
    Some((kind, body, &bytes[aligned..]))
}

/// What an error message says; its number 0 is an acknowledgement.
fn refusal(body: &[u8]) -> io::Result<()> {
    let number = body.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-number)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

    #[test]
    fn broken_answers_are_no_messages() {
        assert!(message(&[]).is_none());
        assert!(message(&[255; 20]).is_none());
        assert!(message(&[3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(refusal(&[1, 2]).is_ok());
    }

    #[test]
    fn connected_sockets_are_listed_with_both_ends() {
        let other = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let listener = TcpListener::bind("127.0.0.1:0").expect("listening");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("bound");
        udp.connect(other.local_addr().expect("an address")).expect("connected");
        let tcp = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let sockets = Sockets::open().expect("a list");
        for (protocol, local, remote) in
            [(UDP, udp.local_addr(), other.local_addr()), (TCP, tcp.local_addr(), listener.local_addr())]
        {
            let end = |end: io::Result<SocketAddr>| end.expect("an address");
            let (local, remote) = (end(local), end(remote));
            let ends = Ends {
                local: Address::from(local.ip()),
                local_port: local.port(),
                remote: Address::from(remote.ip()),
                remote_port: remote.port(),
            };
            let listed = sockets.connected(protocol).expect("sockets");
            assert!(listed.iter().any(|socket| socket.ends == ends), "{ends:?}");
        }
    }
}
