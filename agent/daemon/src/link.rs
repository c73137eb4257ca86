//! The agent's end of the link, for ever: sessions one after the other, state down, reports up, streams served.

mod dial;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{SetOnce, mpsc};
use tokio::time::{Instant, interval, sleep};
use weft_link::message::{Heartbeat, Hello, StatusFrame, open::To, request, status_frame::Frame};
use weft_link::receiver::{Change, ReceiveError, Receiver};
use weft_link::session::{
    self, AgentSession, ConnectError, KeyError, NodeIdentity, OpenAttempt, RequestError, Requester,
    StreamError, TlsError, key_and_csr,
};

use crate::agent::Agent;
use crate::api;
use crate::config::Config;
use crate::identity::{Directory, Identity, IdentityError};
use crate::join::{BecomeError, resolve};
use crate::knowledge::{Asked, Knowledge};
use crate::outbox::Outbox;

/// Waits between two tries to connect: doubled from the first to the second.
const RETRY_MS: (u64, u64) = (200, 5000);
/// A session that held so long was a good one: the next try comes at once.
const GOOD_SESSION: Duration = Duration::from_secs(30);
/// How often the certificate's age is looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(3600);
/// How long the control plane may take to renew the certificate.
const RENEW_MAX: Duration = Duration::from_secs(5);
/// How long a stream waits for an agent that is still starting.
const STARTING_MAX: Duration = Duration::from_secs(15);

/// Why a session ended, or did not begin.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Address(#[from] BecomeError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    State(#[from] ReceiveError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Files(#[from] IdentityError),
    #[error("the control plane ended the session: {0}")]
    Ended(String),
    #[error("the agent is ending")]
    Stopped,
}

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Files(#[from] IdentityError),
}

/// How the link is, for whoever asks.
#[derive(Debug, Default)]
pub(crate) struct State {
    connected: AtomicBool,
    problem: Mutex<Option<String>>,
}

impl State {
    /// Whether a session is open.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Why the last session ended or did not begin; nothing while one is open.
    pub(crate) fn problem(&self) -> Option<String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn linked(&self) {
        *self.lock() = None;
        self.connected.store(true, Ordering::Release);
    }

    fn broke(&self, why: &str) {
        self.connected.store(false, Ordering::Release);
        *self.lock() = Some(why.to_owned());
    }
}

/// Everything a session needs.
pub(crate) struct Link {
    pub(crate) config: Config,
    pub(crate) directory: Directory,
    pub(crate) identity: Identity,
    pub(crate) receiver: Receiver,
    pub(crate) knowledge: Arc<Knowledge>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) changes: mpsc::Sender<Change>,
    pub(crate) requests: mpsc::Receiver<Asked>,
    pub(crate) agent: Arc<SetOnce<Arc<Agent>>>,
    pub(crate) state: Arc<State>,
    pub(crate) node_json: Bytes,
}

impl Link {
    /// Holds a session as long as the agent lives.
    pub(crate) async fn run(mut self) {
        let mut wait_ms = RETRY_MS.0;
        let mut last = String::new();
        loop {
            let began = Instant::now();
            let ended = self.session().await;
            let Err(error) = ended;
            if matches!(error, SessionError::Stopped) {
                return;
            }
            let text = api::answer::chain(&error);
            self.state.broke(&text);
            // One line per reason, not one per try.
            if text != last {
                tracing::warn!(control = self.config.control, "no link to the control plane: {text}");
                last = text;
            }
            if began.elapsed() > GOOD_SESSION {
                wait_ms = RETRY_MS.0;
                last.clear();
            }
            sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = (wait_ms * 2).min(RETRY_MS.1);
        }
    }

    async fn session(&mut self) -> Result<std::convert::Infallible, SessionError> {
        let address = resolve(&self.config.control).await?;
        let identity = NodeIdentity::from_pem(
            &self.identity.certificate_pem,
            &self.identity.key_pem,
            &self.identity.ca_pem,
        )?;
        let hello = Hello {
            node: self.config.node_name.clone(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            resume: self.receiver.resume(),
            node_json: self.node_json.clone(),
            ..Hello::default()
        };
        let mut session = session::connect(address, &identity, hello).await?;
        self.receiver
            .welcome(&session.welcome)
            .inspect_err(|error| session.link.close_wrong(&error.to_string()))?;
        let cluster = session.welcome.cluster.clone().unwrap_or_default();
        let heartbeat_ms = u64::from(cluster.heartbeat_ms.clamp(500, 60_000));
        self.knowledge.set_cluster(cluster);
        self.state.linked();
        tracing::info!(control = self.config.control, resumed = session.welcome.resumed, "linked");
        self.outbox.tell_all();
        let ended = self.carry(&mut session, heartbeat_ms).await;
        if let Err(SessionError::State(error)) = &ended {
            session.link.close_wrong(&error.to_string());
        }
        ended
    }

    async fn carry(
        &mut self,
        session: &mut AgentSession,
        heartbeat_ms: u64,
    ) -> Result<std::convert::Infallible, SessionError> {
        let mut heartbeat = interval(Duration::from_millis(heartbeat_ms));
        let mut certificate = interval(CERTIFICATE_LOOK);
        let outbox = self.outbox.clone();
        loop {
            tokio::select! {
                frame = session.state.next() => {
                    let frame = frame?.ok_or_else(|| SessionError::Ended("the state stream ended".into()))?;
                    if let Some(change) = self.receiver.frame(frame)? {
                        self.committed(change).await?;
                    }
                }
                frame = outbox.next() => session.status.send(&frame).await?,
                _ = heartbeat.tick() => {
                    let frame = StatusFrame { frame: Some(Frame::Heartbeat(Heartbeat {})) };
                    session.status.send(&frame).await?;
                }
                asked = self.requests.recv() => {
                    let asked = asked.ok_or(SessionError::Stopped)?;
                    tokio::spawn(ask(session.requester.clone(), asked));
                }
                attempt = session.opens.next() => {
                    let attempt = attempt.ok_or_else(|| SessionError::Ended("no streams any more".into()))?;
                    tokio::spawn(open(self.agent.clone(), attempt));
                }
                _ = certificate.tick() => self.renew_if_old(&session.requester).await,
                reason = session.link.closed() => return Err(SessionError::Ended(reason)),
            }
        }
    }

    async fn committed(&mut self, change: Change) -> Result<(), SessionError> {
        if let Some(store) = change.position.store()
            && self.directory.pinned()? != Some(store)
        {
            self.directory.pin(store)?;
        }
        self.changes.send(change).await.map_err(|_| SessionError::Stopped)
    }

    async fn renew_if_old(&mut self, requester: &Requester) {
        if !is_old(&self.identity.certificate_pem) {
            return;
        }
        // The session waits meanwhile, its heartbeats too.
        match tokio::time::timeout(RENEW_MAX, self.renew(requester)).await {
            Ok(Ok(())) => tracing::info!("the node's certificate was renewed"),
            Ok(Err(error)) => {
                tracing::warn!(error = api::answer::chain(&error), "the node's certificate was not renewed");
            }
            Err(_) => tracing::warn!("the control plane did not renew the node's certificate in time"),
        }
    }

    async fn renew(&mut self, requester: &Requester) -> Result<(), RenewError> {
        let made = key_and_csr(&self.config.node_name)?;
        let response = requester.request(request::Body::Renew(made.csr_pem)).await?;
        let identity = Identity {
            key_pem: made.key_pem,
            certificate_pem: response.text,
            ca_pem: self.identity.ca_pem.clone(),
        };
        self.directory.save(&identity)?;
        self.identity = identity;
        Ok(())
    }
}

/// Whether two thirds of a certificate's life are over, or it cannot be read.
fn is_old(certificate_pem: &str) -> bool {
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()) else { return true };
    let Ok(certificate) = pem.parse_x509() else { return true };
    let validity = certificate.validity();
    let life = validity.not_after.timestamp() - validity.not_before.timestamp();
    let left = validity.not_after.timestamp() - jiff::Timestamp::now().as_second();
    left * 3 < life
}

async fn ask(requester: Requester, asked: Asked) {
    let answer = match requester.request(asked.body).await {
        Ok(response) => response,
        Err(error) => weft_link::message::Response {
            refused: api::answer::chain(&error),
            ..weft_link::message::Response::default()
        },
    };
    // Who asked may have gone meanwhile.
    let _gone = asked.answer.send(answer);
}

/// A node is linked, and after a restart Ready, before all of its agent is there: who asks waits for the rest.
async fn open(agent: Arc<SetOnce<Arc<Agent>>>, attempt: OpenAttempt) {
    let Ok(agent) = tokio::time::timeout(STARTING_MAX, agent.wait()).await else {
        return attempt.refuse("the agent is starting").await;
    };
    let agent = agent.clone();
    match attempt.to.clone() {
        Some(To::Agent(_)) => {
            if let Ok(stream) = attempt.accept().await {
                api::serve(agent, stream).await;
            }
        }
        Some(To::Dial(address)) => dial::address(attempt, &address).await,
        Some(To::PodPort(to)) => dial::pod_port(&agent.runtime, attempt, &to).await,
        None => attempt.refuse("this agent does not know what is asked").await,
    }
}
