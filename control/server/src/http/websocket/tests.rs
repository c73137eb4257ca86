//! A client of WebSocket and an agent on both ends of a command, without a network.

use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;

fn asked(protocols: &'static str) -> HeaderMap {
    let headers = [
        (UPGRADE, "websocket"),
        (CONNECTION, "keep-alive, Upgrade"),
        (SEC_WEBSOCKET_VERSION, "13"),
        (SEC_WEBSOCKET_KEY, "AAAAAAAAAAAAAAAAAAAAAA=="),
        (SEC_WEBSOCKET_PROTOCOL, protocols),
    ];
    headers.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}

#[test]
fn only_what_is_served_is_agreed_on() {
    let headers = asked("v4.channel.k8s.io, v5.channel.k8s.io");
    assert_eq!(negotiate(&headers, CHANNELS).unwrap(), Protocol("v5.channel.k8s.io"));
    assert_eq!(negotiate(&asked("v4.channel.k8s.io"), CHANNELS).unwrap(), Protocol("v4.channel.k8s.io"));
    assert_eq!(negotiate(&asked("SPDY/3.1+portforward.k8s.io"), CHANNELS).unwrap_err().code, 400);
    assert!(negotiate(&asked("SPDY/3.1+portforward.k8s.io"), TUNNEL).is_ok());
    for missing in [UPGRADE, CONNECTION, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL] {
        let mut headers = asked("v5.channel.k8s.io");
        headers.remove(&missing);
        assert_eq!(negotiate(&headers, CHANNELS).unwrap_err().code, 400, "{missing}");
    }
    for (name, other) in [(UPGRADE, "SPDY/3.1"), (CONNECTION, "close"), (SEC_WEBSOCKET_VERSION, "8")] {
        let mut headers = asked("v5.channel.k8s.io");
        headers.insert(&name, HeaderValue::from_static(other));
        assert_eq!(negotiate(&headers, CHANNELS).unwrap_err().code, 400, "{name}: {other}");
    }
}

/// A command: its client's end, its agent's end, who stops the server, and the task between them.
struct Command {
    client: WebSocketStream<DuplexStream>,
    agent: DuplexStream,
    stop: watch::Sender<bool>,
    between: JoinHandle<()>,
}

impl Command {
    async fn begin() -> Self {
        let (near, far) = tokio::io::duplex(4096);
        let (agent, ours) = tokio::io::duplex(4096);
        let (stop, stopping) = watch::channel(false);
        let server = server(far).await;
        let between = tokio::spawn(between(server, ours, stopping));
        let client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        Self { client, agent, stop, between }
    }

    async fn hears(&mut self) -> Message {
        self.client.next().await.expect("a message").expect("of the protocol")
    }
}

#[tokio::test]
async fn messages_are_channels_and_the_last_is_the_status() {
    let mut command = Command::begin().await;
    let binary = |bytes: &'static [u8]| Message::Binary(Bytes::from_static(bytes));
    // One that names no channel is none, and text is as good as bytes.
    for message in [binary(b"\0in"), binary(b""), Message::text("\0text"), binary(&[255, 0])] {
        command.client.send(message).await.unwrap();
    }
    let wanted = [&[0, 0, 0, 0, 2][..], b"in", &[0, 0, 0, 0, 4], b"text", &[255, 0, 0, 0, 1, 0]].concat();
    let mut taken = vec![0; wanted.len()];
    command.agent.read_exact(&mut taken).await.unwrap();
    assert_eq!(taken, wanted);
    let said = [frame(1, b"out"), frame(2, b""), frame(3, b"{}"), frame(1, b"behind the end")].concat();
    command.agent.write_all(&said).await.unwrap();
    for wanted in [&b"\x01out"[..], b"\x02", b"\x03{}"] {
        assert_eq!(command.hears().await, Message::Binary(Bytes::from_static(wanted)));
    }
    // Clients take only 1000 for an end as it should be.
    let Message::Close(Some(close)) = command.hears().await else { panic!("no close") };
    assert_eq!(u16::from(close.code), 1000);
    command.between.await.unwrap();
    assert!(command.agent.write_all(&[0; 8192]).await.is_err(), "the agent's end is closed, too");
}

#[tokio::test]
async fn an_agent_that_goes_or_says_too_much_ends_it_without_a_status() {
    for said in [&[][..], &[1, 255, 255, 255, 255]] {
        let mut command = Command::begin().await;
        command.agent.write_all(said).await.unwrap();
        if said.is_empty() {
            drop(command.agent);
        }
        command.between.await.unwrap();
        let next = command.client.next().await;
        assert!(!matches!(next, Some(Ok(_))), "{next:?}");
    }
}

#[tokio::test]
async fn a_client_that_goes_and_a_server_that_stops_end_it() {
    let command = Command::begin().await;
    drop(command.client);
    command.between.await.unwrap();
    let command = Command::begin().await;
    command.stop.send(true).unwrap();
    command.between.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_quiet_client_is_asked_whether_it_lives() {
    let mut command = Command::begin().await;
    let began = Instant::now();
    for round in 1..4 {
        assert_eq!(command.hears().await, Message::Ping(Bytes::new()));
        assert_eq!(began.elapsed(), PING_EVERY * round);
    }
}

/// What a message says of its length is not believed, nor waited for.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_long_is_refused_by_its_head() {
    let length = u64::try_from(FRAME_BYTES_MAX).unwrap() + 1;
    for (length, refused) in [(length, true), (length - 1, false)] {
        let (mut near, far) = tokio::io::duplex(4096);
        let mut server = server(far).await;
        // A whole binary message under a mask of four zeros.
        let head = [&[0x82, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
        near.write_all(&head).await.unwrap();
        let next = timeout(Duration::from_secs(1), server.next()).await;
        assert_eq!(matches!(next, Ok(Some(Err(_)))), refused, "{length}: {next:?}");
    }
}

#[tokio::test]
async fn pieces_of_a_message_have_the_limit_together() {
    let (mut near, far) = tokio::io::duplex(4096);
    let mut server = server(far).await;
    let half = u64::try_from(FRAME_BYTES_MAX / 2).unwrap() + 1;
    let writes = async {
        // One that goes on, and its end, under masks of four zeros.
        for first in [0x02, 0x80] {
            let head = [&[first, 0xff][..], &half.to_be_bytes(), &[0; 4]].concat();
            near.write_all(&head).await.unwrap();
            near.write_all(&vec![0; FRAME_BYTES_MAX / 2 + 1]).await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    let heard = tokio::select! {
        heard = server.next() => heard,
        () = writes => None,
    };
    assert!(matches!(heard, Some(Err(_))), "{:?}", heard.map(|message| message.map(|m| m.len())));
}
