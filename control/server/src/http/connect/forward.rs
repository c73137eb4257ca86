//! Port-forward: each connection is an error stream and a data stream, carried to a port inside the Pod. It knows SPDY's
//! streams and not how they come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::Response;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use weft_api::status::Status;
use weft_api::view::Pod;
use weft_link::message::PodPort;
use weft_link::session::ByteStream;
use weft_spdy::Headers;

use super::super::answer::Body;
use super::super::spdy::{self, Incoming, Piece, Session, Way};
use super::super::{Api, Call, upgrade, websocket};
use super::node_of;

#[cfg(test)]
mod tests;

/// The protocol's name in the raw upgrade.
const PROTOCOLS: &[&str] = &["portforward.k8s.io"];
/// How long one of a connection's two streams waits for the other, as in Kubernetes.
const PAIR_WAIT_MAX: Duration = Duration::from_secs(30);
/// Streams that wait for another one; as many as a client can have open. Those that it broke off are more.
const SINGLES_MAX: usize = spdy::STREAMS_MAX;
/// How often it is looked whether one has waited too long.
const PAIR_LOOK: Duration = Duration::from_secs(5);
/// Bytes read from a Pod at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// The headers of a stream.
const STREAM_TYPE: &str = "streamType";
const PORT: &str = "port";
const REQUEST: &str = "requestID";
/// Longest number of a connection, bytes.
const REQUEST_BYTES_MAX: usize = 64;

/// Serves `portforward`.
///
/// # Errors
/// 400 for a Pod that runs nowhere and for a request without an upgrade, 403 for protocols nobody serves, 429.
pub(super) fn serve(api: &Arc<Api>, call: Call, pod: &Pod) -> Result<Response<Body>, Status> {
    let node = node_of(pod)?.to_owned();
    let meta = &pod.metadata;
    let target =
        Target { node, namespace: meta.namespace.clone(), pod: meta.name.clone(), uid: meta.uid.clone() };
    let place = api.switched.take()?;
    let headers = call.request.headers();
    let is_spdy = upgrade::is_spdy(headers);
    let response = if is_spdy {
        match upgrade::negotiate(headers, PROTOCOLS) {
            Some(protocol) => upgrade::switching(protocol),
            None => return Ok(upgrade::refused(PROTOCOLS)),
        }
    } else {
        let protocol = websocket::negotiate(headers, websocket::TUNNEL)?;
        websocket::switching(&call.request, protocol)?
    };
    let api = api.clone();
    tokio::spawn(async move {
        let _place = place;
        let Some(client) = upgrade::switched(call.request).await.map(TokioIo::new) else { return };
        let stopping = api.stopping.clone();
        let session = if is_spdy {
            spdy::begin(upgrade::raw(client), takes, stopping)
        } else {
            spdy::begin(upgrade::tunnelled(client).await, takes, stopping)
        };
        let dial = |port| {
            let (api, target) = (api.clone(), target.clone());
            async move { target.dial(&api, port).await }
        };
        carry(session, dial).await;
    });
    Ok(response)
}

/// The Pod that is forwarded to.
#[derive(Clone)]
struct Target {
    node: String,
    namespace: String,
    pod: String,
    uid: String,
}

impl Target {
    /// A connection to a port, or what the client is told instead, in Kubernetes' words.
    async fn dial(&self, api: &Api, port: u16) -> Result<ByteStream, String> {
        let to = PodPort { namespace: self.namespace.clone(), pod: self.pod.clone(), port: port.into() };
        api.nodes.pod_port(&self.node, to).await.map_err(|error| {
            format!("error forwarding port {port} to pod {}, uid {}: {error}", self.pod, self.uid)
        })
    }
}

/// What a stream is of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Error,
    Data,
}

/// What a stream's headers say, if they say it.
fn read(headers: &Headers) -> Option<(Part, u16, String)> {
    let part = match headers.get(STREAM_TYPE)? {
        "error" => Part::Error,
        "data" => Part::Data,
        _ => return None,
    };
    let port = headers.get(PORT)?.parse().ok().filter(|port| *port != 0)?;
    let request = headers.get(REQUEST).filter(|r| !r.is_empty() && r.len() <= REQUEST_BYTES_MAX)?;
    Some((part, port, request.to_owned()))
}

fn takes(headers: &Headers) -> bool {
    read(headers).is_some()
}

/// A stream that waits for the other one of its connection.
struct Single {
    part: Part,
    port: u16,
    stream: Incoming,
    since: Instant,
}

/// All that wait, by the number of their connection.
#[derive(Default)]
struct Singles(HashMap<String, Single>);

impl Singles {
    fn keep(&mut self, request: String, single: Single) {
        if self.0.len() >= SINGLES_MAX {
            let closed = Err(oneshot::error::TryRecvError::Closed);
            self.0.retain(|_, single| single.stream.broken.try_recv() != closed);
        }
        self.0.insert(request, single);
    }
}

/// Carries connections until the client goes; the last of them goes with it.
async fn carry<D, F, S>(mut session: Session, dial: D)
where
    D: Fn(u16) -> F,
    F: Future<Output = Result<S, String>> + Send + 'static,
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
{
    let mut singles = Singles::default();
    let mut forwards = JoinSet::new();
    let mut look = tokio::time::interval(PAIR_LOOK);
    loop {
        tokio::select! {
            stream = session.next() => {
                let Some(stream) = stream else { return };
                let Some((part, port, request)) = read(&stream.headers) else { continue };
                match singles.0.remove(&request) {
                    None => singles.keep(request, Single { part, port, stream, since: Instant::now() }),
                    Some(first) if first.part == part || first.port != port => {
                        first.stream.way.reset().await;
                        stream.way.reset().await;
                    }
                    Some(first) => {
                        let (error, data) = match part {
                            Part::Data => (first.stream, stream),
                            Part::Error => (stream, first.stream),
                        };
                        forwards.spawn(forward(error.way, data, dial(port)));
                    }
                }
            }
            _ = look.tick() => {
                for (request, single) in singles.0.extract_if(|_, s| s.since.elapsed() >= PAIR_WAIT_MAX) {
                    forwards.spawn(alone(request, single));
                }
            }
            Some(_) = forwards.join_next() => {}
        }
    }
}

/// Tells a client that one of a connection's streams never came.
async fn alone(request: String, single: Single) {
    let way = single.stream.way;
    if single.part == Part::Error {
        let why = format!("error processing stream for request {request}: timed out waiting for streams");
        if way.send(why.into()).await.is_err() {
            return;
        }
    }
    way.finish().await;
}

/// One connection.
async fn forward<S>(error: Way, data: Incoming, dial: impl Future<Output = Result<S, String>>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let Incoming { mut pieces, mut broken, way, .. } = data;
    let dialled = tokio::select! {
        dialled = dial => dialled,
        _ = &mut broken => return error.finish().await,
    };
    let told = match dialled {
        Ok(pod) => {
            let (mut from_pod, mut to_pod) = tokio::io::split(pod);
            let up = async {
                if copy_up(&mut pieces, &mut to_pod).await {
                    // The client has said all; the Pod may have not.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                _ = broken => None,
                () = up => None,
                ended = copy_down(&mut from_pod, &way) => ended.err(),
            }
        }
        Err(why) => Some(why),
    };
    if let Some(why) = told
        && error.send(why.into()).await.is_err()
    {
        return;
    }
    way.finish().await;
    error.finish().await;
}

/// Carries what the client sends; `false` when it has broken the stream off.
async fn copy_up(pieces: &mut mpsc::Receiver<Piece>, to_pod: &mut (impl AsyncWriteExt + Unpin)) -> bool {
    while let Some(piece) = pieces.recv().await {
        let written = match piece {
            Piece::Data(held) => to_pod.write_all(&held.bytes).await,
            Piece::End => {
                let _ = to_pod.shutdown().await;
                return true;
            }
        };
        if written.is_err() {
            return true;
        }
    }
    false
}

/// Carries what the Pod sends, to its end.
async fn copy_down(from_pod: &mut (impl AsyncReadExt + Unpin), way: &Way) -> Result<(), String> {
    loop {
        let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
        match from_pod.read_buf(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(_) if way.send(buffer.freeze()).await.is_err() => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(format!("error copying from the pod's connection: {error}")),
        }
    }
}
