//! One Pod's loop: observe, plan, perform. It performs by jobs that run beside it and tell what happened; only the loop
//! changes what is observed.

mod exit;
mod pull;
mod sandbox;
mod start;
mod stop;
mod takeover;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::JoinSet;
use weft_api::view::pod::Container;

use crate::container::{StartError, run_id};
use crate::image::Image;
use crate::node::{Node, Place};
use crate::outside::PodRef;
use crate::pod::status::{Context, OVERDUE, status};
use crate::pod::{Action, ContainerState, Desired, Ended, Observed, Sandbox, is_overdue, plan};
use crate::probe::{Kind, Verdict};
use crate::record::{self, Record};
use crate::report::{EventType, PodUpdate};
use crate::runtime::DesiredPod;
use crate::sandbox::{Ready, shares_processes};
use crate::shim::task::Task;
use crate::volume::Tokens;

/// How often volumes are compared with what they are made from.
const REFRESH: Duration = Duration::from_secs(10);
/// What happened and was not looked at yet, per Pod.
const HAPPENED_MAX: usize = 64;
/// First and longest pause after a sandbox that failed, seconds.
const SANDBOX_PAUSE_S: u32 = 1;
const SANDBOX_PAUSE_MAX_S: u32 = 30;

/// What the daemon wants of a Pod.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) desired: Arc<DesiredPod>,
    /// It is to end: deleted, or no more in a complete set.
    pub(crate) ending: bool,
}

/// A Pod as others may look at it.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) desired: Arc<DesiredPod>,
    pub(crate) observed: Observed,
    pub(crate) task: Option<Task>,
    pub(crate) status: Bytes,
    pub(crate) gone: bool,
}

/// The outside ends of a Pod's loop.
pub(crate) struct Handle {
    pub(crate) pod: PodRef,
    pub(crate) wanted: watch::Sender<Wanted>,
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(crate) nudge: Arc<Notify>,
    pub(crate) task: tokio::task::AbortHandle,
}

/// What jobs tell.
enum Happened {
    Prepared(Result<Ready, (&'static str, String)>),
    Pulled { container: String, result: Result<Image, String> },
    Started { container: String, id: String, result: Result<(), StartError> },
    Exited { container: String, ended: Ended },
    ShimGone(String),
    PauseGone,
    Probed { container: String, id: String, verdict: Verdict },
    Released(Result<(), String>),
    TornDown(Result<(), String>),
}

/// A running container's side tasks and end.
struct Live {
    id: String,
    over: watch::Sender<bool>,
    probes: tokio::task::AbortHandle,
}

struct Worker {
    node: Arc<Node>,
    pod: PodRef,
    place: Place,
    desired: Arc<DesiredPod>,
    ending: bool,
    observed: Observed,
    shim: Option<(Task, String)>,
    images: HashMap<String, Image>,
    live: HashMap<String, Live>,
    tokens: Arc<Mutex<Tokens>>,
    jobs: JoinSet<()>,
    /// Jobs that begin once what they are about to do is on disk.
    queued: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Ended runs whose end is to be on disk before their own note of it goes.
    ended: Vec<String>,
    happened: mpsc::Sender<Happened>,
    status: Value,
    published: Bytes,
    publish: watch::Sender<Arc<Snapshot>>,
    /// Whether the record on disk is older than what is observed.
    unsaved: bool,
    told_what_is_without_effect: bool,
}

/// Starts a Pod's loop, from nothing or from what an earlier run left.
pub(crate) fn spawn(node: Arc<Node>, wanted: Wanted, record: Option<Record>) -> Handle {
    let pod = wanted.desired.pod_ref();
    let (happened, events) = mpsc::channel(HAPPENED_MAX);
    let before: Value = serde_json::from_slice(&wanted.desired.raw).unwrap_or_default();
    let observed = record.as_ref().map(|r| r.observed.clone()).unwrap_or_default();
    let first = Snapshot {
        desired: wanted.desired.clone(),
        observed: observed.clone(),
        task: None,
        status: Bytes::new(),
        gone: false,
    };
    let (publish, snapshot) = watch::channel(Arc::new(first));
    let (wanted_sender, wanted_receiver) = watch::channel(wanted.clone());
    let nudge = Arc::new(Notify::new());
    let worker = Worker {
        place: node.place(&pod.uid),
        node,
        pod: pod.clone(),
        desired: wanted.desired,
        ending: wanted.ending,
        observed,
        shim: None,
        images: HashMap::new(),
        live: HashMap::new(),
        tokens: Arc::default(),
        jobs: JoinSet::new(),
        queued: Vec::new(),
        ended: Vec::new(),
        happened,
        status: before["status"].clone(),
        published: Bytes::new(),
        publish,
        unsaved: true,
        told_what_is_without_effect: false,
    };
    let task = tokio::spawn(worker.run(record, wanted_receiver, events, nudge.clone())).abort_handle();
    Handle { pod, wanted: wanted_sender, snapshot, nudge, task }
}

impl Worker {
    async fn run(
        mut self,
        record: Option<Record>,
        mut wanted: watch::Receiver<Wanted>,
        mut events: mpsc::Receiver<Happened>,
        nudge: Arc<Notify>,
    ) {
        if let Some(record) = record {
            self.take_over(&record).await;
        }
        self.observed.started.get_or_insert_with(Timestamp::now);
        let mut refresh = tokio::time::interval(REFRESH);
        loop {
            if !self.observed.overdue && is_overdue(&self.desired.view, &self.observed, Timestamp::now()) {
                self.event("", EventType::Warning, "DeadlineExceeded", OVERDUE.to_owned());
                self.observed.overdue = true;
                self.unsaved = true;
            }
            if self.ending || self.observed.overdue {
                self.observed.ending.get_or_insert_with(Timestamp::now);
            }
            let plan = plan(
                Desired { pod: &self.desired.view, ending: self.ending },
                &self.observed,
                Timestamp::now(),
            );
            self.unsaved |= !plan.actions.is_empty();
            for action in plan.actions {
                self.perform(action);
            }
            self.save();
            // Begun only now that it is written: a run that exists must be found again.
            for job in self.queued.drain(..) {
                self.jobs.spawn(job);
            }
            self.tell();
            if self.observed.sandbox == Sandbox::Gone {
                return self.rest(wanted).await;
            }
            let pause = plan.wake.map(|at| {
                let left = at.duration_since(Timestamp::now());
                Duration::try_from(left).unwrap_or_default() + Duration::from_millis(5)
            });
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.note(event),
                    None => return,
                },
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = wanted.borrow_and_update().clone();
                    (self.desired, self.ending) = (now.desired, now.ending || self.ending);
                    self.unsaved = true;
                }
                () = tokio::time::sleep(pause.unwrap_or(Duration::from_secs(3600))) => {}
                () = nudge.notified() => {
                    for state in self.observed.containers.values_mut() {
                        state.again = None;
                    }
                    self.refresh_volumes();
                }
                _ = refresh.tick() => {
                    self.refresh_volumes();
                    self.trim_shim_log();
                }
                Some(_) = self.jobs.join_next() => {}
            }
        }
    }

    /// Nothing is left; the loop only stays so that nobody starts the Pod again.
    async fn rest(self, mut wanted: watch::Receiver<Wanted>) {
        while wanted.changed().await.is_ok() {}
    }

    /// Takes a job that an action consists of; it begins when the record says so.
    fn queue(&mut self, job: impl Future<Output = ()> + Send + 'static) {
        self.queued.push(Box::pin(job));
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::PrepareSandbox => self.prepare(),
            Action::Pull { container } => self.pull(container),
            Action::Start { container } => self.start(container),
            Action::Stop { container, grace_s } => self.stop(&container, grace_s),
            Action::Release => self.release(),
            Action::Teardown => self.tear_down(),
        }
    }

    fn note(&mut self, event: Happened) {
        self.unsaved = true;
        match event {
            Happened::Prepared(result) => self.note_prepared(result),
            Happened::Pulled { container, result } => self.note_pulled(&container, result),
            Happened::Started { container, id, result } => self.note_started(&container, id, result),
            Happened::Exited { container, ended } => self.note_exited(&container, ended),
            Happened::ShimGone(cause) => self.note_shim_gone(&cause),
            Happened::PauseGone => self.note_pause_gone(),
            Happened::Probed { container, id, verdict } => self.note_probed(&container, &id, &verdict),
            Happened::Released(result) => self.note_released(result),
            Happened::TornDown(result) => self.note_torn_down(result),
        }
    }

    fn note_prepared(&mut self, result: Result<Ready, (&'static str, String)>) {
        match result {
            Ok(ready) => {
                self.observed.ips = ready.ips;
                self.shim = Some((ready.task, ready.shim));
                self.observed.sandbox = Sandbox::Ready;
                self.restart_probes();
                if shares_processes(&self.desired.view) {
                    self.watch_pause();
                }
            }
            Err((reason, message)) => {
                let pause_s = match &self.observed.sandbox {
                    Sandbox::Failed { pause_s, .. } => (pause_s * 2).min(SANDBOX_PAUSE_MAX_S),
                    _ => self.sandbox_pause(),
                };
                self.event("", EventType::Warning, reason, message.clone());
                let again = Timestamp::now() + SignedDuration::from_secs(pause_s.into());
                self.observed.sandbox = Sandbox::Failed { again, pause_s, message };
            }
        }
    }

    /// The pause is kept across tries by doubling with the time since the Pod began.
    fn sandbox_pause(&self) -> u32 {
        let since = self.observed.started.map_or(0, |s| Timestamp::now().duration_since(s).as_secs());
        u32::try_from(since).unwrap_or(SANDBOX_PAUSE_MAX_S).clamp(SANDBOX_PAUSE_S, SANDBOX_PAUSE_MAX_S)
    }

    fn note_probed(&mut self, name: &str, id: &str, verdict: &Verdict) {
        let field = self.field_path(name);
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        let stops = state.stopping.is_some() && verdict.kind != Kind::Readiness;
        if state.live_id() != Some(id) || stops {
            return;
        }
        let passed = verdict.complaint.is_empty();
        match verdict.kind {
            Kind::Readiness if verdict.decided => state.ready = passed,
            Kind::Startup if verdict.decided && passed => {
                state.started = true;
                state.ready = self
                    .desired
                    .view
                    .spec
                    .containers
                    .iter()
                    .chain(&self.desired.view.spec.init_containers)
                    .any(|c| c.name == name && c.readiness_probe.is_none());
            }
            Kind::Startup | Kind::Liveness if verdict.decided && !passed && state.unhealthy.is_none() => {
                state.unhealthy = Some(verdict.complaint.clone());
                let text = format!(
                    "Container {name} failed {} probe, will be restarted",
                    verdict.kind.name().to_lowercase()
                );
                self.event(&field, EventType::Normal, "Killing", text);
            }
            _ => {}
        }
        if !passed {
            let text = format!("{} probe failed: {}", verdict.kind.name(), verdict.complaint);
            self.event(&field, EventType::Warning, "Unhealthy", text);
        }
    }

    fn note_torn_down(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => self.observed.sandbox = Sandbox::Gone,
            Err(message) => self.note_stuck(message),
        }
    }

    fn note_released(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.shim = None;
                self.observed.sandbox = Sandbox::Absent;
                self.observed.released = true;
            }
            Err(message) => self.note_stuck(message),
        }
    }

    /// Whatever is left is tried again; the containers are over in any case.
    fn note_stuck(&mut self, message: String) {
        self.event("", EventType::Warning, "FailedKillPod", message);
        self.shim = None;
        let again = Timestamp::now() + SignedDuration::from_secs(2);
        self.observed.sandbox = Sandbox::Stuck { again };
    }

    fn save(&mut self) {
        if !self.unsaved || matches!(self.observed.sandbox, Sandbox::Gone | Sandbox::Removing) {
            return;
        }
        let shim = self.shim.as_ref().map_or("", |(_, address)| address.as_str());
        let written = std::fs::create_dir_all(&self.place.data).and_then(|()| {
            record::write(&self.place.record(), &self.node.boot_id, &self.desired, &self.observed, shim)
        });
        match written {
            Ok(()) => {
                self.unsaved = false;
                for id in self.ended.drain(..) {
                    record::forget_end(&self.place, &id);
                }
            }
            Err(error) => {
                tracing::warn!(pod = %self.pod, %error, "record is not written: a restart would lose the pod");
            }
        }
    }

    /// Publishes the status if it says something new.
    fn tell(&mut self) {
        let gone = self.observed.sandbox == Sandbox::Gone;
        let context =
            Context { host_ips: &self.node.config.host_ips, before: &self.status, now: Timestamp::now() };
        let value = status(&self.desired.view, &self.observed, context);
        let changed = value != self.status || self.published.is_empty() || gone;
        if changed {
            self.published = Bytes::from(value.to_string());
            self.status = value;
            let update = PodUpdate { pod: self.pod.clone(), status: self.published.clone(), gone };
            self.node.reports.status(update);
        }
        self.publish.send_replace(Arc::new(Snapshot {
            desired: self.desired.clone(),
            observed: self.observed.clone(),
            task: self.shim.as_ref().map(|(task, _)| task.clone()),
            status: self.published.clone(),
            gone,
        }));
    }

    fn container(&self, name: &str) -> Option<&Container> {
        let spec = &self.desired.view.spec;
        spec.init_containers.iter().chain(&spec.containers).find(|c| c.name == name)
    }

    fn field_path(&self, name: &str) -> String {
        let init = self.desired.view.spec.init_containers.iter().any(|c| c.name == name);
        let list = if init { "initContainers" } else { "containers" };
        format!("spec.{list}{{{name}}}")
    }

    fn event(&self, field_path: &str, type_: EventType, reason: &'static str, message: String) {
        self.node.event(&self.pod, field_path, type_, reason, message);
    }

    fn attempt(state: &ContainerState) -> u32 {
        state.restarts
    }

    fn id_of(&self, name: &str, state: &ContainerState) -> String {
        run_id(&self.pod.uid, name, Self::attempt(state))
    }
}
