//! `agentctl probe`: a question about a packet is resolved, put to the kernel, and explained.

mod explain;
mod listen;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::PoisonError;
use std::time::Duration;

use weft_dataplane::desired::Protocol;
use weft_dataplane::dry;
use weft_dataplane::dry::ask::Asked;
use weft_dataplane::{PodLink, live};
use weft_dns::resolve::{Unresolved, resolve};
use weft_trace::Probe;

use crate::agent::Agent;
use crate::api::answer::{Refusal, chain};
use crate::assemble::pods_cgroup;

/// How long the process in the Pod's cgroup may take.
const ASK_MAX: Duration = Duration::from_secs(10);
/// Length of a packet when nobody says another, bytes: a SYN with the options Linux sends.
const BYTES_DEFAULT: u32 = 60;
/// Lengths that an IPv4 packet can have, bytes.
const BYTES: std::ops::RangeInclusive<u32> = 28..=65_535;
/// The source port when the Pod's stack gave none.
const SOURCE_PORT: u16 = 40_000;

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    namespace: String,
    pod: String,
    host: String,
    port: u16,
    protocol: Protocol,
    bytes: u32,
}

impl Question {
    /// Reads the parameters of a query.
    pub(crate) fn parse(parameters: impl Iterator<Item = (String, String)>) -> Result<Self, Refusal> {
        let (mut from, mut to, mut protocol, mut bytes) = (None, None, Protocol::Tcp, BYTES_DEFAULT);
        for (name, value) in parameters {
            match name.as_str() {
                "from" => from = Some(value),
                "to" => to = Some(value),
                "udp" if value == "true" => protocol = Protocol::Udp,
                "udp" => {}
                "size" => {
                    bytes = value.parse().ok().filter(|bytes| BYTES.contains(bytes)).ok_or_else(|| {
                        let (first, last) = (BYTES.start(), BYTES.end());
                        Refusal::bad_request(format!("a packet has {first} to {last} bytes, not {value:?}"))
                    })?;
                }
                other => return Err(Refusal::bad_request(format!("unknown probe parameter {other:?}"))),
            }
        }
        let from = from.unwrap_or_default();
        let Some((namespace, pod)) = from.split_once('/').filter(|(a, b)| !a.is_empty() && !b.is_empty())
        else {
            return Err(Refusal::bad_request(format!("from {from:?} is not of the form NAMESPACE/NAME")));
        };
        let to = to.unwrap_or_default();
        let parsed = to.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let Some((host, port)) = parsed.filter(|(host, port)| !host.is_empty() && *port != 0) else {
            return Err(Refusal::bad_request(format!("to {to:?} is not of the form HOST:PORT")));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { namespace: namespace.to_owned(), pod: pod.to_owned(), host, port, protocol, bytes })
    }
}

/// The destination, and how it was found.
struct Target {
    address: SocketAddr,
    found: Option<String>,
}

/// Answers a question.
///
/// # Errors
/// What is asked about is not on this node, has no address, or the kernel cannot be asked.
pub(crate) async fn answer(agent: &Agent, question: &Question) -> Result<Probe, Refusal> {
    let link = pod(agent, question).await?;
    let target = target(agent, question)?;
    let status = agent.dataplane.status().await.map_err(|error| Refusal::failed(&error))?;
    let asked = ask(agent, &link, target.address, question.protocol).await?;
    let own = |to: SocketAddr| link.ips.contains(&to.ip());
    // What the socket station ends, or what stays on the Pod's own loopback, no packet program sees.
    let walked = match asked.peer {
        Some(to) if !own(to) => {
            let source_port = if asked.source_port == 0 { SOURCE_PORT } else { asked.source_port };
            let packet = dry::Packet { protocol: question.protocol, source_port, to, bytes: question.bytes };
            let walked = agent.dataplane.probe(&question.namespace, &question.pod, packet).await;
            Some(walked.map_err(|error| Refusal::failed(&error))?)
        }
        _ => None,
    };
    let mut facts = explain::Facts {
        node: &agent.config.node_name,
        pod: format!("{}/{}", question.namespace, question.pod),
        ips: &link.ips,
        protocol: question.protocol,
        bytes: question.bytes,
        to: target.address,
        found: target.found,
        socket_lb: status.socket_lb,
        asked,
        walked,
        node_ports: node_ports(&agent.knowledge.cluster()),
        backends: None,
        listening: None,
    };
    facts.backends = backends(agent, &facts)?;
    facts.listening = listen::on_this_machine(question.protocol, question.port).ok();
    Ok(explain::explain(&facts, &agent.knowledge.view()))
}

/// The cluster's range; Kubernetes' own before it is known.
fn node_ports(cluster: &weft_link::message::Cluster) -> (u16, u16) {
    match (u16::try_from(cluster.node_port_first), u16::try_from(cluster.node_port_last)) {
        (Ok(first @ 1..), Ok(last)) => (first, last),
        _ => (30_000, 32_767),
    }
}

async fn pod(agent: &Agent, question: &Question) -> Result<PodLink, Refusal> {
    let links = agent.dataplane.known_pods().await.map_err(|error| Refusal::failed(&error))?;
    let name = format!("{}/{}", question.namespace, question.pod);
    let found =
        links.into_iter().find(|link| link.namespace == question.namespace && link.name == question.pod);
    found.ok_or_else(|| {
        let here = &agent.config.node_name;
        let elsewhere = agent.knowledge.view().place_of(&name);
        Refusal::not_found(match elsewhere {
            Some((_, node)) if node != *here => {
                format!("Pod {name} is on {node}: agentctl --node {node} probe … asks there")
            }
            Some(_) => format!("Pod {name} is in the network of its node, where no Pod's programs are"),
            None => format!("node {here} knows no Pod {name}"),
        })
    })
}

fn target(agent: &Agent, question: &Question) -> Result<Target, Refusal> {
    let host = &question.host;
    let at = |ip: IpAddr, found| Target { address: SocketAddr::new(ip, question.port), found };
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(at(ip.to_canonical(), None));
    }
    if host.contains('/') {
        let place = agent.knowledge.view().place_of(host);
        let (ip, node) = place
            .ok_or_else(|| Refusal::not_found(format!("no Pod {host} with an address is known here")))?;
        return Ok(at(ip, Some(format!("Pod {host} on {node} has the address {ip}"))));
    }
    let Some(records) = agent.records.get() else {
        return Err(Refusal::bad_request("cluster DNS has not started yet; ask again"));
    };
    let records = records.read().unwrap_or_else(PoisonError::into_inner);
    let resolved = resolve(&records, host, &question.namespace).map_err(|error| match error {
        Unresolved::Nothing(_) => Refusal::not_found(error.to_string()),
        Unresolved::Outside(_) => Refusal::bad_request(error.to_string()),
    })?;
    // The family that clients here use first.
    let ip = resolved.addresses.iter().find(|ip| ip.is_ipv4()).or(resolved.addresses.first());
    let ip = ip.ok_or_else(|| Refusal::not_found(format!("{} has no address now", resolved.name)))?;
    Ok(at(*ip, Some(format!("this node's DNS: {} is {ip}", resolved.name))))
}

/// Has a process in the Pod's cgroup ask the socket hooks.
async fn ask(agent: &Agent, link: &PodLink, to: SocketAddr, protocol: Protocol) -> Result<Asked, Refusal> {
    let failed = |what: String| Refusal { status: http::StatusCode::INTERNAL_SERVER_ERROR, message: what };
    let program = std::env::current_exe().map_err(|error| Refusal::failed(&error))?;
    let pod = pods_cgroup(&agent.config.cgroup_root).join(format!("pod{}", link.uid));
    let child = tokio::process::Command::new(program)
        .arg("ask-socket")
        .args(["--cgroup".as_ref(), pod.as_os_str()])
        .args(["--maps".as_ref(), agent.dataplane.maps().as_os_str()])
        .args(["--netns".as_ref(), link.netns.as_os_str()])
        .args(["--to", &to.to_string(), "--protocol", &protocol.number().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(ASK_MAX, child)
        .await
        .map_err(|_| failed("the socket hooks gave no answer in time".to_owned()))?
        .map_err(|error| Refusal::failed(&error))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(failed(format!("cannot ask the socket hooks: {}", said.trim())));
    }
    serde_json::from_slice(&done.stdout).map_err(|error| Refusal::failed(&error))
}

/// The flags of the process in the Pod's cgroup.
#[derive(Debug, clap::Args)]
pub(crate) struct AskSocket {
    /// The Pod's cgroup, below each hierarchy
    #[arg(long)]
    cgroup: PathBuf,
    /// Directory of the live tables
    #[arg(long)]
    maps: PathBuf,
    /// The Pod's network namespace
    #[arg(long)]
    netns: PathBuf,
    /// Address that is connected to
    #[arg(long)]
    to: SocketAddr,
    /// IP protocol number that is asked about
    #[arg(long)]
    protocol: u8,
}

/// What that process does: joins the cgroup, asks, and prints the answer.
pub(crate) fn ask_socket(arguments: &AskSocket) -> std::process::ExitCode {
    let asked = weft_runtime::cgroup::join_pod(&arguments.cgroup)
        .map_err(|error| format!("cgroup {}: {error}", arguments.cgroup.display()))
        .and_then(|()| {
            dry::ask::connect(&arguments.maps, &arguments.netns, arguments.to, arguments.protocol)
                .map_err(|error| chain(&error))
        })
        .and_then(|asked| serde_json::to_string(&asked).map_err(|error| error.to_string()));
    match asked {
        Ok(text) => {
            println!("{text}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// How many backends the Service row has that decides.
fn backends(agent: &Agent, facts: &explain::Facts<'_>) -> Result<Option<u32>, Refusal> {
    let id = facts.walked.as_ref().and_then(|walked| Some(walked.passages.first()?.service_id)).unwrap_or(0);
    let mut count = None;
    let read = live::frontends(
        agent.dataplane.maps(),
        |_| false,
        |row| {
            let named = row.address == facts.to && row.protocol == facts.protocol.number() && !row.inside;
            if (id != 0 && row.id == id) || (id == 0 && named) {
                count = Some(row.backend_count);
                return std::ops::ControlFlow::Break(());
            }
            std::ops::ControlFlow::Continue(())
        },
    );
    read.map_err(|error| Refusal::failed(&error))?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Question, String> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Question::parse(pairs).map_err(|refusal| refusal.message)
    }

    #[test]
    fn questions_are_read_and_wrong_ones_are_told() {
        let question =
            parse(&[("from", "shop/web-0"), ("to", "db.shop:5432"), ("udp", "true"), ("size", "1400")]);
        let question = question.expect("a question");
        assert_eq!((question.host.as_str(), question.port, question.bytes), ("db.shop", 5432, 1_400));
        assert_eq!(question.protocol, Protocol::Udp);
        let v6 = parse(&[("from", "a/b"), ("to", "[fd00::1]:80")]).expect("a question");
        assert_eq!((v6.host.as_str(), v6.bytes), ("fd00::1", 60));
        let pod = parse(&[("from", "a/b"), ("to", "c/d:80")]).expect("a question");
        assert_eq!(pod.host, "c/d");
        for (pairs, what) in [
            (vec![("from", "web"), ("to", "a:1")], "NAMESPACE/NAME"),
            (vec![("from", "a/b"), ("to", "a")], "HOST:PORT"),
            (vec![("from", "a/b"), ("to", "a:0")], "HOST:PORT"),
            (vec![("from", "a/b"), ("to", "a:1"), ("size", "12")], "bytes"),
            (vec![("from", "a/b"), ("to", "a:1"), ("colour", "red")], "colour"),
        ] {
            let error = parse(&pairs).expect_err(what);
            assert!(error.contains(what), "{error}");
        }
    }
}
