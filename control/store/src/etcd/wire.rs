//! gRPC to etcd's members over HTTP/2: one shared connection for calls, one of its own for each stream, so that a stream that
//! nobody reads holds up no call. It knows messages, and not what they mean.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HeaderMap, TE};
use hyper::{Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::address::Endpoint;
use crate::store::EngineError;

/// How long one member may take to be connected to: less than the shortest call, so that it comes to the next member.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// How long an address of a name may take before the next is tried, too.
const HEAD_START: Duration = Duration::from_millis(200);
/// How long a member may be silent on a stream before it is asked whether it is there, and how long it may take to say so.
/// etcd takes asking more often than every five seconds, or without a stream, for an attack.
const KEEP_ALIVE: Duration = Duration::from_secs(6);
const KEEP_ALIVE_WAIT: Duration = Duration::from_secs(4);
/// Largest answer that is taken, bytes.
const MESSAGE_BYTES_MAX: usize = 512 << 20;
/// What may be on its way without being read, bytes.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// One byte that says whether it is compressed, four of length.
const FRAME_HEAD_BYTES: usize = 5;

pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(super) const TXN: &str = "/etcdserverpb.KV/Txn";
pub(super) const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub(super) const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// gRPC's numbers of what went wrong.
pub(super) mod code {
    pub(in super::super) const INVALID_ARGUMENT: u32 = 3;
    pub(in super::super) const PERMISSION_DENIED: u32 = 7;
    pub(in super::super) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(in super::super) const FAILED_PRECONDITION: u32 = 9;
    pub(in super::super) const OUT_OF_RANGE: u32 = 11;
    pub(in super::super) const UNIMPLEMENTED: u32 = 12;
    pub(in super::super) const UNAUTHENTICATED: u32 = 16;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// Nothing was sent.
    #[error("no member of etcd can be reached: {why}")]
    Unreachable { why: String },
    /// It was sent, and the connection ended.
    #[error("the connection to etcd ended before the answer")]
    Lost(#[source] EngineError),
    /// It was sent, and there was no answer in time.
    #[error("etcd did not answer within {} ms", limit.as_millis())]
    Late { limit: Duration },
    /// etcd says no.
    #[error("etcd refused: {message} (code {code})")]
    Refused { code: u32, message: String },
    /// Not to be understood.
    #[error("etcd's answer is not understood")]
    Malformed(#[source] EngineError),
}

impl WireError {
    /// Whether another connection may do better.
    fn is_of_connection(&self) -> bool {
        const UNAVAILABLE: u32 = 14;
        match self {
            Self::Refused { code, .. } => *code == UNAVAILABLE,
            _ => true,
        }
    }

    /// Whether etcd refused with this code and these words.
    pub(super) fn says(&self, wanted: u32, words: &str) -> bool {
        matches!(self, Self::Refused { code, message } if *code == wanted && message.contains(words))
    }
}

/// One message, and then whether the stream stays open.
struct Outgoing {
    message: Option<Bytes>,
    stays_open: bool,
}

impl hyper::body::Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.message.take() {
            Some(message) => Poll::Ready(Some(Ok(Frame::data(message)))),
            // Whoever holds the answer's end drops all of it.
            None if self.stays_open => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && !self.stays_open
    }
}

type Connection = SendRequest<Outgoing>;

/// The way to etcd.
pub(super) struct Wire {
    endpoints: Vec<Endpoint>,
    tls: Option<TlsConnector>,
    shared: tokio::sync::Mutex<Shared>,
}

/// The connection for calls.
#[derive(Default)]
struct Shared {
    /// Which of the members is connected to, or tried next.
    at: usize,
    connection: Option<Connection>,
    /// Counts connections, so that a late failure ends only its own.
    number: u64,
}

impl Wire {
    pub(super) fn new(endpoints: Vec<Endpoint>, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        let tls = tls.map(TlsConnector::from);
        Self { endpoints, tls, shared: tokio::sync::Mutex::default() }
    }

    /// Asks and waits for the answer, `limit` at most.
    pub(super) async fn call<A: Message + Default>(
        &self,
        path: &'static str,
        question: &impl Message,
        limit: Duration,
    ) -> Result<A, WireError> {
        let (sent, mut used) = (AtomicBool::new(false), None);
        let asking = self.ask(path, framed(question), &sent, &mut used);
        let answer = tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| {
            if sent.load(Ordering::Relaxed) {
                return Err(WireError::Late { limit });
            }
            Err(WireError::Unreachable { why: format!("no connection within {} ms", limit.as_millis()) })
        });
        if let (Err(error), Some(used)) = (&answer, used)
            && error.is_of_connection()
        {
            self.leave(used).await;
        }
        A::decode(answer?).map_err(|error| WireError::Malformed(error.into()))
    }

    async fn ask(
        &self,
        path: &'static str,
        question: Bytes,
        sent: &AtomicBool,
        used: &mut Option<u64>,
    ) -> Result<Bytes, WireError> {
        let (connection, at, number) = self.connection().await?;
        *used = Some(number);
        let mut answers = self.send(connection, at, path, question, false, sent).await?;
        let answer = answers.next().await?;
        // The status comes behind it; without one the answer is not whole.
        match (answer, answers.next().await?) {
            (Some(answer), None) => Ok(answer),
            _ => Err(WireError::Malformed("there is not one message in it".into())),
        }
    }

    /// Begins a stream on a connection of its own.
    pub(super) async fn stream(
        &self,
        path: &'static str,
        question: &impl Message,
    ) -> Result<Answers, WireError> {
        let mut at = self.shared.lock().await.at;
        let (connection, at) = self.connect(&mut at).await?;
        let sent = AtomicBool::new(false);
        let sending = self.send(connection, at, path, framed(question), true, &sent);
        tokio::time::timeout(CONNECT_WAIT, sending)
            .await
            .map_err(|_| WireError::Late { limit: CONNECT_WAIT })?
    }

    async fn send(
        &self,
        mut connection: Connection,
        at: usize,
        path: &'static str,
        question: Bytes,
        stays_open: bool,
        sent: &AtomicBool,
    ) -> Result<Answers, WireError> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{scheme}://{}{path}", self.endpoints[at].authority()))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers");
        if stays_open {
            // A member that is cut off from the others ends the stream, instead of telling nothing on it.
            request = request.header("hasleader", "true");
        }
        let request = request
            .body(Outgoing { message: Some(question), stays_open })
            .map_err(|error| WireError::Unreachable { why: error.to_string() })?;
        connection.ready().await.map_err(|error| WireError::Unreachable { why: told(&error) })?;
        sent.store(true, Ordering::Relaxed);
        let response = match connection.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                if error.take_message().is_none() {
                    return Err(WireError::Lost(error.into_error().into()));
                }
                // It is given back: it was not sent.
                sent.store(false, Ordering::Relaxed);
                return Err(WireError::Unreachable { why: told(error.error()) });
            }
        };
        // A refusal may have no body: its status stands where the answer begins.
        status(response.headers())?;
        if response.status() != 200 {
            return Err(WireError::Malformed(format!("HTTP status {}", response.status()).into()));
        }
        let _connection = stays_open.then_some(connection);
        Ok(Answers { body: response.into_body(), buffer: BytesMut::new(), _connection })
    }

    async fn connection(&self) -> Result<(Connection, usize, u64), WireError> {
        let mut shared = self.shared.lock().await;
        if let Some(connection) = shared.connection.as_ref().filter(|c| !c.is_closed()) {
            return Ok((connection.clone(), shared.at, shared.number));
        }
        shared.connection = None;
        let (connection, at) = self.connect(&mut shared.at).await?;
        shared.connection = Some(connection.clone());
        shared.number += 1;
        Ok((connection, at, shared.number))
    }

    /// The connection failed: the next call tries the next member.
    async fn leave(&self, number: u64) {
        let mut shared = self.shared.lock().await;
        if shared.number == number && shared.connection.take().is_some() {
            shared.at = (shared.at + 1) % self.endpoints.len();
        }
    }

    /// The member that is spoken to is not what it should be: what is asked from now on goes to the next.
    pub(super) async fn move_on(&self) {
        let number = self.shared.lock().await.number;
        self.leave(number).await;
    }

    /// Connects to the first member that can be, beginning with the one at `first`, and leaves it there.
    async fn connect(&self, first: &mut usize) -> Result<(Connection, usize), WireError> {
        let mut why = "none is named".to_owned();
        for _ in 0..self.endpoints.len() {
            let at = *first;
            let endpoint = &self.endpoints[at];
            // Before it is waited for: who stops waiting begins with another the next time.
            *first = (at + 1) % self.endpoints.len();
            match tokio::time::timeout(CONNECT_WAIT, self.connect_to(endpoint)).await {
                Ok(Ok(connection)) => {
                    *first = at;
                    return Ok((connection, at));
                }
                Ok(Err(error)) => why = format!("{}: {}", endpoint.authority(), told(&*error)),
                Err(_) => why = format!("{}: no connection in time", endpoint.authority()),
            }
        }
        Err(WireError::Unreachable { why })
    }

    async fn connect_to(&self, endpoint: &Endpoint) -> Result<Connection, EngineError> {
        let addresses = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await?;
        let tcp = dial(addresses).await?;
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => handshake(tcp).await,
            Some(tls) => {
                let name = rustls_pki_types::ServerName::try_from(endpoint.host.clone())?;
                handshake(tls.connect(name, tcp).await?).await
            }
        }
    }
}

/// The first of a name's addresses that answers: each gets a head start on the next (RFC 8305), and none keeps the others
/// from being tried.
pub(super) async fn dial(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let (mut addresses, mut tries) = (addresses.fuse(), JoinSet::new());
    let mut failed = io::Error::other("the name has no address");
    loop {
        let next = addresses.next();
        if let Some(address) = next {
            tries.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            Some(Ok(tried)) = tries.join_next() => match tried {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            },
            () = tokio::time::sleep(HEAD_START), if next.is_some() => {}
            else => return Err(failed),
        }
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
) -> Result<Connection, EngineError> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_WAIT)
        .handshake(TokioIo::new(stream))
        .await?;
    // Ends when the last sender is gone, or the peer.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = told(&error), "a connection to etcd ended");
        }
    });
    Ok(sender)
}

/// What comes on a stream.
pub(super) struct Answers {
    body: Incoming,
    buffer: BytesMut,
    /// A stream's own connection lives as long as it does.
    _connection: Option<Connection>,
}

impl Answers {
    /// The next message; none when the stream ended as it should.
    async fn next(&mut self) -> Result<Option<Bytes>, WireError> {
        loop {
            if self.buffer.len() >= FRAME_HEAD_BYTES {
                let length =
                    u32::from_be_bytes([self.buffer[1], self.buffer[2], self.buffer[3], self.buffer[4]])
                        as usize;
                if self.buffer[0] != 0 || length > MESSAGE_BYTES_MAX {
                    return Err(WireError::Malformed("a message is compressed or too large".into()));
                }
                if self.buffer.len() >= FRAME_HEAD_BYTES + length {
                    self.buffer.advance(FRAME_HEAD_BYTES);
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
            }
            let frame = match self.body.frame().await {
                Some(frame) => frame.map_err(|error| WireError::Lost(error.into()))?,
                None => return Err(WireError::Lost("the stream ended without a status".into())),
            };
            match frame.into_data() {
                Ok(data) => self.buffer.put(data),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        status(&trailers)?;
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The next message of a stream that does not end by itself.
    pub(super) async fn message<A: Message + Default>(&mut self) -> Result<A, WireError> {
        let answer = self.next().await?.ok_or_else(|| WireError::Lost("etcd ended the stream".into()))?;
        A::decode(answer).map_err(|error| WireError::Malformed(error.into()))
    }
}

/// The status in headers or trailers, if there is one.
fn status(headers: &HeaderMap) -> Result<(), WireError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(code) => Err(WireError::Refused {
            code: code.parse().unwrap_or(u32::MAX),
            message: text("grpc-message").unwrap_or_default().to_owned(),
        }),
    }
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + length);
    frame.put_u8(0);
    // Nothing larger than a transaction is ever sent.
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut frame);
    frame.freeze()
}

/// An error with its causes.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
