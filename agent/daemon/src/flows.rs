//! The node's flows: kept for a while, and fed to who follows.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;
use weft_trace::{Filter, Flow, FlowStore};

/// Flows a follower may lag behind before it loses some.
const FOLLOWER_LAG_MAX: usize = 4096;

/// Kept and followed flows. Cheap to share.
#[derive(Debug)]
pub(crate) struct Flows {
    store: Mutex<FlowStore>,
    feed: broadcast::Sender<Arc<Flow>>,
}

impl Flows {
    /// Keeps at most `flows_max`.
    pub(crate) fn new(flows_max: usize) -> Self {
        Self { store: Mutex::new(FlowStore::new(flows_max)), feed: broadcast::channel(FOLLOWER_LAG_MAX).0 }
    }

    /// A new flow.
    pub(crate) fn push(&self, flow: Flow) {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        // Sent under the lock, so that `follow` misses and repeats nothing.
        let _followers = self.feed.send(Arc::new(flow.clone()));
        store.push(flow);
    }

    /// Kept flows, oldest first, and from then on each new one.
    pub(crate) fn follow(&self, filter: &Filter) -> (Vec<Flow>, broadcast::Receiver<Arc<Flow>>) {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        (store.query(filter).cloned().collect(), self.feed.subscribe())
    }

    /// Flows kept, and flows that went because the store was full.
    pub(crate) fn fill(&self) -> (usize, u64) {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        (store.len(), store.overwritten())
    }
}
