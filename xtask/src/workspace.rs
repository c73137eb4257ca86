//! Where things are: the workspace, cargo's target directory, and the tools a machine has.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// The workspace this program was built in.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// Directory of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target directory, `CARGO_TARGET_DIR` and cargo's configuration regarded.
    pub(crate) target: PathBuf,
    /// Version of the packages.
    pub(crate) version: String,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn find() -> Result<Self> {
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_dir.parent().context("xtask has no directory above it")?.to_owned();
        let metadata = metadata(&root)?;
        let target =
            metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
        Ok(Self { target: PathBuf::from(target), root, version: env!("CARGO_PKG_VERSION").to_owned() })
    }

    /// `cargo` in the workspace, with the directory of installed cargo programs in `PATH`.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root).env("PATH", path_with_cargo_bin());
        command
    }

    /// Where the programs of a profile are built to.
    pub(crate) fn bin_dir(&self, release: bool) -> PathBuf {
        self.target.join(if release { "release" } else { "debug" })
    }

    /// Where the eBPF object is built to.
    pub(crate) fn ebpf_object(&self) -> PathBuf {
        self.target.join("bpf/weft-bpf")
    }

    /// Where tools are unpacked that no package of the machine brings.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }
}

/// What cargo knows of the workspace's own packages.
pub(crate) fn metadata(root: &Path) -> Result<Value> {
    let mut command = Command::new(cargo());
    command.current_dir(root).args(["metadata", "--no-deps", "--format-version", "1"]);
    let text = crate::command::output(&mut command)?;
    serde_json::from_str(&text).context("cargo metadata does not print JSON")
}

/// The cargo that runs this program, or the one in `PATH`.
fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Where `cargo install` puts programs.
pub(crate) fn cargo_bin() -> PathBuf {
    let home = env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from).join("bin")
}

/// `PATH` with [`cargo_bin`] first.
pub(crate) fn path_with_cargo_bin() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(cargo_bin()).chain(env::split_paths(&path));
    env::join_paths(dirs).unwrap_or(path)
}

/// A program in `PATH`, in cargo's directory or where administration programs are.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = path_with_cargo_bin();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_workspace_and_its_target() {
        let workspace = Workspace::find().unwrap();
        assert!(workspace.root.join("control/api").is_dir());
        assert!(workspace.target.is_absolute());
        assert_eq!(workspace.version, "0.1.0");
    }

    #[test]
    fn finds_programs() {
        assert!(which("sh").is_some());
        assert_eq!(which("no-such-program-anywhere"), None);
    }
}
