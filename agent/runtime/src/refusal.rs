//! What a Pod asks for and this node cannot give: what would make it less safe than it was meant to be is refused, what only
//! has no effect is said. Nothing is passed over in silence. Pure.

use std::path::Path;

use weft_api::view::Pod;
use weft_api::view::pod::{Container, Profile};

/// Sysctls that stay within a Pod's namespaces and cost nobody else anything: the safe set of the Kubernetes documentation
/// ("Using sysctls in a Kubernetes Cluster"). Those of a network namespace.
const SYSCTLS_NET: [&str; 11] = [
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];
/// Those of an IPC namespace.
const SYSCTLS_IPC: [&str; 1] = ["kernel.shm_rmid_forced"];
/// How AppArmor profiles were asked for before there was a field.
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// What the machine's kernel enforces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Host {
    /// SELinux labels processes.
    pub(crate) selinux: bool,
}

impl Host {
    /// Looks at the kernel.
    pub(crate) fn read() -> Self {
        Self { selinux: Path::new("/sys/fs/selinux/enforce").exists() }
    }
}

/// Why the Pod may not run here; `None` if it may.
pub(crate) fn refusal(pod: &Pod, host: Host) -> Option<String> {
    let spec = &pod.spec;
    if spec.host_users == Some(false) {
        return Some(
            "it asks for users of its own (hostUsers: false), which this node does not make".to_owned(),
        );
    }
    if !spec.runtime_class_name.is_empty() {
        return Some(format!("there is no runtime class \"{}\" on this node", spec.runtime_class_name));
    }
    let common = &spec.security_context;
    if !matches!(common.supplemental_groups_policy.as_str(), "" | "Merge" | "Strict") {
        return Some(format!("supplementalGroupsPolicy {} is not known", common.supplemental_groups_policy));
    }
    let of_pod = profiles(common.seccomp_profile.as_ref(), common.app_armor_profile.as_ref());
    of_pod
        .or_else(|| sysctl(pod))
        .or_else(|| annotated(pod))
        .or_else(|| label(pod).filter(|_| host.selinux))
        .or_else(|| containers(pod).find_map(container))
}

/// What has no effect, for the user to know.
pub(crate) fn without_effect(pod: &Pod, host: Host) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(text) = label(pod).filter(|_| !host.selinux) {
        all.push(format!("{text}; there is no SELinux on this node"));
    }
    for container in containers(pod) {
        let name = &container.name;
        if container.resources.limits.contains_key("ephemeral-storage") {
            all.push(format!("container {name}: limits.ephemeral-storage is not enforced"));
        }
    }
    for volume in &pod.spec.volumes {
        let bounded =
            volume.empty_dir.as_ref().is_some_and(|e| e.medium.is_empty() && e.size_limit.is_some());
        if bounded {
            all.push(format!("volume {}: sizeLimit is not enforced on disk", volume.name));
        }
    }
    all
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.init_containers.iter().chain(&pod.spec.containers)
}

fn container(container: &Container) -> Option<String> {
    let name = &container.name;
    let context = container.security_context.as_ref();
    let privileged = context.is_some_and(|c| c.privileged);
    let security = context.and_then(|c| {
        if c.proc_mount == "Unmasked" {
            return Some(
                "procMount: Unmasked needs users of its own, which this node does not make".to_owned(),
            );
        }
        profiles(c.seccomp_profile.as_ref(), c.app_armor_profile.as_ref())
    });
    let mounts = container.volume_mounts.iter().find_map(|m| match m.mount_propagation.as_str() {
        "Bidirectional" if !privileged => {
            Some(format!("mount {}: Bidirectional propagation is for privileged containers", m.mount_path))
        }
        "" | "None" | "HostToContainer" | "Bidirectional" => None,
        other => Some(format!("mount {}: propagation {other} is not known", m.mount_path)),
    });
    security.or(mounts).map(|why| format!("container {name}: {why}"))
}

fn profiles(seccomp: Option<&Profile>, apparmor: Option<&Profile>) -> Option<String> {
    let seccomp = seccomp.filter(|p| !matches!(p.type_.as_str(), "RuntimeDefault" | "Unconfined"));
    let apparmor = apparmor.filter(|p| p.type_ != "Unconfined");
    let named = |p: &Profile| format!("{} {}", p.type_, p.localhost_profile).trim_end().to_owned();
    seccomp
        .map(|p| format!("seccomp profile {} is not there; RuntimeDefault and Unconfined are", named(p)))
        .or_else(|| {
            apparmor.map(|p| format!("AppArmor profile {} cannot be enforced on this node", named(p)))
        })
}

fn annotated(pod: &Pod) -> Option<String> {
    let asked = pod.metadata.annotations.iter().find(|(key, value)| {
        key.starts_with(APPARMOR_ANNOTATION) && !matches!(value.as_str(), "" | "unconfined")
    });
    asked.map(|(_, profile)| format!("AppArmor profile {profile} cannot be enforced on this node"))
}

fn label(pod: &Pod) -> Option<String> {
    let own = |c: &Container| c.security_context.as_ref().is_some_and(|s| s.se_linux_options.is_some());
    let asked = pod.spec.security_context.se_linux_options.is_some() || containers(pod).any(own);
    asked.then(|| "seLinuxOptions are not applied".to_owned())
}

fn sysctl(pod: &Pod) -> Option<String> {
    let spec = &pod.spec;
    spec.security_context.sysctls.iter().find_map(|sysctl| {
        let name = sysctl.name.replace('/', ".");
        let (of_net, of_ipc) = (SYSCTLS_NET.contains(&name.as_str()), SYSCTLS_IPC.contains(&name.as_str()));
        match (of_net, of_ipc) {
            (false, false) => {
                Some(format!("sysctl {} is not in the set that is safe for others", sysctl.name))
            }
            (true, _) if spec.host_network => {
                Some(format!("sysctl {} would be the node's (hostNetwork)", sysctl.name))
            }
            (_, true) if spec.host_ipc => {
                Some(format!("sysctl {} would be the node's (hostIPC)", sysctl.name))
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: &Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap()
    }

    fn refused(spec: &Value) -> String {
        refusal(&pod(spec), Host::default()).unwrap_or_default()
    }

    #[test]
    fn what_cannot_be_enforced_is_refused() {
        let one = |context: Value| json!({ "containers": [{ "name": "c", "securityContext": context }] });
        assert!(refused(&json!({ "hostUsers": false })).contains("hostUsers"));
        assert!(refused(&json!({ "runtimeClassName": "kata" })).contains("kata"));
        let local = json!({ "type": "Localhost", "localhostProfile": "my.json" });
        assert!(
            refused(&one(json!({ "seccompProfile": local })))
                .contains("container c: seccomp profile Localhost my.json")
        );
        assert!(refused(&json!({ "securityContext": { "seccompProfile": local } })).contains("Localhost"));
        assert!(
            refused(&one(json!({ "appArmorProfile": { "type": "RuntimeDefault" } }))).contains("AppArmor")
        );
        assert!(refused(&one(json!({ "procMount": "Unmasked" }))).contains("procMount"));
        let both = json!({ "containers": [{ "name": "c", "volumeMounts": [{ "mountPath": "/m", "mountPropagation": "Bidirectional" }] }] });
        assert!(refused(&both).contains("privileged"));
        for good in ["RuntimeDefault", "Unconfined"] {
            assert_eq!(refused(&one(json!({ "seccompProfile": { "type": good } }))), "");
        }
        assert_eq!(refused(&one(json!({ "appArmorProfile": { "type": "Unconfined" } }))), "");
        let mut old = pod(&json!({}));
        old.metadata.annotations.insert(format!("{APPARMOR_ANNOTATION}c"), "runtime/default".into());
        assert!(refusal(&old, Host::default()).unwrap().contains("AppArmor"));
    }

    #[test]
    fn only_sysctls_of_the_pods_own_are_taken() {
        let spec = |name: &str| json!({ "securityContext": { "sysctls": [{ "name": name, "value": "1" }] } });
        for bad in [
            "kernel.core_pattern",
            "vm.overcommit_memory",
            "net/../kernel/core_pattern",
            "net.ipv4.ip_forward",
        ] {
            assert!(refused(&spec(bad)).contains(bad), "{bad}");
        }
        assert_eq!(refused(&spec("net.ipv4.tcp_syncookies")), "");
        assert_eq!(refused(&spec("net/ipv4/tcp_syncookies")), "");
        let mut host = spec("net.ipv4.tcp_syncookies");
        host["hostNetwork"] = json!(true);
        assert!(refused(&host).contains("hostNetwork"));
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let spec = json!({
            "securityContext": { "seLinuxOptions": { "level": "s0" } },
            "containers": [{ "name": "c", "resources": { "limits": { "ephemeral-storage": "1Gi" } } }],
            "volumes": [{ "name": "v", "emptyDir": { "sizeLimit": "1Mi" } }],
        });
        let said = without_effect(&pod(&spec), Host::default()).join("\n");
        assert!(
            said.contains("SELinux") && said.contains("ephemeral-storage") && said.contains("volume v"),
            "{said}"
        );
        assert_eq!(refused(&spec), "");
        assert!(refusal(&pod(&spec), Host { selinux: true }).unwrap().contains("seLinuxOptions"));
    }
}
