//! ConfigMap, Secret, ServiceAccount.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::meta::{ObjectMeta, null_default};

/// `v1` ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConfigMap {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// UTF-8 values.
    #[serde(deserialize_with = "null_default")]
    pub data: BTreeMap<String, String>,
    /// Base64 values.
    #[serde(deserialize_with = "null_default")]
    pub binary_data: BTreeMap<String, String>,
}

/// `v1` Secret.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Secret {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Base64 values.
    #[serde(deserialize_with = "null_default")]
    pub data: BTreeMap<String, String>,
    /// The secret's type, for example `Opaque`.
    #[serde(rename = "type")]
    pub type_: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values never reach a log line.
        f.debug_struct("Secret").field("metadata", &self.metadata.name).finish_non_exhaustive()
    }
}

/// `v1` ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceAccount {
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Whether Pods get its token mounted; unset means yes.
    pub automount_service_account_token: Option<bool>,
}
