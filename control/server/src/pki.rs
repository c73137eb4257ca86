//! Keys and certificates of the control plane: made at the first start, renewed when they near their end, at a start or
//! while it runs, 0600.
//!
//! What a certificate's subject allows is not decided here but in `authz`.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const CA_KEY: &str = "ca.key";
const CA_LIFE: Duration = Duration::from_secs(3_650 * 86_400);
/// A node's certificate lasts at least so long: agents look after theirs once in a while only.
const NODE_LIFE_MIN: Duration = Duration::from_secs(86_400);
/// A certificate is made anew when less than this part of its life is left.
const RENEW_PART: u32 = 6;
/// Certificates begin this long ago, for clocks that run behind.
const BACKDATE: Duration = Duration::from_secs(300);

/// Why keys and certificates are not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    #[error("{path} cannot be read or written")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{what} cannot be made")]
    Make {
        what: &'static str,
        #[source]
        source: rcgen::Error,
    },
    #[error("{what} is not readable PEM")]
    Pem {
        what: &'static str,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error("the certificate request is refused: {0}")]
    Request(&'static str),
}

/// What the certificates are to say.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// Names of the server.
    pub(crate) names: Vec<String>,
    /// Addresses of the server.
    pub(crate) addresses: Vec<IpAddr>,
    /// How long a certificate lasts; the CA's lasts ten years.
    pub(crate) life: Duration,
}

/// Everything the server signs and is known by.
pub(crate) struct Pki {
    dir: PathBuf,
    terms: Terms,
    ca_key_pem: String,
    /// The cluster's CA certificate.
    pub(crate) ca_pem: String,
    server: ArcSwap<Leaf>,
    admin: ArcSwap<Leaf>,
    /// PKCS#8 DER of the ServiceAccount signing key (ECDSA P-256).
    pub(crate) account_key_der: Vec<u8>,
    /// The signing key's public point, uncompressed.
    pub(crate) account_public: Vec<u8>,
}

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq)]
pub(crate) struct Leaf {
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
}

impl Leaf {
    /// Both as rustls takes them.
    pub(crate) fn der(&self) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), PkiError> {
        let pem = |what| move |source| PkiError::Pem { what, source };
        let certificate =
            CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).map_err(pem("a certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(pem("a key"))?;
        Ok((certificate, key))
    }
}

/// What a leaf is for.
struct Profile<'a> {
    what: &'static str,
    common_name: &'a str,
    organization: Option<&'a str>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    usage: ExtendedKeyUsagePurpose,
}

impl Pki {
    /// Whether a directory has the CA of a cluster already.
    pub(crate) fn is_in(dir: &Path) -> bool {
        dir.join(CA_KEY).exists()
    }

    /// Reads what is in `dir`, makes what is missing or near its end.
    ///
    /// # Errors
    /// The directory cannot be written, or a file in it is damaged.
    pub(crate) fn open(dir: &Path, terms: Terms, now: Timestamp) -> Result<Self, PkiError> {
        make_dir(dir)?;
        let (ca_pem, ca_key_pem) = open_ca(dir, now)?;
        let signer = Signer { dir, ca_pem: &ca_pem, issuer: issuer(&ca_pem, &ca_key_pem)?, life: terms.life };
        let server = signer.open_leaf("server", &server_profile(&terms), now)?;
        let admin = signer.open_leaf("admin", &admin_profile(), now)?;
        let account = open_key(&dir.join("service-account.key"), "the ServiceAccount signing key")?;
        Ok(Self {
            dir: dir.to_owned(),
            terms,
            ca_key_pem,
            ca_pem,
            server: ArcSwap::from_pointee(server),
            admin: ArcSwap::from_pointee(admin),
            account_key_der: account.serialize_der(),
            account_public: account.public_key_raw().to_vec(),
        })
    }

    /// The server's certificate and key.
    pub(crate) fn server(&self) -> Arc<Leaf> {
        self.server.load_full()
    }

    /// Makes certificates that are near their end anew; whether there was one.
    ///
    /// # Errors
    /// As [`Pki::open`]; what there was stays.
    pub(crate) fn renew(&self, now: Timestamp) -> Result<bool, PkiError> {
        let issuer = issuer(&self.ca_pem, &self.ca_key_pem)?;
        let signer = Signer { dir: &self.dir, ca_pem: &self.ca_pem, issuer, life: self.terms.life };
        let mut renewed = false;
        for (file, profile, shown) in
            [("server", server_profile(&self.terms), &self.server), ("admin", admin_profile(), &self.admin)]
        {
            let leaf = signer.open_leaf(file, &profile, now)?;
            if leaf != **shown.load() {
                shown.store(Arc::new(leaf));
                renewed = true;
            }
        }
        Ok(renewed)
    }

    /// How often [`Pki::renew`] is to be asked.
    pub(crate) fn renew_every(&self) -> Duration {
        (self.terms.life / (4 * RENEW_PART)).clamp(Duration::from_millis(100), Duration::from_secs(3_600))
    }

    /// The CA's certificate, DER.
    pub(crate) fn ca_der(&self) -> Result<CertificateDer<'static>, PkiError> {
        CertificateDer::from_pem_slice(self.ca_pem.as_bytes())
            .map_err(|source| PkiError::Pem { what: "the CA certificate", source })
    }

    /// Signs a node's request. Of the request only the public key counts.
    ///
    /// # Errors
    /// The request is damaged, or its own signature does not fit its key.
    pub(crate) fn sign_node(&self, csr_pem: &str, node: &str, now: Timestamp) -> Result<String, PkiError> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|_| PkiError::Request("it is not a readable PKCS#10 request"))?;
        let common_name = format!("system:node:{node}");
        let profile = Profile {
            what: "the node certificate",
            common_name: &common_name,
            organization: Some("system:nodes"),
            names: Vec::new(),
            addresses: Vec::new(),
            usage: ExtendedKeyUsagePurpose::ClientAuth,
        };
        request.params = parameters(&profile, self.terms.life.max(NODE_LIFE_MIN), now)?;
        let certificate = request
            .signed_by(&issuer(&self.ca_pem, &self.ca_key_pem)?)
            .map_err(|source| PkiError::Make { what: profile.what, source })?;
        Ok(certificate.pem())
    }

    /// Writes a kubeconfig for the admin.
    pub(crate) fn write_kubeconfig(&self, path: &Path, server_url: &str) -> Result<(), PkiError> {
        use base64::Engine as _;
        let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let admin = self.admin.load();
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: weft\nclusters:\n- name: weft\n  cluster:\n    server: \
             {server_url}\n    certificate-authority-data: {}\nusers:\n- name: admin\n  user:\n    \
             client-certificate-data: {}\n    client-key-data: {}\ncontexts:\n- name: weft\n  context:\n    cluster: \
             weft\n    user: admin\n",
            base64(&self.ca_pem),
            base64(&admin.certificate_pem),
            base64(&admin.key_pem),
        );
        write_secret(path, text.as_bytes())
    }
}

fn issuer(ca_pem: &str, ca_key_pem: &str) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let key = KeyPair::from_pem(ca_key_pem)
        .map_err(|source| PkiError::Make { what: "the CA key from its file", source })?;
    Issuer::from_ca_cert_pem(ca_pem, key)
        .map_err(|source| PkiError::Make { what: "an issuer from the CA certificate", source })
}

fn open_ca(dir: &Path, now: Timestamp) -> Result<(String, String), PkiError> {
    let (certificate_path, key_path) = (dir.join("ca.crt"), dir.join(CA_KEY));
    if let (Some(certificate), Some(key)) = (read(&certificate_path)?, read(&key_path)?) {
        return Ok((certificate, key));
    }
    let key = open_key(&key_path, "the CA key")?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "weft-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, now, CA_LIFE);
    let certificate = params
        .self_signed(&key)
        .map_err(|source| PkiError::Make { what: "the CA certificate", source })?
        .pem();
    write_secret(&certificate_path, certificate.as_bytes())?;
    Ok((certificate, key.serialize_pem()))
}

fn server_profile(terms: &Terms) -> Profile<'_> {
    Profile {
        what: "the server certificate",
        common_name: "weft-control",
        organization: None,
        names: terms.names.clone(),
        addresses: terms.addresses.clone(),
        usage: ExtendedKeyUsagePurpose::ServerAuth,
    }
}

fn admin_profile() -> Profile<'static> {
    Profile {
        what: "the admin certificate",
        common_name: "kubernetes-admin",
        organization: Some("system:masters"),
        names: Vec::new(),
        addresses: Vec::new(),
        usage: ExtendedKeyUsagePurpose::ClientAuth,
    }
}

/// What certificates are made with.
struct Signer<'a> {
    dir: &'a Path,
    ca_pem: &'a str,
    issuer: Issuer<'static, KeyPair>,
    life: Duration,
}

impl Signer<'_> {
    /// The certificate of that name as it lies in the directory, made anew if it does not fit any more.
    fn open_leaf(&self, file: &str, profile: &Profile<'_>, now: Timestamp) -> Result<Leaf, PkiError> {
        let at = |extension: &str| self.dir.join(format!("{file}.{extension}"));
        if let (Some(certificate_pem), Some(key_pem)) = (read(&at("crt"))?, read(&at("key"))?) {
            let leaf = Leaf { certificate_pem, key_pem };
            if still_fits(&leaf, profile, self.ca_pem, now + self.life / RENEW_PART) {
                return Ok(leaf);
            }
        }
        let make = |source| PkiError::Make { what: profile.what, source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
        let certificate = parameters(profile, self.life, now)?.signed_by(&key, &self.issuer).map_err(make)?;
        let leaf = Leaf { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() };
        // A cut between the two leaves a pair that does not fit, which is made anew.
        write_secret(&at("key"), leaf.key_pem.as_bytes())?;
        write_secret(&at("crt"), leaf.certificate_pem.as_bytes())?;
        Ok(leaf)
    }
}

fn open_key(path: &Path, what: &'static str) -> Result<KeyPair, PkiError> {
    let make = |source| PkiError::Make { what, source };
    if let Some(pem) = read(path)? {
        return KeyPair::from_pem(&pem).map_err(make);
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
    write_secret(path, key.serialize_pem().as_bytes())?;
    Ok(key)
}

fn parameters(profile: &Profile<'_>, life: Duration, now: Timestamp) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(profile.names.clone())
        .map_err(|source| PkiError::Make { what: profile.what, source })?;
    params.subject_alt_names.extend(profile.addresses.iter().map(|a| SanType::IpAddress(*a)));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, profile.common_name);
    if let Some(organization) = profile.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![profile.usage.clone()];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, life);
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default());
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = epoch + now + life;
}

/// Whether a certificate on disk is of this CA and of its key, lasts until then, and names everything it is to name.
fn still_fits(leaf: &Leaf, profile: &Profile<'_>, ca_pem: &str, until: Timestamp) -> bool {
    let (Ok((der, _)), Ok(ca_der)) = (leaf.der(), CertificateDer::from_pem_slice(ca_pem.as_bytes())) else {
        return false;
    };
    let (Ok((_, certificate)), Ok((_, ca)), Ok(key)) = (
        x509_parser::parse_x509_certificate(&der),
        x509_parser::parse_x509_certificate(&ca_der),
        KeyPair::from_pem(&leaf.key_pem),
    ) else {
        return false;
    };
    if certificate.validity().not_after.timestamp() < until.as_second()
        || !is_issued_by(&certificate, &ca)
        || certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw()
    {
        return false;
    }
    let sans = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.clone(),
        _ => Vec::new(),
    };
    use x509_parser::extensions::GeneralName;
    let has_name = |n: &String| sans.iter().any(|s| matches!(s, GeneralName::DNSName(d) if d == n));
    let has_address = |a: &IpAddr| {
        let bytes = match a {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        sans.iter().any(|s| matches!(s, GeneralName::IPAddress(i) if *i == bytes.as_slice()))
    };
    profile.names.iter().all(has_name) && profile.addresses.iter().all(has_address)
}

/// Whether the authority key named in `certificate` is the key of `ca`.
fn is_issued_by(
    certificate: &x509_parser::certificate::X509Certificate<'_>,
    ca: &x509_parser::certificate::X509Certificate<'_>,
) -> bool {
    use x509_parser::extensions::ParsedExtension;
    let authority = certificate.iter_extensions().find_map(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(a) => a.key_identifier.as_ref().map(|k| k.0),
        _ => None,
    });
    let subject = ca.iter_extensions().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(k) => Some(k.0),
        _ => None,
    });
    authority.is_some() && authority == subject
}

/// Makes a directory that only its owner looks into, so that it survives a loss of power, unless it is there.
pub(crate) fn make_dir(dir: &Path) -> Result<(), PkiError> {
    use std::os::unix::fs::DirBuilderExt;
    let make = || -> std::io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    make().map_err(|source| PkiError::File { path: dir.to_owned(), source })
}

/// A file's text, if it is there.
pub(crate) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File { path: path.to_owned(), source }),
    }
}

/// Writes a file that only its owner reads, whole or not at all.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let _ = std::fs::remove_file(&temporary);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        if let Some(dir) = path.parent() {
            std::fs::File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(|source| PkiError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
