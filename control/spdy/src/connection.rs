//! One end of a connection: which streams there are, and what each frame does to them. It knows no transport and no clock.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};

use crate::frame::{
    self, FIN, HEAD_BYTES, Head, NUMBER_MASK, PAYLOAD_BYTES_MAX, ResetStatus, UNIDIRECTIONAL,
};
use crate::headers::{Deflate, HeaderError, Headers, Inflate};

#[cfg(test)]
mod tests;

/// Which end it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Began the connection: its streams and pings have odd numbers.
    Client,
    /// The other one: even numbers.
    Server,
}

/// How much a connection holds for its peer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams at once, of both ends together. The peer's next one is refused, and the connection goes on.
    pub streams_max: usize,
    /// A control frame's payload as it comes, bytes. Above: the connection breaks.
    pub control_bytes_max: usize,
    /// A header block after it was inflated, bytes. Above: the connection breaks.
    pub header_bytes_max: usize,
    /// Longest piece of data in one event, bytes.
    pub chunk_bytes_max: usize,
}

/// What the peer did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It began a stream: answer by [`Connection::reply`] or [`Connection::reset`].
    Opened {
        /// The stream.
        stream: u32,
        /// What it is about.
        headers: Headers,
    },
    /// It took a stream that this end began.
    Replied {
        /// The stream.
        stream: u32,
        /// What it said.
        headers: Headers,
    },
    /// It sent data: a frame's, or a part of it.
    Data {
        /// The stream.
        stream: u32,
        /// What it sent.
        bytes: Bytes,
    },
    /// It sends nothing more on the stream.
    Finished {
        /// The stream.
        stream: u32,
    },
    /// It broke the stream off, both ways.
    Reset {
        /// The stream.
        stream: u32,
        /// Why.
        status: ResetStatus,
    },
    /// It answered a ping.
    Pong,
    /// It takes no further streams.
    GoneAway,
}

/// Why a connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another version, or no SPDY at all.
    #[error("a frame of version {0}, not 3")]
    Version(u16),
    /// Above [`Limits::control_bytes_max`].
    #[error("a control frame of {0} bytes")]
    TooLong(usize),
    /// A control frame whose payload is not as long as its kind says.
    #[error("a control frame of kind {kind} with {length} bytes")]
    Length {
        /// The frame's kind.
        kind: u16,
        /// Its payload, bytes.
        length: usize,
    },
    /// A header block that cannot be read.
    #[error(transparent)]
    Headers(#[from] HeaderError),
    /// A number that is 0, used, below an earlier one, or the other end's to give.
    #[error("stream {0} cannot be begun")]
    Number(u32),
    /// A frame for a stream that nobody has begun.
    #[error("there is no stream {0}")]
    NoStream(u32),
}

/// Why no stream was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// [`Limits::streams_max`].
    #[error("too many streams")]
    TooMany,
    /// The connection is broken, or the peer takes no more.
    #[error("the peer takes no further streams")]
    GoneAway,
    /// All numbers were used.
    #[error("no number is left for a stream")]
    NoNumber,
}

/// Which ways of a stream are open.
#[derive(Clone, Copy, Debug)]
struct Stream {
    to_peer: bool,
    from_peer: bool,
}

/// What the next bytes are.
#[derive(Debug)]
enum Reading {
    Head,
    Control { kind: u16, flags: u8, length: usize },
    Data { stream: u32, flags: u8, left: usize },
    Skipped { left: usize },
}

/// One end of a connection.
pub struct Connection {
    role: Role,
    limits: Limits,
    reading: Reading,
    /// A head or a control frame's payload that has not come whole.
    part: Vec<u8>,
    inflate: Inflate,
    deflate: Deflate,
    streams: HashMap<u32, Stream>,
    /// The highest number that each end has given a stream.
    last_of_peer: u32,
    last_own: u32,
    last_ping: u32,
    peer_gone_away: bool,
    broken: Option<Error>,
    out: BytesMut,
}

impl Connection {
    /// A connection on which nothing was sent yet.
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            role,
            limits,
            reading: Reading::Head,
            part: Vec::new(),
            inflate: Inflate::new(limits.header_bytes_max),
            deflate: Deflate::new(),
            streams: HashMap::new(),
            last_of_peer: 0,
            last_own: 0,
            last_ping: 0,
            peer_gone_away: false,
            broken: None,
            out: BytesMut::new(),
        }
    }

    /// Takes what came, and tells what it did. At most so many bytes are answered as came.
    ///
    /// # Errors
    /// The peer breaks the protocol or a limit. What it did before stands in `events`; the peer is told by a GOAWAY in
    /// [`Connection::take_output`], and nothing is taken any more.
    pub fn receive(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Error> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.read(bytes, events).inspect_err(|error| {
            self.go_away(1);
            self.streams.clear();
            self.part = Vec::new();
            self.broken = Some(error.clone());
        })
    }

    fn read(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Error> {
        while !bytes.is_empty() {
            match self.reading {
                Reading::Head => {
                    if let Some(head) = self.gather(&mut bytes, HEAD_BYTES) {
                        let mut whole = [0; HEAD_BYTES];
                        whole.copy_from_slice(&head);
                        self.head(Head::parse(whole), events)?;
                    }
                }
                Reading::Control { kind, flags, length } => {
                    if let Some(payload) = self.gather(&mut bytes, length) {
                        self.reading = Reading::Head;
                        self.control(kind, flags, &payload, events)?;
                    }
                }
                Reading::Data { stream, flags, left } => {
                    let (piece, rest) =
                        bytes.split_at(left.min(bytes.len()).min(self.limits.chunk_bytes_max));
                    bytes = rest;
                    if self.streams.get(&stream).is_some_and(|s| s.from_peer) {
                        events.push(Event::Data { stream, bytes: Bytes::copy_from_slice(piece) });
                    }
                    self.data_left(stream, flags, left - piece.len(), events);
                }
                Reading::Skipped { left } => {
                    let skipped = left.min(bytes.len());
                    bytes = &bytes[skipped..];
                    self.reading = match left - skipped {
                        0 => Reading::Head,
                        left => Reading::Skipped { left },
                    };
                }
            }
        }
        Ok(())
    }

    /// The next `length` bytes, once they are all there.
    fn gather(&mut self, bytes: &mut &[u8], length: usize) -> Option<Vec<u8>> {
        let (piece, rest) = bytes.split_at(bytes.len().min(length - self.part.len()));
        self.part.extend_from_slice(piece);
        *bytes = rest;
        (self.part.len() == length).then(|| std::mem::take(&mut self.part))
    }

    fn head(&mut self, head: Head, events: &mut Vec<Event>) -> Result<(), Error> {
        match head {
            Head::Data { stream, flags, length } => {
                if !self.was_begun(stream) {
                    return Err(Error::NoStream(stream));
                }
                self.data_left(stream, flags, length, events);
            }
            Head::Control { version, .. } if version != frame::VERSION => {
                return Err(Error::Version(version));
            }
            Head::Control { kind, length: 0, .. } if !is_known(kind) => {}
            Head::Control { kind, length, .. } if !is_known(kind) => {
                self.reading = Reading::Skipped { left: length };
            }
            Head::Control { kind, length: 0, .. } => return Err(Error::Length { kind, length: 0 }),
            Head::Control { length, .. } if length > self.limits.control_bytes_max => {
                return Err(Error::TooLong(length));
            }
            Head::Control { kind, flags, length, .. } => {
                self.reading = Reading::Control { kind, flags, length }
            }
        }
        Ok(())
    }

    fn data_left(&mut self, stream: u32, flags: u8, left: usize, events: &mut Vec<Event>) {
        if left > 0 {
            self.reading = Reading::Data { stream, flags, left };
            return;
        }
        self.reading = Reading::Head;
        if flags & FIN != 0 {
            self.peer_finished(stream, events);
        }
    }

    fn control(
        &mut self,
        kind: u16,
        flags: u8,
        payload: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        let wrong = || Error::Length { kind, length: payload.len() };
        let number = |at: usize| {
            let bytes = payload.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or_else(wrong)?;
            Ok::<u32, Error>(u32::from_be_bytes(bytes))
        };
        let exactly = |length: usize| if payload.len() == length { Ok(()) } else { Err(wrong()) };
        match kind {
            frame::SYN_STREAM => {
                let stream = number(0)? & NUMBER_MASK;
                let headers = self.inflate.block(payload.get(10..).ok_or_else(wrong)?)?;
                self.opened(stream, flags, headers, events)?;
            }
            frame::SYN_REPLY | frame::HEADERS => {
                let stream = number(0)? & NUMBER_MASK;
                let headers = self.inflate.block(payload.get(4..).ok_or_else(wrong)?)?;
                if !self.was_begun(stream) {
                    return Err(Error::NoStream(stream));
                }
                if kind == frame::SYN_REPLY && self.is_own(stream) && self.streams.contains_key(&stream) {
                    events.push(Event::Replied { stream, headers });
                }
                if flags & FIN != 0 {
                    self.peer_finished(stream, events);
                }
            }
            frame::RST_STREAM => {
                exactly(8)?;
                let stream = number(0)? & NUMBER_MASK;
                if self.streams.remove(&stream).is_some() {
                    events.push(Event::Reset { stream, status: ResetStatus(number(4)?) });
                }
            }
            frame::PING => {
                exactly(4)?;
                if self.is_own(number(0)?) {
                    events.push(Event::Pong);
                } else {
                    frame::control(&mut self.out, frame::PING, 0, &[payload]);
                }
            }
            frame::GOAWAY => {
                exactly(8)?;
                self.peer_gone_away = true;
                events.push(Event::GoneAway);
            }
            frame::SETTINGS => {
                let entries = number(0)? as usize;
                exactly(entries.saturating_mul(8).saturating_add(4))?;
            }
            // The last one that is known; windows are not kept.
            _ => exactly(8)?,
        }
        Ok(())
    }

    fn opened(
        &mut self,
        stream: u32,
        flags: u8,
        headers: Headers,
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        if stream == 0 || self.is_own(stream) || stream <= self.last_of_peer {
            return Err(Error::Number(stream));
        }
        self.last_of_peer = stream;
        if self.streams.len() >= self.limits.streams_max {
            self.put_reset(stream, ResetStatus::REFUSED_STREAM);
            return Ok(());
        }
        self.streams.insert(stream, Stream { to_peer: flags & UNIDIRECTIONAL == 0, from_peer: true });
        events.push(Event::Opened { stream, headers });
        if flags & FIN != 0 {
            self.peer_finished(stream, events);
        }
        Ok(())
    }

    fn peer_finished(&mut self, stream: u32, events: &mut Vec<Event>) {
        let Some(open) = self.streams.get_mut(&stream).filter(|s| s.from_peer) else { return };
        open.from_peer = false;
        events.push(Event::Finished { stream });
        self.forget_if_closed(stream);
    }

    fn forget_if_closed(&mut self, stream: u32) {
        if self.streams.get(&stream).is_some_and(|s| !s.to_peer && !s.from_peer) {
            self.streams.remove(&stream);
        }
    }

    /// Whether a number is this end's to give.
    fn is_own(&self, number: u32) -> bool {
        (number % 2 == 1) == (self.role == Role::Client)
    }

    /// Whether there is or was such a stream. Frames may still come for one that is no more.
    fn was_begun(&self, stream: u32) -> bool {
        let last = if self.is_own(stream) { self.last_own } else { self.last_of_peer };
        stream != 0 && stream <= last
    }

    /// Begins a stream.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&mut self, headers: &Headers) -> Result<u32, OpenError> {
        if self.peer_gone_away || self.broken.is_some() {
            return Err(OpenError::GoneAway);
        }
        if self.streams.len() >= self.limits.streams_max {
            return Err(OpenError::TooMany);
        }
        let stream = match (self.last_own, self.role) {
            (0, Role::Client) => 1,
            (0, Role::Server) => 2,
            (last, _) if last + 2 > NUMBER_MASK => return Err(OpenError::NoNumber),
            (last, _) => last + 2,
        };
        self.last_own = stream;
        self.streams.insert(stream, Stream { to_peer: true, from_peer: true });
        let block = self.deflate.block(headers);
        let fields = [stream.to_be_bytes(), [0; 4]].concat();
        // No stream it belongs to, the highest priority, no certificate.
        frame::control(&mut self.out, frame::SYN_STREAM, 0, &[&fields, &[0, 0], &block]);
        Ok(stream)
    }

    /// Takes a stream that the peer began. Peers heed no data before it.
    pub fn reply(&mut self, stream: u32, headers: &Headers) {
        if self.streams.contains_key(&stream) {
            let block = self.deflate.block(headers);
            frame::control(&mut self.out, frame::SYN_REPLY, 0, &[&stream.to_be_bytes(), &block]);
        }
    }

    /// Sends data; `false` where the stream takes none any more.
    pub fn data(&mut self, stream: u32, bytes: &[u8]) -> bool {
        if !self.streams.get(&stream).is_some_and(|s| s.to_peer) {
            return false;
        }
        for payload in bytes.chunks(PAYLOAD_BYTES_MAX) {
            frame::data(&mut self.out, stream, 0, payload);
        }
        true
    }

    /// Sends nothing more on a stream.
    pub fn finish(&mut self, stream: u32) {
        let Some(open) = self.streams.get_mut(&stream).filter(|s| s.to_peer) else { return };
        open.to_peer = false;
        frame::data(&mut self.out, stream, FIN, &[]);
        self.forget_if_closed(stream);
    }

    /// Breaks a stream off, both ways.
    pub fn reset(&mut self, stream: u32, status: ResetStatus) {
        if self.streams.remove(&stream).is_some() {
            self.put_reset(stream, status);
        }
    }

    fn put_reset(&mut self, stream: u32, status: ResetStatus) {
        let payload = [stream.to_be_bytes(), status.0.to_be_bytes()].concat();
        frame::control(&mut self.out, frame::RST_STREAM, 0, &[&payload]);
    }

    /// Asks whether the peer lives: [`Event::Pong`].
    pub fn ping(&mut self) {
        self.last_ping = match (self.last_ping, self.role) {
            (0, Role::Client) => 1,
            (0, Role::Server) => 2,
            (last, role) if last + 2 > NUMBER_MASK => u32::from(role == Role::Server) + 1,
            (last, _) => last + 2,
        };
        frame::control(&mut self.out, frame::PING, 0, &[&self.last_ping.to_be_bytes()]);
    }

    /// Tells the peer to begin no further streams; 0: all is well, 1: it broke the protocol.
    pub fn go_away(&mut self, status: u32) {
        let payload = [self.last_of_peer.to_be_bytes(), status.to_be_bytes()].concat();
        frame::control(&mut self.out, frame::GOAWAY, 0, &[&payload]);
    }

    /// Streams there are.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Bytes that wait to be sent.
    pub fn pending(&self) -> usize {
        self.out.len()
    }

    /// What is to be sent.
    pub fn take_output(&mut self) -> Bytes {
        std::mem::take(&mut self.out).freeze()
    }
}

fn is_known(kind: u16) -> bool {
    matches!(
        kind,
        frame::SYN_STREAM
            | frame::SYN_REPLY
            | frame::RST_STREAM
            | frame::SETTINGS
            | frame::PING
            | frame::GOAWAY
            | frame::HEADERS
            | frame::WINDOW_UPDATE
    )
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("role", &self.role)
            .field("streams", &self.streams.len())
            .field("reading", &self.reading)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
