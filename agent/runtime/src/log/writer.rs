//! The logger process: reads a container's output from the file descriptors a shim gives it and writes the log's files.
//! It knows nothing of the agent, which may die and come back meanwhile.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, signal};

use super::{FILE_BYTES_MAX, files, line};

/// File descriptors of the shim's `binary://` protocol.
const STDOUT_FD: i32 = 3;
const STDERR_FD: i32 = 4;
const READY_FD: i32 = 5;
/// A longer line is written in parts.
const LINE_BYTES_MAX: usize = 16 << 10;
/// A line that has not ended after this long is written as a part: a prompt shows before somebody answers it.
const PARTIAL_MS: u16 = 150;

/// The whole life of a logger process that a shim started: `args` is what follows [`crate::Logger::argument`].
///
/// Reads the container's output from file descriptors 3 and 4 until both end, or from two FIFOs that follow the log's path, and
/// then says on its standard output when it has opened them. Call it first thing in `main`, before any
/// async runtime. Ignores SIGTERM: the shim sends it when the container has ended, and what is in the pipes still counts.
#[must_use]
pub fn log_writer_main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(path) = args.next().map(PathBuf::from) else {
        eprintln!("log-writer: the path of the log file is missing");
        return ExitCode::from(64);
    };
    let pipes = args.next().map(PathBuf::from).zip(args.next().map(PathBuf::from));
    match run(path, pipes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("log-writer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: PathBuf, pipes: Option<(PathBuf, PathBuf)>) -> io::Result<()> {
    for ignored in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    let mut log = Log::open(path)?;
    let (stdout, stderr) = match pipes {
        Some((stdout, stderr)) => {
            let opened = (File::open(stdout)?.into(), File::open(stderr)?.into());
            io::stdout().write_all(b"\n")?;
            opened
        }
        None => shims_pipes(),
    };
    let mut sources = vec![Source::new(stdout, false), Source::new(stderr, true)];
    let mut buffer = vec![0; 64 << 10];
    while !sources.is_empty() {
        let partial = sources.iter().any(|s| !s.pending.is_empty());
        let mut polled: Vec<_> =
            sources.iter().map(|s| PollFd::new(s.pipe.as_fd(), PollFlags::POLLIN)).collect();
        let timeout = if partial { PollTimeout::from(PARTIAL_MS) } else { PollTimeout::NONE };
        let ready = match poll(&mut polled, timeout) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        let readable: Vec<bool> =
            polled.iter().map(|p| p.revents().is_some_and(|events| !events.is_empty())).collect();
        if ready == 0 {
            for source in &mut sources {
                source.flush(&mut log)?;
            }
        }
        for (source, readable) in sources.iter_mut().zip(readable) {
            if readable {
                source.pump(&mut buffer, &mut log)?;
            }
        }
        sources.retain(|s| !s.ended);
    }
    Ok(())
}

/// Standard output and error, as the shim gives them; it learns that they are read.
fn shims_pipes() -> (OwnedFd, OwnedFd) {
    // SAFETY: the shim's protocol gives this process the three descriptors, and nothing else here owns them.
    let (stdout, stderr, ready) = unsafe {
        (OwnedFd::from_raw_fd(STDOUT_FD), OwnedFd::from_raw_fd(STDERR_FD), OwnedFd::from_raw_fd(READY_FD))
    };
    drop(ready);
    (stdout, stderr)
}

/// One of the container's streams.
struct Source {
    pipe: File,
    stderr: bool,
    pending: Vec<u8>,
    ended: bool,
}

impl Source {
    fn new(pipe: OwnedFd, stderr: bool) -> Self {
        Self { pipe: pipe.into(), stderr, pending: Vec::new(), ended: false }
    }

    fn pump(&mut self, buffer: &mut [u8], log: &mut Log) -> io::Result<()> {
        let count = match self.pipe.read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(_) | Ok(0) => {
                self.ended = true;
                return self.flush(log);
            }
            Ok(count) => count,
        };
        let now = Timestamp::now();
        let mut out = Vec::with_capacity(count * 2);
        for &byte in &buffer[..count] {
            if byte == b'\n' {
                line::write(&mut out, now, self.stderr, true, &self.pending);
                self.pending.clear();
            } else {
                self.pending.push(byte);
                if self.pending.len() == LINE_BYTES_MAX {
                    line::write(&mut out, now, self.stderr, false, &self.pending);
                    self.pending.clear();
                }
            }
        }
        log.write(&out)
    }

    fn flush(&mut self, log: &mut Log) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut out = Vec::new();
        line::write(&mut out, Timestamp::now(), self.stderr, false, &self.pending);
        self.pending.clear();
        log.write(&out)
    }
}

/// The file that grows, and the older ones beside it.
struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Log {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes })
    }

    /// Writes whole lines. A full disk loses lines and never stops the container.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.bytes >= FILE_BYTES_MAX {
            self.rotate()?;
        }
        if self.file.write_all(lines).is_ok() {
            self.bytes += lines.len() as u64;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let all = files(&self.path);
        for pair in all.windows(2).rev() {
            match fs::rename(&pair[0], &pair[1]) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        *self = Self::open(std::mem::take(&mut self.path))?;
        Ok(())
    }
}
