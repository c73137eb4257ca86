//! The node itself: status, Services, Pods, settings.

use std::net::IpAddr;

use http::Response;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::json;
use weft_api::view::Pod;
use weft_dataplane::neighbour_answers;
use weft_trace::Names as _;

use super::answer::{self, Body, Refusal};
use crate::addresses::kernel_has_v6;
use crate::agent::Agent;
use crate::assemble::own_ranges;

/// Largest body of a settings change, bytes.
const SETTINGS_BYTES_MAX: usize = 16 << 10;

/// One Pod.
#[derive(Serialize)]
pub(crate) struct PodRow {
    namespace: String,
    name: String,
    phase: String,
    ips: Vec<String>,
    interface: String,
    uid: String,
}

/// What an operator asks first.
pub(crate) async fn status(agent: &Agent) -> Result<Response<Body>, Refusal> {
    let dataplane = agent.dataplane.status().await.map_err(|error| Refusal::failed(&error))?;
    let counters = agent.dataplane.counters().await.map_err(|error| Refusal::failed(&error))?;
    let (flows, overwritten) = agent.flows.fill();
    let images = agent.runtime.images();
    let encryption = encryption(agent).await;
    answer::json(&json!({
        "node": agent.config.node_name,
        "version": env!("CARGO_PKG_VERSION"),
        "link": {
            "control": agent.config.control,
            "connected": agent.link.is_connected(),
            "problem": agent.link.problem(),
            "viewComplete": agent.knowledge.is_complete(),
            "eventsLost": agent.outbox.events_lost(),
        },
        "addresses": agent.addresses,
        "podCIDRs": agent.ranges,
        "podCIDRsAfterRestart": later(agent),
        "encryption": encryption,
        "dataplane": dataplane,
        "counters": counters,
        "flows": { "kept": flows, "overwritten": overwritten },
        "images": {
            "count": images.len(),
            "bytes": images.iter().map(|image| image.size_bytes).sum::<u64>(),
            "removed": agent.runtime.images_removed(),
        },
        "pods": agent.knowledge.view().objects("Pod").count(),
    }))
}

/// How nodes encrypt, who does it here, and how the peers are.
async fn encryption(agent: &Agent) -> serde_json::Value {
    let Some(cipher) = &agent.cipher else { return json!({ "mode": "off" }) };
    let mode = if cipher.is_in_kernel() { "kernel" } else { "user space" };
    match cipher.status().await {
        Ok(status) => json!({ "mode": mode, "status": status }),
        Err(problem) => json!({ "mode": mode, "problem": problem }),
    }
}

/// Ranges that the control plane has given the node since the agent started, for example because the cluster has become dual
/// stack.
fn later(agent: &Agent) -> Vec<ipnet::IpNet> {
    let mut given = own_ranges(&agent.config, &agent.knowledge);
    given.retain(|range| !agent.ranges.contains(range) && (range.addr().is_ipv4() || kernel_has_v6()));
    given
}

/// Whether another node's machine answers on this node's network, whatever its agent does: what the control plane asks when
/// it hears nothing of that node. `null`: not to be told from here.
pub(crate) async fn neighbour(agent: &Agent, address: &str) -> Result<Response<Body>, Refusal> {
    let asked: IpAddr =
        address.parse().map_err(|_| Refusal::bad_request(format!("{address:?} is no address")))?;
    // No tool to look for others with.
    if agent.knowledge.view().node(asked).is_none() {
        return Err(Refusal::not_found(format!("{asked} is no node's address")));
    }
    let uplink = agent.dataplane.status().await.map_err(|error| Refusal::failed(&error))?.uplink;
    let answers = match asked {
        IpAddr::V4(asked) => {
            neighbour_answers(&uplink, asked).await.map_err(|error| Refusal::failed(&error))?
        }
        IpAddr::V6(_) => None,
    };
    answer::json(&json!({ "address": asked, "answers": answers }))
}

/// The Pods of this node.
pub(crate) async fn pods(agent: &Agent) -> Result<Response<Body>, Refusal> {
    let links = agent.dataplane.known_pods().await.map_err(|error| Refusal::failed(&error))?;
    let device = |uid: &str| links.iter().find(|link| link.uid == uid).map(|link| link.device.clone());
    let view = agent.knowledge.view();
    let rows: Vec<PodRow> = view
        .objects("Pod")
        .filter_map(|object| serde_json::from_slice::<Pod>(&object.json).ok())
        .map(|pod| PodRow {
            interface: device(&pod.metadata.uid).unwrap_or_default(),
            namespace: pod.metadata.namespace,
            name: pod.metadata.name,
            phase: pod.status.phase,
            ips: pod.status.pod_ips.into_iter().map(|ip| ip.ip).collect(),
            uid: pod.metadata.uid,
        })
        .collect();
    answer::json(&rows)
}

/// Changes settings of the running agent.
pub(crate) async fn set(agent: &Agent, body: Incoming) -> Result<Response<Body>, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    struct Settings {
        socket_lb: Option<bool>,
    }
    let body = Limited::new(body, SETTINGS_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| Refusal::bad_request(format!("the settings cannot be read: {error}")))?
        .to_bytes();
    let settings: Settings =
        serde_json::from_slice(&body).map_err(|error| Refusal::bad_request(format!("settings: {error}")))?;
    if let Some(on) = settings.socket_lb {
        agent.dataplane.set_socket_lb(on).await.map_err(|error| Refusal::failed(&error))?;
        tracing::info!(on, "socket load balancing was switched");
    }
    answer::json(&json!({}))
}
