//! Checks the settings and makes the directories, before anything runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::StartError;
use crate::Config;

/// The settings with programs found and paths made absolute.
pub(super) fn valid(mut config: Config) -> Result<Config, StartError> {
    let wrong = |setting, reason: String| StartError::Config { setting, reason };
    for (setting, path) in [("data_dir", &config.data_dir), ("run_dir", &config.run_dir)] {
        let text = path.to_string_lossy();
        if !path.is_absolute() || text.contains([':', ',', '\\']) || path.to_str().is_none() {
            return Err(wrong(
                setting,
                format!("{text} must be absolute, without colon, comma and backslash"),
            ));
        }
    }
    let name = &config.namespace;
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(good) {
        return Err(wrong("namespace", format!("{name:?} is no name of 1 to 63 letters, digits, - and _")));
    }
    let parts = config.cgroup_parent.components();
    if parts.clone().any(|c| c == Component::ParentDir)
        || !parts.clone().any(|c| matches!(c, Component::Normal(_)))
    {
        return Err(wrong(
            "cgroup_parent",
            format!("{} is no path below the root", config.cgroup_parent.display()),
        ));
    }
    let collection = &config.image_collection;
    if collection.high_percent > 100 || collection.low_percent > collection.high_percent {
        return Err(wrong(
            "image_collection",
            format!("{} % and {} % are no marks", collection.low_percent, collection.high_percent),
        ));
    }
    if !config.logger.binary.is_absolute() || !config.logger.binary.is_file() {
        return Err(wrong("logger", format!("{} is no program", config.logger.binary.display())));
    }
    config.shim = program(&config.shim).ok_or_else(|| {
        wrong("shim", format!("{} is not installed (package containerd)", config.shim.display()))
    })?;
    config.oci_runtime = program(&config.oci_runtime).ok_or_else(|| {
        wrong("oci_runtime", format!("{} is not installed (package runc)", config.oci_runtime.display()))
    })?;
    Ok(config)
}

/// Finds a program as a shell would, and in the places for the system's own.
fn program(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return name.is_file().then(|| name.to_path_buf());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(own).map(|dir| dir.join(name)).find(|p| p.is_file())
}

/// Makes the directories, closed to others.
pub(super) fn directories(config: &Config) -> Result<(), StartError> {
    for dir in [&config.data_dir, &config.run_dir] {
        let made = fs::create_dir_all(dir)
            .and_then(|()| fs::create_dir_all(dir.join("pods")))
            .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)));
        made.map_err(|source| StartError::Io { path: dir.display().to_string(), source })?;
    }
    Ok(())
}
