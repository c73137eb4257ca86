//! The table of loops: what each watches, which keys a change touches, and its plan.

use jiff::Timestamp;
use weft_api::key::ObjectKey;
use weft_api::kind::Kind;

use crate::action::Action;
use crate::settings::Settings;
use crate::world::{Applied, World};

/// What one run of a plan is about. Equal keys wait in a queue once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoopKey {
    /// Kind of the object.
    pub kind: &'static Kind,
    /// Namespace and name of the object.
    pub key: ObjectKey,
}

impl LoopKey {
    /// The key of one object.
    pub fn new(kind: &'static Kind, key: ObjectKey) -> Self {
        Self { kind, key }
    }
}

/// What a plan may read beside the snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Now.
    pub now: Timestamp,
    /// A fresh random number for each run.
    pub random: u64,
    /// Settings.
    pub settings: &'a Settings,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Plan {
    /// In this order; the rest is dropped when one fails.
    pub actions: Vec<Action>,
    /// Plan the key again after so long even if nothing changes, milliseconds. A later plan of the key replaces it.
    pub requeue_after_ms: Option<u64>,
}

impl Plan {
    /// Nothing to do.
    pub fn none() -> Self {
        Self::default()
    }

    /// These actions.
    pub fn actions(actions: Vec<Action>) -> Self {
        Self { actions, requeue_after_ms: None }
    }

    /// Asks for another run after `ms`, unless an earlier one is asked for already.
    pub fn requeue(&mut self, ms: u64) {
        self.requeue_after_ms = Some(self.requeue_after_ms.map_or(ms, |asked| asked.min(ms)));
    }
}

/// One control loop.
#[derive(Clone, Copy, Debug)]
pub struct Loop {
    /// Name, for logs and metrics.
    pub name: &'static str,
    /// Kinds whose changes `keys` wants to see.
    pub watches: &'static [&'static Kind],
    /// Keys to plan once at the start, before any change; the changes of the first full list come behind them.
    pub start: fn(&Context) -> Vec<LoopKey>,
    /// Keys that a change touches; the snapshot has the change already.
    pub keys: fn(&Applied, &World) -> Vec<LoopKey>,
    /// What is to be done about one key. Never run on a snapshot older than the loop's own last write.
    pub plan: fn(&LoopKey, &World, &Context) -> Plan,
}

/// For loops that have nothing to do before the first change.
pub(crate) fn no_start(_: &Context) -> Vec<LoopKey> {
    Vec::new()
}

/// Every loop.
pub static LOOPS: &[Loop] = &[
    crate::namespace_life::LOOP,
    crate::kubernetes_service::LOOP,
    crate::node_cidr::LOOP,
    crate::node_key::LOOP,
    crate::deployment::LOOP,
    crate::replica_set::LOOP,
    crate::scheduling::LOOP,
    crate::endpoint_slice::LOOP,
    crate::endpoints::LOOP,
    crate::endpoint_mirror::LOOP,
    crate::load_balancer::LOOP,
    crate::node_life::LOOP,
    crate::pod_life::LOOP,
    crate::garbage::LOOP,
    crate::event_ttl::LOOP,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_used_twice() {
        let mut names: Vec<&str> = LOOPS.iter().map(|l| l.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), LOOPS.len());
    }
}
