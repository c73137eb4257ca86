//! The last flows of this node, bounded.

use std::collections::VecDeque;

use crate::filter::Filter;
use crate::flow::Flow;

/// A ring of flows: the oldest go when it is full.
#[derive(Debug)]
pub struct FlowStore {
    flows: VecDeque<Flow>,
    flows_max: usize,
    overwritten: u64,
}

impl FlowStore {
    /// An empty store of at most `flows_max` flows.
    pub fn new(flows_max: usize) -> Self {
        Self {
            flows: VecDeque::with_capacity(flows_max.min(1024)),
            flows_max: flows_max.max(1),
            overwritten: 0,
        }
    }

    /// Keeps a flow.
    pub fn push(&mut self, flow: Flow) {
        if self.flows.len() == self.flows_max {
            self.flows.pop_front();
            self.overwritten += 1;
        }
        self.flows.push_back(flow);
    }

    /// Kept flows that a filter wants, oldest first.
    pub fn query<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Flow> {
        self.flows.iter().filter(|flow| filter.matches(flow))
    }

    /// How many flows are kept.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// How many flows went because the store was full.
    pub fn overwritten(&self) -> u64 {
        self.overwritten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Party, Path, Verdict};

    fn flow(pod: &str, verdict: Verdict) -> Flow {
        let address = "10.0.0.1:1".parse().unwrap();
        Flow {
            time: String::new(),
            node: "n".into(),
            verdict,
            path: Path::Socket,
            hook: String::new(),
            station: String::new(),
            reason: String::new(),
            protocol: "TCP".into(),
            source: Party { address, pod: Some(pod.into()), node: None },
            destination: Party { address, pod: None, node: None },
            service: None,
            backend: None,
        }
    }

    #[test]
    fn the_oldest_go_first_and_are_counted() {
        let mut store = FlowStore::new(2);
        for pod in ["a/1", "a/2", "a/3"] {
            store.push(flow(pod, Verdict::Forwarded));
        }
        let all = Filter::default();
        let pods: Vec<_> = store.query(&all).filter_map(|f| f.source.pod.clone()).collect();
        assert_eq!(pods, ["a/2", "a/3"]);
        assert_eq!(store.overwritten(), 1);
    }

    #[test]
    fn a_filter_takes_pod_and_verdict() {
        let mut store = FlowStore::new(8);
        store.push(flow("a/1", Verdict::Forwarded));
        store.push(flow("a/1", Verdict::Dropped));
        store.push(flow("a/2", Verdict::Dropped));
        let mut filter = Filter::default();
        filter.set("pod", "a/1").unwrap();
        filter.set("verdict", "dropped").unwrap();
        assert_eq!(store.query(&filter).count(), 1);
    }
}
