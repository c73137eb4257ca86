//! What waits to be told to the control plane: of each Pod the newest status, the node's newest, and some events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use weft_link::message::{NodeEvent, PodStatus, Position, StatusFrame, status_frame::Frame};

/// Events that wait while the link is down; the oldest goes for the next.
const EVENTS_MAX: usize = 512;

/// The queue. What is newest replaces what is older; statuses are told again in each new session.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    node: Option<Bytes>,
    node_waits: bool,
    pods: BTreeMap<String, PodStatus>,
    pods_wait: BTreeSet<String>,
    events: VecDeque<NodeEvent>,
    events_lost: u64,
    applied: Option<Position>,
    applied_waits: bool,
}

impl Outbox {
    /// The node's `status`, JSON.
    pub(crate) fn node(&self, status: Bytes) {
        self.change(|state| {
            state.node = Some(status);
            state.node_waits = true;
        });
    }

    /// A Pod's status.
    pub(crate) fn pod(&self, status: PodStatus) {
        self.change(|state| {
            state.pods_wait.insert(status.uid.clone());
            state.pods.insert(status.uid.clone(), status);
        });
    }

    /// Something a user should see.
    pub(crate) fn event(&self, event: NodeEvent) {
        self.change(|state| {
            if state.events.len() == EVENTS_MAX {
                state.events.pop_front();
                state.events_lost += 1;
            }
            state.events.push_back(event);
        });
    }

    /// The dataplane holds this state.
    pub(crate) fn applied(&self, position: Position) {
        self.change(|state| {
            state.applied = Some(position);
            state.applied_waits = true;
        });
    }

    /// The control plane has let a Pod go: nobody wants its status any more.
    pub(crate) fn forget(&self, uid: &str) {
        let mut state = self.lock();
        state.pods.remove(uid);
        state.pods_wait.remove(uid);
    }

    /// A new session: all statuses are to be told again.
    pub(crate) fn tell_all(&self) {
        self.change(|state| {
            state.node_waits = state.node.is_some();
            state.applied_waits = state.applied.is_some();
            state.pods_wait = state.pods.keys().cloned().collect();
        });
    }

    /// Events that went because too many waited.
    pub(crate) fn events_lost(&self) -> u64 {
        self.lock().events_lost
    }

    /// The next frame; waits for one. Cancelling loses nothing.
    pub(crate) async fn next(&self) -> StatusFrame {
        loop {
            if let Some(frame) = self.lock().take() {
                return StatusFrame { frame: Some(frame) };
            }
            self.wake.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.wake.notify_one();
    }
}

impl State {
    fn take(&mut self) -> Option<Frame> {
        if self.node_waits {
            self.node_waits = false;
            return self.node.clone().map(Frame::Node);
        }
        if let Some(event) = self.events.pop_front() {
            return Some(Frame::Event(event));
        }
        if std::mem::take(&mut self.applied_waits) {
            return self.applied.clone().map(Frame::Applied);
        }
        let uid = self.pods_wait.pop_first()?;
        self.pods.get(&uid).cloned().map(Frame::Pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, text: &'static str) -> PodStatus {
        PodStatus { uid: uid.into(), json: Bytes::from_static(text.as_bytes()), ..PodStatus::default() }
    }

    #[tokio::test]
    async fn only_the_newest_status_is_told_and_again_in_a_new_session() {
        let outbox = Outbox::default();
        outbox.pod(pod("a", "old"));
        outbox.pod(pod("a", "new"));
        assert_eq!(outbox.next().await.frame, Some(Frame::Pod(pod("a", "new"))));
        assert!(outbox.lock().take().is_none());
        outbox.tell_all();
        assert_eq!(outbox.next().await.frame, Some(Frame::Pod(pod("a", "new"))));
        outbox.forget("a");
        outbox.tell_all();
        assert!(outbox.lock().take().is_none());
    }

    #[tokio::test]
    async fn what_is_applied_is_told_again_in_a_new_session() {
        let outbox = Outbox::default();
        let position = Position { revision: 7, ..Position::default() };
        outbox.applied(position.clone());
        // Taken by a session that broke before it was sent.
        assert_eq!(outbox.next().await.frame, Some(Frame::Applied(position.clone())));
        assert!(outbox.lock().take().is_none());
        outbox.tell_all();
        assert_eq!(outbox.next().await.frame, Some(Frame::Applied(position)));
    }

    #[tokio::test]
    async fn events_are_bounded_and_counted() {
        let outbox = Outbox::default();
        for number in 0..=EVENTS_MAX {
            outbox.event(NodeEvent { message: number.to_string(), ..NodeEvent::default() });
        }
        assert_eq!(outbox.events_lost(), 1);
        let Some(Frame::Event(first)) = outbox.next().await.frame else { panic!("no event") };
        assert_eq!(first.message, "1");
    }
}
