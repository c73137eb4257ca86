//! The first process of a PID namespace that a Pod's containers share: it keeps the namespace and reaps orphans.
//!
//! It is a container of the Pod's shim whose image is one file of some 200 bytes, made here: nothing of the node is in
//! reach through `/proc/1/root`. The namespace is pinned as a file, like the Pod's others.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::container::run_id;
use crate::namespace;
use crate::node::{Node, Place};
use crate::shim::cleanup;
use crate::shim::task::{Streams, Task, TaskError, TaskStatus};

/// User and group of the process: nobody's.
const NOBODY: u32 = 65_535;
/// Where the program is in memory.
const LOAD_ADDRESS: u64 = 0x40_0000;
/// Bytes of an ELF header and of its one program header.
const HEADERS_BYTES: u64 = 64 + 56;

/// Ignores SIGCHLD, by which the kernel reaps its children itself, and waits for ever.
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[
    0xb8, 13, 0, 0, 0, // mov eax, 13 (rt_sigaction)
    0xbf, 17, 0, 0, 0, // mov edi, 17 (SIGCHLD)
    0x48, 0x8d, 0x35, 23, 0, 0, 0, // lea rsi, [rip + 23] (the struct below)
    0x31, 0xd2, // xor edx, edx
    0x41, 0xba, 8, 0, 0, 0, // mov r10d, 8 (bytes of a signal mask)
    0x0f, 0x05, // syscall
    0xb8, 34, 0, 0, 0, // mov eax, 34 (pause)
    0x0f, 0x05, // syscall
    0xeb, 0xf7, // jmp to the last mov
    0, 0, 0, 0, // padding
    1, 0, 0, 0, 0, 0, 0, 0, // handler SIG_IGN
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // flags, restorer, mask
];
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;

/// Ignores SIGCHLD, by which the kernel reaps its children itself, and waits for ever.
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[
    0xc8, 0x10, 0x80, 0xd2, // mov x8, 134 (rt_sigaction)
    0x20, 0x02, 0x80, 0xd2, // mov x0, 17 (SIGCHLD)
    0x81, 0x01, 0x00, 0x10, // adr x1, 48 further (the struct below)
    0x02, 0x00, 0x80, 0xd2, // mov x2, 0
    0x03, 0x01, 0x80, 0xd2, // mov x3, 8 (bytes of a signal mask)
    0x01, 0x00, 0x00, 0xd4, // svc 0
    0x28, 0x09, 0x80, 0xd2, // mov x8, 73 (ppoll)
    0x00, 0x00, 0x80, 0xd2, // mov x0, 0
    0x01, 0x00, 0x80, 0xd2, // mov x1, 0
    0x02, 0x00, 0x80, 0xd2, // mov x2, 0
    0x03, 0x00, 0x80, 0xd2, // mov x3, 0
    0x04, 0x00, 0x80, 0xd2, // mov x4, 0
    0x01, 0x00, 0x00, 0xd4, // svc 0
    0xf9, 0xff, 0xff, 0x17, // b to mov x8, 73
    1, 0, 0, 0, 0, 0, 0, 0, // handler SIG_IGN
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // flags, restorer, mask
];
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// Why there is no shared PID namespace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PauseError {
    #[error("cannot prepare {}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("shared process namespace: {0}")]
    Task(#[from] TaskError),
}

/// The id of the process at the shim.
pub(crate) fn id(uid: &str) -> String {
    run_id(uid, "", 0)
}

/// Where a Pod's shared PID namespace is pinned.
pub(crate) fn pin(place: &Place) -> PathBuf {
    place.namespaces().join("pid")
}

/// Makes the process unless it runs, and pins its namespace.
pub(crate) async fn ensure(node: &Node, task: &Task, place: &Place, uid: &str) -> Result<(), PauseError> {
    let (id, pin) = (id(uid), pin(place));
    let runs = matches!(task.state(&id).await, Ok(state) if state.status == TaskStatus::Running);
    if runs && namespace::is_pinned(&pin) {
        return Ok(());
    }
    remove(node, Some(task), place, uid).await;
    let bundle = place.bundle(&id);
    prepare(node, place, &bundle, &id)?;
    let created = task.create(&id, &bundle.to_string_lossy(), &Streams::default(), &node.oci_runtime).await;
    let pinned = match created {
        Ok(pid) => namespace::pin(&PathBuf::from(format!("/proc/{pid}/ns/pid")), &pin)
            .map_err(|source| PauseError::Io { path: pin, source }),
        Err(error) => Err(error.into()),
    };
    let started = match pinned {
        Ok(()) => task.start(&id, "").await.map(drop).map_err(PauseError::from),
        Err(error) => Err(error),
    };
    if started.is_err() {
        remove(node, Some(task), place, uid).await;
    }
    started
}

/// Ends the process and lets its namespace go, whatever is there of them.
pub(crate) async fn remove(node: &Node, task: Option<&Task>, place: &Place, uid: &str) {
    let id = id(uid);
    let bundle = place.bundle(&id);
    if !bundle.exists() {
        return;
    }
    namespace::release(&pin(place));
    let gone = match task {
        Some(task) => task.destroy(&id).await,
        None => false,
    };
    if !gone {
        cleanup::delete(&node.shim, &id, &bundle).await;
    }
    let _ = fs::remove_dir_all(&bundle);
}

fn prepare(node: &Node, place: &Place, bundle: &Path, id: &str) -> Result<(), PauseError> {
    let fail = |path: &Path| {
        let path = path.to_path_buf();
        move |source| PauseError::Io { path, source }
    };
    // Not in the bundle: `/run` is often mounted without the right to execute.
    let root = place.data.join("pause");
    let program = root.join("pause");
    fs::create_dir_all(root.join("proc")).map_err(fail(&root))?;
    fs::write(&program, elf()).map_err(fail(&program))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o555)).map_err(fail(&program))?;
    fs::create_dir_all(bundle).map_err(fail(bundle))?;
    let config = bundle.join("config.json");
    fs::write(&config, spec(node, &root, &place.cgroup.join(id)).to_string()).map_err(fail(&config))
}

fn spec(node: &Node, root: &Path, cgroup: &Path) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": root, "readonly": true },
        "process": {
            "args": ["/pause"], "cwd": "/", "user": { "uid": NOBODY, "gid": NOBODY },
            "noNewPrivileges": true, "oomScoreAdj": node.limits.oom_score_adj(-998),
        },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }],
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
        },
    })
}

/// The program: headers, and the code in one segment.
fn elf() -> Vec<u8> {
    let size = HEADERS_BYTES + CODE.len() as u64;
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // An executable of version 1: entry, program headers, section headers (none).
    out.extend([2_u16, MACHINE].iter().flat_map(|n| n.to_le_bytes()));
    out.extend(1_u32.to_le_bytes());
    out.extend([LOAD_ADDRESS + HEADERS_BYTES, 64, 0].iter().flat_map(|n: &u64| n.to_le_bytes()));
    out.extend(0_u32.to_le_bytes());
    out.extend([64_u16, 56, 1, 64, 0, 0].iter().flat_map(|n| n.to_le_bytes()));
    // To be loaded, readable and executable: the whole file.
    out.extend([1_u32, 5].iter().flat_map(|n| n.to_le_bytes()));
    out.extend(
        [0, LOAD_ADDRESS, LOAD_ADDRESS, size, size, 0x1000].iter().flat_map(|n: &u64| n.to_le_bytes()),
    );
    out.extend(CODE);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_runs_and_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        fs::write(&path, elf()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o555)).unwrap();
        let mut child = std::process::Command::new(&path).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(child.try_wait().unwrap(), None, "it waits");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let ignored = status.lines().find_map(|l| l.strip_prefix("SigIgn:")).unwrap().trim().to_owned();
        let mask = u64::from_str_radix(&ignored, 16).unwrap();
        assert_ne!(mask & (1 << (libc::SIGCHLD - 1)), 0, "it lets the kernel reap: {ignored}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
