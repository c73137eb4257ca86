//! How messages follow each other on a stream: a length (u32, big endian, bytes) and the message's protobuf.
//! It knows no message and no stream.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::message::MESSAGE_BYTES_MAX;

/// Bytes of the length before each message.
pub const LENGTH_BYTES: usize = 4;

/// Why bytes are not a message, or a message not to be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It is larger than both sides agreed on.
    #[error("a message of {size_bytes} bytes is larger than the {MESSAGE_BYTES_MAX} the link takes")]
    TooLarge {
        /// Its encoded size.
        size_bytes: usize,
    },
    /// The bytes are no such message.
    #[error("a message cannot be decoded")]
    Malformed(#[source] prost::DecodeError),
    /// The stream ended within a message.
    #[error("the stream ended within a message")]
    CutShort,
}

/// Appends a message and its length.
pub fn encode_into(message: &impl prost::Message, out: &mut BytesMut) -> Result<(), FrameError> {
    let size_bytes = message.encoded_len();
    if size_bytes > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLarge { size_bytes });
    }
    out.reserve(LENGTH_BYTES + size_bytes);
    // At most MESSAGE_BYTES_MAX, which fits.
    out.put_u32(size_bytes as u32);
    message.encode_raw(out);
    Ok(())
}

/// A message and its length as bytes that can be shared.
pub fn encode(message: &impl prost::Message) -> Result<Bytes, FrameError> {
    let mut out = BytesMut::new();
    encode_into(message, &mut out)?;
    Ok(out.freeze())
}

/// Takes bytes as they come and gives messages back. Holds at most one message and what came with it.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if it is there. After an error the stream is of no more use.
    pub fn take<M: prost::Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let size_bytes = u32::from_be_bytes(*length) as usize;
        if size_bytes > MESSAGE_BYTES_MAX {
            return Err(FrameError::TooLarge { size_bytes });
        }
        if self.buffer.len() < LENGTH_BYTES + size_bytes {
            self.buffer.reserve(LENGTH_BYTES + size_bytes - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        let message = self.buffer.split_to(size_bytes).freeze();
        M::decode(message).map(Some).map_err(FrameError::Malformed)
    }

    /// Says whether the stream may end here.
    pub fn end(&self) -> Result<(), FrameError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(FrameError::CutShort) }
    }

    /// The bytes that follow the last message: on a stream that goes on raw.
    #[must_use]
    pub fn into_rest(self) -> Bytes {
        self.buffer.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Opened, Position};

    fn position(revision: u64) -> Position {
        Position { store_id: Bytes::from_static(&[7; 16]), epoch: 1, revision }
    }

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let mut stream = BytesMut::new();
        for revision in 0..50 {
            encode_into(&position(revision), &mut stream).unwrap();
        }
        for step in [1, 2, 3, 7, 64, stream.len()] {
            let mut decoder = Decoder::new();
            let mut found = Vec::new();
            for piece in stream.chunks(step) {
                decoder.push(piece);
                while let Some(message) = decoder.take::<Position>().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, (0..50).map(position).collect::<Vec<_>>());
            decoder.end().unwrap();
        }
    }

    #[test]
    fn an_empty_message_is_a_message() {
        let mut decoder = Decoder::new();
        decoder.push(&encode(&Opened::default()).unwrap());
        assert_eq!(decoder.take::<Opened>().unwrap(), Some(Opened::default()));
    }

    #[test]
    fn bounds_hold_on_both_sides() {
        let large = Opened { refused: "x".repeat(MESSAGE_BYTES_MAX) };
        assert!(matches!(encode(&large), Err(FrameError::TooLarge { .. })));
        let mut decoder = Decoder::new();
        decoder.push(&(MESSAGE_BYTES_MAX as u32 + 1).to_be_bytes());
        assert!(matches!(decoder.take::<Opened>(), Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn garbage_and_cuts_are_errors() {
        let mut decoder = Decoder::new();
        decoder.push(&[0, 0, 0, 2, 0xff, 0xff]);
        assert!(matches!(decoder.take::<Position>(), Err(FrameError::Malformed(_))));
        let mut decoder = Decoder::new();
        decoder.push(&[0, 0, 0, 2, 0]);
        assert_eq!(decoder.take::<Position>().unwrap(), None);
        assert_eq!(decoder.end(), Err(FrameError::CutShort));
    }

    #[test]
    fn raw_bytes_behind_a_message_are_kept() {
        let mut decoder = Decoder::new();
        decoder.push(&encode(&position(1)).unwrap());
        decoder.push(b"raw");
        assert!(decoder.take::<Position>().unwrap().is_some());
        assert_eq!(&decoder.into_rest()[..], b"raw");
    }
}
