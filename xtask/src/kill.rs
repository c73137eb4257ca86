//! `kill`: ends the daemon of one machine at once, as a crash would; what it started goes on, and `start` brings it back.

use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::command::wait_for;
use crate::up::machine::{Cluster, DEFAULT_NAME};
use crate::workspace::Workspace;

const GONE_MAX: Duration = Duration::from_secs(30);
const POLL_MS: u64 = 10;

/// Settings of `kill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cluster's name
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    /// Ask it to end (SIGTERM) instead of killing it
    #[arg(long)]
    term: bool,
    /// node-1, node-2, … for an agent, control for the control plane
    machine: String,
}

/// Sends the signal and waits until the process is gone.
pub(crate) fn run(args: &Args) -> Result<()> {
    let cluster = Cluster::new(&Workspace::find()?, &args.name)?;
    let (machine, record) = cluster.daemon_of(&args.machine)?;
    let what = machine.to_string();
    let Some(process) = record.processes.iter().find(|process| process.what == what && process.is_alive())
    else {
        bail!("no daemon runs on {what}: `cargo xtask start{} {what}` starts it", cluster.flag());
    };
    process.signal(if args.term { Signal::SIGTERM } else { Signal::SIGKILL });
    wait_for(&format!("process {} to end", process.pid), GONE_MAX, POLL_MS, || {
        Ok((!process.is_alive()).then_some(()))
    })?;
    println!("kill: the daemon of {what}, process {}, has ended", process.pid);
    Ok(())
}
