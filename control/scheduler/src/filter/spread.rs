//! Topology spread constraints with `DoNotSchedule`.

use std::collections::{BTreeMap, HashMap};

use weft_api::selector::Selector;
use weft_api::view::Pod;
use weft_api::view::pod::TopologySpreadConstraint;

use super::Reason;
use crate::snapshot::{NodeInfo, Snapshot};

/// For each hard constraint of a Pod, how many matching Pods each domain has.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    constraints: Vec<Counted>,
}

#[derive(Clone, Debug)]
struct Counted {
    topology_key: String,
    max_skew: u32,
    /// Whether the Pod counts itself.
    self_match: u32,
    pods_by_domain: BTreeMap<String, u32>,
}

impl Domains {
    /// Counts once for all nodes. A domain is one value of the label over the nodes the Pod's affinity allows.
    pub fn count(pod: &Pod, snapshot: &Snapshot) -> Self {
        let hard =
            pod.spec.topology_spread_constraints.iter().filter(|c| c.when_unsatisfiable != "ScheduleAnyway");
        let constraints = hard
            .map(|constraint| {
                let nodes = snapshot.nodes.iter().filter(|info| crate::affinity::allows(pod, info.node));
                let selector = selector_of(constraint);
                Counted {
                    topology_key: constraint.topology_key.clone(),
                    max_skew: constraint.max_skew.max(1),
                    self_match: u32::from(selector.matches(&pod.metadata.labels)),
                    pods_by_domain: pods_by_domain(constraint, nodes, &snapshot.namespace_pods),
                }
            })
            .collect();
        Self { constraints }
    }

    /// Whether the Pod on this node would make a domain too full.
    pub(super) fn refuses(&self, node: &NodeInfo) -> Option<Reason> {
        self.constraints.iter().find_map(|constraint| {
            let Some(domain) = node.node.metadata.labels.get(&constraint.topology_key) else {
                return Some(Reason::SpreadLabel);
            };
            let here = constraint.pods_by_domain.get(domain).copied().unwrap_or(0);
            let least = constraint.pods_by_domain.values().copied().min().unwrap_or(0);
            let skew = (here + constraint.self_match).saturating_sub(least);
            (skew > constraint.max_skew).then_some(Reason::Spread)
        })
    }
}

/// The Pods a constraint counts; one without a selector counts none.
pub(crate) fn selector_of(constraint: &TopologySpreadConstraint) -> Selector {
    let selector = constraint.label_selector.as_ref().map(Selector::from_label_selector);
    selector.and_then(Result::ok).unwrap_or_else(Selector::nothing)
}

/// Matching Pods by domain, for the domains these nodes make.
pub(crate) fn pods_by_domain<'a>(
    constraint: &TopologySpreadConstraint,
    nodes: impl Iterator<Item = &'a NodeInfo<'a>>,
    pods: &[&Pod],
) -> BTreeMap<String, u32> {
    let selector = selector_of(constraint);
    let mut domain_of: HashMap<&str, &str> = HashMap::new();
    let mut counts = BTreeMap::new();
    for info in nodes {
        if let Some(domain) = info.node.metadata.labels.get(&constraint.topology_key) {
            domain_of.insert(&info.node.metadata.name, domain);
            counts.entry(domain.clone()).or_insert(0);
        }
    }
    for pod in pods {
        if let Some(domain) = domain_of.get(pod.spec.node_name.as_str())
            && selector.matches(&pod.metadata.labels)
            && let Some(count) = counts.get_mut(*domain)
        {
            *count += 1;
        }
    }
    counts
}
