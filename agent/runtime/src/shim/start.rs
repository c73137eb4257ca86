//! Starts a Pod's shim: one process that is the parent of all the Pod's containers, in a session and a cgroup of its own,
//! so that it outlives the agent.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long a shim may take to say where it listens.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a shim's complaint that are shown.
const COMPLAINT_BYTES_MAX: usize = 512;

/// Which shim, for whom.
#[derive(Clone, Debug)]
pub(crate) struct ShimSettings {
    /// The shim's program.
    pub(crate) program: PathBuf,
    /// containerd namespace.
    pub(crate) namespace: String,
    /// Where containerd would listen for events. Nobody does: State and Wait are the truth. Part of the socket's name.
    pub(crate) events: PathBuf,
}

/// Why there is no shim.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShimStartError {
    #[error("cannot run {} (is containerd's shim installed?): {source}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot prepare {}: {source}", path.display())]
    Prepare {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the shim said nothing for {} s", START_PATIENCE.as_secs())]
    Silent,
    #[error("the shim failed: {0}")]
    Failed(String),
    #[error("the shim answered {0:?}, which is no address")]
    Address(String),
}

/// Starts the shim of Pod `id` with its working directory `dir`, within the cgroups whose `cgroup.procs` are given.
/// Answers the address of its socket.
pub(crate) async fn start(
    settings: &ShimSettings,
    id: &str,
    dir: &Path,
    cgroup_procs: &[PathBuf],
) -> Result<String, ShimStartError> {
    let prepare = |path: PathBuf| move |source| ShimStartError::Prepare { path, source };
    std::fs::create_dir_all(dir).map_err(prepare(dir.into()))?;
    std::fs::write(dir.join("config.json"), b"{}").map_err(prepare(dir.join("config.json")))?;
    // The shim opens this and dies without a word if it is missing.
    std::fs::File::create(dir.join("log")).map_err(prepare(dir.join("log")))?;
    let mut command = Command::new(&settings.program);
    command
        .current_dir(dir)
        .env("TTRPC_ADDRESS", &settings.events)
        .arg("-namespace")
        .arg(&settings.namespace)
        .arg("-address")
        .arg(&settings.events)
        .args(["-id", id, "start"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    place(&mut command, cgroup_procs);
    let child = command
        .spawn()
        .map_err(|source| ShimStartError::Spawn { program: settings.program.clone(), source })?;
    let output = tokio::time::timeout(START_PATIENCE, child.wait_with_output())
        .await
        .map_err(|_| ShimStartError::Silent)?
        .map_err(|source| ShimStartError::Spawn { program: settings.program.clone(), source })?;
    if !output.status.success() {
        let mut complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        complaint.truncate(complaint.floor_char_boundary(COMPLAINT_BYTES_MAX));
        return Err(ShimStartError::Failed(complaint));
    }
    address(&String::from_utf8_lossy(&output.stdout))
}

/// Older shims print the address alone, newer ones a JSON object.
fn address(answer: &str) -> Result<String, ShimStartError> {
    let answer = answer.trim();
    let found = if answer.starts_with('{') {
        let value: serde_json::Value =
            serde_json::from_str(answer).map_err(|_| ShimStartError::Address(answer.to_owned()))?;
        value["address"].as_str().map(str::to_owned)
    } else {
        Some(answer.to_owned())
    };
    found.filter(|a| a.starts_with("unix://")).ok_or_else(|| ShimStartError::Address(answer.to_owned()))
}

/// Makes the child leave the agent's session and cgroups before it becomes another program.
pub(crate) fn place(command: &mut Command, cgroup_procs: &[PathBuf]) {
    let files: Vec<CString> =
        cgroup_procs.iter().filter_map(|p| CString::new(p.as_os_str().as_bytes()).ok()).collect();
    let enter = move || {
        for file in &files {
            // SAFETY: async-signal-safe calls on a string and a buffer that live in the closure.
            unsafe {
                let fd = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                if fd < 0 || libc::write(fd, b"0".as_ptr().cast(), 1) != 1 {
                    return Err(io::Error::last_os_error());
                }
                libc::close(fd);
            }
        }
        // SAFETY: a system call without arguments; it fails only for a group's leader, which a new child is not.
        unsafe { libc::setsid() };
        Ok(())
    };
    // SAFETY: the closure allocates nothing, takes no lock and calls only async-signal-safe functions.
    unsafe { command.pre_exec(enter) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_answer_are_read() {
        assert_eq!(address("unix:///run/containerd/s/ab\n").unwrap(), "unix:///run/containerd/s/ab");
        let json = r#"{"version":3,"address":"unix:///run/containerd/s/cd","protocol":"ttrpc"}"#;
        assert_eq!(address(json).unwrap(), "unix:///run/containerd/s/cd");
        assert!(address("").is_err());
        assert!(address("{}").is_err());
    }
}
