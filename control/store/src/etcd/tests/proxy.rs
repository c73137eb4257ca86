//! A way to etcd that is slow and can be broken: a TCP proxy on loopback. It knows a store's own watch by what is asked for
//! on its connection, and can break off or silence those alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// The end of the range of everything of the store `a`: only its watches ask for that.
const WATCH_OF_A: &[u8] = b"/weft/a0";

/// Enough to be begun, and looked at.
const WATCH_LIFE: Duration = Duration::from_millis(50);

pub(super) struct Proxy {
    pub(super) port: u16,
    breaks: broadcast::Sender<()>,
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// What is done to connections.
#[derive(Default)]
struct State {
    to: AtomicU16,
    refuses: AtomicBool,
    refuses_watches: AtomicBool,
    silences_watches: AtomicBool,
    ends_watches: AtomicBool,
    /// How often a watch of the store `a` was asked for.
    watches: AtomicU32,
}

impl Proxy {
    /// Everything takes `delay` longer, each way.
    pub(super) async fn start(to: u16, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State { to: to.into(), ..State::default() });
        let breaks = broadcast::channel(8).0;
        let (broken, known) = (breaks.clone(), state.clone());
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if known.refuses.load(Ordering::Relaxed) {
                    continue;
                }
                let (mut broken, known) = (broken.subscribe(), known.clone());
                let (watches, mut frames) = (AtomicBool::new(false), Frames::default());
                tokio::spawn(async move {
                    let to = known.to.load(Ordering::Relaxed);
                    let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::select! {
                        () = carry(near_in, far_out, delay, |sent| {
                            if asks_to_watch(sent) {
                                watches.store(true, Ordering::Relaxed);
                                known.watches.fetch_add(1, Ordering::Relaxed);
                            }
                            (!known.breaks_off(sent)).then(|| sent.to_vec())
                        }) => {}
                        () = carry(far_in, near_out, delay, |sent| {
                            let silent = known.silences_watches.load(Ordering::Relaxed);
                            Some(frames.pass(sent, silent && watches.load(Ordering::Relaxed)))
                        }) => {}
                        () = known.end_of(&watches) => {}
                        _ = broken.recv() => {}
                    }
                });
            }
        });
        Self { port, breaks, state, task }
    }

    /// Ends every connection.
    pub(super) fn break_all(&self) {
        let _ = self.breaks.send(());
    }

    /// Where connections lead to from now on.
    pub(super) fn lead_to(&self, port: u16) {
        self.state.to.store(port, Ordering::Relaxed);
    }

    /// Whether connections are taken no more.
    pub(super) fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Whether the watches of the store `a` end soon after they have begun.
    pub(super) fn end_watches(&self, ends: bool) {
        self.state.ends_watches.store(ends, Ordering::Relaxed);
    }

    /// How often a watch of the store `a` was asked for.
    pub(super) fn watches(&self) -> u32 {
        self.state.watches.load(Ordering::Relaxed)
    }

    /// Whether what etcd tells on the watches of the store `a` is left out; whether it is there is answered all the same.
    pub(super) fn silence_watches(&self, silences: bool) {
        self.state.silences_watches.store(silences, Ordering::Relaxed);
    }

    /// Whether the watches of the store `a` are broken off when they are asked for.
    pub(super) fn refuse_watches(&self, refuses: bool) {
        self.state.refuses_watches.store(refuses, Ordering::Relaxed);
    }
}

impl State {
    /// When the connection is a watch's that is to end.
    async fn end_of(&self, watches: &AtomicBool) {
        loop {
            tokio::time::sleep(WATCH_LIFE).await;
            if self.ends_watches.load(Ordering::Relaxed) && watches.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn breaks_off(&self, sent: &[u8]) -> bool {
        self.refuses_watches.load(Ordering::Relaxed) && asks_to_watch(sent)
    }
}

/// HTTP/2's frames (RFC 9113 4.1), found in what comes piece by piece.
#[derive(Default)]
struct Frames {
    held: Vec<u8>,
}

impl Frames {
    const HEAD_BYTES: usize = 9;
    const DATA: u8 = 0;

    /// The frames that are whole by now, those with data left out on demand.
    fn pass(&mut self, more: &[u8], silent: bool) -> Vec<u8> {
        self.held.extend_from_slice(more);
        let mut passed = Vec::new();
        while self.held.len() >= Self::HEAD_BYTES {
            let payload = u32::from_be_bytes([0, self.held[0], self.held[1], self.held[2]]) as usize;
            let whole = Self::HEAD_BYTES + payload;
            if self.held.len() < whole {
                break;
            }
            let frame: Vec<u8> = self.held.drain(..whole).collect();
            if !(silent && frame[3] == Self::DATA) {
                passed.extend(frame);
            }
        }
        passed
    }
}

/// A question is one write, and arrives as that on loopback.
fn asks_to_watch(sent: &[u8]) -> bool {
    sent.windows(WATCH_OF_A.len()).any(|window| window == WATCH_OF_A)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.break_all();
        self.task.abort();
    }
}

/// What is made of each piece; until nothing is.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    mut pass: impl FnMut(&[u8]) -> Option<Vec<u8>>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        tokio::time::sleep(delay).await;
        let Some(passed) = pass(&buffer[..length]) else { return };
        if to.write_all(&passed).await.is_err() {
            return;
        }
    }
}
