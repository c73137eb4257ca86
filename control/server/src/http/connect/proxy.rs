//! HTTP to Pods and Services, through the agent of the Pod's node: requests and answers as they come, upgrades too.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, UPGRADE,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Body as _;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsConnector;
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::status::Status;
use weft_api::view::{EndpointSlice, Pod, Service};

use super::super::answer::{self, Body};
use super::super::route::ResourceRoute;
use super::super::{Api, Call};
use super::target::{self, Named, Place};
use super::{Progress, carried, is_hop};
use crate::stop::stopped;

#[cfg(test)]
mod tests;

/// How long a Pod may take to begin its answer, from when the request's last bytes went to it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(600);
/// How long TLS with a Pod may take to be agreed on.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of a Pod's answer that wait to be taken, and longest header of one.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Where the request was before it came here.
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// The label that names a slice's Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Serves `proxy` of Pods and Services.
///
/// # Errors
/// 400 for a name that cannot be, 404 without such an object, 503 for what cannot be reached.
pub(super) async fn serve(
    api: &Arc<Api>,
    call: Call,
    route: &ResourceRoute,
) -> Result<Response<Body>, Status> {
    let named = Named::parse(&route.key.name)?;
    let key = ObjectKey::namespaced(route.key.namespace.clone(), named.name);
    let find = if *route.kind == kind::SERVICE { of_service } else { of_pod };
    let place = find(api, &key, named.port)?;
    let path = call.request.uri().path();
    // What the Pod calls `/`; its relative links lead astray without the slash.
    let prefix = path.strip_suffix(&route.rest).unwrap_or(path).trim_end_matches('/').to_owned();
    let wants_upgrade = call.request.headers().contains_key(UPGRADE)
        && super::super::upgrade::has(call.request.headers(), CONNECTION, "upgrade");
    let reads = matches!(*call.request.method(), Method::GET | Method::HEAD);
    if path == prefix && reads && !wants_upgrade {
        let query = call.request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
        return Ok(moved(&format!("{prefix}/{query}")));
    }
    let switched = if wants_upgrade { Some(api.switched.take()?) } else { None };
    let stream = api.nodes.dial(&place.node, place.address).await.map_err(|error| unreachable(&error))?;
    if !named.tls {
        return exchange(api, call, route, &prefix, &place, stream, switched).await;
    }
    let name = ServerName::IpAddress(place.address.ip().into());
    let connecting =
        TlsConnector::from(Arc::new(unverified().map_err(Status::internal)?)).connect(name, stream);
    match tokio::time::timeout(HANDSHAKE_TIME_MAX, connecting).await {
        Ok(Ok(stream)) => exchange(api, call, route, &prefix, &place, stream, switched).await,
        Ok(Err(error)) => Err(unreachable(&error)),
        Err(_) => Err(unreachable(&"TLS handshake timeout")),
    }
}

fn unreachable(why: &dyn std::fmt::Display) -> Status {
    Status::service_unavailable(format!("error trying to reach service: {why}"))
}

fn moved(to: &str) -> Response<Body> {
    let mut response = Response::new(answer::full(Bytes::new()));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

fn of_pod(api: &Api, key: &ObjectKey, port: &str) -> Result<Place, Status> {
    let pod: Pod = api.objects.get(&kind::POD, key)?.object.view().map_err(Status::internal)?;
    target::of_pod(&pod, port)
}

fn of_service(api: &Api, key: &ObjectKey, port: &str) -> Result<Place, Status> {
    /// Requests go round the endpoints.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let service: Service = api.objects.get(&kind::SERVICE, key)?.object.view().map_err(Status::internal)?;
    let port_name = target::port_name(&service, port)?;
    let (slices, _) = api.objects.cache.list(&kind::ENDPOINT_SLICE, Some(&key.namespace));
    let slices: Vec<EndpointSlice> = slices
        .iter()
        .filter(|slice| slice.object.meta.labels.get(SERVICE_LABEL).is_some_and(|s| *s == key.name))
        .filter_map(|slice| slice.object.view().ok())
        .collect();
    let pod = |name: &str| {
        let key = ObjectKey::namespaced(key.namespace.clone(), name);
        api.objects.cache.get(&kind::POD, &key)?.object.view().ok()
    };
    target::of_service(&key.name, port_name, &slices, NEXT.fetch_add(1, Ordering::Relaxed), pod)
}

/// One request and its answer.
async fn exchange<S>(
    api: &Api,
    call: Call,
    route: &ResourceRoute,
    prefix: &str,
    place: &Place,
    stream: S,
    switched: Option<OwnedSemaphorePermit>,
) -> Result<Response<Body>, Status>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(BUFFER_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a Pod ended");
        }
    });
    let mut client = call.request;
    let ours = switched.is_some().then(|| hyper::upgrade::on(&mut client));
    let (head, body) = client.into_parts();
    let mut told = to_pod(&head, &route.rest, prefix, ours.is_some())?;
    // By what was read and not by what was said: two lengths in one request would be two requests to somebody.
    let length = body.size_hint().exact().filter(|_| head.headers.contains_key(CONTENT_LENGTH));
    told.headers.extend(length.map(|length| (CONTENT_LENGTH, HeaderValue::from(length))));
    let progress = Progress::new();
    let body = progress.noted(body);
    let request = Request::from_parts(told, body);
    let answered = progress.within(ANSWER_TIME_MAX, sender.send_request(request)).await;
    let mut response = answered
        .ok_or_else(|| Status::timeout(format!("no answer from {}", place.address), 1))?
        .map_err(|error| unreachable(&error))?;
    let hosts = [host(&head), place.address.to_string()];
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(to_client(response.map(carried), prefix, &hosts));
    }
    let (Some(ours), Some(switched)) = (ours, switched) else {
        return Err(unreachable(&"the pod switches to a protocol that nobody asked for"));
    };
    let theirs = hyper::upgrade::on(&mut response);
    let mut stopping = api.stopping.clone();
    tokio::spawn(async move {
        let _place = switched;
        let Ok((client, pod)) = tokio::try_join!(ours, theirs) else { return };
        let (mut client, mut pod) = (TokioIo::new(client), TokioIo::new(pod));
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut pod) => {}
            () = stopped(&mut stopping) => {}
        }
    });
    let upgrade = response.headers().get(UPGRADE).or(head.headers.get(UPGRADE)).cloned();
    let mut answered = to_client(response.map(|_| answer::full(Bytes::new())), prefix, &hosts);
    answered.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answered.headers_mut().extend(upgrade.map(|value| (UPGRADE, value)));
    Ok(answered)
}

/// The host that a client called.
fn host(client: &Parts) -> String {
    let called = client.headers.get(HOST).and_then(|h| h.to_str().ok());
    called.or(client.uri.authority().map(|a| a.as_str())).unwrap_or_default().to_owned()
}

/// The request's head as the Pod gets it.
fn to_pod(client: &Parts, rest: &str, prefix: &str, upgrades: bool) -> Result<Parts, Status> {
    let query = client.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let uri: Uri = format!("/{rest}{query}").parse().map_err(|e| Status::bad_request(format!("{e}")))?;
    let mut headers = for_pod(&client.headers);
    let added = [(HOST, host(client)), (FORWARDED_URI, format!("{prefix}/{rest}"))];
    headers.extend(added.into_iter().filter_map(|(name, v)| Some((name, HeaderValue::from_str(&v).ok()?))));
    if upgrades {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.extend(client.headers.get(UPGRADE).map(|value| (UPGRADE, value.clone())));
    }
    let (mut head, ()) = Request::new(()).into_parts();
    (head.method, head.uri, head.headers) = (client.method.clone(), uri, headers);
    Ok(head)
}

/// What a client's headers say to the API server and to nobody behind it: who it is, and whom it plays.
const PRIVATE_PREFIXES: &[&str] = &["impersonate-", "x-remote-", "x-forwarded-"];

/// A client's headers for a Pod: nothing about its connection, nothing of its rights. Cookies are the Pod's own: the API server
/// has none.
fn for_pod(client: &HeaderMap) -> HeaderMap {
    let private = |name: &HeaderName| PRIVATE_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix));
    let mut headers = end_to_end(client);
    headers.remove(CONTENT_LENGTH);
    for name in client.keys().filter(|name| private(name)) {
        headers.remove(name);
    }
    headers
}

/// Headers without those of one connection, also those that `Connection` names (RFC 9110, 7.6.1).
fn end_to_end(from: &HeaderMap) -> HeaderMap {
    let kept = |name: &HeaderName| {
        let end_to_end = *name == COOKIE || *name == CONTENT_LENGTH || !is_hop(name);
        end_to_end && !super::super::upgrade::has(from, CONNECTION, name.as_str())
    };
    from.iter().filter(|(name, _)| kept(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The answer as the client gets it.
fn to_client(pod: Response<Body>, prefix: &str, own_hosts: &[String]) -> Response<Body> {
    let (head, body) = pod.into_parts();
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = end_to_end(&head.headers);
    let location = head.headers.get(LOCATION).and_then(|l| l.to_str().ok());
    if let Some(Ok(location)) = location.map(|l| HeaderValue::from_str(&rewritten(l, prefix, own_hosts))) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Where a redirect leads: a path of the Pod's is one behind the prefix here; other hosts and relative paths stay.
fn rewritten(location: &str, prefix: &str, own_hosts: &[String]) -> String {
    let after_scheme = location.strip_prefix("http://").or(location.strip_prefix("https://"));
    let path = match after_scheme.or(location.strip_prefix("//")) {
        Some(rest) => {
            let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            if !own_hosts.iter().any(|own| own == host) {
                return location.to_owned();
            }
            path
        }
        None => location,
    };
    let behind = path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match path.starts_with('/') {
        false => location.to_owned(),
        true if behind => path.to_owned(),
        true => format!("{prefix}{path}"),
    }
}

/// TLS with whatever certificate a Pod shows, as in Kubernetes: nobody vouches for it, and its address leads to nobody else.
fn unverified() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Ok(config)
}

/// Takes every certificate, and only whoever holds its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
