//! `weft-control token create`: talks to the running server as its admin, by the kubeconfig in the data directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Deserialize;
use serde_json::Value;

use crate::authn::bootstrap;
use crate::clock;
use crate::config::{self, TokenCreate};

/// How long the server may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest answer read, bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What is to be done.
pub(crate) struct Plan {
    kubeconfig: PathBuf,
    ttl: Duration,
}

/// What is wrong with the settings of `token create`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("--ttl {0:?}: is not a time like 90s, 15m or 24h, or longer than a year")]
    Ttl(String),
}

/// Checks the settings.
///
/// # Errors
/// One of them cannot be used.
pub(crate) fn plan(create: &TokenCreate) -> Result<Plan, PlanError> {
    const TTL_MAX: Duration = Duration::from_secs(366 * 86_400);
    let ttl = config::duration(&create.ttl)
        .filter(|t| !t.is_zero() && *t <= TTL_MAX)
        .ok_or_else(|| PlanError::Ttl(create.ttl.clone()))?;
    let kubeconfig = create.kubeconfig.clone().unwrap_or_else(|| create.data_dir.join("admin.kubeconfig"));
    Ok(Plan { kubeconfig, ttl })
}

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

/// Makes a token known to the server; answers the token.
///
/// # Errors
/// The kubeconfig is not there, or the server does not answer or refuses.
pub(crate) async fn create(plan: Plan) -> anyhow::Result<String> {
    let path = plan.kubeconfig.display().to_string();
    let text = std::fs::read_to_string(&plan.kubeconfig).with_context(|| {
        format!("{path} cannot be read; is this the machine of the control plane (--data-dir)?")
    })?;
    let read: Kubeconfig =
        serde_saphyr::from_str(&text).with_context(|| format!("{path} is not understood"))?;
    let cluster =
        read.clusters.into_iter().find_map(|c| c.cluster).context("the kubeconfig names no cluster")?;
    let user = read.users.into_iter().find_map(|u| u.user).context("the kubeconfig names no user")?;
    let ca_pem = decoded(&cluster.certificate_authority_data)?;
    let ca = CertificateDer::from_pem_slice(&ca_pem).context("the kubeconfig's CA is not readable")?;
    let token = bootstrap::random(weft_link::join::ca_sha256(&ca));
    let secret = bootstrap::secret_object(&token, clock::now() + plan.ttl);
    let url = cluster.server.trim_start_matches("https://").trim_end_matches('/').to_owned();
    let done = tokio::time::timeout(ANSWER_TIME_MAX, post(&url, ca, &user, secret)).await;
    let (code, answer) =
        done.with_context(|| format!("the control plane at {url} does not answer"))?.with_context(|| {
            format!("the control plane at {url} cannot be reached; is `weft-control serve` running?")
        })?;
    let message = answer["message"].as_str().unwrap_or("no reason was given");
    anyhow::ensure!(code == StatusCode::CREATED, "the control plane refused: {message}");
    Ok(token.to_text())
}

fn decoded(text: &str) -> anyhow::Result<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).context("the kubeconfig holds damaged base64")
}

async fn post(
    url: &str,
    ca: CertificateDer<'static>,
    user: &UserEntry,
    secret: Value,
) -> anyhow::Result<(StatusCode, Value)> {
    let certificate = CertificateDer::from_pem_slice(&decoded(&user.client_certificate_data)?)?;
    let key = PrivateKeyDer::from_pem_slice(&decoded(&user.client_key_data)?)?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)?;
    let stream = tokio::net::TcpStream::connect(url).await?;
    // The certificate has this name whatever address the server is reached at.
    let name = ServerName::try_from("weft-control")?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post("/api/v1/namespaces/kube-system/secrets")
        .header(http::header::HOST, url)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(secret.to_string())))?;
    let response = sender.send_request(request).await?;
    let code = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|e| anyhow::anyhow!("the answer cannot be read: {e}"))?;
    Ok((code, serde_json::from_slice(&body.to_bytes())?))
}
