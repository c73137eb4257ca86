//! A stream of raw bytes through the link: what `exec`, logs and dialled connections run over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Raw bytes both ways. `shutdown` closes the way out; dropping it closes both.
#[derive(Debug)]
pub struct ByteStream {
    send: SendStream,
    recv: RecvStream,
    /// Bytes that came together with the messages before them.
    head: Bytes,
}

impl ByteStream {
    pub(super) fn new(send: SendStream, recv: RecvStream, head: Bytes) -> Self {
        Self { send, recv, head }
    }

    /// Waits until the peer takes nothing more: it has dropped its end, or the link is gone. Not for the end of its own bytes,
    /// which is the reader's to see.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let stopped = self.send.stopped();
        async move {
            if let Ok(None) = stopped.await {
                // Everything was sent and has arrived: nobody is missing.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ends both ways with an error the peer sees, as a TCP reset.
    pub fn reset(mut self) {
        super::framed::reset(&mut self.send, &mut self.recv);
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.head.has_remaining() {
            let taken = self.head.len().min(out.remaining());
            out.put_slice(&self.head.split_to(taken));
            return Poll::Ready(Ok(()));
        }
        AsyncRead::poll_read(Pin::new(&mut self.recv), cx, out)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}
