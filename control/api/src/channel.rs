//! The frames in which the channels of an exec or attach go between the server and an agent: `[u8 channel][u32 length, big
//! endian][bytes]`. It knows nothing of what the channels are for.

use bytes::{Buf, Bytes, BytesMut};

/// Longest frame either side may send, bytes.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 5;

/// A frame says that it is longer than frames may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {length} bytes is longer than {FRAME_BYTES_MAX}")]
pub struct TooLong {
    /// What it says.
    pub length: usize,
}

/// A frame; its payload is at most [`FRAME_BYTES_MAX`] long, which the caller keeps.
#[must_use]
pub fn frame(channel: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + payload.len());
    out.push(channel);
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Takes the next frame out of what has come; `None` when more bytes are wanted.
///
/// # Errors
/// The stream is broken.
pub fn unframe(buffer: &mut BytesMut) -> Result<Option<(u8, Bytes)>, TooLong> {
    if buffer.len() < HEAD_BYTES {
        return Ok(None);
    }
    let length = u32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(TooLong { length });
    }
    if buffer.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    let channel = buffer[0];
    buffer.advance(HEAD_BYTES);
    Ok(Some((channel, buffer.split_to(length).freeze())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_whole_however_they_are_cut() {
        let bytes = [frame(1, b"out"), frame(255, &[0]), frame(3, b"")].concat();
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for byte in bytes {
            buffer.extend_from_slice(&[byte]);
            while let Some(frame) = unframe(&mut buffer).unwrap() {
                frames.push(frame);
            }
        }
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[0], (1, Bytes::from_static(b"out")));
        assert_eq!(frames[1].0, 255);
        let mut endless = BytesMut::from(&[1, 255, 255, 255, 255][..]);
        assert_eq!(unframe(&mut endless), Err(TooLong { length: u32::MAX as usize }));
    }
}
