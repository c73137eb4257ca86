//! A real etcd for a test: its own directory, its own ports on loopback, and it ends with the test.
//!
//! What goes wrong panics: this is test code that other crates may call.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::etcd::address::{Address, Endpoint, Pem};
use crate::etcd::{Etcd, OpenError, Options};

const START_WAIT: Duration = Duration::from_secs(30);

/// A member of an etcd, mostly its only one.
#[derive(Debug)]
pub struct Server {
    name: String,
    /// All members, in the words of `--initial-cluster`.
    cluster: String,
    directory: tempfile::TempDir,
    /// Counts data directories.
    data: u32,
    /// Where it serves clients, on 127.0.0.1.
    pub port: u16,
    peer_port: u16,
    flags: Vec<String>,
    scheme: &'static str,
    process: Option<Child>,
}

/// A port that nobody listens on, below those that connections are made from: it must be free again after a restart.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(8);
    (0..10_000)
        .map(|_| 20_000 + (first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port is free")
}

impl Server {
    /// One that is empty.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more of its flags.
    pub fn start_with(flags: &[&str]) -> Self {
        let mut server = Self::unstarted("http");
        server.flags = flags.iter().map(ToString::to_string).collect();
        server.run();
        server
    }

    /// With TLS: files `ca.pem`, `server.pem` and `server.key` in the directory that `write` is given.
    pub fn start_with_tls(write: impl FnOnce(&Path)) -> Self {
        let mut server = Self::unstarted("https");
        write(server.directory.path());
        let file = |name: &str| server.directory.path().join(name).display().to_string();
        server.flags = vec![
            format!("--cert-file={}", file("server.pem")),
            format!("--key-file={}", file("server.key")),
            format!("--trusted-ca-file={}", file("ca.pem")),
            "--client-cert-auth".to_owned(),
        ];
        server.run();
        server
    }

    /// Members of one etcd.
    pub fn start_members<const COUNT: usize>() -> [Self; COUNT] {
        let mut members = [(); COUNT].map(|()| Self::unstarted("http"));
        for (number, member) in members.iter_mut().enumerate() {
            member.name = format!("test-{number}");
            member.cluster = format!("{}={}", member.name, member.peer_url());
        }
        let cluster: Vec<String> = members.iter().map(|member| member.cluster.clone()).collect();
        for member in &mut members {
            member.cluster = cluster.join(",");
            member.run();
        }
        members
    }

    fn unstarted(scheme: &'static str) -> Self {
        let mut server = Self {
            name: "test".to_owned(),
            cluster: String::new(),
            directory: tempfile::tempdir().unwrap(),
            data: 0,
            port: free_port(),
            peer_port: free_port(),
            flags: Vec::new(),
            scheme,
            process: None,
        };
        server.cluster = format!("{}={}", server.name, server.peer_url());
        server
    }

    fn data_dir(&self) -> PathBuf {
        self.directory.path().join(format!("data-{}", self.data))
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// Starts it on what its directory holds.
    pub fn run(&mut self) {
        let url = format!("{}://127.0.0.1:{}", self.scheme, self.port);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        // It goes when the thread of the test does, however that ends.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "etcd", "--name", &self.name, "--logger", "zap"])
            .arg(format!("--data-dir={}", self.data_dir().display()))
            .args(["--initial-cluster-token", "test", "--log-level", "warn"])
            .args([format!("--listen-client-urls={url}"), format!("--advertise-client-urls={url}")])
            .arg(format!("--listen-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-advertise-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-cluster={}", self.cluster))
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("setpriv can be started");
        self.process = Some(process);
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < START_WAIT,
                "etcd does not run (`cargo xtask setup` installs it): {ended:?}\n{}",
                std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.as_ref().expect("it runs").id().try_into().unwrap())
    }

    /// As if its machine had lost power, the disk's cache aside.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// It stands still, and its connections stay.
    pub fn stop(&self) {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
        // It is sent at once, and obeyed by each thread when it comes to run.
        let stands = |thread: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        };
        let threads = format!("/proc/{}/task", self.pid());
        while !std::fs::read_dir(&threads).unwrap().flatten().all(stands) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// After [`Server::stop`].
    pub fn go_on(&self) {
        kill(self.pid(), Signal::SIGCONT).unwrap();
    }

    /// Runs etcdctl; what it prints.
    pub fn ctl(&self, args: &[&str]) -> String {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints=127.0.0.1:{}", self.port))
            .args(args)
            .output()
            .expect("etcdctl can be started (`cargo xtask setup` installs it)");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn backup_file(&self) -> String {
        self.directory.path().join("backup").display().to_string()
    }

    /// Saves a backup, in the place of the last one.
    pub fn back_up(&self) {
        self.ctl(&["snapshot", "save", &self.backup_file()]);
    }

    /// Puts the backup in the place of what it has, as an operator does: stop, restore, start.
    pub fn restore(&mut self) {
        self.kill();
        self.data += 1;
        let (data, peers) = (self.data_dir().display().to_string(), self.peer_url());
        let mut args = vec!["snapshot", "restore", "--name", &self.name, "--initial-cluster-token", "test"];
        let backup = self.backup_file();
        args.extend(["--initial-cluster", &self.cluster, "--initial-advertise-peer-urls", &peers]);
        args.extend(["--data-dir", &data, &backup]);
        self.ctl(&args);
        self.run();
    }

    /// Another etcd, begun from the backup of this one.
    pub fn restored_elsewhere(&self) -> Self {
        let mut other = Self::unstarted(self.scheme);
        std::fs::copy(self.backup_file(), other.backup_file()).unwrap();
        other.restore();
        other
    }

    /// Puts nothing in the place of what it has.
    pub fn empty(&mut self) {
        self.kill();
        self.data += 1;
        self.run();
    }

    /// What opens a store of that name.
    pub fn options(&self, name: &str) -> Options {
        options(self.port, name)
    }

    /// A store of that name.
    pub async fn open(&self, name: &str) -> Etcd {
        Etcd::open(&self.options(name)).await.expect("the store opens")
    }

    /// The same with certificates.
    ///
    /// # Errors
    /// It does not open.
    pub async fn open_with_tls(&self, pem: Pem) -> Result<Etcd, OpenError> {
        Etcd::open(&Options { tls: Some(pem), ..self.options("tls") }).await
    }
}

/// A store behind a port of this machine.
pub fn options(port: u16, name: &str) -> Options {
    options_of(&[port], name)
}

/// The same behind any of them.
pub fn options_of(ports: &[u16], name: &str) -> Options {
    let endpoints = ports.iter().map(|port| Endpoint { host: "127.0.0.1".into(), port: *port }).collect();
    Options { address: Address { endpoints, name: name.into() }, tls: None, begins: None, expects: None }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
