//! `start`: starts the daemon of one machine again, the way `up` did.

use anyhow::{Result, bail};

use crate::up::daemons;
use crate::up::machine::{Cluster, DEFAULT_NAME};
use crate::workspace::Workspace;

/// Settings of `start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cluster's name
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    /// Start the agent whose tables have another layout (`cargo xtask test` builds it): an upgrade, and without it the way back
    #[arg(long)]
    other_layout: bool,
    /// node-1, node-2, … for an agent, control for the control plane
    machine: String,
}

/// Starts it and writes down its new number; whether it becomes ready is for the caller to see.
pub(crate) fn run(args: &Args) -> Result<()> {
    let cluster = Cluster::new(&Workspace::find()?, &args.name)?;
    let (machine, mut record) = cluster.daemon_of(&args.machine)?;
    let what = machine.to_string();
    if let Some(process) = record.processes.iter().find(|process| process.what == what && process.is_alive())
    {
        bail!("the daemon of {what} runs: process {}", process.pid);
    }
    let process = if args.other_layout {
        daemons::start_other_layout(&cluster, &record, machine)?
    } else {
        daemons::start_again(&cluster, &record, machine)?
    };
    println!(
        "start: the daemon of {what} is process {}; its log is {}",
        process.pid,
        cluster.log(machine).display()
    );
    record.processes.retain(|process| process.what != what);
    record.processes.push(process);
    cluster.write_record(&record)
}
