//! Logs, exec, attach and dial: requests about containers that are there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use super::Runtime;
use crate::exec::{self, Target};
use crate::log::{Filter, LogFollower};
use crate::namespace::dial;
use crate::node::Place;
use crate::pod::{ContainerState, Phase};
use crate::sandbox::netns;
use crate::session::{
    AttachRequest, ContainerRef, ExecRequest, ExecSession, LogRequest, LogStream, SessionError,
};
use crate::shim::task::Task;
use crate::worker::Snapshot;

/// Bytes between a log's files and its reader.
const PIPE_BYTES: usize = 64 << 10;

/// A container that a request found.
struct Found {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    snapshot: Arc<Snapshot>,
    place: Place,
    pod: String,
    container: String,
    state: ContainerState,
}

impl Runtime {
    /// A container's log.
    ///
    /// # Errors
    /// No such container, or it never ran.
    pub async fn logs(&self, request: LogRequest) -> Result<LogStream, SessionError> {
        let found = self.find(&request.container)?;
        let since = match (&request.since_time, request.since_seconds) {
            (Some(time), _) => Some(
                time.parse()
                    .map_err(|_| SessionError::Invalid(format!("sinceTime {time:?} is no RFC 3339 time")))?,
            ),
            (None, Some(seconds)) => {
                let seconds = i64::try_from(seconds).unwrap_or(i64::MAX / 2).min(1 << 32);
                Some(Timestamp::now() - SignedDuration::from_secs(seconds))
            }
            (None, None) => None,
        };
        let attempt = match (request.previous, found.state.restarts) {
            (false, restarts) => restarts,
            (true, restarts) => {
                restarts.checked_sub(1).ok_or_else(|| found.no_log("it has no previous run"))?
            }
        };
        let filter = Filter {
            tail_lines: request.tail_lines,
            since,
            timestamps: request.timestamps,
            limit_bytes: request.limit_bytes,
        };
        let path = found.place.log(&found.container, attempt);
        let follower = LogFollower::open(path, filter).await.map_err(|_| found.no_log(&found.waits_for()))?;
        let id = found.state.live_id().map(str::to_owned);
        let ended = match id.filter(|_| request.follow && !request.previous) {
            Some(id) => exec::finished(found.end_of(id)),
            None => watch::channel(true).1,
        };
        let (reader, mut writer) = tokio::io::duplex(PIPE_BYTES);
        tokio::spawn(async move {
            // The reader may leave at any time.
            let _ = follower.copy(&mut writer, ended).await;
            let _ = writer.shutdown().await;
        });
        Ok(Box::new(reader))
    }

    /// Runs a command in a running container. Read the output while waiting for the exit: it comes after the last byte.
    ///
    /// # Errors
    /// No such container, it is not running, or the command cannot be started.
    pub async fn exec(&self, request: ExecRequest) -> Result<ExecSession, SessionError> {
        if request.command.is_empty() {
            return Err(SessionError::Invalid("the command is empty".to_owned()));
        }
        let found = self.find(&request.container)?;
        let (task, id) = found.running()?;
        let target = Target { task: &task, place: &found.place, id: &id };
        let wanted = exec::Wanted {
            tty: request.tty,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        exec::start(&target, &request.command, wanted).await
    }

    /// Follows a running container: its output from now on, and its input if it was made with `stdin`. One that was not takes
    /// none, and the session has none, as with the kubelet.
    ///
    /// # Errors
    /// No such container, or it is not running.
    pub async fn attach(&self, request: AttachRequest) -> Result<ExecSession, SessionError> {
        let found = self.find(&request.container)?;
        let (task, id) = found.running()?;
        let spec = &found.snapshot.desired.view.spec;
        let container =
            spec.init_containers.iter().chain(&spec.containers).find(|c| c.name == found.container);
        let input = match container.filter(|c| c.stdin && request.stdin) {
            Some(c) if c.stdin_once && !c.tty => exec::Input::Once,
            Some(_) => exec::Input::Kept,
            None => exec::Input::None,
        };
        let target = Target { task: &task, place: &found.place, id: &id };
        let log = found.place.log(&found.container, found.state.restarts);
        exec::attach(&target, log, input, found.end_of(id.clone())).await
    }

    /// Connects to a TCP port inside the Pod's network namespace, at its loopback address.
    ///
    /// # Errors
    /// No such Pod, or nobody listens.
    pub async fn dial(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<tokio::net::TcpStream, SessionError> {
        let (snapshot, place) = self.find_pod(namespace, pod)?;
        let view = &snapshot.borrow().desired.view.clone();
        let netns: Option<PathBuf> = (!view.spec.host_network).then(|| netns(&place, view));
        let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        match dial(netns.clone(), v4).await {
            Ok(stream) => Ok(stream),
            Err(error) => {
                let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
                // The first complaint is the one a user understands.
                dial(netns, v6).await.map_err(|_| SessionError::Io(error))
            }
        }
    }

    fn find_pod(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<(watch::Receiver<Arc<Snapshot>>, Place), SessionError> {
        let pods = self.pods();
        let named = pods.values().filter(|h| h.pod.namespace == namespace && h.pod.name == name);
        // A name may have been given again while the old Pod still ends.
        let newest = named.filter(|h| !h.snapshot.borrow().gone).min_by_key(|h| h.wanted.borrow().ending);
        let handle = newest.ok_or_else(|| SessionError::NoPod(format!("{namespace}/{name}")))?;
        Ok((handle.snapshot.clone(), self.inner.node.place(&handle.pod.uid)))
    }

    fn find(&self, wanted: &ContainerRef) -> Result<Found, SessionError> {
        let (snapshots, place) = self.find_pod(&wanted.namespace, &wanted.pod)?;
        let snapshot = snapshots.borrow().clone();
        let pod = format!("{}/{}", wanted.namespace, wanted.pod);
        let spec = &snapshot.desired.view.spec;
        let container = if wanted.container.is_empty() {
            spec.containers.first().map(|c| c.name.clone()).unwrap_or_default()
        } else {
            wanted.container.clone()
        };
        if !spec.init_containers.iter().chain(&spec.containers).any(|c| c.name == container) {
            return Err(SessionError::NoContainer { pod, container });
        }
        let state = snapshot.observed.containers.get(&container).cloned().unwrap_or_default();
        Ok(Found { snapshots, snapshot, place, pod, container, state })
    }
}

impl Found {
    /// The shim and the run's id.
    fn running(&self) -> Result<(Task, String), SessionError> {
        match (&self.snapshot.task, &self.state.phase) {
            (Some(task), Phase::Running { id, .. }) => Ok((task.clone(), id.clone())),
            _ => Err(SessionError::NotRunning {
                pod: self.pod.clone(),
                container: self.container.clone(),
                state: self.waits_for(),
            }),
        }
    }

    fn waits_for(&self) -> String {
        match (&self.state.waiting, &self.state.phase) {
            (Some((reason, _)), _) => format!("it is waiting: {reason}"),
            (None, Phase::Ended(ended)) => format!("it ended: {}", ended.reason),
            (None, Phase::Running { .. }) => "it is running".to_owned(),
            (None, Phase::Waiting | Phase::Starting { .. }) => "it is waiting to start".to_owned(),
        }
    }

    fn no_log(&self, why: &str) -> SessionError {
        SessionError::NoLog {
            pod: self.pod.clone(),
            container: self.container.clone(),
            state: why.to_owned(),
        }
    }

    /// The exit code of the run `id`, once it has ended.
    fn end_of(&self, id: String) -> watch::Receiver<Option<i32>> {
        let (sender, receiver) = watch::channel(None);
        let (mut snapshots, container) = (self.snapshots.clone(), self.container.clone());
        tokio::spawn(async move {
            loop {
                let code = {
                    let snapshot = snapshots.borrow_and_update();
                    snapshot.observed.containers.get(&container).map_or(Some(0), |state| end_code(state, &id))
                };
                if code.is_some() {
                    sender.send_replace(code);
                    return;
                }
                tokio::select! {
                    changed = snapshots.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                }
            }
        });
        receiver
    }
}

/// How run `id` ended; `None` while it goes on.
fn end_code(state: &ContainerState, id: &str) -> Option<i32> {
    if state.live_id() == Some(id) {
        return None;
    }
    let now = match &state.phase {
        Phase::Ended(ended) => Some(ended),
        _ => None,
    };
    let run = now.into_iter().chain(&state.last).find(|e| e.id == id);
    Some(run.map_or(0, |e| e.code))
}
