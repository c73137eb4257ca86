//! The loops' clock: feeds the snapshot from the watch cache, runs plans, hands their actions to `perform`.
//!
//! A loop performs one plan at a time, and plans again only on a snapshot that holds everything it wrote before: no
//! plan runs behind its loop's own writes. What a plan decides is not known here.

mod queue;
mod snapshot;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use weft_api::status::Status;
use weft_controllers::action::Action;
use weft_controllers::record;
use weft_controllers::settings::Settings;
use weft_controllers::table::{Context, LOOPS, Loop, LoopKey, Plan};
use weft_controllers::world::{Applied, World};

use crate::clock;
use crate::objects::Objects;
use crate::perform::{self, Outcome};
use crate::stop::stopped;
use queue::{Done, Queue};
use snapshot::Positions;

pub(crate) use snapshot::Snapshot;

/// How long a broken-off wake-up may go unnoticed.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How many plans with nothing to write one loop may make in a row before the others get their turn.
const PLANS_PER_TURN_MAX: usize = 256;

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
    let mut positions = Positions::new();
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
        let reached = *snapshot.revisions().borrow();
        if queues.iter().any(|queue| queue.is_ready(reached)) {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            done = finished.recv() => {
                let mut next = done;
                while let Some(done) = next {
                    let index = done.index;
                    queues[index].done(done, Instant::now());
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

fn start(
    index: usize,
    queue: &mut Queue,
    objects: &Arc<Objects>,
    snapshot: &Arc<Snapshot>,
    settings: &Settings,
    sender: &mpsc::Sender<Done>,
) {
    let reached = *snapshot.revisions().borrow();
    for _ in 0..PLANS_PER_TURN_MAX {
        if !queue.is_ready(reached) {
            return;
        }
        let Some(key) = queue.next() else { return };
        let world = snapshot.read();
        let context = Context { now: clock::now(), random: uuid::Uuid::new_v4().as_u64_pair().1, settings };
        let plan = match planned(queue.loop_, &key, &world, &context) {
            Ok(plan) => plan,
            Err(status) => {
                let outcome = Outcome::Refused(status);
                queue.done(Done { index, key, outcome, requeue_after_ms: None, revision: 0 }, Instant::now());
                continue;
            }
        };
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
            queue.settled(key, plan.requeue_after_ms, Instant::now());
            continue;
        }
        queue.busy = true;
        let work = Work { index, key, requeue_after_ms: plan.requeue_after_ms, loop_name: queue.loop_.name };
        tokio::spawn(work.perform(objects.clone(), snapshot.clone(), actions, sender.clone()));
    }
}

/// Makes a plan.
///
/// # Errors
/// It panicked: one object that no plan was made for holds up nothing but its own key.
fn planned(loop_: &Loop, key: &LoopKey, world: &World, context: &Context) -> Result<Plan, Status> {
    // A plan only reads; there is nothing it could leave half done.
    catch_unwind(AssertUnwindSafe(|| (loop_.plan)(key, world, context))).map_err(|_| {
        tracing::error!(loop_ = loop_.name, kind = %key.kind, key = %key.key, "a plan broke off");
        Status::internal("a plan broke off")
    })
}

/// A plan that is being carried out.
struct Work {
    index: usize,
    key: LoopKey,
    requeue_after_ms: Option<u64>,
    loop_name: &'static str,
}

impl Work {
    async fn perform(
        self,
        objects: Arc<Objects>,
        snapshot: Arc<Snapshot>,
        actions: Vec<(Action, bool)>,
        sender: mpsc::Sender<Done>,
    ) {
        let cache = objects.cache.clone();
        let name = self.loop_name;
        let performed = tokio::spawn(async move { perform::all(&objects, &snapshot, name, actions).await });
        // A task of its own: should it ever panic, the loop goes on with its other keys.
        let outcome = performed.await.unwrap_or_else(|error| {
            tracing::error!(loop_ = name, %error, "a loop's write broke off");
            Outcome::Refused(Status::internal("a write broke off"))
        });
        let revision = cache.revision();
        let Self { index, key, requeue_after_ms, .. } = self;
        let _ = sender.send(Done { index, key, outcome, requeue_after_ms, revision }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_api::key::ObjectKey;
    use weft_api::kind;

    #[test]
    fn a_plan_that_panics_is_refused_like_a_write() {
        let broken = Loop {
            name: "broken",
            watches: &[],
            start: |_| Vec::new(),
            keys: |_, _| Vec::new(),
            plan: |_, _, _| panic!("no plan was made for this object"),
        };
        let key = LoopKey::new(&kind::POD, ObjectKey::namespaced("default", "odd"));
        let settings = Settings::default();
        let context = Context { now: clock::now(), random: 0, settings: &settings };
        assert_eq!(planned(&broken, &key, &World::new(), &context).unwrap_err().code, 500);
    }
}
