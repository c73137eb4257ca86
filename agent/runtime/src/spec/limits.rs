//! What the agent itself may do, since it can hand on no more: capabilities, and how far it may lower the OOM score.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::{Value, json};

/// Names of the capabilities by their number (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
/// Number of `CAP_SYS_RESOURCE`.
const SYS_RESOURCE: u32 = 24;

/// The agent's own bounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// The bounding set, `CAP_…`.
    pub(crate) capabilities: Vec<String>,
    /// The lowest OOM score that may be set.
    pub(crate) oom_score_adj_min: i32,
}

impl Limits {
    /// Reads this process's bounds.
    pub(crate) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        Self::parse(&status, own.trim().parse().unwrap_or(0))
    }

    fn parse(status: &str, own_oom_score_adj: i32) -> Self {
        let mask = status
            .lines()
            .find_map(|l| l.strip_prefix("CapBnd:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        let has = |bit: u32| mask >> bit & 1 == 1;
        let names = NAMES.iter().zip(0..).filter(|(_, bit)| has(*bit)).map(|(n, _)| format!("CAP_{n}"));
        Self {
            capabilities: names.collect(),
            oom_score_adj_min: if has(SYS_RESOURCE) { -1000 } else { own_oom_score_adj },
        }
    }

    /// The wanted OOM score, or the nearest that is allowed.
    pub(crate) fn oom_score_adj(&self, wanted: i32) -> i32 {
        wanted.clamp(self.oom_score_adj_min, 1000)
    }
}

/// The node's devices, for privileged containers.
pub(crate) fn host_devices() -> Vec<Value> {
    let mut found = Vec::new();
    for dir in ["/dev", "/dev/net", "/dev/mapper"] {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if let Some(device) = device(&entry.path()) {
                found.push(device);
            }
        }
    }
    found
}

fn device(path: &Path) -> Option<Value> {
    let meta = fs::symlink_metadata(path).ok()?;
    let kind = meta.file_type();
    let letter = if kind.is_char_device() {
        "c"
    } else if kind.is_block_device() {
        "b"
    } else {
        return None;
    };
    let (major, minor) = (nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev()));
    // Consoles are made by the OCI runtime; the others would be copies of the node's.
    let console = matches!(path.to_str(), Some("/dev/console" | "/dev/tty" | "/dev/ptmx"));
    if console || (major, minor) == (0, 0) {
        return None;
    }
    Some(json!({
        "path": path, "type": letter, "major": major, "minor": minor, "fileMode": meta.mode() & 0o777,
        "uid": meta.uid(), "gid": meta.gid(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounding_set_bounds() {
        let limits = Limits::parse("CapBnd:\t000001fffeffffff\n", 200);
        assert_eq!(limits.capabilities.len(), 40);
        assert!(!limits.capabilities.iter().any(|c| c == "CAP_SYS_RESOURCE"));
        assert_eq!(limits.oom_score_adj(-997), 200);
        assert_eq!(limits.oom_score_adj(1000), 1000);
        assert_eq!(Limits::parse("CapBnd:\t000001ffffffffff\n", 0).oom_score_adj(-997), -997);
    }
}
