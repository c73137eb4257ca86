//! Logs of containers, and commands in them.

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::io::ReaderStream;
use weft_runtime::{
    AttachRequest, ContainerRef, ExecRequest, ExecSession, LogRequest, Runtime, SessionError, TerminalSize,
};

use super::answer::{Body, Refusal, full, streamed};

/// What a session's upgrade is called.
const PROTOCOL: &str = "weft-channel/1";
/// Largest payload of a frame, bytes.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes read from a container at a time.
const CHUNK_BYTES: usize = 32 << 10;
/// Frames on their way out of one session.
const FRAMES_QUEUED_MAX: usize = 64;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const HALF_CLOSE: u8 = 255;

impl From<SessionError> for Refusal {
    fn from(error: SessionError) -> Self {
        let status = match &error {
            SessionError::NoPod(_) => StatusCode::NOT_FOUND,
            SessionError::NoContainer { .. }
            | SessionError::NotRunning { .. }
            | SessionError::NoLog { .. }
            | SessionError::Invalid(_) => StatusCode::BAD_REQUEST,
            SessionError::Start(_) | SessionError::Broken { .. } | SessionError::Io(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self { status, message: super::answer::chain(&error) }
    }
}

/// `GET /containerLogs/NS/POD/CONTAINER`.
pub(crate) async fn logs(
    runtime: &Runtime,
    container: ContainerRef,
    query: &str,
) -> Result<Response<Body>, Refusal> {
    let mut request = LogRequest { container, ..LogRequest::default() };
    for (name, value) in super::query(query) {
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| Refusal::bad_request(format!("{name}: {value:?} is not a whole number")))
        };
        match name.as_str() {
            "follow" => request.follow = is_true(&value),
            "previous" => request.previous = is_true(&value),
            "timestamps" => request.timestamps = is_true(&value),
            "tailLines" => request.tail_lines = Some(number()?),
            "sinceSeconds" => request.since_seconds = Some(number()?),
            "limitBytes" => request.limit_bytes = Some(number()?),
            "sinceTime" => request.since_time = Some(value),
            _ => {}
        }
    }
    let log = runtime.logs(request).await?;
    let mut response = streamed(ReaderStream::with_capacity(log, CHUNK_BYTES));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// `POST /exec/NS/POD/CONTAINER`, upgraded to framed channels.
pub(crate) async fn exec(
    runtime: &Runtime,
    container: ContainerRef,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let mut wanted = ExecRequest { container, ..ExecRequest::default() };
    for (name, value) in super::query(request.uri().query().unwrap_or_default()) {
        match name.as_str() {
            "command" => wanted.command.push(value),
            "tty" => wanted.tty = is_true(&value),
            "stdin" => wanted.stdin = is_true(&value),
            "stdout" => wanted.stdout = is_true(&value),
            "stderr" => wanted.stderr = is_true(&value),
            _ => {}
        }
    }
    if wanted.command.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command for the container"));
    }
    check_upgrade(&request)?;
    let session = runtime.exec(wanted).await?;
    Ok(upgrade(request, session))
}

/// `POST /attach/NS/POD/CONTAINER`, upgraded to framed channels.
pub(crate) async fn attach(
    runtime: &Runtime,
    container: ContainerRef,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let stdin = super::query(request.uri().query().unwrap_or_default())
        .any(|(name, value)| name == "stdin" && is_true(&value));
    check_upgrade(&request)?;
    let session = runtime.attach(AttachRequest { container, stdin }).await?;
    Ok(upgrade(request, session))
}

fn is_true(value: &str) -> bool {
    matches!(value, "true" | "1")
}

fn check_upgrade(request: &Request<Incoming>) -> Result<(), Refusal> {
    let asked = request.headers().get(header::UPGRADE).is_some_and(|value| value == PROTOCOL);
    if asked { Ok(()) } else { Err(Refusal::bad_request(format!("this needs `Upgrade: {PROTOCOL}`"))) }
}

fn upgrade(request: Request<Incoming>, session: ExecSession) -> Response<Body> {
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => {
                let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
                carry(session, reader, writer).await;
            }
            Err(error) => tracing::debug!(%error, "a session's client went before it began"),
        }
    });
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static(PROTOCOL));
    response
}

/// Carries a session's streams until the process ends or the client goes.
async fn carry<R, W>(session: ExecSession, reader: R, mut writer: W)
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin,
{
    let (frames, mut outgoing) = mpsc::channel::<Bytes>(FRAMES_QUEUED_MAX);
    let mut input = tokio::spawn(read_client(reader, session.stdin, session.resize));
    let outputs = [(STDOUT, session.stdout), (STDERR, session.stderr)]
        .map(|(channel, stream)| tokio::spawn(read_container(channel, stream, frames.clone())));
    let exit = async move {
        let code = session.exit.await;
        // What the process wrote before it ended still comes through the pipes.
        for output in outputs {
            let _ended = output.await;
        }
        let _client_gone = frames.send(frame(STATUS, status(code).to_string().as_bytes())).await;
    };
    let write = async {
        while let Some(frame) = outgoing.recv().await {
            writer.write_all(&frame).await?;
        }
        writer.shutdown().await
    };
    tokio::pin!(exit, write);
    let (mut exit_done, mut input_done) = (false, false);
    loop {
        tokio::select! {
            () = &mut exit, if !exit_done => exit_done = true,
            result = &mut write => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a session's client went");
                }
                break;
            }
            ended = &mut input, if !input_done => {
                input_done = true;
                // An end of the client's bytes is an end of its input, no more; a broken stream is the client gone, and
                // dropping the session ends the process.
                if !matches!(ended, Ok(Ok(()))) {
                    break;
                }
            }
        }
    }
    input.abort();
}

/// Frames of the client to the container.
async fn read_client<R: AsyncRead + Unpin>(
    mut reader: R,
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    resize: mpsc::Sender<TerminalSize>,
) -> std::io::Result<()> {
    loop {
        let mut head = [0; 5];
        match reader.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(std::io::Error::other(format!(
                "a frame of {length} bytes is over {FRAME_BYTES_MAX}"
            )));
        }
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload).await?;
        match head[0] {
            STDIN => {
                if let Some(writer) = &mut stdin
                    && (writer.write_all(&payload).await.is_err() || writer.flush().await.is_err())
                {
                    // The process closed its input; what it still writes must come through.
                    stdin = None;
                }
            }
            HALF_CLOSE if payload == [STDIN] => {
                if let Some(mut writer) = stdin.take() {
                    let _closed = writer.shutdown().await;
                }
            }
            RESIZE => {
                if let Some(size) = size(&payload) {
                    let _ended = resize.try_send(size);
                }
            }
            _ => {}
        }
    }
}

fn size(payload: &[u8]) -> Option<TerminalSize> {
    let value: Value = serde_json::from_slice(payload).ok()?;
    let field = |name: &str| value.get(name)?.as_u64().and_then(|n| u16::try_from(n).ok());
    Some(TerminalSize {
        width: field("Width").or_else(|| field("width"))?,
        height: field("Height").or_else(|| field("height"))?,
    })
}

/// Output of the container to the client.
async fn read_container(
    channel: u8,
    stream: Option<Box<dyn AsyncRead + Send + Unpin>>,
    frames: mpsc::Sender<Bytes>,
) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if frames.send(frame(channel, &buffer[..length])).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn frame(channel: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + payload.len());
    frame.put_u8(channel);
    frame.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    frame.put_slice(payload);
    frame.freeze()
}

/// The Status that ends a session, as clients of `v4.channel.k8s.io` and later read it.
fn status(code: Result<i32, SessionError>) -> Value {
    match code {
        Ok(0) => json!({ "metadata": {}, "status": "Success" }),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
        }),
        Err(error) => json!({
            "metadata": {},
            "status": "Failure",
            "message": super::answer::chain(&error),
            "reason": "InternalError",
            "code": 500,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> (ExecSession, tokio::io::DuplexStream, tokio::sync::oneshot::Sender<i32>) {
        let (container_in, ours_in) = tokio::io::duplex(1024);
        let (exit, exited) = tokio::sync::oneshot::channel();
        let (read_half, _) = tokio::io::split(container_in);
        let (resize, _) = mpsc::channel(1);
        let session = ExecSession {
            stdin: Some(Box::new(tokio::io::sink())),
            stdout: Some(Box::new(read_half)),
            stderr: None,
            resize,
            exit: Box::pin(async move { exited.await.map_err(|_| SessionError::Start("gone".into())) }),
        };
        (session, ours_in, exit)
    }

    #[tokio::test]
    async fn output_comes_before_the_status() {
        let (session, mut process, exit) = session();
        let (client, server) = tokio::io::duplex(4096);
        let (reader, writer) = tokio::io::split(server);
        let carried = tokio::spawn(carry(session, reader, writer));
        process.write_all(b"hello").await.unwrap();
        exit.send(3).unwrap();
        process.shutdown().await.unwrap();
        drop(process);
        let mut all = Vec::new();
        let (mut client, _keep) = tokio::io::split(client);
        client.read_to_end(&mut all).await.unwrap();
        carried.await.unwrap();
        assert_eq!(&all[..10], b"\x01\0\0\0\x05hello");
        assert_eq!(all[10], STATUS);
        let status: Value = serde_json::from_slice(&all[15..]).unwrap();
        assert_eq!(status["details"]["causes"][0]["message"], "3");
    }

    #[tokio::test]
    async fn a_client_without_input_still_gets_the_status() {
        let (session, process, exit) = session();
        let (mut client, server) = tokio::io::duplex(4096);
        let (reader, writer) = tokio::io::split(server);
        let carried = tokio::spawn(carry(session, reader, writer));
        client.shutdown().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        exit.send(0).unwrap();
        drop(process);
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        carried.await.unwrap();
        assert_eq!(all[0], STATUS);
        let status: Value = serde_json::from_slice(&all[5..]).unwrap();
        assert_eq!(status["status"], "Success");
    }

    #[test]
    fn terminal_sizes_are_read_in_both_spellings() {
        assert_eq!(size(br#"{"Width":80,"Height":24}"#), Some(TerminalSize { width: 80, height: 24 }));
        assert_eq!(size(b"{}"), None);
    }
}
