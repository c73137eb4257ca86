//! Pulls images from registries, every byte checked against its digest.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use oci_client::Client;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use tokio::io::AsyncWrite;
use tokio::sync::Semaphore;

use super::reference::{ReferenceError, is_loopback, parse};
use super::store::uuid_like;
use super::{Image, ImageStore, StoreError};

/// How long a registry may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Why an image was not pulled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error(transparent)]
    Name(#[from] ReferenceError),
    #[error("{name} is not in the registry: {reason}")]
    NotFound { name: String, reason: String },
    #[error("registry {registry} refuses access to {name}; is an image pull secret missing or wrong?")]
    Denied { registry: String, name: String },
    #[error("registry {registry} failed: {}", chain(source))]
    Registry {
        registry: String,
        #[source]
        source: OciDistributionError,
    },
    #[error("image {name} has {layers} layers and {diff_ids} layer digests")]
    Shape { name: String, layers: usize, diff_ids: usize },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("image store cannot spool: {0}")]
    Spool(#[from] std::io::Error),
    #[error("the pull was interrupted")]
    Interrupted,
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Who we are to a registry.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    /// User and password by registry host.
    pub(crate) by_registry: HashMap<String, (String, String)>,
}

/// Pulls, a bounded number at a time, and one at a time per name.
pub(crate) struct Puller {
    store: Arc<ImageStore>,
    insecure: Vec<String>,
    slots: Semaphore,
    names: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Puller {
    pub(crate) fn new(store: Arc<ImageStore>, insecure: Vec<String>, pulls_max: usize) -> Self {
        // Another part of the process may have chosen already; then that one serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { store, insecure, slots: Semaphore::new(pulls_max.max(1)), names: Mutex::default() }
    }

    /// Pulls `name`; with `if_missing` only when it is not here.
    pub(crate) async fn pull(
        &self,
        name: &str,
        credentials: &Credentials,
        if_missing: bool,
    ) -> Result<Image, PullError> {
        let reference = parse(name)?;
        let full = reference.whole();
        let gate = {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.retain(|_, gate| Arc::strong_count(gate) > 1);
            names.entry(full.clone()).or_default().clone()
        };
        let _one_per_name = gate.lock().await;
        if if_missing && let Some(image) = self.store.find(&full) {
            return Ok(image);
        }
        let _slot = self.slots.acquire().await.map_err(|_| PullError::Interrupted)?;
        let registry = reference.resolve_registry().to_owned();
        let failed = |source: OciDistributionError| refine(&registry, &full, source);
        let client = self.client(&registry).map_err(failed)?;
        let auth = match credentials
            .by_registry
            .get(&registry)
            .or_else(|| credentials.by_registry.get(reference.registry()))
        {
            Some((user, password)) => RegistryAuth::Basic(user.clone(), password.clone()),
            None => RegistryAuth::Anonymous,
        };
        let (manifest, digest, config) =
            client.pull_manifest_and_config(&reference, &auth).await.map_err(failed)?;
        let diff_ids = self.store.layers_of(config.as_bytes())?;
        if manifest.layers.len() != diff_ids.len() {
            return Err(PullError::Shape {
                name: full,
                layers: manifest.layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        let _pins = self.store.pin(&diff_ids);
        for (layer, diff_id) in manifest.layers.iter().zip(&diff_ids) {
            if self.store.has_layer(diff_id) {
                continue;
            }
            let path = self.store.spool().join(format!("blob-{}", uuid_like()));
            let spooled = Spooled(path);
            let file = tokio::fs::File::create(&spooled.0).await?;
            let left = u64::try_from(layer.size).unwrap_or(0).min(self.store.bytes_max());
            client.pull_blob(&reference, layer, Bounded { inner: file, left }).await.map_err(failed)?;
            let (store, diff_id) = (self.store.clone(), diff_id.clone());
            let unpacked = tokio::task::spawn_blocking(move || {
                let file = std::fs::File::open(&spooled.0).map_err(PullError::Spool)?;
                store.add_layer(&diff_id, file).map_err(PullError::Store)
            });
            unpacked.await.map_err(|_| PullError::Interrupted)??;
        }
        let by_digest = format!("{}/{}@{digest}", reference.registry(), reference.repository());
        self.store.add_image(config.as_bytes(), std::slice::from_ref(&full), Some(by_digest))?;
        self.store.find(&full).ok_or(PullError::Interrupted)
    }

    fn client(&self, registry: &str) -> Result<Client, OciDistributionError> {
        let plain = is_loopback(registry) || self.insecure.iter().any(|r| r == registry);
        let protocol = if plain {
            ClientProtocol::HttpsExcept(vec![registry.to_owned()])
        } else {
            ClientProtocol::Https
        };
        Client::try_from(ClientConfig {
            protocol,
            // Without this a machine that has no certificate store could not even speak plain HTTP.
            accept_invalid_certificates: plain,
            read_timeout: Some(SILENCE),
            connect_timeout: Some(CONNECT),
            user_agent: concat!("weft/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        })
    }
}

/// Says what a user can act on.
fn refine(registry: &str, name: &str, source: OciDistributionError) -> PullError {
    let (registry, name) = (registry.to_owned(), name.to_owned());
    match source {
        OciDistributionError::ImageManifestNotFoundError(_) => {
            PullError::NotFound { name, reason: "no such manifest".to_owned() }
        }
        OciDistributionError::RegistryError { envelope, .. }
            if envelope.to_string().to_uppercase().replace(' ', "").contains("UNKNOWN") =>
        {
            PullError::NotFound { name, reason: envelope.to_string() }
        }
        OciDistributionError::ServerError { code: 404, message, .. } => {
            PullError::NotFound { name, reason: message }
        }
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
            PullError::Denied { registry, name }
        }
        source => PullError::Registry { registry, source },
    }
}

/// A file that goes with its name's owner.
struct Spooled(std::path::PathBuf);

impl Drop for Spooled {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Takes as many bytes as were announced, and no more.
struct Bounded<W> {
    inner: W,
    left: u64,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Bounded<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if buf.len() as u64 > self.left {
            return Poll::Ready(Err(std::io::ErrorKind::FileTooLarge.into()));
        }
        let wrote = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &wrote {
            self.left -= *count as u64;
        }
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
