//! The running server as its admin speaks to it, by the kubeconfig in the data directory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Deserialize;
use serde_json::Value;

/// How long the server may take to begin its answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest refusal read, bytes.
const REFUSAL_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct Kubeconfig {
    clusters: Vec<Named>,
    users: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    cluster: Option<ClusterEntry>,
    #[serde(default)]
    user: Option<UserEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    certificate_authority_data: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserEntry {
    client_certificate_data: String,
    client_key_data: String,
}

/// Who the admin is, and where the server.
pub(crate) struct Admin {
    address: String,
    pub(crate) ca: CertificateDer<'static>,
    user: UserEntry,
}

impl Admin {
    /// Reads a kubeconfig.
    ///
    /// # Errors
    /// It is not there, or not understood.
    pub(crate) fn read(kubeconfig: &Path) -> anyhow::Result<Self> {
        let path = kubeconfig.display();
        let text = std::fs::read_to_string(kubeconfig).with_context(|| {
            format!("{path} cannot be read; is this the machine of the control plane (--data-dir)?")
        })?;
        let read: Kubeconfig =
            serde_saphyr::from_str(&text).with_context(|| format!("{path} is not understood"))?;
        let cluster =
            read.clusters.into_iter().find_map(|c| c.cluster).context("the kubeconfig names no cluster")?;
        let user = read.users.into_iter().find_map(|u| u.user).context("the kubeconfig names no user")?;
        let ca_pem = decoded(&cluster.certificate_authority_data)?;
        let ca = CertificateDer::from_pem_slice(&ca_pem).context("the kubeconfig's CA is not readable")?;
        let address = cluster.server.trim_start_matches("https://").trim_end_matches('/').to_owned();
        Ok(Self { address, ca, user })
    }

    /// Sends one request; what the server says.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn ask(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        let address = &self.address;
        let done = tokio::time::timeout(ANSWER_TIME_MAX, self.send(request)).await;
        done.with_context(|| format!("the control plane at {address} does not answer"))?.with_context(|| {
            format!("the control plane at {address} cannot be reached; is `weft-control serve` running?")
        })
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        let certificate = CertificateDer::from_pem_slice(&decoded(&self.user.client_certificate_data)?)?;
        let key = PrivateKeyDer::from_pem_slice(&decoded(&self.user.client_key_data)?)?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.ca.clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        let stream = tokio::net::TcpStream::connect(&self.address).await?;
        // The certificate has this name whatever address the server is reached at.
        let name = ServerName::try_from("weft-control")?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        request.headers_mut().insert(http::header::HOST, HeaderValue::from_str(&self.address)?);
        Ok(sender.send_request(request).await?)
    }
}

/// A refusal's own words.
pub(crate) async fn refusal(answer: Response<Incoming>) -> String {
    let code = answer.status();
    let body = Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect().await;
    let status: Option<Value> = body.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
    let message =
        status.as_ref().and_then(|status| status["message"].as_str()).unwrap_or("no reason was given");
    format!("the control plane refused ({code}): {message}")
}

fn decoded(text: &str) -> anyhow::Result<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).context("the kubeconfig holds damaged base64")
}
