//! The Node object as this agent registers it, and its status.

use std::net::IpAddr;

use serde_json::{Value, json};

/// What the machine is; read once at start.
#[derive(Clone, Debug)]
pub(crate) struct MachineFacts {
    pub(crate) cpus: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    pub(crate) machine_id: String,
    pub(crate) boot_id: String,
}

impl MachineFacts {
    /// Asks the kernel and /etc. What cannot be read is left empty or 0; a Node may lack it.
    pub(crate) fn read(data_dir: &std::path::Path) -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let memory_kib = text("/proc/meminfo")
            .lines()
            .find_map(|line| {
                line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
            })
            .unwrap_or(0);
        let os_image = text("/etc/os-release")
            .lines()
            .find_map(|line| Some(line.strip_prefix("PRETTY_NAME=")?.trim_matches('"').to_owned()))
            .unwrap_or_default();
        let disk = nix::sys::statvfs::statvfs(data_dir).map_or(0, |fs| fs.blocks() * fs.fragment_size());
        Self {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_kib * 1024,
            disk_bytes: disk,
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image,
            machine_id: text("/etc/machine-id"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
        }
    }
}

/// What the status says of this moment.
pub(crate) struct Moment<'a> {
    pub(crate) node: &'a str,
    pub(crate) addresses: &'a [IpAddr],
    pub(crate) pods_max: u32,
    /// Why Pods cannot be run now; empty when they can.
    pub(crate) not_ready: &'a str,
    /// RFC 3339.
    pub(crate) now: &'a str,
    /// When `not_ready` last began or ended, RFC 3339.
    pub(crate) changed: &'a str,
    /// Names and sizes of images.
    pub(crate) images: &'a [(String, u64)],
}

/// The Node object a new node registers with: no Pods before the first status.
pub(crate) fn registration(node: &str, labels: &[(String, String)], status: &Value) -> Value {
    let mut all = serde_json::Map::new();
    for (key, value) in [
        ("kubernetes.io/hostname", node),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ] {
        all.insert(key.to_owned(), value.into());
    }
    for (key, value) in labels {
        all.insert(key.clone(), value.clone().into());
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node, "labels": all },
        "spec": {},
        "status": status,
    })
}

/// `status` of the Node.
pub(crate) fn status(facts: &MachineFacts, moment: &Moment<'_>) -> Value {
    let capacity = json!({
        "cpu": facts.cpus.to_string(),
        "memory": format!("{}Ki", facts.memory_bytes / 1024),
        "ephemeral-storage": format!("{}Ki", facts.disk_bytes / 1024),
        "pods": moment.pods_max.to_string(),
    });
    let mut addresses: Vec<Value> = moment
        .addresses
        .iter()
        .map(|ip| json!({ "type": "InternalIP", "address": ip.to_string() }))
        .collect();
    addresses.push(json!({ "type": "Hostname", "address": moment.node }));
    let version = concat!("v1.33.0+weft-", env!("CARGO_PKG_VERSION"));
    json!({
        "capacity": capacity,
        "allocatable": capacity,
        "addresses": addresses,
        "conditions": conditions(moment),
        "images": moment.images.iter().map(|(name, bytes)| json!({ "names": [name], "sizeBytes": bytes })).collect::<Vec<_>>(),
        "daemonEndpoints": { "kubeletEndpoint": { "Port": 0 } },
        "nodeInfo": {
            "architecture": architecture(),
            "bootID": facts.boot_id,
            "containerRuntimeVersion": concat!("weft://", env!("CARGO_PKG_VERSION")),
            "kernelVersion": facts.kernel,
            "kubeProxyVersion": "",
            "kubeletVersion": version,
            "machineID": facts.machine_id,
            "operatingSystem": "linux",
            "osImage": facts.os_image,
            "systemUUID": facts.machine_id,
        },
    })
}

fn conditions(moment: &Moment<'_>) -> Value {
    let condition = |type_: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": type_,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": moment.now,
            "lastTransitionTime": moment.changed,
        })
    };
    let ready = if moment.not_ready.is_empty() {
        condition("Ready", "True", "AgentReady", "weft-agent is ready and its dataplane is attached")
    } else {
        condition("Ready", "False", "AgentNotReady", moment.not_ready)
    };
    json!([ready])
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> MachineFacts {
        MachineFacts {
            cpus: 2,
            memory_bytes: 4 << 30,
            disk_bytes: 1 << 30,
            kernel: "6.18".into(),
            os_image: "Debian".into(),
            machine_id: String::new(),
            boot_id: String::new(),
        }
    }

    #[test]
    fn a_reason_makes_the_node_not_ready() {
        let mut moment = Moment {
            node: "node-1",
            addresses: &["192.0.2.1".parse().unwrap()],
            pods_max: 110,
            not_ready: "",
            now: "2026-01-01T00:00:00Z",
            changed: "2026-01-01T00:00:00Z",
            images: &[],
        };
        let ready = status(&facts(), &moment);
        assert_eq!(ready["conditions"][0]["status"], "True");
        assert_eq!(ready["addresses"][0]["address"], "192.0.2.1");
        assert_eq!(ready["capacity"]["memory"], "4194304Ki");
        moment.not_ready = "the dataplane is not attached";
        assert_eq!(status(&facts(), &moment)["conditions"][0]["message"], "the dataplane is not attached");
    }

    #[test]
    fn the_operators_labels_are_registered() {
        let node = registration("node-1", &[("zone".into(), "a".into())], &json!({}));
        assert_eq!(node["metadata"]["labels"]["zone"], "a");
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "node-1");
    }
}
