//! The socket station: a datagram socket in the Pod's namespace and cgroup connects, which sends nothing, and the live socket
//! hooks say what they do. They know the socket by its cookie, and leave no trace of it.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use aya::maps::{Array, MapData};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use weft_dataplane_abi::dry::{ASKING_ERRNO, Asking};
use weft_dataplane_abi::maps;
use weft_dataplane_abi::reason::Reason;

use crate::netns::{self, NamespaceError};
use crate::tables::{self, Row, TableError};

/// Why the socket hooks could not be asked.
#[derive(Debug, Error)]
pub enum AskError {
    /// The table by which they know the question.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The Pod's namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The socket.
    #[error("cannot make a socket in the Pod's network")]
    Socket(#[source] io::Error),
}

/// What became of the connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Whom the socket was connected to; none when it was not.
    pub peer: Option<SocketAddr>,
    /// Source port it got; 0 for none.
    pub source_port: u16,
    /// The longest packet the Pod's stack sends there in one piece, bytes; 0 when it does not say.
    pub mtu_bytes: u32,
    /// Why the hooks refuse, in the programs' words.
    pub reason: Option<String>,
    /// What else was in the way, in the kernel's words.
    pub error: Option<String>,
}

/// Connects from a network namespace, as the calling process's cgroup; `maps` is the directory of the live tables. For the
/// Pod's own cgroup the calling process must be in it: sockets belong to the cgroup of their maker.
///
/// # Errors
/// The question could not be put; a refusal is an answer.
pub fn connect(maps: &Path, netns: &Path, to: SocketAddr, protocol: u8) -> Result<Asked, AskError> {
    netns::within(netns, || connect_here(maps, to, protocol))?
}

fn connect_here(maps: &Path, to: SocketAddr, protocol: u8) -> Result<Asked, AskError> {
    let any: IpAddr = if to.is_ipv6() { [0_u16; 8].into() } else { [0; 4].into() };
    let socket = UdpSocket::bind((any, 0)).map_err(AskError::Socket)?;
    let cookie: u64 = option(&socket, libc::SOL_SOCKET, libc::SO_COOKIE).map_err(AskError::Socket)?;
    let mut table: Array<MapData, Row<Asking>> = tables::open(maps, &maps::ASKING)?;
    let mut put = |row| {
        table
            .set(0, Row(row), 0)
            .map_err(|source| TableError::Write { name: maps::ASKING.name, source: Box::new(source) })
    };
    put(Asking { cookie, protocol: u32::from(protocol), reserved: 0 })?;
    let connected = socket.connect(to);
    put(Asking::default())?;
    let mut asked = Asked { peer: None, source_port: 0, mtu_bytes: 0, reason: None, error: None };
    asked.source_port = socket.local_addr().map_or(0, |address| address.port());
    match connected {
        Ok(()) => {
            asked.peer = socket.peer_addr().ok();
            let mtu = if to.is_ipv6() {
                option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU)
            } else {
                option(&socket, libc::IPPROTO_IP, libc::IP_MTU)
            };
            asked.mtu_bytes = mtu.unwrap_or(0_i32).try_into().unwrap_or(0);
        }
        Err(error) => match refused(&error) {
            Some(reason) => asked.reason = Some(reason.text().to_owned()),
            None => asked.error = Some(error.to_string()),
        },
    }
    Ok(asked)
}

/// The hooks' own reason, when it was they who refused.
fn refused(error: &io::Error) -> Option<Reason> {
    let number = error.raw_os_error()?.checked_sub(ASKING_ERRNO)?;
    Reason::try_from(u8::try_from(number).ok()?).ok()
}

/// An integer option of a socket.
fn option<T: Default + Copy>(socket: &UdpSocket, level: i32, name: i32) -> io::Result<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointers describe a live integer and its length, and the kernel writes no more than that.
    let got = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    if got == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hooks_reasons_are_told_from_the_kernels_errors() {
        let error = |number| refused(&io::Error::from_raw_os_error(number));
        assert_eq!(error(ASKING_ERRNO + 6), Some(Reason::NoBackend));
        assert_eq!(error(ASKING_ERRNO + 17), Some(Reason::NoLocalBackend));
        assert_eq!(error(libc::ECONNREFUSED), None);
        assert_eq!(error(ASKING_ERRNO + 200), None);
    }
}
