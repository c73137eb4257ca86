//! A Pod's state machine, pure: `plan(desired, observed, now)` says what is to be done next, and the methods of
//! [`Observed`] say what happened. No clock, no process, no file is touched here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use weft_api::view::{Container, Pod};

pub(crate) mod status;
#[cfg(test)]
mod tests;

/// First pause before a restart; doubled each time.
const BACKOFF_FIRST_S: u32 = 10;
/// Longest pause before a restart.
const BACKOFF_MAX_S: u32 = 300;
/// A container that ran this long begins anew with its pauses.
const BACKOFF_RESET_S: i64 = 600;
/// Grace of Pods that name none.
const GRACE_DEFAULT_S: i64 = 30;
/// What a sidecar has when the containers took all of the Pod's grace.
const GRACE_SIDECAR_S: i64 = 2;

/// What is there of a Pod. Kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Observed {
    /// Namespaces, network, volumes and shim. Looked at anew by every run of the agent.
    #[serde(skip)]
    pub(crate) sandbox: Sandbox,
    /// By container name; init containers' names are in the same space.
    pub(crate) containers: BTreeMap<String, ContainerState>,
    /// The Pod's addresses.
    pub(crate) ips: Vec<IpAddr>,
    /// When this node took the Pod on.
    pub(crate) started: Option<Timestamp>,
    /// It has run for the last time and gave back all but its logs.
    #[serde(default)]
    pub(crate) released: bool,
    /// It was active for longer than it may be.
    #[serde(default)]
    pub(crate) overdue: bool,
    /// When it was asked to end, or had to.
    #[serde(default)]
    pub(crate) ending: Option<Timestamp>,
}

/// The Pod's own part.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Sandbox {
    #[default]
    Absent,
    Preparing,
    Ready,
    Failed {
        again: Timestamp,
        pause_s: u32,
        message: String,
    },
    /// It is given back; record and logs stay.
    Releasing,
    Removing,
    /// Something of it could not be removed; tried again then.
    Stuck {
        again: Timestamp,
    },
    Gone,
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerState {
    pub(crate) phase: Phase,
    /// Runs so far, less one.
    pub(crate) restarts: u32,
    /// The run before the one in `phase`.
    pub(crate) last: Option<Ended>,
    /// The pause that the next restart waits for, seconds.
    pub(crate) pause_s: u32,
    /// Whether readiness probes pass.
    pub(crate) ready: bool,
    /// Whether the startup probe has passed.
    pub(crate) started: bool,
    #[serde(skip)]
    pub(crate) image: ImageState,
    /// Why it does not run, for the status: reason and message.
    #[serde(skip)]
    pub(crate) waiting: Option<(String, String)>,
    /// It is to be stopped, and why; set by liveness probes.
    #[serde(skip)]
    pub(crate) unhealthy: Option<String>,
    /// A stop is under way and ends at the latest then.
    #[serde(skip)]
    pub(crate) stopping: Option<Timestamp>,
    /// A start that failed is tried again then.
    #[serde(skip)]
    pub(crate) again: Option<Timestamp>,
    /// Digest of the image it was last started from, and by which name it was pulled.
    pub(crate) image_id: String,
}

/// Where a container is in its life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Phase {
    #[default]
    Waiting,
    Starting {
        id: String,
    },
    Running {
        id: String,
        since: Timestamp,
    },
    Ended(Ended),
}

/// A run that is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) id: String,
    pub(crate) code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) started: Timestamp,
    pub(crate) finished: Timestamp,
}

/// Whether the image is here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum ImageState {
    #[default]
    Unknown,
    /// After a try that failed, `after_s` later; 0 for the first.
    Pulling {
        after_s: u32,
    },
    Ready,
    Failed {
        again: Timestamp,
        pause_s: u32,
    },
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Desired<'a> {
    pub(crate) pod: &'a Pod,
    /// The Pod is to end, and to leave nothing.
    pub(crate) ending: bool,
}

/// All that may be asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    PrepareSandbox,
    Pull {
        container: String,
    },
    Start {
        container: String,
    },
    Stop {
        container: String,
        grace_s: i64,
    },
    /// Gives back what a Pod needs only while it runs.
    Release,
    Teardown,
}

/// What to do now, and when to look again if nothing happens.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake: Option<Timestamp>,
}

impl Plan {
    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }
}

/// The next steps of a Pod.
#[must_use]
pub(crate) fn plan(desired: Desired<'_>, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if desired.ending {
        end(desired.pod, observed, Action::Teardown, now, &mut plan);
        return plan;
    }
    if observed.overdue {
        if !observed.released {
            end(desired.pod, observed, Action::Release, now, &mut plan);
        }
        return plan;
    }
    if is_finished(desired.pod, observed) {
        finish(desired.pod, observed, now, &mut plan);
        return plan;
    }
    if let Some(deadline) = deadline(desired.pod, observed) {
        plan.wake_at(deadline);
    }
    match &observed.sandbox {
        Sandbox::Absent => plan.actions.push(Action::PrepareSandbox),
        Sandbox::Failed { again, .. } if *again <= now => plan.actions.push(Action::PrepareSandbox),
        Sandbox::Failed { again, .. } => plan.wake_at(*again),
        Sandbox::Ready => run(desired.pod, observed, now, &mut plan),
        Sandbox::Preparing
        | Sandbox::Releasing
        | Sandbox::Removing
        | Sandbox::Stuck { .. }
        | Sandbox::Gone => {}
    }
    plan
}

/// Seconds a Pod's containers have between SIGTERM and SIGKILL.
pub(crate) fn grace_s(pod: &Pod) -> i64 {
    let asked = pod.metadata.deletion_grace_period_seconds;
    asked.or(pod.spec.termination_grace_period_seconds).unwrap_or(GRACE_DEFAULT_S).max(0)
}

/// Ends what runs: first the containers, then the sidecars they lean on, one by one from the last.
fn end(pod: &Pod, observed: &Observed, last: Action, now: Timestamp, plan: &mut Plan) {
    let grace = grace_s(pod);
    let live: Vec<_> = observed.containers.iter().filter(|(_, s)| s.live_id().is_some()).collect();
    let is_sidecar = |name: &str| pod.spec.init_containers.iter().any(|c| c.name == name && is_sidecar(c));
    let mut others = live.iter().filter(|(name, _)| !is_sidecar(name)).peekable();
    if others.peek().is_some() {
        others.for_each(|(name, state)| stop(name, state, grace, now, plan));
    } else if let Some(sidecar) = last_sidecar(pod, observed) {
        // The grace is the Pod's, and much of it may be over.
        let since = observed.ending.unwrap_or(now);
        let left = (since + SignedDuration::from_secs(grace)).duration_since(now).as_secs();
        let grace = left.clamp(GRACE_SIDECAR_S.min(grace), grace);
        stop(&sidecar.name, &observed.containers[&sidecar.name], grace, now, plan);
    }
    if live.is_empty() {
        give_back(observed, last, now, plan);
    }
}

/// A Pod that has run for the last time: its sidecars end, and what it needs no more is given back.
fn finish(pod: &Pod, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    if let Some(sidecar) = last_sidecar(pod, observed) {
        stop(&sidecar.name, &observed.containers[&sidecar.name], grace_s(pod), now, plan);
    } else if !observed.released && observed.containers.values().all(|s| s.live_id().is_none()) {
        give_back(observed, Action::Release, now, plan);
    }
}

/// Removes, once nothing is under way and the pause after a try that failed is over.
fn give_back(observed: &Observed, action: Action, now: Timestamp, plan: &mut Plan) {
    match observed.sandbox {
        Sandbox::Preparing | Sandbox::Releasing | Sandbox::Removing | Sandbox::Gone => {}
        Sandbox::Stuck { again } if again > now => plan.wake_at(again),
        _ => plan.actions.push(action),
    }
}

/// Asks a run to end, unless that is under way. A later, shorter grace (a forced delete) overtakes a longer one.
fn stop(name: &str, state: &ContainerState, grace_s: i64, now: Timestamp, plan: &mut Plan) {
    let deadline = now + SignedDuration::from_secs(grace_s + 1);
    let runs = matches!(state.phase, Phase::Running { .. });
    if runs && state.stopping.is_none_or(|under_way| deadline < under_way) {
        plan.actions.push(Action::Stop { container: name.to_owned(), grace_s });
    }
}

/// The sidecar that was started last of those that are left.
fn last_sidecar<'a>(pod: &'a Pod, observed: &Observed) -> Option<&'a Container> {
    let lives = |c: &&Container| observed.containers.get(&c.name).is_some_and(|s| s.live_id().is_some());
    pod.spec.init_containers.iter().rev().filter(|c| is_sidecar(c)).find(lives)
}

fn run(pod: &Pod, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    let policy = pod.spec.restart_policy.as_str();
    let none = ContainerState::default();
    let state_of = |c: &Container| observed.containers.get(&c.name).unwrap_or(&none);
    for container in &pod.spec.init_containers {
        let state = state_of(container);
        heal(pod, container, state, plan);
        let sidecar = is_sidecar(container);
        match &state.phase {
            Phase::Running { .. } if sidecar && state.started => {}
            Phase::Ended(ended) if !sidecar && ended.code == 0 => {}
            Phase::Running { .. } | Phase::Starting { .. } => return,
            Phase::Ended(_) if !sidecar && policy == "Never" => return,
            // A sidecar that ended after the others began holds nobody back.
            Phase::Ended(_)
                if sidecar && pod.spec.containers.iter().any(|c| state_of(c).phase != Phase::Waiting) =>
            {
                advance(container, state, now, plan);
            }
            Phase::Waiting | Phase::Ended(_) => return advance(container, state, now, plan),
        }
    }
    for container in &pod.spec.containers {
        let state = state_of(container);
        heal(pod, container, state, plan);
        match &state.phase {
            Phase::Waiting => advance(container, state, now, plan),
            Phase::Ended(ended) if restarts(policy, ended.code) => advance(container, state, now, plan),
            Phase::Ended(_) | Phase::Starting { .. } | Phase::Running { .. } => {}
        }
    }
}

/// When the Pod has been active for as long as it may be.
fn deadline(pod: &Pod, observed: &Observed) -> Option<Timestamp> {
    let seconds = pod.spec.active_deadline_seconds?;
    observed.started?.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Whether the Pod is active beyond its deadline.
pub(crate) fn is_overdue(pod: &Pod, observed: &Observed, now: Timestamp) -> bool {
    !is_finished(pod, observed) && deadline(pod, observed).is_some_and(|deadline| deadline <= now)
}

/// Whether the Pod has run for the last time.
fn is_finished(pod: &Pod, observed: &Observed) -> bool {
    init_failed(pod, observed) || all_ended(pod, observed)
}

/// Whether an init container failed that is not tried again.
pub(crate) fn init_failed(pod: &Pod, observed: &Observed) -> bool {
    pod.spec.init_containers.iter().filter(|c| !is_sidecar(c)).any(|c| {
        let state = observed.containers.get(&c.name);
        let failed = matches!(state.map(|s| &s.phase), Some(Phase::Ended(e)) if e.code != 0);
        failed && pod.spec.restart_policy == "Never"
    })
}

/// Whether all containers have run for the last time.
pub(crate) fn all_ended(pod: &Pod, observed: &Observed) -> bool {
    let policy = pod.spec.restart_policy.as_str();
    pod.spec.containers.iter().all(|c| {
        let state = observed.containers.get(&c.name);
        matches!(state.map(|s| &s.phase), Some(Phase::Ended(ended)) if !restarts(policy, ended.code))
    })
}

/// Whether the container ended in a way that its Pod's policy answers with another run.
pub(crate) fn restarts(policy: &str, code: i32) -> bool {
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

/// An init container that keeps running beside the others.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy == "Always"
}

fn heal(pod: &Pod, container: &Container, state: &ContainerState, plan: &mut Plan) {
    if matches!(state.phase, Phase::Running { .. }) && state.unhealthy.is_some() && state.stopping.is_none() {
        let probe = container.liveness_probe.as_ref().and_then(|p| p.termination_grace_period_seconds);
        let grace_s = probe.unwrap_or_else(|| grace_s(pod));
        plan.actions.push(Action::Stop { container: container.name.clone(), grace_s });
    }
}

/// One step towards a running container: its pause, its image, its start.
fn advance(container: &Container, state: &ContainerState, now: Timestamp, plan: &mut Plan) {
    if let Phase::Ended(ended) = &state.phase {
        let again = ended.finished + SignedDuration::from_secs(state.pause_s.into());
        if again > now {
            return plan.wake_at(again);
        }
    }
    if let Some(again) = state.again
        && again > now
    {
        return plan.wake_at(again);
    }
    match &state.image {
        ImageState::Unknown => plan.actions.push(Action::Pull { container: container.name.clone() }),
        ImageState::Failed { again, .. } if *again <= now => {
            plan.actions.push(Action::Pull { container: container.name.clone() });
        }
        ImageState::Failed { again, .. } => plan.wake_at(*again),
        ImageState::Pulling { .. } => {}
        ImageState::Ready => plan.actions.push(Action::Start { container: container.name.clone() }),
    }
}

/// The pause after this one.
pub(crate) fn next_pause(pause_s: u32) -> u32 {
    if pause_s == 0 { BACKOFF_FIRST_S } else { (pause_s * 2).min(BACKOFF_MAX_S) }
}

impl ContainerState {
    /// The id of the run that has a process.
    pub(crate) fn live_id(&self) -> Option<&str> {
        match &self.phase {
            Phase::Starting { id } | Phase::Running { id, .. } => Some(id),
            _ => None,
        }
    }

    /// A new run begins. Its number is the count of runs before it.
    pub(crate) fn starting(&mut self, id: String) {
        if let Phase::Ended(ended) = std::mem::take(&mut self.phase) {
            self.last = Some(ended);
            self.restarts += 1;
        }
        self.phase = Phase::Starting { id };
        self.ready = false;
        self.started = false;
        self.unhealthy = None;
        self.stopping = None;
        self.again = None;
    }

    /// The process runs.
    pub(crate) fn running(&mut self, id: String, since: Timestamp) {
        self.phase = Phase::Running { id, since };
        self.waiting = None;
    }

    /// The run is over. The next one, if any, waits longer than this one did.
    pub(crate) fn ended(&mut self, ended: Ended) {
        let ran_s = ended.finished.duration_since(ended.started).as_secs();
        // The first restart comes at once, the later ones after growing pauses.
        let first = self.restarts == 0 || ran_s >= BACKOFF_RESET_S;
        self.pause_s = if first { 0 } else { next_pause(self.pause_s) };
        self.phase = Phase::Ended(ended);
        self.ready = false;
        self.started = false;
        self.unhealthy = None;
        self.stopping = None;
        self.image = ImageState::Unknown;
    }
}
