//! UDP sockets that were connected to a backend which is gone. No hook sees what they send, so they would speak to nobody
//! for ever: the kernel is told to abort them, their processes see an error and connect anew.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

use aya::maps::{HashMap as KernelHash, MapData};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use thiserror::Error;
use weft_dataplane_abi::address::Address;
use weft_dataplane_abi::maps;
use weft_dataplane_abi::socket::{SOCKET_REVERSE, SocketFlow, SocketKey};

use crate::diff::Write;
use crate::netns::{self, NamespaceError};
use crate::tables::{self, Row, TableError};
use crate::worker::chain;

const UDP: u8 = 17;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// What of `idiag_states` stands for connected sockets (`1 << TCP_ESTABLISHED`).
const CONNECTED: u32 = 1 << 1;
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

/// Why sockets could not be looked at or aborted.
#[derive(Debug, Error)]
pub(crate) enum SocketError {
    /// The table of what was decided at connect.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A Pod's namespace.
    #[error("network namespace {}", path.display())]
    Namespace {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: NamespaceError,
    },
    /// The kernel's list of sockets.
    #[error("cannot list or abort sockets")]
    Kernel(#[source] io::Error),
}

/// A socket, and the other end it was given at connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Connected {
    cookie: u64,
    address: Address,
    /// Host byte order.
    port: u16,
}

/// Orders that wait for the thread; more than that are given up, and said.
const ORDERS_MAX: usize = 64;

/// Backends that are gone, and namespaces in which sockets may be connected to them.
type Order = (HashSet<u32>, Vec<PathBuf>);

/// The thread that aborts sockets: it asks every Pod's namespace, which takes its time. It ends when this is dropped.
pub(crate) struct Undertaker {
    orders: SyncSender<Order>,
}

impl Undertaker {
    /// Starts the thread in the calling one's network namespace, the node's; `directory` holds the tables.
    pub(crate) fn start(directory: PathBuf) -> io::Result<Self> {
        let (orders, taken) = sync_channel::<Order>(ORDERS_MAX);
        let work = move || {
            while let Ok((mut backends, mut namespaces)) = taken.recv() {
                // What came meanwhile is done in one go, where there are Pods now.
                while let Ok((more, newer)) = taken.try_recv() {
                    backends.extend(more);
                    namespaces = newer;
                }
                match abort(&directory, &backends, &namespaces) {
                    Ok(0) => {}
                    Ok(sockets) => {
                        tracing::info!(sockets, "aborted UDP sockets connected to backends that are gone");
                    }
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "UDP sockets may be left with dead backends");
                    }
                }
            }
        };
        std::thread::Builder::new().name("weft-sockets".to_owned()).spawn(work)?;
        Ok(Self { orders })
    }

    /// Has the sockets aborted that were given one of these backends. Does not wait for it.
    pub(crate) fn order(&self, backends: HashSet<u32>, namespaces: Vec<PathBuf>) {
        if self.orders.try_send((backends, namespaces)).is_err() {
            tracing::warn!("too many backends go at once: UDP sockets may be left with dead ones");
        }
    }
}

/// Ids of the UDP backends that these writes retire.
pub(crate) fn retired(writes: &[Write]) -> HashSet<u32> {
    let gone = writes.iter().filter_map(|write| match write {
        Write::PutBackend(id, row) if row.flags == 0 && row.protocol == u32::from(UDP) => Some(*id),
        _ => None,
    });
    gone.collect()
}

/// Aborts the UDP sockets that were connected to these backends, in the calling thread's namespace and in others; says
/// how many. A namespace that went meanwhile took its sockets along.
fn abort(directory: &Path, backends: &HashSet<u32>, namespaces: &[PathBuf]) -> Result<usize, SocketError> {
    let wanted = given(directory, backends)?;
    if wanted.is_empty() {
        return Ok(0);
    }
    let mut aborted = abort_here(&wanted).map_err(SocketError::Kernel)?;
    for path in namespaces.iter().filter(|path| path.exists()) {
        let inside = netns::within(path, || abort_here(&wanted))
            .map_err(|source| SocketError::Namespace { path: path.clone(), source })?;
        aborted += inside.map_err(SocketError::Kernel)?;
    }
    Ok(aborted)
}

/// Sockets that were given one of these backends at connect.
fn given(directory: &Path, backends: &HashSet<u32>) -> Result<HashSet<Connected>, TableError> {
    let table: KernelHash<MapData, Row<SocketKey>, Row<SocketFlow>> =
        tables::open(directory, &maps::SOCKET_FLOWS)?;
    let mut found = HashSet::new();
    // Rows may go while they are read; those that come are of backends that are there.
    for (key, row) in table.iter().take(maps::SOCKET_FLOWS.capacity as usize * 2).flatten() {
        let (key, row) = (key.0, row.0);
        if key.protocol == UDP && key.direction == SOCKET_REVERSE && backends.contains(&row.backend_id) {
            found.insert(Connected { cookie: key.cookie, address: key.address, port: key.port.get() });
        }
    }
    Ok(found)
}

fn abort_here(wanted: &HashSet<Connected>) -> io::Result<usize> {
    let netlink =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    setsockopt(&netlink, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
    let mut aborted = 0;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).map_err(io::Error::other)?;
        for id in list(&netlink, family)? {
            if wanted.contains(&connected(family, &id)) && destroy(&netlink, family, &id)? {
                aborted += 1;
            }
        }
    }
    Ok(aborted)
}

/// Every connected UDP socket of a family, by its identity.
fn list(netlink: &OwnedFd, family: u8) -> io::Result<Vec<[u8; ID_BYTES]>> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
    ask(netlink, SOCK_DIAG_BY_FAMILY, flags, family, CONNECTED, &[0; ID_BYTES])?;
    let mut found = Vec::new();
    let mut buffer = vec![0; ANSWER_BYTES];
    loop {
        let bytes = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
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

/// Aborts one socket; false when it was gone already.
fn destroy(netlink: &OwnedFd, family: u8, id: &[u8; ID_BYTES]) -> io::Result<bool> {
    ask(netlink, SOCK_DESTROY, libc::NLM_F_REQUEST | libc::NLM_F_ACK, family, u32::MAX, id)?;
    let mut buffer = [0; 1024];
    let bytes = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    match message(&buffer[..bytes]).map_or(Ok(()), |(_, body, _)| refusal(body)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    }
}

fn ask(
    netlink: &OwnedFd,
    kind: u16,
    flags: libc::c_int,
    family: u8,
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
    request.extend([family, UDP, 0, 0]);
    request.extend(states.to_ne_bytes());
    request.extend(id);
    send(netlink.as_raw_fd(), &request, MsgFlags::empty())?;
    Ok(())
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

/// A socket as the kernel identifies it: ports, two addresses of sixteen bytes, interface, cookie in two halves.
fn connected(family: u8, id: &[u8; ID_BYTES]) -> Connected {
    let half = |at: usize| u64::from(u32::from_ne_bytes([id[at], id[at + 1], id[at + 2], id[at + 3]]));
    let address = if i32::from(family) == libc::AF_INET {
        IpAddr::from(Ipv4Addr::new(id[20], id[21], id[22], id[23]))
    } else {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&id[20..36]);
        IpAddr::from(Ipv6Addr::from(bytes))
    };
    Connected {
        cookie: half(40) | half(44) << 32,
        address: Address::from(address),
        port: u16::from_be_bytes([id[2], id[3]]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use weft_dataplane_abi::backend::Backend;

    #[test]
    fn retired_backends_of_udp_are_found_among_writes() {
        let row = |flags, protocol| Backend { flags, protocol, ..Backend::default() };
        let writes = [
            Write::PutBackend(1, row(0, 6)),
            Write::PutBackend(2, row(0, 17)),
            Write::PutBackend(3, row(1, 17)),
        ];
        assert_eq!(retired(&writes), HashSet::from([2]));
    }

    #[test]
    fn broken_answers_are_no_messages() {
        assert!(message(&[]).is_none());
        assert!(message(&[255; 20]).is_none());
        assert!(message(&[3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert!(refusal(&[1, 2]).is_ok());
    }

    #[test]
    fn a_connected_socket_is_listed_with_its_other_end() {
        let other = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let port = other.local_addr().expect("an address").port();
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        socket.connect(("127.0.0.1", port)).expect("connected");
        let netlink = nix::sys::socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        );
        let family = libc::AF_INET as u8;
        let listed = list(&netlink.expect("a socket"), family).expect("a list");
        let ends: Vec<Connected> = listed.iter().map(|id| connected(family, id)).collect();
        let wanted = Address::v4(Ipv4Addr::LOCALHOST);
        assert!(ends.iter().any(|end| end.port == port && end.address == wanted), "{ends:?}");
    }
}
