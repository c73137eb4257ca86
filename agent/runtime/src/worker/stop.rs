//! A run's end on request: hook, signal, grace, SIGKILL.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use weft_api::view::pod::LifecycleHandler;

use super::Worker;
use super::start::handle;
use crate::probe::Subject;
use crate::report::EventType;
use crate::shim::task::TaskError;

/// A container that got SIGKILL is asked again after this.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// What a preStop hook that used up the grace leaves for SIGTERM.
const GRACE_LEAST: Duration = Duration::from_secs(2);

impl Worker {
    pub(super) fn stop(&mut self, name: &str, grace_s: i64) {
        let (Some(subject), Some(live)) = (self.subject(name), self.live.get(name)) else { return };
        let over = live.over.subscribe();
        let field = self.field_path(name);
        let signal = self.stop_signal(name);
        let Some(state) = self.observed.containers.get_mut(name) else { return };
        let again = state.stopping.is_some();
        state.stopping = Some(Timestamp::now() + SignedDuration::from_secs(grace_s));
        if state.unhealthy.is_none() && !again {
            self.event(&field, EventType::Normal, "Killing", format!("Stopping container {name}"));
        }
        let (node, pod) = (self.node.clone(), self.pod.clone());
        self.queue(async move {
            let hook =
                subject.container.lifecycle.as_ref().and_then(|l| l.pre_stop.clone()).filter(|_| !again);
            let failed = end(&subject, hook, signal, Duration::from_secs(grace_s.unsigned_abs()), over).await;
            if let Some(complaint) = failed {
                node.event(&pod, &field, EventType::Warning, "FailedPreStopHook", complaint);
            }
        });
    }

    fn stop_signal(&self, name: &str) -> i32 {
        let known = self.images.get(name).cloned();
        let id = self.observed.containers.get(name).map(|s| s.image_id.clone()).unwrap_or_default();
        let image = known.or_else(|| self.node.store.find(&id));
        let text = image.map(|i| i.config.stop_signal).unwrap_or_default();
        signal_number(&text)
    }
}

/// Ends a run: hook, signal, grace, SIGKILL. Answers the hook's complaint.
async fn end(
    subject: &Subject,
    hook: Option<LifecycleHandler>,
    signal: i32,
    grace: Duration,
    mut over: watch::Receiver<bool>,
) -> Option<String> {
    let deadline = tokio::time::Instant::now() + grace;
    let mut complaint = None;
    if let Some(hook) = hook.filter(|_| !grace.is_zero()) {
        complaint = handle(subject, &hook, grace).await.err();
    }
    let (task, id) = (&subject.task, subject.id.as_str());
    if !grace.is_zero() {
        match task.kill(id, "", signal, false).await {
            Ok(()) | Err(TaskError::NotFound(_)) => {}
            Err(error) => tracing::warn!(container = id, %error, "container cannot be signalled"),
        }
        let deadline = deadline.max(tokio::time::Instant::now() + GRACE_LEAST.min(grace));
        if tokio::time::timeout_at(deadline, over.wait_for(|o| *o)).await.is_ok() {
            return complaint;
        }
    }
    loop {
        if let Err(error) = task.kill(id, "", libc::SIGKILL, true).await
            && !matches!(error, TaskError::NotFound(_))
        {
            tracing::warn!(container = id, %error, "container cannot be killed");
        }
        if tokio::time::timeout(KILL_AGAIN, over.wait_for(|o| *o)).await.is_ok() {
            return complaint;
        }
    }
}

/// `SIGTERM`, `TERM` or `15`; SIGTERM if it says nothing that is known.
fn signal_number(text: &str) -> i32 {
    let name = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
    let known = name.parse::<nix::sys::signal::Signal>().map(|s| s as i32).ok();
    text.parse().ok().filter(|n| (1..=64).contains(n)).or(known).unwrap_or(libc::SIGTERM)
}
