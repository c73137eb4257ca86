//! A client of SPDY, and Pods that are pipes.

use std::sync::Mutex;

use tokio::io::DuplexStream;
use weft_spdy::{Event, ResetStatus};

use super::*;
use crate::http::spdy::tests::Peer;

/// A client, and the Pods' ends of what it is connected to, in order; port 81 refuses.
fn begin() -> (Peer, Arc<Mutex<Vec<DuplexStream>>>) {
    let (peer, session) = Peer::new(takes);
    let pods = Arc::new(Mutex::new(Vec::new()));
    let dialled = pods.clone();
    tokio::spawn(carry(session, move |port| {
        let dialled = dialled.clone();
        async move {
            if port == 81 {
                return Err("error forwarding port 81 to pod p, uid u: connection refused".to_owned());
            }
            let (ours, theirs) = tokio::io::duplex(1024);
            dialled.lock().unwrap().push(theirs);
            Ok(ours)
        }
    }));
    (peer, pods)
}

async fn open(peer: &mut Peer, part: &str, port: &str, request: &str) -> u32 {
    peer.open(&[("streamType", part), ("port", port), ("requestID", request)]).await
}

async fn dialled(pods: &Mutex<Vec<DuplexStream>>) -> DuplexStream {
    loop {
        if let Some(pod) = pods.lock().unwrap().pop() {
            return pod;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_goes_both_ways_to_the_pods_end() {
    let (mut peer, pods) = begin();
    let error = open(&mut peer, "error", "80", "0").await;
    peer.finish(error).await;
    let data = open(&mut peer, "data", "80", "0").await;
    let mut pod = dialled(&pods).await;
    peer.send(data, b"question").await;
    peer.finish(data).await;
    let mut asked = String::new();
    pod.read_to_string(&mut asked).await.unwrap();
    assert_eq!(asked, "question", "and its end is told");
    pod.write_all(b"answer").await.unwrap();
    drop(pod);
    assert_eq!(peer.said(data).await, "answer");
    assert_eq!(peer.said(error).await, "", "nothing went wrong");
    assert_eq!(peer.connection.streams(), 0);
}

#[tokio::test]
async fn what_the_pod_refuses_stands_on_the_error_stream() {
    let (mut peer, pods) = begin();
    // In the other order, which is as good.
    let data = open(&mut peer, "data", "81", "7").await;
    let error = open(&mut peer, "error", "81", "7").await;
    assert_eq!(peer.said(error).await, "error forwarding port 81 to pod p, uid u: connection refused");
    assert_eq!(peer.said(data).await, "");
    // The connection is there for the next one.
    open(&mut peer, "error", "80", "8").await;
    open(&mut peer, "data", "80", "8").await;
    dialled(&pods).await;
}

#[tokio::test]
async fn connections_keep_apart() {
    let (mut peer, pods) = begin();
    let mut ends = Vec::new();
    for n in 0..20 {
        let request = n.to_string();
        open(&mut peer, "error", "80", &request).await;
        let data = open(&mut peer, "data", "80", &request).await;
        let pod = dialled(&pods).await;
        ends.push((data, pod, request));
    }
    for (data, _, request) in &ends {
        peer.send(*data, request.as_bytes()).await;
        peer.finish(*data).await;
    }
    for (data, mut pod, request) in ends {
        let mut asked = String::new();
        pod.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, request);
        pod.write_all(asked.as_bytes()).await.unwrap();
        drop(pod);
        assert_eq!(peer.said(data).await, request);
    }
}

/// A Pod that takes nothing and says nothing holds no connection that the client has given up.
#[tokio::test]
async fn a_broken_off_stream_ends_the_pods_connection() {
    let (mut peer, pods) = begin();
    open(&mut peer, "error", "80", "0").await;
    let data = open(&mut peer, "data", "80", "0").await;
    let mut pod = dialled(&pods).await;
    peer.send(data, &[7; 4000]).await;
    peer.connection.reset(data, ResetStatus::CANCEL);
    peer.flush().await;
    let mut taken = Vec::new();
    pod.read_to_end(&mut taken).await.unwrap();
    assert!(pod.write_all(&[0; 4000]).await.is_err(), "nobody is there any more");
}

#[tokio::test]
async fn a_client_that_goes_takes_its_connections_along() {
    let (mut peer, pods) = begin();
    open(&mut peer, "error", "80", "0").await;
    open(&mut peer, "data", "80", "0").await;
    let mut pod = dialled(&pods).await;
    drop(peer);
    assert_eq!(pod.read(&mut [0]).await.unwrap(), 0);
    assert!(pod.write_all(&[0; 4000]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_its_other_one_is_told() {
    let (mut peer, _) = begin();
    let error = open(&mut peer, "error", "80", "3").await;
    let data = open(&mut peer, "data", "80", "4").await;
    let said = peer.said(error).await;
    assert_eq!(said, "error processing stream for request 3: timed out waiting for streams");
    assert_eq!(peer.said(data).await, "");
}

#[tokio::test]
async fn streams_that_fit_nothing_are_broken_off() {
    let (mut peer, _) = begin();
    let (longest, longer) = ("7".repeat(REQUEST_BYTES_MAX), "7".repeat(REQUEST_BYTES_MAX + 1));
    open(&mut peer, "data", "65535", &longest).await;
    for (part, port, request) in [
        ("data", "80", longer.as_str()),
        ("data", "0", "1"),
        ("data", "65536", "1"),
        ("data", "http", "1"),
        ("both", "80", "1"),
        ("data", "80", ""),
    ] {
        let stream = open(&mut peer, part, port, request).await;
        let status = ResetStatus::REFUSED_STREAM;
        assert_eq!(peer.next().await, Some(Event::Reset { stream, status }), "{part} {port} {request}");
    }
    for (other, port) in [("data", "80"), ("error", "8080")] {
        let first = open(&mut peer, "data", "80", "1").await;
        let second = open(&mut peer, other, port, "1").await;
        for stream in [first, second] {
            let broken = Event::Reset { stream, status: ResetStatus::CANCEL };
            assert_eq!(peer.next().await, Some(broken), "{other} {port}");
        }
    }
}

/// Numbers cost a client nothing, and what it breaks off counts no more among its streams.
#[tokio::test]
async fn streams_that_are_broken_off_are_not_kept_for_their_others() {
    let (mut peer, mut session) = Peer::new(takes);
    let mut singles = Singles::default();
    for n in 0..3 * SINGLES_MAX {
        let stream =
            peer.open(&[("streamType", "error"), ("port", "80"), ("requestID", &n.to_string())]).await;
        let mut stream_here = session.next().await.unwrap();
        peer.connection.reset(stream, ResetStatus::CANCEL);
        peer.flush().await;
        assert!(stream_here.pieces.recv().await.is_none(), "the end has come");
        let single = Single { part: Part::Error, port: 80, stream: stream_here, since: Instant::now() };
        singles.keep(n.to_string(), single);
        assert!(singles.0.len() <= SINGLES_MAX);
    }
}

#[tokio::test]
async fn a_stream_that_is_broken_off_is_not_dialled_for_any_longer() {
    let (mut peer, mut session) = Peer::new(takes);
    let error = open(&mut peer, "error", "80", "0").await;
    let error_here = session.next().await.unwrap();
    let data = open(&mut peer, "data", "80", "0").await;
    let data_here = session.next().await.unwrap();
    let dial = std::future::pending::<Result<DuplexStream, String>>();
    let forwarded = tokio::spawn(forward(error_here.way, data_here, dial));
    peer.connection.reset(data, ResetStatus::CANCEL);
    peer.flush().await;
    forwarded.await.unwrap();
    assert_eq!(peer.said(error).await, "");
}
