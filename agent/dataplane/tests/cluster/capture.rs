//! What a machine puts into the tunnel, as its devices see it.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use weft_dataplane::netns;

/// Port of the tunnel.
const VXLAN: u16 = 4789;

/// Bytes of frames that may wait for the thread that looks at them.
const WAITING_BYTES: usize = 64 << 20;

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
    /// How often it was asked for, and the last of these times that everything had been looked at.
    asked: AtomicU64,
    told: AtomicU64,
}

impl Capture {
    /// Begins in a machine's namespace.
    pub(crate) fn begin(machine: &Path) -> Self {
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
        };
        let socket = netns::within(machine, open).expect("namespace").expect("a socket");
        setsockopt(&socket, sockopt::RcvBufForce, &WAITING_BYTES).expect("room for frames");
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while !seen.over.load(Ordering::Relaxed) {
                let asked = seen.asked.load(Ordering::Acquire);
                seen.look(&socket);
                seen.told.store(asked, Ordering::Release);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// How many packets of the tunnel were seen so far: with outer addresses of IPv4, and of IPv6.
    /// Everything that the devices had seen before is counted.
    pub(crate) fn tunnelled(&self) -> (u64, u64) {
        let asked = self.shared.asked.fetch_add(1, Ordering::AcqRel) + 1;
        while self.shared.told.load(Ordering::Acquire) < asked {
            let running = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
            assert!(running, "the capture has ended");
            std::thread::sleep(Duration::from_millis(1));
        }
        (self.shared.v4.load(Ordering::Relaxed), self.shared.v6.load(Ordering::Relaxed))
    }
}

impl Shared {
    /// Looks at all frames that wait.
    fn look(&self, socket: &OwnedFd) {
        let mut frame = [0; 128];
        loop {
            // A frame that is longer is cut off.
            let bytes = match recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(bytes) => bytes,
                Err(Errno::EAGAIN) => return,
                Err(error) => panic!("capture: {error}"),
            };
            match tunnelled(&frame[..bytes.min(128)]) {
                Some(4) => self.v4.fetch_add(1, Ordering::Relaxed),
                Some(_) => self.v6.fetch_add(1, Ordering::Relaxed),
                None => 0,
            };
        }
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
