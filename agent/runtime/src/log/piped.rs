//! The logger of a container that reads without a terminal. The shim joins input only with output that goes through FIFOs, so
//! the agent starts this logger, in the place where the shim's own are: it outlives the agent as they do.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::Logger;
use crate::shim::start::place;
use crate::shim::streams::Fifos;

/// How long a logger may take to open its files.
const READY_PATIENCE: Duration = Duration::from_secs(10);
/// How long a logger may take to write what is left when its container has ended.
const END_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The FIFOs of a run, in its bundle.
pub(crate) struct Pipes {
    pub(crate) stdout: PathBuf,
    pub(crate) stderr: PathBuf,
}

/// Keeps FIFOs open until the shim has opened them.
pub(crate) struct Keepers {
    _both: [File; 2],
}

impl Pipes {
    /// Those of the bundle.
    pub(crate) fn of(bundle: &Path) -> Self {
        Self { stdout: bundle.join("stdout"), stderr: bundle.join("stderr") }
    }

    /// Makes them, and starts a logger that reads them, within the cgroups whose `cgroup.procs` are given.
    pub(crate) async fn start(&self, logger: &Logger, log: &Path, groups: &[PathBuf]) -> io::Result<Keepers> {
        let keep = |path: &Path| -> io::Result<File> {
            Fifos::make_one(path)?;
            OpenOptions::new().read(true).write(true).open(path)
        };
        let keepers = Keepers { _both: [keep(&self.stdout)?, keep(&self.stderr)?] };
        let mut command = Command::new(&logger.binary);
        command
            .arg(&logger.argument)
            .args([log, &self.stdout, &self.stderr])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        place(&mut command, groups);
        let mut child = command.spawn()?;
        let mut said = [0; 1];
        let ready = async {
            match child.stdout.take() {
                Some(mut stdout) => stdout.read_exact(&mut said).await.map(drop),
                None => Ok(()),
            }
        };
        let in_time = tokio::time::timeout(READY_PATIENCE, ready).await;
        in_time.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the logger does not start"))??;
        Ok(keepers)
    }

    /// Waits until nobody reads them any more: the logger has then written everything.
    pub(crate) async fn ended(&self) {
        let read = |path: &Path| {
            let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path);
            opened.is_ok()
        };
        let deadline = tokio::time::Instant::now() + END_PATIENCE;
        while (read(&self.stdout) || read(&self.stderr)) && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
