//! What the kernel is asked of that no library has safe words for: a TUN device, and many datagrams at once.
#![allow(unsafe_code)]

use std::ffi::c_short;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

/// `TUNSETIFF`.
const TUN_SET_IFF: libc::c_ulong = 0x4004_54ca;
/// `TUNSETPERSIST`.
const TUN_SET_PERSIST: libc::c_ulong = 0x4004_54cb;

/// Bytes asked for of each socket's queues.
const SOCKET_QUEUE_BYTES: libc::c_int = 8 << 20;

/// Opens the TUN device of that name, which is made if it is not there and stays when the process goes.
pub(crate) fn open_tun(name: &str) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: all zeroes are a request without a name.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as c_short;
    // SAFETY: the request is whole and lives through the call.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), TUN_SET_IFF as _, &raw const request) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes a number.
    let kept = unsafe { libc::ioctl(file.as_raw_fd(), TUN_SET_PERSIST as _, 1 as libc::c_ulong) };
    if kept < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}

/// A UDP socket of a port at all addresses, of both families where the kernel has both.
pub(crate) fn open_socket(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(("::", port)).or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))?;
    for option in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        let bytes = SOCKET_QUEUE_BYTES;
        // SAFETY: the value is as long as said. Without the capability the queues stay as they are.
        let _refused = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const bytes).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
    }
    Ok(socket)
}

/// Datagrams on their way, all of one socket. Allocated once.
pub(crate) struct Batch {
    buffers: Vec<Box<[u8]>>,
    lengths: Vec<usize>,
    addresses: Vec<libc::sockaddr_storage>,
    count: usize,
}

impl Batch {
    /// Room for so many datagrams of so many bytes.
    pub(crate) fn new(datagrams_max: usize, bytes_max: usize) -> Self {
        // SAFETY: all zeroes are an address of no family.
        let nobody: libc::sockaddr_storage = unsafe { zeroed() };
        Self {
            buffers: (0..datagrams_max).map(|_| vec![0; bytes_max].into_boxed_slice()).collect(),
            lengths: vec![0; datagrams_max],
            addresses: vec![nobody; datagrams_max],
            count: 0,
        }
    }

    /// Whether there is room for none any more.
    pub(crate) fn is_full(&self) -> bool {
        self.count == self.buffers.len()
    }

    /// Room for the next datagram; never asked of a full batch.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let at = self.count.min(self.buffers.len() - 1);
        &mut self.buffers[at]
    }

    /// The next datagram is in its room, for this address. `mapped`: of a socket of both families.
    pub(crate) fn push(&mut self, bytes: usize, to: SocketAddr, mapped: bool) {
        if !self.is_full() {
            self.lengths[self.count] = bytes;
            self.addresses[self.count] = raw(to, mapped);
            self.count += 1;
        }
    }

    /// The datagrams and where they came from.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        (0..self.count)
            .filter_map(|at| Some((self.buffers[at].get(..self.lengths[at])?, cooked(&self.addresses[at])?)))
    }

    /// Takes what waits at a socket; none is no error.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.count = 0;
        let capacity = self.buffers.len();
        let mut vectors = self.vectors(capacity, true);
        let mut headers = self.headers(&mut vectors, capacity);
        // SAFETY: headers, vectors and buffers live through the call, and say how long they are.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                capacity as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if received < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) };
        }
        self.count = usize::try_from(received).unwrap_or(0);
        for (length, header) in self.lengths.iter_mut().zip(&headers).take(self.count) {
            *length = header.msg_len as usize;
        }
        Ok(self.count)
    }

    /// Sends all, waiting for the socket's queue where it is full; how many the kernel refused.
    pub(crate) fn send(&mut self, socket: &UdpSocket) -> u64 {
        let count = std::mem::take(&mut self.count);
        if count == 0 {
            return 0;
        }
        let mut vectors = self.vectors(count, false);
        let mut headers = self.headers(&mut vectors, count);
        let (mut at, mut refused) = (0, 0);
        while at < count {
            let rest = &mut headers[at..];
            // SAFETY: as above.
            let sent = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, 0)
            };
            match usize::try_from(sent) {
                Ok(sent @ 1..) => at += sent,
                _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                // The first of the rest; no word about the others.
                _ => (at, refused) = (at + 1, refused + 1),
            }
        }
        refused
    }

    fn vectors(&mut self, count: usize, whole: bool) -> Vec<libc::iovec> {
        let lengths = self.lengths.iter();
        let pairs = self.buffers.iter_mut().zip(lengths).take(count);
        pairs
            .map(|(buffer, length)| libc::iovec {
                iov_len: if whole { buffer.len() } else { (*length).min(buffer.len()) },
                iov_base: buffer.as_mut_ptr().cast(),
            })
            .collect()
    }

    fn headers(&mut self, vectors: &mut [libc::iovec], count: usize) -> Vec<libc::mmsghdr> {
        let addresses = self.addresses.iter_mut().zip(vectors).take(count);
        addresses
            .map(|(address, vector)| {
                // SAFETY: all zeroes are a header of nothing.
                let mut header: libc::mmsghdr = unsafe { zeroed() };
                header.msg_hdr.msg_name = (&raw mut *address).cast();
                header.msg_hdr.msg_namelen = if i32::from(address.ss_family) == libc::AF_INET {
                    size_of::<libc::sockaddr_in>() as libc::socklen_t
                } else {
                    size_of::<libc::sockaddr_in6>() as libc::socklen_t
                };
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect()
    }
}

fn raw(address: SocketAddr, mapped: bool) -> libc::sockaddr_storage {
    // SAFETY: all zeroes are an address of no family.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let six = match address {
        SocketAddr::V4(v4) if !mapped => {
            let four = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a storage is as large and as aligned as any address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(four) };
            return storage;
        }
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0),
        SocketAddr::V6(v6) => v6,
    };
    let six = libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: six.port().to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: six.ip().octets() },
        sin6_scope_id: six.scope_id(),
    };
    // SAFETY: as above.
    unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(six) };
    storage
}

fn cooked(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: of that family it is that long.
            let four = unsafe { (&raw const *storage).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(four.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::new(ip.into(), u16::from_be(four.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let six = unsafe { (&raw const *storage).cast::<libc::sockaddr_in6>().read() };
            let ip = IpAddr::from(six.sin6_addr.s6_addr).to_canonical();
            Some(SocketAddr::new(ip, u16::from_be(six.sin6_port)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_go_over_both_families() {
        let (receiver, sender) = (open_socket(0).unwrap(), open_socket(0).unwrap());
        let port = receiver.local_addr().unwrap().port();
        let mapped = sender.local_addr().unwrap().is_ipv6();
        let mut batch = Batch::new(4, 64);
        let mut to: Vec<SocketAddr> = vec![SocketAddr::from(([127, 0, 0, 1], port))];
        if mapped {
            to.push(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)));
        }
        for (number, to) in to.iter().enumerate() {
            batch.room()[..2].copy_from_slice(&[7, number as u8]);
            batch.push(2, *to, mapped);
        }
        assert_eq!(batch.send(&sender), 0);
        assert_eq!(batch.receive(&receiver).unwrap(), to.len());
        let got: Vec<_> = batch.iter().map(|(bytes, from)| (bytes.to_vec(), from.ip())).collect();
        assert_eq!(got[0], (vec![7, 0], to[0].ip()));
        assert_eq!(got.last().unwrap().1, to.last().unwrap().ip());
        assert_eq!(batch.receive(&receiver).unwrap(), 0);
    }

    #[test]
    fn what_cannot_be_sent_is_counted() {
        let sender = open_socket(0).unwrap();
        let mut batch = Batch::new(2, 64);
        // No socket of this family sends to port 0.
        batch.push(2, SocketAddr::from(([127, 0, 0, 1], 0)), sender.local_addr().unwrap().is_ipv6());
        assert_eq!(batch.send(&sender), 1);
    }
}
