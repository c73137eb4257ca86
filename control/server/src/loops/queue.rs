//! What one loop has to do: keys that wait for their turn or for a time, and how often each has failed in a row. It
//! reads no clock.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use weft_controllers::table::{Loop, LoopKey};

use crate::perform::Outcome;

/// The wait after a first failure, doubled with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
/// The longest wait after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// From this wait on a failure is worth an operator's attention: what somebody else's write causes is over sooner.
const BACKOFF_TOLD: Duration = Duration::from_secs(1);

/// The work of one loop. Bounded by the keys there are: each stands here once.
pub(super) struct Queue {
    pub(super) loop_: &'static Loop,
    waiting: VecDeque<LoopKey>,
    listed: HashSet<LoopKey>,
    timers: BTreeMap<(Instant, u64), LoopKey>,
    /// Where each key stands in `timers`.
    timed: HashMap<LoopKey, (Instant, u64)>,
    next_timer: u64,
    failures: HashMap<LoopKey, u32>,
    /// Whether a plan is being performed.
    pub(super) busy: bool,
    /// Nothing is planned on an older snapshot.
    pub(super) written: u64,
}

/// What became of a plan.
pub(super) struct Done {
    pub(super) index: usize,
    pub(super) key: LoopKey,
    pub(super) outcome: Outcome,
    pub(super) requeue_after_ms: Option<u64>,
    /// Everything it wrote is in this revision.
    pub(super) revision: u64,
}

impl Queue {
    pub(super) fn new(loop_: &'static Loop) -> Self {
        Self {
            loop_,
            waiting: VecDeque::new(),
            listed: HashSet::new(),
            timers: BTreeMap::new(),
            timed: HashMap::new(),
            next_timer: 0,
            failures: HashMap::new(),
            busy: false,
            written: 0,
        }
    }

    pub(super) fn add(&mut self, key: LoopKey) {
        if self.listed.insert(key.clone()) {
            self.waiting.push_back(key);
        }
    }

    /// Adds a key at a time, instead of the time it had.
    fn add_at(&mut self, key: LoopKey, at: Instant) {
        let place = (at, self.next_timer);
        self.next_timer += 1;
        if let Some(old) = self.timed.insert(key.clone(), place) {
            self.timers.remove(&old);
        }
        self.timers.insert(place, key);
    }

    /// Moves keys whose time has come into the queue; tells when the next one's comes.
    pub(super) fn ring(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let first = self.timers.first_entry()?;
            if first.key().0 > now {
                return Some(first.key().0);
            }
            let key = first.remove();
            self.timed.remove(&key);
            self.add(key);
        }
    }

    pub(super) fn next(&mut self) -> Option<LoopKey> {
        let key = self.waiting.pop_front()?;
        self.listed.remove(&key);
        Some(key)
    }

    /// Whether there is work whose time has come.
    pub(super) fn is_ready(&self, snapshot_revision: u64) -> bool {
        !self.busy && !self.waiting.is_empty() && self.written <= snapshot_revision
    }

    /// A plan was carried out, or there was nothing to carry out.
    pub(super) fn settled(&mut self, key: LoopKey, requeue_after_ms: Option<u64>, now: Instant) {
        self.failures.remove(&key);
        if let Some(ms) = requeue_after_ms {
            self.add_at(key, now + Duration::from_millis(ms));
        }
    }

    pub(super) fn done(&mut self, done: Done, now: Instant) {
        self.busy = false;
        self.written = self.written.max(done.revision);
        match done.outcome {
            Outcome::Done => self.settled(done.key, done.requeue_after_ms, now),
            Outcome::Again(status) | Outcome::Refused(status) => {
                let wait = self.failed(&done.key);
                let (name, kind, key) = (self.loop_.name, done.key.kind, &done.key.key);
                let wait_ms = wait.as_millis();
                if wait >= BACKOFF_TOLD {
                    tracing::warn!(loop_ = name, %kind, %key, reason = status.message, wait_ms, "a loop's write is refused");
                } else {
                    tracing::debug!(loop_ = name, %kind, %key, reason = status.message, wait_ms, "a loop plans again");
                }
                self.add_at(done.key, now + wait);
            }
        }
    }

    /// Notes a failure; answers how long to wait.
    fn failed(&mut self, key: &LoopKey) -> Duration {
        let failures = self.failures.entry(key.clone()).or_insert(0);
        let wait = BACKOFF_MIN.saturating_mul(1 << (*failures).min(16));
        *failures = failures.saturating_add(1);
        wait.min(BACKOFF_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_api::key::ObjectKey;
    use weft_api::kind;
    use weft_api::status::Status;

    static NOTHING: Loop = Loop {
        name: "nothing",
        watches: &[],
        start: |_| Vec::new(),
        keys: |_, _| Vec::new(),
        plan: |_, _, _| weft_controllers::table::Plan::none(),
    };

    fn key(name: &str) -> LoopKey {
        LoopKey::new(&kind::POD, ObjectKey::namespaced("d", name))
    }

    fn done(outcome: Outcome) -> Done {
        Done { index: 0, key: key("a"), outcome, requeue_after_ms: None, revision: 7 }
    }

    #[test]
    fn a_key_waits_once_and_the_last_timer_counts() {
        let (mut queue, now) = (Queue::new(&NOTHING), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        queue.add(key("a"));
        queue.add(key("a"));
        assert_eq!(queue.next(), Some(key("a")));
        assert_eq!(queue.next(), None);
        queue.add_at(key("a"), after(1));
        queue.add_at(key("a"), after(5));
        assert_eq!(queue.ring(after(2)), Some(after(5)));
        assert_eq!(queue.next(), None, "the earlier timer was replaced");
        assert_eq!(queue.ring(after(6)), None);
        assert_eq!(queue.next(), Some(key("a")));
        assert!(queue.timers.is_empty() && queue.timed.is_empty());
    }

    #[test]
    fn what_fails_waits_longer_each_time_and_is_forgiven_when_it_succeeds() {
        let (mut queue, mut now) = (Queue::new(&NOTHING), Instant::now());
        let refused = || Outcome::Refused(Status::bad_request("no"));
        let again = || Outcome::Again(Status::path_not_found());
        let mut waits = Vec::new();
        for n in 0..20 {
            queue.done(done(if n % 2 == 0 { again() } else { refused() }), now);
            assert_eq!(queue.next(), None, "not at once");
            let at = queue.ring(now).unwrap();
            waits.push(at - now);
            now = at;
            queue.ring(now);
            assert_eq!(queue.next(), Some(key("a")));
        }
        assert_eq!(waits[..3], [5, 10, 20].map(Duration::from_millis));
        assert_eq!(waits[19], BACKOFF_MAX);
        queue.done(done(Outcome::Done), now);
        queue.done(done(again()), now);
        assert_eq!(queue.ring(now), Some(now + BACKOFF_MIN));
        assert_eq!(queue.written, 7);
    }
}
