//! The control plane's end: takes connections, reads their first message, hands them on. It decides about none but
//! those that do not follow the protocol.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::crypto::rustls::HandshakeData;
use quinn_proto::HashedConnectionIdGenerator;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::timeout;

use super::framed::{FrameReader, FrameWriter, StreamError};
use super::guests::Guests;
use super::serve::ServerSession;
use super::tls::{ServerIdentity, TlsError, certified_node, server_config};
use super::{CloseCode, HANDSHAKE_TIMEOUT, LINGER, close};
use crate::hello::negotiate;
use crate::message::{ALPN, ALPN_JOIN, Hello, JoinRequest, JoinResponse, Request, Response, Welcome};

/// How many handshakes may go on at once; what comes then is told to come again.
const HANDSHAKES_MAX: usize = 256;
/// How many of them from one address.
const HANDSHAKES_EACH_MAX: usize = 64;
/// How many connections may wait to be taken by [`Listener::accept`].
const ACCEPTED_MAX: usize = 64;
/// How many connections there may be.
const CONNECTIONS_MAX: usize = 16_384;
/// With fewer places for handshakes left than this, who comes must show that its address is its own (RFC 9000, 8.1.2).
const PLACES_FOR_ANYONE: usize = HANDSHAKES_MAX / 2;

/// Why the control plane cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Its certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The socket.
    #[error("the link cannot listen on {address}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Who came.
#[derive(Debug)]
pub enum Accepted {
    /// A machine that wants to become a node.
    Join(JoinAttempt),
    /// A node with its certificate.
    Link(LinkAttempt),
}

/// Listens for agents.
#[derive(Debug)]
pub struct Listener {
    endpoint: quinn::Endpoint,
    accepted: Mutex<mpsc::Receiver<Accepted>>,
}

impl Listener {
    /// Binds a UDP address. Wants a tokio runtime.
    pub fn bind(address: SocketAddr, identity: &ServerIdentity) -> Result<Self, BindError> {
        let socket = UdpSocket::bind(address).map_err(|source| BindError::Socket { address, source })?;
        Self::on_socket(socket, identity)
    }

    /// Takes a socket that is bound already.
    pub fn on_socket(socket: UdpSocket, identity: &ServerIdentity) -> Result<Self, BindError> {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let address = socket.local_addr().unwrap_or(unknown);
        let failed = |source| BindError::Socket { address, source };
        let config = Some(server_config(identity)?);
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = quinn::Endpoint::new(endpoint_config(identity), config, socket, runtime);
        let endpoint = endpoint.map_err(failed)?;
        let (hand_on, accepted) = mpsc::channel(ACCEPTED_MAX);
        tokio::spawn(take(endpoint.clone(), hand_on));
        Ok(Self { endpoint, accepted: Mutex::new(accepted) })
    }

    /// Where it listens.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The next connection whose first message was read; `None` after [`Listener::close`]. May be cancelled.
    pub async fn accept(&self) -> Option<Accepted> {
        self.accepted.lock().await.recv().await
    }

    /// Shows another certificate to everyone who connects from now on.
    pub fn set_identity(&self, identity: &ServerIdentity) -> Result<(), TlsError> {
        self.endpoint.set_server_config(Some(server_config(identity)?));
        Ok(())
    }

    /// Ends every connection and waits a little until the peers know.
    pub async fn close(&self, reason: &str) {
        self.endpoint.close(quinn::VarInt::from_u32(CloseCode::Done as u32), reason.as_bytes());
        let _ = timeout(LINGER, self.endpoint.wait_idle()).await;
    }
}

/// Settings that are the same after a restart with the same key: so the agents' packets of before are answered with
/// QUIC's stateless reset (RFC 9000, 10.3), and they connect anew at once instead of after the idle timeout.
fn endpoint_config(identity: &ServerIdentity) -> quinn::EndpointConfig {
    let derive = |label: &str| Sha256::digest([label.as_bytes(), identity.key.secret_der()].concat());
    let reset_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &derive("weft link stateless reset"));
    let cid_key = derive("weft link connection ids");
    let cid_key = cid_key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let mut config = quinn::EndpointConfig::new(Arc::new(reset_key));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
    config
}

/// Takes connections until the endpoint is closed or nobody wants them.
async fn take(endpoint: quinn::Endpoint, hand_on: mpsc::Sender<Accepted>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let guests = Guests::new(HANDSHAKES_EACH_MAX);
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = hand_on.closed() => return,
        };
        let Some(incoming) = incoming else { return };
        if endpoint.open_connections() >= CONNECTIONS_MAX {
            incoming.refuse();
            continue;
        }
        if handshakes.available_permits() < PLACES_FOR_ANYONE && !incoming.remote_address_validated() {
            // It may be asked again once, so an error says only that it was.
            let _ = incoming.retry();
            continue;
        }
        let place = guests.enter(incoming.remote_address().ip());
        let (Ok(permit), Some(place)) = (handshakes.clone().try_acquire_owned(), place) else {
            incoming.refuse();
            continue;
        };
        let hand_on = hand_on.clone();
        tokio::spawn(async move {
            let remote = incoming.remote_address();
            let accepted = match timeout(HANDSHAKE_TIMEOUT, greet(incoming)).await {
                Ok(Ok(accepted)) => accepted,
                Ok(Err(error)) => {
                    tracing::debug!(%remote, %error, "a connection came to nothing");
                    return;
                }
                Err(_) => {
                    tracing::debug!(%remote, "a connection said nothing in time");
                    return;
                }
            };
            drop((permit, place));
            let _ = hand_on.send(accepted).await;
        });
    }
}

/// Why a connection came to nothing before anyone was asked about it.
#[derive(Debug, thiserror::Error)]
enum GreetError {
    #[error("the handshake failed: {}", super::framed::describe(.0))]
    Handshake(quinn::ConnectionError),
    #[error("{0}")]
    Refused(&'static str),
    #[error(transparent)]
    Stream(#[from] StreamError),
}

async fn greet(incoming: quinn::Incoming) -> Result<Accepted, GreetError> {
    let connection =
        incoming.accept().map_err(GreetError::Handshake)?.await.map_err(GreetError::Handshake)?;
    let refuse = |reason: &'static str| {
        close(&connection, CloseCode::Refused, reason);
        GreetError::Refused(reason)
    };
    let handshake = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let protocol = handshake.and_then(|data| data.protocol).unwrap_or_default();
    if protocol == ALPN {
        let chain = connection.peer_identity().and_then(|id| id.downcast::<Vec<CertificateDer<'_>>>().ok());
        let Some(certificate) = chain.as_ref().and_then(|chain| chain.first()) else {
            return Err(refuse("a link needs the node's certificate"));
        };
        let Some(node) = certified_node(certificate) else {
            return Err(refuse("the certificate is not a node's"));
        };
        let (send, recv) = first_stream(&connection).await?;
        let mut requests = FrameReader::<Hello>::new(recv);
        let Some(hello) = requests.next().await? else {
            return Err(refuse("the stream ended before a hello"));
        };
        Ok(Accepted::Link(LinkAttempt { connection, node, hello, send, requests }))
    } else if protocol == ALPN_JOIN {
        let (send, recv) = first_stream(&connection).await?;
        let Some(request) = FrameReader::<JoinRequest>::new(recv).next().await? else {
            return Err(refuse("the stream ended before a request"));
        };
        Ok(Accepted::Join(JoinAttempt { connection, request, send }))
    } else {
        Err(refuse("an unknown protocol"))
    }
}

async fn first_stream(
    connection: &quinn::Connection,
) -> Result<(quinn::SendStream, quinn::RecvStream), StreamError> {
    connection.accept_bi().await.map_err(StreamError::Lost)
}

/// A machine that wants to become a node, and waits for the answer.
#[derive(Debug)]
pub struct JoinAttempt {
    connection: quinn::Connection,
    request: JoinRequest,
    send: quinn::SendStream,
}

impl JoinAttempt {
    /// What it asks. The token in it is a secret.
    #[must_use]
    pub fn request(&self) -> &JoinRequest {
        &self.request
    }

    /// Where it comes from.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Answers, and ends the connection once the answer has arrived.
    pub async fn answer(self, response: &JoinResponse) -> Result<(), StreamError> {
        let mut send = FrameWriter::new(self.send);
        send.send(response).await?;
        send.finish_and_linger().await;
        close(&self.connection, CloseCode::Done, "");
        Ok(())
    }
}

/// A node that wants a session, and waits for the welcome.
#[derive(Debug)]
pub struct LinkAttempt {
    connection: quinn::Connection,
    node: String,
    hello: Hello,
    send: quinn::SendStream,
    requests: FrameReader<Hello>,
}

/// Why a session did not begin.
#[derive(Debug, thiserror::Error)]
pub enum WelcomeError {
    /// Its hello; the agent was told.
    #[error(transparent)]
    Hello(#[from] crate::hello::HelloError),
    /// The connection ended.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl LinkAttempt {
    /// The node, as its certificate says.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// What it said first.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Where it comes from.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Begins the session; the protocol version is filled in. An agent that speaks none of ours, or goes by another name
    /// than its certificate's, is refused here.
    pub async fn welcome(self, mut welcome: Welcome) -> Result<ServerSession, WelcomeError> {
        match negotiate(&self.hello, &self.node) {
            Ok(protocol) => welcome.protocol = protocol,
            Err(error) => {
                self.refuse(&error.to_string()).await;
                return Err(error.into());
            }
        }
        let mut send = FrameWriter::new(self.send);
        send.send(&welcome).await?;
        let responses: FrameWriter<Response> = FrameWriter::new(send.into_stream());
        let requests: FrameReader<Request> = self.requests.of();
        Ok(ServerSession::begin(self.connection, self.node, requests, responses).await?)
    }

    /// Refuses it; the reason is what the agent's operator reads.
    pub async fn refuse(self, reason: &str) {
        let mut send = FrameWriter::new(self.send);
        let welcome = Welcome { refused: reason.to_owned(), ..Welcome::default() };
        if send.send(&welcome).await.is_ok() {
            send.finish_and_linger().await;
        }
        close(&self.connection, CloseCode::Refused, reason);
    }
}
