//! Pod: what the scheduler, the loops and the node's runtime read of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::node::Condition;
use super::workload::LabelRequirement;
use crate::meta::{ObjectMeta, null_default};

mod security;
mod volume;

pub use security::{Capabilities, PodSecurityContext, Profile, SecurityContext, Sysctl};
pub use volume::{
    DownwardFile, DownwardVolume, EmptyDir, FilesOf, HostPath, KeyToPath, Projected, ProjectedSource,
    TokenSource, Volume,
};

/// `v1` Pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pod {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Desired state.
    pub spec: PodSpec,
    /// Observed state.
    pub status: PodStatus,
}

/// `spec` of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// The node it is bound to; empty until scheduled.
    pub node_name: String,
    /// Containers that run side by side.
    #[serde(deserialize_with = "null_default")]
    pub containers: Vec<Container>,
    /// Containers that run first, one after the other.
    #[serde(deserialize_with = "null_default")]
    pub init_containers: Vec<Container>,
    /// Volumes.
    #[serde(deserialize_with = "null_default")]
    pub volumes: Vec<Volume>,
    /// `Always` (default), `OnFailure`, `Never`.
    pub restart_policy: String,
    /// Seconds between SIGTERM and SIGKILL; unset means 30.
    pub termination_grace_period_seconds: Option<i64>,
    /// Seconds it may be active on its node.
    pub active_deadline_seconds: Option<i64>,
    /// Conditions that others set and that must be true too before it is Ready.
    #[serde(deserialize_with = "null_default")]
    pub readiness_gates: Vec<ReadinessGate>,
    /// `ClusterFirst` (default), `ClusterFirstWithHostNet`, `Default`, `None`.
    pub dns_policy: String,
    /// Additions to resolv.conf.
    pub dns_config: Option<DnsConfig>,
    /// Labels a node must have.
    #[serde(deserialize_with = "null_default")]
    pub node_selector: BTreeMap<String, String>,
    /// Node affinity and others.
    pub affinity: Option<Value>,
    /// Taints it bears.
    #[serde(deserialize_with = "null_default")]
    pub tolerations: Vec<Toleration>,
    /// How its siblings are to be spread.
    #[serde(deserialize_with = "null_default")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// ServiceAccount whose token it carries.
    pub service_account_name: String,
    /// Whether the token is mounted; unset: the ServiceAccount decides.
    pub automount_service_account_token: Option<bool>,
    /// Uses the node's network namespace.
    pub host_network: bool,
    /// Uses the node's PID namespace.
    #[serde(rename = "hostPID")]
    pub host_pid: bool,
    /// Uses the node's IPC namespace.
    #[serde(rename = "hostIPC")]
    pub host_ipc: bool,
    /// One PID namespace for all containers.
    pub share_process_namespace: bool,
    /// `false`: users of the Pod are others than the node's.
    pub host_users: Option<bool>,
    /// Another kind of runtime, such as a virtual machine; empty: the node's own.
    pub runtime_class_name: String,
    /// Hostname; empty: the Pod's name.
    pub hostname: String,
    /// Second part of the Pod's DNS name.
    pub subdomain: String,
    /// Whether `KUBERNETES_`-style Service variables are set; unset means yes.
    pub enable_service_links: Option<bool>,
    /// User, groups and sysctls for all containers.
    pub security_context: PodSecurityContext,
    /// Lines for /etc/hosts.
    #[serde(deserialize_with = "null_default")]
    pub host_aliases: Vec<HostAlias>,
    /// Secrets for pulling images.
    #[serde(deserialize_with = "null_default")]
    pub image_pull_secrets: Vec<LocalReference>,
    /// Who schedules it; empty: `default-scheduler`.
    pub scheduler_name: String,
    /// What must be taken away before it is scheduled, by name.
    #[serde(deserialize_with = "null_default")]
    pub scheduling_gates: Vec<LocalReference>,
    /// Priority.
    pub priority: Option<i32>,
}

/// A condition that counts for readiness.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ReadinessGate {
    /// Its type.
    pub condition_type: String,
}

/// A container of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// Name, unique in the Pod.
    pub name: String,
    /// Image reference.
    pub image: String,
    /// `Always`, `IfNotPresent`, `Never`.
    pub image_pull_policy: String,
    /// Replaces the image's entrypoint.
    #[serde(deserialize_with = "null_default")]
    pub command: Vec<String>,
    /// Replaces the image's command.
    #[serde(deserialize_with = "null_default")]
    pub args: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// Ports it serves; informative but for names and host ports.
    #[serde(deserialize_with = "null_default")]
    pub ports: Vec<ContainerPort>,
    /// Environment.
    #[serde(deserialize_with = "null_default")]
    pub env: Vec<EnvVar>,
    /// Environment from whole ConfigMaps and Secrets.
    #[serde(deserialize_with = "null_default")]
    pub env_from: Vec<EnvFrom>,
    /// Requests and limits.
    pub resources: Resources,
    /// Mounts.
    #[serde(deserialize_with = "null_default")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Kept alive by.
    pub liveness_probe: Option<Probe>,
    /// Takes traffic when.
    pub readiness_probe: Option<Probe>,
    /// Other probes wait for.
    pub startup_probe: Option<Probe>,
    /// Hooks around its life.
    pub lifecycle: Option<Lifecycle>,
    /// User, capabilities and so on.
    pub security_context: Option<SecurityContext>,
    /// Keeps stdin open.
    pub stdin: bool,
    /// Closes stdin after the first attach.
    pub stdin_once: bool,
    /// Allocates a terminal.
    pub tty: bool,
    /// File whose content becomes the termination message; default /dev/termination-log.
    pub termination_message_path: String,
    /// `File` (default) or `FallbackToLogsOnError`.
    pub termination_message_policy: String,
    /// `Always` makes an init container a sidecar.
    pub restart_policy: String,
}

/// A port of a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerPort {
    /// Name that Services may refer to.
    pub name: String,
    /// Port number.
    pub container_port: u16,
    /// Port on the node; 0 for none.
    pub host_port: u16,
    /// The node's address it is at; empty: all of them.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    /// `TCP` (default), `UDP`, `SCTP`.
    pub protocol: String,
}

/// One environment variable.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EnvVar {
    /// Name.
    pub name: String,
    /// Value; may refer to earlier ones as `$(NAME)`.
    pub value: String,
    /// Where the value comes from instead.
    pub value_from: Option<EnvSource>,
}

/// Where an environment variable's value comes from; one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EnvSource {
    /// A field of the Pod.
    pub field_ref: Option<FieldRef>,
    /// A container's request or limit.
    pub resource_field_ref: Option<ResourceFieldRef>,
    /// A ConfigMap's key.
    pub config_map_key_ref: Option<KeyRef>,
    /// A Secret's key.
    pub secret_key_ref: Option<KeyRef>,
}

/// A field of the Pod, dotted, for example `status.podIP`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FieldRef {
    /// Path.
    pub field_path: String,
}

/// A request or limit.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourceFieldRef {
    /// Container; empty: this one.
    pub container_name: String,
    /// For example `limits.memory`.
    pub resource: String,
    /// Unit of the output; empty: 1.
    pub divisor: Value,
}

/// A key of a ConfigMap or Secret.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct KeyRef {
    /// Object's name.
    pub name: String,
    /// Key in its data.
    pub key: String,
    /// Whether it may be missing.
    pub optional: bool,
}

/// All of a ConfigMap's or Secret's keys as variables.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EnvFrom {
    /// Put before each name.
    pub prefix: String,
    /// The ConfigMap.
    pub config_map_ref: Option<OptionalReference>,
    /// The Secret.
    pub secret_ref: Option<OptionalReference>,
}

/// An object that may be missing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct OptionalReference {
    /// Name.
    pub name: String,
    /// Whether it may be missing.
    pub optional: bool,
}

/// An object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LocalReference {
    /// Name.
    pub name: String,
}

/// Requests and limits, quantities by resource name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// What the scheduler counts.
    #[serde(deserialize_with = "null_default")]
    pub requests: BTreeMap<String, Value>,
    /// What the kernel enforces.
    #[serde(deserialize_with = "null_default")]
    pub limits: BTreeMap<String, Value>,
}

/// A mount of a volume.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VolumeMount {
    /// Volume's name.
    pub name: String,
    /// Where in the container.
    pub mount_path: String,
    /// Part of the volume.
    pub sub_path: String,
    /// Part of the volume, with `$(NAME)` of the container's environment.
    pub sub_path_expr: String,
    /// Not writable.
    pub read_only: bool,
    /// `Disabled` (default), `IfPossible`, `Enabled`: whether mounts below are not writable either.
    pub recursive_read_only: String,
    /// `None` (default), `HostToContainer`, `Bidirectional`.
    pub mount_propagation: String,
}

/// A probe; one handler is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Probe {
    /// A command in the container.
    pub exec: Option<ExecAction>,
    /// An HTTP request.
    pub http_get: Option<HttpGetAction>,
    /// A TCP connection.
    pub tcp_socket: Option<TcpSocketAction>,
    /// Seconds before the first try.
    pub initial_delay_seconds: u32,
    /// Seconds a try may take, default 1.
    pub timeout_seconds: Option<u32>,
    /// Seconds between tries, default 10.
    pub period_seconds: Option<u32>,
    /// Successes in a row to pass, default 1.
    pub success_threshold: Option<u32>,
    /// Failures in a row to fail, default 3.
    pub failure_threshold: Option<u32>,
    /// Overrides the Pod's grace period.
    pub termination_grace_period_seconds: Option<i64>,
}

/// A command.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ExecAction {
    /// argv; no shell.
    #[serde(deserialize_with = "null_default")]
    pub command: Vec<String>,
}

/// An HTTP GET.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpGetAction {
    /// Path.
    pub path: String,
    /// Number or container port name.
    pub port: Value,
    /// Host; empty: the Pod's address.
    pub host: String,
    /// `HTTP` (default) or `HTTPS`.
    pub scheme: String,
    /// Headers.
    #[serde(deserialize_with = "null_default")]
    pub http_headers: Vec<HttpHeader>,
}

/// A header.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HttpHeader {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// A TCP connection.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TcpSocketAction {
    /// Number or container port name.
    pub port: Value,
    /// Host; empty: the Pod's address.
    pub host: String,
}

/// Hooks around a container's life.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Lifecycle {
    /// Right after its start.
    pub post_start: Option<LifecycleHandler>,
    /// Before SIGTERM.
    pub pre_stop: Option<LifecycleHandler>,
}

/// What a hook does; one field is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LifecycleHandler {
    /// A command in the container.
    pub exec: Option<ExecAction>,
    /// An HTTP request.
    pub http_get: Option<HttpGetAction>,
    /// Wait.
    pub sleep: Option<SleepAction>,
}

/// A wait.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SleepAction {
    /// Seconds.
    pub seconds: u32,
}

/// Lines for /etc/hosts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HostAlias {
    /// Address.
    pub ip: String,
    /// Names.
    #[serde(deserialize_with = "null_default")]
    pub hostnames: Vec<String>,
}

/// Additions to resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// Name servers.
    #[serde(deserialize_with = "null_default")]
    pub nameservers: Vec<String>,
    /// Search domains.
    #[serde(deserialize_with = "null_default")]
    pub searches: Vec<String>,
    /// Options.
    #[serde(deserialize_with = "null_default")]
    pub options: Vec<DnsOption>,
}

/// One resolv.conf option.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DnsOption {
    /// Name.
    pub name: String,
    /// Value.
    pub value: Option<String>,
}

/// A taint a Pod bears.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Toleration {
    /// Key; empty with `Exists`: every taint.
    pub key: String,
    /// `Equal` (default) or `Exists`.
    pub operator: String,
    /// Value.
    pub value: String,
    /// Effect; empty: every one.
    pub effect: String,
    /// How long a `NoExecute` taint is borne; unset: for ever.
    pub toleration_seconds: Option<i64>,
}

/// How siblings are spread.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopologySpreadConstraint {
    /// Largest difference between two domains.
    pub max_skew: u32,
    /// Node label that names the domain.
    pub topology_key: String,
    /// `DoNotSchedule` or `ScheduleAnyway`.
    pub when_unsatisfiable: String,
    /// Which Pods count.
    pub label_selector: Option<super::workload::LabelSelector>,
}

/// A node selector term's requirement, shared with labels.
pub type NodeRequirement = LabelRequirement;

/// `status` of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: String,
    /// Conditions.
    #[serde(deserialize_with = "null_default")]
    pub conditions: Vec<Condition>,
    /// The Pod's address of the first family.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// One address per family.
    #[serde(rename = "podIPs", deserialize_with = "null_default")]
    pub pod_ips: Vec<PodIp>,
    /// The node's address.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    /// When the agent first saw it, RFC 3339.
    pub start_time: Option<String>,
    /// Reason of the phase.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl PodStatus {
    /// Whether the condition `type_` is `True`.
    pub fn has(&self, type_: &str) -> bool {
        self.conditions.iter().any(|c| c.type_ == type_ && c.status == "True")
    }

    /// Whether the Pod has ended for good.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }
}

/// One address of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: String,
}
