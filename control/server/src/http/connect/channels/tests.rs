//! A client of SPDY and an agent on both ends of a command, without a network.

use tokio::io::DuplexStream;
use weft_spdy::{Event, ResetStatus};

use super::*;
use crate::http::spdy::tests::Peer;

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
const SUCCESS: &[u8] = br#"{"metadata":{},"status":"Success"}"#;
const FAILURE: &[u8] = br#"{"metadata":{},"status":"Failure","message":"exit status 3"}"#;

fn begin(protocol: &'static str, wanted: Wanted) -> (Peer, DuplexStream) {
    let (peer, session) = Peer::new(takes);
    let (agent, ours) = tokio::io::duplex(4096);
    tokio::spawn(async move { carry(session, ours, protocol, wanted).await });
    (peer, agent)
}

async fn open(peer: &mut Peer, part: &str) -> u32 {
    peer.open(&[("streamType", part)]).await
}

/// The next frame that the agent gets.
async fn frame(agent: &mut DuplexStream) -> (u8, Vec<u8>) {
    let mut head = [0; 5];
    agent.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize];
    agent.read_exact(&mut payload).await.unwrap();
    (head[0], payload)
}

async fn says(agent: &mut DuplexStream, channel: u8, payload: &[u8]) {
    agent.write_all(&weft_api::channel::frame(channel, payload)).await.unwrap();
}

#[tokio::test]
async fn a_command_has_its_streams_and_its_end() {
    let (mut peer, mut agent) = begin("v4.channel.k8s.io", ALL);
    let error = open(&mut peer, "error").await;
    let stdin = open(&mut peer, "stdin").await;
    let stdout = open(&mut peer, "stdout").await;
    let stderr = open(&mut peer, "stderr").await;
    peer.send(stdin, b"in").await;
    assert_eq!(frame(&mut agent).await, (0, b"in".to_vec()));
    peer.finish(stdin).await;
    assert_eq!(frame(&mut agent).await, (255, vec![0]));
    says(&mut agent, 1, b"out").await;
    says(&mut agent, 2, b"err").await;
    says(&mut agent, 7, b"a channel that nobody knows").await;
    says(&mut agent, 3, FAILURE).await;
    assert_eq!(peer.said(stdout).await, "out");
    assert_eq!(peer.said(stderr).await, "err");
    assert_eq!(peer.said(error).await.as_bytes(), FAILURE);
    assert_eq!(peer.next().await, None, "the server closes");
    assert_eq!(agent.read(&mut [0]).await.unwrap(), 0, "both sides");
}

#[tokio::test]
async fn a_client_of_the_first_days_hears_of_failures_only() {
    for (status, said) in [(FAILURE, "exit status 3"), (SUCCESS, "")] {
        for protocol in ["v3.channel.k8s.io", "channel.k8s.io"] {
            let wanted = Wanted { stdin: false, stderr: false, ..ALL };
            let (mut peer, mut agent) = begin(protocol, wanted);
            let stdout = open(&mut peer, "stdout").await;
            let error = open(&mut peer, "error").await;
            says(&mut agent, 1, b"out").await;
            says(&mut agent, 3, status).await;
            assert_eq!(peer.said(stdout).await, "out");
            assert_eq!(peer.said(error).await, said, "{protocol}");
        }
    }
}

#[tokio::test]
async fn sizes_reach_a_terminal_however_they_are_cut() {
    for protocol in ["v4.channel.k8s.io", "v3.channel.k8s.io"] {
        let (mut peer, mut agent) = begin(protocol, Wanted { stderr: false, tty: true, ..ALL });
        for part in ["error", "stdin", "stdout"] {
            open(&mut peer, part).await;
        }
        let resize = open(&mut peer, "resize").await;
        peer.send(resize, b"{\"Width\":80,").await;
        peer.send(resize, b"\"Height\":24}\n{\"Width\":9}\n").await;
        assert_eq!(frame(&mut agent).await, (4, br#"{"Width":80,"Height":24}"#.to_vec()), "{protocol}");
        assert_eq!(frame(&mut agent).await, (4, br#"{"Width":9}"#.to_vec()), "{protocol}");
    }
}

/// The second protocol knows terminals, and no sizes of theirs: a client of it begins no stream for them.
#[tokio::test]
async fn a_terminal_without_a_size_is_not_waited_for() {
    let (mut peer, mut agent) =
        begin("v2.channel.k8s.io", Wanted { stdin: false, stderr: false, tty: true, ..ALL });
    let error = open(&mut peer, "error").await;
    open(&mut peer, "stdout").await;
    says(&mut agent, 3, SUCCESS).await;
    assert_eq!(peer.said(error).await, "");
}

#[tokio::test]
async fn a_stream_that_nobody_asked_for_is_broken_off() {
    let (mut peer, mut agent) = begin("v4.channel.k8s.io", Wanted { stdin: false, stderr: false, ..ALL });
    open(&mut peer, "error").await;
    let stdout = open(&mut peer, "stdout").await;
    let further = open(&mut peer, "stderr").await;
    let broken = Event::Reset { stream: further, status: ResetStatus::CANCEL };
    assert_eq!(peer.next().await, Some(broken));
    says(&mut agent, 1, b"out").await;
    says(&mut agent, 3, SUCCESS).await;
    assert_eq!(peer.said(stdout).await, "out", "and the command goes on");
}

#[test]
fn sizes_without_an_end_are_not_kept() {
    let mut held = Vec::new();
    assert!(whole_lines(&mut held, &[b'{'; SIZE_BYTES_MAX]).is_empty());
    assert!(whole_lines(&mut held, b"{").is_empty() && held.is_empty());
    assert_eq!(whole_lines(&mut held, b"{}"), [b"{}"], "one without an end of its line is whole, too");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_begin_its_streams_is_let_go() {
    let (mut peer, mut agent) = begin("v4.channel.k8s.io", ALL);
    open(&mut peer, "stdin").await;
    assert_eq!(peer.next().await, None);
    assert_eq!(agent.read(&mut [0]).await.unwrap(), 0, "and the command ends");
    let (mut peer, _agent) = begin("v4.channel.k8s.io", ALL);
    open(&mut peer, "stdin").await;
    open(&mut peer, "stdin").await;
    assert_eq!(peer.next().await, None, "one stream twice");
}

#[tokio::test]
async fn a_client_that_goes_ends_the_command() {
    let (mut peer, mut agent) = begin("v4.channel.k8s.io", Wanted { stdin: false, stderr: false, ..ALL });
    open(&mut peer, "error").await;
    open(&mut peer, "stdout").await;
    says(&mut agent, 1, b"out").await;
    drop(peer);
    assert_eq!(agent.read(&mut [0]).await.unwrap(), 0);
}
