//! Daemons of a machine: started in its network namespace and cgroups, detached, and known again later.
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};
use serde::{Deserialize, Serialize};

use crate::up::machine::{Cluster, Machine};
use crate::up::{cgroup, namespace};

/// A process, told from a later one of the same number by when it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// What it is: `control`, `node-1`.
    pub(crate) what: String,
    /// Its number.
    pub(crate) pid: i32,
    /// When it began, in clock ticks since the machine did (proc(5), field 22 of `stat`).
    pub(crate) start_ticks: u64,
}

impl Process {
    /// The process that has this number now.
    pub(crate) fn now(what: &str, pid: i32) -> Option<Self> {
        let (start_ticks, state) = stat(pid)?;
        (state != 'Z').then(|| Self { what: what.to_owned(), pid, start_ticks })
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|(ticks, state)| ticks == self.start_ticks && state != 'Z')
    }

    /// Sends a signal, unless the number is another's by now; a process that just ended is no error.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// Start time and state letter of a process.
fn stat(pid: i32) -> Option<(u64, char)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Whether a dead process still has its number because init has not asked for its end yet.
pub(crate) fn is_unreaped_by_init(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.next() == Some("Z") && fields.next() == Some("1")
}

/// The name in parentheses may hold anything, so fields count from the last parenthesis (state is field 3).
fn parse_stat(text: &str) -> Option<(u64, char)> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.nth(18)?.parse().ok()?, state))
}

/// Starts `command` as a daemon of `machine`: no terminal, output to the machine's log.
///
/// `listener` becomes descriptor 3 under systemd's rules (sd_listen_fds(3)): a socket of another network namespace.
pub(crate) fn start(
    cluster: &Cluster,
    machine: Machine,
    command: &Command,
    listener: Option<OwnedFd>,
) -> Result<Process> {
    let mut daemon = match &listener {
        Some(_) => with_listener(command),
        None => copy_of(command),
    };
    daemon.stdin(listener.map_or_else(Stdio::null, Stdio::from));
    let log = cluster.log(machine);
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir)?;
    }
    let out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .with_context(|| format!("{} cannot be written", log.display()))?;
    daemon.stderr(out.try_clone()?).stdout(out).current_dir("/");
    join_before_exec(&mut daemon, cluster, machine)?;
    let program = Path::new(command.get_program()).display().to_string();
    let child = daemon.spawn().with_context(|| format!("{program} cannot be started as {machine}"))?;
    let pid = i32::try_from(child.id()).context("a process number out of range")?;
    Process::now(&machine.to_string(), pid)
        .with_context(|| format!("{program} ended at once; see {}", log.display()))
}

fn copy_of(command: &Command) -> Command {
    let mut copy = Command::new(command.get_program());
    copy.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => copy.env(name, value),
            None => copy.env_remove(name),
        };
    }
    copy
}

/// `LISTEN_PID` must be the daemon's own number, which only the shell that becomes the daemon knows.
fn with_listener(command: &Command) -> Command {
    let script = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Lets the child join the machine's cgroups and network namespace and leave this session, before it becomes the program.
fn join_before_exec(daemon: &mut Command, cluster: &Cluster, machine: Machine) -> Result<()> {
    let netns = namespace::open(&cluster.netns(machine))?;
    let mut joins = open_all(&cgroup::create(&cluster.cgroup(machine))?)?;
    // SAFETY: between fork and exec only write, setns and setsid run, which are async-signal-safe; all descriptors and
    // buffers are made before the fork.
    unsafe {
        daemon.pre_exec(move || {
            for file in &mut joins {
                // "0" is the writing process itself (cgroups(7)).
                file.write_all(b"0")?;
            }
            setns(&netns, CloneFlags::CLONE_NEWNET)?;
            setsid()?;
            Ok(())
        });
    }
    Ok(())
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<File>> {
    paths
        .iter()
        .map(|path| {
            OpenOptions::new()
                .write(true)
                .open(path)
                .with_context(|| format!("{} cannot be opened", path.display()))
        })
        .collect()
}

/// Makes the calling process one of `machine`: its cgroups and its network namespace.
pub(crate) fn become_part_of(cluster: &Cluster, machine: Machine) -> Result<()> {
    for path in cgroup::create(&cluster.cgroup(machine))? {
        fs::write(&path, "0").with_context(|| format!("{} cannot be joined", path.display()))?;
    }
    namespace::enter(&cluster.netns(machine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat_whatever_the_name_holds() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 10 20";
        assert_eq!(parse_stat(text), Some((987_654, 'S')));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process::now("sleep", pid).unwrap();
        assert!(process.is_alive());
        let other = Process { start_ticks: process.start_ticks + 1, ..process.clone() };
        assert!(!other.is_alive());
        other.signal(Signal::SIGKILL);
        assert!(process.is_alive(), "a later process of the same number is left alone");
        process.signal(Signal::SIGKILL);
        child.wait().unwrap();
        assert!(!process.is_alive());
    }
}
