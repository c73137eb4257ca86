//! A server that is told to stop: what it says of it, what it still answers, and how its watches end on the wire.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "support/server.rs"]
mod server;

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use server::Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// A watch that sends all that is there, and one of what never changes here.
const WATCHES: [&str; 2] = [
    "/api/v1/namespaces/default/configmaps?watch=1",
    "/api/v1/namespaces/default/resourcequotas?watch=1&resourceVersion=1",
];

fn map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } })
}

/// The chunks of a body as they stood on the wire, and whether the last one, which is empty, was among them.
fn chunks(mut rest: &[u8]) -> (usize, bool) {
    let mut count = 0;
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return (count, false) };
        let length =
            std::str::from_utf8(&rest[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let length = length.expect("a chunk's length");
        if length == 0 {
            return (count, &rest[end..] == b"\r\n\r\n");
        }
        rest = rest.get(end + 2 + length + 2..).expect("a whole chunk");
        count += 1;
    }
}

/// What a watch's connection carries until the server closes it.
async fn watched(server: &Server, path: &str, opened: tokio::sync::oneshot::Sender<()>) -> Vec<u8> {
    let mut stream = server.connection(Some(server.admins()), &["http/1.1"]).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let head = loop {
        assert!(stream.read_buf(&mut all).await.unwrap() > 0, "the answer's head");
        if let Some(at) = all.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    opened.send(()).unwrap();
    // An end without TLS's own close would be an error here.
    stream.read_to_end(&mut all).await.expect("a connection that is closed, and not broken off");
    let text = String::from_utf8_lossy(&all[..head]).to_ascii_lowercase();
    assert!(text.starts_with("http/1.1 200") && text.contains("transfer-encoding: chunked"), "{text}");
    all.split_off(head)
}

#[tokio::test]
async fn watches_end_with_a_last_chunk_when_the_server_stops() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let mut admin = server.admin().await;
    assert_eq!(admin.post(MAPS, map("a")).await.0, 201);
    let (first, second) = (tokio::sync::oneshot::channel(), tokio::sync::oneshot::channel());
    let stop = async {
        first.1.await.unwrap();
        second.1.await.unwrap();
        server.ask_to_stop();
    };
    let all = async {
        tokio::join!(watched(&server, WATCHES[0], first.0), watched(&server, WATCHES[1], second.0), stop)
    };
    let (told, quiet, ()) = tokio::time::timeout(Duration::from_secs(60), all).await.expect("an end");
    let (count, whole) = chunks(&told);
    assert!(count > 0 && whole, "{count} chunks: {}", String::from_utf8_lossy(&told));
    assert_eq!(chunks(&quiet), (0, true), "{}", String::from_utf8_lossy(&quiet));
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn watches_of_http_2_end_their_streams_and_are_not_reset() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path());
    let mut admin = server.admin().await;
    assert_eq!(admin.post(MAPS, map("a")).await.0, 201);
    let stream = server.connection(Some(server.admins()), &["h2"]).await;
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut bodies = Vec::new();
    for path in WATCHES {
        requests = requests.ready().await.unwrap();
        let request = Request::get(format!("https://127.0.0.1{path}")).body(()).unwrap();
        let answer = requests.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(answer.status(), 200);
        bodies.push(answer.into_body());
    }
    server.ask_to_stop();
    for (at, mut body) in bodies.into_iter().enumerate() {
        let read = async {
            let mut bytes = 0;
            while let Some(piece) = body.data().await {
                let piece: Bytes = piece.expect("a stream that ends, and is not reset");
                bytes += piece.len();
                body.flow_control().release_capacity(piece.len()).unwrap();
            }
            bytes
        };
        let bytes = tokio::time::timeout(Duration::from_secs(60), read).await.expect("an end");
        assert!(body.is_end_stream() && (bytes > 0) == (at == 0), "{}: {bytes} bytes", WATCHES[at]);
    }
    drop(requests);
    // What the client still has to say may come too late: all streams have ended, and the server has closed.
    if let Err(error) = connection.await.unwrap() {
        let kind = error.get_io().map(std::io::Error::kind);
        assert!(matches!(kind, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)), "{error}");
    }
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn what_is_under_way_when_the_server_stops_is_answered_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    // With one place, who is refused knows that the one before has it.
    let mut server = Server::start_with(dir.path(), &["--requests-max", "1"]);
    let mut slow = server.admin().await;
    let body = map("slow").to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let (finish, answer) = slow.post_in_two(MAPS, first.to_owned(), second.to_owned()).await;
    let mut other = server.admin().await;
    other.until(MAPS, |code, _| code == 429).await;
    server.ask_to_stop();
    // Its listener is closed first.
    let refused = async {
        while tokio::net::TcpStream::connect(server.api).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), refused).await.expect("nobody new is let in");
    finish.send(()).unwrap();
    assert_eq!(answer.await.unwrap(), 201);
    assert!(server.ended().await.success());
    let server = Server::start(dir.path());
    assert_eq!(server.admin().await.get(&format!("{MAPS}/slow")).await.0, 200);
}

#[tokio::test]
async fn a_server_that_is_to_stop_says_so_while_it_serves_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start_with(dir.path(), &["--shutdown-delay", "1h"]);
    let mut admin = server.admin().await;
    assert_eq!(admin.get("/readyz").await, (200, json!("ok")));
    server.ask_to_stop();
    let red = admin.until("/readyz", |code, _| code == 500).await;
    let red = red.as_str().unwrap();
    assert!(red.contains("[-]shutdown failed: the server is stopping\n"), "{red}");
    assert!(red.contains("[+]store ok") && red.ends_with("readyz check failed\n"), "{red}");
    for path in ["/livez", "/healthz", "/readyz/store"] {
        assert_eq!(admin.get(path).await, (200, json!("ok")), "{path}");
    }
    // Who comes now is served as before.
    let mut late = server.admin().await;
    assert_eq!(late.post(MAPS, map("late")).await.0, 201);
    let read = late.open(Method::GET, MAPS, &[], Vec::new()).await.into_body().collect().await;
    assert!(read.is_ok());
    server.kill();
}
