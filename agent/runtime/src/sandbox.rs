//! A Pod's own part: cgroup, namespaces, network, volumes, shim. Making it again changes nothing that works.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use weft_api::view::Pod;

use crate::namespace::{self, NamespaceError, Wanted};
use crate::node::{Node, Place};
use crate::outside::{Attach, Dns, PodRef, Refusal};
use crate::pause::{self, PauseError};
use crate::refusal::refusal;
use crate::shim::start::{self, ShimStartError};
use crate::shim::task::{Task, TaskError};
use crate::volume::{Tokens, VolumeError, Volumes, mount_tmpfs};

/// Name servers and search domains that resolvers read.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
/// Bytes of a Pod's own files in memory: bundles, FIFOs, the shim's log.
const RUN_BYTES_MAX: u64 = 64 << 20;
/// Bytes that a Pod's containers share as `/dev/shm`.
const SHARED_MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Why a Pod has no sandbox (yet).
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error("the pod is not run: {0}")]
    Refused(String),
    #[error("cgroup {}: {source}", path.display())]
    Cgroup {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{error}{}", cause(error))]
    Namespace { error: NamespaceError },
    #[error("network: {0}")]
    Network(#[source] Refusal),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Shim(#[from] ShimStartError),
    #[error(transparent)]
    Task(#[from] TaskError),
    #[error(transparent)]
    Pause(#[from] PauseError),
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map(|e| format!(": {e}")).unwrap_or_default()
}

/// A sandbox that is ready.
#[derive(Clone)]
pub(crate) struct Ready {
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) task: Task,
    pub(crate) shim: String,
}

/// Makes the sandbox. `known` are the addresses it had, `shim` the connection to the shim it has.
pub(crate) async fn prepare(
    node: &Node,
    pod: &Pod,
    pod_ref: &PodRef,
    known: &[IpAddr],
    shim: Option<(Task, String)>,
    tokens: &mut Tokens,
) -> Result<Ready, SandboxError> {
    if let Some(reason) = refusal(pod, node.host) {
        return Err(SandboxError::Refused(reason));
    }
    let place = node.place(&pod_ref.uid);
    directories(node, pod, &place)?;
    let hierarchies = &node.hierarchies;
    let cgroup_procs = hierarchies
        .make_pod(&place.cgroup)
        .map_err(|source| SandboxError::Cgroup { path: place.cgroup.clone(), source })?;
    let host_network = pod.spec.host_network;
    let wanted = Wanted {
        net: !host_network,
        ipc: !pod.spec.host_ipc,
        hostname: (!host_network).then(|| hostname(pod).to_owned()),
        sysctls: pod
            .spec
            .security_context
            .sysctls
            .iter()
            .map(|s| (s.name.clone(), s.value.clone()))
            .collect(),
    };
    let dir = place.namespaces();
    let made = tokio::task::spawn_blocking(move || namespace::make(&dir, &wanted)).await;
    made.map_err(|e| SandboxError::Io { path: place.namespaces(), source: io::Error::other(e) })?
        .map_err(|error| SandboxError::Namespace { error })?;
    let netns = netns(&place, pod);
    let request = Attach { pod: pod_ref, netns: &netns, host_network, spec: &pod.spec, known };
    let mut ips = node.network.attach(request).await.map_err(SandboxError::Network)?;
    if host_network && ips.is_empty() {
        ips.clone_from(&node.config.host_ips);
    }
    volumes(node, pod, pod_ref, &ips).prepare(tokens).await?;
    write_etc(&place.etc(), pod, &node.inputs.dns(), &ips)
        .map_err(|source| SandboxError::Io { path: place.etc(), source })?;
    let (task, shim) = match shim {
        Some(shim) => shim,
        None => {
            let address = start::start(&node.shim, &pod_ref.uid, &place.shim(), &cgroup_procs).await?;
            (Task::connect(&address).await?, address)
        }
    };
    if shares_processes(pod) {
        pause::ensure(node, &task, &place, &pod_ref.uid).await?;
    }
    Ok(Ready { ips, task, shim })
}

/// Whether the Pod's containers see each other's processes, and nobody else's.
pub(crate) fn shares_processes(pod: &Pod) -> bool {
    pod.spec.share_process_namespace && !pod.spec.host_pid
}

/// Makes the Pod's directories. What lies in the one that needs no reboot to survive never reaches a disk.
fn directories(node: &Node, pod: &Pod, place: &Place) -> Result<(), SandboxError> {
    let fail = |path: &Path| {
        let path = path.to_path_buf();
        move |source| SandboxError::Io { path, source }
    };
    for dir in [&place.data, &place.run, &place.etc()] {
        fs::create_dir_all(dir).map_err(fail(dir))?;
    }
    let in_memory = statfs(&node.config.run_dir).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC);
    if !in_memory {
        mount_tmpfs(&place.run, RUN_BYTES_MAX, 0o700).map_err(fail(&place.run))?;
    }
    if !pod.spec.host_ipc {
        let shared = place.shared_memory();
        mount_tmpfs(&shared, SHARED_MEMORY_BYTES_MAX, 0o1777).map_err(fail(&shared))?;
    }
    Ok(())
}

/// The Pod's network namespace as a file.
pub(crate) fn netns(place: &Place, pod: &Pod) -> PathBuf {
    if pod.spec.host_network { PathBuf::from("/proc/self/ns/net") } else { place.namespaces().join("net") }
}

/// The Pod's volumes.
pub(crate) fn volumes<'a>(
    node: &'a Node,
    pod: &'a Pod,
    pod_ref: &'a PodRef,
    ips: &'a [IpAddr],
) -> Volumes<'a> {
    let place = node.place(&pod_ref.uid);
    Volumes {
        pod,
        pod_ref,
        inputs: node.inputs.as_ref(),
        here: node.here(ips),
        disk: place.volumes(),
        memory: place.memory(),
    }
}

/// Removes everything of the Pod: no process of it may be left.
pub(crate) async fn remove(
    node: &Node,
    pod_ref: &PodRef,
    shim: Option<(Task, String)>,
) -> Result<(), SandboxError> {
    release(node, pod_ref, shim).await?;
    let data = node.place(&pod_ref.uid).data;
    let at = data.clone();
    let removed = tokio::task::spawn_blocking(move || remove_dir(&at));
    removed.await.map_err(|e| SandboxError::Io { path: data, source: io::Error::other(e) })?
}

/// Gives back all that a Pod needs only while it runs; its record and its logs stay.
pub(crate) async fn release(
    node: &Node,
    pod_ref: &PodRef,
    shim: Option<(Task, String)>,
) -> Result<(), SandboxError> {
    let place = node.place(&pod_ref.uid);
    pause::remove(node, shim.as_ref().map(|(task, _)| task), &place, &pod_ref.uid).await;
    if let Some((task, address)) = shim {
        if let Err(error) = task.shutdown(&pod_ref.uid).await {
            tracing::warn!(pod = %pod_ref, %error, "shim did not end when asked; its cgroup will");
        }
        // A shim that was killed leaves its socket; one that ended well has removed it.
        let _ = fs::remove_file(address.trim_start_matches("unix://"));
    }
    node.network.detach(pod_ref).await.map_err(SandboxError::Network)?;
    let (hierarchies, at) = (node.hierarchies.clone(), place.clone());
    let removed = tokio::task::spawn_blocking(move || {
        for bundle in fs::read_dir(at.run.join("c")).into_iter().flatten().flatten() {
            crate::container::unmount(&bundle.path());
        }
        for parts in fs::read_dir(at.run.join("parts")).into_iter().flatten().flatten() {
            crate::container::unmount_parts(&parts.path());
        }
        let _ = umount2(&at.shared_memory(), MntFlags::MNT_DETACH);
        namespace::remove(&at.namespaces());
        crate::volume::remove(&at.volumes(), &at.memory());
        let cgroup = hierarchies.remove(&at.cgroup);
        cgroup.map_err(|source| SandboxError::Cgroup { path: at.cgroup.clone(), source })?;
        // Mounted where `/run` is a disk.
        let _ = umount2(&at.run, MntFlags::MNT_DETACH);
        remove_dir(&at.run)
    });
    removed.await.map_err(|e| SandboxError::Io { path: place.run, source: io::Error::other(e) })?
}

fn remove_dir(dir: &Path) -> Result<(), SandboxError> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SandboxError::Io { path: dir.into(), source })
        }
        _ => Ok(()),
    }
}

/// The Pod's host name, at most 63 bytes.
pub(crate) fn hostname(pod: &Pod) -> &str {
    let name = if pod.spec.hostname.is_empty() { &pod.metadata.name } else { &pod.spec.hostname };
    name[..name.floor_char_boundary(63)].trim_end_matches(['-', '.'])
}

fn write_etc(dir: &Path, pod: &Pod, dns: &Dns, ips: &[IpAddr]) -> io::Result<()> {
    // In place: containers have these very files bound.
    fs::write(dir.join("hostname"), format!("{}\n", hostname(pod)))?;
    fs::write(dir.join("hosts"), hosts(pod, ips))?;
    let host = fs::read_to_string(&dns.host_resolv_conf).unwrap_or_default();
    fs::write(dir.join("resolv.conf"), resolv_conf(pod, dns, &host))
}

fn hosts(pod: &Pod, ips: &[IpAddr]) -> String {
    let mut text = if pod.spec.host_network {
        fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned()
    };
    if !pod.spec.host_network {
        for ip in ips {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{ip}\t{}", hostname(pod));
        }
    }
    for alias in &pod.spec.host_aliases {
        let _ = writeln!(text, "{}\t{}", alias.ip, alias.hostnames.join(" "));
    }
    text
}

fn resolv_conf(pod: &Pod, dns: &Dns, host: &str) -> String {
    let of = |word: &'static str| {
        let rest = move |l: &str| {
            l.trim().strip_prefix(word).map(|r| r.split_whitespace().map(str::to_owned).collect())
        };
        host.lines().filter_map(rest).collect::<Vec<Vec<String>>>()
    };
    let policy = pod.spec.dns_policy.as_str();
    let cluster = match policy {
        "Default" | "None" => false,
        "ClusterFirstWithHostNet" => true,
        _ => !pod.spec.host_network,
    } && !dns.nameservers.is_empty();
    let (mut servers, mut searches, mut options) = (Vec::new(), Vec::new(), Vec::new());
    if cluster {
        let (namespace, domain) = (&pod.metadata.namespace, &dns.domain);
        servers.extend(dns.nameservers.iter().map(ToString::to_string));
        searches.extend([format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()]);
        searches.extend(of("search ").into_iter().next_back().unwrap_or_default());
        options.push("ndots:5".to_owned());
    } else if policy != "None" {
        servers.extend(of("nameserver ").into_iter().flatten());
        searches.extend(of("search ").into_iter().next_back().unwrap_or_default());
        options.extend(of("options ").into_iter().flatten());
    }
    if let Some(own) = &pod.spec.dns_config {
        servers.extend(own.nameservers.iter().cloned());
        searches.extend(own.searches.iter().cloned());
        for option in &own.options {
            options.retain(|o| o.split(':').next() != Some(option.name.as_str()));
            options
                .push(option.value.as_ref().map_or(option.name.clone(), |v| format!("{}:{v}", option.name)));
        }
    }
    let mut text = String::new();
    for server in servers.iter().take(NAMESERVERS_MAX) {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !searches.is_empty() {
        searches.truncate(SEARCHES_MAX);
        let _ = writeln!(text, "search {}", searches.join(" "));
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_follows_the_policy() {
        let pod = |spec: &str| -> Pod {
            serde_json::from_str(&format!(r#"{{"metadata":{{"name":"p","namespace":"n"}},"spec":{spec}}}"#))
                .unwrap()
        };
        let dns = Dns {
            nameservers: vec!["10.96.0.10".parse().unwrap()],
            domain: "cluster.local".into(),
            host_resolv_conf: PathBuf::new(),
        };
        let host = "nameserver 192.0.2.1\nsearch example.org\n";
        assert_eq!(
            resolv_conf(&pod("{}"), &dns, host),
            "nameserver 10.96.0.10\nsearch n.svc.cluster.local svc.cluster.local cluster.local example.org\noptions ndots:5\n"
        );
        let by_host = "nameserver 192.0.2.1\nsearch example.org\n";
        assert_eq!(resolv_conf(&pod(r#"{"hostNetwork":true}"#), &dns, host), by_host);
        assert_eq!(resolv_conf(&pod(r#"{"dnsPolicy":"Default"}"#), &dns, host), by_host);
        let own = r#"{"dnsPolicy":"None","dnsConfig":{"nameservers":["192.0.2.9"],"options":[{"name":"ndots","value":"2"}]}}"#;
        assert_eq!(resolv_conf(&pod(own), &dns, host), "nameserver 192.0.2.9\noptions ndots:2\n");
    }
}
