//! The agent's end of the process that encrypts: starts it where there is none, tells it what is wanted, asks how it is.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::helper::{Question, Settings, version};
use crate::wanted::{Status, Wanted};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long the process may take to start.
const START_MAX: Duration = Duration::from_secs(20);
/// How often it is looked after meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// Why the process is not as it should be.
#[derive(Debug, Error)]
pub enum ClientError {
    /// It is not there, or does not answer.
    #[error("the encrypting process does not answer")]
    Silent(#[source] io::Error),
    /// Its answer makes no sense.
    #[error("the encrypting process answers with what is not understood")]
    Answer(#[from] serde_json::Error),
    /// It cannot be started.
    #[error("the encrypting process cannot be started")]
    Start(#[source] io::Error),
}

/// Who speaks to the process.
#[derive(Clone, Debug)]
pub struct Client {
    settings: Settings,
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Client {
    /// `program` with `arguments` runs [`crate::helper::run`] with these settings.
    #[must_use]
    pub fn new(settings: Settings, program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self { settings, program, arguments }
    }

    /// Name of the device.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.settings.device
    }

    /// Starts the process, unless one of this version and port runs. Another one is replaced if the keys are there to be told
    /// to the next, and goes on with those it has otherwise. Whether one was started.
    ///
    /// # Errors
    /// It cannot be started, or does not answer.
    pub async fn ensure(&self, keys_are_known: bool) -> Result<bool, ClientError> {
        if let Ok(status) = self.ask(&Question::Alive).await {
            let same = status.version == version() && status.port == self.settings.port;
            if same || !keys_are_known {
                return Ok(false);
            }
            // It may end before it answers.
            let _ended = self.ask(&Question::End).await;
        }
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.spawn().map_err(ClientError::Start)?;
        // It leaves at once; what stays is no child.
        let _left = tokio::task::spawn_blocking(move || child.wait()).await;
        let started = timeout(START_MAX, async {
            while self.ask(&Question::Alive).await.is_err() {
                sleep(LOOK).await;
            }
        });
        started.await.map_err(|_| ClientError::Start(io::ErrorKind::TimedOut.into()))?;
        Ok(true)
    }

    /// How it is.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.ask(&Question::Status).await
    }

    /// Tells it what is wanted.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn set(&self, wanted: Wanted) -> Result<Status, ClientError> {
        self.ask(&Question::Set(wanted)).await
    }

    /// Ends it. None that runs is no error.
    pub async fn end(&self) {
        let _none = self.ask(&Question::End).await;
    }

    async fn ask(&self, question: &Question) -> Result<Status, ClientError> {
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        let answered = timeout(ANSWER_MAX, async {
            let mut stream = UnixStream::connect(&self.settings.socket).await?;
            stream.write_all(&line).await?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).await?;
            Ok(answer)
        });
        let answer = answered.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        Ok(serde_json::from_str(&answer.map_err(ClientError::Silent)?)?)
    }
}
