//! `remove`: ends the Pods of a node whose agent was stopped for good, and takes its programs, tables and devices out of the
//! kernel. Needs no control plane: what is there stands in the records of the agent before.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use weft_dataplane::{Dataplane, desired};
use weft_runtime::{Answer, Attach, Network, PodRef, Refusal, Report, Reports, Runtime};

use crate::api::answer::chain;
use crate::assemble;
use crate::knowledge::Knowledge;

/// How often is looked whether the Pods have ended.
const LOOK: Duration = Duration::from_millis(100);
/// What the agent keeps on disk beside its leases of addresses, which go with the Pods.
const STATE: [&str; 4] = ["identity", "runtime", "view", "view.new"];
/// What it keeps in memory.
const RUNNING: [&str; 4] = ["runtime", "dataplane", "agent.sock", "cipher.sock"];

/// What goes, and where it lies; the same defaults as `run`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Raw {
    /// Remove the node's state too: its identity, images, logs and volumes
    #[arg(long)]
    data: bool,
    /// How long the Pods may take to end, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    wait_s: u64,
    /// As given to `run`
    #[arg(long, env = "WEFT_DATA_DIR", value_name = "DIR", default_value = "/var/lib/weft")]
    data_dir: PathBuf,
    /// As given to `run`
    #[arg(long, env = "WEFT_RUN_DIR", value_name = "DIR", default_value = "/run/weft")]
    run_dir: PathBuf,
    /// As given to `run`
    #[arg(long, env = "WEFT_BPFFS", value_name = "DIR", default_value = "/sys/fs/bpf/weft")]
    bpffs: PathBuf,
    /// As given to `run`
    #[arg(long, env = "WEFT_CGROUP_ROOT", value_name = "PATH")]
    cgroup_root: Option<PathBuf>,
    /// As given to `run` [default: RUN_DIR/agent.sock]
    #[arg(long, env = "WEFT_AGENT_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// As given to `run`
    #[arg(long, env = "WEFT_SHIM", value_name = "PROGRAM", default_value = "containerd-shim-runc-v2")]
    shim: PathBuf,
    /// As given to `run`
    #[arg(long, env = "WEFT_OCI_RUNTIME", value_name = "PROGRAM", default_value = "runc")]
    oci_runtime: PathBuf,
}

impl Raw {
    /// As `run` has it: relative to each hierarchy's root, empty for the root itself.
    fn cgroup(&self) -> PathBuf {
        let path = self.cgroup_root.clone().unwrap_or_default();
        path.strip_prefix("/").map(Path::to_owned).unwrap_or(path)
    }
}

/// Why something of the node is left. What was removed before stays removed; the same command goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoveError {
    #[error("an agent runs here and answers on {0}: `systemctl stop weft-agent` first")]
    AgentRuns(PathBuf),
    #[error("the pods cannot be ended")]
    Runtime(#[from] weft_runtime::StartError),
    #[error("{pods} pods did not end within {wait_s} s; the same command goes on waiting{}", .said.as_ref().map(|said| format!(" ({said})")).unwrap_or_default())]
    PodsLeft { pods: usize, wait_s: u64, said: Option<String> },
    #[error("programs and devices cannot be removed")]
    Dataplane(#[from] weft_dataplane::StartError),
    #[error("{path} cannot be removed")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// [`run`] as a program: says what went wrong.
pub(crate) fn main(raw: &Raw) -> ExitCode {
    // What volumes of Pods that end do not get is no news.
    crate::log::to_stderr(false, "warn,weft_runtime::volume=error");
    let Err(error) = run(raw) else { return ExitCode::SUCCESS };
    eprintln!("weft-agent: {}", chain(&error));
    ExitCode::FAILURE
}

/// Removes the node from its machine.
///
/// # Errors
/// An agent runs, a Pod does not end in time, or the kernel keeps something.
#[tokio::main]
async fn run(raw: &Raw) -> Result<(), RemoveError> {
    let socket = raw.socket.clone().unwrap_or_else(|| raw.run_dir.join("agent.sock"));
    if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        return Err(RemoveError::AgentRuns(socket));
    }
    end_pods(raw).await?;
    let nobody = desired::Node::default();
    let mut places = weft_dataplane::Config::new(nobody, PathBuf::new());
    places.bpffs_dir = raw.bpffs.clone();
    places.state_dir = raw.run_dir.join("dataplane");
    crate::cipher::end(&raw.run_dir).await;
    Dataplane::remove_everything(&places).await?;
    println!("remove: programs, tables and devices are gone");
    let group = assemble::pods_cgroup(&raw.cgroup());
    weft_runtime::cgroup::remove(&group).map_err(|source| RemoveError::File { path: group, source })?;
    // Whoever has no Pods has no leases.
    remove(&raw.data_dir, &["addresses.json", "addresses.new"])?;
    remove(&raw.run_dir, &RUNNING)?;
    if raw.data {
        remove(&raw.data_dir, &STATE)?;
        println!("remove: the state in {} is gone", raw.data_dir.display());
    } else if raw.data_dir.join("identity").exists() {
        println!("remove: the state in {} stays; --data removes it too", raw.data_dir.display());
    }
    Ok(())
}

/// Asks every Pod on record to end, each with its own grace, and waits.
async fn end_pods(raw: &Raw) -> Result<(), RemoveError> {
    let records = raw.data_dir.join("runtime/pods");
    let pods = left(&records);
    if pods == 0 {
        return Ok(());
    }
    println!("remove: {pods} Pods end");
    let logger = assemble::logger().map_err(|source| RemoveError::File { path: records.clone(), source })?;
    let mut settings = assemble::runtime_places("", &raw.data_dir, &raw.run_dir, &raw.cgroup(), logger);
    settings.shim = raw.shim.clone();
    settings.oci_runtime = raw.oci_runtime.clone();
    // With nobody there to answer, what Pods that end would still ask for is refused at once.
    let (knowledge, _) = Knowledge::new("/etc/resolv.conf".into());
    let runtime = Runtime::start(settings, Arc::new(Detached), Arc::new(knowledge)).await?;
    let deadline = Instant::now() + Duration::from_secs(raw.wait_s);
    let reports = runtime.reports();
    let mut said = None;
    loop {
        // A complete set that is empty: nothing is wanted.
        runtime.set_pods(Vec::new(), true);
        match left(&records) {
            0 => break,
            pods if Instant::now() >= deadline => {
                return Err(RemoveError::PodsLeft { pods, wait_s: raw.wait_s, said });
            }
            _ => {
                let complaint = tokio::time::timeout(LOOK, complaint(&reports)).await;
                said = complaint.ok().or(said);
            }
        }
    }
    println!("remove: no Pod is left");
    Ok(())
}

/// The next complaint of a Pod that cannot be ended.
async fn complaint(reports: &Reports) -> String {
    loop {
        if let Report::Event(event) = reports.next().await
            && event.reason == "FailedKillPod"
        {
            return event.message;
        }
    }
}

/// Pods on record.
fn left(records: &Path) -> usize {
    fs::read_dir(records).map_or(0, |entries| entries.flatten().count())
}

/// Removes entries of a directory that others use too, and the directory when nothing is left in it.
fn remove(dir: &Path, names: &[&str]) -> Result<(), RemoveError> {
    for name in names {
        let path = dir.join(name);
        let removed = match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(RemoveError::File { path, source });
            }
            _ => {}
        }
    }
    // Not empty and not there are both well: a control plane may keep its state in it.
    let _others = fs::remove_dir(dir);
    Ok(())
}

/// A network that only forgets: the devices go with the Pods' namespaces, the rows with the tables.
struct Detached;

impl Network for Detached {
    fn attach<'a>(&'a self, request: Attach<'a>) -> Answer<'a, Result<Vec<IpAddr>, Refusal>> {
        Box::pin(async move { Ok(request.known.to_vec()) })
    }

    fn detach<'a>(&'a self, _pod: &'a PodRef) -> Answer<'a, Result<(), Refusal>> {
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        raw: Raw,
    }

    #[test]
    fn without_flags_it_is_the_node_of_an_installed_package() {
        let raw = Cli::parse_from(["x"]).raw;
        assert_eq!(assemble::pods_cgroup(&raw.cgroup()), Path::new("/weft-pods"));
        assert_eq!(
            (raw.data, raw.data_dir, raw.run_dir),
            (false, "/var/lib/weft".into(), "/run/weft".into())
        );
        let raw = Cli::parse_from(["x", "--cgroup-root", "/a/node-1"]).raw;
        assert_eq!(assemble::pods_cgroup(&raw.cgroup()), Path::new("/a/node-1/weft-pods"));
    }

    #[test]
    fn what_is_not_the_agents_stays() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["identity", "runtime/images", "control"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("view"), "x").unwrap();
        remove(dir.path(), &STATE).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["control"], "a control plane on the same machine keeps its state");
        fs::remove_dir(dir.path().join("control")).unwrap();
        remove(dir.path(), &STATE).unwrap();
        assert!(!dir.path().exists());
    }

    #[test]
    fn a_running_agent_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let run_dir = dir.path().to_string_lossy().into_owned();
        let raw = Cli::parse_from(["x", "--run-dir", &run_dir, "--data-dir", &run_dir]).raw;
        assert!(matches!(run(&raw), Err(RemoveError::AgentRuns(at)) if at == socket));
        assert!(socket.exists());
    }
}
