//! Who may import whom: deed → thought → bytes, and the walls between control plane, agent and eBPF programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::workspace::Workspace;

/// What a crate may do: name shapes, decide, or act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Bytes,
    Thought,
    Deed,
}

/// One package and what its manifest names.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// Directory below the workspace's root, with `/`.
    pub(crate) dir: String,
    /// Path of the manifest.
    pub(crate) manifest: PathBuf,
    /// What it depends on, dev-dependencies left out.
    dependencies: Vec<Dependency>,
}

#[derive(Clone, Debug)]
struct Dependency {
    name: String,
    /// Directory below the root, for the workspace's own.
    dir: Option<String>,
}

/// The packages as cargo lists them.
pub(crate) fn packages(workspace: &Workspace, metadata: &Value) -> Result<Vec<Package>> {
    let listed = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    listed.iter().map(|package| read(&workspace.root, package)).collect()
}

fn read(root: &Path, package: &Value) -> Result<Package> {
    let manifest = PathBuf::from(package["manifest_path"].as_str().context("a package without a manifest")?);
    let dir =
        manifest.parent().and_then(|dir| below(root, dir)).context("a package outside of the workspace")?;
    let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let dependencies = dependencies
        .iter()
        .filter(|dependency| dependency["kind"] != "dev")
        .filter_map(|dependency| {
            Some(Dependency {
                name: dependency["name"].as_str()?.to_owned(),
                dir: dependency["path"].as_str().and_then(|path| below(root, Path::new(path))),
            })
        })
        .collect();
    Ok(Package { dir, manifest, dependencies })
}

fn below(root: &Path, dir: &Path) -> Option<String> {
    Some(dir.strip_prefix(root).ok()?.to_str()?.to_owned())
}

/// Every import that the design forbids, one line each.
pub(crate) fn check(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .flat_map(|package| {
            package
                .dependencies
                .iter()
                .filter_map(|dependency| Some((dependency, forbidden(&package.dir, dependency)?)))
                .map(|(dependency, why)| format!("{} imports {}: {why}", package.dir, dependency.name))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Why `from` may not import it, if it may not.
fn forbidden(from: &str, dependency: &Dependency) -> Option<&'static str> {
    match &dependency.dir {
        Some(to) => forbidden_own(from, to),
        None => forbidden_foreign(from, &dependency.name),
    }
}

fn forbidden_own(from: &str, to: &str) -> Option<&'static str> {
    if kind(from)? < kind(to)? {
        return Some("imports go from deed to thought to bytes, never upward");
    }
    if from.starts_with("control/") && to.starts_with("dataplane-ebpf") {
        return Some("the control plane speaks of Services and rules, never of maps");
    }
    if from.starts_with("control/") && to.starts_with("agent/") {
        return Some("the control plane knows agents by the link only");
    }
    if from.starts_with("agent/")
        && to.starts_with("control/")
        && !matches!(to, "control/api" | "control/link")
    {
        return Some("of the control plane, agents import api and link only");
    }
    if to == "dataplane-ebpf/abi" && !matches!(from, "agent/dataplane" | "dataplane-ebpf") {
        return Some("only agent/dataplane knows the maps");
    }
    None
}

fn forbidden_foreign(from: &str, name: &str) -> Option<&'static str> {
    if matches!(name, "aya" | "aya-obj" | "aya-log") && from != "agent/dataplane" {
        return Some("only agent/dataplane speaks to the kernel's eBPF");
    }
    if matches!(name, "containerd-shim-protos" | "ttrpc") && from != "agent/runtime" {
        return Some("only agent/runtime speaks to shims");
    }
    if name == "tokio" && matches!(from, "control/scheduler" | "control/controllers" | "control/spdy") {
        return Some("the scheduler, the controllers and SPDY wait for nothing");
    }
    if name == "anyhow" && kind(from).is_some_and(|kind| kind < Kind::Deed) {
        return Some("errors here are one enum per operation");
    }
    if matches!(name, "kube" | "kube-runtime" | "kube-client") && kind(from).is_some() {
        return Some("no foreign client in the product");
    }
    None
}

/// The kind of a crate of the product; nothing for tools and tests, which may import everything.
fn kind(dir: &str) -> Option<Kind> {
    Some(match dir {
        "control/api" | "dataplane-ebpf/abi" => Kind::Bytes,
        "control/link" | "control/spdy" | "control/store" | "control/scheduler" | "control/controllers" => {
            Kind::Thought
        }
        "agent/dataplane" | "agent/runtime" | "agent/dns" | "agent/trace" | "agent/encrypt" => Kind::Thought,
        "control/server" | "dataplane-ebpf" | "agent/daemon" | "agent/ctl" => Kind::Deed,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(dir: &str) -> Dependency {
        Dependency { name: dir.replace('/', "-"), dir: Some(dir.to_owned()) }
    }

    fn foreign(name: &str) -> Dependency {
        Dependency { name: name.to_owned(), dir: None }
    }

    #[test]
    fn what_the_design_allows_passes() {
        for (from, to) in [
            ("control/server", "control/controllers"),
            ("control/controllers", "control/api"),
            ("agent/daemon", "control/link"),
            ("agent/dataplane", "dataplane-ebpf/abi"),
            ("dataplane-ebpf", "dataplane-ebpf/abi"),
            ("tests", "control/server"),
        ] {
            assert_eq!(forbidden(from, &own(to)), None, "{from} -> {to}");
        }
        assert_eq!(forbidden("agent/dataplane", &foreign("aya")), None);
        assert_eq!(forbidden("control/server", &foreign("tokio")), None);
    }

    #[test]
    fn what_the_design_forbids_is_named() {
        for (from, to) in [
            ("control/api", "control/store"),
            ("control/controllers", "control/server"),
            ("control/server", "dataplane-ebpf/abi"),
            ("agent/daemon", "control/store"),
            ("agent/daemon", "dataplane-ebpf/abi"),
            ("agent/ctl", "dataplane-ebpf/abi"),
            ("control/server", "agent/trace"),
        ] {
            assert!(forbidden(from, &own(to)).is_some(), "{from} -> {to}");
        }
        for (from, name) in [
            ("agent/daemon", "aya"),
            ("agent/daemon", "containerd-shim-protos"),
            ("control/scheduler", "tokio"),
            ("control/controllers", "tokio"),
            ("control/api", "anyhow"),
            ("control/server", "kube"),
        ] {
            assert!(forbidden(from, &foreign(name)).is_some(), "{from} -> {name}");
        }
    }

    #[test]
    fn every_crate_of_the_product_has_a_kind() {
        let workspace = Workspace::find().unwrap();
        let packages = packages(&workspace, &crate::workspace::metadata(&workspace.root).unwrap()).unwrap();
        assert!(packages.len() > 10);
        for package in &packages {
            let tool = matches!(
                package.dir.as_str(),
                "xtask" | "tests" | "tests/demo" | "tests/fuzz" | "tests/load"
            );
            assert_eq!(kind(&package.dir).is_none(), tool, "{}", package.dir);
        }
    }
}
