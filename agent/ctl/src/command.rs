//! The subcommands, and who does each.

use clap::Subcommand;

use crate::connect::Agent;
use crate::{Target, conntrack, image, map, pod, probe, service, set, status, trace};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Whether the agent, its dataplane and its link are well
    Status(status::Options),
    /// Services as this node balances them
    #[command(subcommand)]
    Service(service::Command),
    /// Pods of this node
    #[command(subcommand)]
    Pod(pod::Command),
    /// Images of this node
    #[command(subcommand)]
    Image(image::Command),
    /// Flows as this node tracks them
    Conntrack(conntrack::Options),
    /// What this node translates, packet by packet and at connect
    Nat(conntrack::Options),
    /// The kernel's tables: how full they are and who fills them, and their rows
    Map(map::Options),
    /// What would become of a packet, station by station; nothing is sent
    Probe(probe::Options),
    /// Where flows went, and why
    Trace(trace::Options),
    /// Change a setting of the running agent
    #[command(subcommand)]
    Set(set::Command),
}

/// Connects, and does it.
pub(crate) async fn run(target: &Target, command: &Command) -> anyhow::Result<()> {
    let mut agent = Agent::connect(target).await?;
    match command {
        Command::Status(options) => status::run(&mut agent, options).await,
        Command::Service(command) => service::run(&mut agent, command).await,
        Command::Pod(command) => pod::run(&mut agent, command).await,
        Command::Image(command) => image::run(&mut agent, command).await,
        Command::Conntrack(options) => conntrack::flows(&mut agent, options).await,
        Command::Nat(options) => conntrack::nat(&mut agent, options).await,
        Command::Map(options) => map::run(&mut agent, options).await,
        Command::Probe(options) => probe::run(&mut agent, options).await,
        Command::Trace(options) => trace::run(&mut agent, options).await,
        Command::Set(command) => set::run(&mut agent, command).await,
    }
}
