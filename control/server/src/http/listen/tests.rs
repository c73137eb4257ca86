//! Connections of clients that are slow, silent, long-winded or deaf, each on a pipe: what the limits here do to them.

use std::net::Ipv4Addr;

use bytes::Bytes;
use http::{StatusCode, Version};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep, timeout};

use super::super::answer;
use super::*;

/// Bytes that are on their way on a pipe.
const PIPE_BYTES: usize = 1 << 20;

/// A client's end of a connection on which everybody gets this answer, and who stops the server.
fn connected(body: fn() -> Body) -> (DuplexStream, watch::Sender<bool>) {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        let answers = Arc::new(Answers::new());
        let followed = answers.clone();
        let serve = move |_| {
            let answer = Response::new(followed.follow(body()));
            async move { answer }
        };
        speak(far, Ipv4Addr::LOCALHOST.into(), serve, &answers, stopping).await;
    });
    (near, stop)
}

fn short() -> Body {
    answer::full("short")
}

fn long() -> Body {
    answer::full(vec![b'x'; 4 * PIPE_BYTES])
}

/// What comes until the server closes, and after how long that was.
async fn until_closed(client: &mut DuplexStream) -> (String, Duration) {
    let began = Instant::now();
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    (String::from_utf8_lossy(&said).into_owned(), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_or_half_of_it_is_closed_in_time() {
    let (all, half) = ("GET / HTTP/1.1\r\nhost: server\r\n\r\n", "GET / HTTP/1.1\r\nhost: ser");
    for said in ["", "GET", half, &format!("{all}{half}"), all] {
        let (mut client, _stop) = connected(short);
        client.write_all(said.as_bytes()).await.unwrap();
        let (heard, after) = until_closed(&mut client).await;
        assert_eq!(heard.matches("200 OK").count(), said.matches(all).count(), "{said:?}: {heard}");
        assert!((HEADER_TIME_MAX..2 * HEADER_TIME_MAX).contains(&after), "{said:?}: {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_goes_on_no_longer_than_the_limit() {
    for (bytes, wanted) in [(UNSENT_BYTES_MAX - 1024, "HTTP/1.1 200"), (UNSENT_BYTES_MAX, "HTTP/1.1 431")] {
        let (mut client, _stop) = connected(short);
        let flood = format!("GET / HTTP/1.1\r\nhost: server\r\nx: {}\r\n\r\n", "x".repeat(bytes));
        client.write_all(flood.as_bytes()).await.unwrap();
        let (heard, _) = until_closed(&mut client).await;
        assert!(heard.starts_with(wanted), "{bytes}: {heard}");
    }
}

/// A client of HTTP/2 on a connection.
async fn http2_on(client: DuplexStream) -> http2::SendRequest<Empty<Bytes>> {
    let (sender, connection) =
        http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test(start_paused = true)]
async fn the_headers_of_http_2_have_the_same_limit() {
    let limit = usize::try_from(HEADER_BYTES_MAX).unwrap();
    for (bytes, wanted) in
        [(limit - 1024, StatusCode::OK), (limit, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)]
    {
        let (client, _stop) = connected(short);
        let mut sender = http2_on(client).await;
        // Each below what a single one may be.
        let mut request = Request::get("http://server/").version(Version::HTTP_2).body(Empty::new()).unwrap();
        for number in 0..16 {
            let value = "x".repeat(bytes / 16).parse().unwrap();
            request.headers_mut().insert(http::HeaderName::try_from(format!("x-{number}")).unwrap(), value);
        }
        assert_eq!(sender.send_request(request).await.unwrap().status(), wanted, "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_http_2_has_so_many_streams_and_no_more() {
    let (client, _stop) = connected(short);
    let (mut sender, connection) = h2::client::handshake(client).await.unwrap();
    tokio::spawn(connection);
    let request = || Request::get("http://server/").body(()).unwrap();
    // With an answer the server's settings have come.
    sender.send_request(request(), true).unwrap().0.await.unwrap();
    assert_eq!(u32::try_from(sender.current_max_send_streams()), Ok(STREAMS_MAX));
}

#[tokio::test(start_paused = true)]
async fn who_answers_no_ping_of_http_2_is_closed() {
    let (mut client, _stop) = connected(short);
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    // Settings, of which there are none.
    client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let closed = timeout(10 * PING_EVERY, until_closed(&mut client)).await;
    let (_, after) = closed.expect("it is closed");
    assert!((PING_EVERY..2 * PING_EVERY).contains(&after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_what_it_asked_for_is_closed() {
    let (client, _stop) = connected(long);
    let (mut sender, connection) = http1::handshake(TokioIo::new(client)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("/").header("host", "server").body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    // More than the time for a piece, and nothing is read.
    sleep(Duration::from_secs(120)).await;
    let read = http_body_util::BodyExt::collect(answer.into_body()).await;
    assert!(read.is_err(), "it looks whole");
    drop(connection);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_waits_for_answers_and_not_for_ever() {
    let (mut client, stop) = connected(short);
    stop.send(true).unwrap();
    assert!(until_closed(&mut client).await.1 <= DRAIN_TIME_MAX, "nothing is under way");
    let (mut client, stop) = connected(long);
    client.write_all(b"GET / HTTP/1.1\r\nhost: server\r\n\r\n").await.unwrap();
    client.read_exact(&mut [0; 12]).await.unwrap();
    stop.send(true).unwrap();
    let (said, _) = until_closed(&mut client).await;
    assert!(said.len() > 4 * PIPE_BYTES, "who reads has it whole: {}", said.len());
    let (mut client, stop) = connected(long);
    client.write_all(b"GET / HTTP/1.1\r\nhost: server\r\n\r\n").await.unwrap();
    client.read_exact(&mut [0; 12]).await.unwrap();
    stop.send(true).unwrap();
    sleep(2 * DRAIN_TIME_MAX).await;
    let (said, _) = until_closed(&mut client).await;
    assert!(said.len() <= PIPE_BYTES, "who does not, has not: {}", said.len());
}

#[tokio::test(start_paused = true)]
async fn a_handshake_ends_in_time() {
    let made = rcgen::generate_simple_self_signed(["server".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    for said in [&b""[..], &[22, 3, 1, 2, 0, 1]] {
        let (mut client, far) = tokio::io::duplex(1024);
        client.write_all(said).await.unwrap();
        let began = Instant::now();
        let handshake = timeout(10 * HANDSHAKE_TIME_MAX, secured(far, &tls)).await;
        assert!(handshake.expect("in time").is_none());
        assert_eq!(began.elapsed(), HANDSHAKE_TIME_MAX);
    }
}
