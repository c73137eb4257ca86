//! What a test switches at a network device that `ip` has no word for.
#![allow(unsafe_code)]

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// `SIOCETHTOOL`, and what it is to do.
const ETHTOOL: libc::c_ulong = 0x8946;
const SET_TX_CHECKSUMS: u32 = 0x17;
/// Commands of bpf(2), and `BPF_PROG_TYPE_XDP`.
const PROGRAM_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const XDP_PROGRAM: u64 = 6;

/// `struct ifreq` with a pointer in it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    value: *mut [u32; 2],
    rest: [u64; 2],
}

fn switch(device: &str, what: u32, on: bool) {
    let mut value = [what, u32::from(on)];
    let mut request = Request { name: [0; 16], value: &raw mut value, rest: [0; 2] };
    request.name[..device.len()].copy_from_slice(device.as_bytes());
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // SAFETY: the request and what it points to live as long as the call, and are of the kernel's shape.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), ETHTOOL, &raw mut request) };
    assert_eq!(done, 0, "{device}: {}", io::Error::last_os_error());
}

/// Has a veth of the calling thread's namespace take frames that its other end's driver sends, as long as what is given back is
/// held: it has a program there, which lets all pass. With GRO alone such frames would wait for others to wake the device.
pub(crate) fn takes_frames(device: &str) -> OwnedFd {
    let index = nix::net::if_::if_nametoindex(device).expect("the device");
    // `return XDP_PASS`.
    let program: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
    let licence = c"GPL";
    let mut load = [0_u64; 16];
    load[0] = XDP_PROGRAM | 2 << 32;
    load[1] = program.as_ptr() as u64;
    load[2] = licence.as_ptr() as u64;
    let program = bpf(PROGRAM_LOAD, &mut load);
    let by_driver = 1 << 2;
    let attach_type_xdp = 37;
    let mut link = [0_u64; 6];
    link[0] = program.as_raw_fd() as u64 | u64::from(index) << 32;
    link[1] = attach_type_xdp | by_driver << 32;
    bpf(LINK_CREATE, &mut link)
}

fn bpf<const N: usize>(command: libc::c_long, argument: &mut [u64; N]) -> OwnedFd {
    // SAFETY: the argument is of the command's shape, and the size given is its own.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, argument.as_mut_ptr(), 8 * N) };
    assert!(fd >= 0, "bpf {command}: {}", io::Error::last_os_error());
    // SAFETY: the kernel has just given this descriptor to us and to nobody else.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")) }
}

/// Has a device of the calling thread's namespace send nothing whose checksum is left to others, as a wire would.
pub(crate) fn finishes_checksums(device: &str) {
    switch(device, SET_TX_CHECKSUMS, false);
}
