//! What a client sends over SPDY, to a server that does nothing and to one that answers. The first byte says how long the pieces
//! are in which it comes; what is heard must not depend on them.

use weft_spdy::{Connection, Event, Headers, Limits, Role};

/// As those of the API server, but smaller, so that short inputs come to them.
pub(crate) const LIMITS: Limits = Limits {
    streams_max: 16,
    control_bytes_max: 16 << 10,
    header_bytes_max: 16 << 10,
    chunk_bytes_max: 4 << 10,
};

/// Runs it once.
pub fn run(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let piece_bytes = usize::from(*first) + 1;
    assert_eq!(heard(bytes, bytes.len().max(1)), heard(bytes, piece_bytes));
    answered(bytes, piece_bytes);
}

/// What was told: data of one stream that came behind each other is one.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Data(u32, Vec<u8>),
    Other(Event),
}

/// What a server that does nothing hears, and whether the connection went on.
fn heard(bytes: &[u8], piece_bytes: usize) -> (Vec<Told>, bool) {
    let mut server = Connection::new(Role::Server, LIMITS);
    let mut all: Vec<Told> = Vec::new();
    for piece in bytes.chunks(piece_bytes) {
        let mut events = Vec::new();
        let went_on = server.receive(piece, &mut events).is_ok();
        for event in events {
            match (event, all.last_mut()) {
                (Event::Data { stream, bytes }, Some(Told::Data(before, held))) if *before == stream => {
                    held.extend_from_slice(&bytes);
                }
                (Event::Data { stream, bytes }, _) => all.push(Told::Data(stream, bytes.to_vec())),
                (other, _) => all.push(Told::Other(other)),
            }
        }
        assert!(server.streams() <= LIMITS.streams_max);
        if !went_on {
            return (all, false);
        }
    }
    (all, true)
}

/// A server that answers every stream and sends back what it is told.
fn answered(bytes: &[u8], piece_bytes: usize) {
    let mut server = Connection::new(Role::Server, LIMITS);
    for piece in bytes.chunks(piece_bytes) {
        let mut events = Vec::new();
        let went_on = server.receive(piece, &mut events).is_ok();
        for event in events {
            match event {
                Event::Opened { stream, headers } => {
                    let told = headers.get("port").unwrap_or("none");
                    server.reply(stream, &Headers::default().with("told", told));
                }
                Event::Data { stream, bytes } => {
                    assert!(bytes.len() <= LIMITS.chunk_bytes_max);
                    server.data(stream, &bytes);
                }
                Event::Finished { stream } => server.finish(stream),
                _ => {}
            }
        }
        assert!(server.streams() <= LIMITS.streams_max);
        server.take_output();
        if !went_on {
            return;
        }
    }
}
