//! Takes over what an earlier run of the agent left of a Pod: what runs goes on, what ended meanwhile is noted.

use jiff::Timestamp;

use super::Worker;
use super::jobs::lost_run;
use crate::container::clear;
use crate::pod::Phase;
use crate::record::Record;
use crate::shim::cleanup;
use crate::shim::task::{Task, TaskError, TaskStatus};

impl Worker {
    /// Asks the Pod's shim about every run in the record. State and Wait are the truth; the record says whom to ask.
    pub(super) async fn take_over(&mut self, record: &Record) {
        let task = match record.shim.as_str() {
            "" => None,
            address => Task::connect(address).await.ok(),
        };
        self.shim = task.clone().map(|task| (task, record.shim.clone()));
        let names: Vec<String> = self.observed.containers.keys().cloned().collect();
        for name in names {
            let Some(state) = self.observed.containers.get(&name) else { continue };
            let (Some(id), phase) = (state.live_id().map(str::to_owned), state.phase.clone()) else {
                continue;
            };
            match self.look(task.as_ref(), &id).await {
                Found::Alive => {
                    tracing::info!(pod = %self.pod, container = name, "container goes on");
                    if let Some(state) = self.observed.containers.get_mut(&name) {
                        let since = match &phase {
                            Phase::Running { since, .. } => *since,
                            _ => Timestamp::now(),
                        };
                        state.running(id.clone(), since);
                    }
                    self.watch(&name, id);
                }
                Found::NeverStarted => {
                    clear(&self.place, &id);
                    if let Some(state) = self.observed.containers.get_mut(&name) {
                        state.phase = match state.last.take() {
                            Some(last) => {
                                state.restarts = state.restarts.saturating_sub(1);
                                Phase::Ended(last)
                            }
                            None => Phase::Waiting,
                        };
                    }
                }
                Found::Lost => {
                    if !record.rebooted {
                        cleanup::delete(&self.node.shim, &id, &self.place.bundle(&id)).await;
                    }
                    clear(&self.place, &id);
                    if let Some(state) = self.observed.containers.get_mut(&name) {
                        state.ended(lost_run(&id, &phase));
                    }
                }
            }
        }
    }

    async fn look(&self, task: Option<&Task>, id: &str) -> Found {
        let Some(task) = task else { return Found::Lost };
        match task.state(id).await {
            // One that stopped is waited for like the others: `Wait` answers at once, with how it ended.
            Ok(state) if matches!(state.status, TaskStatus::Running | TaskStatus::Stopped) => Found::Alive,
            Ok(_) => {
                let _ = task.kill(id, "", libc::SIGKILL, true).await;
                let _ = task.delete(id, "").await;
                Found::NeverStarted
            }
            Err(TaskError::NotFound(_)) => {
                let starting = self
                    .observed
                    .containers
                    .values()
                    .any(|s| matches!(&s.phase, Phase::Starting { id: starting } if starting == id));
                if starting { Found::NeverStarted } else { Found::Lost }
            }
            Err(error) => {
                tracing::warn!(container = id, %error, "shim does not answer for its container");
                Found::Lost
            }
        }
    }
}

enum Found {
    Alive,
    NeverStarted,
    Lost,
}
