//! A client of SPDY on the other end of a pipe: what comes, what is held, and when it ends.

use std::collections::VecDeque;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::http::upgrade;

/// A client on the other end.
pub(in crate::http) struct Peer {
    io: DuplexStream,
    pub(in crate::http) connection: Connection,
    events: VecDeque<Event>,
    /// Who stops the server; it stops, too, once this is dropped.
    stop: watch::Sender<bool>,
}

impl Peer {
    pub(in crate::http) fn new(takes: fn(&Headers) -> bool) -> (Self, Session) {
        let (io, server) = tokio::io::duplex(4096);
        let (stop, stopping) = watch::channel(false);
        let session = begin(upgrade::raw(server), takes, stopping);
        let limits = Limits { streams_max: 1000, ..LIMITS };
        let connection = Connection::new(Role::Client, limits);
        (Self { io, connection, events: VecDeque::new(), stop }, session)
    }

    pub(in crate::http) async fn flush(&mut self) {
        self.io.write_all(&self.connection.take_output()).await.unwrap();
    }

    /// Begins a stream with these headers.
    pub(in crate::http) async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let headers = headers.iter().fold(Headers::default(), |h, (name, value)| h.with(name, value));
        let stream = self.connection.open(&headers).unwrap();
        self.flush().await;
        stream
    }

    pub(in crate::http) async fn send(&mut self, stream: u32, bytes: &[u8]) {
        assert!(self.connection.data(stream, bytes));
        self.flush().await;
    }

    pub(in crate::http) async fn finish(&mut self, stream: u32) {
        self.connection.finish(stream);
        self.flush().await;
    }

    /// What the server says next, replies left out; none when it has closed.
    pub(in crate::http) async fn next(&mut self) -> Option<Event> {
        loop {
            match self.events.pop_front() {
                Some(Event::Replied { .. }) => continue,
                Some(event) => return Some(event),
                None => {}
            }
            let mut buffer = BytesMut::with_capacity(4096);
            if self.io.read_buf(&mut buffer).await.unwrap() == 0 {
                return None;
            }
            let mut events = Vec::new();
            self.connection.receive(&buffer, &mut events).unwrap();
            self.events.extend(events);
            self.flush().await;
        }
    }

    /// What a stream says, to its end.
    pub(in crate::http) async fn said(&mut self, stream: u32) -> String {
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
        String::from_utf8(said).unwrap()
    }
}

fn all(_: &Headers) -> bool {
    true
}

async fn data(stream: &mut Incoming) -> Bytes {
    match stream.pieces.recv().await {
        Some(Piece::Data(held)) => held.bytes,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bytes_go_both_ways_and_ends_are_told() {
    let (mut peer, mut session) = Peer::new(all);
    let id = peer.open(&[("streamType", "data")]).await;
    let mut stream = session.next().await.unwrap();
    assert_eq!(stream.headers.get("streamtype"), Some("data"));
    peer.send(id, b"up").await;
    assert_eq!(data(&mut stream).await, "up");
    stream.way.send("down".into()).await.unwrap();
    stream.way.finish().await;
    assert_eq!(peer.said(id).await, "down");
    peer.finish(id).await;
    assert!(matches!(stream.pieces.recv().await, Some(Piece::End)));
    assert!(stream.pieces.recv().await.is_none());
    assert!(stream.broken.try_recv() == Err(oneshot::error::TryRecvError::Empty), "an end breaks nothing");
}

#[tokio::test]
async fn a_stream_that_is_broken_off_is_told_apart_from_one_that_ended() {
    let (mut peer, mut session) = Peer::new(all);
    let id = peer.open(&[]).await;
    let mut stream = session.next().await.unwrap();
    peer.connection.reset(id, ResetStatus::CANCEL);
    peer.flush().await;
    assert!(stream.pieces.recv().await.is_none());
    assert!(stream.broken.await.is_err());
}

/// Who reads need not wait for the end, and who waits for it need not read.
#[tokio::test]
async fn a_stream_lasts_as_long_as_anybody_wants_anything_of_it() {
    let (mut peer, mut session) = Peer::new(all);
    let (read, waited) = (peer.open(&[]).await, peer.open(&[]).await);
    let (reader, waiter) = (session.next().await.unwrap(), session.next().await.unwrap());
    let Incoming { mut pieces, way: _way, .. } = reader;
    let Incoming { broken, .. } = waiter;
    // One more, with which those that are wanted no longer are forgotten.
    peer.open(&[]).await;
    session.next().await.unwrap();
    peer.send(read, b"still").await;
    assert!(matches!(pieces.recv().await, Some(Piece::Data(held)) if held.bytes == "still"));
    peer.connection.reset(waited, ResetStatus::CANCEL);
    peer.flush().await;
    assert!(broken.await.is_err());
}

#[tokio::test]
async fn a_stream_that_nobody_serves_is_refused() {
    let (mut peer, mut session) = Peer::new(|headers| headers.get("port").is_some());
    let id = peer.open(&[("streamType", "data")]).await;
    let refused = Event::Reset { stream: id, status: ResetStatus::REFUSED_STREAM };
    assert_eq!(peer.next().await, Some(refused));
    peer.open(&[("port", "1")]).await;
    assert_eq!(session.next().await.unwrap().headers.get("port"), Some("1"));
}

#[tokio::test]
async fn what_was_said_last_still_comes_when_all_is_let_go() {
    let (mut peer, mut session) = Peer::new(all);
    let id = peer.open(&[]).await;
    let stream = session.next().await.unwrap();
    stream.way.send("last words".into()).await.unwrap();
    stream.way.finish().await;
    drop((stream, session));
    assert_eq!(peer.said(id).await, "last words");
    assert_eq!(peer.next().await, None, "and then it is closed");
}

#[tokio::test]
async fn one_who_speaks_no_spdy_is_told_and_let_go() {
    let (mut peer, mut session) = Peer::new(all);
    peer.io.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(peer.next().await, Some(Event::GoneAway));
    assert_eq!(peer.next().await, None);
    assert!(session.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn one_who_says_nothing_is_let_go_and_one_who_answers_is_kept() {
    let (peer, mut session) = Peer::new(all);
    let began = tokio::time::Instant::now();
    assert!(session.next().await.is_none(), "the session ends though the connection is there");
    assert_eq!(began.elapsed(), PING_EVERY * (UNANSWERED_MAX + 1));
    drop(peer);
    let (mut peer, mut session) = Peer::new(all);
    // It answers pings as it reads.
    let day = Duration::from_secs(86_400);
    assert!(timeout(day, peer.next()).await.is_err());
    peer.open(&[]).await;
    assert!(session.next().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_is_broken_off_and_the_others_go_on() {
    let (mut peer, mut session) = Peer::new(all);
    let (stuck, lively) = (peer.open(&[]).await, peer.open(&[]).await);
    let stuck_end = session.next().await.unwrap();
    let mut lively_end = session.next().await.unwrap();
    // So that a ping comes due before the time is over: who is not listened to cannot answer it.
    tokio::time::sleep(PING_EVERY / 3).await;
    for _ in 0..=PIECES_MAX {
        peer.connection.data(stuck, b"a piece");
        // Each comes by itself.
        peer.flush().await;
        tokio::task::yield_now().await;
    }
    peer.send(lively, b"through").await;
    let began = tokio::time::Instant::now();
    assert_eq!(data(&mut lively_end).await, "through");
    assert!((STALL_MAX..STALL_MAX + PING_EVERY).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(peer.next().await, Some(Event::Reset { stream: stuck, status: ResetStatus::CANCEL }));
    assert!(stuck_end.broken.await.is_err());
}

/// Whatever a client sends that nobody takes: the server holds a bounded part of it.
#[tokio::test(start_paused = true)]
async fn what_waits_for_all_readers_together_is_bounded() {
    let (mut peer, mut session) = Peer::new(all);
    let mut streams = Vec::new();
    for _ in 0..200 {
        streams.push((peer.open(&[]).await, session.next().await.unwrap()));
    }
    let piece = [7; READ_BYTES_MAX];
    let mut taken = 0;
    'full: loop {
        for (stream, _) in &streams {
            peer.connection.data(*stream, &piece);
            let bytes = peer.connection.take_output();
            if timeout(STALL_MAX / 2, peer.io.write_all(&bytes)).await.is_err() {
                break 'full;
            }
            taken += bytes.len();
        }
    }
    assert!((HELD_BYTES_MAX..HELD_BYTES_MAX + 4 * READ_BYTES_MAX).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_server_that_stops_says_so_and_closes() {
    let (mut peer, mut session) = Peer::new(all);
    peer.open(&[]).await;
    let stream = session.next().await.unwrap();
    peer.stop.send(true).unwrap();
    assert_eq!(peer.next().await, Some(Event::GoneAway));
    assert_eq!(peer.next().await, None);
    assert!(stream.broken.await.is_err() && session.next().await.is_none());
}

#[tokio::test]
async fn a_stream_is_broken_off_from_here_too() {
    let (mut peer, mut session) = Peer::new(all);
    let id = peer.open(&[]).await;
    session.next().await.unwrap().way.reset().await;
    assert_eq!(peer.next().await, Some(Event::Reset { stream: id, status: ResetStatus::CANCEL }));
    assert_eq!(peer.connection.streams(), 0);
}

/// Each ping is answered: one who asks and does not take the answers is not read any further.
#[tokio::test(start_paused = true)]
async fn who_takes_no_answers_is_not_listened_to() {
    let (mut peer, _session) = Peer::new(all);
    let mut taken = 0;
    loop {
        for _ in 0..100 {
            peer.connection.ping();
        }
        let bytes = peer.connection.take_output();
        if timeout(Duration::from_secs(1), peer.io.write_all(&bytes)).await.is_err() {
            break;
        }
        taken += bytes.len();
        assert!(taken < 8 * ANSWERS_BYTES_MAX, "it goes on");
    }
    assert!(taken > ANSWERS_BYTES_MAX, "{taken}");
    // What was answered is there once it is taken.
    assert_eq!(peer.next().await, Some(Event::Pong));
}

/// A peer that still writes when the last word goes out hears it: an end with bytes unread would break off what is on its way.
#[tokio::test]
async fn what_a_peer_still_says_at_the_end_is_taken() {
    let (mut peer, session) = Peer::new(all);
    drop(session);
    assert_eq!(peer.next().await, None, "the server has said its last");
    peer.io.write_all(&[0; 64 << 10]).await.expect("and takes what comes");
}

/// A connection lasts for as long as its client likes, and carries any number of streams.
#[tokio::test]
async fn streams_that_nobody_wants_any_more_are_forgotten() {
    let (to_session, mut opened) = mpsc::channel(1);
    let (commands, _waiting) = mpsc::channel(1);
    let mut reader = Reader {
        shared: Arc::new(Shared::new()),
        room: Arc::new(Semaphore::new(1)),
        streams: HashMap::new(),
        to_session,
        commands: commands.downgrade(),
        takes: all,
    };
    for number in 0..100 {
        reader.opened(2 * number + 1, Headers::default()).await.unwrap();
        drop(opened.recv().await.unwrap());
        assert_eq!(reader.streams.len(), 1, "the last one");
    }
}
