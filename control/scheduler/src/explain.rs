//! Why no node takes a Pod, in the words users know.

use std::collections::BTreeMap;
use std::fmt;

use crate::filter::Reason;

/// How many nodes were refused for which reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    nodes: usize,
    refused: BTreeMap<Reason, usize>,
}

impl Unfit {
    /// Nothing is known yet about so many nodes.
    pub(crate) fn new(nodes: usize) -> Self {
        Self { nodes, refused: BTreeMap::new() }
    }

    /// One node refuses for these reasons.
    pub(crate) fn add(&mut self, reasons: Vec<Reason>) {
        for reason in reasons {
            *self.refused.entry(reason).or_default() += 1;
        }
    }
}

impl std::error::Error for Unfit {}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut reasons: Vec<String> =
            self.refused.iter().map(|(reason, nodes)| format!("{nodes} {reason}")).collect();
        reasons.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes, reasons.join(", "))
    }
}
