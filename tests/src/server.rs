//! A control plane alone, for tests of clients: a real `weft-control` on loopback, without nodes, that can be ended, killed and
//! started again at the same address. Clients have a home of their own in its directory and leave nothing in the user's.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::cluster::{COMMAND_MAX, given};
use crate::run::{Output, Run};

/// The ports that are tried: above the API's own, below those that the kernel gives to clients.
const PORTS: std::ops::Range<u16> = 16_443..17_443;

/// One server; killed when dropped, and its directory removed.
#[derive(Debug)]
pub struct Server {
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts a server with a directory and a port of its own, and waits until it is ready.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("weft-{name}-{}", std::process::id()));
        let _left_over = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("home"))
            .unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let mut server = Self { dir, port: free_port(), child: None };
        server.start_again();
        server
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_again(&mut self) {
        let listen = format!("127.0.0.1:{}", self.port);
        let mut command = Command::new(Path::new(&given("WEFT_BIN_DIR")).join("weft-control"));
        command.args(["serve", "--listen", &listen, "--link", "127.0.0.1:0", "--advertise", "127.0.0.1"]);
        command.arg("--data-dir").arg(self.dir.join("data")).env("NO_COLOR", "1");
        let mut child = command.stderr(Stdio::piped()).spawn().expect("weft-control is built");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        assert!(
            lines.any(|line| {
                eprintln!("server: {line}");
                line.contains("weft-control is ready")
            }),
            "weft-control ended before it was ready"
        );
        // What comes later goes to the test's own output, and the pipe never fills.
        std::thread::spawn(move || lines.for_each(|line| eprintln!("server: {line}")));
        self.child = Some(child);
    }

    /// Asks it to end, as its service manager does, and waits until it has.
    ///
    /// # Panics
    /// It does not end well.
    pub fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let term = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(term.is_ok_and(|status| status.success()), "kill -TERM");
        let status = child.wait().expect("a child");
        assert!(status.success(), "weft-control ended with {status}");
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _killed = child.kill();
            let _reaped = child.wait();
        }
    }

    /// Where its clients may put their files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("data/admin.kubeconfig")
    }

    /// A client's command: with this server as its cluster, and with a home `home` in the server's directory, which is also
    /// where it runs.
    ///
    /// # Panics
    /// The home cannot be made.
    pub fn client(&self, program: &str, home: &str) -> Command {
        let home = self.dir.join("home").join(home);
        std::fs::create_dir_all(&home).unwrap_or_else(|error| panic!("{}: {error}", home.display()));
        let mut command = Command::new(program);
        command.current_dir(&home).env_clear().env("KUBECONFIG", self.kubeconfig());
        command.env("HOME", &home).env("TMPDIR", &home);
        for kept in ["PATH", "LANG"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
    }

    /// `kubectl ARGS`, the newest, to make and to see what another client works with.
    pub fn kubectl(&self, args: &[&str]) -> Output {
        self.client(&given("WEFT_KUBECTL_NEWEST"), "kubectl").args(args).run(COMMAND_MAX)
    }

    /// One object as JSON, `null` if it is not there.
    ///
    /// # Panics
    /// The server says something else.
    #[track_caller]
    pub fn get(&self, args: &[&str]) -> Value {
        let text = self.kubectl(&[&["get", "-o", "json", "--ignore-not-found"], args].concat()).ok();
        if text.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Writes a file into a client's home.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, home: &str, path: &str, content: &str) {
        let path = self.dir.join("home").join(home).join(path);
        let made = std::fs::create_dir_all(path.parent().expect("a directory above"));
        made.and_then(|()| std::fs::write(&path, content))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

fn free_port() -> u16 {
    // Servers of one process begin at different places: none is listening yet when the next one looks.
    static TAKEN: std::sync::Mutex<u16> = std::sync::Mutex::new(PORTS.start);
    let mut next = TAKEN.lock().expect("nobody panics with it");
    for port in *next..PORTS.end {
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            *next = port + 1;
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}
