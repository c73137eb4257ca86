//! Messages on QUIC streams, one type in each direction.

use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use quinn::{ConnectionError, RecvStream, SendStream, VarInt};

use super::SEND_STALL_MS;
use crate::frame::{Decoder, FrameError, encode_into};

/// About how many bytes are taken from or given to QUIC at once.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Why a stream of messages ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection is gone.
    #[error("the connection has ended: {}", describe(.0))]
    Lost(ConnectionError),
    /// The peer does not want this stream any more.
    #[error("the peer ended the stream with code {code}")]
    Stopped {
        /// The peer's code.
        code: u64,
    },
    /// What came is no message, or what was to go is too large.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer takes nothing any more.
    #[error("the peer took nothing for {SEND_STALL_MS} ms")]
    Stalled,
    /// The stream was closed on this side.
    #[error("the stream is closed")]
    Closed,
}

/// The end of a connection, for people.
pub(super) fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) if close.reason.is_empty() => "closed by the peer".into(),
        ConnectionError::ApplicationClosed(close) => {
            format!("closed by the peer: {}", String::from_utf8_lossy(&close.reason))
        }
        ConnectionError::TimedOut => "no answer any more".into(),
        ConnectionError::LocallyClosed => "closed here".into(),
        ConnectionError::Reset => "the peer was started again".into(),
        other => other.to_string(),
    }
}

impl From<quinn::WriteError> for StreamError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::Stopped(code) => Self::Stopped { code: code.into_inner() },
            quinn::WriteError::ConnectionLost(error) => Self::Lost(error),
            quinn::WriteError::ClosedStream | quinn::WriteError::ZeroRttRejected => Self::Closed,
        }
    }
}

impl From<quinn::ReadError> for StreamError {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::Reset(code) => Self::Stopped { code: code.into_inner() },
            quinn::ReadError::ConnectionLost(error) => Self::Lost(error),
            _ => Self::Closed,
        }
    }
}

/// Where messages come from.
#[derive(Debug)]
enum Source {
    Open(RecvStream),
    /// The peer's first unidirectional stream, which is there once the peer has sent something.
    Expected(quinn::Connection),
}

/// Reads messages `M`.
#[derive(Debug)]
pub struct FrameReader<M> {
    source: Source,
    decoder: Decoder,
    kind: PhantomData<fn() -> M>,
}

impl<M: prost::Message + Default> FrameReader<M> {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { source: Source::Open(stream), decoder: Decoder::new(), kind: PhantomData }
    }

    pub(super) fn expected(connection: quinn::Connection) -> Self {
        Self { source: Source::Expected(connection), decoder: Decoder::new(), kind: PhantomData }
    }

    /// The next message; `None` when the peer has closed the stream. May be cancelled.
    pub async fn next(&mut self) -> Result<Option<M>, StreamError> {
        loop {
            if let Some(message) = self.decoder.take()? {
                return Ok(Some(message));
            }
            let stream = match &mut self.source {
                Source::Open(stream) => stream,
                Source::Expected(connection) => {
                    self.source = Source::Open(connection.accept_uni().await.map_err(StreamError::Lost)?);
                    continue;
                }
            };
            match stream.read_chunk(CHUNK_BYTES_MAX, true).await? {
                Some(chunk) => self.decoder.push(&chunk.bytes),
                None => {
                    self.decoder.end()?;
                    return Ok(None);
                }
            }
        }
    }

    /// The same stream when other messages follow.
    pub(super) fn of<N>(self) -> FrameReader<N> {
        FrameReader { source: self.source, decoder: self.decoder, kind: PhantomData }
    }

    /// The stream and what was read of it beyond the last message.
    pub(super) fn into_parts(self) -> Option<(RecvStream, Bytes)> {
        match self.source {
            Source::Open(stream) => Some((stream, self.decoder.into_rest())),
            Source::Expected(_) => None,
        }
    }
}

/// Writes messages `M`.
#[derive(Debug)]
pub struct FrameWriter<M> {
    stream: SendStream,
    /// What is encoded and not yet taken; not empty only after a send that was cancelled or failed.
    pending: BytesMut,
    kind: PhantomData<fn(M)>,
}

impl<M: prost::Message> FrameWriter<M> {
    pub(super) fn new(stream: SendStream) -> Self {
        Self { stream, pending: BytesMut::new(), kind: PhantomData }
    }

    /// Sends a message. Answers when QUIC has taken it, which says nothing about its arrival.
    pub async fn send(&mut self, message: &M) -> Result<(), StreamError> {
        encode_into(message, &mut self.pending)?;
        self.flush().await
    }

    /// Sends messages that are encoded already, lengths included (see [`crate::sender::Sender`]).
    pub async fn send_encoded(&mut self, frames: impl IntoIterator<Item = Bytes>) -> Result<(), StreamError> {
        for frame in frames {
            self.pending.extend_from_slice(&frame);
            if self.pending.len() >= CHUNK_BYTES_MAX {
                self.flush().await?;
            }
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), StreamError> {
        while !self.pending.is_empty() {
            let taken =
                tokio::time::timeout(Duration::from_millis(SEND_STALL_MS), self.stream.write(&self.pending));
            let taken = taken.await.map_err(|_| StreamError::Stalled)??;
            self.pending.advance(taken);
        }
        Ok(())
    }

    /// Ends the stream; the peer reads `None` after the last message.
    pub fn finish(&mut self) {
        // An error says the stream is closed already.
        let _ = self.stream.finish();
    }

    /// Ends the stream and waits a little until the peer has all of it.
    pub(super) async fn finish_and_linger(&mut self) {
        self.finish();
        let _ = tokio::time::timeout(super::LINGER, self.stream.stopped()).await;
    }

    pub(super) fn into_stream(self) -> SendStream {
        self.stream
    }
}

/// Ends both halves of a stream with an error.
pub(super) fn reset(send: &mut SendStream, recv: &mut RecvStream) {
    // Errors say that a half is closed already.
    let _ = send.reset(VarInt::from_u32(1));
    let _ = recv.stop(VarInt::from_u32(1));
}
