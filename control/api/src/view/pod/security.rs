//! What a Pod may do: users, capabilities, profiles.

use serde::Deserialize;
use serde_json::Value;

use crate::meta::null_default;

/// Security settings of one container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SecurityContext {
    /// All of the node's rights.
    pub privileged: bool,
    /// UID.
    pub run_as_user: Option<u32>,
    /// GID.
    pub run_as_group: Option<u32>,
    /// Refuses to start as UID 0.
    pub run_as_non_root: Option<bool>,
    /// Root file system not writable.
    pub read_only_root_filesystem: bool,
    /// Whether set-uid gains rights; unset means yes.
    pub allow_privilege_escalation: Option<bool>,
    /// Capabilities.
    pub capabilities: Option<Capabilities>,
    /// Which system calls it may make; unset: the Pod's.
    pub seccomp_profile: Option<Profile>,
    /// AppArmor's confinement; unset: the Pod's.
    pub app_armor_profile: Option<Profile>,
    /// SELinux' label; unset: the Pod's.
    pub se_linux_options: Option<Value>,
    /// `Default` or `Unmasked`: which parts of `/proc` it sees.
    pub proc_mount: String,
}

/// A profile of seccomp or AppArmor.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Profile {
    /// `RuntimeDefault`, `Localhost`, `Unconfined`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Name on the node, with `Localhost`.
    pub localhost_profile: String,
}

/// Changes to the default capabilities.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Added, without `CAP_`.
    #[serde(deserialize_with = "null_default")]
    pub add: Vec<String>,
    /// Taken away, without `CAP_`; `ALL` for every one.
    #[serde(deserialize_with = "null_default")]
    pub drop: Vec<String>,
}

/// Security settings of all containers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSecurityContext {
    /// UID.
    pub run_as_user: Option<u32>,
    /// GID.
    pub run_as_group: Option<u32>,
    /// Refuses to start as UID 0.
    pub run_as_non_root: Option<bool>,
    /// Group that owns the volumes.
    pub fs_group: Option<u32>,
    /// Further groups.
    #[serde(deserialize_with = "null_default")]
    pub supplemental_groups: Vec<u32>,
    /// `Merge` (default) or `Strict`: whether the image's groups count too.
    pub supplemental_groups_policy: String,
    /// Which system calls the containers may make; unset: all.
    pub seccomp_profile: Option<Profile>,
    /// AppArmor's confinement.
    pub app_armor_profile: Option<Profile>,
    /// SELinux' label.
    pub se_linux_options: Option<Value>,
    /// Sysctls of the Pod's namespaces.
    #[serde(deserialize_with = "null_default")]
    pub sysctls: Vec<Sysctl>,
}

/// One sysctl.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Sysctl {
    /// Name, dotted.
    pub name: String,
    /// Value.
    pub value: String,
}
