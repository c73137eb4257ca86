//! `exec`: runs a command as a process of one of the cluster's machines: its network namespace and its cgroups.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, anyhow, bail};

use crate::up::machine::{Cluster, DEFAULT_NAME, Machine, Record};
use crate::up::process;
use crate::workspace::{Workspace, path_with_cargo_bin};

/// Settings of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cluster's name
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    /// node-1, node-2, …, client, control or underlay
    machine: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Becomes the command: terminal, signals and exit code are its own.
pub(crate) fn run(args: &Args) -> Result<()> {
    let cluster = Cluster::new(&Workspace::find()?, &args.name)?;
    let Some(machine) = Machine::named(&args.machine) else {
        bail!("there is no machine {:?}: say node-1, node-2, …, client, control or underlay", args.machine);
    };
    let Some(record) = cluster.record() else {
        bail!("there is no cluster {}: `cargo xtask up{}` starts it", cluster.name, cluster.flag());
    };
    let [program, rest @ ..] = &args.command[..] else { bail!("say what to run, after --") };
    process::become_part_of(&cluster, machine)?;
    let error = Command::new(program)
        .args(rest)
        .env("PATH", path(&record))
        .env("WEFT_AGENT_SOCKET", cluster.socket(machine))
        .env("WEFT_MACHINE", machine.to_string())
        .exec();
    Err(anyhow!(error).context(format!("{} cannot be run", Path::new(program).display())))
}

/// The cluster's own programs come first, so that `agentctl` is the one that fits the agent; of the demo, the static one.
fn path(record: &Record) -> OsString {
    let demo = record.demo.parent().map(Path::to_owned);
    let dirs: Vec<PathBuf> = demo.into_iter().chain([record.bin_dir.clone()]).collect();
    let rest = path_with_cargo_bin();
    std::env::join_paths(dirs.into_iter().chain(std::env::split_paths(&rest))).unwrap_or(rest)
}
