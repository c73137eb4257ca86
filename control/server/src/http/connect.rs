//! Requests that are carried on to a node's agent: logs, exec, attach, port-forward, and everything under `proxy`.
//!
//! The agent speaks HTTP/1.1 on a stream of the link; what it answers goes to the client as it comes.

mod channels;
mod forward;
mod proxy;
mod target;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use weft_api::kind::{self, Subresource};
use weft_api::status::Status;
use weft_api::view::Pod;

use super::answer::{self, Body};
use super::query::encode;
use super::route::ResourceRoute;
use super::{Api, Call, upgrade, websocket};
use crate::nodes::DialError;

/// How long an agent may take to begin its answer, from when the request's last bytes went to it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// Longest refusal of an agent that is read, bytes.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Serves `log`, `exec`, `attach`, `portforward` and `proxy`.
///
/// # Errors
/// 404, 400 for a Pod that does not run anywhere, 503 for a node that is not connected, and what the agent refuses.
pub(crate) async fn serve(api: Arc<Api>, call: Call, route: ResourceRoute) -> Result<Response<Body>, Status> {
    if *route.kind == kind::NODE {
        return node_proxy(&api, call, &route).await;
    }
    if route.subresource == Some(Subresource::Proxy) {
        return proxy::serve(&api, call, &route).await;
    }
    let cached = api.objects.get(route.kind, &route.key)?;
    let pod: Pod = cached.object.view().map_err(Status::internal)?;
    match route.subresource {
        Some(Subresource::Log) => log(&api, &call, &pod).await,
        Some(Subresource::Exec) => exec(&api, call, &pod, "exec").await,
        Some(Subresource::Attach) => exec(&api, call, &pod, "attach").await,
        Some(Subresource::PortForward) => forward::serve(&api, call, &pod),
        _ => Err(Status::service_unavailable("this stream is not served")),
    }
}

fn node_of(pod: &Pod) -> Result<&str, Status> {
    match pod.spec.node_name.as_str() {
        "" => Err(Status::bad_request(format!("pod {} does not have a host assigned", pod.metadata.name))),
        node => Ok(node),
    }
}

/// The container a request is about: the one it names, or the only one, or the one an annotation names.
fn container_of(call: &Call, pod: &Pod) -> Result<String, Status> {
    let names: Vec<&str> =
        pod.spec.containers.iter().chain(&pod.spec.init_containers).map(|c| c.name.as_str()).collect();
    if let Some(asked) = call.query.get("container") {
        if names.contains(&asked) {
            return Ok(asked.to_owned());
        }
        let pod = &pod.metadata.name;
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {pod}")));
    }
    let annotated = pod.metadata.annotations.get("kubectl.kubernetes.io/default-container");
    if let Some(name) = annotated.filter(|n| names.contains(&n.as_str())) {
        return Ok(name.clone());
    }
    match pod.spec.containers.as_slice() {
        [one] => Ok(one.name.clone()),
        several => {
            let names: Vec<&str> = several.iter().map(|c| c.name.as_str()).collect();
            Err(Status::bad_request(format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                pod.metadata.name,
                names.join(" ")
            )))
        }
    }
}

async fn log(api: &Api, call: &Call, pod: &Pod) -> Result<Response<Body>, Status> {
    let container = container_of(call, pod)?;
    let node = node_of(pod)?;
    let mut parameters = Vec::new();
    for name in ["follow", "timestamps", "previous"] {
        if call.query.flag(name) {
            parameters.push(format!("{name}=true"));
        }
    }
    for name in ["tailLines", "limitBytes", "sinceSeconds"] {
        if let Some(number) = call.query.number::<u64>(name)? {
            parameters.push(format!("{name}={number}"));
        }
    }
    if let Some(time) = call.query.get("sinceTime") {
        parameters.push(format!("sinceTime={}", encode(time)));
    } else if let Some(seconds) = call.query.number::<u64>("sinceSeconds")? {
        // The agent knows points in time only.
        let since = crate::clock::now() - Duration::from_secs(seconds);
        parameters.retain(|p| !p.starts_with("sinceSeconds="));
        parameters.push(format!("sinceTime={}", encode(&crate::clock::seconds(since))));
    }
    let meta = &pod.metadata;
    let path =
        format!("/containerLogs/{}/{}/{container}?{}", meta.namespace, meta.name, parameters.join("&"));
    let request = agent_request(Method::GET, &path, Full::default())?;
    let response = send(api, node, request, &Progress::new()).await?;
    if !response.status().is_success() {
        return Err(refusal(response).await);
    }
    Ok(answer::with_type(StatusCode::OK, "text/plain", carried(response.into_body())))
}

/// A request's body on its way to the agent.
type Outgoing = http_body_util::combinators::UnsyncBoxBody<Bytes, hyper::Error>;

fn agent_request<B>(method: Method, path: &str, body: B) -> Result<Request<B>, Status> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "agent")
        .body(body)
        .map_err(|e| Status::bad_request(e.to_string()))
}

fn dial_status(error: &DialError) -> Status {
    Status::service_unavailable(error.to_string())
}

/// Sends a request to a node's agent, on a stream of its own.
async fn send<B>(
    api: &Api,
    node: &str,
    request: Request<B>,
    progress: &Progress,
) -> Result<Response<Incoming>, Status>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = api.nodes.agent(node).await.map_err(|e| dial_status(&e))?;
    let broken =
        |error: hyper::Error| Status::service_unavailable(format!("node {node:?} broke off: {error}"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a stream to an agent ended");
        }
    });
    match progress.within(ANSWER_TIME_MAX, sender.send_request(request)).await {
        Some(response) => response.map_err(broken),
        None => Err(Status::timeout(format!("node {node:?} does not answer"), 1)),
    }
}

/// When a request last moved: a large one takes its time, and only a standstill is an end.
#[derive(Clone)]
struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn moved(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// A request's body on its way, whose every piece moves it.
    fn noted(&self, body: Incoming) -> Outgoing {
        let progress = self.clone();
        let noted = body.map_frame(move |frame| {
            progress.moved();
            frame
        });
        noted.boxed_unsync()
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes of `future`; none when nothing has moved for so long.
    async fn within<T>(&self, standstill_max: Duration, future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        loop {
            let ends = self.last() + standstill_max;
            tokio::select! {
                result = &mut future => return Some(result),
                () = tokio::time::sleep_until(ends) => if self.last() + standstill_max == ends { return None },
            }
        }
    }
}

/// A body that is handed on as it comes.
fn carried(body: Incoming) -> Body {
    body.map_err(std::io::Error::other).boxed_unsync()
}

/// What an agent refuses, as it said it.
async fn refusal(response: Response<Incoming>) -> Status {
    let code = response.status();
    let bytes = match Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let read = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
    let message = read
        .as_ref()
        .and_then(|v| v["message"].as_str())
        .map_or_else(|| String::from_utf8_lossy(&bytes).trim().to_owned(), ToOwned::to_owned);
    let mut status = match code.as_u16() {
        404 => Status::path_not_found(),
        400..=499 => Status::bad_request(String::new()),
        503 => Status::service_unavailable(String::new()),
        _ => Status::internal(""),
    };
    status.message = message;
    status
}

async fn exec(api: &Arc<Api>, call: Call, pod: &Pod, verb: &str) -> Result<Response<Body>, Status> {
    let container = container_of(&call, pod)?;
    let node = node_of(pod)?;
    let place = api.switched.take()?;
    let headers = call.request.headers();
    let protocol = if upgrade::is_spdy(headers) {
        match upgrade::negotiate(headers, channels::PROTOCOLS) {
            Some(protocol) => Switch::Spdy(protocol),
            None => return Ok(upgrade::refused(channels::PROTOCOLS)),
        }
    } else {
        Switch::WebSocket(websocket::negotiate(headers, websocket::CHANNELS)?)
    };
    let mut parameters: Vec<String> =
        call.query.all("command").map(|c| format!("command={}", encode(c))).collect();
    if verb == "exec" && parameters.is_empty() {
        return Err(Status::bad_request("you must specify at least 1 command for the container"));
    }
    for name in ["stdin", "stdout", "stderr", "tty"] {
        parameters.push(format!("{name}={}", call.query.flag(name)));
    }
    let meta = &pod.metadata;
    let path = format!("/{verb}/{}/{}/{container}?{}", meta.namespace, meta.name, parameters.join("&"));
    let mut request = agent_request(Method::POST, &path, Full::<Bytes>::default())?;
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    request.headers_mut().insert(UPGRADE, HeaderValue::from_static(websocket::AGENT_PROTOCOL));
    let response = send(api, node, request, &Progress::new()).await?;
    let refused = response.status() != StatusCode::SWITCHING_PROTOCOLS;
    match protocol {
        Switch::Spdy(_) if refused => Err(refusal(response).await),
        Switch::Spdy(protocol) => {
            let flag = |name| call.query.flag(name);
            let [stdin, stdout, stderr, tty] = ["stdin", "stdout", "stderr", "tty"].map(flag);
            let wanted = channels::Wanted { stdin, stdout, stderr, tty };
            Ok(channels::serve(api, call.request, response, protocol, wanted, place))
        }
        Switch::WebSocket(protocol) if refused => {
            websocket::refuse(call.request, protocol, &refusal(response).await)
        }
        Switch::WebSocket(protocol) => {
            websocket::carry(call.request, response, protocol, api.stopping.clone(), place)
        }
    }
}

/// How a client's connection is switched over, and what is spoken then.
enum Switch {
    Spdy(&'static str),
    WebSocket(websocket::Protocol),
}

/// Headers that are about one connection and go no further (RFC 9110, 7.6.1), and who the client is.
const HOP_HEADERS: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "authorization",
    "content-length",
    "cookie",
];

fn is_hop(name: &HeaderName) -> bool {
    HOP_HEADERS.contains(&name.as_str())
}

/// `nodes/NAME/proxy/agent/v1/…`: the agent's own API.
async fn node_proxy(api: &Api, call: Call, route: &ResourceRoute) -> Result<Response<Body>, Status> {
    api.objects.get(route.kind, &route.key)?;
    // Everything else the agent serves on this stream is behind subresources with rights of their own.
    if !route.rest.starts_with("agent/v1/") || route.rest.split('/').any(|part| part == "..") {
        return Err(Status::path_not_found());
    }
    let query = call.request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    let path = format!("/{}{query}", route.rest);
    let (head, body) = call.request.into_parts();
    let progress = Progress::new();
    let body = progress.noted(body);
    let mut request = agent_request(head.method.clone(), &path, body)?;
    for (name, value) in head.headers.iter().filter(|(n, _)| !is_hop(n)) {
        request.headers_mut().append(name.clone(), value.clone());
    }
    let response = send(api, &route.key.name, request, &progress).await?;
    let (head, body) = response.into_parts();
    let mut answered = Response::new(carried(body));
    *answered.status_mut() = head.status;
    for (name, value) in head.headers.iter().filter(|(n, _)| !is_hop(n)) {
        answered.headers_mut().append(name.clone(), value.clone());
    }
    if !answered.headers().contains_key(CONTENT_TYPE) {
        answered.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    Ok(answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_moves_has_time_and_what_stands_still_has_not() {
        let progress = Progress::new();
        let uploading = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                progress.moved();
            }
            "answered"
        };
        assert_eq!(progress.within(LIMIT, uploading).await, Some("answered"));
        let began = Instant::now();
        assert_eq!(progress.within(LIMIT, std::future::pending::<()>()).await, None);
        assert_eq!(began.elapsed().as_secs(), 60);
    }
}
