//! Further processes in a running container, and the streams of one that runs already.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};

use crate::container::stdin_path;
use crate::log::{Filter, LogFollower};
use crate::node::Place;
use crate::session::{ExecSession, SessionError, TerminalSize};
use crate::shim::streams::{Fifos, Stdin};
use crate::shim::task::{Streams, Task, TaskError};

/// Terminal sizes that wait to be set.
const RESIZES_MAX: usize = 8;
/// Bytes between a log and who is attached to it.
const PIPE_BYTES: usize = 64 << 10;
/// How long a process that nobody waits for any more has before it is removed.
const ABANDONED: Duration = Duration::from_secs(10);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// What is to be run where.
pub(crate) struct Target<'a> {
    pub(crate) task: &'a Task,
    pub(crate) place: &'a Place,
    /// The run's id.
    pub(crate) id: &'a str,
}

fn next_id() -> String {
    // A restarted agent must not reuse the names of the one before.
    format!(
        "x{}-{}-{}",
        std::process::id(),
        jiff::Timestamp::now().as_millisecond(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// The container's own process with another command.
fn process(bundle: &Path, command: &[String], tty: bool) -> io::Result<Vec<u8>> {
    let spec: Value = serde_json::from_slice(&fs::read(bundle.join("config.json"))?)?;
    let mut process = spec["process"].clone();
    process["args"] = json!(command);
    process["terminal"] = json!(tty);
    if tty && let Some(env) = process["env"].as_array_mut() {
        let has_term = env.iter().any(|e| e.as_str().is_some_and(|e| e.starts_with("TERM=")));
        if !has_term {
            env.push(json!("TERM=xterm"));
        }
    }
    Ok(serde_json::to_vec(&process)?)
}

/// What the OCI runtime says, without the wrapping that no user can act on.
fn start_fault(error: &TaskError) -> SessionError {
    let text = error.to_string();
    let short = text.rsplit_once("exec failed: ").map_or(text.as_str(), |(_, cause)| cause);
    SessionError::Start(short.trim_end_matches(": unknown").to_owned())
}

/// Runs a command to its end without streams and answers its exit code; kills it after `patience`.
pub(crate) async fn run(
    target: &Target<'_>,
    command: &[String],
    patience: Duration,
) -> Result<i32, SessionError> {
    let Target { task, place, id } = target;
    let exec = next_id();
    let process = process(&place.bundle(id), command, false)?;
    task.exec(id, &exec, &Streams::default(), process).await.map_err(|e| start_fault(&e))?;
    if let Err(error) = task.start(id, &exec).await {
        let _ = task.delete(id, &exec).await;
        return Err(start_fault(&error));
    }
    let ended = tokio::time::timeout(patience, task.wait(id, &exec)).await;
    if ended.is_err() {
        let _ = task.kill(id, &exec, libc::SIGKILL, false).await;
        let _ = tokio::time::timeout(ABANDONED, task.wait(id, &exec)).await;
    }
    let _ = task.delete(id, &exec).await;
    match ended {
        Ok(Ok(exit)) => Ok(exit.code),
        Ok(Err(error)) => Err(SessionError::Start(error.to_string())),
        Err(_) => Err(SessionError::Start(format!("the command did not end in {} s", patience.as_secs()))),
    }
}

/// Which streams an exec has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// Starts a command with streams.
pub(crate) async fn start(
    target: &Target<'_>,
    command: &[String],
    wanted: Wanted,
) -> Result<ExecSession, SessionError> {
    let Target { task, place, id } = target;
    let exec = next_id();
    let process = process(&place.bundle(id), command, wanted.tty)?;
    let dir = place.execs().join(&exec);
    let fifos = Fifos::make(&dir, wanted.stdin, wanted.tty)?;
    let streams = Streams {
        terminal: wanted.tty,
        stdin: fifos.path("in"),
        stdout: fifos.path("out"),
        stderr: fifos.path("err"),
    };
    let begun = match task.exec(id, &exec, &streams, process).await {
        Ok(()) => match task.start(id, &exec).await {
            Ok(_) => Ok(()),
            Err(error) => {
                // The `Wait` of an exec that failed says 0: only the error of the start is true.
                let _ = task.delete(id, &exec).await;
                Err(error)
            }
        },
        Err(error) => Err(error),
    };
    if let Err(error) = begun {
        let _ = fs::remove_dir_all(&dir);
        return Err(start_fault(&error));
    }
    let ends = fifos.started().await;
    let _ = fs::remove_dir_all(&dir);
    let ends = ends?;
    let guard = Guard { task: (*task).clone(), id: (*id).to_owned(), exec: exec.clone(), ended: false };
    let stdin = ends.stdin.map(|pipe| -> Box<dyn tokio::io::AsyncWrite + Send + Unpin> {
        let (task, id, exec) = ((*task).clone(), (*id).to_owned(), exec.clone());
        Box::new(Stdin::new(pipe, move || {
            tokio::spawn(async move {
                // A process that has ended needs no end of its input.
                let _ = task.close_stdin(&id, &exec).await;
            });
        }))
    });
    let resize = resizer((*task).clone(), (*id).to_owned(), exec);
    let stdout: Box<dyn tokio::io::AsyncRead + Send + Unpin> = Box::new(ends.stdout);
    let stdout = wanted_or_drained(stdout, wanted.stdout || wanted.tty);
    let stderr = ends.stderr.and_then(|pipe| wanted_or_drained(Box::new(pipe), wanted.stderr));
    Ok(ExecSession { stdin, stdout, stderr, resize, exit: Box::pin(guard.exit()) })
}

type Reader = Box<dyn tokio::io::AsyncRead + Send + Unpin>;

/// A stream that nobody wants is still read, since the process would block on it.
fn wanted_or_drained(mut reader: Reader, wanted: bool) -> Option<Reader> {
    if wanted {
        return Some(reader);
    }
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    });
    None
}

fn resizer(task: Task, id: String, exec: String) -> mpsc::Sender<TerminalSize> {
    let (sender, mut sizes) = mpsc::channel::<TerminalSize>(RESIZES_MAX);
    tokio::spawn(async move {
        while let Some(size) = sizes.recv().await {
            if task.resize(&id, &exec, size.width, size.height).await.is_err() {
                break;
            }
        }
    });
    sender
}

/// Ends the process of an exec whose session is dropped.
struct Guard {
    task: Task,
    id: String,
    exec: String,
    ended: bool,
}

impl Guard {
    async fn exit(mut self) -> Result<i32, SessionError> {
        let exit = self.task.wait(&self.id, &self.exec).await;
        self.ended = true;
        // Removing it waits for the rest of the output to be passed on.
        let _ = self.task.delete(&self.id, &self.exec).await;
        exit.map(|e| e.code).map_err(|e| SessionError::Start(e.to_string()))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (task, id, exec) = (self.task.clone(), self.id.clone(), self.exec.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = task.kill(&id, &exec, libc::SIGKILL, false).await;
                let _ = tokio::time::timeout(ABANDONED, task.wait(&id, &exec)).await;
                let _ = task.delete(&id, &exec).await;
            });
        }
    }
}

/// Whether a session writes to its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    None,
    /// The session's end is not the input's.
    Kept,
    /// The session's end is the input's (`stdinOnce`).
    Once,
}

/// Follows a running container: its output as the log gets it, its input by the container's FIFO.
pub(crate) async fn attach(
    target: &Target<'_>,
    log: std::path::PathBuf,
    input: Input,
    mut ended: watch::Receiver<Option<i32>>,
) -> Result<ExecSession, SessionError> {
    let Target { task, place, id } = target;
    let pipe = || {
        let mut options = tokio::net::unix::pipe::OpenOptions::new();
        options.read_write(true).open_sender(stdin_path(place, id))
    };
    let input: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>> = match input {
        Input::None => None,
        Input::Kept => Some(Box::new(pipe()?)),
        Input::Once => {
            let (task, id) = ((*task).clone(), (*id).to_owned());
            Some(Box::new(Stdin::new(pipe()?, move || {
                tokio::spawn(async move {
                    // A container that has ended needs no end of its input.
                    let _ = task.close_stdin(&id, "").await;
                });
            })))
        }
    };
    let filter = Filter { tail_lines: Some(0), ..Filter::default() };
    let follower = LogFollower::open(log, filter).await?;
    let (reader, mut writer) = tokio::io::duplex(PIPE_BYTES);
    let done = finished(ended.clone());
    tokio::spawn(async move {
        // The reader may leave at any time.
        let _ = follower.copy(&mut writer, done).await;
        let _ = writer.shutdown().await;
    });
    let resize = resizer((*task).clone(), (*id).to_owned(), String::new());
    let exit = async move {
        loop {
            if let Some(code) = *ended.borrow_and_update() {
                return Ok(code);
            }
            if ended.changed().await.is_err() {
                return Err(SessionError::Start("the agent stopped following the container".to_owned()));
            }
        }
    };
    Ok(ExecSession {
        stdin: input,
        stdout: Some(Box::new(reader)),
        stderr: None,
        resize,
        exit: Box::pin(exit),
    })
}

/// Whether a run has ended, out of how it did.
pub(crate) fn finished(mut ended: watch::Receiver<Option<i32>>) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(ended.borrow().is_some());
    tokio::spawn(async move {
        while !*sender.borrow() {
            tokio::select! {
                changed = ended.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    sender.send_replace(ended.borrow_and_update().is_some());
                }
                () = sender.closed() => break,
            }
        }
    });
    receiver
}
