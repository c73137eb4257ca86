//! Processes inside a test cluster: this test's own binary started again, in another namespace and cgroup, told by its
//! standard input what to do.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen as listen_on, setsockopt,
    socket, sockopt,
};

use crate::chat::Chat;

/// Every answer begins with this; the test runner's own lines do not.
const MARK: &str = "@@";
/// How long anything may take, on a machine that is busy or emulated.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing has to come until there is nothing.
const SILENCE: Duration = Duration::from_secs(8);
/// Port every process echoes on, TCP and UDP.
pub(crate) const PORT: u16 = 8080;

/// A running process.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a process called `name` in a network namespace, and in a cgroup if one is given.
    pub(crate) fn start(name: &str, netns: &Path, cgroup: Option<&Path>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("own path"));
        command.args(["role", "--exact", "--nocapture", "--test-threads=1"]);
        command.env("WEFT_TEST_ROLE", name).env("WEFT_TEST_NETNS", netns);
        if let Some(cgroup) = cgroup {
            command.env("WEFT_TEST_CGROUP", cgroup);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("process started");
        let input = child.stdin.take().expect("input");
        let output = BufReader::new(child.stdout.take().expect("output"));
        let mut process = Self { child, input, output };
        assert_eq!(process.answer(), "ready", "{name}");
        process
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").expect("command sent");
        self.answer()
    }

    /// Asks `to` so many times, each time by a new socket; the names of those who answered, and as whom they saw us.
    pub(crate) fn reach(&mut self, protocol: &str, to: &str, times: usize) -> Vec<(String, String)> {
        let answer = self.ask(&format!("{protocol} {to} {times}"));
        assert!(!answer.starts_with("failed"), "{protocol} {to}: {answer}");
        let pairs = answer.split(' ').map(|pair| pair.split_once('=').expect("a pair"));
        pairs.map(|(name, peer)| (name.to_owned(), peer.to_owned())).collect()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).expect("an answer"), 0, "the process ended");
            if let Some((_, answer)) = line.trim().split_once(MARK) {
                return answer.to_owned();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What such a process does; returns at once when this is not one.
pub(crate) fn role() {
    let Ok(name) = std::env::var("WEFT_TEST_ROLE") else { return };
    if let Some(cgroup) = std::env::var_os("WEFT_TEST_CGROUP") {
        std::fs::write(PathBuf::from(cgroup).join("cgroup.procs"), "0").expect("moved to the cgroup");
    }
    let netns = File::open(std::env::var_os("WEFT_TEST_NETNS").expect("a namespace")).expect("opened");
    setns(netns, CloneFlags::CLONE_NEWNET).expect("entered");
    serve(&name);
    println!("{MARK}ready");
    let mut held = None;
    let mut connected = None;
    let mut chats = Vec::new();
    for line in io::stdin().lines() {
        let line = line.expect("a command");
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words.as_slice() {
            ["tcp", to, times] => many(times, || over_tcp(to)),
            ["udp", to, times] => many(times, || over_udp(to)),
            ["each", to, first, times] => {
                let mut port: u16 = first.parse().expect("a port");
                many(times, || {
                    port += 1;
                    from_port(port, to)
                })
            }
            ["hold", to] => hold(to).map(|stream| {
                held = Some(stream);
                "held".to_owned()
            }),
            ["again"] => held.as_mut().map_or_else(|| Err(io::ErrorKind::NotConnected.into()), again),
            ["peer"] => held.as_ref().map_or_else(
                || Err(io::ErrorKind::NotConnected.into()),
                |stream| stream.peer_addr().map(|peer| peer.to_string()),
            ),
            ["hear"] => held.as_mut().map_or_else(|| Err(io::ErrorKind::NotConnected.into()), hear),
            ["chat", how, port, to] => {
                chats.push(Chat::begin(*how == "connected", port.parse().expect("a port"), to));
                Ok("begun".to_owned())
            }
            ["chats"] => Ok(chats.iter().map(Chat::heard).collect::<Vec<_>>().join(" ")),
            ["connect", to] => connect(to).map(|socket| {
                connected = Some(socket);
                "connected".to_owned()
            }),
            ["bind"] => UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
                socket.set_read_timeout(Some(PATIENCE))?;
                connected = Some(socket);
                Ok("bound".to_owned())
            }),
            ["send", to] => {
                let sent = connected
                    .as_ref()
                    .map(|socket| socket.send_to(b"hello", to).and_then(|_| listen(socket)));
                sent.unwrap_or_else(|| Err(io::ErrorKind::NotConnected.into()))
            }
            ["ask", maps, netns, to, protocol] => asked(maps, netns, to, protocol),
            ["piece", to, bytes] => piece(to, bytes.parse().expect("a number")),
            ["blob", to, hex] => blob(to, hex),
            ["large", to, bytes] => large(to, bytes.parse().expect("a number")),
            ["say"] => connected.as_ref().map_or_else(|| Err(io::ErrorKind::NotConnected.into()), say),
            ["wait"] => connected.as_ref().map_or_else(|| Err(io::ErrorKind::NotConnected.into()), listen),
            ["fetch", to, bytes] => fetch(to, bytes.parse().expect("a number")),
            _ => panic!("no command: {line}"),
        };
        match answer {
            Ok(answer) => println!("{MARK}{answer}"),
            Err(error) => println!("{MARK}failed: {:?}: {error}", error.kind()),
        }
    }
}

/// Answers on TCP (name and peer in a line, then whatever is sent; `get N` gives N bytes) and UDP (name and peer; the whole
/// of what is larger than that); the first process of a namespace does.
fn serve(name: &str) {
    // Two sockets each: to one of both families, IPv4 peers have other names.
    for any in ["0.0.0.0", "::"] {
        let at = SocketAddr::new(any.parse().expect("an address"), PORT);
        match listener(at) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return,
            other => serve_one(name.to_owned(), other.expect("listening"), bound(at).expect("bound")),
        }
    }
}

/// A socket of one family, bound.
fn open(at: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if at.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if at.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    setsockopt(&socket, sockopt::ReuseAddr, &(kind == SockType::Stream))?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
    Ok(socket)
}

fn listener(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(at, SockType::Stream)?;
    listen_on(&socket, Backlog::new(128)?)?;
    Ok(socket.into())
}

fn bound(at: SocketAddr) -> io::Result<UdpSocket> {
    Ok(open(at, SockType::Datagram)?.into())
}

fn serve_one(name: String, listener: TcpListener, socket: UdpSocket) {
    let udp_name = name.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 9000];
        while let Ok((bytes, peer)) = socket.recv_from(&mut buffer) {
            if bytes > 1_000 {
                drop(socket.send_to(&buffer[..bytes], peer));
                continue;
            }
            drop(socket.send_to(format!("{udp_name}={peer}").as_bytes(), peer));
        }
    });
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let name = name.clone();
            std::thread::spawn(move || converse(&name, stream));
        }
    });
}

/// A datagram socket of an address's family, with a port.
fn datagrams_to(to: &str) -> io::Result<UdpSocket> {
    let to: SocketAddr = to.parse().expect("an address");
    let socket = UdpSocket::bind(if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn converse(name: &str, mut stream: TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(Ok(line)) = lines.next() {
        match line.strip_prefix("get ").and_then(|bytes| bytes.parse().ok()) {
            Some(bytes) => stream.write_all(&pattern(bytes))?,
            None => writeln!(stream, "{name}={peer}")?,
        }
    }
    Ok(())
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect()
}

fn many(times: &str, mut once: impl FnMut() -> io::Result<String>) -> io::Result<String> {
    let times: usize = times.parse().expect("a number");
    Ok((0..times).map(|_| once()).collect::<io::Result<Vec<_>>>()?.join(" "))
}

/// A question from a port of its own.
fn from_port(port: u16, to: &str) -> io::Result<String> {
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Asked again it is the same flow, and the same one answers.
    let once = || socket.send_to(b"hello", to).and_then(|_| listen(&socket));
    once().or_else(|_| once()).or_else(|_| once())
}

fn hold(to: &str) -> io::Result<TcpStream> {
    let to: SocketAddr = to.parse().expect("an address");
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn again(stream: &mut TcpStream) -> io::Result<String> {
    writeln!(stream, "hello")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(line.trim().to_owned()) }
}

/// Says nothing and waits for what comes.
fn hear(stream: &mut TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut buffer = [0; 1];
    let bytes = stream.read(&mut buffer)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    if bytes == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok("something".to_owned()) }
}

fn over_tcp(to: &str) -> io::Result<String> {
    again(&mut hold(to)?)
}

fn over_udp(to: &str) -> io::Result<String> {
    let socket = datagrams_to(to)?;
    socket.send_to(b"hello", to)?;
    let mut buffer = [0; 9000];
    let (bytes, from) = socket.recv_from(&mut buffer)?;
    if from.to_string() != to {
        return Err(io::Error::other(format!("the answer came from {from}")));
    }
    Ok(String::from_utf8_lossy(&buffer[..bytes]).into_owned())
}

/// Asks the socket hooks what they would do, as this process's cgroup.
fn asked(maps: &str, netns: &str, to: &str, protocol: &str) -> io::Result<String> {
    let to = to.parse().expect("an address");
    let protocol = protocol.parse().expect("a number");
    let asked = weft_dataplane::dry::ask::connect(Path::new(maps), Path::new(netns), to, protocol);
    Ok(serde_json::to_string(&asked.map_err(io::Error::other)?)?)
}

fn large(to: &str, bytes: usize) -> io::Result<String> {
    let socket = datagrams_to(to)?;
    socket.send_to(&pattern(bytes), to)?;
    let mut buffer = [0; 9000];
    let (got, from) = socket.recv_from(&mut buffer)?;
    if from.to_string() != to || buffer[..got] != pattern(bytes) {
        return Err(io::Error::other(format!("{got} bytes, or others, from {from}")));
    }
    Ok(format!("{got} bytes"))
}

/// Sends a packet of so many bytes, headers and all, that must not be cut, and waits for its echo.
#[allow(unsafe_code)]
fn piece(to: &str, bytes: usize) -> io::Result<String> {
    let socket = datagrams_to(to)?;
    let v6 = to.starts_with('[');
    // IP_PMTUDISC_DO and its twin: no way is too short without saying so.
    let done: nix::libc::c_int = 2;
    let (level, name, headers) = if v6 {
        (nix::libc::IPPROTO_IPV6, nix::libc::IPV6_MTU_DISCOVER, 48)
    } else {
        (nix::libc::IPPROTO_IP, nix::libc::IP_MTU_DISCOVER, 28)
    };
    // SAFETY: the option is an integer, which is read within its size.
    let set = unsafe {
        nix::libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const done).cast(),
            size_of_val(&done) as u32,
        )
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    socket.connect(to)?;
    socket.send(&pattern(bytes - headers))?;
    let mut buffer = [0; 9000];
    let got = socket.recv(&mut buffer)?;
    if buffer[..got] != pattern(bytes - headers) {
        return Err(io::Error::other(format!("{got} bytes, or others")));
    }
    Ok(format!("{bytes} bytes"))
}

/// Sends a datagram of these bytes and waits for nothing.
fn blob(to: &str, hex: &str) -> io::Result<String> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    datagrams_to(to)?.send_to(&bytes, to)?;
    Ok("sent".to_owned())
}

fn connect(to: &str) -> io::Result<UdpSocket> {
    let socket = datagrams_to(to)?;
    socket.connect(to)?;
    Ok(socket)
}

fn say(socket: &UdpSocket) -> io::Result<String> {
    socket.send(b"hello")?;
    listen(socket)
}

fn listen(socket: &UdpSocket) -> io::Result<String> {
    let mut buffer = [0; 9000];
    let bytes = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..bytes]).into_owned())
}

fn fetch(to: &str, bytes: usize) -> io::Result<String> {
    let mut stream = hold(to)?;
    // So much is not made in a moment.
    stream.set_read_timeout(Some(PATIENCE * 4))?;
    writeln!(stream, "get {bytes}")?;
    let mut got = vec![0; bytes];
    stream.read_exact(&mut got)?;
    Ok(if got == pattern(bytes) { "identical" } else { "different" }.to_owned())
}
