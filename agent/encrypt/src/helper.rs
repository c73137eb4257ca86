//! The process that encrypts: it outlives the agent, as Pods' shims do, so that a restart of the agent stops no packet. Keys
//! are in its memory only.
//!
//! Its socket takes one question a connection: a line of JSON, answered by one.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::device::{Device, DeviceError};
use crate::wanted::{Status, Wanted};

/// Version of questions and answers; an agent of another one replaces the process.
pub const PROTOCOL: u32 = 1;
/// Longest question, bytes.
const QUESTION_BYTES_MAX: u64 = 16 << 20;
/// How long who asks may take.
const QUESTION_WAIT: Duration = Duration::from_secs(5);

/// How often the device is looked after.
const LOOK: Duration = Duration::from_millis(500);

/// What this build calls itself.
#[must_use]
pub fn version() -> String {
    format!("{PROTOCOL} {}", env!("CARGO_PKG_VERSION"))
}

/// A question to the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Question {
    /// Are you there? Answered without peers.
    Alive,
    /// How are you?
    Status,
    /// Be so; answered by how it is then.
    Set(Wanted),
    /// End.
    End,
}

/// How the process is told what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the TUN device.
    pub device: String,
    /// First of the two UDP ports.
    pub port: u16,
    /// Its socket.
    pub socket: PathBuf,
}

/// Why the process ended.
#[derive(Debug, Error)]
pub enum HelperError {
    /// The socket.
    #[error("the socket {path}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It cannot leave who started it.
    #[error("no process of its own")]
    Alone(#[source] io::Error),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device's thread has ended.
    #[error("the device {0} is gone")]
    Gone(String),
}

/// Runs until it is told to end, or its device is gone.
///
/// Leaves whoever started it; to be called before there is a second thread.
///
/// # Errors
/// The device or the socket cannot be had, another such process having them included.
pub fn run(settings: &Settings) -> Result<(), HelperError> {
    // Whoever starts it has no child to wait for; what is sent to his terminal is not for it either.
    nix::unistd::daemon(true, true).map_err(|error| HelperError::Alone(error.into()))?;
    // Should it ever fall, its keys are in no core file.
    let _always_taken = nix::sys::prctl::set_dumpable(false);
    let failed = |source| HelperError::Socket { path: settings.socket.clone(), source };
    // Whoever has the device is the one; only he has the socket.
    let device = Arc::new(Device::start(&settings.device, settings.port)?);
    end_with(device.clone())?;
    let listener = listen(&settings.socket).map_err(failed)?;
    for stream in listener.incoming() {
        let stream = stream.map_err(failed)?;
        match serve(&device, settings.port, &stream) {
            Ok(Next::Goes) => {}
            Ok(Next::Ends) => return Ok(()),
            Ok(Next::Gone) => return Err(HelperError::Gone(settings.device.clone())),
            Err(error) => tracing::debug!(%error, "a question was broken off"),
        }
    }
    Ok(())
}

/// Without its device the process is of no use, and whoever looks after it starts another.
fn end_with(device: Arc<Device>) -> Result<(), HelperError> {
    let watch = move || {
        while !device.is_over() {
            std::thread::sleep(LOOK);
        }
        tracing::warn!("the device is gone, and so this ends");
        std::process::exit(1);
    };
    let started = std::thread::Builder::new().name("weft-encrypt-end".to_owned()).spawn(watch);
    started.map(drop).map_err(|error| DeviceError::Thread(error).into())
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Its directory is the agent's, 0700.
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

enum Next {
    Goes,
    Ends,
    Gone,
}

fn serve(device: &Device, port: u16, stream: &UnixStream) -> io::Result<Next> {
    stream.set_read_timeout(Some(QUESTION_WAIT))?;
    stream.set_write_timeout(Some(QUESTION_WAIT))?;
    let mut line = String::new();
    BufReader::new(stream.take(QUESTION_BYTES_MAX)).read_line(&mut line)?;
    let next = match serde_json::from_str(&line)? {
        Question::Alive if device.is_over() => Next::Gone,
        Question::Alive => {
            let alive = Status { version: version(), pid: std::process::id(), port, ..Status::default() };
            answer(stream, &alive)?;
            return Ok(Next::Goes);
        }
        Question::Status => Next::Goes,
        Question::Set(wanted) => {
            device.set(wanted);
            Next::Goes
        }
        Question::End => Next::Ends,
    };
    let Some(status) = device.status() else { return Ok(Next::Gone) };
    answer(stream, &Status { version: version(), port, ..status })?;
    Ok(next)
}

fn answer(mut stream: &UnixStream, status: &Status) -> io::Result<()> {
    let mut answer = serde_json::to_vec(status)?;
    answer.push(b'\n');
    stream.write_all(&answer)
}
