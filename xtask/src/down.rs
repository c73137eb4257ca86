//! `down`: takes a cluster away that `up` started, whole or half.

use anyhow::{Result, bail};

use crate::up::cleanup;
use crate::up::machine::{Cluster, DEFAULT_NAME};
use crate::workspace::Workspace;

/// Settings of `down`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cluster's name
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
}

/// Removes processes, containers, mounts, namespaces, cgroups, pins and state; says what there was.
pub(crate) fn run(args: &Args) -> Result<()> {
    let cluster = Cluster::new(&Workspace::find()?, &args.name)?;
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "removing namespaces and cgroups needs root; type\n  sudo -E $(which cargo) xtask down{}",
            cluster.flag()
        );
    }
    let removed = cleanup::remove(&cluster)?;
    if removed.is_nothing() {
        println!("down: there is nothing of a cluster {}", cluster.name);
    } else {
        println!(
            "down: removed {}: {} processes, {} mounts, {} namespaces, {} directories",
            cluster.name, removed.processes, removed.mounts, removed.namespaces, removed.dirs
        );
    }
    Ok(())
}
