//! The running agent: its parts, shared by everything that answers for the node.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock, RwLock};

use ipnet::IpNet;
use tokio::sync::Notify;
use weft_dataplane::Dataplane;
use weft_dns::records::Records;
use weft_runtime::Runtime;

use crate::cipher::Cipher;
use crate::config::Config;
use crate::flows::Flows;
use crate::knowledge::Knowledge;
use crate::link;
use crate::outbox::Outbox;

/// All parts of a started agent.
pub(crate) struct Agent {
    pub(crate) config: Config,
    pub(crate) knowledge: Arc<Knowledge>,
    pub(crate) runtime: Runtime,
    pub(crate) dataplane: Dataplane,
    pub(crate) flows: Arc<Flows>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) link: Arc<link::State>,
    /// The node's own addresses, the first family first.
    pub(crate) addresses: Vec<IpAddr>,
    /// The ranges its Pods take their addresses from, as they were at the start.
    pub(crate) ranges: Vec<IpNet>,
    /// Encryption between nodes, where there is any.
    pub(crate) cipher: Option<Cipher>,
    /// The view has changed, and the kernel's tables hold the change.
    pub(crate) carried: Notify,
    /// What cluster DNS is answered from, once it is.
    pub(crate) records: OnceLock<Arc<RwLock<Records>>>,
}
