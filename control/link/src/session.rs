//! The link over QUIC: the one place that knows sockets, TLS and tasks.
//!
//! [`Listener`] is the control plane's end, [`join()`] and [`connect()`] the agent's. Dead peers are found by QUIC's own
//! keep-alive (every 800 ms) and idle timeout (10 s); every other wait has a bound of its own.
//!
//! Reading the next message may be cancelled at any time. A send that is cancelled goes out with the next send.

mod bytes;
mod connect;
mod framed;
mod guests;
mod listen;
mod serve;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;
use std::time::Duration;

pub use self::bytes::ByteStream;
pub use self::connect::{
    AgentSession, ConnectError, DialError, JoinError, OpenAcceptor, OpenAttempt, RequestError, Requester,
    connect, join,
};
pub use self::framed::{FrameReader, FrameWriter, StreamError};
pub use self::guests::{Guests, Place};
pub use self::listen::{Accepted, BindError, JoinAttempt, LinkAttempt, Listener, WelcomeError};
pub use self::serve::{OpenError, Opener, Responder, ServerSession};
pub use self::tls::{KeyAndCsr, KeyError, NodeIdentity, ServerIdentity, TlsError, key_and_csr};

/// The name every control plane's certificate carries (DNS SAN), and every agent asks for.
pub const SERVER_NAME: &str = "weft-control";

/// How often a quiet connection is kept alive, milliseconds: a peer that is silent for longer has lost packets, or stands
/// still, or is dead, which the control plane wants to know at once.
pub const KEEP_ALIVE_MS: u64 = 800;
/// After how long without a packet the peer is gone, milliseconds.
pub const IDLE_TIMEOUT_MS: u64 = 10_000;
/// How long a handshake and the first messages may take, milliseconds.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 8000;
/// How long an answer to `Open` or to a `Request` may take, milliseconds.
pub const ANSWER_TIMEOUT_MS: u64 = 30_000;
/// How long a peer that lives may take no bytes of a message, milliseconds.
pub const SEND_STALL_MS: u64 = 30_000;
/// How many byte streams the control plane may have open to one node.
pub const OPEN_STREAMS_MAX: u32 = 512;
/// How many requests of one agent may wait for their answers.
pub const REQUESTS_MAX: usize = 64;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(HANDSHAKE_TIMEOUT_MS);
const ANSWER_TIMEOUT: Duration = Duration::from_millis(ANSWER_TIMEOUT_MS);
/// How long the last message of a connection may take to arrive before it is closed.
const LINGER: Duration = Duration::from_secs(3);

/// Why this side closes a connection; goes to the peer as the application's error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CloseCode {
    Done = 0,
    Refused = 1,
    Protocol = 2,
}

/// A connection, as both sides hold on to it. It ends when it is closed or lost, or when the last clone of this is
/// dropped.
#[derive(Clone, Debug)]
pub struct Link {
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    connection: quinn::Connection,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Tasks that read streams hold the connection too, and would keep it alive for nobody.
        close(&self.connection, CloseCode::Done, "");
    }
}

impl Link {
    fn new(connection: quinn::Connection) -> Self {
        Self { held: Arc::new(Held { connection }) }
    }

    /// Waits until the connection has ended; answers why, for people.
    pub async fn closed(&self) -> String {
        framed::describe(&self.held.connection.closed().await)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.held.connection.close_reason().is_some()
    }

    /// Ends it; the reason goes to the peer's log (256 bytes of it).
    pub fn close(&self, reason: &str) {
        close(&self.held.connection, CloseCode::Done, reason);
    }

    /// Ends it because the peer did not follow the protocol.
    pub fn close_wrong(&self, reason: &str) {
        close(&self.held.connection, CloseCode::Protocol, reason);
    }

    /// The peer's address now.
    #[must_use]
    pub fn remote_address(&self) -> std::net::SocketAddr {
        self.held.connection.remote_address()
    }

    /// Datagrams that have come from the peer so far, acknowledgements included. As long as it lives there is a new one after
    /// [`KEEP_ALIVE_MS`] and a round trip, at the latest.
    #[must_use]
    pub fn datagrams_received(&self) -> u64 {
        self.held.connection.stats().udp_rx.datagrams
    }

    /// Round-trip time now.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.held.connection.rtt()
    }
}

fn close(connection: &quinn::Connection, code: CloseCode, reason: &str) {
    let reason = &reason.as_bytes()[..reason.len().min(256)];
    connection.close(quinn::VarInt::from_u32(code as u32), reason);
}
