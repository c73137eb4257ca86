//! A run's beginning: made, started, its hook, its probes.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use weft_api::view::pod::LifecycleHandler;

use super::{Happened, Worker};
use crate::container::{Run, StartError, clear};
use crate::node::Place;
use crate::pod::{Ended, ImageState, Phase};
use crate::probe::{Action, Kind, Subject, act, watch as watch_probe};
use crate::report::EventType;
use crate::sandbox;
use crate::shim::cleanup;
use crate::shim::task::Task;

/// Pause after a start that failed for want of configuration.
const CONFIG_PAUSE: SignedDuration = SignedDuration::from_secs(3);
/// Time for the hook after a start.
const POST_START_PATIENCE: Duration = Duration::from_secs(60);

impl Worker {
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
        self.queue(async move {
            // Left from a try that was cut off.
            cleanup::delete(&node.shim, &id, &place.bundle(&id)).await;
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

    /// Probes need the Pod's addresses, which a restarted agent knows only once the sandbox was looked at.
    pub(super) fn restart_probes(&mut self) {
        let names: Vec<String> = self.live.keys().cloned().collect();
        for name in names {
            self.start_probes(&name);
        }
    }

    pub(super) fn start_probes(&mut self, name: &str) {
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
            let tell = async |verdict| {
                let (container, id) = (name.clone(), id.clone());
                // The loop is there as long as its jobs are.
                let _ = sender.send(Happened::Probed { container, id, verdict }).await;
            };
            if let (Some(probe), false) = (&container.startup_probe, skip_startup) {
                watch_probe(&subject, Kind::Startup, probe, &tell).await;
            }
            let liveness = async {
                if let Some(probe) = &container.liveness_probe {
                    watch_probe(&subject, Kind::Liveness, probe, &tell).await;
                }
            };
            let readiness = async {
                if let Some(probe) = &container.readiness_probe {
                    watch_probe(&subject, Kind::Readiness, probe, &tell).await;
                }
            };
            tokio::join!(liveness, readiness);
        });
    }

    pub(super) fn subject(&self, name: &str) -> Option<Subject> {
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

    pub(super) fn note_started(&mut self, name: &str, id: String, result: Result<(), StartError>) {
        let field = self.field_path(name);
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        match result {
            Ok(()) => {
                state.running(id.clone(), Timestamp::now());
                self.event(&field, EventType::Normal, "Started", format!("Started container {name}"));
                self.watch(name, id);
            }
            Err(error) => match error.waiting_reason() {
                Some(reason) => {
                    // The run never was: its number is used again.
                    state.phase = match state.last.take() {
                        Some(last) => Phase::Ended(last),
                        None => Phase::Waiting,
                    };
                    if matches!(state.phase, Phase::Ended(_)) {
                        state.restarts = state.restarts.saturating_sub(1);
                    }
                    if error.is_of_the_node() {
                        // The image may have been removed since it was found.
                        state.image = ImageState::Unknown;
                    }
                    state.again = Some(Timestamp::now() + CONFIG_PAUSE);
                    state.waiting = Some((reason.to_owned(), error.to_string()));
                    self.event(&field, EventType::Warning, "Failed", format!("Error: {error}"));
                }
                None => {
                    let now = Timestamp::now();
                    let ended = Ended {
                        id,
                        code: 128,
                        reason: "StartError".to_owned(),
                        message: error.to_string(),
                        started: now,
                        finished: now,
                    };
                    self.event(&field, EventType::Warning, "Failed", format!("Error: {error}"));
                    self.note_exited(name, ended);
                }
            },
        }
    }
}

/// Creates and starts a run, and does its hook.
async fn begin(run: &Run<'_>, task: &Task, place: &Place, field: &str) -> Result<(), StartError> {
    run.create(task).await?;
    let name = &run.container.name;
    run.node.event(run.pod_ref, field, EventType::Normal, "Created", format!("Created container: {name}"));
    if let Err(error) = task.start(run.id, "").await {
        task.destroy(run.id).await;
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

/// Does a hook, for as long as it may take.
pub(super) async fn handle(
    subject: &Subject,
    hook: &LifecycleHandler,
    patience: Duration,
) -> Result<(), String> {
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.into()).min(patience)).await;
        return Ok(());
    }
    let action = Action { exec: hook.exec.as_ref(), http_get: hook.http_get.as_ref(), tcp_socket: None };
    act(subject, action, patience).await
}
