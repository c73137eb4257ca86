//! Connections to the server: TLS, HTTP/1.1 or HTTP/2 with the windows of client-go, and one request at a time on a lane.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::credentials::Credentials;
use crate::options::Http;
use crate::raw;

/// Read from a socket at once.
const READ_BYTES: usize = 32 << 10;
/// What Go's HTTP/2 client lets a server send unasked, bytes: of one stream and of a connection.
pub(crate) const STREAM_WINDOW: u32 = 4 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 1 << 30;
/// Handshakes at once.
const HANDSHAKES_MAX: usize = 32;
/// The server's certificate has this name at whatever address.
pub(crate) const SERVER_NAME: &str = "weft-control";

/// Where connections go.
#[derive(Clone)]
pub(crate) struct Target {
    address: Arc<str>,
    tls: Arc<ClientConfig>,
    http: Http,
}

impl Target {
    /// The server of a kubeconfig.
    pub(crate) fn read(kubeconfig: &Path, http: Http) -> Result<Self> {
        let mut credentials = Credentials::read(kubeconfig)?;
        credentials.tls.alpn_protocols = match http {
            Http::One => vec![b"http/1.1".to_vec()],
            Http::Two => vec![b"h2".to_vec()],
        };
        Ok(Self { address: credentials.address.into(), tls: Arc::new(credentials.tls), http })
    }

    pub(crate) const fn http(&self) -> Http {
        self.http
    }

    /// One connection and its first lane.
    pub(crate) async fn connect(&self) -> Result<Lane> {
        let tcp = TcpStream::connect(&*self.address)
            .await
            .with_context(|| format!("{} cannot be reached", self.address))?;
        tcp.set_nodelay(true)?;
        // A record is read by one call.
        let tcp = BufReader::with_capacity(READ_BYTES, tcp);
        let tls = TlsConnector::from(self.tls.clone());
        let stream = TokioIo::new(tls.connect(ServerName::try_from(SERVER_NAME)?, tcp).await?);
        let sender = match self.http {
            Http::One => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                Sender::One(sender)
            }
            Http::Two => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .handshake(stream)
                    .await?;
                tokio::spawn(connection);
                Sender::Two(sender)
            }
        };
        Ok(Lane { address: self.address.clone(), sender })
    }

    /// A connection of HTTP/2 that asks for each path and is read with as little as it takes.
    pub(crate) async fn raw(&self, paths: &[String]) -> Result<raw::Connection> {
        raw::Connection::begin(&self.address, self.tls.clone(), paths).await
    }

    /// Many connections, so many lanes each.
    pub(crate) async fn lanes(&self, connections: usize, streams: usize) -> Result<Vec<Lane>> {
        ensure!(connections > 0 && streams > 0, "at least one connection and one request at a time");
        let mut lanes = Vec::with_capacity(connections * streams);
        let mut open = JoinSet::new();
        for started in 0..connections {
            if started >= HANDSHAKES_MAX {
                take(&mut open, streams, &mut lanes).await?;
            }
            let target = self.clone();
            open.spawn(async move { target.connect().await });
        }
        while !open.is_empty() {
            take(&mut open, streams, &mut lanes).await?;
        }
        Ok(lanes)
    }
}

async fn take(open: &mut JoinSet<Result<Lane>>, streams: usize, lanes: &mut Vec<Lane>) -> Result<()> {
    let lane = open.join_next().await.context("no connection is being opened")???;
    for _ in 1..streams {
        lanes.push(lane.beside()?);
    }
    lanes.push(lane);
    Ok(())
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// One request at a time, on a connection that HTTP/2 lets others share.
pub(crate) struct Lane {
    address: Arc<str>,
    sender: Sender,
}

impl Lane {
    /// Another lane on the same connection.
    pub(crate) fn beside(&self) -> Result<Self> {
        match &self.sender {
            Sender::One(_) => bail!("a connection of HTTP/1.1 has one request at a time"),
            Sender::Two(sender) => {
                Ok(Self { address: self.address.clone(), sender: Sender::Two(sender.clone()) })
            }
        }
    }

    /// Sends a request; the answer's head, whatever it says.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(method);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::new(body);
        Ok(match &mut self.sender {
            Sender::One(sender) => {
                let request = request.uri(path).header(header::HOST, &*self.address).body(body)?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Two(sender) => {
                let request = request.uri(format!("https://{}{path}", self.address)).body(body)?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
        })
    }

    /// Sends a request and reads the answer to its end; gives its bytes' number.
    ///
    /// # Errors
    /// Another status than the one that is expected, with the server's words.
    pub(crate) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        expected: StatusCode,
    ) -> Result<usize> {
        let mut answer = self.send(method, path, body).await?;
        if answer.status() != expected {
            bail!("{path}: {}", complaint(answer).await);
        }
        let mut bytes = 0;
        while let Some(frame) = answer.body_mut().frame().await {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(bytes)
    }

    /// GET of everything.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        let mut answer = self.send(Method::GET, path, Bytes::new()).await?;
        if answer.status() != StatusCode::OK {
            bail!("{path}: {}", complaint(answer).await);
        }
        let mut all = Vec::new();
        while let Some(frame) = answer.body_mut().frame().await {
            if let Some(data) = frame?.data_ref() {
                all.extend_from_slice(data);
            }
        }
        Ok(all)
    }

    /// Creates an object, unless it is there.
    pub(crate) async fn ensure(&mut self, path: &str, body: Bytes) -> Result<()> {
        let answer = self.send(Method::POST, path, body).await?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::CONFLICT => {
                answer.into_body().collect().await?;
                Ok(())
            }
            _ => bail!("{path}: {}", complaint(answer).await),
        }
    }
}

/// Status and body of a refusal, in a line.
pub(crate) async fn complaint(answer: Response<Incoming>) -> String {
    let status = answer.status();
    let body =
        answer.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    format!("{status}: {}", String::from_utf8_lossy(&body[..body.len().min(500)]))
}
