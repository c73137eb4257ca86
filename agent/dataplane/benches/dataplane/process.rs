//! A process of the bench in a network namespace and a cgroup: this program started again. It serves, and as a client it
//! measures what it is told to on its standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Port that requests go to.
pub(crate) const PORT: u16 = 8080;
/// The same, for those by a Service's address through sockets, and packet by packet: paths of one bench that meet at one port
/// would have to be told apart by other source ports, which none of them needs by itself.
pub(crate) const SOCKETS_PORT: u16 = 8082;
pub(crate) const PACKETS_PORT: u16 = 8083;
/// Port that takes a stream and tells its length.
pub(crate) const SINK_PORT: u16 = 8081;
/// How long a connection may take; more is a failure of the path under test.
const PATIENCE: Duration = Duration::from_secs(5);
const STREAM_WRITE_BYTES: usize = 128 << 10;
/// First byte of a connection that the server ends after one answer, and of one it keeps.
const ONCE: u8 = b'c';
const AGAIN: u8 = b'r';

/// A running process.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What one measurement gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Requests, connections or bytes.
    pub(crate) count: u64,
    /// Time it took, nanoseconds.
    pub(crate) elapsed_ns: u64,
}

impl Process {
    /// Starts a process in a network namespace, and in a cgroup if one is given.
    pub(crate) fn start(name: &str, netns: &Path, cgroup: Option<&Path>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("own path"));
        command.env("WEFT_BENCH_ROLE", name).env("WEFT_BENCH_NETNS", netns);
        if let Some(cgroup) = cgroup {
            command.env("WEFT_BENCH_CGROUP", cgroup);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("process started");
        let input = child.stdin.take().expect("input");
        let output = BufReader::new(child.stdout.take().expect("output"));
        let mut process = Self { child, input, output };
        assert_eq!(process.answer(), "ready", "{name}");
        process
    }

    /// Lets all its threads run on one CPU only.
    pub(crate) fn pin(&mut self, cpu: usize) {
        assert_eq!(self.ask(&format!("pin {cpu}")), "pinned");
    }

    /// CPU time it has used, nanoseconds, with the work of the network that was done in its name.
    pub(crate) fn cpu_ns(&mut self) -> u64 {
        self.ask("cpu").parse().expect("nanoseconds")
    }

    /// Measures `what` (`rr`, `crr`, `stream`) against an address for about `time`.
    ///
    /// # Errors
    /// What the path under test did to a connection.
    pub(crate) fn measure(&mut self, what: &str, to: SocketAddr, time: Duration) -> Result<Sample, String> {
        let answer = self.ask(&format!("{what} {to} {}", time.as_millis()));
        let numbers = answer.split_once(' ').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let (count, elapsed_ns) = numbers.ok_or_else(|| format!("{what} to {to}: {answer}"))?;
        Ok(Sample { count, elapsed_ns })
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").expect("command sent");
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.output.read_line(&mut line).expect("an answer"), 0, "the process ended");
        line.trim().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What such a process does; `false` at once when this is not one.
pub(crate) fn role() -> bool {
    if std::env::var_os("WEFT_BENCH_ROLE").is_none() {
        return false;
    }
    if let Some(cgroup) = std::env::var_os("WEFT_BENCH_CGROUP") {
        std::fs::write(PathBuf::from(cgroup).join("cgroup.procs"), "0").expect("moved to the cgroup");
    }
    let netns = File::open(std::env::var_os("WEFT_BENCH_NETNS").expect("a namespace")).expect("opened");
    setns(netns, CloneFlags::CLONE_NEWNET).expect("entered");
    for port in [PORT, SOCKETS_PORT, PACKETS_PORT] {
        serve(port, answer_requests);
    }
    serve(SINK_PORT, swallow);
    println!("ready");
    for line in io::stdin().lines() {
        let line = line.expect("a command");
        let words: Vec<&str> = line.split(' ').collect();
        match obey(&words) {
            Ok(answer) => println!("{answer}"),
            Err(error) => println!("failed: {error}"),
        }
    }
    true
}

fn obey(words: &[&str]) -> io::Result<String> {
    match *words {
        ["pin", cpu] => pin(cpu.parse().map_err(io::Error::other)?).map(|()| "pinned".to_owned()),
        ["cpu"] => {
            let used = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
            Ok(Duration::from(used).as_nanos().to_string())
        }
        [what, to, ms] => {
            let to: SocketAddr = to.parse().map_err(io::Error::other)?;
            let time = Duration::from_millis(ms.parse().map_err(io::Error::other)?);
            let began = Instant::now();
            let count = match what {
                "rr" => requests(to, began + time),
                "crr" => connections(to, began + time),
                "stream" => stream(to, began + time),
                other => Err(io::Error::other(format!("no measurement: {other}"))),
            }?;
            Ok(format!("{count} {}", began.elapsed().as_nanos()))
        }
        _ => Err(io::Error::other(format!("no command: {words:?}"))),
    }
}

fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let name = thread?.file_name();
        let id = name.to_string_lossy().parse().map_err(io::Error::other)?;
        sched_setaffinity(Pid::from_raw(id), &set)?;
    }
    Ok(())
}

/// One connection after the other, without a thread each: what is measured is the path and not the scheduler.
fn serve(port: u16, each: fn(TcpStream) -> io::Result<()>) {
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("listening");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that broke off says so itself.
            let _broken = each(stream);
        }
    });
}

fn answer_requests(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
        if byte[0] == ONCE {
            return Ok(());
        }
    }
    Ok(())
}

fn swallow(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut piece = vec![0; STREAM_WRITE_BYTES];
    let mut total: u64 = 0;
    loop {
        match stream.read(&mut piece)? {
            0 => return stream.write_all(&total.to_le_bytes()),
            length => total += length as u64,
        }
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Requests of one byte on one connection.
fn requests(to: SocketAddr, end: Instant) -> io::Result<u64> {
    let mut stream = connect(to)?;
    let (mut count, mut byte) = (0, [AGAIN]);
    while Instant::now() < end {
        for _ in 0..16 {
            stream.write_all(&byte)?;
            stream.read_exact(&mut byte)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Connections with one request each. The server closes first, so that no port of the client has to wait.
fn connections(to: SocketAddr, end: Instant) -> io::Result<u64> {
    let mut count = 0;
    while Instant::now() < end {
        let mut stream = connect(to)?;
        let mut byte = [ONCE];
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        if stream.read(&mut byte)? != 0 {
            return Err(io::Error::other("more than one answer"));
        }
        count += 1;
    }
    Ok(count)
}

/// Bytes that arrived on one connection.
fn stream(to: SocketAddr, end: Instant) -> io::Result<u64> {
    let mut stream = connect(to)?;
    let piece = vec![0; STREAM_WRITE_BYTES];
    while Instant::now() < end {
        stream.write_all(&piece)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut total = [0; 8];
    stream.read_exact(&mut total)?;
    Ok(u64::from_le_bytes(total))
}
