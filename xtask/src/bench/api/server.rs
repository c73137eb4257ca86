//! One `weft-control` on loopback with an empty store, ended when it goes, its data with it.

use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::memory::{self, Memory};
use crate::command::{output, wait_for};

const START_SECONDS_MAX: &str = "30";
const END_MAX: Duration = Duration::from_secs(20);

/// What is started, and where.
pub(super) struct Programs {
    pub(super) bin_dir: PathBuf,
    /// Directory on the disk.
    pub(super) dir: PathBuf,
    pub(super) store: Option<String>,
}

/// A running server.
pub(super) struct Server {
    pub(super) load: PathBuf,
    pub(super) kubeconfig: PathBuf,
    data: PathBuf,
    pid: i32,
    child: Child,
}

impl Server {
    /// Starts one on an empty directory and waits until it is ready.
    pub(super) fn start(programs: &Programs) -> Result<Self> {
        let data = programs.dir.join("weft-bench-data");
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("{} cannot be removed", data.display()))?;
        }
        fs::create_dir(&data)?;
        let log = programs.dir.join("weft-control.log");
        let log_file = File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
        let (api, link) = free_ports()?;
        let mut command = Command::new(programs.bin_dir.join("weft-control"));
        command.arg("serve").arg("--data-dir").arg(&data);
        command.args(["--listen", &format!("127.0.0.1:{api}"), "--link", &format!("127.0.0.1:{link}")]);
        if let Some(store) = &programs.store {
            command.args(["--store", store]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file);
        let child = command.spawn().context("weft-control cannot be started")?;
        let server = Self {
            load: programs.bin_dir.join("weft-load"),
            kubeconfig: data.join("admin.kubeconfig"),
            data,
            pid: i32::try_from(child.id()).context("a process number out of range")?,
            child,
        };
        let mut ready = Command::new(&server.load);
        ready.arg("--kubeconfig").arg(&server.kubeconfig).args(["ready", "--seconds", START_SECONDS_MAX]);
        output(&mut ready).with_context(|| format!("the server does not start; see {}", log.display()))?;
        Ok(server)
    }

    pub(super) fn memory(&self) -> Result<Memory> {
        memory::of(self.pid)
    }

    pub(super) const fn pid(&self) -> i32 {
        self.pid
    }

    fn end(&mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid), Signal::SIGTERM)?;
        let ended = wait_for("the server to end", END_MAX, 20, || Ok(self.child.try_wait()?));
        if ended.is_err() {
            self.child.kill()?;
            self.child.wait()?;
        }
        ended?;
        fs::remove_dir_all(&self.data).with_context(|| format!("{} cannot be removed", self.data.display()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("bench: the server did not end as it should: {error:#}");
        }
    }
}

/// Ports of the API and of the link that nobody has, for now.
fn free_ports() -> Result<(u16, u16)> {
    let api = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let link = UdpSocket::bind(("127.0.0.1", 0))?.local_addr()?.port();
    Ok((api, link))
}
