//! The `v1` PodStatus of what is there, pure.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use weft_api::view::{Container, Pod};

use super::{ContainerState, Ended, Observed, Phase, Sandbox, all_ended, init_failed, is_sidecar};

/// What is said of a Pod that was active beyond its deadline.
pub(crate) const OVERDUE: &str = "Pod was active on the node longer than the specified deadline";

/// What a status says beside the Pod and its state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// The node's addresses.
    pub(crate) host_ips: &'a [IpAddr],
    /// `status` as it is known so far: conditions keep their times, and those of others stay.
    pub(crate) before: &'a Value,
    pub(crate) now: Timestamp,
}

/// The whole status.
pub(crate) fn status(pod: &Pod, observed: &Observed, context: Context<'_>) -> Value {
    let phase = phase(pod, observed);
    let finished = matches!(phase, "Succeeded" | "Failed");
    let names =
        |cs: &[Container]| -> Vec<Value> { cs.iter().map(|c| container(c, observed, context)).collect() };
    let mut status = Map::new();
    status.insert("phase".into(), json!(phase));
    if observed.overdue {
        status.insert("reason".into(), json!("DeadlineExceeded"));
        status.insert("message".into(), json!(OVERDUE));
    }
    status.insert("conditions".into(), conditions(pod, observed, finished, phase, context));
    let text =
        |ips: &[IpAddr]| -> Vec<Value> { ips.iter().map(|ip| json!({ "ip": ip.to_string() })).collect() };
    if let Some(first) = context.host_ips.first() {
        status.insert("hostIP".into(), json!(first.to_string()));
        status.insert("hostIPs".into(), json!(text(context.host_ips)));
    }
    if let Some(first) = observed.ips.first() {
        status.insert("podIP".into(), json!(first.to_string()));
        status.insert("podIPs".into(), json!(text(&observed.ips)));
    }
    if let Some(started) = observed.started {
        status.insert("startTime".into(), json!(seconds(started)));
    }
    if !pod.spec.init_containers.is_empty() {
        status.insert("initContainerStatuses".into(), json!(names(&pod.spec.init_containers)));
    }
    status.insert("containerStatuses".into(), json!(names(&pod.spec.containers)));
    status.insert("qosClass".into(), json!(qos(pod)));
    Value::Object(status)
}

/// RFC 3339 to the second, as the API writes times.
pub(crate) fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn qos(pod: &Pod) -> &'static str {
    let all = || pod.spec.containers.iter().chain(&pod.spec.init_containers);
    if all().all(|c| c.resources.requests.is_empty() && c.resources.limits.is_empty()) {
        return "BestEffort";
    }
    let guaranteed = all().all(|c| {
        ["cpu", "memory"].iter().all(|r| {
            let limit = c.resources.limits.get(*r);
            limit.is_some() && c.resources.requests.get(*r).is_none_or(|request| Some(request) == limit)
        })
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

fn phase(pod: &Pod, observed: &Observed) -> &'static str {
    let state = |c: &Container| observed.containers.get(&c.name);
    if init_failed(pod, observed) || observed.overdue {
        return "Failed";
    }
    let removed = matches!(observed.sandbox, Sandbox::Gone | Sandbox::Removing);
    let states: Vec<_> = pod.spec.containers.iter().map(state).collect();
    let alive = states.iter().any(|s| s.is_some_and(|s| s.live_id().is_some()));
    if all_ended(pod, observed) || (removed && !alive) {
        let good = states.iter().all(|s| matches!(s.map(|s| &s.phase), Some(Phase::Ended(e)) if e.code == 0));
        return if good { "Succeeded" } else { "Failed" };
    }
    let begun = |s: &Option<&ContainerState>| {
        s.is_some_and(|s| s.last.is_some() || matches!(s.phase, Phase::Running { .. } | Phase::Ended(_)))
    };
    if !states.is_empty() && states.iter().all(begun) { "Running" } else { "Pending" }
}

fn conditions(pod: &Pod, observed: &Observed, finished: bool, phase: &str, context: Context<'_>) -> Value {
    let empty = Vec::new();
    let before = context.before["conditions"].as_array().unwrap_or(&empty);
    let state = |c: &Container| observed.containers.get(&c.name);
    let unready: Vec<_> = pod.spec.containers.iter().filter(|c| !state(c).is_some_and(|s| s.ready)).collect();
    let waiting_init: Vec<_> = pod
        .spec
        .init_containers
        .iter()
        .filter(|c| match state(c).map(|s| &s.phase) {
            Some(Phase::Ended(e)) => e.code != 0 && !is_sidecar(c),
            Some(Phase::Running { .. }) => !is_sidecar(c) || !state(c).is_some_and(|s| s.started),
            _ => true,
        })
        .collect();
    let list = |cs: &[&Container]| cs.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(" ");
    let initialized = if waiting_init.is_empty() {
        (true, String::new(), String::new())
    } else {
        (
            false,
            "ContainersNotInitialized".into(),
            format!("containers with incomplete status: [{}]", list(&waiting_init)),
        )
    };
    let ready = if finished {
        (false, if phase == "Succeeded" { "PodCompleted".into() } else { "PodFailed".into() }, String::new())
    } else if unready.is_empty() {
        (true, String::new(), String::new())
    } else {
        (false, "ContainersNotReady".into(), format!("containers with unready status: [{}]", list(&unready)))
    };
    let missing = pod.spec.readiness_gates.iter().find(|gate| !pod.status.has(&gate.condition_type));
    let gated = match missing {
        Some(gate) if ready.0 => {
            let text = format!("the condition \"{}\" of a readiness gate is not true", gate.condition_type);
            (false, "ReadinessGatesNotReady".into(), text)
        }
        _ => ready.clone(),
    };
    let sandbox = (matches!(observed.sandbox, Sandbox::Ready) && !finished, String::new(), String::new());
    let ours = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", if finished { (true, String::new(), String::new()) } else { initialized }),
        ("Ready", gated),
        ("ContainersReady", ready),
        ("PodScheduled", (true, String::new(), String::new())),
    ];
    let mut all: Vec<Value> =
        ours.into_iter().map(|(name, state)| condition(name, &state, before, context.now)).collect();
    let mine = |c: &&Value| all.iter().any(|a| a["type"] == c["type"]);
    let others: Vec<Value> = before.iter().filter(|c| !mine(c)).cloned().collect();
    all.extend(others);
    Value::Array(all)
}

/// A condition that keeps its time while it says the same.
fn condition(
    name: &str,
    (on, reason, message): &(bool, String, String),
    before: &[Value],
    now: Timestamp,
) -> Value {
    let status = if *on { "True" } else { "False" };
    let same = before.iter().find(|c| c["type"] == name && c["status"] == status);
    let since =
        same.and_then(|c| c["lastTransitionTime"].as_str()).map_or_else(|| seconds(now), str::to_owned);
    let mut condition =
        json!({ "type": name, "status": status, "lastProbeTime": null, "lastTransitionTime": since });
    if !reason.is_empty() {
        condition["reason"] = json!(reason);
    }
    if !message.is_empty() {
        condition["message"] = json!(message);
    }
    condition
}

fn container(spec: &Container, observed: &Observed, _context: Context<'_>) -> Value {
    let none = ContainerState::default();
    let state = observed.containers.get(&spec.name).unwrap_or(&none);
    let full_id = |id: &str| if id.is_empty() { String::new() } else { format!("containerd://{id}") };
    let ended = |e: &Ended| {
        let mut value = json!({
            "exitCode": e.code, "reason": e.reason, "startedAt": seconds(e.started), "finishedAt": seconds(e.finished),
            "containerID": full_id(&e.id),
        });
        if !e.message.is_empty() {
            value["message"] = json!(e.message);
        }
        value
    };
    let mut last = state.last.as_ref();
    let waiting = |default: &str| {
        let (reason, message) = state.waiting.clone().unwrap_or((default.to_owned(), String::new()));
        if message.is_empty() {
            json!({ "reason": reason })
        } else {
            json!({ "reason": reason, "message": message })
        }
    };
    let (now, id) = match &state.phase {
        Phase::Running { id, since } => (json!({ "running": { "startedAt": seconds(*since) } }), id.as_str()),
        Phase::Ended(e) if state.waiting.is_some() => {
            last = Some(e);
            (json!({ "waiting": waiting("CrashLoopBackOff") }), e.id.as_str())
        }
        Phase::Ended(e) => (json!({ "terminated": ended(e) }), e.id.as_str()),
        Phase::Waiting | Phase::Starting { .. } => {
            let init_first =
                !observed.containers.contains_key(&spec.name) && observed.sandbox == Sandbox::Ready;
            let default = if init_first { "PodInitializing" } else { "ContainerCreating" };
            (json!({ "waiting": waiting(default) }), last.map_or("", |e| e.id.as_str()))
        }
    };
    json!({
        "name": spec.name,
        "image": spec.image,
        "imageID": state.image_id,
        "containerID": full_id(id),
        "ready": state.ready,
        "started": state.started,
        "restartCount": state.restarts,
        "state": now,
        "lastState": last.map_or_else(|| json!({}), |e| json!({ "terminated": ended(e) })),
    })
}
