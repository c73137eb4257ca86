//! A connection that says nothing is closed: until the first bytes of a request are there, nobody else sets it a time.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// As long as HTTP/2's preface, which tells the two versions apart; the shortest HTTP/1.1 request is longer.
const FIRST_BYTES: usize = 24;

/// A stream whose first bytes must come in time.
pub(super) struct Patience<S> {
    stream: S,
    /// None once they have come.
    waits: Option<Pin<Box<Sleep>>>,
    read_bytes: usize,
}

impl<S> Patience<S> {
    pub(super) fn new(stream: S, time_max: Duration) -> Self {
        Self { stream, waits: Some(Box::pin(tokio::time::sleep(time_max))), read_bytes: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patience<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, out);
        self.read_bytes = self.read_bytes.saturating_add(out.filled().len() - before);
        if self.read_bytes >= FIRST_BYTES {
            self.waits = None;
        }
        if read.is_pending()
            && let Some(waits) = &mut self.waits
            && waits.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patience<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const TIME: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn silence_ends_and_speech_does_not() {
        let (_silent, server) = tokio::io::duplex(64);
        let mut buffer = [0; 64];
        let refused = Patience::new(server, TIME).read(&mut buffer).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);

        let (mut slow, server) = tokio::io::duplex(64);
        let mut server = Patience::new(server, TIME);
        slow.write_all(b"PRI").await.unwrap();
        assert_eq!(server.read(&mut buffer).await.unwrap(), 3);
        assert!(server.read(&mut buffer).await.is_err(), "a part of the preface is not enough");

        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Patience::new(server, TIME);
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert_eq!(server.read(&mut buffer).await.unwrap(), 27);
        let later = tokio::time::timeout(4 * TIME, server.read(&mut buffer)).await;
        assert!(later.is_err(), "from then on HTTP has its own times");
    }
}
