//! Probes and hooks: a command in the container, an HTTP request, a TCP connection.
//!
//! Requests are made from inside the Pod's own network namespace to the Pod's address: what the dataplane does, or a policy
//! says, never decides about health.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_api::view::pod::{Container, ExecAction, HttpGetAction, Probe, TcpSocketAction};

use crate::exec::{self, Target};
use crate::namespace::dial;
use crate::node::Place;
use crate::shim::task::Task;

/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: u64 = 4096;
const TIMEOUT_S: u32 = 1;
const PERIOD_S: u32 = 10;
const FAILURES: u32 = 3;

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    /// As events spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// Where probes look.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) task: Task,
    pub(crate) place: Place,
    pub(crate) id: String,
    pub(crate) container: Arc<Container>,
    pub(crate) ips: Vec<IpAddr>,
    /// The Pod's network namespace; `None` for the node's.
    pub(crate) netns: Option<PathBuf>,
}

/// What a probe found.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) kind: Kind,
    /// One attempt's complaint; empty when it was good.
    pub(crate) complaint: String,
    /// Whether the threshold is reached: passed or failed for good.
    pub(crate) decided: bool,
}

/// Runs one probe for as long as it is polled, and tells each verdict; a startup probe ends with its first decision.
pub(crate) async fn watch<F>(subject: &Subject, kind: Kind, probe: &Probe, tell: impl Fn(Verdict) -> F)
where
    F: Future<Output = ()>,
{
    let period = Duration::from_secs(probe.period_seconds.unwrap_or(PERIOD_S).max(1).into());
    let (wanted, allowed) =
        (probe.success_threshold.unwrap_or(1).max(1), probe.failure_threshold.unwrap_or(FAILURES).max(1));
    let (mut good, mut bad) = (0_u32, 0_u32);
    tokio::time::sleep(Duration::from_secs(probe.initial_delay_seconds.into())).await;
    loop {
        let complaint = once(subject, probe).await.err().unwrap_or_default();
        let passed = complaint.is_empty();
        (good, bad) = if passed { (good.saturating_add(1), 0) } else { (0, bad.saturating_add(1)) };
        let decided = if passed { good >= wanted } else { bad >= allowed };
        tell(Verdict { kind, complaint, decided }).await;
        if decided && kind == Kind::Startup {
            return;
        }
        tokio::time::sleep(period).await;
    }
}

async fn once(subject: &Subject, probe: &Probe) -> Result<(), String> {
    let patience = Duration::from_secs(probe.timeout_seconds.unwrap_or(TIMEOUT_S).max(1).into());
    let action = Action {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
    };
    act(subject, action, patience).await
}

/// One handler of a probe or hook.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Action<'a> {
    pub(crate) exec: Option<&'a ExecAction>,
    pub(crate) http_get: Option<&'a HttpGetAction>,
    pub(crate) tcp_socket: Option<&'a TcpSocketAction>,
}

/// Does it; the complaint is for people.
pub(crate) async fn act(subject: &Subject, action: Action<'_>, patience: Duration) -> Result<(), String> {
    if let Some(exec) = action.exec {
        let target = Target { task: &subject.task, place: &subject.place, id: &subject.id };
        return match exec::run(&target, &exec.command, patience).await {
            Ok(0) => Ok(()),
            Ok(code) => Err(format!("command exited with code {code}")),
            Err(error) => Err(error.to_string()),
        };
    }
    let network = async {
        if let Some(get) = action.http_get {
            http_get(subject, get).await
        } else if let Some(tcp) = action.tcp_socket {
            connect(subject, &tcp.host, &tcp.port).await.map(drop)
        } else {
            Err("the probe has no handler that is supported".to_owned())
        }
    };
    let timed = tokio::time::timeout(patience, network).await;
    timed.unwrap_or_else(|_| Err(format!("no answer in {} s", patience.as_secs())))
}

async fn connect(subject: &Subject, host: &str, port: &Value) -> Result<TcpStream, String> {
    let number = match port {
        Value::String(name) => {
            let named = subject.container.ports.iter().find(|p| p.name == *name).map(|p| p.container_port);
            named.or_else(|| name.parse().ok())
        }
        other => other.as_u64().and_then(|n| u16::try_from(n).ok()),
    };
    let number = number.ok_or_else(|| format!("port {port} is none of the container's"))?;
    let own = subject.ips.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (ip, netns) = if host.is_empty() {
        (own, subject.netns.clone())
    } else {
        (host.parse().map_err(|_| format!("host {host} is no address"))?, None)
    };
    let to = SocketAddr::new(ip, number);
    dial(netns, to).await.map_err(|e| format!("dial tcp {to}: {e}"))
}

async fn http_get(subject: &Subject, get: &HttpGetAction) -> Result<(), String> {
    let stream = connect(subject, &get.host, &get.port).await?;
    let at = stream.peer_addr().map_err(|e| e.to_string())?;
    let own_host = get.http_headers.iter().find(|h| h.name.eq_ignore_ascii_case("host"));
    let host = own_host.map_or_else(|| at.to_string(), |h| h.value.clone());
    let path = if get.path.is_empty() { "/" } else { &get.path };
    let mut request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weft-probe/1\r\nConnection: close\r\n");
    for header in get.http_headers.iter().filter(|h| !h.name.eq_ignore_ascii_case("host")) {
        request.push_str(&format!("{}: {}\r\n", header.name, header.value));
    }
    request.push_str("\r\n");
    let code = if get.scheme.eq_ignore_ascii_case("https") {
        let tls = crate::tls::connect(stream, at.ip()).await.map_err(|e| format!("tls to {at}: {e}"))?;
        converse(tls, &request).await
    } else {
        converse(stream, &request).await
    };
    match code.map_err(|e| format!("http to {at}: {e}"))? {
        200..=399 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> io::Result<u16> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let mut limited = stream.take(ANSWER_BYTES_MAX);
    // The status line is enough; the rest may never come.
    while !answer.contains(&b'\n') {
        if limited.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let code =
        line.strip_prefix("HTTP/1.").and_then(|l| l.split(' ').nth(1)).and_then(|c| c.trim().parse().ok());
    code.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}
