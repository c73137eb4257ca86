//! Running a command with a time limit, and waiting for something to become true.

use std::io::{ErrorKind, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a command left.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; -1 when a signal or the time limit ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output of a command that must have gone well.
    ///
    /// # Panics
    /// It did not: fails the test with everything the command said.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// Everything said by a command that must have failed.
    ///
    /// # Panics
    /// It went well: fails the test.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_ne!(self.code, 0, "expected a failure; stdout: {}", self.stdout);
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A command that is bounded in time.
pub trait Run {
    /// Runs it to its end, at most `limit`, standard input closed.
    fn run(&mut self, limit: Duration) -> Output;
}

impl Run for Command {
    fn run(&mut self, limit: Duration) -> Output {
        Running::start(self).end(limit)
    }
}

/// A command that runs beside the test; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Stream,
    stderr: Stream,
}

/// What a command says, as far as it has.
#[derive(Debug)]
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts it; standard input is closed.
    ///
    /// # Panics
    /// There is no such program.
    pub fn start(command: &mut Command) -> Self {
        Self::spawn(command, Stdio::null())
    }

    /// Starts it with `input` as all of its standard input.
    ///
    /// # Panics
    /// There is no such program.
    pub fn start_with(command: &mut Command, input: &str) -> Self {
        let mut running = Self::spawn(command, Stdio::piped());
        if let Some(mut stdin) = running.child.stdin.take() {
            // A program that ended before it read everything shows in its exit code.
            let _broken = stdin.write_all(input.as_bytes());
        }
        running
    }

    fn spawn(command: &mut Command, stdin: Stdio) -> Self {
        let spawned = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child =
            spawned.unwrap_or_else(|error| panic!("{:?} cannot be started: {error}", command.get_program()));
        let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
        Self { child, stdout, stderr }
    }

    /// Waits until it ends, at most `limit`; then it is killed.
    pub fn end(mut self, limit: Duration) -> Output {
        let code = wait(&mut self.child, limit);
        self.output(code)
    }

    /// Kills it now.
    pub fn kill(mut self) -> Output {
        let code = wait(&mut self.child, Duration::ZERO);
        self.output(code)
    }

    /// Standard output so far.
    pub fn said(&self) -> String {
        self.stdout.text()
    }

    fn output(&mut self, code: i32) -> Output {
        Output { code, stdout: self.stdout.end(), stderr: self.stderr.end() }
    }
}

impl Stream {
    fn text(&self) -> String {
        self.bytes.lock().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Everything, once there is no more to come.
    fn end(&mut self) -> String {
        self.thread.take().map(JoinHandle::join);
        self.text()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _code = wait(&mut self.child, Duration::ZERO);
    }
}

fn drain<R: Read + Send + 'static>(stream: Option<R>) -> Stream {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&bytes);
    let read = move || {
        let Some(mut stream) = stream else { return };
        let mut piece = [0; 8 << 10];
        loop {
            match stream.read(&mut piece) {
                Ok(length @ 1..) => {
                    let Ok(mut kept) = kept.lock() else { return };
                    kept.extend_from_slice(&piece[..length]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What came before a failure is what the test wants to see.
                Ok(0) | Err(_) => return,
            }
        }
    };
    Stream { bytes, thread: Some(std::thread::spawn(read)) }
}

fn wait(child: &mut Child, limit: Duration) -> i32 {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code().unwrap_or(-1),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            _ => {
                let _killed = child.kill();
                let _reaped = child.wait();
                return -1;
            }
        }
    }
}

/// Waits until `look` gives a value, at most `limit`.
///
/// # Panics
/// It never did: fails the test with `what`.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
