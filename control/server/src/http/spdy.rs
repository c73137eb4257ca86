//! A client's SPDY/3.1 connection, raw after an HTTP upgrade or inside WebSocket messages: streams as channels of bytes.
//!
//! Nothing is sent on to one who does not take it: a stream whose reader stands still holds up the whole connection, as in
//! every implementation that keeps no windows, until it is broken off.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use weft_spdy::{Connection, Event, Headers, Limits, ResetStatus, Role};

use crate::stop::stopped;

#[cfg(test)]
pub(super) mod tests;

/// What a client may make the server hold for its connection.
const LIMITS: Limits = Limits {
    streams_max: STREAMS_MAX,
    control_bytes_max: 16 * 1024,
    header_bytes_max: 16 * 1024,
    chunk_bytes_max: READ_BYTES_MAX,
};
/// Streams that a client may have open.
pub(super) const STREAMS_MAX: usize = 256;
/// Bytes that are looked at in one go.
const READ_BYTES_MAX: usize = 16 * 1024;
/// Pieces that wait for a stream's reader.
const PIECES_MAX: usize = 16;
/// Bytes that wait for the readers of all streams.
const HELD_BYTES_MAX: usize = 4 << 20;
/// Pieces of all streams that wait to be sent.
const COMMANDS_MAX: usize = 16;
/// Answers to the peer that wait to be sent, bytes; with more, nothing is read.
const ANSWERS_BYTES_MAX: usize = 64 * 1024;
/// New streams that wait to be looked at.
const OPENED_MAX: usize = 16;
/// How long a stream's reader may take nothing, while more for it has come.
const STALL_MAX: Duration = Duration::from_secs(120);
/// How often a peer is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Pings without a word back after which it does not.
const UNANSWERED_MAX: u32 = 3;
/// How long the last bytes may take to be taken, and the peer to close.
const LINGER_MAX: Duration = Duration::from_secs(5);

/// What goes to the transport.
#[derive(Debug)]
pub(super) enum Outgoing {
    Bytes(Bytes),
    /// The last of it: all is well.
    End,
}

/// What came on a stream.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Held),
    /// The peer sends no more. A stream that ends without it was broken off.
    End,
}

/// Bytes that count against the connection's limit until they are dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// A stream that the peer began.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) headers: Headers,
    pub(super) pieces: mpsc::Receiver<Piece>,
    pub(super) broken: Broken,
    pub(super) way: Way,
}

/// Ends, without a value, when the peer breaks the stream off or goes. For who does not look at the pieces meanwhile.
pub(super) type Broken = oneshot::Receiver<Infallible>;

/// The way to the peer on a stream. Dropping it finishes nothing.
#[derive(Clone, Debug)]
pub(super) struct Way {
    stream: u32,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
enum Command {
    Data(u32, Bytes),
    Finish(u32),
    Reset(u32),
}

/// The peer is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Way {
    /// Sends bytes, once there is room.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        self.commands.send(Command::Data(self.stream, bytes)).await.map_err(|_| Gone)
    }

    /// Sends no more.
    pub(super) async fn finish(&self) {
        // A peer that has gone needs no end.
        let _ = self.commands.send(Command::Finish(self.stream)).await;
    }

    /// Breaks the stream off.
    pub(super) async fn reset(&self) {
        let _ = self.commands.send(Command::Reset(self.stream)).await;
    }
}

/// A connection: the streams that the peer begins. When it and all of them are dropped, what was sent still goes out and the
/// connection ends.
#[derive(Debug)]
pub(super) struct Session {
    opened: mpsc::Receiver<Incoming>,
    _commands: mpsc::Sender<Command>,
}

impl Session {
    /// The next stream; none when the peer has gone.
    pub(super) async fn next(&mut self) -> Option<Incoming> {
        self.opened.recv().await
    }
}

/// Serves a connection. Streams whose headers `takes` does not take are broken off at once.
pub(super) fn begin<T>(
    transport: T,
    takes: fn(&Headers) -> bool,
    mut stopping: watch::Receiver<bool>,
) -> Session
where
    T: Stream<Item = std::io::Result<Bytes>> + Sink<Outgoing> + Send + 'static,
{
    let (to_session, opened) = mpsc::channel(OPENED_MAX);
    let (commands, waiting) = mpsc::channel(COMMANDS_MAX);
    let weak = commands.downgrade();
    let shared = Arc::new(Shared::new());
    tokio::spawn(async move {
        let (mut sink, mut stream) = transport.split();
        let mut reader = Reader {
            shared: shared.clone(),
            room: Arc::new(Semaphore::new(HELD_BYTES_MAX)),
            streams: HashMap::new(),
            to_session,
            commands: weak,
            takes,
        };
        tokio::select! {
            () = reader.run(&mut stream) => {}
            () = write(&shared, &mut sink, waiting) => {}
            () = stopped(&mut stopping) => shared.lock().go_away(0),
        }
        drop(reader);
        let last = shared.lock().take_output();
        let end = async {
            if (last.is_empty() || sink.send(Outgoing::Bytes(last)).await.is_ok())
                && sink.send(Outgoing::End).await.is_ok()
            {
                let _gone = sink.close().await;
            }
            // Bytes of the peer that nobody reads would make the close an abort, which loses what is on its way to it.
            while let Some(Ok(_)) = stream.next().await {}
        };
        let _ = timeout(LINGER_MAX, end).await;
    });
    Session { opened, _commands: commands }
}

/// What reader and writer of a connection share.
struct Shared {
    connection: Mutex<Connection>,
    /// There is something to send.
    wake: Notify,
    /// It was sent.
    sent: Notify,
    /// Pings since the peer was last heard.
    unanswered: AtomicU32,
    /// A stream's reader is waited for, so that nothing is heard.
    delivering: AtomicBool,
}

impl Shared {
    fn new() -> Self {
        Self {
            connection: Mutex::new(Connection::new(Role::Server, LIMITS)),
            wake: Notify::new(),
            sent: Notify::new(),
            unanswered: AtomicU32::new(0),
            delivering: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether the peer lives; `false` when it does not.
    fn ping(&self) -> bool {
        if self.delivering.load(Ordering::Relaxed) {
            return true;
        }
        self.lock().ping();
        self.unanswered.fetch_add(1, Ordering::Relaxed) < UNANSWERED_MAX
    }
}

struct Reader {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    streams: HashMap<u32, Open>,
    to_session: mpsc::Sender<Incoming>,
    commands: mpsc::WeakSender<Command>,
    takes: fn(&Headers) -> bool,
}

/// A stream that somebody reads.
struct Open {
    /// None once the peer sends no more.
    pieces: Option<mpsc::Sender<Piece>>,
    whole: oneshot::Sender<Infallible>,
}

impl Open {
    /// Whether anybody reads it still, or waits for its end.
    fn is_wanted(&self) -> bool {
        !self.whole.is_closed() || self.pieces.as_ref().is_some_and(|pieces| !pieces.is_closed())
    }
}

impl Reader {
    /// Reads until the peer goes, breaks the protocol, or nobody wants its streams.
    async fn run(&mut self, stream: &mut (impl Stream<Item = std::io::Result<Bytes>> + Unpin)) {
        let mut events = Vec::new();
        while let Some(Ok(bytes)) = stream.next().await {
            self.shared.unanswered.store(0, Ordering::Relaxed);
            for piece in bytes.chunks(READ_BYTES_MAX) {
                let received = self.shared.lock().receive(piece, &mut events);
                self.shared.wake.notify_one();
                for event in events.drain(..) {
                    self.shared.delivering.store(true, Ordering::Relaxed);
                    if self.deliver(event).await.is_err() {
                        return;
                    }
                    self.shared.delivering.store(false, Ordering::Relaxed);
                }
                if let Err(error) = received {
                    tracing::debug!(%error, "a client's SPDY connection is broken");
                    return;
                }
                while self.shared.lock().pending() > ANSWERS_BYTES_MAX {
                    self.shared.sent.notified().await;
                }
            }
        }
    }

    async fn deliver(&mut self, event: Event) -> Result<(), Gone> {
        match event {
            Event::Opened { stream, headers } => self.opened(stream, headers).await,
            Event::Data { stream, bytes } => {
                let open = self.streams.get(&stream);
                let Some(pieces) = open.and_then(|open| open.pieces.as_ref()) else { return Ok(()) };
                // A chunk's bytes are far below what the type holds.
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let hand_on = async {
                    let room = self.room.clone().acquire_many_owned(length).await.ok()?;
                    pieces.send(Piece::Data(Held { bytes, _room: room })).await.ok()
                };
                match timeout(STALL_MAX, hand_on).await {
                    Ok(Some(())) => {}
                    // Whoever read it has what it wanted.
                    Ok(None) => drop(self.streams.remove(&stream)),
                    Err(_) => self.break_off(stream, ResetStatus::CANCEL),
                }
                Ok(())
            }
            Event::Finished { stream } => {
                if let Some(pieces) = self.streams.get_mut(&stream).and_then(|open| open.pieces.take())
                    && timeout(STALL_MAX, pieces.send(Piece::End)).await.is_err()
                {
                    self.break_off(stream, ResetStatus::CANCEL);
                }
                Ok(())
            }
            Event::Reset { stream, .. } => {
                self.streams.remove(&stream);
                Ok(())
            }
            // The server begins no streams, and a peer that goes away closes.
            Event::Replied { .. } | Event::Pong | Event::GoneAway => Ok(()),
        }
    }

    async fn opened(&mut self, stream: u32, headers: Headers) -> Result<(), Gone> {
        if !(self.takes)(&headers) {
            self.break_off(stream, ResetStatus::REFUSED_STREAM);
            return Ok(());
        }
        let commands = self.commands.upgrade().ok_or(Gone)?;
        let (to_reader, pieces) = mpsc::channel(PIECES_MAX);
        let (whole, broken) = oneshot::channel();
        self.streams.retain(|_, open| open.is_wanted());
        self.streams.insert(stream, Open { pieces: Some(to_reader), whole });
        self.shared.lock().reply(stream, &Headers::default());
        self.shared.wake.notify_one();
        let way = Way { stream, commands };
        self.to_session.send(Incoming { headers, pieces, broken, way }).await.map_err(|_| Gone)
    }

    fn break_off(&mut self, stream: u32, status: ResetStatus) {
        self.streams.remove(&stream);
        self.shared.lock().reset(stream, status);
        self.shared.wake.notify_one();
    }
}

/// Writes until nobody has anything to say any more, or the peer is gone.
async fn write(
    shared: &Shared,
    sink: &mut (impl Sink<Outgoing> + Unpin),
    mut commands: mpsc::Receiver<Command>,
) {
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.tick().await;
    loop {
        let output = shared.lock().take_output();
        if !output.is_empty() {
            if sink.send(Outgoing::Bytes(output)).await.is_err() {
                return;
            }
            shared.sent.notify_one();
        }
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => command.apply(&mut shared.lock()),
                None => return,
            },
            () = shared.wake.notified() => {}
            _ = ping.tick() => if !shared.ping() {
                tracing::debug!("a client's SPDY connection is silent");
                return;
            }
        }
    }
}

impl Command {
    fn apply(self, connection: &mut Connection) {
        match self {
            // A stream that was broken off meanwhile takes nothing, and its reader hears of it.
            Self::Data(stream, bytes) => drop(connection.data(stream, &bytes)),
            Self::Finish(stream) => connection.finish(stream),
            Self::Reset(stream) => connection.reset(stream, ResetStatus::CANCEL),
        }
    }
}
