//! What the runtime tells: statuses, of which only the newest per Pod counts, and events, of which at most
//! [`EVENTS_MAX`] wait for a reader.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::outside::PodRef;

/// Events that wait for a reader; the oldest is dropped for the next, and counted.
pub(crate) const EVENTS_MAX: usize = 1024;

/// The state of one Pod.
#[derive(Clone, Debug)]
pub struct PodUpdate {
    /// The Pod.
    pub pod: PodRef,
    /// The whole `v1` PodStatus, JSON.
    pub status: Bytes,
    /// Nothing of the Pod is left on this node; its last update.
    pub gone: bool,
}

/// `Normal` or `Warning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventType {
    /// As the API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A Pod.
    Pod(PodRef),
    /// This node.
    Node,
}

/// Something a user should see.
#[derive(Clone, Debug)]
pub struct RuntimeEvent {
    /// What it is about.
    pub subject: Subject,
    /// `spec.containers{NAME}`, `spec.initContainers{NAME}`, or empty for the whole Pod.
    pub field_path: String,
    /// `Normal` or `Warning`.
    pub type_: EventType,
    /// CamelCase, for example `Pulled`, `BackOff`, `Failed`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// One thing the runtime tells.
#[derive(Clone, Debug)]
pub enum Report {
    /// A Pod's status changed.
    Status(PodUpdate),
    /// Something happened.
    Event(RuntimeEvent),
}

/// The queue between the Pods and the one reader.
#[derive(Debug, Default)]
pub struct Reports {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    statuses: HashMap<String, PodUpdate>,
    order: VecDeque<String>,
    events: VecDeque<RuntimeEvent>,
    dropped_events: u64,
}

impl Reports {
    pub(crate) fn status(&self, update: PodUpdate) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = update.pod.uid.clone();
        if state.statuses.insert(uid.clone(), update).is_none() {
            state.order.push_back(uid);
        }
        drop(state);
        self.wake.notify_one();
    }

    pub(crate) fn event(&self, event: RuntimeEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.events.len() == EVENTS_MAX {
            state.events.pop_front();
            state.dropped_events += 1;
        }
        state.events.push_back(event);
        drop(state);
        self.wake.notify_one();
    }

    /// The next report; waits for one. Cancelling loses nothing. Meant for one reader.
    pub async fn next(&self) -> Report {
        loop {
            if let Some(report) = self.take() {
                return report;
            }
            self.wake.notified().await;
        }
    }

    /// Events that found the queue full, since the start.
    pub fn dropped_events(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).dropped_events
    }

    fn take(&self) -> Option<Report> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Events go first: they explain the status that follows.
        if let Some(event) = state.events.pop_front() {
            return Some(Report::Event(event));
        }
        let uid = state.order.pop_front()?;
        state.statuses.remove(&uid).map(Report::Status)
    }
}
