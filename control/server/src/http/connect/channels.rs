//! Exec and attach between a client's SPDY streams and an agent's channel stream: what `websocket.rs` does, for clients of
//! before WebSockets.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use hyper::body::Incoming as IncomingBody;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use weft_api::channel::{frame, unframe};
use weft_spdy::Headers;

use super::super::answer::Body;
use super::super::spdy::{self, Gone, Incoming, Piece, Session, Way};
use super::super::{Api, upgrade, websocket};

#[cfg(test)]
mod tests;

/// Protocols served, the best first. From the fourth on the end is told as a Status, from the third on there are resizes.
pub(super) const PROTOCOLS: &[&str] =
    &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// How long a client may take to begin its streams, as in Kubernetes.
const STREAMS_WAIT_MAX: Duration = Duration::from_secs(30);
/// The header that says what a stream is.
const STREAM_TYPE: &str = "streamType";
/// Longest word on a terminal's size, bytes.
const SIZE_BYTES_MAX: usize = 256;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const RESIZE: u8 = 4;
const HALF_CLOSE: u8 = 255;

/// Which streams a client is to begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

/// Switches both sides and carries between them until one ends.
pub(super) fn serve(
    api: &Arc<Api>,
    client: Request<IncomingBody>,
    mut agent: Response<IncomingBody>,
    protocol: &'static str,
    wanted: Wanted,
    place: OwnedSemaphorePermit,
) -> Response<Body> {
    let stopping = api.stopping.clone();
    let agent = hyper::upgrade::on(&mut agent);
    tokio::spawn(async move {
        let _place = place;
        let Some(client) = upgrade::switched(client).await else { return };
        let session = spdy::begin(upgrade::raw(TokioIo::new(client)), takes, stopping);
        match agent.await {
            Ok(agent) => carry(session, TokioIo::new(agent), protocol, wanted).await,
            Err(error) => tracing::debug!(%error, "a stream was not switched over"),
        }
    });
    upgrade::switching(protocol)
}

fn takes(headers: &Headers) -> bool {
    let types = ["error", "stdin", "stdout", "stderr", "resize"];
    headers.get(STREAM_TYPE).is_some_and(|part| types.contains(&part))
}

/// The streams of one command.
struct Streams {
    error: Way,
    stdin: Option<mpsc::Receiver<Piece>>,
    stdout: Option<Way>,
    stderr: Option<Way>,
    resize: Option<mpsc::Receiver<Piece>>,
}

impl Streams {
    /// Waits for all that are wanted; none when the client goes, or begins one twice.
    async fn gather(session: &mut Session, protocol: &str, wanted: Wanted) -> Option<Self> {
        let resizes = wanted.tty && matches!(protocol, "v4.channel.k8s.io" | "v3.channel.k8s.io");
        let (mut error, mut stdin, mut stdout, mut stderr, mut resize) = (None, None, None, None, None);
        let missing = |there: bool, wanted: bool| wanted && !there;
        while missing(error.is_some(), true)
            || missing(stdin.is_some(), wanted.stdin)
            || missing(stdout.is_some(), wanted.stdout)
            || missing(stderr.is_some(), wanted.stderr)
            || missing(resize.is_some(), resizes)
        {
            let Incoming { headers, pieces, way, .. } = session.next().await?;
            let doubled = match headers.get(STREAM_TYPE)? {
                "error" => error.replace(way).is_some(),
                "stdin" => stdin.replace(pieces).is_some(),
                "stdout" => stdout.replace(way).is_some(),
                "stderr" => stderr.replace(way).is_some(),
                _ => resize.replace(pieces).is_some(),
            };
            if doubled {
                return None;
            }
        }
        Some(Self { error: error?, stdin, stdout, stderr, resize })
    }
}

async fn carry<A>(mut session: Session, agent: A, protocol: &str, wanted: Wanted)
where
    A: AsyncRead + AsyncWrite + Send,
{
    let gathered = timeout(STREAMS_WAIT_MAX, Streams::gather(&mut session, protocol, wanted)).await;
    let Ok(Some(streams)) = gathered else {
        tracing::debug!("a client did not begin its streams");
        return;
    };
    let Streams { error, stdin, stdout, stderr, resize } = streams;
    let (mut from_agent, mut to_agent) = tokio::io::split(agent);
    let outputs = [stdout, stderr];
    let down = async {
        let told = copy_down(&mut from_agent, &outputs).await?;
        for way in outputs.iter().flatten() {
            way.finish().await;
        }
        if let Some(told) = told.and_then(|status| last_words(&status, protocol)) {
            error.send(told).await?;
        }
        error.finish().await;
        Ok::<(), Gone>(())
    };
    let up = async {
        copy_up(stdin, resize, &mut to_agent).await;
        // The client says no more; the command goes on.
    };
    tokio::pin!(down, up);
    let mut said = false;
    loop {
        tokio::select! {
            _ = &mut down => return,
            () = &mut up, if !said => said = true,
            // Streams that nobody asked for, until the client goes.
            further = session.next() => match further {
                Some(further) => further.way.reset().await,
                None => return,
            },
        }
    }
}

/// Carries input and sizes until the client has said all.
async fn copy_up(
    mut stdin: Option<mpsc::Receiver<Piece>>,
    mut resize: Option<mpsc::Receiver<Piece>>,
    to_agent: &mut (impl AsyncWrite + Unpin),
) {
    let mut sizes = Vec::new();
    while stdin.is_some() || resize.is_some() {
        let written = tokio::select! {
            piece = next(&mut stdin) => match piece {
                Some(Piece::Data(held)) => to_agent.write_all(&frame(STDIN, &held.bytes)).await,
                Some(Piece::End) | None => {
                    stdin = None;
                    to_agent.write_all(&frame(HALF_CLOSE, &[STDIN])).await
                }
            },
            piece = next(&mut resize) => match piece {
                Some(Piece::Data(held)) => {
                    let mut frames = Vec::new();
                    for size in whole_lines(&mut sizes, &held.bytes) {
                        frames.extend(frame(RESIZE, &size));
                    }
                    to_agent.write_all(&frames).await
                }
                Some(Piece::End) | None => {
                    resize = None;
                    Ok(())
                }
            },
        };
        // The agent's end of the stream tells why.
        if written.is_err() {
            return;
        }
    }
}

/// The next piece of a stream that is there.
async fn next(stream: &mut Option<mpsc::Receiver<Piece>>) -> Option<Piece> {
    match stream {
        Some(stream) => stream.recv().await,
        None => std::future::pending().await,
    }
}

/// Sizes are JSON, one a line, cut as it comes. One that has no end is dropped.
fn whole_lines(held: &mut Vec<u8>, bytes: &[u8]) -> Vec<Vec<u8>> {
    held.extend_from_slice(bytes);
    let mut lines: Vec<Vec<u8>> = held.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    *held = lines.pop().unwrap_or_default();
    // Every client writes a size as a whole; some write no end of the line.
    if held.ends_with(b"}") {
        lines.push(std::mem::take(held));
    }
    if held.len() > SIZE_BYTES_MAX {
        held.clear();
    }
    lines.retain(|line| !line.is_empty() && line.len() <= SIZE_BYTES_MAX);
    lines
}

/// Carries output until the agent says how it ended; none when it does not.
async fn copy_down(
    from_agent: &mut (impl AsyncRead + Unpin),
    outputs: &[Option<Way>; 2],
) -> Result<Option<Bytes>, Gone> {
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    loop {
        loop {
            match unframe(&mut buffer) {
                Ok(Some((websocket::STATUS, status))) => return Ok(Some(status)),
                Ok(Some((channel, payload))) => {
                    let way = match channel {
                        STDOUT => &outputs[0],
                        STDERR => &outputs[1],
                        _ => &None,
                    };
                    if let Some(way) = way {
                        way.send(payload).await?;
                    }
                }
                Ok(None) => break,
                Err(_) => return Ok(None),
            }
        }
        if from_agent.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            return Ok(None);
        }
    }
}

/// What the error stream says at the end: the Status itself, or for clients of before it the message of a failure.
fn last_words(status: &[u8], protocol: &str) -> Option<Bytes> {
    if protocol == "v4.channel.k8s.io" {
        return Some(Bytes::copy_from_slice(status));
    }
    let status: Value = serde_json::from_slice(status).ok()?;
    let failed = status["status"] != "Success";
    failed.then(|| status["message"].as_str().unwrap_or("the command failed").to_owned().into())
}
