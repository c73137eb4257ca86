//! A run's end, whoever caused it: waited for, noted on disk before the shim forgets it, cleared away.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use weft_api::view::pod::Container;

use super::{Happened, Live, Worker};
use crate::container::{clear, last_words};
use crate::log::piped::Pipes;
use crate::node::{Node, Place};
use crate::pod::{Ended, Phase, is_sidecar, restarts};
use crate::record;
use crate::report::EventType;
use crate::shim::task::{Exit, Task, TaskError};

impl Worker {
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

    pub(super) fn note_exited(&mut self, name: &str, ended: Ended) {
        if let Some(live) = self.live.remove(name) {
            live.probes.abort();
            live.over.send_replace(true);
        }
        let spec = &self.desired.view.spec;
        let sidecar = spec.init_containers.iter().any(|c| c.name == name && is_sidecar(c));
        let policy = if sidecar { "Always".to_owned() } else { spec.restart_policy.clone() };
        let ending = self.ending;
        self.ended.push(ended.id.clone());
        let (field, pod) = (self.field_path(name), self.pod.clone());
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        let code = ended.code;
        state.ended(ended);
        if restarts(&policy, code) && state.pause_s > 0 && !ending {
            let text = format!(
                "back-off {}s restarting failed container={name} pod={}_{}({})",
                state.pause_s, pod.name, pod.namespace, pod.uid
            );
            state.waiting = Some(("CrashLoopBackOff".to_owned(), text));
            let message = format!(
                "Back-off restarting failed container {name} in pod {}_{}({})",
                pod.name, pod.namespace, pod.uid
            );
            self.event(&field, EventType::Warning, "BackOff", message);
        }
    }
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
        let mut ended = self.ended(exit);
        if let Err(error) = record::write_end(&self.place, &ended) {
            tracing::warn!(container = self.id, %error, "how the container ended would be lost with the agent");
        }
        // Removing it also waits until the logger has written everything.
        if let Err(error) = self.task.delete(&self.id, "").await
            && !matches!(error, TaskError::NotFound(_))
        {
            tracing::warn!(container = self.id, %error, "ended container is not removed from its shim");
        }
        if self.container.stdin && !self.container.tty {
            Pipes::of(&self.place.bundle(&self.id)).ended().await;
        }
        ended.message = last_words(&self.place, &self.container, &self.id, self.attempt, exit.code != 0);
        let (place, id) = (self.place, self.id);
        // A writable layer may be large. What a failed worker leaves goes with the Pod.
        let _ = tokio::task::spawn_blocking(move || clear(&place, &id)).await;
        let _ = self.sender.send(Happened::Exited { container: self.container.name, ended }).await;
    }

    fn ended(&self, exit: Exit) -> Ended {
        let out_of_memory = self.node.hierarchies.oom_kills(&self.place.cgroup.join(&self.id)) > 0;
        let reason = match exit.code {
            0 => "Completed",
            _ if out_of_memory => "OOMKilled",
            _ => "Error",
        };
        let at = Timestamp::from_second(exit.at_unix_seconds).ok().filter(|t| *t >= self.since);
        Ended {
            id: self.id.clone(),
            code: exit.code,
            reason: reason.to_owned(),
            message: String::new(),
            started: self.since,
            finished: at.unwrap_or_else(Timestamp::now),
        }
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
