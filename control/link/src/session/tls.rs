//! Certificates and TLS settings of both ends. Nothing here opens a socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::server::WebPkiClientVerifier;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::{IDLE_TIMEOUT_MS, KEEP_ALIVE_MS, OPEN_STREAMS_MAX};
use crate::join::{NODE_USER_PREFIX, NODES_GROUP, ca_sha256};
use crate::message::{ALPN, ALPN_JOIN};

/// Why certificates and keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// PEM does not read.
    #[error("the {what} is not PEM as it should be")]
    Pem {
        /// Which file's content.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// There is no certificate in it.
    #[error("the {what} holds no certificate")]
    Empty {
        /// Which file's content.
        what: &'static str,
    },
    /// The CA's certificate cannot be one.
    #[error("the CA certificate cannot be used")]
    Ca(#[source] rustls::Error),
    /// Chain and key cannot be used together.
    #[error("certificate and key cannot be used")]
    Identity(#[source] rustls::Error),
    /// The verifier cannot be made.
    #[error("certificates cannot be verified with this CA")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
    /// QUIC wants what the TLS library does not have.
    #[error("TLS 1.3 for QUIC is not there")]
    Quic(#[source] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// What a control plane shows: its certificate (DNS SAN `weft-control`), key, and the cluster's CA.
#[derive(Debug)]
pub struct ServerIdentity {
    /// Its certificate first, then intermediates; the CA itself is added.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first.
    pub key: PrivateKeyDer<'static>,
    /// The cluster's CA.
    pub ca: CertificateDer<'static>,
}

/// What an agent shows: its certificate, key, and the cluster's CA it trusts.
#[derive(Debug)]
pub struct NodeIdentity {
    /// Its certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first.
    pub key: PrivateKeyDer<'static>,
    /// The cluster's CA.
    pub ca: CertificateDer<'static>,
}

type Parts = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, CertificateDer<'static>);

fn certificates(pem: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|source| TlsError::Pem { what, source })?;
    if all.is_empty() { Err(TlsError::Empty { what }) } else { Ok(all) }
}

fn parts(chain_pem: &str, key_pem: &str, ca_pem: &str) -> Result<Parts, TlsError> {
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|source| TlsError::Pem { what: "private key", source })?;
    let ca = certificates(ca_pem, "CA")?.swap_remove(0);
    Ok((certificates(chain_pem, "certificate")?, key, ca))
}

impl ServerIdentity {
    /// From PEM texts.
    pub fn from_pem(chain_pem: &str, key_pem: &str, ca_pem: &str) -> Result<Self, TlsError> {
        let (chain, key, ca) = parts(chain_pem, key_pem, ca_pem)?;
        Ok(Self { chain, key, ca })
    }
}

impl NodeIdentity {
    /// From PEM texts.
    pub fn from_pem(chain_pem: &str, key_pem: &str, ca_pem: &str) -> Result<Self, TlsError> {
        let (chain, key, ca) = parts(chain_pem, key_pem, ca_pem)?;
        Ok(Self { chain, key, ca })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(ca: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(TlsError::Ca)?;
    Ok(Arc::new(roots))
}

fn transport() -> Arc<quinn::TransportConfig> {
    let mut transport = quinn::TransportConfig::default();
    transport
        .keep_alive_interval(Some(Duration::from_millis(KEEP_ALIVE_MS)))
        // IDLE_TIMEOUT_MS is far below what the field takes.
        .max_idle_timeout(Some(quinn::IdleTimeout::from(quinn::VarInt::from_u32(IDLE_TIMEOUT_MS as u32))))
        .max_concurrent_bidi_streams(quinn::VarInt::from_u32(OPEN_STREAMS_MAX))
        .max_concurrent_uni_streams(quinn::VarInt::from_u32(4))
        .stream_receive_window(quinn::VarInt::from_u32(2 << 20))
        .receive_window(quinn::VarInt::from_u32(8 << 20))
        .send_window(8 << 20)
        .datagram_receive_buffer_size(None);
    Arc::new(transport)
}

/// The control plane's end: links with a node's certificate, joins without any.
pub(super) fn server_config(identity: &ServerIdentity) -> Result<quinn::ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(&identity.ca)?, provider())
        // Who joins has no certificate yet. A link without one is refused once ALPN says it is a link.
        .allow_unauthenticated()
        .build()
        .map_err(TlsError::Verifier)?;
    let mut chain = identity.chain.clone();
    if !chain.contains(&identity.ca) {
        // A joining agent knows nothing but the hash of the CA: the CA itself must come with the handshake.
        chain.push(identity.ca.clone());
    }
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Identity)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, identity.key.clone_key())
        .map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![ALPN.to_vec(), ALPN_JOIN.to_vec()];
    let crypto = QuicServerConfig::try_from(config).map_err(TlsError::Quic)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport());
    Ok(config)
}

fn client_builder() -> Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>, TlsError> {
    rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Identity)
}

fn client_config(mut config: rustls::ClientConfig, alpn: &[u8]) -> Result<quinn::ClientConfig, TlsError> {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    let crypto = QuicClientConfig::try_from(config).map_err(TlsError::Quic)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    Ok(config)
}

/// The agent's end of a link.
pub(super) fn link_config(identity: &NodeIdentity) -> Result<quinn::ClientConfig, TlsError> {
    let config = client_builder()?
        .with_root_certificates(roots(&identity.ca)?)
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(TlsError::Identity)?;
    client_config(config, ALPN)
}

/// The agent's end of a join. The flag is raised when the control plane's CA is not the token's.
pub(super) fn join_config(ca: [u8; 32]) -> Result<(quinn::ClientConfig, Arc<AtomicBool>), TlsError> {
    let foreign = Arc::new(AtomicBool::new(false));
    let algorithms = provider().signature_verification_algorithms;
    let verifier = Arc::new(PinnedCa { ca_sha256: ca, foreign: foreign.clone(), algorithms });
    let config =
        client_builder()?.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok((client_config(config, ALPN_JOIN)?, foreign))
}

/// Trusts the one CA whose hash the token carries, and through it the control plane's certificate.
#[derive(Debug)]
struct PinnedCa {
    ca_sha256: [u8; 32],
    foreign: Arc<AtomicBool>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(ca) = intermediates.iter().find(|der| ca_sha256(der) == self.ca_sha256) else {
            self.foreign.store(true, Ordering::Release);
            return Err(rustls::CertificateError::UnknownIssuer.into());
        };
        let general = |error: &dyn std::error::Error| rustls::Error::General(error.to_string());
        let roots = roots(&ca.clone().into_owned()).map_err(|e| general(&e))?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider());
        let verifier = verifier.build().map_err(|e| general(&e))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The node a certificate is for: `CN=system:node:<name>, O=system:nodes`. The TLS library has verified it.
pub(super) fn certified_node(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = certificate.subject();
    let in_group = subject.iter_organization().any(|o| o.as_str().is_ok_and(|o| o == NODES_GROUP));
    let mut names = subject.iter_common_name();
    let (name, more) = (names.next()?.as_str().ok()?, names.next());
    let name = name.strip_prefix(NODE_USER_PREFIX)?;
    (in_group && more.is_none()).then(|| name.to_owned())
}

/// A new key and the request for its certificate.
pub struct KeyAndCsr {
    /// PKCS#8, PEM: to be kept in a file of mode 0600.
    pub key_pem: String,
    /// PKCS#10, PEM, subject `CN=system:node:<name>, O=system:nodes`.
    pub csr_pem: String,
}

impl std::fmt::Debug for KeyAndCsr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key never reaches a log line.
        f.debug_struct("KeyAndCsr").finish_non_exhaustive()
    }
}

/// The key or the request could not be made.
#[derive(Debug, thiserror::Error)]
#[error("a key for the node cannot be made")]
pub struct KeyError(#[from] rcgen::Error);

/// Makes a key (ECDSA P-256) and the request for a node's certificate.
pub fn key_and_csr(node: &str) -> Result<KeyAndCsr, KeyError> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    let mut subject = rcgen::DistinguishedName::new();
    subject.push(rcgen::DnType::OrganizationName, NODES_GROUP);
    subject.push(rcgen::DnType::CommonName, format!("{NODE_USER_PREFIX}{node}"));
    params.distinguished_name = subject;
    let csr_pem = params.serialize_request(&key)?.pem()?;
    Ok(KeyAndCsr { key_pem: key.serialize_pem(), csr_pem })
}
