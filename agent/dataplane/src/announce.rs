//! Announces addresses on the uplink's network: answers ARP for them, and says so when they move here. The addresses are on
//! no device: nothing of the node's own listens on them, and nothing is left behind when this ends.
#![allow(unsafe_code)]

mod claims;
mod neighbour;

use std::collections::BTreeSet;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Instant;

use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::netlink::{Device, Netlink, NetlinkError};
use claims::{Claims, FRAME_BYTES, Frame, Mac};
pub use neighbour::neighbour_answers;

/// `ETH_P_ARP`, as the kernel wants it: in network byte order.
const PROTOCOL: u16 = (libc::ETH_P_ARP as u16).to_be();
/// Frames read before others get their turn.
const FRAMES_PER_TURN_MAX: usize = 64;

/// Why addresses cannot be announced.
#[derive(Debug, Error)]
pub enum AnnounceError {
    /// The device.
    #[error("the device to announce on")]
    Device(#[from] NetlinkError),
    /// It has no Ethernet address.
    #[error("{0} is no Ethernet device: nothing can be announced there")]
    NotEthernet(String),
    /// The socket.
    #[error("no packet socket on {device}")]
    Socket {
        /// The device.
        device: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// What is to be announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// The addresses; IPv6 ones need neighbour discovery, which is not here yet.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// The control plane says so now, as opposed to a view that was kept: see the rules for conflicts in `claims`.
    pub confirmed: bool,
}

/// Announces until it is dropped.
#[derive(Debug)]
pub struct Announcer {
    wanted: watch::Sender<Announced>,
    task: JoinHandle<()>,
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Announcer {
    /// Opens a packet socket on a device of the calling thread's network namespace; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// There is no such device, it is not Ethernet, or the socket is refused.
    pub async fn start(device: &str) -> Result<Self, AnnounceError> {
        let (socket, mac) = open(&Netlink::open()?.existing(device).await?)?;
        let (wanted, receiver) = watch::channel(Announced::default());
        let task = tokio::spawn(run(socket, Claims::new(mac), receiver));
        Ok(Self { wanted, task })
    }

    /// Announces these from now on, and no others. Setting what is set already does nothing.
    pub fn set(&self, announced: Announced) {
        self.wanted.send_if_modified(|now| {
            let changed = *now != announced;
            *now = announced;
            changed
        });
    }
}

/// A socket for ARP on a device, and the device's own Ethernet address.
fn open(device: &Device) -> Result<(AsyncFd<OwnedFd>, Mac), AnnounceError> {
    let not_ethernet = || AnnounceError::NotEthernet(device.name.clone());
    let mac = device.mac.filter(|_| device.ethernet).ok_or_else(not_ethernet)?;
    let failed = |source| AnnounceError::Socket { device: device.name.clone(), source };
    let index = i32::try_from(device.index).map_err(|_| not_ethernet())?;
    let socket = packet_socket(index).map_err(failed)?;
    // SAFETY: the descriptor is the socket's own, which nobody replaces or closes while it lives in the `AsyncFd`.
    let socket = unsafe { AsyncFd::register(socket) }.map_err(|error| failed(error.into()))?;
    Ok((socket, mac))
}

async fn run(socket: AsyncFd<OwnedFd>, mut claims: Claims, mut wanted: watch::Receiver<Announced>) {
    loop {
        let next = claims.next_at().map(tokio::time::Instant::from_std);
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                let announced = wanted.borrow_and_update().clone();
                claims.set(&announced.addresses, announced.confirmed, Instant::now());
            }
            () = due => send(&socket, &claims.due(Instant::now())),
            ready = socket.readable() => {
                let Ok(mut ready) = ready else { return };
                for _ in 0..FRAMES_PER_TURN_MAX {
                    let mut frame = [0; FRAME_BYTES];
                    match ready.try_io(|socket| receive(socket.get_ref(), &mut frame)) {
                        Ok(Ok(bytes)) => {
                            let answers = claims.heard(&frame[..bytes], Instant::now());
                            send(&socket, &answers);
                            if let Some(conflict) = claims.take_conflict() {
                                let [a, b, c, d, e, f] = conflict.other;
                                let other = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
                                tracing::warn!(address = %conflict.address, other, "another machine announces the address, too");
                            }
                        }
                        // The device went down, or away: what there is to hear comes when it is back.
                        Ok(Err(error)) => tracing::debug!(%error, "ARP cannot be read"),
                        Err(_would_block) => break,
                    }
                }
            }
        }
    }
}

/// Sends frames. One that finds no room is lost, as any frame may be.
fn send(socket: &AsyncFd<OwnedFd>, frames: &[Frame]) {
    for frame in frames {
        // SAFETY: the frame is as long as said, and lives through the call.
        let sent = unsafe {
            libc::send(socket.get_ref().as_raw_fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT)
        };
        if sent < 0 {
            tracing::debug!(error = %io::Error::last_os_error(), "an ARP frame is lost");
        }
    }
}

fn receive(socket: &OwnedFd, frame: &mut Frame) -> io::Result<usize> {
    // SAFETY: the kernel writes at most as many bytes as said; what is longer is cut off, padding only.
    let read =
        unsafe { libc::recv(socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// A socket that hears and says ARP frames on one device.
fn packet_socket(ifindex: i32) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: makes a socket.
    let fd = unsafe { libc::socket(libc::AF_PACKET, flags, i32::from(PROTOCOL)) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeroes are a valid address.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = PROTOCOL;
    address.sll_ifindex = ifindex;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is of the length said.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}
