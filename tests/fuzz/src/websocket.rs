//! What a client sends over a WebSocket, frame by frame as the server reads it, and the channel's frames that it becomes; and
//! what an agent sends, in pieces. The first byte says how long the pieces are.

use std::io::{self, Cursor, Read, Write};

use bytes::BytesMut;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};
use weft_api::channel;

/// Runs it once.
pub fn run(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    of_client(bytes);
    of_agent(bytes, usize::from(*first) + 1);
}

/// A connection whose other end has sent all it will, and takes anything.
struct Wire<'a>(Cursor<&'a [u8]>);

impl Read for Wire<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn of_client(bytes: &[u8]) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(channel::FRAME_BYTES_MAX))
        .max_frame_size(Some(channel::FRAME_BYTES_MAX));
    let mut socket = WebSocket::from_raw_socket(Wire(Cursor::new(bytes)), Role::Server, Some(config));
    while let Ok(message) = socket.read() {
        let (Message::Binary(_) | Message::Text(_)) = &message else { continue };
        let data = message.into_data();
        let Some((channel, payload)) = data.split_first() else { continue };
        let mut framed = BytesMut::from(&channel::frame(*channel, payload)[..]);
        let read = channel::unframe(&mut framed);
        assert_eq!(read, Ok(Some((*channel, bytes::Bytes::copy_from_slice(payload)))));
        assert!(framed.is_empty());
    }
}

fn of_agent(bytes: &[u8], piece_bytes: usize) {
    let mut buffer = BytesMut::new();
    let mut told = 0;
    for piece in bytes.chunks(piece_bytes) {
        buffer.extend_from_slice(piece);
        loop {
            match channel::unframe(&mut buffer) {
                Ok(Some((_, payload))) => told += payload.len() + channel::HEAD_BYTES,
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    assert_eq!(told + buffer.len(), bytes.len(), "every byte is in a frame or waits for one");
}
