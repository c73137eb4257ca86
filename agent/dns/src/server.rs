//! The sockets: UDP and TCP listeners that answer from the table and forward the rest. Everything is bounded: queries
//! under way, connections, the time each may take.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::answer::{Answer, answer, encode, failure, udp_bytes_max};
use crate::forward::{ForwardError, forward};
use crate::records::Records;
use crate::resolv_conf::nameservers;

/// Largest message over TCP, bytes.
const TCP_BYTES_MAX: usize = u16::MAX as usize;
/// Largest query over UDP, bytes.
const QUERY_BYTES_MAX: usize = 4096;

/// Settings of the server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names the resolvers that other names are forwarded to; read anew every few seconds.
    pub resolv_conf: PathBuf,
    /// Instead of those in `resolv_conf`, when not empty.
    pub resolvers: Vec<SocketAddr>,
    /// The time one resolver has, milliseconds.
    pub upstream_timeout_ms: u64,
    /// Queries that wait for a resolver at once; one more is answered `SERVFAIL`.
    pub in_flight_max: usize,
    /// TCP connections at once; one more is closed.
    pub tcp_connections_max: usize,
    /// A TCP connection without a query for so long is closed, milliseconds.
    pub tcp_idle_ms: u64,
    /// How old the reading of `resolv_conf` may be, milliseconds.
    pub resolv_conf_max_age_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            resolvers: Vec::new(),
            upstream_timeout_ms: 2_000,
            in_flight_max: 1_000,
            tcp_connections_max: 256,
            tcp_idle_ms: 10_000,
            resolv_conf_max_age_ms: 5_000,
        }
    }
}

/// Sockets to serve on, already bound; made non-blocking by [`run`].
#[derive(Debug, Default)]
pub struct Sockets {
    /// UDP sockets, each bound to one address: answers leave from the address they were asked at.
    pub udp: Vec<std::net::UdpSocket>,
    /// TCP listeners.
    pub tcp: Vec<std::net::TcpListener>,
}

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A socket given cannot be used.
    #[error("a DNS socket cannot be used")]
    Socket(#[source] std::io::Error),
    /// No socket was given.
    #[error("no socket to serve DNS on")]
    NoSocket,
}

struct Shared {
    records: Arc<RwLock<Records>>,
    config: Config,
    own: Vec<IpAddr>,
    in_flight: Semaphore,
    turn: AtomicUsize,
    resolvers: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

/// Serves until the future is dropped; everything it started ends with it.
///
/// # Errors
/// A socket cannot be used at all. Errors of one query or connection end only that.
pub async fn run(sockets: Sockets, records: Arc<RwLock<Records>>, config: Config) -> Result<(), ServeError> {
    let mut own = Vec::new();
    let mut tasks = JoinSet::new();
    let (mut udp, mut tcp) = (Vec::new(), Vec::new());
    for socket in sockets.udp {
        socket.set_nonblocking(true).map_err(ServeError::Socket)?;
        own.extend(socket.local_addr().map(|address| address.ip()).ok());
        udp.push(UdpSocket::from_std(socket).map_err(ServeError::Socket)?);
    }
    for listener in sockets.tcp {
        listener.set_nonblocking(true).map_err(ServeError::Socket)?;
        own.extend(listener.local_addr().map(|address| address.ip()).ok());
        tcp.push(TcpListener::from_std(listener).map_err(ServeError::Socket)?);
    }
    let in_flight = Semaphore::new(config.in_flight_max);
    let shared = Arc::new(Shared {
        records,
        config,
        own,
        in_flight,
        turn: AtomicUsize::new(0),
        resolvers: Mutex::new(None),
    });
    for socket in udp {
        tasks.spawn(serve_udp(Arc::new(socket), Arc::clone(&shared)));
    }
    for listener in tcp {
        tasks.spawn(serve_tcp(listener, Arc::clone(&shared)));
    }
    if tasks.is_empty() {
        return Err(ServeError::NoSocket);
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut waiting = JoinSet::new();
    let mut buffer = vec![0; QUERY_BYTES_MAX];
    loop {
        while waiting.try_join_next().is_some() {}
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // An earlier answer's ICMP error; the socket itself goes on.
                tracing::debug!(%error, "a DNS query was not received");
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
        };
        let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
        if query.metadata.message_type == hickory_proto::op::MessageType::Response {
            // Answering answers would let two servers talk for ever.
            continue;
        }
        match shared.decide(&query) {
            Answer::Reply(reply) => send(&socket, client, *reply, udp_bytes_max(&query)).await,
            outward => {
                if waiting.len() >= shared.config.in_flight_max {
                    send(&socket, client, failure(&query, ResponseCode::ServFail), udp_bytes_max(&query))
                        .await;
                    continue;
                }
                let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
                let bytes = buffer[..length].to_vec();
                waiting.spawn(async move {
                    let reply = shared.outward(&query, &bytes, outward, false).await;
                    if let Err(error) = socket.send_to(&reply, client).await {
                        tracing::debug!(%client, %error, "a DNS answer was not sent");
                    }
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, client: SocketAddr, reply: Message, bytes_max: usize) {
    let bytes = match encode(reply, bytes_max) {
        Ok(bytes) => bytes,
        Err(error) => return tracing::warn!(%error, "a DNS answer cannot be written"),
    };
    if let Err(error) = socket.send_to(&bytes, client).await {
        tracing::debug!(%client, %error, "a DNS answer was not sent");
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) if connections.len() < shared.config.tcp_connections_max => {
                connections.spawn(converse(stream, Arc::clone(&shared)));
            }
            Ok(_) => tracing::warn!(
                max = shared.config.tcp_connections_max,
                "too many DNS connections, one was closed"
            ),
            Err(error) => {
                tracing::debug!(%error, "a DNS connection was not accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// One TCP connection: queries one after the other, each with its length in front (RFC 7766).
async fn converse(mut stream: TcpStream, shared: Arc<Shared>) {
    let idle = Duration::from_millis(shared.config.tcp_idle_ms);
    loop {
        let received = timeout(idle, async {
            let length = stream.read_u16().await?;
            let mut bytes = vec![0; length.into()];
            stream.read_exact(&mut bytes).await?;
            Ok::<_, std::io::Error>(bytes)
        });
        let Ok(Ok(bytes)) = received.await else { return };
        let Ok(query) = Message::from_vec(&bytes) else { return };
        let reply = match shared.decide(&query) {
            Answer::Reply(reply) => match encode(*reply, TCP_BYTES_MAX) {
                Ok(reply) => reply,
                Err(_) => return,
            },
            outward => shared.outward(&query, &bytes, outward, true).await,
        };
        let Ok(length) = u16::try_from(reply.len()) else { return };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&reply);
        if !matches!(timeout(idle, stream.write_all(&framed)).await, Ok(Ok(()))) {
            return;
        }
    }
}

impl Shared {
    fn decide(&self, query: &Message) -> Answer {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        answer(query, &records, turn)
    }

    /// The bytes of an answer that the node's resolvers have a part in.
    async fn outward(&self, query: &Message, bytes: &[u8], answer: Answer, stream: bool) -> Vec<u8> {
        let result = match answer {
            Answer::Forward => self.forward(bytes, stream).await,
            Answer::Chase(reply, target) => self.chase(query, *reply, target, stream).await,
            Answer::Reply(reply) => return encode(*reply, TCP_BYTES_MAX).unwrap_or_default(),
        };
        result.unwrap_or_else(|error| {
            let name = query.queries.first().map(|question| question.name().to_string()).unwrap_or_default();
            tracing::debug!(name, %error, "a name outside the cluster was not resolved");
            encode(failure(query, ResponseCode::ServFail), TCP_BYTES_MAX).unwrap_or_default()
        })
    }

    async fn forward(&self, bytes: &[u8], stream: bool) -> Result<Vec<u8>, ForwardError> {
        let resolvers = self.resolvers().await;
        let Ok(_permit) = self.in_flight.try_acquire() else {
            return Err(ForwardError::NoAnswer { resolvers: 0 });
        };
        let wait = Duration::from_millis(self.config.upstream_timeout_ms);
        forward(bytes, &resolvers, stream, wait).await
    }

    /// Asks for the name an alias leads to, and appends what is answered.
    async fn chase(
        &self,
        query: &Message,
        mut reply: Message,
        target: Name,
        stream: bool,
    ) -> Result<Vec<u8>, ForwardError> {
        let type_ = query.queries.first().map_or(hickory_proto::rr::RecordType::A, Query::query_type);
        let mut further = Message::query();
        further.metadata.recursion_desired = true;
        further.add_query(Query::query(target, type_));
        let bytes = further.to_vec().map_err(|_| ForwardError::Malformed)?;
        let answer = self.forward(&bytes, stream).await?;
        let answer = Message::from_vec(&answer).map_err(|_| ForwardError::Malformed)?;
        reply.metadata.response_code = answer.metadata.response_code;
        reply.metadata.truncation = answer.metadata.truncation;
        reply.answers.extend(answer.answers);
        let bytes_max = if stream { TCP_BYTES_MAX } else { udp_bytes_max(query) };
        encode(reply, bytes_max).map_err(|_| ForwardError::Malformed)
    }

    async fn resolvers(&self) -> Vec<SocketAddr> {
        if !self.config.resolvers.is_empty() {
            return self.config.resolvers.clone();
        }
        let mut cached = self.resolvers.lock().await;
        let age_max = Duration::from_millis(self.config.resolv_conf_max_age_ms);
        if let Some((read, resolvers)) = &*cached
            && read.elapsed() < age_max
        {
            return resolvers.clone();
        }
        let resolvers = match tokio::fs::read_to_string(&self.config.resolv_conf).await {
            Ok(text) => nameservers(&text, &self.own),
            Err(error) => {
                tracing::warn!(path = %self.config.resolv_conf.display(), %error, "resolvers cannot be read");
                Vec::new()
            }
        };
        *cached = Some((Instant::now(), resolvers.clone()));
        resolvers
    }
}

#[cfg(test)]
mod tests;
