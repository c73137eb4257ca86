//! Streams to Pods through a real server, the agent's end played by `weft-link`'s own client: logs, exec and port-forward, by
//! SPDY and by WebSocket, as they stand on the wire.

#[allow(dead_code)]
#[path = "support/node.rs"]
mod node;
#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use node::{connect, join};
use serde_json::json;
use server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};
use weft_link::message::open::To;
use weft_link::session::{AgentSession, ByteStream, OpenAcceptor};
use weft_spdy::{Connection, Event, Headers, Limits};

const PODS: &str = "/api/v1/namespaces/default/pods";
const POD: &str = "/api/v1/namespaces/default/pods/web";
const SUCCESS: &[u8] = br#"{"metadata":{},"status":"Success"}"#;

/// Somebody waits for an answer that never comes.
static ASKED: Notify = Notify::const_new();

/// The agent's HTTP API, as far as these tests ask it.
async fn agent(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let text = |text: String| Response::new(Full::from(text));
    if path == "/containerLogs/default/web/c" {
        return Ok(text(format!("line {}\n", request.uri().query().unwrap_or(""))));
    }
    if path == "/agent/v1/never" {
        ASKED.notify_one();
        return std::future::pending().await;
    }
    if path.starts_with("/agent/v1/") {
        let secret = request.headers().get("authorization").or(request.headers().get("cookie"));
        let secret = if secret.is_some() { " with a secret" } else { "" };
        let query = request.uri().query().unwrap_or("");
        return Ok(text(format!("{} {path} {query}{secret}", request.method())));
    }
    if path != "/exec/default/web/c" || request.uri().query().is_some_and(|q| q.contains("nothing")) {
        let status = json!({ "kind": "Status", "message": "no such command", "code": 400 });
        let mut response = text(status.to_string());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    }
    tokio::spawn(async move {
        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        // Echoes channel 0 on channel 1 until it is closed, then says success.
        loop {
            let channel = stream.read_u8().await.unwrap();
            let length = stream.read_u32().await.unwrap();
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.unwrap();
            let (channel, payload) = match channel {
                0 => (1, payload),
                255 => (3, SUCCESS.to_vec()),
                _ => continue,
            };
            stream.write_u8(channel).await.unwrap();
            stream.write_u32(payload.len() as u32).await.unwrap();
            stream.write_all(&payload).await.unwrap();
            stream.flush().await.unwrap();
            if channel == 3 {
                return;
            }
        }
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("upgrade", http::HeaderValue::from_static("weft-channel/1"));
    response.headers_mut().insert("connection", http::HeaderValue::from_static("Upgrade"));
    Ok(response)
}

/// A port inside the Pod that says again what it hears.
async fn echo(stream: ByteStream) {
    let (mut from, mut to) = tokio::io::split(stream);
    let _ended = tokio::io::copy(&mut from, &mut to).await;
    let _ended = to.shutdown().await;
}

/// Serves the API, and the Pod's port 80 and no other one.
async fn serve_agent(mut opens: OpenAcceptor) {
    while let Some(attempt) = opens.next().await {
        tokio::spawn(async move {
            let port = match &attempt.to {
                Some(To::PodPort(to)) => {
                    assert_eq!((to.namespace.as_str(), to.pod.as_str()), ("default", "web"));
                    Some(to.port)
                }
                _ => None,
            };
            match port {
                Some(80) => echo(attempt.accept().await.unwrap()).await,
                Some(_) => attempt.refuse("Connection refused").await,
                None => {
                    let stream = attempt.accept().await.unwrap();
                    let service = hyper::service::service_fn(agent);
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                }
            }
        });
    }
}

/// A server, and a node of it that has the Pod; it is there as long as its session.
async fn with_pod(dir: &Path, settings: &[&str]) -> (Server, impl Sized + use<>) {
    let server = Server::start_with(dir, settings);
    let identity = join(&server, "node-1").await;
    let AgentSession { opens, link, state, status, requester, .. } =
        connect(&server, &identity, "node-1").await;
    tokio::spawn(serve_agent(opens));
    let pod = json!({ "metadata": { "name": "web" },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "c", "image": "web:1" }] } });
    let (code, pod) = server.admin().await.post(PODS, pod).await;
    assert_eq!(code, 201, "{pod}");
    (server, (link, state, status, requester))
}

/// What a client of WebSocket asks by, and its proof that the server has read it (RFC 6455, 1.3).
fn web_socket(protocols: &str) -> [(&str, &str); 5] {
    [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocols),
    ]
}

const PROOF: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

async fn upgrade(server: &Server, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
    server.admin().await.open(Method::POST, path, headers, Vec::new()).await
}

async fn refused(response: Response<Incoming>) -> (u16, String) {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8_lossy(&bytes).into_owned())
}

/// The client's end of a connection that was switched to this protocol of WebSocket.
async fn socket(response: Response<Incoming>, protocol: &str) -> WebSocketStream<TokioIo<Upgraded>> {
    assert_eq!(response.status(), 101);
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-protocol", protocol),
        ("sec-websocket-accept", PROOF),
    ] {
        assert_eq!(response.headers()[name], value);
    }
    let stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

fn is_normal(message: &Message) -> bool {
    matches!(message, Message::Close(Some(close)) if u16::from(close.code) == 1000)
}

/// A client of SPDY, raw or inside the messages of a WebSocket.
struct Spdy {
    transport: Transport,
    connection: Connection,
    events: VecDeque<Event>,
}

enum Transport {
    Raw(TokioIo<Upgraded>),
    Tunnel(Box<WebSocketStream<TokioIo<Upgraded>>>),
}

impl Spdy {
    fn new(transport: Transport) -> Self {
        let limits = Limits {
            streams_max: 16,
            control_bytes_max: 4096,
            header_bytes_max: 4096,
            chunk_bytes_max: 4096,
        };
        let connection = Connection::new(weft_spdy::Role::Client, limits);
        Self { transport, connection, events: VecDeque::new() }
    }

    /// The client's end of a connection that was switched to this protocol over SPDY.
    async fn raw(response: Response<Incoming>, protocol: &str) -> Self {
        assert_eq!(response.status(), 101);
        for (name, value) in
            [("upgrade", "SPDY/3.1"), ("connection", "Upgrade"), ("x-stream-protocol-version", protocol)]
        {
            assert_eq!(response.headers()[name], value);
        }
        Self::new(Transport::Raw(TokioIo::new(hyper::upgrade::on(response).await.unwrap())))
    }

    async fn write(&mut self, bytes: Bytes) {
        match &mut self.transport {
            Transport::Raw(stream) => stream.write_all(&bytes).await.unwrap(),
            Transport::Tunnel(socket) => socket.send(Message::Binary(bytes)).await.unwrap(),
        }
    }

    async fn flush(&mut self) {
        let bytes = self.connection.take_output();
        if !bytes.is_empty() {
            self.write(bytes).await;
        }
    }

    async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let headers = headers.iter().fold(Headers::default(), |h, (name, value)| h.with(name, value));
        let stream = self.connection.open(&headers).unwrap();
        self.flush().await;
        stream
    }

    async fn send(&mut self, stream: u32, bytes: &[u8]) {
        assert!(self.connection.data(stream, bytes));
        self.connection.finish(stream);
        self.flush().await;
    }

    /// What the server says next, replies left out; none when it has closed as it should.
    async fn next(&mut self) -> Option<Event> {
        loop {
            match self.events.pop_front() {
                Some(Event::Replied { .. }) => continue,
                Some(event) => return Some(event),
                None => {}
            }
            let bytes = match &mut self.transport {
                Transport::Raw(stream) => {
                    let mut bytes = BytesMut::with_capacity(4096);
                    if stream.read_buf(&mut bytes).await.unwrap() == 0 {
                        return None;
                    }
                    bytes.freeze()
                }
                Transport::Tunnel(socket) => match socket.next().await.expect("a close").unwrap() {
                    Message::Binary(bytes) => bytes,
                    other => {
                        assert!(is_normal(&other), "{other:?}");
                        return None;
                    }
                },
            };
            let mut events = Vec::new();
            self.connection.receive(&bytes, &mut events).unwrap();
            self.events.extend(events);
            self.flush().await;
        }
    }

    /// What a stream says, to its end; others say nothing meanwhile but their ends.
    async fn said(&mut self, stream: u32) -> Vec<u8> {
        let (mut said, mut others) = (Vec::new(), VecDeque::new());
        loop {
            match self.next().await.expect("the stream ends before the connection") {
                Event::Data { stream: s, bytes } if s == stream => said.extend_from_slice(&bytes),
                Event::Finished { stream: s } if s == stream => break,
                other => others.push_back(other),
            }
        }
        others.append(&mut self.events);
        self.events = others;
        said
    }
}

const SPDY: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];

fn spdy(protocol: &str) -> [(&str, &str); 3] {
    [SPDY[0], SPDY[1], ("x-stream-protocol-version", protocol)]
}

#[tokio::test]
async fn logs_and_the_agents_own_api_go_through_the_link() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _node) = with_pod(dir.path(), &[]).await;
    let mut admin = server.admin().await;
    let (code, log) = admin.get(&format!("{POD}/log?follow=true&tailLines=3")).await;
    assert_eq!((code, log.as_str()), (200, Some("line follow=true&tailLines=3\n")));
    assert_eq!(admin.get(&format!("{POD}/log?container=none")).await.0, 400);
    let proxy = "/api/v1/nodes/node-1/proxy";
    let (code, text) = admin.post(&format!("{proxy}/agent/v1/images?a=b"), json!({})).await;
    assert_eq!((code, text.as_str()), (200, Some("POST /agent/v1/images a=b")));
    let secrets = [("authorization", "Bearer secret"), ("cookie", "secret")];
    let answer = admin.open(Method::GET, &format!("{proxy}/agent/v1/x"), &secrets, Vec::new()).await;
    assert_eq!(refused(answer).await, (200, "GET /agent/v1/x ".to_owned()), "nor who asks");
    for path in ["containerLogs/default/web/c", "agent/v1/../../containerLogs/default/web/c", "agent/v1"] {
        assert_eq!(admin.get(&format!("{proxy}/{path}")).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn a_command_by_web_socket() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _node) = with_pod(dir.path(), &[]).await;
    let v5 = web_socket("v5.channel.k8s.io");
    // Clients take a refusal without a switch for a server without WebSockets.
    let answer = upgrade(&server, &format!("{POD}/exec?command=nothing&stdout=true"), &v5).await;
    let mut told = socket(answer, "v5.channel.k8s.io").await;
    let why = told.next().await.unwrap().unwrap().into_data();
    assert_eq!(why[0], 3);
    assert!(String::from_utf8_lossy(&why).contains("no such command"), "{why:?}");
    assert!(is_normal(&told.next().await.unwrap().unwrap()));

    let path = format!("{POD}/exec?command=cat&stdin=true&stdout=true");
    let answer =
        upgrade(&server, &path, &web_socket("v9.channel.k8s.io, v4.channel.k8s.io, v5.channel.k8s.io")).await;
    let mut socket = socket(answer, "v5.channel.k8s.io").await;
    socket.send(Message::Binary(Bytes::from_static(b"\0hello"))).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_data(), Bytes::from_static(b"\x01hello"));
    socket.send(Message::Binary(Bytes::from_static(&[255, 0]))).await.unwrap();
    let ended = socket.next().await.unwrap().unwrap().into_data();
    assert_eq!(ended, [&[3][..], SUCCESS].concat());
    assert!(is_normal(&socket.next().await.unwrap().unwrap()));

    // What is wrong with the request itself is answered without a switch.
    for (path, headers) in [
        (path.as_str(), &web_socket("v9.channel.k8s.io")[..]),
        (&path, &[]),
        (&format!("{POD}/exec?stdout=true"), &v5),
        (&format!("{POD}/exec?command=cat&container=none"), &v5),
    ] {
        let (code, said) = refused(upgrade(&server, path, headers).await).await;
        assert_eq!(code, 400, "{path} {said}");
    }
}

#[tokio::test]
async fn a_command_by_spdy() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _node) = with_pod(dir.path(), &[]).await;
    let path = format!("{POD}/exec?command=cat&stdin=true&stdout=true");
    let offered = "v9.channel.k8s.io, v4.channel.k8s.io";
    let mut peer = Spdy::raw(upgrade(&server, &path, &spdy(offered)).await, "v4.channel.k8s.io").await;
    let error = peer.open(&[("streamType", "error")]).await;
    let stdin = peer.open(&[("streamType", "stdin")]).await;
    let stdout = peer.open(&[("streamType", "stdout")]).await;
    peer.send(stdin, b"hello").await;
    assert_eq!(peer.said(stdout).await, b"hello");
    assert_eq!(peer.said(error).await, SUCCESS);
    while peer.next().await.is_some() {}

    let none = format!("{POD}/exec?command=nothing&stdout=true");
    let (code, said) = refused(upgrade(&server, &none, &spdy("v4.channel.k8s.io")).await).await;
    assert!(code == 400 && said.contains("no such command"), "{code} {said}");
    let answer = upgrade(&server, &path, &spdy("v9.channel.k8s.io")).await;
    assert_eq!(answer.status(), 403);
    let served: Vec<_> = answer.headers().get_all("x-accepted-stream-protocol-versions").iter().collect();
    assert_eq!(served, ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"]);
}

/// A connection to a port, what comes back of it, and one that the Pod refuses.
async fn forwards(mut peer: Spdy) {
    let headers = |part, port, request| [("streamType", part), ("port", port), ("requestID", request)];
    let error = peer.open(&headers("error", "80", "0")).await;
    let data = peer.open(&headers("data", "80", "0")).await;
    peer.send(data, b"hello").await;
    assert_eq!(peer.said(data).await, b"hello");
    assert_eq!(peer.said(error).await, b"");
    let error = peer.open(&headers("error", "81", "1")).await;
    let data = peer.open(&headers("data", "81", "1")).await;
    let why = String::from_utf8(peer.said(error).await).unwrap();
    assert!(why.starts_with("error forwarding port 81 to pod web, uid ") && why.contains("refused"), "{why}");
    assert_eq!(peer.said(data).await, b"");
    // One who breaks the protocol is told, and let go.
    peer.write(Bytes::from_static(&[0x80, 2, 0, 1, 0, 0, 0, 1])).await;
    while let Some(event) = peer.next().await {
        assert!(matches!(event, Event::GoneAway | Event::Reset { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn ports_are_forwarded_by_spdy_and_by_spdy_in_a_web_socket() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _node) = with_pod(dir.path(), &[]).await;
    let path = format!("{POD}/portforward");
    let raw =
        Spdy::raw(upgrade(&server, &path, &spdy("portforward.k8s.io")).await, "portforward.k8s.io").await;
    // kubectl of the first days says nothing of protocols.
    let old = Spdy::raw(upgrade(&server, &path, &SPDY).await, "portforward.k8s.io").await;
    let tunnelled = "SPDY/3.1+portforward.k8s.io";
    let tunnel = socket(upgrade(&server, &path, &web_socket(tunnelled)).await, tunnelled).await;
    for peer in [raw, old, Spdy::new(Transport::Tunnel(Box::new(tunnel)))] {
        forwards(peer).await;
    }
    assert_eq!(upgrade(&server, &path, &spdy("v4.channel.k8s.io")).await.status(), 403);
    assert_eq!(upgrade(&server, &path, &web_socket("portforward.k8s.io")).await.status(), 400);
    assert_eq!(upgrade(&server, &path, &[]).await.status(), 400);
}

#[tokio::test]
async fn who_waits_for_a_node_takes_no_place_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _node) = with_pod(dir.path(), &["--requests-max", "1"]).await;
    let mut waiting = server.admin().await;
    let never = tokio::spawn(async move { waiting.get("/api/v1/nodes/node-1/proxy/agent/v1/never").await });
    ASKED.notified().await;
    assert_eq!(server.admin().await.get(POD).await.0, 200);
    never.abort();
}

/// Who may make Pods may not run anything in those of others, and nothing is switched over for whom nobody knows.
#[tokio::test]
async fn who_may_not_is_told_so_before_anything_is_switched() {
    let dir = tempfile::tempdir().unwrap();
    let roles = dir.path().join("roles.yaml");
    let rule = "- { subjects: [{ kind: User, name: maker }], rules: [{ apiGroups: [''], resources: [pods], verbs: ['*'] }] }";
    std::fs::write(&roles, rule).unwrap();
    let (server, _node) = with_pod(dir.path(), &["--roles", roles.to_str().unwrap()]).await;
    let mut admin = server.admin().await;
    let maker = ("impersonate-user", "maker");
    let read = admin.open(Method::GET, POD, &[maker], Vec::new()).await;
    assert_eq!(refused(read).await.0, 200, "he has a role");
    for stream in ["exec?command=cat&stdout=true", "attach?stdout=true", "portforward", "proxy/", "log"] {
        let path = format!("{POD}/{stream}");
        for switch in [&web_socket("v5.channel.k8s.io")[..], &spdy("v4.channel.k8s.io")] {
            let headers = [switch, &[maker]].concat();
            let method = if stream == "log" { Method::GET } else { Method::POST };
            let answer = server.admin().await.open(method.clone(), &path, &headers, Vec::new()).await;
            assert_eq!(answer.status(), 403, "{stream}");
            let answer = server.client(None, None).await.open(method, &path, switch, Vec::new()).await;
            assert_eq!(answer.status(), 403, "{stream} of nobody");
        }
    }
}
