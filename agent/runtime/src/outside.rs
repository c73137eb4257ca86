//! What the runtime asks of the rest of the agent: the network, and the objects a Pod refers to.
//!
//! The daemon implements these; nothing here knows links, maps or the control plane.

use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weft_api::view::pod::PodSpec;

/// A future that may be kept in a box; implement with `Box::pin(async move { … })`.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which Pod, beyond doubt: a name may be given twice, a UID never.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodRef {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

impl std::fmt::Display for PodRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Why the outside could not give what was asked. The text is shown to users in an event.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// What [`Network::attach`] is told.
#[derive(Clone, Copy, Debug)]
pub struct Attach<'a> {
    /// The Pod.
    pub pod: &'a PodRef,
    /// A file that is the Pod's network namespace (`/proc/self/ns/net` for the host's).
    pub netns: &'a Path,
    /// Whether the Pod uses the node's own network namespace.
    pub host_network: bool,
    /// What it asks for.
    pub spec: &'a PodSpec,
    /// The addresses an earlier `attach` gave; empty the first time. They must be kept while the Pod lives.
    pub known: &'a [IpAddr],
}

/// Connects Pods' network namespaces.
pub trait Network: Send + Sync + 'static {
    /// Fills the namespace (`lo` up, an interface, addresses, routes) and answers the Pod's addresses, the first one per
    /// family counts. Called again after a restart of the agent and must then change nothing that works.
    fn attach<'a>(&'a self, request: Attach<'a>) -> Answer<'a, Result<Vec<IpAddr>, Refusal>>;

    /// Gives the addresses back. Called after the last process has gone and before the namespace goes; may be called again.
    fn detach<'a>(&'a self, pod: &'a PodRef) -> Answer<'a, Result<(), Refusal>>;
}

/// The answer of a lookup by name.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// The object, JSON.
    Found(Bytes),
    /// There is no such object.
    Missing,
    /// The view of the cluster is not complete yet: ask again later.
    NotYet,
}

/// A request for a ServiceAccount token that is bound to a Pod.
#[derive(Clone, Debug)]
pub struct TokenRequest<'a> {
    /// The Pod.
    pub pod: &'a PodRef,
    /// ServiceAccount in the Pod's namespace.
    pub service_account: &'a str,
    /// Audience; empty: the API server.
    pub audience: &'a str,
    /// Lifetime, seconds.
    pub lifetime_seconds: u64,
}

/// A ServiceAccount token.
#[derive(Clone)]
pub struct Token {
    /// The token, a secret.
    pub text: String,
    /// When it ends, seconds since 1970-01-01 UTC.
    pub expires_unix_seconds: u64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("expires_unix_seconds", &self.expires_unix_seconds)
            .finish_non_exhaustive()
    }
}

/// What Pods' resolv.conf says.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// The cluster DNS Service's addresses.
    pub nameservers: Vec<IpAddr>,
    /// Cluster domain, `cluster.local`.
    pub domain: String,
    /// The node's resolv.conf, for `dnsPolicy: Default` and for its search list; usually `/etc/resolv.conf`.
    pub host_resolv_conf: PathBuf,
}

/// The objects and settings that Pods refer to. The lookups are called often and must answer from memory.
pub trait Inputs: Send + Sync + 'static {
    /// A ConfigMap.
    fn config_map(&self, namespace: &str, name: &str) -> Lookup;
    /// A Secret.
    fn secret(&self, namespace: &str, name: &str) -> Lookup;
    /// Asks the control plane for a token.
    fn token<'a>(&'a self, request: TokenRequest<'a>) -> Answer<'a, Result<Token, Refusal>>;
    /// `KUBERNETES_SERVICE_HOST`, `KUBERNETES_SERVICE_PORT` and their like; with `service_links` also those of every Service
    /// of the namespace. `None` while the view is not complete: the container then waits.
    fn service_env(&self, namespace: &str, service_links: bool) -> Option<Vec<(String, String)>>;
    /// Cluster DNS.
    fn dns(&self) -> Dns;
    /// The cluster's CA, PEM, for `ca.crt`; empty while it is not known.
    fn ca_pem(&self) -> String;
}
