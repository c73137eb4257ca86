//! How a client switches a connection over to streams: by WebSocket, or by SPDY's own upgrade as clients of before do.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, TryStreamExt, future};
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_util::codec::{BytesCodec, Framed};
use weft_api::status::Status;

use super::answer::{self, Body};
use super::spdy::Outgoing;
use super::websocket;

/// What the raw upgrade is called.
const SPDY: &str = "SPDY/3.1";
/// The protocols that a client offers, and the one that it gets.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What is served, for a client that offers nothing of it.
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
/// Switched connections at once; an HTTP server counts them no longer.
const SWITCHED_MAX: usize = 4096;

/// Places for connections that were switched over.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SWITCHED_MAX)))
    }
}

impl Places {
    /// A place, for as long as the connection lasts.
    ///
    /// # Errors
    /// 429: there are too many.
    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.0.clone().try_acquire_owned().map_err(|_| {
            Status::too_many_requests("too many streams to Pods at once, please try again later", 1)
        })
    }
}

/// Whether a header's list has a word.
pub(super) fn has(headers: &HeaderMap, name: impl http::header::AsHeaderName, wanted: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value.to_str().is_ok_and(|v| v.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted)))
    })
}

/// Whether a request asks for the raw upgrade.
pub(super) fn is_spdy(headers: &HeaderMap) -> bool {
    has(headers, CONNECTION, "upgrade") && has(headers, UPGRADE, SPDY)
}

/// The best protocol that both sides speak; those served are the best first. A client that offers none at all gets the last
/// one, the oldest. None: answer by [`refused`].
pub(super) fn negotiate(headers: &HeaderMap, served: &[&'static str]) -> Option<&'static str> {
    if !headers.contains_key(STREAM_PROTOCOL) {
        return served.last().copied();
    }
    served.iter().copied().find(|p| has(headers, STREAM_PROTOCOL, p))
}

/// What a client gets that offers nothing of what is served.
pub(super) fn refused(served: &[&'static str]) -> Response<Body> {
    let why =
        format!("unable to upgrade: none of the offered stream protocols is served: {}", served.join(", "));
    let mut response = answer::status(&Status::forbidden_request(why), super::accept::Encoding::Json);
    for protocol in served {
        response.headers_mut().append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(protocol));
    }
    response
}

/// The answer that switches a client over to raw SPDY.
pub(super) fn switching(protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(answer::full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
    headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    response
}

/// A client's end of the stream that was switched, once it was.
pub(super) async fn switched(mut client: Request<Incoming>) -> Option<Upgraded> {
    match hyper::upgrade::on(&mut client).await {
        Ok(upgraded) => Some(upgraded),
        Err(error) => {
            tracing::debug!(%error, "a stream was not switched over");
            None
        }
    }
}

/// SPDY as it is.
pub(super) fn raw(
    client: impl AsyncRead + AsyncWrite + Send + 'static,
) -> impl Stream<Item = std::io::Result<Bytes>> + Sink<Outgoing> + Send + 'static {
    Framed::new(client, BytesCodec::new()).map_ok(bytes::BytesMut::freeze).with(|out: Outgoing| {
        future::ok::<_, std::io::Error>(match out {
            Outgoing::Bytes(bytes) => bytes,
            Outgoing::End => Bytes::new(),
        })
    })
}

/// SPDY inside binary messages, cut as the peer likes.
pub(super) async fn tunnelled(
    client: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> impl Stream<Item = std::io::Result<Bytes>> + Sink<Outgoing> + Send + 'static {
    websocket::server(client)
        .await
        .map_err(std::io::Error::other)
        .sink_map_err(std::io::Error::other)
        .try_filter_map(|message| {
            future::ok(match message {
                Message::Binary(bytes) => Some(bytes),
                _ => None,
            })
        })
        .with(|out: Outgoing| {
            future::ok::<_, std::io::Error>(match out {
                Outgoing::Bytes(bytes) => Message::Binary(bytes),
                Outgoing::End => Message::Close(Some(websocket::normal())),
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVED: &[&str] = &["v2", "v1"];

    #[test]
    fn the_best_that_both_speak_is_agreed_on() {
        let mut headers = HeaderMap::new();
        assert_eq!(negotiate(&headers, SERVED), Some("v1"), "who offers nothing is of the first days");
        headers.append(STREAM_PROTOCOL, HeaderValue::from_static("v1"));
        headers.append(STREAM_PROTOCOL, HeaderValue::from_static("v3, v2"));
        assert_eq!(negotiate(&headers, SERVED), Some("v2"));
        headers.clear();
        headers.append(STREAM_PROTOCOL, HeaderValue::from_static("v3"));
        assert_eq!(negotiate(&headers, SERVED), None);
        let refused = refused(SERVED);
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        let served: Vec<_> = refused.headers().get_all(ACCEPTED_PROTOCOLS).iter().collect();
        assert_eq!(served, SERVED);
    }

    #[test]
    fn spdy_is_asked_for_in_both_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        assert!(!is_spdy(&headers));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        assert!(is_spdy(&headers));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        assert!(!is_spdy(&headers));
    }
}
