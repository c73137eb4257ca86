//! Images on this node: found by name, pulled, loaded, unpacked once per layer.

mod archive;
pub(crate) mod collect;
mod pull;
mod reference;
mod store;
mod unpack;

pub(crate) use archive::load;
pub(crate) use pull::{Credentials, Puller};
pub(crate) use reference::normalize;
pub(crate) use store::{ImageStore, StoreError};

use std::path::PathBuf;

use serde::Deserialize;

/// An image that is ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// Digest of its configuration, `sha256:…`.
    pub(crate) id: String,
    /// `repository@sha256:…` it was pulled by, if it was.
    pub(crate) digest: Option<String>,
    /// Unpacked layers, the lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// What it wants to run.
    pub(crate) config: RunConfig,
}

/// The configuration blob, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigBlob {
    pub(crate) config: Option<RunConfig>,
    pub(crate) rootfs: RootFs,
}

/// `rootfs` of a configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RootFs {
    /// Digest of each uncompressed layer, the lowest first.
    pub(crate) diff_ids: Vec<String>,
}

/// `config` of a configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct RunConfig {
    pub(crate) user: String,
    pub(crate) env: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) working_dir: String,
    pub(crate) stop_signal: String,
}
