//! Heads of frames: their numbers, and how they are written. It knows no connection.

use bytes::{BufMut, BytesMut};

/// Bytes of every frame's head.
pub(crate) const HEAD_BYTES: usize = 8;
/// Version in control frames.
pub(crate) const VERSION: u16 = 3;
/// Longest payload that a head can name, bytes.
pub(crate) const PAYLOAD_BYTES_MAX: usize = (1 << 24) - 1;
/// Numbers of streams and pings are 31 bits wide.
pub(crate) const NUMBER_MASK: u32 = 0x7fff_ffff;
/// Flag: nothing more comes from the sender on this stream.
pub(crate) const FIN: u8 = 1;
/// Flag of `SYN_STREAM`: the receiver may send nothing.
pub(crate) const UNIDIRECTIONAL: u8 = 2;

pub(crate) const SYN_STREAM: u16 = 1;
pub(crate) const SYN_REPLY: u16 = 2;
pub(crate) const RST_STREAM: u16 = 3;
pub(crate) const SETTINGS: u16 = 4;
pub(crate) const PING: u16 = 6;
pub(crate) const GOAWAY: u16 = 7;
pub(crate) const HEADERS: u16 = 8;
pub(crate) const WINDOW_UPDATE: u16 = 9;

/// Why a stream was broken off (2.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetStatus(pub u32);

impl ResetStatus {
    /// The stream breaks the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// There is no such stream.
    pub const INVALID_STREAM: Self = Self(2);
    /// The stream was not begun.
    pub const REFUSED_STREAM: Self = Self(3);
    /// The stream is wanted no longer.
    pub const CANCEL: Self = Self(5);
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    Control { version: u16, kind: u16, flags: u8, length: usize },
    Data { stream: u32, flags: u8, length: usize },
}

impl Head {
    pub(crate) fn parse(bytes: [u8; HEAD_BYTES]) -> Self {
        let [a, b, c, d, flags, x, y, z] = bytes;
        let length = u32::from_be_bytes([0, x, y, z]) as usize;
        if a & 0x80 == 0 {
            return Self::Data { stream: u32::from_be_bytes([a, b, c, d]), flags, length };
        }
        let version = u16::from_be_bytes([a & 0x7f, b]);
        Self::Control { version, kind: u16::from_be_bytes([c, d]), flags, length }
    }
}

/// Writes a control frame. Its payload is made here and far below [`PAYLOAD_BYTES_MAX`].
pub(crate) fn control(out: &mut BytesMut, kind: u16, flags: u8, payload: &[&[u8]]) {
    let length: usize = payload.iter().map(|part| part.len()).sum();
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_flags_and_length(out, flags, length);
    for part in payload {
        out.put_slice(part);
    }
}

/// Writes a data frame of at most [`PAYLOAD_BYTES_MAX`].
pub(crate) fn data(out: &mut BytesMut, stream: u32, flags: u8, payload: &[u8]) {
    out.put_u32(stream & NUMBER_MASK);
    put_flags_and_length(out, flags, payload.len());
    out.put_slice(payload);
}

fn put_flags_and_length(out: &mut BytesMut, flags: u8, length: usize) {
    debug_assert!(length <= PAYLOAD_BYTES_MAX);
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff;
    out.put_u32(u32::from(flags) << 24 | length);
}
