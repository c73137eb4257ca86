//! What a machine puts into the tunnel, as its devices see it.

use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use weft_dataplane::netns;

/// Port of the tunnel.
const VXLAN: u16 = 4789;

/// A capture under way on all devices of a machine.
pub(crate) struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    v4: AtomicU64,
    v6: AtomicU64,
}

impl Capture {
    /// Begins in a machine's namespace.
    pub(crate) fn begin(machine: &Path) -> Self {
        let open =
            || socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
        let socket = netns::within(machine, open).expect("namespace").expect("a socket");
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100)).expect("a timeout");
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut frame = [0; 128];
            while !seen.over.load(Ordering::Relaxed) {
                // A frame that is longer is cut off.
                if let Ok(bytes) = recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                    match tunnelled(&frame[..bytes.min(128)]) {
                        Some(4) => seen.v4.fetch_add(1, Ordering::Relaxed),
                        Some(_) => seen.v6.fetch_add(1, Ordering::Relaxed),
                        None => 0,
                    };
                }
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// How many packets of the tunnel were seen so far: with outer addresses of IPv4, and of IPv6.
    pub(crate) fn tunnelled(&self) -> (u64, u64) {
        (self.shared.v4.load(Ordering::Relaxed), self.shared.v6.load(Ordering::Relaxed))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// The family of a frame that is the tunnel's.
fn tunnelled(frame: &[u8]) -> Option<u8> {
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let (family, protocol, l4) = match word(12)? {
        0x0800 => (4, *frame.get(23)?, 14 + usize::from(frame.get(14)? & 0xf) * 4),
        0x86dd => (6, *frame.get(20)?, 54),
        _ => return None,
    };
    (protocol == 17 && word(l4 + 2)? == VXLAN).then_some(family)
}
