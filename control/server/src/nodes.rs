//! The nodes' sessions over the link: who joins, who is connected, and the ways to and from each.

mod allowance;
mod ask;
mod report;
mod request;
mod silence;
mod usage;
mod views;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use weft_controllers::world::Applied;
use weft_link::StoreIdentity;
use weft_link::message::{Agent, Cluster, PodPort, StatusFrame, Welcome, open::To};
use weft_link::session::{
    Accepted, BindError, ByteStream, JoinAttempt, Link, LinkAttempt, Listener, OpenError, Opener,
    ServerIdentity, ServerSession, TlsError,
};

use crate::authn::account::Accounts;
use crate::config::Config;
use crate::loops::Snapshot;
use crate::objects::Objects;
use crate::pki::Pki;
use crate::stop::stopped;
use report::Reports;
use views::Views;

/// How long a session waits until the views know its node: less than the agent's patience with the whole handshake.
const VIEW_WAIT: Duration = Duration::from_secs(5);
/// How often a report is tried before it is passed over.
const REPORT_TRIES_MAX: u32 = 4;
/// First wait between two tries, doubled with each.
const REPORT_WAIT: Duration = Duration::from_millis(50);

/// The nodes.
pub(crate) struct Nodes {
    objects: Arc<Objects>,
    snapshot: Arc<Snapshot>,
    accounts: Arc<Accounts>,
    pki: Arc<Pki>,
    config: Arc<Config>,
    views: Arc<Views>,
    sessions: Mutex<HashMap<String, Connected>>,
    next_session: AtomicU64,
    usage_turn: usage::Turn,
}

/// A session that is there.
struct Connected {
    id: u64,
    opener: Opener,
    link: Link,
    usage: Arc<usage::Kept>,
}

/// Why there is no stream to a node. The text goes to the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("node {0:?} is not connected to this control plane")]
    NotConnected(String),
    #[error("node {node:?} cannot be reached: {source}")]
    Open { node: String, source: OpenError },
    /// The node's words.
    #[error("{0}")]
    Refused(String),
}

/// Why the link cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("the link's certificate is not usable")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the link's address is not known")]
    Address(#[source] std::io::Error),
}

impl Nodes {
    pub(crate) fn new(
        objects: Arc<Objects>,
        snapshot: Arc<Snapshot>,
        accounts: Arc<Accounts>,
        pki: Arc<Pki>,
        config: Arc<Config>,
    ) -> Arc<Self> {
        let store = objects.store.identity();
        let store = StoreIdentity { id: store.id, epoch: store.epoch };
        let views = Arc::new(Views::new(snapshot.clone(), store));
        let sessions = Mutex::default();
        Arc::new(Self {
            objects,
            snapshot,
            accounts,
            pki,
            config,
            views,
            sessions,
            next_session: AtomicU64::new(1),
            usage_turn: usage::Turn::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Connected>> {
        self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How many nodes have a session.
    pub(crate) fn connected(&self) -> usize {
        self.lock().len()
    }

    /// A byte stream to the HTTP API of a node's agent.
    ///
    /// # Errors
    /// The node has no session, or does not open the stream.
    pub(crate) async fn agent(&self, node: &str) -> Result<ByteStream, DialError> {
        self.open(node, To::Agent(Agent {})).await
    }

    /// A TCP connection to an address as a node's Pods see it.
    ///
    /// # Errors
    /// As [`Nodes::agent`], and nobody answers there.
    pub(crate) async fn dial(&self, node: &str, address: SocketAddr) -> Result<ByteStream, DialError> {
        self.open(node, To::Dial(address.to_string())).await
    }

    /// A TCP connection to a port inside a Pod, at its loopback address.
    ///
    /// # Errors
    /// As [`Nodes::agent`], and nobody answers there.
    pub(crate) async fn pod_port(&self, node: &str, to: PodPort) -> Result<ByteStream, DialError> {
        self.open(node, To::PodPort(to)).await
    }

    async fn open(&self, node: &str, to: To) -> Result<ByteStream, DialError> {
        let opener = self.lock().get(node).map(|c| c.opener.clone());
        let opener = opener.ok_or_else(|| DialError::NotConnected(node.to_owned()))?;
        opener.open(to).await.map_err(|error| match error {
            OpenError::Refused { reason } => DialError::Refused(reason),
            source => DialError::Open { node: node.to_owned(), source },
        })
    }

    fn cluster(&self) -> Cluster {
        let config = &self.config;
        Cluster {
            service_cidrs: config.service_cidrs.iter().map(ToString::to_string).collect(),
            pod_cidrs: config.pod_cidrs.iter().map(ToString::to_string).collect(),
            dns_ips: self.objects.settings.dns_addresses().iter().map(ToString::to_string).collect(),
            domain: config.domain.clone(),
            node_port_first: u32::from(*config.node_ports.start()),
            node_port_last: u32::from(*config.node_ports.end()),
            heartbeat_ms: config.heartbeat_ms,
            ca_pem: self.pki.ca_pem.clone(),
            vxlan_port: u32::from(config.vxlan_port),
            encryption_port: if config.encryption { u32::from(config.encryption_port) } else { 0 },
        }
    }

    /// Takes connections until the server stops.
    async fn accept(self: Arc<Self>, listener: Arc<Listener>, mut stopping: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stopped(&mut stopping) => None,
            };
            let nodes = self.clone();
            match accepted {
                Some(Accepted::Join(attempt)) => {
                    tokio::spawn(async move { nodes.let_in(attempt).await });
                }
                Some(Accepted::Link(attempt)) => {
                    tokio::spawn(async move { nodes.session(attempt).await });
                }
                None => break,
            }
        }
        listener.close("the control plane stops").await;
    }

    async fn let_in(&self, attempt: JoinAttempt) {
        let response = self.join(attempt.request());
        if let Err(error) = attempt.answer(&response).await {
            tracing::debug!(%error, "a machine that wanted to join is gone");
        }
    }

    async fn session(self: Arc<Self>, attempt: LinkAttempt) {
        let node = attempt.node().to_owned();
        let reports = Arc::new(Reports::new(self.objects.clone(), self.snapshot.clone(), node.clone()));
        if let Err(status) = reports.register(&attempt.hello().node_json).await {
            tracing::warn!(node, reason = status.message, "a node could not be registered");
            attempt.refuse(&format!("the node cannot be registered: {}", status.message)).await;
            return;
        }
        // The view must know the node that was just made.
        let goal = self.objects.cache.revision();
        let mut revisions = self.views.revisions();
        let _ = tokio::time::timeout(VIEW_WAIT, revisions.wait_for(|r| *r >= goal)).await;
        let beginning = match self.views.begin(&node, attempt.hello().resume.as_ref()) {
            Ok(beginning) => beginning,
            Err(error) => {
                attempt.refuse(&error.to_string()).await;
                return;
            }
        };
        let welcome = Welcome {
            position: Some(beginning.position.clone()),
            resumed: beginning.resumed,
            cluster: Some(self.cluster()),
            ..Welcome::default()
        };
        let session = match attempt.welcome(welcome).await {
            Ok(session) => session,
            Err(error) => {
                tracing::debug!(node, %error, "a session did not begin");
                return;
            }
        };
        tracing::info!(node, resumed = beginning.resumed, from = %session.link.remote_address(), "a node is connected");
        let id = self.connect(&session);
        let link = session.link.clone();
        self.carry(session, beginning, reports).await;
        self.disconnect(&node, id);
        link.close("the session has ended");
        tracing::info!(node, "a node is disconnected");
    }

    fn connect(&self, session: &ServerSession) -> u64 {
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        let (opener, link) = (session.opener.clone(), session.link.clone());
        let connected = Connected { id, opener, link, usage: Arc::default() };
        if let Some(old) = self.lock().insert(session.node.clone(), connected) {
            old.link.close("the node has begun another session");
        }
        id
    }

    fn disconnect(&self, node: &str, id: u64) {
        let mut sessions = self.lock();
        if sessions.get(node).is_some_and(|c| c.id == id) {
            sessions.remove(node);
        }
    }

    /// Carries state down, reports up and requests both ways until one of them ends.
    async fn carry(
        self: &Arc<Self>,
        session: ServerSession,
        beginning: views::Beginning,
        reports: Arc<Reports>,
    ) {
        let ServerSession { node, mut state, mut status, mut requests, responses, link, .. } = session;
        let views::Beginning { frames, mut deltas, .. } = beginning;
        let down = async move {
            if let Err(error) = state.send_encoded(frames).await {
                return Some(error);
            }
            while let Some(frames) = deltas.recv().await {
                if let Err(error) = state.send_encoded(frames).await {
                    return Some(error);
                }
            }
            None
        };
        let up = async move {
            loop {
                match status.next().await {
                    Ok(Some(frame)) => take_report(&reports, frame).await,
                    Ok(None) => return None,
                    Err(error) => return Some(error),
                }
            }
        };
        let nodes = self.clone();
        let asked_by = node.clone();
        let asked = async move {
            loop {
                match requests.next().await {
                    Ok(Some(request)) => {
                        if let Err(error) = responses.answer(&nodes.answer(&asked_by, request)).await {
                            return Some(error);
                        }
                    }
                    Ok(None) => return None,
                    Err(error) => return Some(error),
                }
            }
        };
        let ended = tokio::select! {
            ended = down => ended,
            ended = up => ended,
            ended = asked => ended,
            why = link.closed() => {
                tracing::debug!(node, why, "a link was closed");
                None
            }
        };
        if let Some(error) = ended {
            tracing::debug!(node, %error, "a session ended");
        }
    }
}

/// Writes a report; one that meets trouble is tried again a few times. The agent reports anew what matters.
async fn take_report(reports: &Reports, frame: StatusFrame) {
    let mut wait = REPORT_WAIT;
    for left in (0..REPORT_TRIES_MAX).rev() {
        match reports.take(frame.clone()).await {
            Ok(()) => return,
            Err(status) if left == 0 || status.code == 422 || status.code == 400 => {
                tracing::warn!(node = reports.node, reason = status.message, "a node's report was refused");
                return;
            }
            Err(_) => tokio::time::sleep(wait).await,
        }
        wait *= 2;
    }
}

/// What the link listens with.
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    listener: Arc<Listener>,
    /// None of them ends before the server stops.
    pub(crate) tasks: JoinSet<()>,
}

/// Begins to listen for nodes. `news` was subscribed before the snapshot began to fill.
///
/// # Errors
/// The address cannot be used.
pub(crate) fn listen(
    nodes: &Arc<Nodes>,
    news: tokio::sync::broadcast::Receiver<Applied>,
    stopping: &watch::Receiver<bool>,
) -> Result<Listening, ListenError> {
    let listener = Arc::new(Listener::bind(nodes.config.link, &identity(&nodes.pki)?)?);
    let address = listener.local_address().map_err(ListenError::Address)?;
    let mut tasks = JoinSet::new();
    let store = nodes.objects.store.clone();
    tasks.spawn(nodes.views.clone().run(store, news, stopping.clone()));
    tasks.spawn(nodes.clone().accept(listener.clone(), stopping.clone()));
    tasks.spawn(nodes.clone().listen_for_silence(stopping.clone()));
    Ok(Listening { address, listener, tasks })
}

fn identity(pki: &Pki) -> Result<ServerIdentity, TlsError> {
    let server = pki.server();
    ServerIdentity::from_pem(&server.certificate_pem, &server.key_pem, &pki.ca_pem)
}

impl Listening {
    /// What shows another certificate to whoever connects later.
    pub(crate) fn certificate(&self) -> impl Fn(&Pki) -> Result<(), TlsError> + Send + use<> {
        let listener = self.listener.clone();
        move |pki| listener.set_identity(&identity(pki)?)
    }
}
