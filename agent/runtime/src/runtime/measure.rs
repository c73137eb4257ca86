//! Reads what containers and the node have used, from time to time; what follows from it is [`crate::usage`]'s.

use std::fs;
use std::path::PathBuf;
use std::sync::{PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::unistd::{SysconfVar, sysconf};
use tokio::time::MissedTickBehavior;
use weft_api::usage::Report;

use super::{Inner, Runtime};
use crate::cgroup::Hierarchies;
use crate::outside::PodRef;
use crate::pod::Phase;
use crate::usage::{Counters, PodReading, Reading, Round, busy_ticks, machine_memory};

/// A Pod and its running containers: name, run and cgroup of each.
type Running = (PodRef, Vec<(String, String, PathBuf)>);

/// Measures as long as the runtime lives.
pub(super) async fn run(inner: Weak<Inner>) {
    let Some(every_ms) = inner.upgrade().map(|inner| inner.node.config.usage_every_ms) else { return };
    let mut tick = tokio::time::interval(Duration::from_millis(every_ms.max(1).into()));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some((running, hierarchies)) =
            inner.upgrade().map(|inner| (inner.running(), inner.node.hierarchies.clone()))
        else {
            return;
        };
        // The kernel sums up a group's counters while they are read, which takes its time.
        let round = tokio::task::spawn_blocking(move || read(&hierarchies, running)).await;
        let (Some(inner), Ok(round)) = (inner.upgrade(), round) else { continue };
        inner.usage.lock().unwrap_or_else(PoisonError::into_inner).note(round);
    }
}

fn read(hierarchies: &Hierarchies, running: Vec<Running>) -> Round {
    let reading = |counters| Some(Reading { at: Instant::now(), counters: counters? });
    let node = reading(machine());
    let pods = running.into_iter().map(|(pod, containers)| {
        let read = |(name, run, group): (String, String, PathBuf)| {
            (name, run, reading(hierarchies.counters(&group)))
        };
        PodReading { pod, containers: containers.into_iter().map(read).collect() }
    });
    let pods = pods.collect();
    Round { timestamp: Timestamp::now(), node, pods }
}

/// What the machine has used.
fn machine() -> Option<Counters> {
    let ticks = busy_ticks(&fs::read_to_string("/proc/stat").ok()?)?;
    let ticks_per_s = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let cpu_ns = ticks.checked_mul(1_000_000_000_u64.checked_div(ticks_per_s)?)?;
    let memory_bytes = machine_memory(&fs::read_to_string("/proc/meminfo").ok()?)?;
    Some(Counters { cpu_ns, memory_bytes })
}

impl Inner {
    fn running(&self) -> Vec<Running> {
        let mut all = Vec::new();
        for handle in self.pods().values() {
            let snapshot = handle.snapshot.borrow().clone();
            let group = self.node.place(&handle.pod.uid).cgroup;
            let containers = snapshot.observed.containers.iter().filter_map(|(name, state)| {
                let Phase::Running { id, .. } = &state.phase else { return None };
                Some((name.clone(), id.clone(), group.join(id)))
            });
            all.push((handle.pod.clone(), containers.collect()));
        }
        all
    }
}

impl Runtime {
    /// What the node and its Pods used between the last two times that they were measured.
    #[must_use]
    pub fn usage(&self) -> Report {
        self.inner.usage.lock().unwrap_or_else(PoisonError::into_inner).report()
    }
}
