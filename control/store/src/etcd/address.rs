//! Where an etcd is and as whom it is spoken to: `etcd://host:port[,…][/name]` and PEM files, understood. It opens nothing.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// etcd's own port for clients.
const PORT: u16 = 2379;
/// The cluster's name in an etcd, unless one is given.
const NAME: &str = "default";
const NAME_BYTES_MAX: usize = 63;

/// A member of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    pub(super) fn authority(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        let port = port.map_or(Some(PORT), |port| port.parse().ok())?;
        (!host.is_empty() && host.chars().all(fits)).then(|| Self { host: host.to_owned(), port })
    }
}

/// The members of one etcd, and the name of this cluster in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// All keys lie below `/weft/NAME/`.
    pub name: String,
}

/// Why a text is no address.
#[derive(Debug, thiserror::Error)]
#[error("is not of the form etcd://host:port[,host:port…][/name]")]
pub struct AddressError;

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let rest = text.strip_prefix("etcd://").ok_or(AddressError)?;
        let (hosts, name) = rest.split_once('/').unwrap_or((rest, ""));
        let name = if name.is_empty() { NAME } else { name };
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.len() > NAME_BYTES_MAX || !name.chars().all(fits) {
            return Err(AddressError);
        }
        let endpoints: Option<Vec<Endpoint>> = hosts.split(',').map(Endpoint::parse).collect();
        Ok(Self { endpoints: endpoints.ok_or(AddressError)?, name: name.to_owned() })
    }
}

/// The PEM files of TLS, as bytes.
#[derive(Clone, Default)]
pub struct Pem {
    /// Whose certificates etcd may show.
    pub authorities: Vec<u8>,
    /// The certificate chain and the key that are shown to etcd.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pem").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is no PEM of what it should be.
    #[error("{what} is not usable PEM")]
    Pem {
        /// Which one.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// There is no certificate in it.
    #[error("there is no certificate among etcd's authorities")]
    Empty,
    /// The library does not take them.
    #[error("the certificates for etcd are not usable")]
    Unusable(#[from] rustls::Error),
}

impl Pem {
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let certificates = |pem: &[u8], what| {
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            found.map_err(|source| TlsError::Pem { what, source })
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authorities, "the authorities' certificate")? {
            roots.add(certificate)?;
        }
        if roots.is_empty() {
            return Err(TlsError::Empty);
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let what = "the client's key";
                let key =
                    PrivateKeyDer::from_pem_slice(key).map_err(|source| TlsError::Pem { what, source })?;
                builder.with_client_auth_cert(certificates(chain, "the client's certificate")?, key)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let address: Address = "etcd://10.0.0.1:2379,etcd-2,[fd00::1]:12379/blue".parse().unwrap();
        let authorities: Vec<String> = address.endpoints.iter().map(Endpoint::authority).collect();
        assert_eq!(authorities, ["10.0.0.1:2379", "etcd-2:2379", "[fd00::1]:12379"]);
        assert_eq!(address.name, "blue");
        assert_eq!("etcd://a/".parse::<Address>().unwrap().name, "default");
        let bad = [
            "http://a:1",
            "etcd://",
            "etcd://a,,b",
            "etcd://a:x",
            "etcd://a/b/c",
            "etcd://[a]:1",
            "etcd://a@b",
        ];
        for text in bad {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
