//! The programs under real load: two machines, Pods that ask and answer, and what the kernel counts of each program's time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use aya::maps::MapInfo;
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use serde_json::{Value, json};
use weft_dataplane_abi::LAYOUT;
use weft_dataplane_abi::hook::Hook;

use crate::kernel::{SERVICE_PORT, service_ip};
use crate::weft::{self, Weft};

/// Services on each of the two machines.
const SERVICES: usize = 1_000;
const TIME: Duration = Duration::from_millis(500);
/// A program that ran less often under a load has no part in it.
const RUNS_MIN: u64 = 1_000;

/// What the kernel has counted of one program: runs, nanoseconds.
type Counted = BTreeMap<&'static str, (u64, u64)>;

/// Nanoseconds of each program under each load, a value a round.
pub(crate) fn measure(object: &Path, rounds: usize) -> Value {
    let mut weft = Weft::new(object, &[SERVICES, SERVICES]);
    weft.socket_lb(0, false);
    let tables = tables(&weft);
    let near = SocketAddr::new(IpAddr::from(service_ip(SERVICES - 1)), SERVICE_PORT);
    let far = SocketAddr::new(IpAddr::from(service_ip(SERVICES)), SERVICE_PORT);
    let loads = [
        ("requests to a Service on the same node", "rr", near),
        ("new connections to a Service on the same node", "crr", near),
        ("requests to a Service on another node", "rr", far),
        ("new connections to a Service on another node", "crr", far),
    ];
    let mut results: BTreeMap<(usize, &'static str), Vec<f64>> = BTreeMap::new();
    for round in 0..=rounds {
        for (number, (name, what, to)) in loads.iter().enumerate() {
            let _on = enable_stats(Stats::RunTime).expect("statistics");
            let before = counted(&tables);
            let client = weft.bed.pods.get_mut(&weft::client(0)).expect("the Pod that asks");
            client.measure(what, *to, TIME).unwrap_or_else(|error| panic!("{name}: {error}"));
            for (hook, (runs, time_ns)) in counted(&tables) {
                let (runs_before, time_before) = before.get(hook).copied().unwrap_or_default();
                let runs = runs - runs_before;
                if round > 0 && runs >= RUNS_MIN {
                    let ns = (time_ns - time_before) as f64 / runs as f64;
                    results.entry((number, hook)).or_default().push(ns);
                }
            }
        }
    }
    let rows = results.into_iter().filter(|(_, ns)| ns.len() == rounds);
    rows.map(|((number, hook), ns)| json!({ "load": loads[number].0, "hook": hook, "ns": ns })).collect()
}

/// The tables of counters of this bed: other dataplanes of this machine have others.
fn tables(weft: &Weft) -> BTreeSet<u32> {
    let id = |directory: &Path| {
        let pin = directory.join(format!("maps-{LAYOUT}")).join("counters");
        MapInfo::from_pin(&pin).unwrap_or_else(|error| panic!("{}: {error}", pin.display())).id()
    };
    weft.bed.machines.iter().map(|machine| id(&machine.config.bpffs_dir)).collect()
}

/// Sums over the bed's machines.
fn counted(tables: &BTreeSet<u32>) -> Counted {
    let mut sums = Counted::new();
    // A program that goes while the list is read is somebody else's.
    for program in loaded_programs().filter_map(Result::ok) {
        let name = program.name_as_str().unwrap_or_default();
        let Some(hook) = Hook::ALL.iter().map(|hook| hook.text()).find(|text| *text == name) else {
            continue;
        };
        let maps = program.map_ids().ok().flatten().unwrap_or_default();
        if maps.iter().any(|id| tables.contains(id)) {
            let (runs, time_ns) = sums.entry(hook).or_default();
            *runs += program.run_count();
            *time_ns += program.run_time().as_nanos() as u64;
        }
    }
    sums
}
