//! The agent's HTTP API: what agentctl and the control plane ask of this node. Served over the Unix socket, and over
//! byte streams that the control plane opens through the link.

pub(crate) mod answer;
mod containers;
mod images;
mod node;
mod tables;
mod trace;

use std::convert::Infallible;
use std::sync::Arc;

use answer::{Body, Refusal};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use weft_runtime::ContainerRef;

use crate::agent::Agent;
use crate::probe::{self, Question};

/// Serves one connection until it ends.
pub(crate) async fn serve<S>(agent: Arc<Agent>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let agent = agent.clone();
        async move { Ok::<_, Infallible>(route(&agent, request).await.unwrap_or_else(Response::from)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(std::time::Duration::from_secs(10))
        .max_buf_size(256 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a client of the agent's API went");
    }
}

async fn route(agent: &Agent, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let get = request.method() == Method::GET;
    let post = request.method() == Method::POST;
    match parts.as_slice() {
        ["agent", "v1", "status"] if get => node::status(agent).await,
        ["agent", "v1", "services"] if get => tables::services(agent, &query).await,
        ["agent", "v1", "pods"] if get => node::pods(agent).await,
        ["agent", "v1", "usage"] if get => answer::json(&agent.runtime.usage()),
        ["agent", "v1", "images"] if get => answer::json(&images::list(&agent.runtime)),
        ["agent", "v1", "images"] if post => images::load(&agent.runtime, request.into_body()).await,
        ["agent", "v1", "neighbours", address] if get => node::neighbour(agent, address).await,
        ["agent", "v1", "settings"] if post => node::set(agent, request.into_body()).await,
        ["agent", "v1", "conntrack"] if get => tables::conntrack(agent, &query).await,
        ["agent", "v1", "nat"] if get => tables::nat(agent, &query).await,
        ["agent", "v1", "maps"] if get => tables::list(agent, &query).await,
        ["agent", "v1", "maps", name] if get => tables::dump(agent, name, &query).await,
        ["agent", "v1", "probe"] if get => {
            let question = Question::parse(self::query(&query))?;
            answer::json(&probe::answer(agent, &question).await?)
        }
        ["agent", "v1", "trace"] if get => trace::answer(&agent.flows, &query),
        ["containerLogs", rest @ ..] if get => {
            containers::logs(&agent.runtime, container(rest)?, &query).await
        }
        ["exec", rest @ ..] if post => {
            let container = container(rest)?;
            containers::exec(&agent.runtime, container, request).await
        }
        ["attach", rest @ ..] if post => {
            let container = container(rest)?;
            containers::attach(&agent.runtime, container, request).await
        }
        _ if get || post => Err(Refusal::not_found(format!("the agent has no {path}"))),
        _ => Err(Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            message: format!("the agent does not answer {} {path}", request.method()),
        }),
    }
}

fn container(parts: &[&str]) -> Result<ContainerRef, Refusal> {
    match parts {
        [namespace, pod] => {
            Ok(ContainerRef { namespace: (*namespace).into(), pod: (*pod).into(), container: String::new() })
        }
        [namespace, pod, container] => Ok(ContainerRef {
            namespace: (*namespace).into(),
            pod: (*pod).into(),
            container: (*container).into(),
        }),
        _ => Err(Refusal::bad_request("the path must end with NAMESPACE/POD/CONTAINER")),
    }
}

/// The parameters of a query, percent-decoded; `+` is a space.
fn query(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'+' => bytes.push(b' '),
            b'%' if tail.len() >= 2 => {
                let digits =
                    std::str::from_utf8(&tail[..2]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                match digits {
                    Some(byte) => {
                        bytes.push(byte);
                        rest = &tail[2..];
                    }
                    None => bytes.push(b'%'),
                }
            }
            other => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn queries_are_decoded() {
        let all: Vec<_> = super::query("command=sh&command=-c&command=echo+a%20b%2").collect();
        assert_eq!(all[0], ("command".into(), "sh".into()));
        assert_eq!(all[2].1, "echo a b%2");
    }

    #[test]
    fn a_container_needs_its_pod() {
        assert!(super::container(&["default"]).is_err());
        assert_eq!(super::container(&["default", "web"]).unwrap().container, "");
    }
}
