//! A question to a node's agent: a GET of its HTTP API, on a stream of the link of its own.

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::{DialError, Nodes};

/// Why there is no answer. The text goes to the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("node {node:?} broke off: {source}")]
    Broken { node: String, source: hyper::Error },
    #[error("node {node:?} has no answer: {status}")]
    Refused { node: String, status: StatusCode },
    #[error("node {node:?} has no answer that can be read: {source}")]
    Unreadable { node: String, source: Box<dyn std::error::Error + Send + Sync> },
}

impl Nodes {
    /// The body of what the agent answers with 200, of at most so many bytes. It waits for as long as the agent does.
    ///
    /// # Errors
    /// The node has no session, and whatever else comes instead of such a body.
    pub(super) async fn ask_agent(
        &self,
        node: &str,
        path: &str,
        bytes_max: usize,
    ) -> Result<Bytes, AskError> {
        let stream = self.agent(node).await?;
        let broken = |source| AskError::Broken { node: node.to_owned(), source };
        let unreadable = |source| AskError::Unreadable { node: node.to_owned(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
                .await
                .map_err(broken)?;
        // Ends with the answer, or with whoever waits for it.
        let mut connections = JoinSet::new();
        connections.spawn(connection);
        let request = Request::get(path).header(HOST, "agent").body(Empty::new());
        let request = request.map_err(|error| unreadable(error.into()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(AskError::Refused { node: node.to_owned(), status });
        }
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        Ok(body.map_err(unreadable)?.to_bytes())
    }
}
