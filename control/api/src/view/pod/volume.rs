//! Volumes of a Pod: where the files come from.

use serde::Deserialize;
use serde_json::Value;

use super::{FieldRef, ResourceFieldRef};
use crate::meta::null_default;

/// A volume of a Pod; one source is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Volume {
    /// Name.
    pub name: String,
    /// An empty directory of the Pod's life.
    pub empty_dir: Option<EmptyDir>,
    /// A path of the node.
    pub host_path: Option<HostPath>,
    /// Files from a ConfigMap.
    pub config_map: Option<FilesOf>,
    /// Files from a Secret.
    pub secret: Option<FilesOf>,
    /// Files from the Pod's fields.
    #[serde(rename = "downwardAPI")]
    pub downward_api: Option<DownwardVolume>,
    /// Several sources in one directory.
    pub projected: Option<Projected>,
}

/// `emptyDir`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EmptyDir {
    /// `""` disk or `Memory`.
    pub medium: String,
    /// Bound, a quantity.
    pub size_limit: Option<Value>,
}

/// `hostPath`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HostPath {
    /// Path on the node.
    pub path: String,
    /// What must be there: `""`, `Directory`, `DirectoryOrCreate`, `File`, …
    #[serde(rename = "type")]
    pub type_: String,
}

/// Which key goes to which file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct KeyToPath {
    /// Key in the data.
    pub key: String,
    /// Relative path of the file.
    pub path: String,
    /// Mode bits.
    pub mode: Option<u32>,
}

/// Files from a ConfigMap or a Secret, as a volume or as one source of a projected one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FilesOf {
    /// The object's name; a `secret` volume calls it `secretName`.
    #[serde(alias = "secretName")]
    pub name: String,
    /// Only these keys; empty: all.
    #[serde(deserialize_with = "null_default")]
    pub items: Vec<KeyToPath>,
    /// Mode bits, default 0644; of a projected volume's source: unset.
    pub default_mode: Option<u32>,
    /// Whether it may be missing.
    pub optional: bool,
}

/// `downwardAPI` files.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DownwardVolume {
    /// Files.
    #[serde(deserialize_with = "null_default")]
    pub items: Vec<DownwardFile>,
    /// Mode bits, default 0644.
    pub default_mode: Option<u32>,
}

/// One `downwardAPI` file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DownwardFile {
    /// Relative path.
    pub path: String,
    /// A field of the Pod.
    pub field_ref: Option<FieldRef>,
    /// A request or limit.
    pub resource_field_ref: Option<ResourceFieldRef>,
    /// Mode bits.
    pub mode: Option<u32>,
}

/// `projected` volume.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Projected {
    /// Sources, all into one directory.
    #[serde(deserialize_with = "null_default")]
    pub sources: Vec<ProjectedSource>,
    /// Mode bits, default 0644.
    pub default_mode: Option<u32>,
}

/// One source of a projected volume; one field is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProjectedSource {
    /// A bound token.
    pub service_account_token: Option<TokenSource>,
    /// Files from a ConfigMap.
    pub config_map: Option<FilesOf>,
    /// Files from a Secret.
    pub secret: Option<FilesOf>,
    /// Files from the Pod's fields.
    #[serde(rename = "downwardAPI")]
    pub downward_api: Option<DownwardVolume>,
}

/// A bound ServiceAccount token in a file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TokenSource {
    /// Audience; empty: the API server.
    pub audience: String,
    /// Lifetime, default 3600.
    pub expiration_seconds: Option<u64>,
    /// Relative path.
    pub path: String,
}
