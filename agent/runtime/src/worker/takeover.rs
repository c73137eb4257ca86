//! Takes over what an earlier run of the agent left of a Pod: what runs goes on, what ended meanwhile is noted.

use jiff::Timestamp;

use super::Worker;
use super::exit::lost_run;
use crate::container::{clear, last_words};
use crate::node::Place;
use crate::pod::{Ended, Phase};
use crate::record::{Record, read_end};
use crate::shim::cleanup;
use crate::shim::task::{Task, TaskError, TaskStatus};

/// How often a shim that does not answer in time is asked again.
const LOOKS_MAX: usize = 6;

impl Worker {
    /// Asks the Pod's shim about every run in the record. State and Wait are the truth; the record says whom to ask.
    pub(super) async fn take_over(&mut self, record: &Record) {
        let task = match record.shim.as_str() {
            "" => None,
            address => Task::connect(address).await.ok(),
        };
        if task.is_none() {
            cleanup::remove_dead_socket(&record.shim);
        }
        self.shim = task.clone().map(|task| (task, record.shim.clone()));
        let names: Vec<String> = self.observed.containers.keys().cloned().collect();
        for name in names {
            let Some(state) = self.observed.containers.get(&name) else { continue };
            let (Some(id), phase) = (state.live_id().map(str::to_owned), state.phase.clone()) else {
                continue;
            };
            match look(task.as_ref(), &self.place, &id, &phase).await {
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
                    // The OCI runtime may know of it though the shim does not: it was cut off within the creation.
                    cleanup::delete(&self.node.shim, &id, &self.place.bundle(&id)).await;
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
                    let ended = self.noted_end(&name, &id).unwrap_or_else(|| lost_run(&id, &phase));
                    clear(&self.place, &id);
                    self.note_exited(&name, ended);
                }
            }
        }
    }

    /// How a run ended whose end the agent before noted and then had no time to record.
    fn noted_end(&self, name: &str, id: &str) -> Option<Ended> {
        let mut ended = read_end(&self.place, id)?;
        let attempt = self.observed.containers.get(name)?.restarts;
        ended.message = last_words(&self.place, self.container(name)?, id, attempt, ended.code != 0);
        Some(ended)
    }
}

enum Found {
    Alive,
    NeverStarted,
    Lost,
}

/// Asks a shim about a run.
async fn look(task: Option<&Task>, place: &Place, id: &str, phase: &Phase) -> Found {
    let Some(task) = task else { return Found::Lost };
    let mut state = task.state(id).await;
    // A busy machine is no reason to give up what runs.
    for _ in 1..LOOKS_MAX {
        if !matches!(state, Err(TaskError::Late { .. })) {
            break;
        }
        state = task.state(id).await;
    }
    match state {
        // One that stopped is waited for like the others: `Wait` answers at once, with how it ended.
        Ok(state) if matches!(state.status, TaskStatus::Running | TaskStatus::Stopped) => Found::Alive,
        Ok(_) => {
            task.destroy(id).await;
            Found::NeverStarted
        }
        Err(TaskError::NotFound(_)) => {
            let starting = matches!(phase, Phase::Starting { .. });
            if starting && read_end(place, id).is_none() { Found::NeverStarted } else { Found::Lost }
        }
        Err(error) => {
            tracing::warn!(container = id, %error, "shim does not answer for its container");
            Found::Lost
        }
    }
}
