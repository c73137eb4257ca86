//! The requests that follow a running container: logs, exec, attach. Shapes only.

use std::future::Future;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// How a container is named by a client.
#[derive(Clone, Debug, Default)]
pub struct ContainerRef {
    /// Namespace of the Pod.
    pub namespace: String,
    /// Name of the Pod.
    pub pod: String,
    /// Container; empty: the Pod's only one, or its first.
    pub container: String,
}

/// Which part of a log is wanted.
#[derive(Clone, Debug, Default)]
pub struct LogRequest {
    /// Whose.
    pub container: ContainerRef,
    /// Stay and send what comes, until the container ends.
    pub follow: bool,
    /// The log of the run before this one.
    pub previous: bool,
    /// Put the RFC 3339 time before each line.
    pub timestamps: bool,
    /// Only this many last lines.
    pub tail_lines: Option<u64>,
    /// Only what was written in the last so many seconds.
    pub since_seconds: Option<u64>,
    /// Only what was written at or after this time, RFC 3339.
    pub since_time: Option<String>,
    /// End after so many bytes.
    pub limit_bytes: Option<u64>,
}

/// A log, as text without the prefix it has on disk.
pub type LogStream = Box<dyn AsyncRead + Send + Unpin>;

/// A command to run in a container.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// Where.
    pub container: ContainerRef,
    /// argv; no shell.
    pub command: Vec<String>,
    /// With a terminal; stderr is then part of stdout.
    pub tty: bool,
    /// Whether the command reads.
    pub stdin: bool,
    /// Whether its output is wanted.
    pub stdout: bool,
    /// Whether its errors are wanted.
    pub stderr: bool,
}

/// Follow a container that runs already.
#[derive(Clone, Debug, Default)]
pub struct AttachRequest {
    /// Which.
    pub container: ContainerRef,
    /// Whether to write to it; a container that was not made with `stdin` takes nothing.
    pub stdin: bool,
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A command, or an attached container, with its streams. Dropping it ends an exec's process and leaves an attached one.
pub struct ExecSession {
    /// Shut it down to end the command's input.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Ends when the command does.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Absent with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Sizes sent here reach the terminal.
    pub resize: mpsc::Sender<TerminalSize>,
    /// The exit code, once the process has ended.
    pub exit: Pin<Box<dyn Future<Output = Result<i32, SessionError>> + Send>>,
}

impl std::fmt::Debug for ExecSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecSession").finish_non_exhaustive()
    }
}

/// Why a request about a container cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No such Pod here.
    #[error("pod {0} is not on this node")]
    NoPod(String),
    /// No such container in the Pod.
    #[error("container {container} is not valid for pod {pod}")]
    NoContainer {
        /// The Pod, `NS/NAME`.
        pod: String,
        /// What was asked for.
        container: String,
    },
    /// It is not running.
    #[error("container {container} in pod {pod} is not running: {state}")]
    NotRunning {
        /// The Pod, `NS/NAME`.
        pod: String,
        /// The container.
        container: String,
        /// What it does instead.
        state: String,
    },
    /// There is no log (yet).
    #[error("container {container} in pod {pod} has no log: {state}")]
    NoLog {
        /// The Pod, `NS/NAME`.
        pod: String,
        /// The container.
        container: String,
        /// Why.
        state: String,
    },
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The command could not be started, for example because there is no such file.
    #[error("cannot run the command: {0}")]
    Start(String),
    /// The shim or the kernel failed.
    #[error("container {container} in pod {pod} cannot be reached: {cause}")]
    Broken {
        /// The Pod, `NS/NAME`.
        pod: String,
        /// The container.
        container: String,
        /// What went wrong.
        cause: String,
    },
    /// Network or file failure.
    #[error("stream failed")]
    Io(#[from] std::io::Error),
}
