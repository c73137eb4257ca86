//! `image`: the demo image, written as a docker archive from busybox and `weft-demo`, without any other program.
//!
//! The archive's form is that of `docker save`: `manifest.json`, a configuration named by its digest, and layers as tar files.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::command::{output, run as run_command};
use crate::workspace::{Workspace, which};

/// The image's name, as Pods say it.
pub(crate) const NAME: &str = "weft.local/demo:1";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// Settings of `image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write it [default: target/demo-image.tar]
    #[arg(long)]
    output: Option<PathBuf>,
    /// The image's name and tag
    #[arg(long, default_value = NAME)]
    name: String,
}

/// Builds `weft-demo` and writes the image.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let demo = build_demo(&workspace)?;
    let path = args.output.clone().unwrap_or_else(|| archive_path(&workspace));
    write(&path, &args.name, &demo)?;
    println!("image {}: {}", args.name, path.display());
    Ok(())
}

/// Where the archive lies by default.
pub(crate) fn archive_path(workspace: &Workspace) -> PathBuf {
    workspace.target.join("demo-image.tar")
}

/// Builds `weft-demo` without shared libraries and gives its path.
pub(crate) fn build_demo(workspace: &Workspace) -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = workspace.cargo();
    cargo
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "weft-demo",
            "--profile",
            "dev",
            "--target",
            &target,
        ])
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C opt-level=2")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    run_command(&mut cargo).context("weft-demo does not build")?;
    Ok(demo_path(workspace))
}

/// Where [`build_demo`] puts the program.
pub(crate) fn demo_path(workspace: &Workspace) -> PathBuf {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    workspace.target.join(target).join("debug/weft-demo")
}

/// Writes the archive in one step: a half-written one never lies under `path`.
pub(crate) fn write(path: &Path, name: &str, demo: &Path) -> Result<()> {
    let busybox = static_busybox().context("there is no static busybox: apt-get install busybox-static")?;
    let layer = layer(&busybox, demo)?;
    let archive = archive(&layer, name)?;
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    fs::write(&fresh, archive).with_context(|| format!("{} cannot be written", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("{} cannot be written", path.display()))
}

/// busybox, if it runs without shared libraries.
pub(crate) fn static_busybox() -> Option<PathBuf> {
    let path = which("busybox")?;
    let bytes = fs::read(&path).ok()?;
    (!wants_interpreter(&bytes)).then_some(path)
}

/// Whether a 64-bit ELF program names a dynamic loader (program header `PT_INTERP`); what is no ELF counts as wanting one.
fn wants_interpreter(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    if elf.get(..5) != Some(b"\x7fELF\x02") {
        return true;
    }
    let field = |at: usize, bytes: usize| {
        let raw = elf.get(at..at + bytes)?;
        Some(raw.iter().rev().fold(0usize, |number, byte| number << 8 | usize::from(*byte)))
    };
    let (Some(begin), Some(size), Some(count)) = (field(32, 8), field(54, 2), field(56, 2)) else {
        return true;
    };
    (0..count).any(|index| {
        let at = begin.saturating_add(size.saturating_mul(index));
        field(at, 4).is_none_or(|kind| kind == PT_INTERP as usize)
    })
}

/// The only layer: busybox under all its names, `weft-demo`, and the files a program expects.
fn layer(busybox: &Path, demo: &Path) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for (dir, mode) in [("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755)] {
        append(&mut tar, &format!("{dir}/"), EntryType::Directory, mode, &[])?;
    }
    let program = fs::read(busybox).with_context(|| format!("{} cannot be read", busybox.display()))?;
    append(&mut tar, "bin/busybox", EntryType::Regular, 0o755, &program)?;
    for applet in output(Command::new(busybox).arg("--list"))?.lines().filter(|name| *name != "busybox") {
        link(&mut tar, &format!("bin/{applet}"), "busybox")?;
    }
    let program = fs::read(demo).with_context(|| format!("{} cannot be read", demo.display()))?;
    if wants_interpreter(&program) {
        bail!("{} is not a static program", demo.display());
    }
    append(&mut tar, "bin/weft-demo", EntryType::Regular, 0o755, &program)?;
    append(&mut tar, "etc/passwd", EntryType::Regular, 0o644, PASSWD.as_bytes())?;
    append(&mut tar, "etc/group", EntryType::Regular, 0o644, GROUP.as_bytes())?;
    Ok(tar.into_inner()?)
}

/// The archive around one layer.
fn archive(layer: &[u8], name: &str) -> Result<Vec<u8>> {
    let digest = hex(&Sha256::digest(layer));
    let config = json!({
        "architecture": if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" },
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/bin"],
            "Entrypoint": ["/bin/weft-demo"],
            "Cmd": ["serve"],
            "WorkingDir": "/",
            "ExposedPorts": { "8080/tcp": {}, "8081/udp": {} },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask image" }],
    });
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let layer_name = format!("{digest}/layer.tar");
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": [layer_name] }]);
    let mut tar = Builder::new(Vec::new());
    append(&mut tar, &config_name, EntryType::Regular, 0o644, &config)?;
    append(&mut tar, &layer_name, EntryType::Regular, 0o644, layer)?;
    append(&mut tar, "manifest.json", EntryType::Regular, 0o644, &serde_json::to_vec(&manifest)?)?;
    Ok(tar.into_inner()?)
}

/// Adds a file or directory of root, dated 1970, so that equal content gives equal digests.
pub(crate) fn append<W: Write>(
    tar: &mut Builder<W>,
    path: &str,
    kind: EntryType,
    mode: u32,
    content: &[u8],
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)
}

fn link<W: Write>(tar: &mut Builder<W>, path: &str, to: &str) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_mode(0o777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    tar.append_link(&mut header, path, to)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_archive_names_what_it_holds() {
        let archive = archive(b"layer bytes", "weft.local/demo:1").unwrap();
        let mut files = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(path, content);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "weft.local/demo:1");
        let config_name = manifest[0]["Config"].as_str().unwrap();
        let config = &files[config_name];
        assert_eq!(config_name, format!("{}.json", hex(&Sha256::digest(config))));
        let config: serde_json::Value = serde_json::from_slice(config).unwrap();
        let layer = &files[manifest[0]["Layers"][0].as_str().unwrap()];
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&Sha256::digest(layer))));
        assert_eq!(config["config"]["Entrypoint"][0], "/bin/weft-demo");
    }

    #[test]
    fn equal_content_gives_an_equal_archive() {
        assert_eq!(archive(b"same", "a:1").unwrap(), archive(b"same", "a:1").unwrap());
    }

    #[test]
    fn tells_static_programs_from_dynamic_ones() {
        assert!(wants_interpreter(b"#!/bin/sh\n"));
        assert!(wants_interpreter(b"\x7fELF\x02"));
        let this_test = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(wants_interpreter(&this_test));
        if let Some(busybox) = static_busybox() {
            assert!(!wants_interpreter(&fs::read(busybox).unwrap()));
        }
    }
}
