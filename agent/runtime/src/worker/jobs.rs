//! The jobs of a Pod's loop: each does one action, however long it takes, and tells the loop how it went.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use weft_api::view::pod::{Container, LifecycleHandler};

use super::{Happened, Live, Worker};
use crate::container::{Run, clear, last_words};
use crate::image::{Credentials, Image, normalize};
use crate::node::{Node, Place};
use crate::outside::{Inputs, Lookup, PodRef};
use crate::pause;
use crate::pod::{Ended, ImageState, Phase, Sandbox};
use crate::probe::{Action as ProbeAction, Kind, Subject, act, watch as watch_probe};
use crate::refusal::without_effect;
use crate::report::EventType;
use crate::sandbox::{self, SandboxError};
use crate::shim::cleanup;
use crate::shim::task::{Task, TaskError};

/// Time for the hook after a start.
const POST_START_PATIENCE: Duration = Duration::from_secs(60);
/// Bytes on disk that a shim's own log may take.
const SHIM_LOG_BYTES_MAX: u64 = 1 << 20;
/// A container that got SIGKILL is asked again after this.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// What a preStop hook that used up the grace leaves for SIGTERM.
const GRACE_LEAST: Duration = Duration::from_secs(2);

impl Worker {
    pub(super) fn prepare(&mut self) {
        self.observed.sandbox = Sandbox::Preparing;
        let (node, desired, pod, sender) =
            (self.node.clone(), self.desired.clone(), self.pod.clone(), self.happened.clone());
        if !std::mem::replace(&mut self.told_what_is_without_effect, true) {
            for text in without_effect(&self.desired.view, self.node.host) {
                self.event("", EventType::Warning, "WithoutEffect", text);
            }
        }
        let (known, shim, tokens) = (self.observed.ips.clone(), self.shim.clone(), self.tokens.clone());
        self.jobs.spawn(async move {
            let mut tokens = tokens.lock().await;
            let made = sandbox::prepare(&node, &desired.view, &pod, &known, shim, &mut tokens).await;
            let reason = |error: SandboxError| match error {
                SandboxError::Volume(error) => ("FailedMount", format!("MountVolume.SetUp failed: {error}")),
                other => ("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {other}")),
            };
            // The loop is there as long as its jobs are.
            let _ = sender.send(Happened::Prepared(made.map_err(reason))).await;
        });
    }

    /// Follows the process that keeps the shared PID namespace: without it no container can be started.
    pub(super) fn watch_pause(&mut self) {
        let Some((task, _)) = self.shim.clone() else { return };
        let (id, sender) = (pause::id(&self.pod.uid), self.happened.clone());
        self.jobs.spawn(async move {
            // The shim's own end is noticed by those who wait for the containers, or the next start.
            if task.wait(&id, "").await.is_ok() {
                let _ = sender.send(Happened::PauseGone).await;
            }
        });
    }

    pub(super) fn note_pause_gone(&mut self) {
        if self.observed.sandbox == Sandbox::Ready && !self.ending {
            let text = "The pod's shared process namespace ended, its containers are started anew";
            self.event("", EventType::Warning, "SandboxChanged", text.to_owned());
            self.observed.sandbox = Sandbox::Absent;
        }
    }

    /// The shim notes every event that nobody takes; its file must not grow for ever.
    pub(super) fn trim_shim_log(&self) {
        let path = self.place.shim().join("log");
        let large = std::fs::metadata(&path).is_ok_and(|m| m.blocks() * 512 > SHIM_LOG_BYTES_MAX);
        if large && let Ok(file) = std::fs::OpenOptions::new().write(true).open(&path) {
            // A failure costs disk and nothing else.
            let _ = file.set_len(0);
        }
    }

    pub(super) fn refresh_volumes(&mut self) {
        if self.observed.sandbox != Sandbox::Ready || self.ending {
            return;
        }
        let (node, desired, pod) = (self.node.clone(), self.desired.clone(), self.pod.clone());
        let (ips, tokens) = (self.observed.ips.clone(), self.tokens.clone());
        self.jobs.spawn(async move {
            // A refresh that is still under way is enough.
            let Ok(mut tokens) = tokens.try_lock() else { return };
            if let Err(error) = sandbox::volumes(&node, &desired.view, &pod, &ips).prepare(&mut tokens).await
            {
                tracing::warn!(%pod, %error, "volumes are not brought up to date");
            }
        });
    }

    pub(super) fn pull(&mut self, name: String) {
        let Some(container) = self.container(&name).cloned() else { return };
        let field = self.field_path(&name);
        self.observed.containers.entry(name.clone()).or_default().image = ImageState::Pulling;
        let secrets =
            self.desired.view.spec.image_pull_secrets.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
        let (node, pod, sender) = (self.node.clone(), self.pod.clone(), self.happened.clone());
        self.jobs.spawn(async move {
            let result = obtain(&node, &pod, &field, &container, &secrets).await;
            let _ = sender.send(Happened::Pulled { container: name, result }).await;
        });
    }

    pub(super) fn start(&mut self, name: String) {
        let Some(container) = self.container(&name).cloned() else { return };
        let (Some((task, _)), Some(image)) = (self.shim.clone(), self.images.get(&name).cloned()) else {
            if let Some(state) = self.observed.containers.get_mut(&name) {
                state.image = ImageState::Unknown;
            }
            return;
        };
        let field = self.field_path(&name);
        let state = self.observed.containers.entry(name.clone()).or_default();
        state.starting(String::new());
        state.waiting = None;
        let attempt = Self::attempt(state);
        let id = self.id_of(&name, &self.observed.containers[&name].clone());
        if let Some(state) = self.observed.containers.get_mut(&name) {
            state.phase = Phase::Starting { id: id.clone() };
        }
        let (node, desired, pod, sender) =
            (self.node.clone(), self.desired.clone(), self.pod.clone(), self.happened.clone());
        let (ips, place) = (self.observed.ips.clone(), self.place.clone());
        self.jobs.spawn(async move {
            // Left from a try that was cut off.
            clear(&place, &id);
            let run = Run {
                node: &node,
                desired: &desired,
                pod_ref: &pod,
                container: &container,
                image: &image,
                id: &id,
                attempt,
                ips: &ips,
            };
            let result = begin(&run, &task, &place, &field).await;
            if result.is_err() {
                clear(&place, &id);
            }
            let _ = sender.send(Happened::Started { container: name, id, result }).await;
        });
    }

    /// Follows a running container: its end, its hook, its probes.
    pub(super) fn watch(&mut self, name: &str, id: String) {
        let Some((task, _)) = self.shim.clone() else { return };
        let Some(container) = self.container(name).cloned() else { return };
        let Some(state) = self.observed.containers.get(name) else { return };
        let since = match &state.phase {
            Phase::Running { since, .. } => *since,
            _ => Timestamp::now(),
        };
        let waiter = Waiter {
            node: self.node.clone(),
            place: self.place.clone(),
            task,
            container,
            id: id.clone(),
            attempt: Self::attempt(state),
            since,
            sender: self.happened.clone(),
        };
        self.jobs.spawn(waiter.run());
        let (over, _) = watch::channel(false);
        let probes = self.jobs.spawn(async {});
        if let Some(old) = self.live.insert(name.to_owned(), Live { id, over, probes }) {
            old.probes.abort();
        }
        self.start_probes(name);
    }

    /// Probes need the Pod's addresses, which a restarted agent knows only once the sandbox was looked at.
    pub(super) fn restart_probes(&mut self) {
        let names: Vec<String> = self.live.keys().cloned().collect();
        for name in names {
            self.start_probes(&name);
        }
    }

    fn start_probes(&mut self, name: &str) {
        let (Some(subject), Some(container)) = (self.subject(name), self.container(name).cloned()) else {
            return;
        };
        let Some(live) = self.live.get_mut(name) else { return };
        live.probes.abort();
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        if container.startup_probe.is_none() {
            state.started = true;
        }
        if container.readiness_probe.is_none() && state.started {
            state.ready = true;
        }
        let skip_startup = state.started;
        let (sender, name, id) = (self.happened.clone(), name.to_owned(), live.id.clone());
        live.probes = self.jobs.spawn(async move {
            let tell = |verdict| {
                // A full queue loses one verdict of many.
                let _ =
                    sender.try_send(Happened::Probed { container: name.clone(), id: id.clone(), verdict });
            };
            if let (Some(probe), false) = (&container.startup_probe, skip_startup) {
                watch_probe(&subject, Kind::Startup, probe, tell).await;
            }
            let liveness = async {
                if let Some(probe) = &container.liveness_probe {
                    watch_probe(&subject, Kind::Liveness, probe, tell).await;
                }
            };
            let readiness = async {
                if let Some(probe) = &container.readiness_probe {
                    watch_probe(&subject, Kind::Readiness, probe, tell).await;
                }
            };
            tokio::join!(liveness, readiness);
        });
    }

    fn subject(&self, name: &str) -> Option<Subject> {
        let (task, _) = self.shim.clone()?;
        let container = Arc::new(self.container(name)?.clone());
        let id = self.observed.containers.get(name)?.live_id()?.to_owned();
        let host = self.desired.view.spec.host_network;
        let netns = (!host).then(|| sandbox::netns(&self.place, &self.desired.view));
        Some(Subject {
            task,
            place: self.place.clone(),
            id,
            container,
            ips: self.observed.ips.clone(),
            netns,
        })
    }

    pub(super) fn stop(&mut self, name: &str, grace_s: i64) {
        let (Some(subject), Some(live)) = (self.subject(name), self.live.get(name)) else { return };
        let over = live.over.subscribe();
        let field = self.field_path(name);
        let signal = self.stop_signal(name);
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        let again = state.stopping.is_some();
        state.stopping = Some(Timestamp::now() + SignedDuration::from_secs(grace_s));
        if state.unhealthy.is_none() && !again {
            self.event(&field, EventType::Normal, "Killing", format!("Stopping container {name}"));
        }
        let (node, pod) = (self.node.clone(), self.pod.clone());
        self.jobs.spawn(async move {
            let hook =
                subject.container.lifecycle.as_ref().and_then(|l| l.pre_stop.clone()).filter(|_| !again);
            let failed = end(&subject, hook, signal, Duration::from_secs(grace_s.unsigned_abs()), over).await;
            if let Some(complaint) = failed {
                node.event(&pod, &field, EventType::Warning, "FailedPreStopHook", complaint);
            }
        });
    }

    fn stop_signal(&self, name: &str) -> i32 {
        let known = self.images.get(name).cloned();
        let id = self.observed.containers.get(name).map(|s| s.image_id.clone()).unwrap_or_default();
        let image = known.or_else(|| self.node.store.find(&id));
        let text = image.map(|i| i.config.stop_signal).unwrap_or_default();
        signal_number(&text)
    }

    pub(super) fn tear_down(&mut self) {
        self.observed.sandbox = Sandbox::Removing;
        let (node, pod, sender) = (self.node.clone(), self.pod.clone(), self.happened.clone());
        let shim = self.shim.clone();
        self.jobs.spawn(async move {
            let removed = sandbox::remove(&node, &pod, shim).await.map_err(|e| e.to_string());
            let _ = sender.send(Happened::TornDown(removed)).await;
        });
    }

    pub(super) fn note_shim_gone(&mut self, cause: &str) {
        if self.shim.take().is_none() {
            return;
        }
        self.event(
            "",
            EventType::Warning,
            "SandboxChanged",
            format!("The pod's shim ended, its containers are started anew: {cause}"),
        );
        self.observed.sandbox = Sandbox::Preparing;
        let states = self.observed.containers.iter();
        let lost: Vec<_> =
            states.filter_map(|(n, s)| Some((n.clone(), s.live_id()?.to_owned(), s.phase.clone()))).collect();
        let (node, place, sender) = (self.node.clone(), self.place.clone(), self.happened.clone());
        self.jobs.spawn(async move {
            for (container, id, phase) in lost {
                cleanup::delete(&node.shim, &id, &place.bundle(&id)).await;
                clear(&place, &id);
                let ended = lost_run(&id, &phase);
                let _ = sender.send(Happened::Exited { container, ended }).await;
            }
            let again = Err(("SandboxChanged", "the shim ended".to_owned()));
            let _ = sender.send(Happened::Prepared(again)).await;
        });
    }
}

/// A run whose shim cannot say any more how it ended.
pub(super) fn lost_run(id: &str, phase: &Phase) -> Ended {
    let now = Timestamp::now();
    let started = match phase {
        Phase::Running { since, .. } => *since,
        _ => now,
    };
    Ended {
        id: id.to_owned(),
        code: 137,
        reason: "ContainerStatusUnknown".to_owned(),
        message: "The container could not be located when its pod was looked at".to_owned(),
        started,
        finished: now,
    }
}

/// Finds or pulls a container's image by its policy.
async fn obtain(
    node: &Node,
    pod: &PodRef,
    field: &str,
    container: &Container,
    secrets: &[String],
) -> Result<Image, String> {
    let name = &container.image;
    let full = normalize(name).map_err(|e| e.to_string())?;
    let latest = full.ends_with(":latest") && !full.contains('@');
    let policy = match container.image_pull_policy.as_str() {
        "" if latest => "Always",
        "" => "IfNotPresent",
        given => given,
    };
    let here = node.store.find(&full);
    match (policy, here) {
        ("Never", Some(image)) | ("IfNotPresent", Some(image)) => {
            let text = format!("Container image \"{name}\" already present on machine");
            node.event(pod, field, EventType::Normal, "Pulled", text);
            return Ok(image);
        }
        ("Never", None) => {
            return Err(format!("Container image \"{name}\" is not present with pull policy of Never"));
        }
        _ => {}
    }
    node.event(pod, field, EventType::Normal, "Pulling", format!("Pulling image \"{name}\""));
    let began = std::time::Instant::now();
    let credentials = credentials(node.inputs.as_ref(), &pod.namespace, secrets);
    let image =
        node.puller.pull(name, &credentials, policy == "IfNotPresent").await.map_err(|e| e.to_string())?;
    let text = format!("Successfully pulled image \"{name}\" in {:.3}s", began.elapsed().as_secs_f64());
    node.event(pod, field, EventType::Normal, "Pulled", text);
    Ok(image)
}

/// Users and passwords out of `kubernetes.io/dockerconfigjson` Secrets.
fn credentials(inputs: &dyn Inputs, namespace: &str, secrets: &[String]) -> Credentials {
    let mut found = Credentials::default();
    for name in secrets {
        let Lookup::Found(json) = inputs.secret(namespace, name) else { continue };
        let Ok(secret) = serde_json::from_slice::<weft_api::view::Secret>(&json) else { continue };
        let Some(bytes) = secret.data.get(".dockerconfigjson").and_then(|d| crate::volume::decode_base64(d))
        else {
            continue;
        };
        let config: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        for (registry, entry) in config["auths"].as_object().into_iter().flatten() {
            let text = |key: &str| entry[key].as_str().map(str::to_owned);
            let joined = text("auth")
                .and_then(|a| crate::volume::decode_base64(&a))
                .and_then(|b| String::from_utf8(b).ok());
            let split =
                joined.as_ref().and_then(|j| j.split_once(':')).map(|(u, p)| (u.to_owned(), p.to_owned()));
            let pair = split.or_else(|| Some((text("username")?, text("password")?)));
            let host = registry.trim_start_matches("https://").trim_start_matches("http://");
            let host = host.split('/').next().unwrap_or(host);
            if let Some(pair) = pair {
                found.by_registry.insert(host.to_owned(), pair);
            }
        }
    }
    found
}

/// Creates and starts a run, and does its hook.
async fn begin(
    run: &Run<'_>,
    task: &Task,
    place: &Place,
    field: &str,
) -> Result<(), crate::container::StartError> {
    use crate::container::StartError;
    run.create(task).await?;
    let name = &run.container.name;
    run.node.event(run.pod_ref, field, EventType::Normal, "Created", format!("Created container: {name}"));
    if let Err(error) = task.start(run.id, "").await {
        let _ = task.kill(run.id, "", libc::SIGKILL, true).await;
        let _ = task.delete(run.id, "").await;
        return Err(StartError::Start(error));
    }
    let hook = run.container.lifecycle.as_ref().and_then(|l| l.post_start.clone());
    if let Some(hook) = hook {
        let host = run.desired.view.spec.host_network;
        let subject = Subject {
            task: task.clone(),
            place: place.clone(),
            id: run.id.to_owned(),
            container: Arc::new(run.container.clone()),
            ips: run.ips.to_vec(),
            netns: (!host).then(|| place.namespaces().join("net")),
        };
        if let Err(complaint) = handle(&subject, &hook, POST_START_PATIENCE).await {
            run.node.event(run.pod_ref, field, EventType::Warning, "FailedPostStartHook", complaint);
            // Its end is then seen like any other.
            let _ = task.kill(run.id, "", libc::SIGKILL, true).await;
        }
    }
    Ok(())
}

async fn handle(subject: &Subject, hook: &LifecycleHandler, patience: Duration) -> Result<(), String> {
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.into()).min(patience)).await;
        return Ok(());
    }
    let action = ProbeAction { exec: hook.exec.as_ref(), http_get: hook.http_get.as_ref(), tcp_socket: None };
    act(subject, action, patience).await
}

/// Ends a run: hook, signal, grace, SIGKILL. Answers the hook's complaint.
async fn end(
    subject: &Subject,
    hook: Option<LifecycleHandler>,
    signal: i32,
    grace: Duration,
    mut over: watch::Receiver<bool>,
) -> Option<String> {
    let deadline = tokio::time::Instant::now() + grace;
    let mut complaint = None;
    if let Some(hook) = hook.filter(|_| !grace.is_zero()) {
        complaint = handle(subject, &hook, grace).await.err();
    }
    let (task, id) = (&subject.task, subject.id.as_str());
    if !grace.is_zero() {
        match task.kill(id, "", signal, false).await {
            Ok(()) | Err(TaskError::NotFound(_)) => {}
            Err(error) => tracing::warn!(container = id, %error, "container cannot be signalled"),
        }
        let deadline = deadline.max(tokio::time::Instant::now() + GRACE_LEAST.min(grace));
        if tokio::time::timeout_at(deadline, over.wait_for(|o| *o)).await.is_ok() {
            return complaint;
        }
    }
    loop {
        if let Err(error) = task.kill(id, "", libc::SIGKILL, true).await
            && !matches!(error, TaskError::NotFound(_))
        {
            tracing::warn!(container = id, %error, "container cannot be killed");
        }
        if tokio::time::timeout(KILL_AGAIN, over.wait_for(|o| *o)).await.is_ok() {
            return complaint;
        }
    }
}

/// `SIGTERM`, `TERM` or `15`; SIGTERM if it says nothing that is known.
fn signal_number(text: &str) -> i32 {
    let name = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
    let known = name.parse::<nix::sys::signal::Signal>().map(|s| s as i32).ok();
    text.parse().ok().filter(|n| (1..=64).contains(n)).or(known).unwrap_or(libc::SIGTERM)
}

/// Waits for a run's end and clears it away.
struct Waiter {
    node: Arc<Node>,
    place: Place,
    task: Task,
    container: Container,
    id: String,
    attempt: u32,
    since: Timestamp,
    sender: mpsc::Sender<Happened>,
}

impl Waiter {
    async fn run(self) {
        let exit = match self.task.wait(&self.id, "").await {
            Ok(exit) => exit,
            Err(error) => {
                let _ = self.sender.send(Happened::ShimGone(error.to_string())).await;
                return;
            }
        };
        let out_of_memory = self.node.hierarchies.oom_kills(&self.place.cgroup.join(&self.id)) > 0;
        // Removing it also waits until the logger has written everything.
        if let Err(error) = self.task.delete(&self.id, "").await
            && !matches!(error, TaskError::NotFound(_))
        {
            tracing::warn!(container = self.id, %error, "ended container is not removed from its shim");
        }
        let message = last_words(&self.place, &self.container, &self.id, self.attempt, exit.code != 0);
        clear(&self.place, &self.id);
        let reason = match exit.code {
            _ if out_of_memory => "OOMKilled",
            0 => "Completed",
            _ => "Error",
        };
        let now = Timestamp::now();
        let finished =
            Timestamp::from_second(exit.at_unix_seconds).ok().filter(|t| *t >= self.since).unwrap_or(now);
        let ended = Ended {
            id: self.id,
            code: exit.code,
            reason: reason.to_owned(),
            message,
            started: self.since,
            finished,
        };
        let _ = self.sender.send(Happened::Exited { container: self.container.name, ended }).await;
    }
}
