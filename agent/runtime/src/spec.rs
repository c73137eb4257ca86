//! The OCI runtime specification of a container: what `config.json` says. Pure but for what the agent itself may do
//! ([`limits`]), which is read once.

pub(crate) mod environment;
pub(crate) mod fields;
pub(crate) mod limits;
pub(crate) mod resources;
pub(crate) mod seccomp;
pub(crate) mod user;

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use weft_api::view::pod::{Container, Pod};

use crate::image::RunConfig;
use limits::Limits;
use user::User;

/// What Docker and containerd grant when nobody asks.
const CAPABILITIES_DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A file or directory of the node that the container sees.
#[derive(Clone, Debug)]
pub(crate) struct Bind {
    pub(crate) source: PathBuf,
    pub(crate) target: String,
    /// Access and propagation, in the words of mount(8).
    pub(crate) options: [&'static str; 2],
}

impl Bind {
    /// Seen as it is now, whatever is mounted in it later.
    pub(crate) fn new(source: PathBuf, target: &str, read_only: bool) -> Self {
        let access = if read_only { "ro" } else { "rw" };
        Self { source, target: target.to_owned(), options: [access, "rprivate"] }
    }
}

/// All that makes a container, gathered.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) image: &'a RunConfig,
    pub(crate) user: User,
    /// `NAME=VALUE`.
    pub(crate) env: Vec<String>,
    /// Variables for `$(NAME)` in command and args.
    pub(crate) variables: &'a [(String, String)],
    pub(crate) binds: Vec<Bind>,
    /// Where the Pod's namespaces are pinned.
    pub(crate) namespaces: &'a Path,
    /// Path below each cgroup hierarchy.
    pub(crate) cgroup: &'a Path,
    pub(crate) limits: &'a Limits,
    pub(crate) cgroup_v2_only: bool,
}

/// Why a container cannot be described.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("no command specified: neither the container nor its image names one")]
    NoCommand,
    #[error("container has runAsNonRoot and image will run as root")]
    Root,
    #[error("{0}")]
    Resources(#[from] resources::ResourceError),
    #[error("container settings do not make an OCI specification: {0}")]
    Shape(#[from] serde_json::Error),
}

/// The specification.
pub(crate) fn build(parts: &Parts<'_>) -> Result<Spec, SpecError> {
    let spec = json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs", "readonly": security(parts).read_only },
        "process": process(parts)?,
        "mounts": mounts(parts),
        "linux": linux(parts)?,
    });
    Ok(serde_json::from_value(spec)?)
}

struct Security {
    privileged: bool,
    read_only: bool,
    no_new_privileges: bool,
}

fn security(parts: &Parts<'_>) -> Security {
    let context = parts.container.security_context.clone().unwrap_or_default();
    Security {
        privileged: context.privileged,
        read_only: context.read_only_root_filesystem,
        no_new_privileges: context.allow_privilege_escalation == Some(false) && !context.privileged,
    }
}

/// Whether the Pod's or the container's settings forbid UID 0.
fn must_not_be_root(parts: &Parts<'_>) -> bool {
    let own = parts.container.security_context.as_ref().and_then(|c| c.run_as_non_root);
    own.or(parts.pod.spec.security_context.run_as_non_root).unwrap_or(false)
}

fn process(parts: &Parts<'_>) -> Result<Value, SpecError> {
    if must_not_be_root(parts) && parts.user.uid == 0 {
        return Err(SpecError::Root);
    }
    let security = security(parts);
    let capabilities = capabilities(parts.container, parts.limits);
    let args = command(parts.container, parts.image, parts.variables)?;
    let image_dir = if parts.image.working_dir.is_empty() { "/" } else { &parts.image.working_dir };
    let cwd = if parts.container.working_dir.is_empty() { image_dir } else { &parts.container.working_dir };
    Ok(json!({
        "terminal": parts.container.tty,
        "user": { "uid": parts.user.uid, "gid": parts.user.gid, "additionalGids": parts.user.groups },
        "args": args,
        "env": parts.env,
        "cwd": cwd,
        "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": parts.limits.oom_score_adj(resources::oom_score_adj(parts.pod, parts.container)),
    }))
}

/// Entrypoint and arguments: `command` replaces both of the image's, `args` only its arguments.
pub(crate) fn command(
    container: &Container,
    image: &RunConfig,
    variables: &[(String, String)],
) -> Result<Vec<String>, SpecError> {
    let expand = |words: &[String]| -> Vec<String> {
        words.iter().map(|w| environment::expand(w, variables)).collect()
    };
    let entrypoint = image.entrypoint.clone().unwrap_or_default();
    let cmd = image.cmd.clone().unwrap_or_default();
    let args = match (container.command.is_empty(), container.args.is_empty()) {
        (true, true) => [entrypoint, cmd].concat(),
        (true, false) => [entrypoint, expand(&container.args)].concat(),
        (false, _) => [expand(&container.command), expand(&container.args)].concat(),
    };
    if args.is_empty() { Err(SpecError::NoCommand) } else { Ok(args) }
}

/// What is granted: the default, plus and minus what is asked, and never what the agent itself has not.
fn capabilities(container: &Container, limits: &Limits) -> Vec<String> {
    let context = container.security_context.clone().unwrap_or_default();
    if context.privileged {
        return limits.capabilities.clone();
    }
    let changes = context.capabilities.unwrap_or_default();
    let full = |name: &String| {
        let name = name.to_uppercase();
        if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    let (add, drop): (Vec<_>, Vec<_>) =
        (changes.add.iter().map(full).collect(), changes.drop.iter().map(full).collect());
    let all = |list: &[String]| list.iter().any(|n| n == "ALL");
    let wanted = |name: &String| {
        let by_default = CAPABILITIES_DEFAULT.contains(&name.as_str()) && !all(&drop);
        let added = add.contains(name) || (all(&add) && !drop.contains(name));
        added || (by_default && !drop.contains(name))
    };
    limits.capabilities.iter().filter(|n| wanted(n)).cloned().collect()
}

fn mounts(parts: &Parts<'_>) -> Value {
    let privileged = security(parts).privileged;
    let sys = if privileged { "rw" } else { "ro" };
    let mount = |target: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": source, "options": options });
    let mut all = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", sys]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", sys]),
    ];
    let replaced: Vec<&str> = parts.binds.iter().map(|b| b.target.as_str()).collect();
    all.retain(|m| !replaced.contains(&m["destination"].as_str().unwrap_or("")));
    // Parents before what lies in them.
    let mut binds: Vec<&Bind> = parts.binds.iter().collect();
    binds.sort_by_key(|b| b.target.matches('/').count());
    for bind in binds {
        let [access, propagation] = bind.options;
        let options = ["rbind", propagation, access];
        all.push(mount(&bind.target, "bind", &bind.source.to_string_lossy(), &options));
    }
    Value::Array(all)
}

fn linux(parts: &Parts<'_>) -> Result<Value, SpecError> {
    let spec = &parts.pod.spec;
    let privileged = security(parts).privileged;
    let pinned = |kind: &str, file: &str| json!({ "type": kind, "path": parts.namespaces.join(file) });
    let mut namespaces = vec![json!({ "type": "mount" })];
    if !spec.host_network {
        namespaces.push(pinned("network", "net"));
        namespaces.push(pinned("uts", "uts"));
    }
    if !spec.host_ipc {
        namespaces.push(pinned("ipc", "ipc"));
    }
    if spec.share_process_namespace && !spec.host_pid {
        namespaces.push(pinned("pid", "pid"));
    } else if !spec.host_pid {
        namespaces.push(json!({ "type": "pid" }));
    }
    if parts.cgroup_v2_only && !privileged {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    let mut resources = resources::resources(parts.container)?;
    resources["devices"] = json!([{ "allow": privileged, "access": "rwm" }]);
    let mut linux = json!({
        "cgroupsPath": parts.cgroup,
        "namespaces": namespaces,
        "resources": resources,
    });
    if privileged {
        linux["devices"] = json!(limits::host_devices());
    } else {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READ_ONLY);
    }
    if seccomp::is_asked(parts.pod, parts.container) {
        linux["seccomp"] = seccomp::profile(&capabilities(parts.container, parts.limits));
    }
    Ok(linux)
}

#[cfg(test)]
mod tests;
