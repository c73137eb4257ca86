//! What agentctl needs of a kubeconfig: the current context's server, CA and credentials.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

/// Server and credentials of the current context.
pub(crate) struct Kubeconfig {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) token: Option<String>,
    ca: Vec<u8>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

/// Why a kubeconfig is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeconfigError {
    #[error("kubeconfig {path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("kubeconfig {path} is not understood")]
    Parse { path: PathBuf, reason: String },
    #[error("kubeconfig {path}: {what}")]
    Lacks { path: PathBuf, what: String },
    #[error("the certificates of the kubeconfig are not usable: {0}")]
    Tls(String),
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Raw {
    current_context: String,
    clusters: Vec<NamedCluster>,
    contexts: Vec<NamedContext>,
    users: Vec<NamedUser>,
}
#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
}
#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}
#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: String,
}
#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: User,
}
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
}

impl Kubeconfig {
    /// Reads the current context of a kubeconfig.
    pub(crate) fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, KubeconfigError> {
        let lacks = |what: String| KubeconfigError::Lacks { path: path.to_owned(), what };
        let raw: Raw = serde_saphyr::from_str(text)
            .map_err(|error| KubeconfigError::Parse { path: path.to_owned(), reason: error.to_string() })?;
        let context = raw
            .contexts
            .iter()
            .find(|c| c.name == raw.current_context)
            .ok_or_else(|| lacks(format!("there is no context {:?}", raw.current_context)))?;
        let cluster = raw
            .clusters
            .iter()
            .find(|c| c.name == context.context.cluster)
            .ok_or_else(|| lacks(format!("there is no cluster {:?}", context.context.cluster)))?;
        let user = raw
            .users
            .iter()
            .find(|u| u.name == context.context.user)
            .ok_or_else(|| lacks(format!("there is no user {:?}", context.context.user)))?;
        let server: http::Uri = cluster
            .cluster
            .server
            .parse()
            .map_err(|_| lacks(format!("server {:?} is no URL", cluster.cluster.server)))?;
        if server.scheme_str() != Some("https") {
            return Err(lacks(format!("server {:?} is not an https:// URL", cluster.cluster.server)));
        }
        let host = server.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let here = path.parent().unwrap_or(Path::new("."));
        let ca = material(
            here,
            cluster.cluster.certificate_authority_data.as_deref(),
            cluster.cluster.certificate_authority.as_deref(),
        )
        .map_err(&lacks)?
        .ok_or_else(|| lacks("the cluster has no certificate-authority".to_owned()))?;
        let user = &user.user;
        let certificate =
            material(here, user.client_certificate_data.as_deref(), user.client_certificate.as_deref())
                .map_err(&lacks)?;
        let key =
            material(here, user.client_key_data.as_deref(), user.client_key.as_deref()).map_err(&lacks)?;
        Ok(Self {
            host,
            port: server.port_u16().unwrap_or(443),
            token: user.token.clone(),
            ca,
            client: certificate.zip(key),
        })
    }

    /// `HOST:PORT`.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// TLS settings for the API server, HTTP/1.1 only.
    pub(crate) fn tls(&self) -> Result<ClientConfig, KubeconfigError> {
        let tls = |error: &dyn std::fmt::Display| KubeconfigError::Tls(error.to_string());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.ca) {
            roots.add(certificate.map_err(|e| tls(&e))?).map_err(|e| tls(&e))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| tls(&e))?
            .with_root_certificates(roots);
        let mut config = match &self.client {
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(certificate)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|e| tls(&e))?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| tls(&e))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| tls(&e))?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn material(here: &Path, data: Option<&str>, file: Option<&Path>) -> Result<Option<Vec<u8>>, String> {
    match (data, file) {
        (Some(data), _) => {
            STANDARD.decode(data.trim()).map(Some).map_err(|_| "a …-data field is not base64".to_owned())
        }
        (None, Some(file)) => {
            let file = here.join(file);
            std::fs::read(&file).map(Some).map_err(|error| format!("{}: {error}", file.display()))
        }
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
apiVersion: v1
kind: Config
current-context: weft
clusters: [{name: weft, cluster: {server: 'https://127.0.0.1:6443', certificate-authority-data: YQ==}}]
contexts: [{name: weft, context: {cluster: weft, user: admin}}]
users: [{name: admin, user: {client-certificate-data: Yg==, client-key-data: Yw==}}]
";

    #[test]
    fn the_current_context_is_read() {
        let config = Kubeconfig::parse(Path::new("k"), TEXT).unwrap();
        assert_eq!(config.authority(), "127.0.0.1:6443");
        assert_eq!(config.client, Some((b"b".to_vec(), b"c".to_vec())));
    }

    #[test]
    fn what_is_missing_is_named() {
        let broken = TEXT.replace("user: admin}}", "user: nobody}}");
        let error = Kubeconfig::parse(Path::new("k"), &broken).err().unwrap();
        assert_eq!(error.to_string(), "kubeconfig k: there is no user \"nobody\"");
        let plain = TEXT.replace("https://", "http://");
        assert!(Kubeconfig::parse(Path::new("k"), &plain).is_err());
    }
}
