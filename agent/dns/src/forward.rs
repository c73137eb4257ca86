//! Asking the node's resolvers. Every query has a socket and an id of its own, both random, so that an answer cannot be
//! forged by guessing; the question that comes back is compared with the one that was asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Largest UDP message taken from a resolver, bytes.
const UDP_BYTES_MAX: usize = 4096;
/// Length of a DNS header, bytes.
const HEADER_BYTES: usize = 12;

/// Why no resolver answered.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// None is configured.
    #[error("no resolver is configured on this node")]
    NoResolver,
    /// None answered in time, or all failed.
    #[error("none of the {resolvers} resolvers answered")]
    NoAnswer {
        /// How many were asked.
        resolvers: usize,
    },
    /// The query is no DNS message.
    #[error("the query is shorter than a DNS header")]
    Malformed,
}

/// Sends a query to the resolvers in turn until one answers; the answer has the query's own id.
///
/// `stream`: over TCP, as the client asked. `wait` is the time one resolver has.
///
/// # Errors
/// See [`ForwardError`].
pub async fn forward(
    query: &[u8],
    resolvers: &[SocketAddr],
    stream: bool,
    wait: Duration,
) -> Result<Vec<u8>, ForwardError> {
    let (Some(id), true) = (query.first_chunk::<2>().copied(), query.len() >= HEADER_BYTES) else {
        return Err(ForwardError::Malformed);
    };
    if resolvers.is_empty() {
        return Err(ForwardError::NoResolver);
    }
    let mut query = query.to_vec();
    for resolver in resolvers {
        let fresh = Message::query().metadata.id.to_be_bytes();
        query[..2].copy_from_slice(&fresh);
        let asked = async {
            if stream { over_tcp(&query, *resolver).await } else { over_udp(&query, *resolver).await }
        };
        match timeout(wait, asked).await {
            Ok(Ok(mut answer)) => {
                answer[..2].copy_from_slice(&id);
                return Ok(answer);
            }
            Ok(Err(error)) => tracing::debug!(%resolver, %error, "a resolver cannot be asked"),
            Err(_) => tracing::debug!(%resolver, "a resolver does not answer"),
        }
    }
    Err(ForwardError::NoAnswer { resolvers: resolvers.len() })
}

async fn over_udp(query: &[u8], resolver: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any: IpAddr =
        if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(query, &buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(query: &[u8], resolver: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(query.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(query);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    if answers(query, &answer) { Ok(answer) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

/// Whether a message answers a query: same id, a response, the same question.
fn answers(query: &[u8], answer: &[u8]) -> bool {
    if answer.len() < HEADER_BYTES || answer[..2] != query[..2] || answer[2] & 0x80 == 0 {
        return false;
    }
    let Some(end) = question_end(query) else { return false };
    // A resolver that refuses may leave the question out.
    let questions = u16::from_be_bytes([answer[4], answer[5]]);
    questions == 0
        || answer.get(HEADER_BYTES..end).is_some_and(|q| q.eq_ignore_ascii_case(&query[HEADER_BYTES..end]))
}

/// Where the first question ends, bytes from the start of the message; questions are never compressed.
fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER_BYTES;
    loop {
        match *message.get(at)? {
            0 => break,
            length if length < 64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    let end = at + 5;
    (end <= message.len()).then_some(end)
}
