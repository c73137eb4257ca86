//! What containers and the node use, from counters that were read twice. Pure: who reads them and when is `runtime/measure`'s.
//!
//! The newest two rounds of readings are kept and no more: what is gone is forgotten with its round. A container is known
//! by its run, so that one that was started again begins anew.

use std::collections::HashMap;
use std::time::Instant;

use jiff::Timestamp;
use weft_api::usage::{ContainerUsage, NodeUsage, PodUsage, Report, Usage, Window};

use crate::outside::PodRef;

/// What counters said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    /// CPU time so far, nanoseconds.
    pub(crate) cpu_ns: u64,
    /// The working set now, bytes.
    pub(crate) memory_bytes: u64,
}

/// Counters, and when they were read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) at: Instant,
    pub(crate) counters: Counters,
}

/// A Pod's running containers: their names, runs and readings; none where nothing could be read.
#[derive(Clone, Debug)]
pub(crate) struct PodReading {
    pub(crate) pod: PodRef,
    pub(crate) containers: Vec<(String, String, Option<Reading>)>,
}

/// Everything, read once.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) timestamp: Timestamp,
    pub(crate) node: Option<Reading>,
    pub(crate) pods: Vec<PodReading>,
}

/// The newest two rounds.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    before: Option<Round>,
    now: Option<Round>,
}

impl Meter {
    /// Takes in the newest round.
    pub(crate) fn note(&mut self, round: Round) {
        self.before = self.now.replace(round);
    }

    /// What was used between the two rounds. A Pod is left out until each of its containers has been read twice: its sum would
    /// be taken for all that it uses.
    pub(crate) fn report(&self) -> Report {
        let (Some(before), Some(now)) = (&self.before, &self.now) else { return Report::default() };
        let measured = |first: Option<Reading>, second: Option<Reading>| {
            let (first, second) = (first?, second?);
            Some((usage(first, second)?, window(first, second, now.timestamp)?))
        };
        let node = measured(before.node, now.node).map(|(usage, window)| NodeUsage { window, usage });
        let runs: HashMap<&str, Reading> = before
            .pods
            .iter()
            .flat_map(|pod| &pod.containers)
            .filter_map(|(_, run, reading)| Some((run.as_str(), (*reading)?)))
            .collect();
        let pods = now.pods.iter().filter_map(|PodReading { pod, containers }| {
            let containers: Option<Vec<_>> = containers
                .iter()
                .map(|(name, run, reading)| {
                    let (usage, window) = measured(runs.get(run.as_str()).copied(), *reading)?;
                    Some((window, ContainerUsage { name: name.clone(), usage }))
                })
                .collect();
            let (windows, containers): (Vec<Window>, Vec<ContainerUsage>) = containers?.into_iter().unzip();
            let (namespace, name, uid) = (pod.namespace.clone(), pod.name.clone(), pod.uid.clone());
            Some(PodUsage { namespace, name, uid, window: *windows.first()?, containers })
        });
        Report { node, pods: pods.collect() }
    }
}

/// What was used between two readings; none if no time has passed or the counter went back, as that of something else does.
fn usage(first: Reading, second: Reading) -> Option<Usage> {
    let took = second.at.checked_duration_since(first.at)?.as_nanos();
    let used = second.counters.cpu_ns.checked_sub(first.counters.cpu_ns)?;
    let cpu_nanocores = u64::try_from((u128::from(used) * 1_000_000_000).checked_div(took)?).ok()?;
    Some(Usage { cpu_nanocores, memory_bytes: second.counters.memory_bytes })
}

fn window(first: Reading, second: Reading, timestamp: Timestamp) -> Option<Window> {
    let took = second.at.checked_duration_since(first.at)?;
    Some(Window { timestamp, window_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX) })
}

/// The machine's CPU time out of `/proc/stat`, in clock ticks: what ran for anybody. Nothing, waiting for a disk and what the
/// machine's own host took are none of it; guests are in `user` already.
pub(crate) fn busy_ticks(stat: &str) -> Option<u64> {
    let numbers = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let numbers: Vec<u64> = numbers.split_whitespace().map_while(|number| number.parse().ok()).collect();
    let [user, nice, system, _idle, _wait, irq, softirq, ..] = numbers.as_slice() else { return None };
    Some(user + nice + system + irq + softirq)
}

/// The machine's working set out of `/proc/meminfo`, bytes, by the kubelet's rule: what is not free, without files that have
/// not been used of late.
pub(crate) fn machine_memory(meminfo: &str) -> Option<u64> {
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let used = kib("MemTotal")?.checked_sub(kib("MemFree")?)?;
    Some(used.saturating_sub(kib("Inactive(file)")?) * 1024)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn reading(at: Instant, cpu_ns: u64, memory_bytes: u64) -> Option<Reading> {
        Some(Reading { at, counters: Counters { cpu_ns, memory_bytes } })
    }

    fn pod(name: &str, containers: &[(&str, &str, Option<Reading>)]) -> PodReading {
        let pod = PodRef { namespace: "d".into(), name: name.into(), uid: format!("uid-{name}") };
        let containers = containers.iter().map(|(name, run, read)| ((*name).into(), (*run).into(), *read));
        PodReading { pod, containers: containers.collect() }
    }

    fn round(node: Option<Reading>, pods: Vec<PodReading>) -> Round {
        Round { timestamp: Timestamp::from_second(1_000).unwrap(), node, pods }
    }

    /// What is reported of each Pod: containers and their nanocores.
    fn told(meter: &Meter) -> Vec<(String, Vec<(String, u64)>)> {
        let of = |c: &ContainerUsage| (c.name.clone(), c.usage.cpu_nanocores);
        let pods = meter.report().pods;
        pods.iter().map(|p| (p.name.clone(), p.containers.iter().map(of).collect())).collect()
    }

    #[test]
    fn a_rate_is_the_time_on_the_cpu_by_the_time_that_passed() {
        let began = Instant::now();
        let later = began + Duration::from_millis(12_500);
        let mut meter = Meter::default();
        meter.note(round(reading(began, SECOND, 1), vec![pod("p", &[("c", "c-0", reading(began, 5, 7))])]));
        assert_eq!(meter.report(), Report::default(), "one reading is none");
        let used = pod("p", &[("c", "c-0", reading(later, 5 + 5 * SECOND, 4096))]);
        meter.note(round(reading(later, 26 * SECOND, 2), vec![used]));
        let report = meter.report();
        let node = report.node.unwrap();
        assert_eq!(node.usage, Usage { cpu_nanocores: 2 * SECOND, memory_bytes: 2 });
        assert_eq!((node.window.window_ms, node.window.timestamp.as_second()), (12_500, 1_000));
        let container = &report.pods[0].containers[0];
        assert_eq!(container.usage, Usage { cpu_nanocores: 400_000_000, memory_bytes: 4096 });
        assert_eq!((report.pods[0].uid.as_str(), report.pods[0].window), ("uid-p", node.window));
    }

    #[test]
    fn what_began_or_ended_in_between_has_no_rate_and_nothing_is_kept_of_it() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut meter = Meter::default();
        let old = |seconds| ("old", "old-0", reading(at(seconds), seconds * SECOND, 1));
        meter.note(round(
            None,
            vec![pod("stays", &[old(0)]), pod("goes", &[("c", "goes-0", reading(at(0), 9, 9))])],
        ));
        let new = |run| move |seconds| ("new", run, reading(at(seconds), 5 * SECOND * (seconds - 9), 1));
        meter.note(round(None, vec![pod("stays", &[old(10), new("new-0")(10)])]));
        assert_eq!(told(&meter), [], "not while one of its containers is new");
        meter.note(round(None, vec![pod("stays", &[old(20), new("new-0")(20)])]));
        let both = [("old".to_owned(), SECOND), ("new".to_owned(), 5 * SECOND)].to_vec();
        assert_eq!(told(&meter), [("stays".to_owned(), both)]);
        // Started again: another run, whose counter begins anew.
        meter.note(round(None, vec![pod("stays", &[old(30), ("new", "new-1", reading(at(30), 1, 1))])]));
        assert_eq!(told(&meter), []);
        // Its cgroup could not be read, and was then.
        meter.note(round(None, vec![pod("stays", &[("old", "old-0", None)])]));
        meter.note(round(None, vec![pod("stays", &[old(50)])]));
        assert_eq!(told(&meter), []);
        meter.note(round(None, vec![pod("stays", &[old(60)])]));
        assert_eq!(told(&meter), [("stays".to_owned(), vec![("old".to_owned(), SECOND)])]);
        // Nothing of a Pod runs any more.
        meter.note(round(None, vec![pod("stays", &[])]));
        assert_eq!(told(&meter), []);
    }

    #[test]
    fn a_counter_that_went_back_and_no_time_at_all_make_no_rate() {
        let began = Instant::now();
        let later = began + Duration::from_secs(1);
        let usage = |first: Option<Reading>, second: Option<Reading>| usage(first.unwrap(), second.unwrap());
        assert_eq!(usage(reading(began, 100, 0), reading(later, 99, 0)), None);
        assert_eq!(usage(reading(began, 1, 0), reading(began, 2, 0)), None);
        assert_eq!(usage(reading(later, 1, 0), reading(began, 2, 0)), None);
        assert_eq!(
            usage(reading(began, 1, 0), reading(later, 1, 3)),
            Some(Usage { cpu_nanocores: 0, memory_bytes: 3 })
        );
        let most = usage(reading(began, 0, 0), reading(later, u64::MAX, 0));
        assert_eq!(most.unwrap().cpu_nanocores, u64::MAX, "nothing overflows");
    }

    #[test]
    fn the_machine_is_read_as_the_kernel_writes_it() {
        let stat = "cpu  100 20 30 4000 500 6 7 80 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 1\n";
        assert_eq!(busy_ticks(stat), Some(163));
        assert_eq!(busy_ticks("cpu0 1 2 3 4 5 6 7\n"), None);
        assert_eq!(busy_ticks("cpu 1 2\n"), None);
        let meminfo = "MemTotal:  1000 kB\nMemFree:   300 kB\nMemAvailable: 900 kB\nInactive:  250 kB\n\
            Inactive(anon):  50 kB\nInactive(file):  200 kB\n";
        assert_eq!(machine_memory(meminfo), Some(500 * 1024));
        assert_eq!(machine_memory("MemTotal: 1 kB\n"), None);
    }
}
