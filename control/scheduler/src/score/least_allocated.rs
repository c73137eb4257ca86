//! Prefers nodes with more CPU and memory left.

use weft_api::view::Pod;

use super::SCORE_MAX;
use crate::snapshot::{NodeInfo, cpu_assumed_milli, memory_assumed_bytes, requests_of};

/// The mean of the free shares of CPU and memory with the Pod on the node.
pub(super) fn scores(pod: &Pod, nodes: &[&NodeInfo]) -> Vec<i64> {
    let requests = requests_of(pod);
    let (cpu, memory) = (cpu_assumed_milli(&requests), memory_assumed_bytes(&requests));
    nodes
        .iter()
        .map(|node| {
            let (cpu_used, memory_used) =
                node.load.map_or((0, 0), |load| (load.cpu_assumed_milli, load.memory_assumed_bytes));
            let cpu = free_share(node.allocatable("cpu").milli_ceil(), cpu_used.saturating_add(cpu));
            let memory =
                free_share(node.allocatable("memory").units_ceil(), memory_used.saturating_add(memory));
            (cpu + memory) / 2
        })
        .collect()
}

fn free_share(capacity: i64, used: i64) -> i64 {
    if capacity <= 0 || used >= capacity {
        return 0;
    }
    let free = i128::from(capacity - used) * i128::from(SCORE_MAX) / i128::from(capacity);
    i64::try_from(free).unwrap_or(0)
}
