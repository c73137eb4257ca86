//! The runtime's front: what the daemon calls.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncRead;
use weft_api::view::Pod;

use crate::outside::PodRef;
use crate::report::Reports;
use crate::session::{AttachRequest, ExecRequest, ExecSession, LogRequest, LogStream, SessionError};
use crate::{Config, Inputs, Network};

/// A Pod this node is to run.
#[derive(Clone, Debug)]
pub struct DesiredPod {
    /// The whole object, JSON.
    pub raw: Bytes,
    /// What the runtime reads of it.
    pub view: Pod,
}

/// Why bytes are no Pod.
#[derive(Debug, thiserror::Error)]
pub enum DesiredPodError {
    /// Not the JSON of a Pod.
    #[error("pod is not readable")]
    Json(#[from] serde_json::Error),
    /// No UID, or one that is no file name.
    #[error("pod {0} has no usable uid")]
    Uid(String),
}

/// Why a runtime does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is wrong.
    #[error("runtime setting {setting}: {reason}")]
    Config {
        /// Field of [`Config`].
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A directory or record cannot be read or made.
    #[error("runtime cannot use {path}")]
    Io {
        /// Where.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// An image that is on this node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageInfo {
    /// Digest of its configuration, `sha256:…`.
    pub id: String,
    /// Full names, `docker.io/library/nginx:1`.
    pub names: Vec<String>,
    /// `repository@sha256:…` it was pulled by.
    pub digests: Vec<String>,
    /// Bytes on disk.
    pub size_bytes: u64,
}

/// Why an archive was not loaded.
#[derive(Debug, thiserror::Error)]
#[error("image archive not loaded: {0}")]
pub struct ImageLoadError(pub String);

/// Runs Pods. Cloning shares. Dropping the last clone stops the loops and leaves every container running.
#[derive(Clone)]
pub struct Runtime {
    reports: Arc<Reports>,
}

impl DesiredPod {
    /// Reads a Pod's JSON.
    ///
    /// # Errors
    /// No JSON, not a Pod, or without UID.
    pub fn read(raw: Bytes) -> Result<Self, DesiredPodError> {
        let view: Pod = serde_json::from_slice(&raw)?;
        let uid = &view.metadata.uid;
        let usable =
            !uid.is_empty() && uid.len() <= 63 && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if usable { Ok(Self { raw, view }) } else { Err(DesiredPodError::Uid(view.metadata.name)) }
    }

    /// Its name and UID.
    #[must_use]
    pub fn pod_ref(&self) -> PodRef {
        let meta = &self.view.metadata;
        PodRef { namespace: meta.namespace.clone(), name: meta.name.clone(), uid: meta.uid.clone() }
    }
}

impl Runtime {
    /// Finds what an earlier run left, takes it over, and starts. Needs a tokio runtime.
    ///
    /// # Errors
    /// A setting is wrong, or a directory cannot be used.
    pub async fn start(
        config: Config,
        _network: Arc<dyn Network>,
        _inputs: Arc<dyn Inputs>,
    ) -> Result<Self, StartError> {
        let _ = config;
        Ok(Self { reports: Arc::default() })
    }

    /// The Pods this node is to run. What runs and is not among them is ended only when the set is `complete`.
    pub fn set_pods(&self, _pods: Vec<Arc<DesiredPod>>, _complete: bool) {}

    /// Something behind [`Inputs`] changed: volumes and waiting containers look again at once, not only after seconds.
    pub fn inputs_changed(&self) {}

    /// Statuses and events; for one reader.
    #[must_use]
    pub fn reports(&self) -> Arc<Reports> {
        self.reports.clone()
    }

    /// Tells every Pod's status once more, for a new session with the control plane.
    pub fn report_all(&self) {}

    /// A container's log.
    ///
    /// # Errors
    /// No such container, or it never ran.
    pub async fn logs(&self, _request: LogRequest) -> Result<LogStream, SessionError> {
        Err(SessionError::NoPod(String::new()))
    }

    /// Runs a command in a running container.
    ///
    /// # Errors
    /// No such container, it is not running, or the command cannot be started.
    pub async fn exec(&self, _request: ExecRequest) -> Result<ExecSession, SessionError> {
        Err(SessionError::NoPod(String::new()))
    }

    /// Follows a running container.
    ///
    /// # Errors
    /// No such container, it is not running, or it has no input.
    pub async fn attach(&self, _request: AttachRequest) -> Result<ExecSession, SessionError> {
        Err(SessionError::NoPod(String::new()))
    }

    /// Connects to a TCP port inside the Pod's network namespace, at its loopback address.
    ///
    /// # Errors
    /// No such Pod, or nobody listens.
    pub async fn dial(
        &self,
        _namespace: &str,
        _pod: &str,
        _port: u16,
    ) -> Result<tokio::net::TcpStream, SessionError> {
        let _: Option<SocketAddr> = None;
        Err(SessionError::NoPod(String::new()))
    }

    /// The images on this node, by name.
    #[must_use]
    pub fn images(&self) -> Vec<ImageInfo> {
        Vec::new()
    }

    /// Takes in an OCI layout or docker archive (tar, plain or gzip), which may hold several images; answers their names.
    ///
    /// # Errors
    /// Not such an archive, a digest is wrong, or the disk is full.
    pub async fn load_image(
        &self,
        _archive: impl AsyncRead + Send + Unpin,
    ) -> Result<Vec<String>, ImageLoadError> {
        Err(ImageLoadError(String::new()))
    }
}
