//! Announces addresses on the uplink's network: answers ARP and neighbour discovery for them, and says so when they move here.
//! The addresses are on no device: nothing of the node's own listens on them, and nothing is left behind when this ends.
#![allow(unsafe_code)]

mod arp;
mod claims;
mod ndp;
mod neighbour;

use std::collections::BTreeSet;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Instant;

use thiserror::Error;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::netlink::{Device, Netlink, NetlinkError};
use claims::{Claims, Frame, Mac};
pub use neighbour::neighbour_answers;

/// Protocols of packet sockets.
const ETH_P_ARP: u16 = libc::ETH_P_ARP as u16;
const ETH_P_IPV6: u16 = libc::ETH_P_IPV6 as u16;
/// Longest frame that is read whole; what is longer is nothing that is listened for.
const FRAME_BYTES_MAX: usize = 512;
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
    /// The addresses, of either family.
    pub addresses: BTreeSet<IpAddr>,
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
    /// Opens packet sockets on a device of the calling thread's network namespace; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// There is no such device, it is not Ethernet, or the socket is refused.
    pub async fn start(device: &str) -> Result<Self, AnnounceError> {
        let device = Netlink::open()?.existing(device).await?;
        let (arp, mac) = open(&device, ETH_P_ARP)?;
        let (ndp, _) = open(&device, ETH_P_IPV6)?;
        let failed = |source| AnnounceError::Socket { device: device.name.clone(), source };
        let groups = Groups::new(device.index).map_err(failed)?;
        let (wanted, receiver) = watch::channel(Announced::default());
        let task = tokio::spawn(run(Network { arp, ndp, groups }, Claims::new(mac), receiver));
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

/// The sockets on one network.
struct Network {
    arp: AsyncFd<OwnedFd>,
    ndp: AsyncFd<OwnedFd>,
    groups: Groups,
}

/// The groups in which neighbours ask for IPv6 addresses. Nobody reads the socket: it is a member, so that the device hears the
/// groups' frames and switches forward them.
struct Groups {
    /// None where the kernel has no IPv6.
    member: Option<UdpSocket>,
    ifindex: u32,
    joined: BTreeSet<Ipv6Addr>,
}

impl Groups {
    fn new(ifindex: u32) -> io::Result<Self> {
        let member = match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            // No address of the family can be had: there is no IPv6 to speak of, though the kernel knows it.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => None,
            bound => Some(bound?),
        };
        Ok(Self { member, ifindex, joined: BTreeSet::new() })
    }

    /// Is in the groups of these addresses, and in no others. A group that cannot be joined is tried again by the next call.
    fn set(&mut self, addresses: &BTreeSet<IpAddr>) {
        let Some(member) = &self.member else { return };
        let group = |ip: &IpAddr| match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(ndp::group_of(*v6)),
        };
        let wanted: BTreeSet<Ipv6Addr> = addresses.iter().filter_map(group).collect();
        for group in self.joined.difference(&wanted) {
            if let Err(error) = member.leave_multicast_v6(group, self.ifindex) {
                tracing::debug!(%group, %error, "a group of neighbours cannot be left");
            }
        }
        self.joined.retain(|group| wanted.contains(group));
        for group in &wanted {
            match member.join_multicast_v6(group, self.ifindex) {
                Ok(()) => drop(self.joined.insert(*group)),
                Err(_) if self.joined.contains(group) => {}
                Err(error) => {
                    tracing::warn!(%group, %error, "neighbours that ask for an address are not heard");
                }
            }
        }
    }
}

/// A socket for a protocol on a device, and the device's own Ethernet address.
fn open(device: &Device, protocol: u16) -> Result<(AsyncFd<OwnedFd>, Mac), AnnounceError> {
    let not_ethernet = || AnnounceError::NotEthernet(device.name.clone());
    let mac = device.mac.filter(|_| device.ethernet).ok_or_else(not_ethernet)?;
    let failed = |source| AnnounceError::Socket { device: device.name.clone(), source };
    let index = i32::try_from(device.index).map_err(|_| not_ethernet())?;
    let socket = packet_socket(index, protocol).map_err(failed)?;
    // SAFETY: the descriptor is the socket's own, which nobody replaces or closes while it lives in the `AsyncFd`.
    let socket = unsafe { AsyncFd::register(socket) }.map_err(|error| failed(error.into()))?;
    Ok((socket, mac))
}

async fn run(mut network: Network, mut claims: Claims, mut wanted: watch::Receiver<Announced>) {
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
                network.groups.set(&announced.addresses);
                claims.set(&announced.addresses, announced.confirmed, Instant::now());
            }
            () = due => say(&network, &claims.due(Instant::now())),
            ready = network.arp.readable() => {
                let Ok(ready) = ready else { return };
                listen(&network, ready, &mut claims);
            }
            ready = network.ndp.readable() => {
                let Ok(ready) = ready else { return };
                listen(&network, ready, &mut claims);
            }
        }
    }
}

/// Hears what has come by one of the sockets, and answers.
fn listen(network: &Network, mut ready: AsyncFdReadyGuard<'_, OwnedFd>, claims: &mut Claims) {
    for _ in 0..FRAMES_PER_TURN_MAX {
        let mut frame = [0; FRAME_BYTES_MAX];
        match ready.try_io(|socket| receive(socket.get_ref(), &mut frame)) {
            Ok(Ok(bytes)) => {
                say(network, &claims.heard(&frame[..bytes], Instant::now()));
                if let Some(conflict) = claims.take_conflict() {
                    let [a, b, c, d, e, f] = conflict.other;
                    let other = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
                    tracing::warn!(address = %conflict.address, other, "another machine announces the address, too");
                }
            }
            // The device went down, or away: what there is to hear comes when it is back.
            Ok(Err(error)) => tracing::debug!(%error, "neighbours cannot be heard"),
            Err(_would_block) => break,
        }
    }
}

/// Sends frames, whatever they are of: a packet socket's protocol is what it hears.
fn say(network: &Network, frames: &[Frame]) {
    send(&network.arp, frames);
}

/// Sends frames. One that finds no room is lost, as any frame may be.
fn send(socket: &AsyncFd<OwnedFd>, frames: &[Frame]) {
    for frame in frames {
        // SAFETY: the frame is as long as said, and lives through the call.
        let sent = unsafe {
            libc::send(socket.get_ref().as_raw_fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT)
        };
        if sent < 0 {
            tracing::debug!(error = %io::Error::last_os_error(), "a frame to neighbours is lost");
        }
    }
}

fn receive(socket: &OwnedFd, frame: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most as many bytes as said; what is longer is cut off, padding only.
    let read =
        unsafe { libc::recv(socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// A socket that hears frames of one protocol on one device; of IPv6, neighbour discovery alone.
fn packet_socket(ifindex: i32, protocol: u16) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: makes a socket.
    let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if protocol == ETH_P_IPV6 {
        only_neighbours(&socket)?;
    }
    // SAFETY: all zeroes are a valid address.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    // In network byte order; before this, no frame is heard.
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is of the length said.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// Has the kernel hand over solicitations and advertisements only: all else that the machine hears is not even copied.
fn only_neighbours(socket: &OwnedFd) -> io::Result<()> {
    const fn load_byte(at: u32) -> libc::sock_filter {
        libc::sock_filter { code: (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: at }
    }
    const fn unless_equal(value: u8, skip: u8) -> libc::sock_filter {
        let code = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        libc::sock_filter { code, jt: 0, jf: skip, k: value as u32 }
    }
    const fn take(bytes: u32) -> libc::sock_filter {
        libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: bytes }
    }
    /// Where the next header's number and the ICMPv6 type stand in a frame.
    const NEXT_AT: u32 = 20;
    const TYPE_AT: u32 = 54;
    // What is skipped is counted from the next instruction.
    let mut program = [
        load_byte(NEXT_AT),
        unless_equal(ndp::ICMP, 5),
        load_byte(TYPE_AT),
        unless_equal(ndp::SOLICITATION, 1),
        take(FRAME_BYTES_MAX as u32),
        unless_equal(ndp::ADVERTISEMENT, 1),
        take(FRAME_BYTES_MAX as u32),
        take(0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies so many instructions from where they are.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
