//! What nodes and their Pods use: asked of the agents when somebody wants to know it, kept for a moment so that many who
//! ask are one for the agent, and then forgotten.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
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
        let ask = |node: String| {
            let nodes = self.clone();
            async move { nodes.usage(&node).await }
        };
        self.usage_turn.ask(nodes, ask).await
    }
}

/// Where the next reader begins to ask: at the first node, by name, that there was no time for. Where many do not answer,
/// nobody is always among the last.
#[derive(Debug, Default)]
pub(super) struct Turn(std::sync::Mutex<String>);

impl Turn {
    /// Asks each node, as long as there is time, and tells what those say that answer.
    async fn ask<F>(&self, nodes: BTreeSet<String>, ask: impl Fn(String) -> F) -> HashMap<String, Arc<Report>>
    where
        F: Future<Output = Result<Arc<Report>, Arc<UsageError>>> + Send + 'static,
    {
        let begin = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (first, last): (Vec<String>, Vec<String>) = nodes.into_iter().partition(|node| *node >= begin);
        let mut waiting = first.into_iter().chain(last);
        let mut asked = JoinSet::new();
        let mut told = HashMap::new();
        let mut end = std::pin::pin!(tokio::time::sleep(ANSWERS_MAX));
        loop {
            let room = ASKED_MAX - asked.len();
            for node in waiting.by_ref().take(room) {
                let answer = ask(node.clone());
                asked.spawn(async move { (node, answer.await) });
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
                None => break,
            }
        }
        if let Some(next) = waiting.next() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = next;
        }
        told
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

    #[tokio::test(start_paused = true)]
    async fn whoever_there_was_no_time_for_is_asked_first_by_the_next() {
        let turn = Turn::default();
        let nodes: BTreeSet<String> = (0..500).map(|at| format!("n{at:03}")).collect();
        // All but the last hang.
        let ask = |node: String| async move {
            if node == "n499" {
                return Ok(Arc::default());
            }
            tokio::time::sleep(ANSWER_MAX).await;
            Err(Arc::new(UsageError::Silent(node)))
        };
        let mut told = Vec::new();
        for _ in 0..6 {
            let began = Instant::now();
            told.push(turn.ask(nodes.clone(), ask).await.len());
            assert!(began.elapsed() <= ANSWERS_MAX);
        }
        assert!(told[0] == 0 && told.iter().sum::<usize>() >= 2, "{told:?}");
        // Where there is time for all, it does not matter who is first.
        let few: BTreeSet<String> = ["a".to_owned(), "n499".to_owned()].into();
        assert_eq!(turn.ask(few, ask).await.len(), 1);
    }
}
