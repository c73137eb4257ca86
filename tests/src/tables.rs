//! The live tables of a node, byte by byte, read where its agent pins them.

use std::collections::BTreeMap;
use std::path::Path;

use weft_dataplane::live::Table;
use weft_dataplane_abi::LAYOUT;
use weft_dataplane_abi::counter::seen_by;
use weft_dataplane_abi::hook::Hook;
use weft_dataplane_abi::maps::COUNTERS_MAP;

use crate::Cluster;

/// Attempts at a moment in which nobody else writes.
const ATTEMPTS_MAX: usize = 10;

/// Values by table and key. A ring has no rows, and most rows of arrays hold nothing.
type Rows = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

/// Calls and packets that a hook has seen, but for connects: the agent's link to the control plane is made of datagrams, and by
/// it the agent is asked.
fn is_noise(table: &str, key: &[u8]) -> bool {
    let connects = |hook: &Hook| matches!(hook, Hook::Connect4 | Hook::Connect6);
    let seen = |hook: &Hook| !connects(hook) && seen_by(*hook).to_ne_bytes() == *key;
    table == COUNTERS_MAP.name && Hook::ALL.iter().any(seen)
}

fn rows(cluster: &Cluster, node: &str) -> Rows {
    let pins = Path::new("/sys/fs/bpf").join(format!("{}-{node}", cluster.name()));
    let maps = pins.join(format!("maps-{LAYOUT}"));
    let mut rows = Rows::new();
    for name in Table::names() {
        let table = Table::open(&maps, name).unwrap_or_else(|error| panic!("{}: {error}", maps.display()));
        let Some(table) = table.filter(Table::has_rows) else { continue };
        let read = table.bytes(|key, value| {
            if value.iter().any(|byte| *byte != 0) && !is_noise(name, key) {
                rows.insert((name, key.to_vec()), value.to_vec());
            }
        });
        read.unwrap_or_else(|error| panic!("{error}"));
    }
    rows
}

/// Rows that are others than before, by table and key.
fn changed<'a>(before: &'a Rows, after: &'a Rows) -> Vec<&'a (&'static str, Vec<u8>)> {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let other = after.iter().filter(|(key, value)| before.get(*key) != Some(value)).map(|(key, _)| key);
    gone.chain(other).collect()
}

/// Does something between two looks at all live tables of a node, and fails the test unless they were the same once: others
/// write now and then, but not each time.
///
/// # Panics
/// The tables cannot be read.
#[track_caller]
pub fn untouched<T>(cluster: &Cluster, node: &str, doing: impl Fn() -> T) -> T {
    let mut all = Vec::new();
    for _ in 0..ATTEMPTS_MAX {
        let before = rows(cluster, node);
        assert!(before.keys().any(|(table, _)| *table == "services"), "no Service in the tables of {node}");
        let done = doing();
        let after = rows(cluster, node);
        let rows = changed(&before, &after);
        if rows.is_empty() {
            return done;
        }
        all.push(format!("{rows:?}"));
    }
    panic!("tables of {node} change each time:\n{}", all.join("\n"))
}
