//! A kubeconfig: where the server is, and the client certificate for it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Kubeconfig {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: Cluster,
}

#[derive(Deserialize)]
struct NamedUser {
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority_data: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate_data: String,
    client_key_data: String,
}

/// The first cluster and user of a kubeconfig.
pub(crate) struct Credentials {
    /// `127.0.0.1:6443`.
    pub(crate) address: String,
    pub(crate) tls: ClientConfig,
}

impl Credentials {
    /// Reads a kubeconfig with everything in it, as the server writes it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
        let read: Kubeconfig =
            serde_saphyr::from_str(&text).with_context(|| format!("{shown} is not understood"))?;
        let cluster = &read.clusters.first().context("the kubeconfig names no cluster")?.cluster;
        let user = &read.users.first().context("the kubeconfig names no user")?.user;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&STANDARD.decode(&cluster.certificate_authority_data)?)?)?;
        let certificate = CertificateDer::from_pem_slice(&STANDARD.decode(&user.client_certificate_data)?)?;
        let key = PrivateKeyDer::from_pem_slice(&STANDARD.decode(&user.client_key_data)?)?;
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        Ok(Self { address: address(&cluster.server)?.to_owned(), tls })
    }
}

fn address(server: &str) -> Result<&str> {
    let rest = server.strip_prefix("https://").context("the server's URL is not https")?;
    Ok(rest.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_address_is_the_urls() {
        assert_eq!(super::address("https://127.0.0.1:6443/").unwrap(), "127.0.0.1:6443");
        assert!(super::address("http://127.0.0.1:6443").is_err());
    }
}
