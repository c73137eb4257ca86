//! `package`: .deb files of the control plane and of a node, with their systemd units.
//!
//! A .deb is an `ar` archive of two compressed tar files (deb(5)); it is written here, so that any machine that builds
//! the programs can package them.

mod deb;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::Compression;

use crate::build_ebpf;
use crate::command::run as run_command;
use crate::package::deb::{Deb, Entry};
use crate::setup::{self, For};
use crate::up::PACKAGES;
use crate::workspace::Workspace;

const CONTROL_UNIT: &str = include_str!("../packaging/weft-control.service");
const AGENT_UNIT: &str = include_str!("../packaging/weft-agent.service");
const PODS_UNIT: &str = include_str!("../packaging/weft-pods.service");
const END_PODS: &str = include_str!("../packaging/end-pods");
const POSTINST: &str = include_str!("../packaging/postinst");
const PRERM: &str = include_str!("../packaging/prerm");
const POSTRM: &str = include_str!("../packaging/postrm");
const CONTROL_ENVIRONMENT: &str = include_str!("../packaging/weft-control.env");
const AGENT_ENVIRONMENT: &str = include_str!("../packaging/weft-agent.env");

/// Settings of `package`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write the packages [default: target/deb]
    #[arg(long)]
    output: Option<PathBuf>,
    /// Take the programs as they were built last
    #[arg(long)]
    no_build: bool,
    /// Package unoptimized programs
    #[arg(long)]
    debug: bool,
}

/// Builds and writes both packages.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    if !args.no_build {
        setup::ensure(&workspace, For::Run)?;
        build_ebpf::build(&workspace)?;
        let mut cargo = workspace.cargo();
        cargo.args(["build", "--quiet", "--locked"]);
        if !args.debug {
            cargo.arg("--release");
        }
        for package in PACKAGES {
            cargo.args(["--package", package]);
        }
        run_command(&mut cargo).context("the programs do not build")?;
    }
    let dir = args.output.clone().unwrap_or_else(|| workspace.target.join("deb"));
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let bin_dir = workspace.bin_dir(!args.debug);
    for mut deb in [control(&workspace, &bin_dir)?, agent(&workspace, &bin_dir)?] {
        if args.debug {
            // They are large and go nowhere: quick counts for more than small.
            deb.compression = Compression::none();
        }
        let path = dir.join(deb.file_name());
        fs::write(&path, deb.write()?).with_context(|| format!("{} cannot be written", path.display()))?;
        println!("package: {}", path.display());
    }
    Ok(())
}

fn control(workspace: &Workspace, bin_dir: &Path) -> Result<Deb> {
    let entries = vec![
        program(bin_dir, "weft-control", "usr/bin/weft-control")?,
        Entry::file("lib/systemd/system/weft-control.service", 0o644, CONTROL_UNIT),
        Entry::configuration("etc/weft/control.env", 0o600, CONTROL_ENVIRONMENT),
        licence(workspace, "LICENSE", "usr/share/doc/weft-control/copyright")?,
    ];
    Ok(deb(workspace, "weft-control", "ca-certificates", "control plane of a Weft cluster", entries))
}

fn agent(workspace: &Workspace, bin_dir: &Path) -> Result<Deb> {
    let object = workspace.ebpf_object();
    let object = fs::read(&object).with_context(|| format!("{} cannot be read", object.display()))?;
    let entries = vec![
        program(bin_dir, "weft-agent", "usr/bin/weft-agent")?,
        program(bin_dir, "agentctl", "usr/bin/agentctl")?,
        Entry::file("usr/lib/weft/weft-bpf", 0o644, object),
        Entry::file("usr/lib/weft/end-pods", 0o755, END_PODS),
        Entry::file("lib/systemd/system/weft-agent.service", 0o644, AGENT_UNIT),
        Entry::file("lib/systemd/system/weft-pods.service", 0o644, PODS_UNIT),
        Entry::configuration("etc/weft/agent.env", 0o600, AGENT_ENVIRONMENT),
        licence(workspace, "LICENSE", "usr/share/doc/weft-agent/copyright")?,
        licence(workspace, "dataplane-ebpf/LICENSE-MIT", "usr/share/doc/weft-agent/copyright.ebpf-mit")?,
        licence(workspace, "dataplane-ebpf/LICENSE-GPL-2.0", "usr/share/doc/weft-agent/copyright.ebpf-gpl")?,
    ];
    Ok(deb(
        workspace,
        "weft-agent",
        "containerd, runc, ca-certificates",
        "node agent of a Weft cluster",
        entries,
    ))
}

fn program(bin_dir: &Path, name: &str, to: &str) -> Result<Entry> {
    let path = bin_dir.join(name);
    let bytes = fs::read(&path).with_context(|| format!("{} is not built", path.display()))?;
    Ok(Entry::file(to, 0o755, bytes))
}

fn licence(workspace: &Workspace, from: &str, to: &str) -> Result<Entry> {
    let path = workspace.root.join(from);
    let text = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(Entry::file(to, 0o644, text))
}

fn deb(workspace: &Workspace, name: &str, depends: &str, summary: &str, entries: Vec<Entry>) -> Deb {
    let script = |text: &str| text.replace("@UNIT@", &format!("{name}.service"));
    Deb {
        name: name.to_owned(),
        version: workspace.version.clone(),
        architecture: if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        depends: format!("libc6 (>= 2.36), libgcc-s1, {depends}"),
        summary: summary.to_owned(),
        entries,
        scripts: vec![("postinst", script(POSTINST)), ("prerm", script(PRERM)), ("postrm", script(POSTRM))],
        compression: Compression::default(),
    }
}
