//! Prefers nodes with fewer Pods of the same kind: those of the same controller, and those the Pod's own soft
//! constraints count.

use std::collections::{BTreeMap, HashMap};

use weft_api::view::Pod;

use crate::filter::spread::pods_by_domain;
use crate::snapshot::{NodeInfo, Snapshot};

/// By node for siblings; by domain for every `ScheduleAnyway` constraint. Counts are added up.
pub(super) fn scores(pod: &Pod, nodes: &[&NodeInfo], snapshot: &Snapshot) -> Vec<i64> {
    let mut by_node: HashMap<&str, i64> = HashMap::new();
    for sibling in &snapshot.siblings {
        *by_node.entry(sibling.spec.node_name.as_str()).or_default() += 1;
    }
    let soft: Vec<(&str, BTreeMap<String, u32>)> = pod
        .spec
        .topology_spread_constraints
        .iter()
        .filter(|c| c.when_unsatisfiable == "ScheduleAnyway")
        .map(|c| {
            (c.topology_key.as_str(), pods_by_domain(c, snapshot.nodes.iter(), &snapshot.namespace_pods))
        })
        .collect();
    let counts: Vec<i64> = nodes
        .iter()
        .map(|info| {
            let siblings = by_node.get(info.node.metadata.name.as_str()).copied().unwrap_or(0);
            let constrained = soft.iter().map(|(key, domains)| {
                let domain = info.node.metadata.labels.get(*key);
                // A node outside every domain is the last choice.
                domain.map_or(i64::from(u16::MAX), |d| i64::from(domains.get(d).copied().unwrap_or(0)))
            });
            siblings + constrained.sum::<i64>()
        })
        .collect();
    super::fewest(&counts)
}
