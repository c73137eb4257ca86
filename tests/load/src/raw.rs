//! HTTP/2 over TLS, read with as little as it takes: records are opened where they arrived, and what they hold is handed on as
//! it lies there. Thousands of watches that one thread reads beside the server are to cost the server's cores little.
//!
//! Only what an answer to a watch is made of is understood (RFC 9113): anything else ends the connection with an error. A server
//! may send unasked as much as Go's client lets it, and is told to go on at the half.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::ClientConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::connection::{CONNECTION_WINDOW, SERVER_NAME, STREAM_WINDOW};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
/// The longest frame that is not data.
const CONTROL_MAX: usize = 16 << 10;
/// Read from a socket at once: two records.
const READ_BYTES: usize = 36 << 10;
/// What a window is before anybody said anything.
const WINDOW_FIRST: u32 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// What came for one of the requests, by its place among them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came<'b> {
    /// Its head: 200.
    Answered(usize),
    /// Part of its body.
    Data(usize, &'b [u8]),
    /// Its end.
    Ended(usize),
}

/// A connection on which nothing is asked but what it began with.
pub(crate) struct Connection {
    tcp: TcpStream,
    tls: Tls,
    frames: Frames,
}

struct Tls {
    connection: UnbufferedClientConnection,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
}

impl Connection {
    /// Connects and asks for each path.
    pub(crate) async fn begin(address: &str, config: Arc<ClientConfig>, paths: &[String]) -> Result<Self> {
        let tcp =
            TcpStream::connect(address).await.with_context(|| format!("{address} cannot be reached"))?;
        tcp.set_nodelay(true)?;
        let connection = UnbufferedClientConnection::new(config, ServerName::try_from(SERVER_NAME)?)?;
        let tls = Tls { connection, input: vec![0; READ_BYTES], filled: 0, output: Vec::new() };
        Ok(Self { tcp, tls, frames: Frames::new(address, paths) })
    }

    /// Reads until the server ends the connection.
    ///
    /// # Errors
    /// The connection breaks; an answer is not 200, or not of what this module understands.
    pub(crate) async fn read(&mut self, mut came: impl FnMut(Came<'_>)) -> Result<()> {
        loop {
            let next = self.tls.step(&mut self.frames, &mut came)?;
            if !self.tls.output.is_empty() && next != Next::Step {
                self.tcp.write_all(&self.tls.output).await?;
                self.tls.output.clear();
            }
            match next {
                Next::Step | Next::Write => {}
                Next::Read => {
                    ensure!(self.tls.filled < READ_BYTES, "a TLS record is longer than records are");
                    let read = self.tcp.read(&mut self.tls.input[self.tls.filled..]).await?;
                    if read == 0 {
                        return Ok(());
                    }
                    self.tls.filled += read;
                }
                Next::End => return Ok(()),
            }
        }
    }
}

/// What is to be done before the next step.
#[derive(PartialEq, Eq)]
enum Next {
    Step,
    Write,
    Read,
    End,
}

impl Tls {
    fn step(&mut self, frames: &mut Frames, came: &mut impl FnMut(Came<'_>)) -> Result<Next> {
        let UnbufferedStatus { mut discard, state } =
            self.connection.process_tls_records(&mut self.input[..self.filled]);
        let next = match state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    frames.take(record.payload, came)?;
                }
                Next::Step
            }
            ConnectionState::EncodeTlsData(mut data) => {
                let at = self.output.len();
                if let Err(EncodeError::InsufficientSize(wanted)) = data.encode(&mut []) {
                    self.output.resize(at + wanted.required_size, 0);
                }
                let written = data.encode(&mut self.output[at..])?;
                self.output.truncate(at + written);
                Next::Step
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                Next::Write
            }
            ConnectionState::WriteTraffic(mut traffic) if !frames.to_send.is_empty() => {
                let at = self.output.len();
                if let Err(EncryptError::InsufficientSize(wanted)) = traffic.encrypt(&frames.to_send, &mut [])
                {
                    self.output.resize(at + wanted.required_size, 0);
                }
                let written = traffic.encrypt(&frames.to_send, &mut self.output[at..])?;
                self.output.truncate(at + written);
                frames.to_send.clear();
                Next::Write
            }
            ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake => Next::Read,
            ConnectionState::PeerClosed | ConnectionState::Closed => Next::End,
            other => bail!("TLS is where a client never is: {other:?}"),
        };
        self.input.copy_within(discard..self.filled, 0);
        self.filled -= discard;
        Ok(next)
    }
}

/// Frames out of a stream of bytes, however it is cut.
struct Frames {
    head: [u8; FRAME_HEAD],
    head_bytes: usize,
    /// What is left of the frame whose head was read.
    left: usize,
    /// The body of a frame that is not data.
    control: Vec<u8>,
    /// What a request may still be sent without a word, and the connection.
    windows: Vec<Window>,
    window: Window,
    /// Frames of this side.
    to_send: Vec<u8>,
}

/// Received and not yet acknowledged, of so much.
struct Window {
    received: u32,
    all: u32,
}

impl Window {
    /// What is to be given back now.
    fn take(&mut self, bytes: usize) -> Option<u32> {
        self.received += u32::try_from(bytes).unwrap_or(u32::MAX);
        (self.received >= self.all / 2).then(|| std::mem::take(&mut self.received))
    }
}

impl Frames {
    fn new(authority: &str, paths: &[String]) -> Self {
        let mut to_send = PREFACE.to_vec();
        // ENABLE_PUSH off, INITIAL_WINDOW_SIZE.
        let mut settings = vec![0, 2, 0, 0, 0, 0, 0, 4];
        settings.extend_from_slice(&STREAM_WINDOW.to_be_bytes());
        frame(&mut to_send, SETTINGS, 0, 0, &settings);
        frame(&mut to_send, WINDOW_UPDATE, 0, 0, &(CONNECTION_WINDOW - WINDOW_FIRST).to_be_bytes());
        for (at, path) in paths.iter().enumerate() {
            // `:method` GET and `:scheme` https are in the static table (RFC 7541, A); then `:authority` and `:path`.
            let mut block = vec![0x82, 0x87];
            literal(&mut block, 1, authority);
            literal(&mut block, 4, path);
            frame(&mut to_send, HEADERS, END_STREAM | END_HEADERS, stream_of(at), &block);
        }
        Self {
            head: [0; FRAME_HEAD],
            head_bytes: 0,
            left: 0,
            control: Vec::new(),
            windows: paths.iter().map(|_| Window { received: 0, all: STREAM_WINDOW }).collect(),
            window: Window { received: 0, all: CONNECTION_WINDOW },
            to_send,
        }
    }

    fn take(&mut self, mut bytes: &[u8], came: &mut impl FnMut(Came<'_>)) -> Result<()> {
        while !bytes.is_empty() {
            if self.head_bytes < FRAME_HEAD {
                let taken = bytes.len().min(FRAME_HEAD - self.head_bytes);
                self.head[self.head_bytes..][..taken].copy_from_slice(&bytes[..taken]);
                (self.head_bytes, bytes) = (self.head_bytes + taken, &bytes[taken..]);
                if self.head_bytes < FRAME_HEAD {
                    return Ok(());
                }
                self.left = u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize;
                self.control.clear();
            }
            let (part, rest) = bytes.split_at(bytes.len().min(self.left));
            (self.left, bytes) = (self.left - part.len(), rest);
            let [.., kind, flags, _, _, _, _] = self.head;
            if kind == DATA {
                ensure!(flags & PADDED == 0, "data is padded");
                let at = self.request()?;
                if !part.is_empty() {
                    self.give_back(at, part.len());
                    came(Came::Data(at, part));
                }
            } else {
                ensure!(self.control.len() + part.len() <= CONTROL_MAX, "a frame is too long");
                self.control.extend_from_slice(part);
            }
            if self.left == 0 {
                self.head_bytes = 0;
                self.end_of_frame(kind, flags, came)?;
            }
        }
        Ok(())
    }

    fn end_of_frame(&mut self, kind: u8, flags: u8, came: &mut impl FnMut(Came<'_>)) -> Result<()> {
        match kind {
            HEADERS if flags & END_STREAM == 0 => {
                ensure!(flags & (END_HEADERS | PADDED) == END_HEADERS, "a head is padded or goes on");
                ensure!(without_table_sizes(&self.control).first() == Some(&0x88), "an answer is not 200");
                came(Came::Answered(self.request()?));
            }
            DATA | HEADERS if flags & END_STREAM != 0 => came(Came::Ended(self.request()?)),
            RST_STREAM => came(Came::Ended(self.request()?)),
            SETTINGS if flags & ACK == 0 => frame(&mut self.to_send, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(&mut self.to_send, PING, ACK, 0, &self.control),
            GOAWAY => bail!("the server goes away: {}", String::from_utf8_lossy(&self.control)),
            DATA | SETTINGS | PING | WINDOW_UPDATE => {}
            other => bail!("a frame of type {other}"),
        }
        Ok(())
    }

    /// The place of the request that the frame is of.
    fn request(&self) -> Result<usize> {
        let [.., a, b, c, d] = self.head;
        let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
        let at = (stream as usize).wrapping_sub(1) / 2;
        ensure!(stream % 2 == 1 && at < self.windows.len(), "a frame of stream {stream}, which is not there");
        Ok(at)
    }

    fn give_back(&mut self, at: usize, bytes: usize) {
        if let Some(again) = self.windows[at].take(bytes) {
            frame(&mut self.to_send, WINDOW_UPDATE, 0, stream_of(at), &again.to_be_bytes());
        }
        if let Some(again) = self.window.take(bytes) {
            frame(&mut self.to_send, WINDOW_UPDATE, 0, 0, &again.to_be_bytes());
        }
    }
}

/// A block of headers behind the updates of the table's size that it may begin with (RFC 7541, 6.3).
fn without_table_sizes(mut block: &[u8]) -> &[u8] {
    while let [first @ 0x20..=0x3f, rest @ ..] = block {
        let goes_on = rest.iter().take_while(|byte| **byte >= 128).count() + 1;
        block = if *first == 0x3f { rest.get(goes_on..).unwrap_or_default() } else { rest };
    }
    block
}

fn stream_of(at: usize) -> u32 {
    2 * u32::try_from(at).unwrap_or(u32::MAX / 4) + 1
}

/// Appends a frame; `body` is shorter than 64 KiB.
fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(body);
}

/// Appends a header whose name is in the static table (RFC 7541, 6.2.2), its value as it is.
fn literal(out: &mut Vec<u8>, name: u8, value: &str) {
    out.push(name);
    // An integer of a prefix of seven bits (5.1).
    let mut length = value.len();
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push((length % 128) as u8 | 128);
            length /= 128;
        }
        out.push(length as u8);
    }
    out.extend_from_slice(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(&mut bytes, SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 250]);
        frame(&mut bytes, HEADERS, END_HEADERS, 3, &[0x3f, 0xe1, 0x1f, 0x88, 0x61]);
        frame(&mut bytes, DATA, 0, 3, b"one");
        frame(&mut bytes, PING, 0, 0, b"12345678");
        frame(&mut bytes, DATA, END_STREAM, 3, b"two");
        bytes
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        for cut in 1..answer().len() {
            let mut frames = Frames::new("a", &["/1".to_owned(), "/2".to_owned()]);
            frames.to_send.clear();
            let (mut said, mut data) = (Vec::new(), Vec::new());
            for part in answer().chunks(cut) {
                let took = frames.take(part, &mut |came| match came {
                    Came::Data(1, part) => data.extend_from_slice(part),
                    other => said.push(format!("{other:?}")),
                });
                took.unwrap();
            }
            assert_eq!((said.join(" ").as_str(), &data[..]), ("Answered(1) Ended(1)", &b"onetwo"[..]));
            let mut acknowledged = Vec::new();
            frame(&mut acknowledged, SETTINGS, ACK, 0, &[]);
            frame(&mut acknowledged, PING, ACK, 0, b"12345678");
            assert_eq!(frames.to_send, acknowledged);
        }
    }

    #[test]
    fn half_of_a_window_is_given_back() {
        let mut frames = Frames::new("a", &["/1".to_owned()]);
        frames.to_send.clear();
        let mut bytes = Vec::new();
        frame(&mut bytes, DATA, 0, 1, &[b'x'; 1 << 14]);
        let half = STREAM_WINDOW / 2;
        for _ in 0..half >> 14 {
            assert!(frames.to_send.is_empty());
            frames.take(&bytes, &mut |_| {}).unwrap();
        }
        let mut given = Vec::new();
        frame(&mut given, WINDOW_UPDATE, 0, 1, &half.to_be_bytes());
        assert_eq!(frames.to_send, given);
    }

    #[test]
    fn what_is_no_answer_to_a_watch_is_an_error() {
        let refused = |kind, flags, stream, body: &[u8]| {
            let mut bytes = Vec::new();
            frame(&mut bytes, kind, flags, stream, body);
            let mut frames = Frames::new("a", &["/1".to_owned()]);
            frames.take(&bytes, &mut |_| {}).unwrap_err().to_string()
        };
        assert_eq!(refused(HEADERS, END_HEADERS, 1, &[0x8d]), "an answer is not 200");
        assert_eq!(refused(DATA, PADDED, 1, &[1, 0, 0]), "data is padded");
        assert_eq!(refused(DATA, 0, 3, b"x"), "a frame of stream 3, which is not there");
        assert_eq!(refused(GOAWAY, 0, 0, b"x"), "the server goes away: x");
        assert_eq!(refused(5, 0, 1, b""), "a frame of type 5");
    }

    #[test]
    fn a_value_of_any_length_is_a_literal() {
        let mut block = Vec::new();
        literal(&mut block, 4, &"x".repeat(127 + 300));
        assert_eq!(&block[..5], &[4, 127, 0x80 | (300 % 128) as u8, 2, b'x']);
    }
}
