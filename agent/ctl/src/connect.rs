//! One HTTP/1.1 connection to an agent: over its Unix socket, or through the API server's node proxy.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::Target;
use crate::kubeconfig::{Kubeconfig, KubeconfigError};

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Largest answer that is read as a whole, bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A connection to one agent.
pub(crate) struct Agent {
    sender: SendRequest<BoxBody<Bytes, BoxError>>,
    prefix: String,
    host: String,
    bearer: Option<String>,
}

/// Why the agent was not reached, or would not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error(
        "no agent answers at {socket}: is weft-agent running on this machine, and are you root? (--node NAME asks another one)"
    )]
    Socket {
        socket: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("--node needs --kubeconfig or KUBECONFIG, to reach the control plane")]
    NoKubeconfig,
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    #[error("the control plane at {host} cannot be reached")]
    Api {
        host: String,
        #[source]
        source: std::io::Error,
    },
    #[error("connecting to {host} took longer than {} s", CONNECT_MAX.as_secs())]
    Slow { host: String },
    #[error("the connection to {host} broke")]
    Broken {
        host: String,
        #[source]
        source: BoxError,
    },
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
    #[error("the answer from {host} is not what this agentctl understands; is the agent of another version?")]
    Unreadable {
        host: String,
        #[source]
        source: serde_json::Error,
    },
}

impl Agent {
    /// Connects as the command line asks.
    pub(crate) async fn connect(target: &Target) -> Result<Self, AgentError> {
        match &target.node {
            None => Self::local(&target.socket).await,
            Some(node) => {
                let path = target.kubeconfig.as_ref().ok_or(AgentError::NoKubeconfig)?;
                Self::remote(node, &Kubeconfig::read(path)?).await
            }
        }
    }

    async fn local(socket: &std::path::Path) -> Result<Self, AgentError> {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|source| AgentError::Socket { socket: socket.to_owned(), source })?;
        Self::over(stream, "agent".to_owned(), String::new(), None).await
    }

    async fn remote(node: &str, config: &Kubeconfig) -> Result<Self, AgentError> {
        let host = config.authority();
        let tls = config.tls()?;
        let connect = async {
            let stream = TcpStream::connect((config.host.as_str(), config.port)).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(config.host.clone()).map_err(std::io::Error::other)?;
            tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await
        };
        let stream = timeout(CONNECT_MAX, connect)
            .await
            .map_err(|_| AgentError::Slow { host: host.clone() })?
            .map_err(|source| AgentError::Api { host: host.clone(), source })?;
        let prefix = format!("/api/v1/nodes/{node}/proxy");
        Self::over(stream, host, prefix, config.token.clone()).await
    }

    async fn over<S>(
        stream: S,
        host: String,
        prefix: String,
        bearer: Option<String>,
    ) -> Result<Self, AgentError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|source| AgentError::Broken { host: host.clone(), source: source.into() })?;
        tokio::spawn(connection);
        Ok(Self { sender, prefix, host, bearer })
    }

    /// Asks, and reads the whole JSON answer.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, AgentError> {
        let response = self.send(Method::GET, path, Full::new(Bytes::new())).await?;
        self.read(response).await
    }

    /// Sends a body, and reads the whole JSON answer.
    pub(crate) async fn post<T, B>(&mut self, path: &str, body: B) -> Result<T, AgentError>
    where
        T: DeserializeOwned,
        B: Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<BoxError>,
    {
        let response = self.send(Method::POST, path, body).await?;
        self.read(response).await
    }

    /// Asks, and leaves the answer's body to the caller.
    pub(crate) async fn stream(&mut self, path: &str) -> Result<Incoming, AgentError> {
        Ok(self.send(Method::GET, path, Full::new(Bytes::new())).await?.into_body())
    }

    /// An error of a body that [`Agent::stream`] gave out.
    pub(crate) fn broken(&self, source: impl Into<BoxError>) -> AgentError {
        AgentError::Broken { host: self.host.clone(), source: source.into() }
    }

    async fn send<B>(&mut self, method: Method, path: &str, body: B) -> Result<Response<Incoming>, AgentError>
    where
        B: Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<BoxError>,
    {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(http::header::HOST, &self.host)
            .header(http::header::USER_AGENT, concat!("agentctl/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.bearer {
            request = request.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(body.map_err(Into::into).boxed()).map_err(|source| self.broken(source))?;
        let response = self.sender.send_request(request).await.map_err(|source| self.broken(source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.whole(response).await?;
        Err(AgentError::Refused { status, message: refusal(status, &body) })
    }

    async fn read<T: DeserializeOwned>(&self, response: Response<Incoming>) -> Result<T, AgentError> {
        let body = self.whole(response).await?;
        serde_json::from_slice(&body)
            .map_err(|source| AgentError::Unreadable { host: self.host.clone(), source })
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Bytes, AgentError> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        Ok(body.collect().await.map_err(|source| self.broken(source))?.to_bytes())
    }
}

/// The message of a Kubernetes Status, or the body as it is.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Status {
        message: String,
    }
    match serde_json::from_slice::<Status>(body) {
        Ok(status) => status.message,
        Err(_) if body.is_empty() => format!("the agent answered {status}"),
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}
