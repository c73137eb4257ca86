//! What nodes and their Pods use: asked of the agents when somebody wants to know it, kept for a moment so that many who
//! ask are one for the agent, and then forgotten.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use weft_api::usage::Report;

use super::ask::AskError;
use super::{DialError, Nodes};

/// How long a node's answer is good for; agents measure every ten seconds.
const KEPT: Duration = Duration::from_secs(2);
/// How long a node's answer is waited for; it has it at hand.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// How long the answers of all nodes are waited for: clients give up after thirty seconds or so.
const ANSWERS_MAX: Duration = Duration::from_secs(10);
/// Nodes that are asked at once by one reader.
const ASKED_MAX: usize = 64;
/// Longest answer, bytes: thousands of containers.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Why it is not known what a node uses. The text goes to the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("node {0:?} does not answer")]
    Silent(String),
    #[error("node {node:?} told what cannot be read: {source}")]
    Unreadable { node: String, source: serde_json::Error },
}

/// What a node told last; whoever holds it asks, and the others wait for what comes of it.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Option<Told>>);

#[derive(Clone, Debug)]
struct Told {
    at: Instant,
    what: Result<Arc<Report>, Arc<UsageError>>,
}

impl Kept {
    /// What is kept, or what comes of asking.
    async fn get(
        self: &Arc<Self>,
        ask: impl Future<Output = Result<Report, UsageError>>,
    ) -> Result<Arc<Report>, Arc<UsageError>> {
        let mut kept = self.0.lock().await;
        if let Some(told) = kept.as_ref().filter(|told| told.at.elapsed() < KEPT) {
            return told.what.clone();
        }
        let what = ask.await.map(Arc::new).map_err(Arc::new);
        let told = Told { at: Instant::now(), what };
        *kept = Some(told.clone());
        drop(kept);
        tokio::spawn(self.clone().forget());
        told.what
    }

    async fn forget(self: Arc<Self>) {
        tokio::time::sleep(KEPT).await;
        let mut kept = self.0.lock().await;
        if kept.as_ref().is_some_and(|told| told.at.elapsed() >= KEPT) {
            *kept = None;
        }
    }
}

impl Nodes {
    /// What a node and its Pods use.
    ///
    /// # Errors
    /// It has no session, or does not answer in time with what can be read.
    pub(crate) async fn usage(&self, node: &str) -> Result<Arc<Report>, Arc<UsageError>> {
        let kept = self.lock().get(node).map(|connected| connected.usage.clone());
        let Some(kept) = kept else {
            let error = DialError::NotConnected(node.to_owned());
            return Err(Arc::new(AskError::from(error).into()));
        };
        kept.get(self.ask_usage(node)).await
    }

    async fn ask_usage(&self, node: &str) -> Result<Report, UsageError> {
        let asked = self.ask_agent(node, "/agent/v1/usage", ANSWER_BYTES_MAX);
        let answer = tokio::time::timeout(ANSWER_MAX, asked).await;
        let body = answer.map_err(|_| UsageError::Silent(node.to_owned()))??;
        serde_json::from_slice(&body)
            .map_err(|source| UsageError::Unreadable { node: node.to_owned(), source })
    }

    /// What nodes and their Pods use, of those that tell it in time.
    pub(crate) async fn usages(self: &Arc<Self>, nodes: BTreeSet<String>) -> HashMap<String, Arc<Report>> {
        let mut waiting = nodes.into_iter();
        let mut asked = JoinSet::new();
        let mut told = HashMap::new();
        let mut end = std::pin::pin!(tokio::time::sleep(ANSWERS_MAX));
        loop {
            let room = ASKED_MAX - asked.len();
            for node in waiting.by_ref().take(room) {
                let nodes = self.clone();
                asked.spawn(async move {
                    let answer = nodes.usage(&node).await;
                    (node, answer)
                });
            }
            let answer = tokio::select! {
                answer = asked.join_next() => answer,
                () = &mut end => None,
            };
            match answer {
                Some(Ok((node, Ok(report)))) => {
                    told.insert(node, report);
                }
                Some(Ok((node, Err(error)))) => {
                    tracing::debug!(node, %error, "it is not known what a node uses");
                }
                Some(Err(error)) => tracing::warn!(%error, "asking a node failed"),
                None => return told,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// What asking comes to in these tests: half a second, and how often it was done so far.
    async fn ask(asked: &AtomicU32) -> Result<Report, UsageError> {
        asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(Report::default())
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_are_one_and_nothing_is_kept_for_long() {
        let (kept, asked) = (Arc::new(Kept::default()), AtomicU32::new(0));
        let all = (0..50).map(|_| kept.get(ask(&asked)));
        let told = futures_util::future::join_all(all).await;
        assert!(told.iter().all(Result::is_ok));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::sleep(KEPT - Duration::from_millis(1)).await;
        assert!(Arc::ptr_eq(&kept.get(ask(&asked)).await.unwrap(), told[0].as_ref().unwrap()));
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(kept.0.lock().await.is_none(), "nobody asks any more");
        kept.get(ask(&asked)).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_kept_as_well_and_who_gives_up_lets_the_next_ask() {
        let (kept, asked) = (Arc::new(Kept::default()), AtomicU32::new(0));
        let gives_up = tokio::time::timeout(Duration::from_millis(100), kept.get(ask(&asked)));
        assert!(gives_up.await.is_err());
        let refuses = || async {
            ask(&asked).await?;
            Err(UsageError::Silent("n".into()))
        };
        assert!(kept.get(refuses()).await.is_err());
        assert_eq!(kept.get(ask(&asked)).await.unwrap_err().to_string(), "node \"n\" does not answer");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
