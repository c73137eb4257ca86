//! Watches: a bounded ring of recent commits and the watchers fed from it. It knows no engine and no tasks; what is
//! older than the ring is the backend's to read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::store::{Batch, Event, Revision, WatchEnd};

/// How many batches a watcher may lie behind before its watch ends.
pub const WATCH_QUEUE_MAX: usize = 1024;
/// How many recent commits are kept in memory.
const RING_COMMITS_MAX: usize = 8192;
/// About how many bytes of them.
const RING_BYTES_MAX: usize = 8 << 20;
/// How long a watcher that catches up may take for one batch before it counts as too slow.
const CATCH_UP_STALL: Duration = Duration::from_secs(60);

/// Where a watcher's batches go.
pub(crate) type Queue = mpsc::Sender<Result<Batch, WatchEnd>>;

/// All watchers of one store, and the commits they may still want.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ring: VecDeque<Batch>,
    ring_bytes: usize,
    /// Every commit behind this one, up to `newest`, is in the ring.
    floor: Revision,
    newest: Revision,
    watchers: Vec<Watcher>,
    nothing: Arc<[Event]>,
    closed: bool,
}

/// One watcher: where its batches go and how far it has come.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) prefix: Bytes,
    pub(crate) queue: Queue,
    /// The last commit that was sent, or that did not concern it.
    reached: Revision,
    /// How far its reader knows that it has come.
    told: Revision,
}

/// What became of a watcher that wanted to join the live ones.
pub(crate) enum Joined {
    /// It is fed from now on, or it has ended.
    Yes,
    /// The ring no longer holds what it wants next, or its queue is too full to take that: catch up first.
    NotYet(Watcher),
}

/// What became of a batch for a watcher that catches up.
pub(crate) enum Sent {
    /// It has it, or it does not concern it.
    Yes,
    /// It has ended.
    Gone,
}

/// A queue for a watch: one place more than its bound, for the reason it ends.
pub(crate) fn queue() -> (Queue, mpsc::Receiver<Result<Batch, WatchEnd>>) {
    mpsc::channel(WATCH_QUEUE_MAX + 1)
}

impl Hub {
    pub(crate) fn new(newest: Revision) -> Self {
        let state = State {
            ring: VecDeque::new(),
            ring_bytes: 0,
            floor: newest,
            newest,
            watchers: Vec::new(),
            nothing: Arc::from([]),
            closed: false,
        };
        Self { state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing below panics half way through a change, so a poisoned lock still guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands commits that are on disk to everyone who asked for them, oldest first.
    pub(crate) fn publish(&self, batches: Vec<Batch>) {
        let mut guard = self.state();
        let state = &mut *guard;
        for batch in batches {
            if batch.revision <= state.newest {
                continue;
            }
            state.newest = batch.revision;
            if batch.events.is_empty() {
                continue;
            }
            state.watchers.retain_mut(|watcher| watcher.offer(&batch));
            state.ring_bytes += bytes_of(&batch);
            state.ring.push_back(batch);
            while state.ring.len() > RING_COMMITS_MAX || state.ring_bytes > RING_BYTES_MAX {
                let Some(oldest) = state.ring.pop_front() else { break };
                state.ring_bytes -= bytes_of(&oldest);
                state.floor = oldest.revision;
            }
        }
        let (newest, nothing) = (state.newest, state.nothing.clone());
        state.watchers.retain_mut(|watcher| watcher.progress(newest, &nothing));
    }

    /// Joins a watcher to the live ones if the ring holds everything it still wants.
    pub(crate) fn join(&self, mut watcher: Watcher) -> Joined {
        let mut state = self.state();
        if state.closed {
            let _ = watcher.queue.try_send(Err(WatchEnd::Closed));
            return Joined::Yes;
        }
        if watcher.reached < state.floor {
            return Joined::NotYet(watcher);
        }
        let from = state.ring.partition_point(|batch| batch.revision <= watcher.reached);
        let wanted = state.ring.range(from..).filter(|batch| touches(batch, &watcher.prefix)).count();
        if wanted > 0 && wanted >= watcher.queue.capacity().saturating_sub(1) {
            return Joined::NotYet(watcher);
        }
        let (newest, nothing) = (state.newest, state.nothing.clone());
        if state.ring.range(from..).all(|batch| watcher.offer(batch)) && watcher.progress(newest, &nothing) {
            state.watchers.push(watcher);
        }
        Joined::Yes
    }

    /// The newest revision that was published.
    pub(crate) fn newest(&self) -> Revision {
        self.state().newest
    }

    /// Ends every watch and goes on at `newest`: what lies before cannot be told.
    pub(crate) fn reset(&self, newest: Revision, end: WatchEnd) {
        let mut state = self.state();
        state.ring.clear();
        state.ring_bytes = 0;
        (state.floor, state.newest) = (newest, newest);
        for watcher in state.watchers.drain(..) {
            let _ = watcher.queue.try_send(Err(end));
        }
    }

    /// Ends every watch.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        for watcher in state.watchers.drain(..) {
            let _ = watcher.queue.try_send(Err(WatchEnd::Closed));
        }
    }
}

impl Watcher {
    /// One that is to begin behind `after`.
    pub(crate) fn new(prefix: Bytes, queue: Queue, after: Revision) -> Self {
        Self { prefix, queue, reached: after, told: after }
    }

    /// The last commit that was sent, or that did not concern it.
    pub(crate) fn reached(&self) -> Revision {
        self.reached
    }

    /// The history has nothing for it up to here.
    pub(crate) fn skip_to(&mut self, reached: Revision) {
        self.reached = self.reached.max(reached);
    }

    /// Sends what concerns it; `false` when the watch has ended.
    fn offer(&mut self, batch: &Batch) -> bool {
        if batch.revision <= self.reached || !touches(batch, &self.prefix) {
            return true;
        }
        if self.queue.capacity() <= 1 {
            let _ = self.queue.try_send(Err(WatchEnd::TooSlow { queue_max: WATCH_QUEUE_MAX }));
            return false;
        }
        (self.reached, self.told) = (batch.revision, batch.revision);
        self.queue.try_send(Ok(narrow(batch, &self.prefix))).is_ok()
    }

    /// Whether nobody reads it any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }

    /// Gives it the next batch of the history, with all the time that a reader may take.
    pub(crate) async fn catch_up(&mut self, batch: &Batch) -> Sent {
        if batch.revision <= self.reached {
            return Sent::Yes;
        }
        if touches(batch, &self.prefix) {
            // One place stays free for the reason of the end.
            match tokio::time::timeout(CATCH_UP_STALL, self.queue.reserve_many(2)).await {
                Ok(Ok(mut places)) => {
                    if let Some(place) = places.next() {
                        place.send(Ok(narrow(batch, &self.prefix)));
                    }
                    self.told = batch.revision;
                }
                Ok(Err(_)) => return Sent::Gone,
                Err(_) => {
                    let _ = self.queue.try_send(Err(WatchEnd::TooSlow { queue_max: WATCH_QUEUE_MAX }));
                    return Sent::Gone;
                }
            }
        }
        self.reached = batch.revision;
        Sent::Yes
    }

    /// Ends the watch of one that catches up.
    pub(crate) async fn end(self, end: WatchEnd) {
        let _ = self.queue.send_timeout(Err(end), CATCH_UP_STALL).await;
    }

    /// Tells it how far the store has come, unless it has enough to read.
    fn progress(&mut self, newest: Revision, nothing: &Arc<[Event]>) -> bool {
        if self.told >= newest || self.queue.capacity() < WATCH_QUEUE_MAX / 2 {
            return !self.queue.is_closed();
        }
        (self.reached, self.told) = (newest, newest);
        self.queue.try_send(Ok(Batch { revision: newest, events: nothing.clone() })).is_ok()
    }
}

fn bytes_of(batch: &Batch) -> usize {
    batch.events.iter().map(Event::size_bytes).sum()
}

fn touches(batch: &Batch, prefix: &[u8]) -> bool {
    batch.events.iter().any(|event| event.key().starts_with(prefix))
}

/// The batch with only the events of a prefix; shared when that is all of them.
fn narrow(batch: &Batch, prefix: &[u8]) -> Batch {
    if batch.events.iter().all(|event| event.key().starts_with(prefix)) {
        return batch.clone();
    }
    let events = batch.events.iter().filter(|event| event.key().starts_with(prefix)).cloned().collect();
    Batch { revision: batch.revision, events }
}
