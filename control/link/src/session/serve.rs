//! A session as the control plane holds it.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::timeout;

use super::bytes::ByteStream;
use super::framed::{FrameReader, FrameWriter, StreamError};
use super::{ANSWER_TIMEOUT, ANSWER_TIMEOUT_MS, Link};
use crate::message::{Open, Opened, Request, Response, StateFrame, StatusFrame, open::To};

/// One node's session. Its parts may go to different tasks; the connection lives until [`Link::close`], its
/// loss, or the drop of the last [`Link`].
#[derive(Debug)]
pub struct ServerSession {
    /// The node.
    pub node: String,
    /// State, downward.
    pub state: FrameWriter<StateFrame>,
    /// Status, upward. The stream begins with the agent's first report.
    pub status: FrameReader<StatusFrame>,
    /// What the agent asks.
    pub requests: FrameReader<Request>,
    /// Where the answers go.
    pub responses: Responder,
    /// Opens byte streams to the node.
    pub opener: Opener,
    /// The connection.
    pub link: Link,
}

impl ServerSession {
    pub(super) async fn begin(
        connection: quinn::Connection,
        node: String,
        requests: FrameReader<Request>,
        responses: FrameWriter<Response>,
    ) -> Result<Self, StreamError> {
        let state = connection.open_uni().await.map_err(StreamError::Lost)?;
        // What the agent's programs and reports wait for goes before what people stream.
        let _ = state.set_priority(1);
        Ok(Self {
            node,
            state: FrameWriter::new(state),
            status: FrameReader::expected(connection.clone()),
            requests,
            responses: Responder { writer: Arc::new(Mutex::new(responses)) },
            opener: Opener { connection: connection.clone() },
            link: Link::new(connection),
        })
    }
}

/// Answers requests, in any order. Clones are the same.
#[derive(Clone, Debug)]
pub struct Responder {
    writer: Arc<Mutex<FrameWriter<Response>>>,
}

impl Responder {
    /// Sends an answer; its id is the request's.
    pub async fn answer(&self, response: &Response) -> Result<(), StreamError> {
        self.writer.lock().await.send(response).await
    }
}

/// Why a byte stream was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The node refused; its words.
    #[error("the node refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The node did not answer.
    #[error("the node did not answer within {ANSWER_TIMEOUT_MS} ms")]
    TimedOut,
    /// The connection.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// Opens byte streams to a node. Clones are the same.
#[derive(Clone, Debug)]
pub struct Opener {
    connection: quinn::Connection,
}

impl Opener {
    /// Opens a stream to the agent's own API, or to an address as the node sees it.
    pub async fn open(&self, to: To) -> Result<ByteStream, OpenError> {
        timeout(ANSWER_TIMEOUT, self.open_unbounded(to)).await.map_err(|_| OpenError::TimedOut)?
    }

    async fn open_unbounded(&self, to: To) -> Result<ByteStream, OpenError> {
        let (send, recv) = self.connection.open_bi().await.map_err(StreamError::Lost)?;
        let mut writer = FrameWriter::new(send);
        writer.send(&Open { to: Some(to) }).await?;
        let mut reader = FrameReader::<Opened>::new(recv);
        let opened = reader.next().await?.ok_or(StreamError::Closed)?;
        if !opened.refused.is_empty() {
            return Err(OpenError::Refused { reason: opened.refused });
        }
        let (recv, head) = reader.into_parts().ok_or(StreamError::Closed)?;
        Ok(ByteStream::new(writer.into_stream(), recv, head))
    }
}
