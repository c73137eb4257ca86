//! The loops' clock: feeds the snapshot from the watch cache, runs plans, hands their actions to `perform`.
//!
//! A loop performs one plan at a time, and plans again only on a snapshot that holds everything it wrote before: no
//! plan runs behind its loop's own writes. What a plan decides is not known here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;
use weft_api::kind::KINDS;
use weft_controllers::action::Action;
use weft_controllers::record;
use weft_controllers::settings::Settings;
use weft_controllers::table::{Context, LOOPS, Loop, LoopKey};
use weft_controllers::world::{Applied, Change, World};

use crate::cache::{Cache, ChangeType};
use crate::clock;
use crate::http::watch::stopped;
use crate::objects::Objects;
use crate::perform;

/// Changes taken from one kind's ring at once.
const CHANGES_MAX: usize = 1_024;
/// First wait after a refusal, doubled with each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait after a refusal.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How long a broken-off wake-up may go unnoticed.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// The snapshot and the news about it, shared with the nodes' sessions.
pub(crate) struct Snapshot {
    world: RwLock<World>,
    /// What changed, in the order of the commits. A reader that lags reads the whole snapshot anew.
    news: broadcast::Sender<Applied>,
    /// The revision the snapshot has reached.
    revision: watch::Sender<u64>,
}

/// News kept for readers of the snapshot.
const NEWS_MAX: usize = 8_192;

impl Snapshot {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            world: RwLock::new(World::new()),
            news: broadcast::channel(NEWS_MAX).0,
            revision: watch::channel(0).0,
        })
    }

    /// Reads the snapshot; no await while the guard lives.
    pub(crate) fn read(&self) -> std::sync::RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What changes from now on.
    pub(crate) fn news(&self) -> broadcast::Receiver<Applied> {
        self.news.subscribe()
    }

    /// The revision the snapshot has reached.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Takes in everything the cache has. `positions` says, kind by kind, up to where that was done before.
    fn catch_up(&self, cache: &Cache, positions: &mut [Option<u64>]) -> Vec<Applied> {
        // Nothing newer than this is missing in any ring once they are read.
        let goal = cache.revision();
        let mut changes: Vec<Change> = Vec::new();
        let world = self.read();
        for (kind, position) in KINDS.iter().copied().zip(positions.iter_mut()) {
            let Some(after) = *position else {
                *position = Some(Self::relist(cache, kind, &world, &mut changes));
                continue;
            };
            let mut after = after;
            loop {
                match cache.changes(kind, after, CHANGES_MAX) {
                    Ok(found) if found.is_empty() => break,
                    Ok(found) => {
                        for change in &found {
                            after = change.revision;
                            changes.push(match change.change {
                                ChangeType::Deleted => {
                                    Change::removed(kind, change.object.object.key(), change.revision)
                                }
                                _ => Change::put(change.object.object.clone(), change.revision),
                            });
                        }
                    }
                    Err(_) => {
                        after = Self::relist(cache, kind, &world, &mut changes);
                        break;
                    }
                }
            }
            *position = Some(after);
        }
        drop(world);
        changes.sort_by_key(|c| c.revision);
        let mut world = self.world.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let applied: Vec<Applied> = changes.into_iter().map(|change| world.apply(change)).collect();
        world.advance(goal);
        drop(world);
        for change in &applied {
            let _ = self.news.send(change.clone());
        }
        self.revision.send_replace(goal);
        applied
    }

    /// The whole of a kind, where single changes are not to be had.
    fn relist(
        cache: &Cache,
        kind: &'static weft_api::kind::Kind,
        world: &World,
        changes: &mut Vec<Change>,
    ) -> u64 {
        let (objects, revision) = cache.list(kind, None);
        let there: HashSet<_> = objects.iter().map(|c| c.object.key()).collect();
        for entry in world.entries(kind) {
            let key = entry.object.key();
            if !there.contains(&key) {
                changes.push(Change::removed(kind, key, revision));
            }
        }
        changes.extend(objects.iter().map(|c| Change::put(c.object.clone(), c.revision)));
        revision
    }
}

/// What a loop has to do.
struct Queue {
    loop_: &'static Loop,
    waiting: VecDeque<LoopKey>,
    listed: HashSet<LoopKey>,
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    /// The timer that counts for each key; an older one in the heap is passed over.
    timed: HashMap<LoopKey, u64>,
    keys_of_timers: BTreeMap<u64, LoopKey>,
    next_timer: u64,
    failures: HashMap<LoopKey, u32>,
    /// Whether a plan is being performed.
    busy: bool,
    /// Nothing is planned on an older snapshot.
    written: u64,
}

/// What became of a plan.
struct Done {
    index: usize,
    key: LoopKey,
    outcome: perform::Outcome,
    requeue_after_ms: Option<u64>,
    /// Everything it wrote is in this revision.
    revision: u64,
}

impl Queue {
    fn new(loop_: &'static Loop) -> Self {
        Self {
            loop_,
            waiting: VecDeque::new(),
            listed: HashSet::new(),
            timers: BinaryHeap::new(),
            timed: HashMap::new(),
            keys_of_timers: BTreeMap::new(),
            next_timer: 0,
            failures: HashMap::new(),
            busy: false,
            written: 0,
        }
    }

    fn add(&mut self, key: LoopKey) {
        if self.listed.insert(key.clone()) {
            self.waiting.push_back(key);
        }
    }

    fn add_after(&mut self, key: LoopKey, wait: Duration) {
        let id = self.next_timer;
        self.next_timer += 1;
        if let Some(old) = self.timed.insert(key.clone(), id) {
            self.keys_of_timers.remove(&old);
        }
        self.keys_of_timers.insert(id, key);
        self.timers.push(Reverse((Instant::now() + wait, id)));
    }

    /// Moves keys whose time has come into the queue; tells when the next one's comes.
    fn ring(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            let Some(key) = self.keys_of_timers.get(&id).cloned() else {
                self.timers.pop();
                continue;
            };
            if at > now {
                return Some(at);
            }
            self.timers.pop();
            self.keys_of_timers.remove(&id);
            self.timed.remove(&key);
            self.add(key);
        }
        None
    }

    fn next(&mut self) -> Option<LoopKey> {
        let key = self.waiting.pop_front()?;
        self.listed.remove(&key);
        Some(key)
    }

    fn done(&mut self, done: Done) {
        self.busy = false;
        self.written = self.written.max(done.revision);
        match done.outcome {
            perform::Outcome::Done => {
                self.failures.remove(&done.key);
                if let Some(ms) = done.requeue_after_ms {
                    self.add_after(done.key, Duration::from_millis(ms));
                }
            }
            perform::Outcome::Again => self.add(done.key),
            perform::Outcome::Refused(status) => {
                let failures = self.failures.entry(done.key.clone()).or_insert(0);
                *failures += 1;
                let wait = BACKOFF_MIN.saturating_mul(1 << (*failures).min(16)).min(BACKOFF_MAX);
                tracing::warn!(loop_ = self.loop_.name, key = %done.key.key, kind = %done.key.kind,
                    reason = status.message, wait_ms = wait.as_millis(), "a loop's write was refused");
                self.add_after(done.key, wait);
            }
        }
    }
}

/// Runs every loop until the server stops.
pub(crate) async fn run(
    objects: Arc<Objects>,
    snapshot: Arc<Snapshot>,
    settings: Arc<Settings>,
    mut stopping: watch::Receiver<bool>,
) {
    let cache = objects.cache.clone();
    let mut revisions = cache.revisions();
    let (sender, mut finished) = mpsc::channel::<Done>(LOOPS.len().max(1));
    let mut queues: Vec<Queue> = LOOPS.iter().map(Queue::new).collect();
    let mut positions: Vec<Option<u64>> = vec![None; KINDS.len()];
    for queue in &mut queues {
        let context = Context { now: clock::now(), random: 0, settings: &settings };
        for key in (queue.loop_.start)(&context) {
            queue.add(key);
        }
    }
    loop {
        revisions.mark_unchanged();
        enqueue(&mut queues, &snapshot, &snapshot.catch_up(&cache, &mut positions));
        let now = Instant::now();
        let mut wake = now + IDLE_MAX;
        for (index, queue) in queues.iter_mut().enumerate() {
            if let Some(at) = queue.ring(now) {
                wake = wake.min(at);
            }
            start(index, queue, &objects, &snapshot, &settings, &sender);
        }
        // A loop with nothing to write has finished at once and may go on at once.
        if queues.iter().any(|q| !q.busy && !q.waiting.is_empty() && q.written <= snapshot.read().revision())
        {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            done = finished.recv() => {
                let mut next = done;
                while let Some(done) = next {
                    let index = done.index;
                    queues[index].done(done);
                    next = finished.try_recv().ok();
                }
            }
            () = tokio::time::sleep_until(wake) => {}
            () = stopped(&mut stopping) => return,
        }
    }
}

fn enqueue(queues: &mut [Queue], snapshot: &Snapshot, applied: &[Applied]) {
    let world = snapshot.read();
    for change in applied {
        for queue in queues.iter_mut().filter(|q| q.loop_.watches.contains(&change.kind)) {
            for key in (queue.loop_.keys)(change, &world) {
                queue.add(key);
            }
        }
    }
}

/// How many plans with nothing to write one loop may make in a row before the others get their turn.
const PLANS_PER_TURN_MAX: usize = 256;

fn start(
    index: usize,
    queue: &mut Queue,
    objects: &Arc<Objects>,
    snapshot: &Arc<Snapshot>,
    settings: &Settings,
    sender: &mpsc::Sender<Done>,
) {
    for _ in 0..PLANS_PER_TURN_MAX {
        if queue.busy {
            return;
        }
        let world = snapshot.read();
        if world.revision() < queue.written {
            return;
        }
        let Some(key) = queue.next() else { return };
        let context = Context { now: clock::now(), random: uuid::Uuid::new_v4().as_u64_pair().1, settings };
        let plan = (queue.loop_.plan)(&key, &world, &context);
        let actions: Vec<(Action, bool)> = plan
            .actions
            .into_iter()
            .filter_map(|action| match action {
                Action::Record(event) => record::resolve(&event, &world, context.now).map(|a| (a, true)),
                other => Some((other, false)),
            })
            .collect();
        drop(world);
        if actions.is_empty() {
            queue.failures.remove(&key);
            if let Some(ms) = plan.requeue_after_ms {
                queue.add_after(key, Duration::from_millis(ms));
            }
            continue;
        }
        queue.busy = true;
        let (objects, sender) = (objects.clone(), sender.clone());
        let (name, requeue_after_ms) = (queue.loop_.name, plan.requeue_after_ms);
        tokio::spawn(async move {
            let outcome = perform::all(&objects, name, actions).await;
            let revision = objects.cache.revision();
            let _ = sender.send(Done { index, key, outcome, requeue_after_ms, revision }).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_api::key::ObjectKey;
    use weft_api::kind;

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

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_the_last_timer_counts() {
        let mut queue = Queue::new(&NOTHING);
        queue.add(key("a"));
        queue.add(key("a"));
        assert_eq!(queue.next(), Some(key("a")));
        assert_eq!(queue.next(), None);
        queue.add_after(key("a"), Duration::from_secs(1));
        queue.add_after(key("a"), Duration::from_secs(5));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(queue.ring(Instant::now()).is_some());
        assert_eq!(queue.next(), None, "the earlier timer was replaced");
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(queue.ring(Instant::now()), None);
        assert_eq!(queue.next(), Some(key("a")));
    }
}
