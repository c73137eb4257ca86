//! Packets between a TUN device and the underlay: one thread, which waits, takes what is there in batches, and asks the
//! engine about each. Its queues are the kernel's: the device's and the sockets', both bounded, both counted there.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use thiserror::Error;

use crate::engine::{Engine, Outlet, port_of};
use crate::sys::{self, Batch};
use crate::wanted::{Status, Wanted};

/// Packets taken from one place before the others get their turn.
const BATCH_PACKETS: usize = 64;
/// Longest packet or datagram, bytes: jumbo frames have 9,000.
const PACKET_BYTES_MAX: usize = 10_240;
/// How often handshakes are looked after.
const TICK: Duration = Duration::from_millis(100);

/// Why there is no device.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The kernel gave no TUN device.
    #[error("the TUN device {name} cannot be had")]
    Tun {
        /// Its name.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A port cannot be had.
    #[error("UDP port {port} cannot be had")]
    Port {
        /// Which.
        port: u16,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No thread, or no way to wake it.
    #[error("no thread for packets")]
    Thread(#[source] io::Error),
}

enum Command {
    Set(Box<Wanted>),
    Status(Sender<Status>),
    End,
}

/// A running device. It ends when this is dropped; the TUN device stays, and swallows what is sent to it.
#[derive(Debug)]
pub struct Device {
    commands: Mutex<Sender<Command>>,
    waker: UnixDatagram,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Device {
    /// Opens the TUN device and the sockets in the network namespace of the calling thread, and begins to carry packets.
    ///
    /// # Errors
    /// The kernel gives no TUN device or no port.
    pub fn start(name: &str, port: u16) -> Result<Self, DeviceError> {
        let tun = sys::open_tun(name).map_err(|source| DeviceError::Tun { name: name.to_owned(), source })?;
        let open = |generation| {
            let port = port_of(port, generation);
            sys::open_socket(port).map_err(|source| DeviceError::Port { port, source })
        };
        let sockets = [open(0)?, open(1)?];
        let (waker, wake) = wakers().map_err(DeviceError::Thread)?;
        let (commands, received) = channel();
        let first_index = std::process::id().wrapping_mul(0x9e37_79b9) ^ clock();
        let engine = Engine::new(port, PACKET_BYTES_MAX, first_index);
        let thread = std::thread::Builder::new()
            .name("weft-encrypt".to_owned())
            .spawn(move || Carrier::new(tun, sockets, wake, engine).run(&received))
            .map_err(DeviceError::Thread)?;
        Ok(Self { commands: Mutex::new(commands), waker, thread: Some(thread) })
    }

    fn tell(&self, command: Command) {
        // A thread that is gone is told nothing; its status says so.
        let _gone = self.commands.lock().unwrap_or_else(PoisonError::into_inner).send(command);
        let _full = self.waker.send(&[0]);
    }

    /// Takes in what is wanted.
    pub fn set(&self, wanted: Wanted) {
        self.tell(Command::Set(Box::new(wanted)));
    }

    /// Whether its thread has ended: the TUN device is gone.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
    }

    /// How it is; none when its thread has ended.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        let (answer, answered) = channel();
        self.tell(Command::Status(answer));
        answered.recv().ok()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.tell(Command::End);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Two sockets, of which one wakes who waits at the other.
fn wakers() -> io::Result<(UnixDatagram, UnixDatagram)> {
    let (waker, wake) = UnixDatagram::pair()?;
    waker.set_nonblocking(true)?;
    wake.set_nonblocking(true)?;
    Ok((waker, wake))
}

fn clock() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.subsec_nanos())
}

/// What leaves by the engine's word.
struct Desk<'a> {
    tun: &'a File,
    sockets: &'a [UdpSocket; 2],
    /// One for each socket.
    batches: &'a mut [Batch; 2],
    mapped: [bool; 2],
    /// A datagram is written before it is known which socket it is for: the rooms are exchanged then.
    room: &'a mut Vec<u8>,
    lost: &'a mut Lost,
}

/// Packets that the kernel did not take.
#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    sending: u64,
    delivering: u64,
}

impl Outlet for Desk<'_> {
    fn room(&mut self) -> &mut [u8] {
        self.room
    }

    fn send(&mut self, bytes: usize, to: SocketAddr, generation: u64) {
        let which = usize::from(generation % 2 == 1);
        let batch = &mut self.batches[which];
        batch.room()[..bytes].copy_from_slice(&self.room[..bytes]);
        batch.push(bytes, to, self.mapped[which]);
        if batch.is_full() {
            self.lost.sending += batch.send(&self.sockets[which]);
        }
    }

    fn deliver(&mut self, packet: &[u8]) {
        if !matches!(self.tun.write(packet), Ok(written) if written == packet.len()) {
            self.lost.delivering += 1;
        }
    }
}

impl Desk<'_> {
    fn flush(&mut self) {
        for (batch, socket) in self.batches.iter_mut().zip(self.sockets) {
            self.lost.sending += batch.send(socket);
        }
    }
}

/// What the thread holds.
struct Carrier {
    tun: File,
    sockets: [UdpSocket; 2],
    wake: UnixDatagram,
    engine: Engine,
    out: [Batch; 2],
    into: Batch,
    packet: Vec<u8>,
    room: Vec<u8>,
    lost: Lost,
    mapped: [bool; 2],
}

impl Carrier {
    fn new(tun: File, sockets: [UdpSocket; 2], wake: UnixDatagram, engine: Engine) -> Self {
        let batch = || Batch::new(BATCH_PACKETS, PACKET_BYTES_MAX);
        let mapped = [0, 1].map(|which: usize| sockets[which].local_addr().is_ok_and(|it| it.is_ipv6()));
        Self {
            tun,
            sockets,
            wake,
            engine,
            out: [batch(), batch()],
            into: batch(),
            // What is encrypted is longer.
            packet: vec![0; PACKET_BYTES_MAX - 64],
            room: vec![0; PACKET_BYTES_MAX],
            lost: Lost::default(),
            mapped,
        }
    }

    fn run(mut self, commands: &Receiver<Command>) {
        let mut next = Instant::now() + TICK;
        loop {
            let ready = match self.wait(next) {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(%error, "the device for encryption is gone");
                    return;
                }
            };
            if ready[3] {
                let mut byte = [0];
                while self.wake.recv(&mut byte).is_ok() {}
            }
            while let Ok(command) = commands.try_recv() {
                match command {
                    Command::Set(wanted) => self.engine.set(&wanted),
                    // Who asked may have gone.
                    Command::Status(answer) => drop(answer.send(self.status())),
                    Command::End => return,
                }
            }
            self.carry([ready[0], ready[1], ready[2]]);
            let now = Instant::now();
            if now >= next {
                next = now + TICK;
                let (engine, mut desk, ..) = self.parts();
                engine.tick(&mut desk);
                desk.flush();
            }
        }
    }

    /// Waits for the TUN device, the two sockets, the waker, or the time.
    fn wait(&self, until: Instant) -> io::Result<[bool; 4]> {
        let fd = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let [even, odd] = &self.sockets;
        let mut fds = [fd(self.tun.as_fd()), fd(even.as_fd()), fd(odd.as_fd()), fd(self.wake.as_fd())];
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        // A device that is deleted says so for ever; one that is down says so, too, and may come up.
        if events[0].contains(PollFlags::POLLERR) && self.is_deleted() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(events.map(|events| events.contains(PollFlags::POLLIN)))
    }

    fn is_deleted(&self) -> bool {
        let deleted =
            matches!((&self.tun).read(&mut []), Err(error) if error.raw_os_error() == Some(libc::EBADFD));
        if !deleted {
            std::thread::sleep(Duration::from_millis(10));
        }
        deleted
    }

    /// The engine, its desk, and the rooms for what arrives: a packet, and a batch of datagrams.
    fn parts(&mut self) -> (&mut Engine, Desk<'_>, &mut [u8], &mut Batch) {
        let desk = Desk {
            tun: &self.tun,
            sockets: &self.sockets,
            batches: &mut self.out,
            mapped: self.mapped,
            room: &mut self.room,
            lost: &mut self.lost,
        };
        (&mut self.engine, desk, &mut self.packet, &mut self.into)
    }

    fn carry(&mut self, [tun, even, odd]: [bool; 3]) {
        let (engine, mut desk, packet, into) = self.parts();
        if tun {
            for _ in 0..BATCH_PACKETS {
                let Ok(bytes @ 1..) = desk.tun.read(packet) else { break };
                engine.outgoing(&packet[..bytes], &mut desk);
            }
            desk.flush();
        }
        for which in [even.then_some(0), odd.then_some(1)].into_iter().flatten() {
            let Ok(1..) = into.receive(&desk.sockets[which]) else { continue };
            for (datagram, from) in into.iter() {
                engine.incoming(datagram, from, &mut desk);
            }
            desk.flush();
        }
    }

    fn status(&self) -> Status {
        let mut status = self.engine.status();
        status.pid = std::process::id();
        status.drops.insert("not taken by the network".to_owned(), self.lost.sending);
        status.drops.insert("not taken by the node".to_owned(), self.lost.delivering);
        status
    }
}
