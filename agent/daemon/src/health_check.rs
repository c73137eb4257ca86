//! Answers load balancers that ask whether this node has endpoints of a Service with `externalTrafficPolicy: Local`, in
//! kube-proxy's words: 200 when it has, 503 when not, and how many in the body.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Services that this node answers for; those with the highest ports go without.
const CHECKS_MAX: usize = 1024;
/// Connections to one Service's port at once.
const CONNECTIONS_MAX: usize = 32;
/// How long one may last.
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// A pause after a connection could not be taken, for want of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one port answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Ready endpoints of the Service on this node.
    pub(crate) local_endpoints: usize,
}

/// The ports that are answered.
pub(crate) struct Responders {
    addresses: Vec<IpAddr>,
    ports: BTreeMap<u16, Responder>,
    /// Ports that could not be had, so that each is complained of once.
    missing: BTreeMap<u16, String>,
}

struct Responder {
    check: watch::Sender<Check>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Responders {
    /// None yet; ports are opened on these addresses.
    pub(crate) fn new(addresses: Vec<IpAddr>) -> Self {
        Self { addresses, ports: BTreeMap::new(), missing: BTreeMap::new() }
    }

    /// Answers these from now on, and no others. A port that is taken is tried again with the next call.
    pub(crate) async fn set(&mut self, checks: &BTreeMap<u16, Check>) {
        if checks.len() > CHECKS_MAX && self.ports.len() < CHECKS_MAX {
            tracing::warn!(
                services = checks.len(),
                answered = CHECKS_MAX,
                "too many Services with a health check port"
            );
        }
        let wanted: BTreeMap<u16, &Check> =
            checks.iter().take(CHECKS_MAX).map(|(port, check)| (*port, check)).collect();
        self.ports.retain(|port, _| wanted.contains_key(port));
        self.missing.retain(|port, _| wanted.contains_key(port));
        for (port, check) in wanted {
            if let Some(responder) = self.ports.get(&port) {
                responder.check.send_if_modified(|now| {
                    let changed = now != check;
                    now.clone_from(check);
                    changed
                });
                continue;
            }
            match open(&self.addresses, port, check).await {
                Ok(responder) => {
                    self.missing.remove(&port);
                    self.ports.insert(port, responder);
                }
                Err(error) => {
                    let error = error.to_string();
                    if self.missing.get(&port) != Some(&error) {
                        let service = format!("{}/{}", check.namespace, check.name);
                        tracing::error!(port, service, error, "health checks of a Service are not answered");
                        self.missing.insert(port, error);
                    }
                }
            }
        }
    }
}

async fn open(addresses: &[IpAddr], port: u16, check: &Check) -> std::io::Result<Responder> {
    let (sender, receiver) = watch::channel(check.clone());
    let mut responder = Responder { check: sender, tasks: Vec::new() };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    for address in addresses {
        let listener = TcpListener::bind((*address, port)).await?;
        responder.tasks.push(tokio::spawn(accept(listener, receiver.clone(), places.clone())));
    }
    Ok(responder)
}

async fn accept(listener: TcpListener, check: watch::Receiver<Check>, places: Arc<Semaphore>) {
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let check = check.clone();
                tokio::spawn(async move {
                    // Who asks slowly, or not at all, is cut off.
                    let _ended = tokio::time::timeout(CONNECTION_MAX, serve(stream, check)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a health check's connection was not taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, check: watch::Receiver<Check>) {
    let service = service_fn(move |_| {
        let answer = answer(&check.borrow());
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION_MAX)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a health check broke off");
    }
}

fn answer(check: &Check) -> Response<Full<Bytes>> {
    let body = json!({
        "service": { "namespace": check.namespace, "name": check.name },
        "localEndpoints": check.local_endpoints,
        "serviceProxyHealthy": true,
    });
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    if check.local_endpoints == 0 {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    headers.insert(
        header::HeaderName::from_static("x-load-balancing-endpoint-weight"),
        header::HeaderValue::from(check.local_endpoints),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn check(local_endpoints: usize) -> Check {
        Check { namespace: "default".into(), name: "web".into(), local_endpoints }
    }

    async fn ask(port: u16) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((HERE, port)).await?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        Ok(said)
    }

    #[tokio::test]
    async fn a_port_answers_for_its_service_as_long_as_it_has_one() {
        let other = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = other.local_addr().unwrap().port();
        let mut responders = Responders::new(vec![HERE]);
        responders.set(&[(port, check(2))].into()).await;
        assert!(responders.ports.is_empty() && responders.missing.contains_key(&port), "taken by another");
        drop(other);
        responders.set(&[(port, check(2))].into()).await;
        let said = ask(port).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
        assert!(said.contains("x-load-balancing-endpoint-weight: 2\r\n"), "{said}");
        assert!(said.ends_with(
            r#"{"localEndpoints":2,"service":{"name":"web","namespace":"default"},"serviceProxyHealthy":true}"#
        ));
        responders.set(&[(port, check(0))].into()).await;
        assert!(ask(port).await.unwrap().starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        responders.set(&BTreeMap::new()).await;
        tokio::task::yield_now().await;
        assert!(ask(port).await.is_err(), "closed");
    }
}
