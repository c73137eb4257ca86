//! The agent's end: joining, and a session.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::bytes::ByteStream;
use super::framed::{FrameReader, FrameWriter, StreamError, describe, reset};
use super::tls::{NodeIdentity, TlsError, join_config, link_config};
use super::{ANSWER_TIMEOUT, ANSWER_TIMEOUT_MS, HANDSHAKE_TIMEOUT, HANDSHAKE_TIMEOUT_MS, Link, SERVER_NAME};
use super::{CloseCode, REQUESTS_MAX, close};
use crate::join::{NodeNameError, Token, check_node_name};
use crate::message::{
    ClosedFrame, Hello, JoinRequest, JoinResponse, Open, Opened, PROTOCOL, PROTOCOL_OLDEST, Request,
    Response, StatusFrame, Welcome, open::To, request,
};

/// How many streams the control plane has opened may wait to be taken.
const OPENS_WAITING_MAX: usize = 64;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Certificates or keys on this side.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No socket.
    #[error("no UDP socket can be opened")]
    Socket(#[source] std::io::Error),
    /// The address is none to connect to.
    #[error("{address} cannot be connected to")]
    Address {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: quinn::ConnectError,
    },
    /// Nobody answers.
    #[error("no control plane answers at {address} (udp) within {HANDSHAKE_TIMEOUT_MS} ms")]
    NoAnswer {
        /// Where.
        address: SocketAddr,
    },
    /// The two do not trust each other.
    #[error("the control plane at {address} and this node do not trust each other: {reason}")]
    Untrusted {
        /// Where.
        address: SocketAddr,
        /// The TLS library's words.
        reason: String,
    },
    /// The connection ended early.
    #[error("the control plane at {address} ended the connection: {reason}")]
    Ended {
        /// Where.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
}

/// Why a machine did not become a node.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The name.
    #[error(transparent)]
    Name(#[from] NodeNameError),
    /// The connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Another cluster answers, or someone between.
    #[error(
        "the control plane at {address} is not the one the token is for (its CA has another hash): make a token there \
         with `weft-control token create`"
    )]
    ForeignCa {
        /// Where.
        address: SocketAddr,
    },
    /// The control plane said no.
    #[error("the control plane refused the join: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The control plane said no.
    #[error("the control plane refused the session: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
}

fn lost(address: SocketAddr, error: &quinn::ConnectionError) -> DialError {
    use quinn::ConnectionError::{ConnectionClosed, TimedOut, TransportError};
    // QUIC's codes 0x100 to 0x1ff are TLS alerts (RFC 9001, 4.8).
    let is_tls = |code: u64| (0x100..0x200).contains(&code);
    match error {
        TimedOut => DialError::NoAnswer { address },
        TransportError(e) if is_tls(e.code.into()) => {
            DialError::Untrusted { address, reason: e.reason.clone() }
        }
        ConnectionClosed(e) if is_tls(e.error_code.into()) => {
            let said = String::from_utf8_lossy(&e.reason);
            DialError::Untrusted {
                address,
                reason: format!("it does not take this node's certificate ({said})"),
            }
        }
        other => DialError::Ended { address, reason: describe(other) },
    }
}

fn broken(address: SocketAddr, error: &StreamError) -> DialError {
    match error {
        StreamError::Lost(error) => lost(address, error),
        other => DialError::Ended { address, reason: other.to_string() },
    }
}

async fn dial(
    address: SocketAddr,
    config: quinn::ClientConfig,
) -> Result<(quinn::Endpoint, quinn::Connection), DialError> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let endpoint = quinn::Endpoint::client(any).map_err(DialError::Socket)?;
    let connecting = endpoint.connect_with(config, address, SERVER_NAME);
    let connecting = connecting.map_err(|source| DialError::Address { address, source })?;
    let connection = connecting.await.map_err(|error| lost(address, &error))?;
    Ok((endpoint, connection))
}

/// Asks the control plane for a node's certificate. A refusal is an error; the answer's `ca_pem` is to be trusted, as
/// the connection was: its hash is the token's.
pub async fn join(
    address: SocketAddr,
    token: &Token,
    node: &str,
    csr_pem: &str,
) -> Result<JoinResponse, JoinError> {
    check_node_name(node)?;
    let (config, foreign) = join_config(token.ca_sha256).map_err(DialError::Tls)?;
    let request = JoinRequest { token: token.to_text(), node: node.to_owned(), csr_pem: csr_pem.to_owned() };
    let exchange = async {
        let (_endpoint, connection) = dial(address, config).await?;
        let lost = |error| broken(address, &StreamError::Lost(error));
        let (send, recv) = connection.open_bi().await.map_err(lost)?;
        let mut send = FrameWriter::new(send);
        send.send(&request).await.map_err(|e| broken(address, &e))?;
        send.finish();
        let response =
            FrameReader::<JoinResponse>::new(recv).next().await.map_err(|e| broken(address, &e))?;
        close(&connection, CloseCode::Done, "");
        response.ok_or_else(|| broken(address, &StreamError::Closed))
    };
    let response = match timeout(HANDSHAKE_TIMEOUT, exchange).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) if foreign.load(Ordering::Acquire) => return Err(JoinError::ForeignCa { address }),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => return Err(DialError::NoAnswer { address }.into()),
    };
    if response.refused.is_empty() {
        Ok(response)
    } else {
        Err(JoinError::Refused { reason: response.refused })
    }
}

/// A session as the agent holds it. Its parts may go to different tasks; the connection lives until [`Link::close`], its
/// loss, or the drop of the last [`Link`].
#[derive(Debug)]
pub struct AgentSession {
    /// How the control plane greeted.
    pub welcome: Welcome,
    /// State, downward.
    pub state: FrameReader<ClosedFrame>,
    /// Status, upward.
    pub status: FrameWriter<StatusFrame>,
    /// Asks the control plane.
    pub requester: Requester,
    /// Streams the control plane opens.
    pub opens: OpenAcceptor,
    /// The connection.
    pub link: Link,
}

/// Begins a session. `hello`'s versions are filled in; its `node` must be the certificate's.
pub async fn connect(
    address: SocketAddr,
    identity: &NodeIdentity,
    hello: Hello,
) -> Result<AgentSession, ConnectError> {
    let config = link_config(identity).map_err(DialError::Tls)?;
    let hello = Hello { protocol: PROTOCOL, protocol_oldest: PROTOCOL_OLDEST, ..hello };
    match timeout(HANDSHAKE_TIMEOUT, begin(address, config, &hello)).await {
        Ok(begun) => begun,
        Err(_) => Err(DialError::NoAnswer { address }.into()),
    }
}

async fn begin(
    address: SocketAddr,
    config: quinn::ClientConfig,
    hello: &Hello,
) -> Result<AgentSession, ConnectError> {
    let (endpoint, connection) = dial(address, config).await?;
    let gone = |error: &StreamError| ConnectError::Dial(broken(address, error));
    let open = async {
        let (send, recv) = connection.open_bi().await.map_err(StreamError::Lost)?;
        let mut send = FrameWriter::new(send);
        send.send(hello).await?;
        let mut recv = FrameReader::<Welcome>::new(recv);
        let welcome = recv.next().await?.ok_or(StreamError::Closed)?;
        Ok((send, recv, welcome))
    };
    let (send, recv, welcome) = open.await.map_err(|e| gone(&e))?;
    if !welcome.refused.is_empty() {
        close(&connection, CloseCode::Done, "");
        return Err(ConnectError::Refused { reason: welcome.refused });
    }
    let status = connection.open_uni().await.map_err(|e| gone(&StreamError::Lost(e)))?;
    // Reports go before what people stream.
    let _ = status.set_priority(1);
    Ok(AgentSession {
        welcome,
        state: FrameReader::expected(connection.clone()),
        status: FrameWriter::new(status),
        requester: Requester::new(FrameWriter::new(send.into_stream()), recv.of()),
        opens: OpenAcceptor::new(endpoint, connection.clone()),
        link: Link::new(connection),
    })
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The control plane said no.
    #[error("the control plane refused: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
    /// No answer in time.
    #[error("the control plane did not answer within {ANSWER_TIMEOUT_MS} ms")]
    TimedOut,
    /// The session ended.
    #[error("the session has ended")]
    Ended,
    /// It could not be sent.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// Who waits for which answer; `None` once the session has ended.
#[derive(Clone, Debug)]
struct Waiting(Arc<StdMutex<Option<Answers>>>);

type Answers = HashMap<u64, oneshot::Sender<Response>>;

impl Waiting {
    fn change<T>(&self, change: impl FnOnce(&mut Option<Answers>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Asks the control plane, many questions at once. Clones are the same.
#[derive(Clone, Debug)]
pub struct Requester {
    writer: Arc<Mutex<FrameWriter<Request>>>,
    waiting: Waiting,
    places: Arc<Semaphore>,
    next_id: Arc<AtomicU64>,
}

impl Requester {
    fn new(writer: FrameWriter<Request>, reader: FrameReader<Response>) -> Self {
        let waiting = Waiting(Arc::new(StdMutex::new(Some(HashMap::new()))));
        tokio::spawn(hand_out(reader, waiting.clone()));
        Self {
            writer: Arc::new(Mutex::new(writer)),
            waiting,
            places: Arc::new(Semaphore::new(REQUESTS_MAX)),
            next_id: Arc::new(AtomicU64::new(1)),
        }
    }

    /// Asks, and waits for the answer. A refusal is an error.
    pub async fn request(&self, body: request::Body) -> Result<Response, RequestError> {
        timeout(ANSWER_TIMEOUT, self.request_unbounded(body)).await.map_err(|_| RequestError::TimedOut)?
    }

    async fn request_unbounded(&self, body: request::Body) -> Result<Response, RequestError> {
        let _place = self.places.acquire().await.map_err(|_| RequestError::Ended)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let added = self.waiting.change(|waiting| waiting.as_mut().map(|waiting| waiting.insert(id, answer)));
        added.ok_or(RequestError::Ended)?;
        let _forget = Forget { waiting: &self.waiting, id };
        self.writer.lock().await.send(&Request { id, body: Some(body) }).await?;
        let response = answered.await.map_err(|_| RequestError::Ended)?;
        if response.refused.is_empty() {
            Ok(response)
        } else {
            Err(RequestError::Refused { reason: response.refused })
        }
    }
}

/// Takes a request off the list whatever becomes of it.
struct Forget<'w> {
    waiting: &'w Waiting,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.waiting.change(|waiting| waiting.as_mut().map(|waiting| waiting.remove(&self.id)));
    }
}

async fn hand_out(mut reader: FrameReader<Response>, waiting: Waiting) {
    while let Ok(Some(response)) = reader.next().await {
        if let Some(answer) = waiting.change(|waiting| waiting.as_mut()?.remove(&response.id)) {
            let _ = answer.send(response);
        }
    }
    // Dropping the senders tells everyone who still waits.
    waiting.change(|waiting| *waiting = None);
}

/// The streams the control plane opens.
#[derive(Debug)]
pub struct OpenAcceptor {
    attempts: mpsc::Receiver<OpenAttempt>,
}

impl OpenAcceptor {
    fn new(endpoint: quinn::Endpoint, connection: quinn::Connection) -> Self {
        let (hand_on, attempts) = mpsc::channel(OPENS_WAITING_MAX);
        tokio::spawn(async move {
            // The endpoint's socket lives as long as the connection is listened to.
            let _endpoint = endpoint;
            while let Ok((send, recv)) = connection.accept_bi().await {
                let hand_on = hand_on.clone();
                // Each on its own: one that says nothing holds up no other. QUIC bounds how many there are.
                tokio::spawn(async move {
                    let mut reader = FrameReader::<Open>::new(recv);
                    let Ok(Ok(Some(open))) = timeout(ANSWER_TIMEOUT, reader.next()).await else { return };
                    let Some((recv, head)) = reader.into_parts() else { return };
                    let _ = hand_on.send(OpenAttempt { to: open.to, send, recv, head }).await;
                });
            }
        });
        Self { attempts }
    }

    /// The next stream; `None` when the session has ended. May be cancelled.
    pub async fn next(&mut self) -> Option<OpenAttempt> {
        self.attempts.recv().await
    }
}

/// A stream the control plane opened, and waits for.
#[derive(Debug)]
pub struct OpenAttempt {
    /// To what; `None` is something a later version knows: to be refused.
    pub to: Option<To>,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    head: ::bytes::Bytes,
}

impl OpenAttempt {
    /// Takes it: raw bytes follow.
    pub async fn accept(self) -> Result<ByteStream, StreamError> {
        let mut writer = FrameWriter::new(self.send);
        writer.send(&Opened::default()).await?;
        Ok(ByteStream::new(writer.into_stream(), self.recv, self.head))
    }

    /// Refuses it; the reason reaches who asked.
    pub async fn refuse(mut self, reason: &str) {
        let mut writer = FrameWriter::new(self.send);
        let sent = writer.send(&Opened { refused: reason.to_owned() }).await.is_ok();
        let mut send = writer.into_stream();
        if sent {
            let _ = send.finish();
            let _ = self.recv.stop(quinn::VarInt::from_u32(0));
        } else {
            reset(&mut send, &mut self.recv);
        }
    }
}
