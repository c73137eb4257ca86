//! A Pod's own part as its loop sees it: made, looked after, made again when something of it died, removed.

use std::os::unix::fs::MetadataExt;

use super::exit::lost_run;
use super::{Happened, Worker};
use crate::container::clear;
use crate::pause;
use crate::pod::Sandbox;
use crate::refusal::without_effect;
use crate::report::EventType;
use crate::sandbox::{self, SandboxError};
use crate::shim::cleanup;

/// Bytes on disk that a shim's own log may take.
const SHIM_LOG_BYTES_MAX: u64 = 1 << 20;

impl Worker {
    pub(super) fn prepare(&mut self) {
        self.observed.sandbox = Sandbox::Preparing;
        let (node, desired, pod, sender) =
            (self.node.clone(), self.desired.clone(), self.pod.clone(), self.happened.clone());
        if !std::mem::replace(&mut self.told_what_is_without_effect, true) {
            for text in without_effect(&self.desired.view, self.node.host) {
                self.event("", EventType::Warning, "WithoutEffect", text);
            }
        }
        let (known, shim, tokens) = (self.observed.ips.clone(), self.shim.clone(), self.tokens.clone());
        self.queue(async move {
            let mut tokens = tokens.lock().await;
            let made = sandbox::prepare(&node, &desired.view, &pod, &known, shim, &mut tokens).await;
            let reason = |error: SandboxError| match error {
                SandboxError::Volume(error) => ("FailedMount", format!("MountVolume.SetUp failed: {error}")),
                other => ("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {other}")),
            };
            // The loop is there as long as its jobs are.
            let _ = sender.send(Happened::Prepared(made.map_err(reason))).await;
        });
    }

    /// Follows the process that keeps the shared PID namespace: without it no container can be started.
    pub(super) fn watch_pause(&mut self) {
        let Some((task, _)) = self.shim.clone() else { return };
        let (id, sender) = (pause::id(&self.pod.uid), self.happened.clone());
        self.jobs.spawn(async move {
            // The shim's own end is noticed by those who wait for the containers, or the next start.
            if task.wait(&id, "").await.is_ok() {
                let _ = sender.send(Happened::PauseGone).await;
            }
        });
    }

    pub(super) fn note_pause_gone(&mut self) {
        if self.observed.sandbox == Sandbox::Ready && !self.ending {
            let text = "The pod's shared process namespace ended, its containers are started anew";
            self.event("", EventType::Warning, "SandboxChanged", text.to_owned());
            self.observed.sandbox = Sandbox::Absent;
        }
    }

    /// The shim notes every event that nobody takes; its file must not grow for ever.
    pub(super) fn trim_shim_log(&self) {
        let path = self.place.shim().join("log");
        let large = std::fs::metadata(&path).is_ok_and(|m| m.blocks() * 512 > SHIM_LOG_BYTES_MAX);
        if large && let Ok(file) = std::fs::OpenOptions::new().write(true).open(&path) {
            // A failure costs disk and nothing else.
            let _ = file.set_len(0);
        }
    }

    pub(super) fn refresh_volumes(&mut self) {
        if self.observed.sandbox != Sandbox::Ready || self.ending {
            return;
        }
        let (node, desired, pod) = (self.node.clone(), self.desired.clone(), self.pod.clone());
        let (ips, tokens) = (self.observed.ips.clone(), self.tokens.clone());
        self.jobs.spawn(async move {
            // A refresh that is still under way is enough.
            let Ok(mut tokens) = tokens.try_lock() else { return };
            if let Err(error) = sandbox::volumes(&node, &desired.view, &pod, &ips).prepare(&mut tokens).await
            {
                tracing::warn!(%pod, %error, "volumes are not brought up to date");
            }
        });
    }

    pub(super) fn release(&mut self) {
        self.observed.sandbox = Sandbox::Releasing;
        let (node, pod, sender) = (self.node.clone(), self.pod.clone(), self.happened.clone());
        let shim = self.shim.clone();
        self.queue(async move {
            let released = sandbox::release(&node, &pod, shim).await.map_err(|e| e.to_string());
            let _ = sender.send(Happened::Released(released)).await;
        });
    }

    pub(super) fn tear_down(&mut self) {
        self.observed.sandbox = Sandbox::Removing;
        let (node, pod, sender) = (self.node.clone(), self.pod.clone(), self.happened.clone());
        let shim = self.shim.clone();
        self.queue(async move {
            let removed = sandbox::remove(&node, &pod, shim).await.map_err(|e| e.to_string());
            let _ = sender.send(Happened::TornDown(removed)).await;
        });
    }

    pub(super) fn note_shim_gone(&mut self, cause: &str) {
        if self.shim.take().is_none() {
            return;
        }
        self.event(
            "",
            EventType::Warning,
            "SandboxChanged",
            format!("The pod's shim ended, its containers are started anew: {cause}"),
        );
        self.observed.sandbox = Sandbox::Preparing;
        let states = self.observed.containers.iter();
        let lost: Vec<_> =
            states.filter_map(|(n, s)| Some((n.clone(), s.live_id()?.to_owned(), s.phase.clone()))).collect();
        let (node, place, sender) = (self.node.clone(), self.place.clone(), self.happened.clone());
        self.jobs.spawn(async move {
            for (container, id, phase) in lost {
                cleanup::delete(&node.shim, &id, &place.bundle(&id)).await;
                clear(&place, &id);
                let ended = lost_run(&id, &phase);
                let _ = sender.send(Happened::Exited { container, ended }).await;
            }
            let again = Err(("SandboxChanged", "the shim ended".to_owned()));
            let _ = sender.send(Happened::Prepared(again)).await;
        });
    }
}
