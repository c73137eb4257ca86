//! A real `weft-control` on loopback, and a client that speaks to it over TLS.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;

pub const BINARY: &str = env!("CARGO_BIN_EXE_weft-control");

/// A server that dies with the test.
pub struct Server {
    child: Child,
    pub dir: PathBuf,
    pub api: SocketAddr,
    pub link: SocketAddr,
}

impl Server {
    /// Starts a server on ports of its own and waits until it is ready.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// As [`Server::start`], with more settings.
    pub fn start_with(dir: &Path, settings: &[&str]) -> Self {
        Self::started(Command::new(BINARY), dir, settings, |_| dir.to_owned())
    }

    /// As [`Server::start`], on a disk of its own of so many MiB: a tmpfs that only the server's mount namespace has, and
    /// that goes with it. `dir` of the result is the way to it.
    pub fn start_on_disk(dir: &Path, mib: u32) -> Self {
        let mount = format!("mount -t tmpfs -o size={mib}m tmpfs \"$0\" && exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &mount]).arg(dir).arg(BINARY);
        let inside = dir.strip_prefix("/").expect("an absolute path").to_owned();
        Self::started(command, dir, &[], |pid| {
            Path::new("/proc").join(pid.to_string()).join("root").join(inside)
        })
    }

    fn started(
        mut command: Command,
        dir: &Path,
        settings: &[&str],
        seen: impl FnOnce(u32) -> PathBuf,
    ) -> Self {
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--link", "127.0.0.1:0", "--advertise", "127.0.0.1"])
            .args(settings)
            .arg("--data-dir")
            .arg(dir)
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut link = None;
        for line in lines.by_ref() {
            let line = line.expect("text");
            if line.contains("weft-control is ready") {
                let at = line.split("link=").nth(1).and_then(|r| r.split(' ').next()).expect("link=");
                link = Some(at.parse().expect("an address"));
                break;
            }
        }
        // What comes later goes to the test's own output, and the pipe never fills.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                eprintln!("server: {line}");
            }
        });
        let link = link.expect("the server ended before it was ready");
        let dir = seen(child.id());
        let kubeconfig = std::fs::read_to_string(dir.join("admin.kubeconfig")).expect("a kubeconfig");
        let url = field(&kubeconfig, "server");
        let api = url.trim_start_matches("https://").parse().expect("an address");
        Self { child, dir, api, link }
    }

    /// Kills the server (SIGKILL): it has no chance to write anything more.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks the server to stop; tells how it ended.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        self.ask_to_stop();
        self.child.wait().expect("an end")
    }

    /// Asks the server to stop, and leaves it to it.
    pub fn ask_to_stop(&self) {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
    }

    /// How the server ended, once it has.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// A join token.
    pub fn token(&self, ttl: &str) -> String {
        let mut command = Command::new(BINARY);
        let output = command.args(["token", "create", "--ttl", ttl, "--data-dir"]).arg(&self.dir).output();
        let output = output.expect("the binary starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// A client with the admin's certificate.
    pub async fn admin(&self) -> Client {
        self.client(Some(self.admins()), None).await
    }

    /// The admin's certificate and key.
    pub fn admins(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let text = std::fs::read_to_string(self.dir.join("admin.kubeconfig")).expect("a kubeconfig");
        let pem =
            |name| base64::engine::general_purpose::STANDARD.decode(field(&text, name)).expect("base64");
        let certificate = CertificateDer::from_pem_slice(&pem("client-certificate-data")).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(&pem("client-key-data")).expect("PEM");
        (certificate, key)
    }

    /// A client with that certificate or bearer token, or none.
    pub async fn client(
        &self,
        identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
        token: Option<String>,
    ) -> Client {
        let stream = self.connection(identity, &[]).await;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection.with_upgrades());
        Client { sender, token }
    }

    /// A connection of TLS that offers these protocols.
    pub async fn connection(
        &self,
        identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
        protocols: &[&str],
    ) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        let ca = std::fs::read(self.dir.join("pki/ca.crt")).expect("the CA");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&ca).expect("PEM")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match identity {
            Some((certificate, key)) => {
                config.with_client_auth_cert(vec![certificate], key).expect("an identity")
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = tokio::net::TcpStream::connect(self.api).await.expect("the API listens");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn field(yaml: &str, name: &str) -> String {
    let prefix = format!("{name}: ");
    yaml.lines().find_map(|l| l.trim().strip_prefix(&prefix)).expect("a field").to_owned()
}

/// A request's body.
type Sent = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// One connection to the API.
pub struct Client {
    sender: hyper::client::conn::http1::SendRequest<Sent>,
    token: Option<String>,
}

impl Client {
    /// A request whose answer comes as a stream.
    pub async fn open(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> http::Response<Incoming> {
        let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.sender.ready().await.expect("a connection");
        let request = request.body(Full::from(body).boxed_unsync()).expect("a request");
        self.sender.send_request(request).await.expect("an answer")
    }

    /// A POST whose second half goes only when it is told to; the answer's status comes by the handle.
    pub async fn post_in_two(
        &mut self,
        path: &str,
        first: String,
        second: String,
    ) -> (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<u16>) {
        let (finish, finished) = tokio::sync::oneshot::channel();
        let halves = futures_util::stream::unfold(
            (Some(first), Some((finished, second))),
            |(first, second)| async move {
                if let Some(first) = first {
                    return Some((first, (None, second)));
                }
                let (finished, second) = second?;
                let _ = finished.await;
                Some((second, (None, None)))
            },
        );
        let frames = futures_util::StreamExt::map(halves, |half| {
            Ok::<_, std::convert::Infallible>(hyper::body::Frame::data(Bytes::from(half)))
        });
        let request = Request::post(path)
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .body(http_body_util::StreamBody::new(frames).boxed_unsync())
            .expect("a request");
        self.sender.ready().await.expect("a connection");
        let sending = self.sender.send_request(request);
        let answer = tokio::spawn(async move { sending.await.expect("an answer").status().as_u16() });
        (finish, answer)
    }

    /// A JSON request; status and JSON of the answer.
    pub async fn call(&mut self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let body = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
        let content_type =
            if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let response = self.open(method, path, &[("content-type", content_type)], body).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        (code, value)
    }

    pub async fn get(&mut self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&mut self, path: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, path, Some(body)).await
    }

    /// Asks until `holds`, or fails after ten seconds.
    pub async fn until(&mut self, path: &str, holds: impl Fn(u16, &Value) -> bool) -> Value {
        let mut last = (0, Value::Null);
        for _ in 0..200 {
            last = self.get(path).await;
            if holds(last.0, &last.1) {
                return last.1;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{path} never was as wanted: {last:?}");
    }
}
