//! FIFOs between the agent and a process behind a shim.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use tokio::io::AsyncWrite;
use tokio::net::unix::pipe;

/// How long the shim has to open the input of a process that it says runs: it does so in a thread of its own.
const READER: Duration = Duration::from_secs(2);
/// How often it is looked whether it did.
const LOOK: Duration = Duration::from_millis(1);

/// The FIFOs of one exec. They are opened for both directions before the shim is told of them: it blocks otherwise.
#[derive(Debug)]
pub(crate) struct Fifos {
    dir: PathBuf,
    stdin: Option<pipe::Sender>,
    stdout: pipe::Receiver,
    stderr: Option<pipe::Receiver>,
}

/// The agent's ends once the process runs.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<pipe::Sender>,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: Option<pipe::Receiver>,
}

impl Fifos {
    /// Makes them in `dir`, which must not exist yet. A terminal has no stderr of its own.
    pub(crate) fn make(dir: &Path, stdin: bool, tty: bool) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let both = |name: &str| -> io::Result<pipe::OpenOptions> {
            nix::unistd::mkfifo(&dir.join(name), Mode::S_IRUSR | Mode::S_IWUSR)?;
            let mut options = pipe::OpenOptions::new();
            options.read_write(true);
            Ok(options)
        };
        let stdin = if stdin { Some(both("in")?.open_sender(dir.join("in"))?) } else { None };
        let stdout = both("out")?.open_receiver(dir.join("out"))?;
        let stderr = if tty { None } else { Some(both("err")?.open_receiver(dir.join("err"))?) };
        Ok(Self { dir: dir.into(), stdin, stdout, stderr })
    }

    /// Makes a single FIFO.
    pub(crate) fn make_one(path: &Path) -> io::Result<()> {
        Ok(nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?)
    }

    /// Path of one of them as text, empty if it is not there.
    pub(crate) fn path(&self, name: &str) -> String {
        let there = match name {
            "in" => self.stdin.is_some(),
            "err" => self.stderr.is_some(),
            _ => true,
        };
        if there { self.dir.join(name).to_string_lossy().into_owned() } else { String::new() }
    }

    /// Gives up the agent's own other ends, now that the shim holds some: a reader then sees the end, and a writer that
    /// nobody reads. Returns once the input has its reader.
    pub(crate) async fn started(self) -> io::Result<Ends> {
        let one_way = pipe::OpenOptions::new();
        let stdout = one_way.open_receiver(self.dir.join("out"))?;
        let stderr = match self.stderr {
            Some(_) => Some(one_way.open_receiver(self.dir.join("err"))?),
            None => None,
        };
        let stdin = match &self.stdin {
            Some(_) => Some(one_way.open_sender(self.dir.join("in"))?),
            None => None,
        };
        drop((self.stdin, self.stdout));
        if let Some(stdin) = &stdin {
            // Without one by then, the process has ended: whoever writes is told.
            let _ = tokio::time::timeout(READER, reader(stdin)).await;
        }
        Ok(Ends { stdin, stdout, stderr })
    }
}

/// Until a FIFO has a reader.
async fn reader(pipe: &pipe::Sender) {
    let nobody = || {
        let mut asked = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
        let told = poll(&mut asked, PollTimeout::ZERO);
        told.is_ok_and(|_| asked[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR)))
    };
    while nobody() {
        tokio::time::sleep(LOOK).await;
    }
}

/// A process's input: shutting it down, or dropping it, runs `close` once.
pub(crate) struct Stdin<F: FnOnce() + Unpin> {
    pipe: Option<pipe::Sender>,
    close: Option<F>,
}

impl<F: FnOnce() + Unpin> Stdin<F> {
    pub(crate) fn new(pipe: pipe::Sender, close: F) -> Self {
        Self { pipe: Some(pipe), close: Some(close) }
    }

    fn end(&mut self) {
        self.pipe = None;
        if let Some(close) = self.close.take() {
            close();
        }
    }
}

impl<F: FnOnce() + Unpin> Drop for Stdin<F> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<F: FnOnce() + Unpin> AsyncWrite for Stdin<F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.pipe {
            Some(pipe) => Pin::new(pipe).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn input_waits_for_a_reader_that_comes_late() {
        let dir = tempfile::tempdir().unwrap();
        let fifos = Fifos::make(&dir.path().join("x"), true, true).unwrap();
        // As the shim does it: what to open is fixed at once, the opening takes its time.
        let path = fifos.path("in");
        let held = std::fs::OpenOptions::new().read(true).write(true).open(fifos.path("out")).unwrap();
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            std::io::read_to_string(std::fs::File::open(path).unwrap()).unwrap()
        });
        let mut stdin = fifos.started().await.unwrap().stdin.unwrap();
        stdin.write_all(b"here").await.unwrap();
        drop((stdin, held));
        assert_eq!(reader.join().unwrap(), "here");
    }
}
