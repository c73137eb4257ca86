//! Sockets: TCP, TLS and HTTP/1.1 or HTTP/2 on them, with their limits.

use std::net::IpAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use weft_link::session::{Guests, Place};

use super::Api;
use super::answer::Body;
use super::patience::Patience;
use super::unread::Answers;
use crate::authn;
use crate::pki::{Leaf, Pki, PkiError};
use crate::stop::stopped;

#[cfg(test)]
mod tests;

/// How long a TLS handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a request's header may take.
const HEADER_TIME_MAX: Duration = Duration::from_secs(15);
/// Streams on one HTTP/2 connection at once.
const STREAMS_MAX: u32 = 250;
/// A header's bytes.
const HEADER_BYTES_MAX: u32 = 64 * 1024;
/// What waits in the server for a client to take it, bytes of a connection (HTTP/1.1) or stream (HTTP/2).
const UNSENT_BYTES_MAX: usize = 64 * 1024;
/// An HTTP/2 connection that does not answer for this long is closed.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long open requests may run on when the server stops.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("client certificates cannot be verified")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    #[error("the server certificate is not usable")]
    Certificate(#[source] rustls::Error),
}

/// The certificate that every new handshake is shown.
#[derive(Debug)]
pub(crate) struct Shown(ArcSwap<CertifiedKey>);

impl Shown {
    /// Shows a certificate from now on.
    ///
    /// # Errors
    /// It is not usable.
    pub(crate) fn set(&self, leaf: &Leaf) -> Result<(), TlsError> {
        self.0.store(Arc::new(certified(leaf)?));
        Ok(())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certified(leaf: &Leaf) -> Result<CertifiedKey, TlsError> {
    let (certificate, key) = leaf.der()?;
    CertifiedKey::from_der(vec![certificate], key, &provider()).map_err(TlsError::Certificate)
}

/// TLS with the server's certificate; a client certificate is not asked of anybody, but if there is one it must be ours.
pub(crate) fn acceptor(pki: &Pki) -> Result<(TlsAcceptor, Arc<Shown>), TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca_der()?).map_err(TlsError::Certificate)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(TlsError::Verifier)?;
    let shown = Arc::new(Shown(ArcSwap::from_pointee(certified(&pki.server())?)));
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Certificate)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), shown))
}

/// Listening sockets handed over by whoever started us (systemd's `LISTEN_FDS`), as additional API listeners.
///
/// # Errors
/// A descriptor is no TCP socket that tokio can use.
#[allow(unsafe_code)]
pub(crate) fn inherited(
    listen_pid: Option<&str>,
    listen_fds: Option<&str>,
) -> std::io::Result<Vec<TcpListener>> {
    /// The first descriptor of the convention (`sd_listen_fds(3)`).
    const FIRST: RawFd = 3;
    /// More are not taken.
    const LISTENERS_MAX: RawFd = 16;
    let for_us = listen_pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let count = listen_fds.and_then(|n| n.parse::<RawFd>().ok()).unwrap_or(0);
    if !for_us {
        return Ok(Vec::new());
    }
    let mut listeners = Vec::new();
    for fd in FIRST..FIRST + count.clamp(0, LISTENERS_MAX) {
        // SAFETY: by the convention the descriptor is open and ours; this runs once, before anything else opens one, so
        // nobody else owns it.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        let listener = std::net::TcpListener::from(owned);
        listener.set_nonblocking(true)?;
        listeners.push(TcpListener::from_std(listener)?);
    }
    Ok(listeners)
}

/// Places for connections, shared by all listeners: so many in all, and a part of them for each address, so that nobody
/// holds them all before it has said who it is.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) all: Arc<Semaphore>,
    guests: Guests,
}

impl Connections {
    /// One address may hold a quarter.
    pub(crate) fn new(connections_max: usize) -> Self {
        let guests = Guests::new(connections_max.div_ceil(4));
        Self { all: Arc::new(Semaphore::new(connections_max)), guests }
    }

    fn enter(&self, address: IpAddr) -> Option<(OwnedSemaphorePermit, Place)> {
        Some((self.all.clone().try_acquire_owned().ok()?, self.guests.enter(address)?))
    }
}

/// Accepts connections until the server stops.
pub(crate) async fn serve(listener: TcpListener, tls: TlsAcceptor, api: Arc<Api>, connections: Connections) {
    let mut stopping = api.stopping.clone();
    loop {
        let (stream, address) = tokio::select! {
            () = stopped(&mut stopping) => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => (stream, address.ip()),
                Err(error) => {
                    // Out of descriptors, or the peer was gone already: neither ends the listener.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let Some(place) = connections.enter(address) else {
            if api.metrics.connections_refused.inc().is_multiple_of(1_000) {
                tracing::warn!(
                    %address,
                    "too many connections to the API, in all or from one address (--connections-max): closed"
                );
            }
            continue;
        };
        let (tls, api) = (tls.clone(), api.clone());
        tokio::spawn(async move {
            api.metrics.connections.inc();
            connection(stream, address, tls, api.clone()).await;
            api.metrics.connections.dec();
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, address: IpAddr, tls: TlsAcceptor, api: Arc<Api>) {
    let _ = stream.set_nodelay(true);
    let Some(stream) = secured(stream, &tls).await else { return };
    let user = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(|der| authn::by_certificate(der))
        .map(Arc::new);
    let stopping = api.stopping.clone();
    let answers = Arc::new(Answers::new());
    let followed = answers.clone();
    let serve = move |request| {
        let (api, user, answers) = (api.clone(), user.clone(), followed.clone());
        async move { api.serve(request, user, &answers).await }
    };
    speak(stream, address, serve, &answers, stopping).await;
}

/// TLS on a connection; none without it, or not in time.
async fn secured<S: AsyncRead + AsyncWrite + Unpin>(stream: S, tls: &TlsAcceptor) -> Option<TlsStream<S>> {
    match tokio::time::timeout(HANDSHAKE_TIME_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// HTTP on a connection, until it ends, its client reads no further, or the server stops.
async fn speak<S, F, A>(
    stream: S,
    address: IpAddr,
    serve: F,
    answers: &Answers,
    mut stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(|request| {
        let answer = serve(request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_buf_size(UNSENT_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(UNSENT_BYTES_MAX)
        .keep_alive_interval(PING_EVERY);
    let stream = TokioIo::new(Patience::new(stream, HEADER_TIME_MAX));
    let connection = builder.serve_connection_with_upgrades(stream, service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = answers.stand_still() => {
            tracing::info!(%address, "a client does not read what it asked for: its connection is closed");
            return;
        }
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(DRAIN_TIME_MAX, connection).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
}
