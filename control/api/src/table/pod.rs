//! Columns of Pods: readiness, the one-word status, restarts.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, NONE, Printer, age_of, at, count, list, name, or, since, text, wide};

pub(crate) static PRINTER: Printer = Printer {
    columns: &[
        NAME,
        text("Ready", "The aggregate readiness state of this pod for accepting traffic."),
        text("Status", "The aggregate status of the containers in this pod."),
        text(
            "Restarts",
            "The number of times the containers in this pod have been restarted and when the last did.",
        ),
        AGE,
        wide("IP", "Address of the pod."),
        wide("Node", "The node this pod is bound to."),
        wide("Nominated Node", "The node whose pods this pod may displace."),
        wide("Readiness Gates", "Further conditions that are evaluated for the pod's readiness."),
    ],
    cells,
    condition: completed,
};

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let mut restarts = summary.restarts.to_string();
    if let Some(last) = summary.last_restart.filter(|_| summary.restarts > 0) {
        restarts = format!("{restarts} ({} ago)", since(&last, now));
    }
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.status.into(),
        restarts.into(),
        age_of(pod, now),
        or(at(pod, "/status/podIP"), NONE),
        or(at(pod, "/spec/nodeName"), NONE),
        or(at(pod, "/status/nominatedNodeName"), NONE),
        gates(pod),
    ]
}

/// The row's condition for a Pod that has ended.
fn completed(pod: &Value) -> Option<Value> {
    let phase = at(pod, "/status/phase");
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    Some(json!({"type": "Completed", "status": "True", "reason": phase, "message": message}))
}

fn gates(pod: &Value) -> Value {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return NONE.into();
    }
    let held = gates.iter().filter(|g| has(pod, at(g, "/conditionType"))).count();
    format!("{held}/{}", gates.len()).into()
}

fn has(pod: &Value, condition: &str) -> bool {
    list(pod, "/status/conditions").iter().any(|c| at(c, "/type") == condition && at(c, "/status") == "True")
}

/// What kubectl shows of a Pod's containers.
struct Summary {
    ready: usize,
    total: usize,
    status: String,
    restarts: i64,
    last_restart: Option<String>,
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let reason = at(pod, "/status/reason");
        let status = if reason.is_empty() { at(pod, "/status/phase") } else { reason };
        let gated = |c: &Value| at(c, "/type") == "PodScheduled" && at(c, "/reason") == "SchedulingGated";
        let status =
            if list(pod, "/status/conditions").iter().any(gated) { "SchedulingGated" } else { status };
        let mut summary = Self {
            ready: 0,
            total: list(pod, "/spec/containers").len(),
            status: status.to_owned(),
            restarts: 0,
            last_restart: None,
        };
        let initializing = summary.init_containers(pod);
        if !initializing || has(pod, "Initialized") {
            summary.containers(pod);
        }
        if !at(pod, "/metadata/deletionTimestamp").is_empty() {
            if reason == "NodeLost" {
                "Unknown".clone_into(&mut summary.status);
            } else if !matches!(at(pod, "/status/phase"), "Succeeded" | "Failed") {
                "Terminating".clone_into(&mut summary.status);
            }
        }
        summary
    }

    /// Whether an init container has not done its part.
    fn init_containers(&mut self, pod: &Value) -> bool {
        let specs = list(pod, "/spec/initContainers");
        let sidecar =
            |name: &str| specs.iter().any(|c| at(c, "/name") == name && at(c, "/restartPolicy") == "Always");
        self.total += specs.iter().filter(|c| at(c, "/restartPolicy") == "Always").count();
        let mut sidecar_restarts = 0;
        let mut restarts = 0;
        let mut initializing = false;
        for (index, container) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
            restarts += count(container, "/restartCount");
            self.restarted(container);
            let is_sidecar = sidecar(at(container, "/name"));
            if is_sidecar {
                sidecar_restarts += count(container, "/restartCount");
            }
            let terminated = container.pointer("/state/terminated");
            if terminated.is_some_and(|t| count(t, "/exitCode") == 0) {
                continue;
            }
            if is_sidecar && container["started"].as_bool().unwrap_or(false) {
                self.ready += usize::from(container["ready"].as_bool().unwrap_or(false));
                continue;
            }
            let waiting = at(container, "/state/waiting/reason");
            self.status = match terminated {
                Some(terminated) => format!("Init:{}", ended(terminated)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", specs.len()),
            };
            initializing = true;
            break;
        }
        self.restarts = if initializing && !has(pod, "Initialized") { restarts } else { sidecar_restarts };
        initializing
    }

    fn containers(&mut self, pod: &Value) {
        let mut running = false;
        for container in list(pod, "/status/containerStatuses").iter().rev() {
            self.restarts += count(container, "/restartCount");
            self.restarted(container);
            let waiting = at(container, "/state/waiting/reason");
            let is_ready = container["ready"].as_bool().unwrap_or(false);
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.status);
            } else if let Some(terminated) = container.pointer("/state/terminated") {
                self.status = ended(terminated);
            } else if is_ready && container.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.status == "Completed" && running {
            self.status = if has(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn restarted(&mut self, container: &Value) {
        let finished = at(container, "/lastState/terminated/finishedAt");
        if !finished.is_empty() && self.last_restart.as_deref().is_none_or(|last| last < finished) {
            self.last_restart = Some(finished.to_owned());
        }
    }
}

/// Why a container ended.
fn ended(terminated: &Value) -> String {
    let (reason, signal) = (at(terminated, "/reason"), count(terminated, "/signal"));
    match () {
        () if !reason.is_empty() => reason.to_owned(),
        () if signal != 0 => format!("Signal:{signal}"),
        () => format!("ExitCode:{}", count(terminated, "/exitCode")),
    }
}
