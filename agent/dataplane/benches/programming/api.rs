//! A small client of the API: HTTP/1.1 with the administrator's certificate, one request at a time on one connection. The time
//! between a request's last byte and its answer is the caller's.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Where the API is, and who we are to it.
pub(crate) struct Credentials {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Credentials {
    /// From `ca.pem`, `certificate.pem` and `key.pem` of a directory.
    pub(crate) fn read(address: &str, directory: &Path) -> Result<Self, Box<dyn Error>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(directory.join("ca.pem"))?)?;
        let own =
            CertificateDer::pem_file_iter(directory.join("certificate.pem"))?.collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_file(directory.join("key.pem"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(own, key)?;
        Ok(Self { address: address.parse()?, config: Arc::new(config) })
    }
}

/// One connection.
pub(crate) struct Api {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    host: String,
}

impl Api {
    pub(crate) fn connect(credentials: &Credentials) -> Result<Self, Box<dyn Error>> {
        let tcp = TcpStream::connect_timeout(&credentials.address, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::from(credentials.address.ip());
        let tls = ClientConnection::new(credentials.config.clone(), name)?;
        let stream = BufReader::new(StreamOwned::new(tls, tcp));
        Ok(Self { stream, host: credentials.address.to_string() })
    }

    /// Sends a request and takes its answer.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        content: &str,
        body: &str,
    ) -> Result<(), Box<dyn Error>> {
        self.send(method, path, content, body)?;
        self.answer()
    }

    /// Sends a request; its answer is to be taken before the next.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        content: &str,
        body: &str,
    ) -> Result<(), Box<dyn Error>> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: {content}\r\naccept: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        let stream = self.stream.get_mut();
        stream.write_all(request.as_bytes())?;
        Ok(stream.flush()?)
    }

    /// Takes an answer; what is not of the kind 2xx is an error with the server's words.
    pub(crate) fn answer(&mut self) -> Result<(), Box<dyn Error>> {
        let status = self.line()?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':').map(|(name, value)| (name, value.trim())) {
                Some(("content-length", value)) => length = value.parse()?,
                Some(("transfer-encoding", value)) => chunked = value == "chunked",
                Some(_) => {}
                None => break,
            }
        }
        let body = if chunked { self.chunks()? } else { self.bytes(length)? };
        let code = status.split(' ').nth(1).unwrap_or_default();
        if code.starts_with('2') {
            return Ok(());
        }
        Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into())
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Box<dyn Error>> {
        let mut all = Vec::new();
        loop {
            let length = usize::from_str_radix(self.line()?.split(';').next().unwrap_or_default(), 16)?;
            all.extend(self.bytes(length)?);
            self.line()?;
            if length == 0 {
                return Ok(all);
            }
        }
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Box<dyn Error>> {
        if length > ANSWER_BYTES_MAX {
            return Err(format!("an answer of {length} bytes").into());
        }
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err("the server closed the connection".into());
        }
        Ok(line.trim_end().to_owned())
    }
}
