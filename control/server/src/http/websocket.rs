//! Exec and attach between a client's WebSocket (`v5.channel.k8s.io` and `v4.channel.k8s.io`) and an agent's channel
//! stream: the same channels on both sides, in other envelopes.
//!
//! The agent's frames are those of [`weft_api::channel`]; channel 255 half-closes the one its payload names, on both sides.

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use weft_api::channel::{FRAME_BYTES_MAX, frame, unframe};
use weft_api::status::Status;

use super::answer::{self, Body};
use super::upgrade;
use crate::stop::stopped;

#[cfg(test)]
mod tests;

/// What the agent calls its channel stream.
pub(super) const AGENT_PROTOCOL: &str = "weft-channel/1";
/// The channel that says how it ended.
pub(super) const STATUS: u8 = 3;
/// How often a quiet connection is asked whether it lives.
const PING_EVERY: std::time::Duration = std::time::Duration::from_secs(30);

/// The subprotocol both sides speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Protocol(&'static str);

/// Protocols of exec and attach, the best first. They differ in half-closing, which is understood in either.
pub(super) const CHANNELS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// The protocol of port-forward: SPDY inside the messages.
pub(super) const TUNNEL: &[&str] = &["SPDY/3.1+portforward.k8s.io"];

/// Reads a WebSocket handshake, for one of the protocols served here, the best first.
///
/// # Errors
/// 400 when it is none, or offers no protocol that is served.
pub(super) fn negotiate(headers: &HeaderMap, served: &'static [&'static str]) -> Result<Protocol, Status> {
    let has = |name, wanted: &str| upgrade::has(headers, name, wanted);
    if !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
        return Err(Status::bad_request(
            "Upgrade request required: this stream is served over WebSocket and SPDY/3.1",
        ));
    }
    if !has(SEC_WEBSOCKET_VERSION, "13") || !headers.contains_key(SEC_WEBSOCKET_KEY) {
        return Err(Status::bad_request("only WebSocket version 13 (RFC 6455) is served"));
    }
    served.iter().copied().find(|p| has(SEC_WEBSOCKET_PROTOCOL, p)).map(Protocol).ok_or_else(|| {
        Status::bad_request(format!(
            "none of the offered WebSocket protocols is served: {}",
            served.join(", ")
        ))
    })
}

/// Switches both sides and carries between them until one ends.
///
/// # Errors
/// 400 for a broken handshake.
pub(super) fn carry(
    mut client: Request<Incoming>,
    mut agent: Response<Incoming>,
    protocol: Protocol,
    stopping: watch::Receiver<bool>,
    place: OwnedSemaphorePermit,
) -> Result<Response<Body>, Status> {
    let response = switching(&client, protocol)?;
    let client = hyper::upgrade::on(&mut client);
    let agent = hyper::upgrade::on(&mut agent);
    tokio::spawn(async move {
        let _place = place;
        match tokio::try_join!(client, agent) {
            Ok((client, agent)) => {
                between(server(TokioIo::new(client)).await, TokioIo::new(agent), stopping).await;
            }
            Err(error) => tracing::debug!(%error, "a stream was not switched over"),
        }
    });
    Ok(response)
}

/// Switches the client and tells it on the status channel why there is no stream. An answer without a switch would do for
/// what is wrong with the request; but clients take it for a server that has no WebSockets, and ask again by SPDY.
///
/// # Errors
/// 400 for a broken handshake.
pub(super) fn refuse(
    mut client: Request<Incoming>,
    protocol: Protocol,
    why: &Status,
) -> Result<Response<Body>, Status> {
    let response = switching(&client, protocol)?;
    let mut message = vec![STATUS];
    message.extend_from_slice(why.to_json().to_string().as_bytes());
    let client = hyper::upgrade::on(&mut client);
    tokio::spawn(async move {
        match client.await {
            Ok(client) => end(&mut server(TokioIo::new(client)).await, message).await,
            Err(error) => tracing::debug!(%error, "a stream was not switched over"),
        }
    });
    Ok(response)
}

/// The answer that switches a client to WebSocket.
pub(super) fn switching(client: &Request<Incoming>, protocol: Protocol) -> Result<Response<Body>, Status> {
    let key = client
        .headers()
        .get(SEC_WEBSOCKET_KEY)
        .map(|k| derive_accept_key(k.as_bytes()))
        .and_then(|k| HeaderValue::from_str(&k).ok())
        .ok_or_else(|| Status::bad_request("the WebSocket key is not readable"))?;
    let mut response = Response::new(answer::full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol.0));
    Ok(response)
}

/// The server's end on a switched connection.
pub(super) async fn server<S: AsyncRead + AsyncWrite + Unpin>(client: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await
}

/// The close of a connection that ends as it should. One without a code is an error to clients: they take only 1000 for it.
pub(super) fn normal() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }
}

/// Sends the last message and closes. A client that has gone needs neither.
async fn end<S>(client: &mut S, message: Vec<u8>)
where
    S: futures_util::Sink<Message> + Unpin,
{
    if client.send(Message::Binary(message.into())).await.is_ok() {
        let _gone = client.send(Message::Close(Some(normal()))).await;
        let _gone = client.close().await;
    }
}

async fn between<C, A>(client: WebSocketStream<C>, agent: A, mut stopping: watch::Receiver<bool>)
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    A: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut to_client, mut from_client) = client.split();
    let (mut from_agent, mut to_agent) = tokio::io::split(agent);
    let up = async {
        while let Some(Ok(message)) = from_client.next().await {
            let (Message::Binary(_) | Message::Text(_)) = &message else { continue };
            let data = message.into_data();
            let Some((channel, payload)) = data.split_first() else { continue };
            if to_agent.write_all(&frame(*channel, payload)).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let mut buffer = BytesMut::with_capacity(16 * 1024);
        let mut ping = tokio::time::interval(PING_EVERY);
        ping.tick().await;
        loop {
            while let Some((channel, payload)) = unframe(&mut buffer).ok()? {
                let mut message = Vec::with_capacity(payload.len() + 1);
                message.push(channel);
                message.extend_from_slice(&payload);
                if channel == STATUS {
                    end(&mut to_client, message).await;
                    return None;
                }
                to_client.send(Message::Binary(message.into())).await.ok()?;
            }
            tokio::select! {
                read = from_agent.read_buf(&mut buffer) => if read.ok()? == 0 { return None },
                _ = ping.tick() => to_client.send(Message::Ping(Bytes::new())).await.ok()?,
            }
        }
    };
    let _: Option<()> = tokio::select! {
        () = up => None,
        ended = down => ended,
        () = stopped(&mut stopping) => None,
    };
}
