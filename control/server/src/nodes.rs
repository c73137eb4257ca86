//! Nodes and their sessions over the link.

use crate::{authn::account::Accounts, config::Config, loops::Snapshot, objects::Objects, pki::Pki};
use std::sync::Arc;

pub(crate) struct Nodes {
    _objects: Arc<Objects>,
}
impl Nodes {
    pub(crate) fn new(
        objects: Arc<Objects>,
        _s: Arc<Snapshot>,
        _a: Arc<Accounts>,
        _p: Arc<Pki>,
        _c: Arc<Config>,
    ) -> Arc<Self> {
        Arc::new(Self { _objects: objects })
    }
    pub(crate) fn connected(&self) -> usize {
        0
    }
}
pub(crate) fn listen(
    _n: Arc<Nodes>,
    _s: tokio::sync::watch::Receiver<bool>,
) -> std::io::Result<std::net::SocketAddr> {
    Ok(([0, 0, 0, 0], 0).into())
}
