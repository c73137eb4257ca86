//! Both ends face to face, and frames that are made by hand.

use super::*;

const LIMITS: Limits =
    Limits { streams_max: 4, control_bytes_max: 4096, header_bytes_max: 1024, chunk_bytes_max: 16 };

fn pair() -> (Connection, Connection) {
    (Connection::new(Role::Client, LIMITS), Connection::new(Role::Server, LIMITS))
}

/// What `from` has to say, as `to` hears it.
fn hears(from: &mut Connection, to: &mut Connection) -> Vec<Event> {
    let mut events = Vec::new();
    to.receive(&from.take_output(), &mut events).unwrap();
    events
}

fn about(what: &str) -> Headers {
    Headers::default().with("streamType", what)
}

/// A head and its payload, by hand.
fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::control(&mut out, kind, flags, &[payload]);
    out.to_vec()
}

fn broken_by(bytes: &[u8]) -> Error {
    let mut server = Connection::new(Role::Server, LIMITS);
    let mut events = Vec::new();
    let error = server.receive(bytes, &mut events).unwrap_err();
    assert_eq!(server.receive(&[], &mut events), Err(error.clone()), "it stays broken");
    let said = server.take_output();
    assert_eq!(said[..4], [0x80, 3, 0, 7], "the peer is told by a GOAWAY");
    assert_eq!(said[12..], [0, 0, 0, 1], "of a protocol error");
    error
}

#[test]
fn a_stream_from_its_beginning_to_its_end() {
    let (mut client, mut server) = pair();
    let stream = client.open(&about("data")).unwrap();
    assert_eq!(hears(&mut client, &mut server), [Event::Opened { stream, headers: about("data") }]);
    server.reply(stream, &Headers::default());
    assert!(server.data(stream, b"twenty bytes, not 16") && client.data(stream, b"up"));
    let said = [
        Event::Replied { stream, headers: Headers::default() },
        Event::Data { stream, bytes: Bytes::from_static(b"twenty bytes, no") },
        Event::Data { stream, bytes: Bytes::from_static(b"t 16") },
    ];
    assert_eq!(hears(&mut server, &mut client), said);
    client.finish(stream);
    assert!(!client.data(stream, b"more"), "nothing comes after the end");
    let said = [Event::Data { stream, bytes: Bytes::from_static(b"up") }, Event::Finished { stream }];
    assert_eq!(hears(&mut client, &mut server), said);
    assert!(server.data(stream, b"late"), "the other way is open still");
    server.finish(stream);
    assert_eq!(hears(&mut server, &mut client).last(), Some(&Event::Finished { stream }));
    assert_eq!((client.streams(), server.streams()), (0, 0));
}

#[test]
fn a_stream_may_be_finished_as_it_begins() {
    let (_, mut server) = pair();
    let block = Deflate::new().block(&about("error"));
    let payload = [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &block].concat();
    let mut events = Vec::new();
    server.receive(&control(frame::SYN_STREAM, FIN | UNIDIRECTIONAL, &payload), &mut events).unwrap();
    assert_eq!(events.last(), Some(&Event::Finished { stream: 1 }));
    assert_eq!(server.streams(), 0, "neither way is open");
}

#[test]
fn both_ends_begin_streams_with_numbers_of_their_own() {
    let (mut client, mut server) = pair();
    assert_eq!((client.open(&about("a")), client.open(&about("b"))), (Ok(1), Ok(3)));
    assert_eq!((server.open(&about("a")), server.open(&about("b"))), (Ok(2), Ok(4)));
    assert_eq!(server.open(&about("c")).unwrap(), 6);
    assert_eq!(hears(&mut client, &mut server).len(), 1, "the fourth place is taken, the fifth is none");
    assert_eq!(hears(&mut server, &mut client)[..1], [Event::Opened { stream: 2, headers: about("a") }]);
}

#[test]
fn one_stream_too_many_is_refused_and_the_rest_go_on() {
    let (mut client, mut server) = pair();
    client.limits.streams_max = 5;
    for _ in 0..5 {
        client.open(&about("data")).unwrap();
    }
    assert_eq!(client.open(&about("data")), Err(OpenError::TooMany));
    assert_eq!(hears(&mut client, &mut server).len(), 4);
    let refused = Event::Reset { stream: 9, status: ResetStatus::REFUSED_STREAM };
    assert_eq!(hears(&mut server, &mut client), [refused]);
    // What was under way to it is dropped; a place that is free is given again.
    frame::data(&mut client.out, 9, 0, b"too late");
    client.reset(1, ResetStatus::CANCEL);
    client.open(&about("data")).unwrap();
    let said = hears(&mut client, &mut server);
    assert_eq!(said[0], Event::Reset { stream: 1, status: ResetStatus::CANCEL });
    assert!(matches!(said[1..], [Event::Opened { stream: 11, .. }]), "{said:?}");
}

#[test]
fn pings_are_answered_and_answers_told() {
    let (mut client, mut server) = pair();
    server.ping();
    server.ping();
    assert_eq!(hears(&mut server, &mut client), []);
    assert_eq!(hears(&mut client, &mut server), [Event::Pong, Event::Pong]);
    assert_eq!(client.pending() + server.pending(), 0, "an answer is not answered");
}

#[test]
fn nothing_begins_after_a_goaway() {
    let (mut client, mut server) = pair();
    let stream = client.open(&about("data")).unwrap();
    hears(&mut client, &mut server);
    server.go_away(0);
    assert!(server.data(stream, b"still"));
    let said = hears(&mut server, &mut client);
    assert_eq!(said, [Event::GoneAway, Event::Data { stream, bytes: Bytes::from_static(b"still") }]);
    assert_eq!(client.open(&about("data")), Err(OpenError::GoneAway));
}

#[test]
fn what_says_nothing_to_us_is_passed_over() {
    let (mut client, mut server) = pair();
    let settings = [&[0, 0, 0, 1][..], &[0, 0, 0, 7], &[0, 1, 0, 0]].concat();
    let window = [0, 0, 0, 1, 0, 0, 255, 0];
    for quiet in [
        control(frame::SETTINGS, 0, &settings),
        control(frame::WINDOW_UPDATE, 0, &window),
        // CREDENTIAL and NOOP of older drafts, and one that nobody knows: as long as they like.
        control(10, 0, &[7; 9000]),
        control(5, 0, &[]),
        control(0x7777, 0, &[1]),
    ] {
        client.out.extend_from_slice(&quiet);
        assert_eq!(hears(&mut client, &mut server), []);
    }
    client.open(&about("data")).unwrap();
    assert_eq!(hears(&mut client, &mut server).len(), 1, "and the next frame is found");
}

#[test]
fn what_breaks_the_protocol_breaks_the_connection() {
    let syn = |stream: u32| {
        let block = Deflate::new().block(&about("data"));
        control(frame::SYN_STREAM, 0, &[&stream.to_be_bytes()[..], &[0; 6], &block].concat())
    };
    assert_eq!(broken_by(b"GET / HTTP/1.1\r\n"), Error::NoStream(u32::from_be_bytes(*b"GET ")));
    assert_eq!(broken_by(&[0x80, 2, 0, 1, 0, 0, 0, 10]), Error::Version(2));
    assert_eq!(broken_by(&[0x80, 3, 0, 1, 0, 255, 255, 255]), Error::TooLong(PAYLOAD_BYTES_MAX));
    for (kind, length) in [
        (frame::SYN_STREAM, 0),
        (frame::SYN_STREAM, 9),
        (frame::SYN_REPLY, 3),
        (frame::RST_STREAM, 7),
        (frame::SETTINGS, 5),
        (frame::SETTINGS, 12),
        (frame::PING, 8),
        (frame::GOAWAY, 4),
        (frame::WINDOW_UPDATE, 9),
    ] {
        let wrong = broken_by(&control(kind, 0, &vec![0; length]));
        assert_eq!(wrong, Error::Length { kind, length });
    }
    for stream in [0, 2] {
        assert_eq!(broken_by(&syn(stream)), Error::Number(stream));
    }
    let longest = LIMITS.control_bytes_max;
    assert_eq!(broken_by(&control(frame::PING, 0, &vec![0; longest + 1])), Error::TooLong(longest + 1));
    let length = Error::Length { kind: frame::PING, length: longest };
    assert_eq!(broken_by(&control(frame::PING, 0, &vec![0; longest])), length, "as long as it may be");
    assert_eq!(broken_by(&[0, 0, 0, 1, 0, 0, 0, 0]), Error::NoStream(1), "data before its stream");
    assert_eq!(
        broken_by(&control(frame::HEADERS, 0, &syn(1)[18..])).to_string(),
        "a header block is not compressed as SPDY/3 does"
    );
    // The second one's block must go on where the first one's ended to be read at all.
    let block = {
        let mut deflate = Deflate::new();
        deflate.block(&about("data"));
        deflate.block(&about("data"))
    };
    for again in [3, 5] {
        let mut twice = Connection::new(Role::Server, LIMITS);
        let mut events = Vec::new();
        twice.receive(&syn(5), &mut events).unwrap();
        let second =
            control(frame::SYN_STREAM, 0, &[&[0, 0, 0, again, 0, 0, 0, 0, 0, 0][..], &block].concat());
        let refused = Err(Error::Number(again.into()));
        assert_eq!(twice.receive(&second, &mut events), refused, "numbers only go up");
        assert_eq!(twice.streams(), 0, "nothing is held for a broken connection");
    }
}

#[test]
fn what_comes_behind_an_end_is_not_heard() {
    let (mut client, mut server) = pair();
    let stream = client.open(&about("data")).unwrap();
    client.finish(stream);
    frame::data(&mut client.out, stream, FIN, b"more");
    let said = hears(&mut client, &mut server);
    assert_eq!(said[1..], [Event::Finished { stream }]);
    assert!(server.data(stream, b"still"), "and the other way is open");
}

#[test]
fn nothing_is_answered_at_length() {
    let mut server = Connection::new(Role::Server, LIMITS);
    let pings = control(frame::PING, 0, &[0, 0, 0, 1]).repeat(10_000);
    server.receive(&pings, &mut Vec::new()).unwrap();
    assert_eq!(server.pending(), pings.len());
}
