//! What the agent's parts report: Pods and events of the runtime, flows of the dataplane, the node's own health.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use weft_link::message::{NodeEvent, PodStatus};
use weft_runtime::{Report, RuntimeEvent, Subject};

use crate::agent::Agent;
use crate::api::answer::chain;
use crate::node_status::{MachineFacts, Moment, status};

/// How often the node's status is told when nothing changes.
const NODE_STATUS_EVERY: Duration = Duration::from_secs(30);
/// How often it is looked at.
const NODE_STATUS_LOOK: Duration = Duration::from_secs(1);

/// Carries the runtime's reports to the outbox, for ever.
pub(crate) async fn runtime(agent: Arc<Agent>) {
    let reports = agent.runtime.reports();
    loop {
        match reports.next().await {
            Report::Status(update) => {
                let wanted =
                    agent.knowledge.view().object("Pod", &update.pod.namespace, &update.pod.name).is_some();
                if update.gone && !wanted {
                    agent.outbox.forget(&update.pod.uid);
                    continue;
                }
                agent.outbox.pod(PodStatus {
                    namespace: update.pod.namespace,
                    name: update.pod.name,
                    uid: update.pod.uid,
                    json: update.status,
                    gone: update.gone,
                });
            }
            Report::Event(event) => agent.outbox.event(node_event(event, &agent.config.node_name)),
        }
    }
}

/// An event in the words of the link.
fn node_event(event: RuntimeEvent, node: &str) -> NodeEvent {
    let (kind, namespace, name, uid) = match event.subject {
        Subject::Pod(pod) => ("Pod", pod.namespace, pod.name, pod.uid),
        // The API's convention for events of nodes: their UID is their name.
        Subject::Node => ("Node", String::new(), node.to_owned(), node.to_owned()),
    };
    NodeEvent {
        kind: kind.into(),
        namespace,
        name,
        uid,
        field_path: event.field_path,
        r#type: event.type_.as_str().into(),
        reason: event.reason.into(),
        message: event.message,
    }
}

/// Explains and keeps the dataplane's flow events, for ever.
pub(crate) async fn flows(agent: Arc<Agent>) {
    let mut events = match agent.dataplane.events() {
        Ok(events) => events,
        Err(error) => {
            tracing::error!(error = chain(&error), "flows cannot be read: agentctl trace stays empty");
            return;
        }
    };
    let mut pods = crate::flow_event::PodsByNamespace::default();
    loop {
        match events.next().await {
            Ok(event) => {
                let event = crate::flow_event::read(&event, &agent.dataplane, &mut pods).await;
                let flow = weft_trace::explain(&event, &agent.config.node_name, &*agent.knowledge.view());
                agent.flows.push(flow);
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "a flow event cannot be read");
                tokio::time::sleep(NODE_STATUS_LOOK).await;
            }
        }
    }
}

/// Tells the node's status: at once when it changes, else from time to time; for ever.
pub(crate) async fn node(agent: Arc<Agent>, facts: MachineFacts, addresses: Vec<IpAddr>) {
    let mut last: Option<(String, usize)> = None;
    let mut changed = now();
    let mut told = tokio::time::Instant::now();
    loop {
        let not_ready = match agent.dataplane.status().await {
            Ok(_) => String::new(),
            Err(stopped) => chain(&stopped),
        };
        let images: Vec<(String, u64)> = agent
            .runtime
            .images()
            .into_iter()
            .filter_map(|image| Some((image.names.into_iter().next()?, image.size_bytes)))
            .collect();
        let state = (not_ready.clone(), images.len());
        if last.as_ref().is_none_or(|(reason, _)| *reason != not_ready) {
            changed = now();
        }
        if last.as_ref() != Some(&state) || told.elapsed() >= NODE_STATUS_EVERY {
            let moment = Moment {
                node: &agent.config.node_name,
                addresses: &addresses,
                pods_max: agent.config.pods_max,
                not_ready: &not_ready,
                now: &now(),
                changed: &changed,
                images: &images,
            };
            agent.outbox.node(Bytes::from(status(&facts, &moment).to_string()));
            told = tokio::time::Instant::now();
            last = Some(state);
        }
        tokio::time::sleep(NODE_STATUS_LOOK).await;
    }
}

/// RFC 3339, seconds.
pub(crate) fn now() -> String {
    format!("{:.0}", Timestamp::now())
}
