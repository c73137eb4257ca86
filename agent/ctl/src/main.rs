//! `agentctl`: what an operator types on a node or from afar. Parses, connects, runs one subcommand.

mod connect;
mod image;
mod kubeconfig;
mod output;
mod pod;
mod service;
mod set;
mod status;
mod table;
mod trace;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Look into a Weft node: what it serves, what it runs, where its packets go and why.
#[derive(Parser)]
#[command(name = "agentctl", version, max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

/// Which agent is spoken to.
#[derive(Args)]
pub(crate) struct Target {
    /// Unix socket of the agent on this machine
    #[arg(long, global = true, env = "WEFT_AGENT_SOCKET", default_value = "/run/weft/agent.sock")]
    socket: PathBuf,
    /// Speak to this node's agent, through the control plane
    #[arg(long, global = true, value_name = "NAME")]
    node: Option<String>,
    /// How to reach the control plane, with --node
    #[arg(long, global = true, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
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
    /// Where flows went, and why
    Trace(trace::Options),
    /// Change a setting of the running agent
    #[command(subcommand)]
    Set(set::Command),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Without standard error there is nobody to tell; the exit code still does.
            let _unheard = writeln!(std::io::stderr(), "agentctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> anyhow::Result<()> {
    let mut agent = connect::Agent::connect(&cli.target).await?;
    match &cli.command {
        Command::Status(options) => status::run(&mut agent, options).await,
        Command::Service(command) => service::run(&mut agent, command).await,
        Command::Pod(command) => pod::run(&mut agent, command).await,
        Command::Image(command) => image::run(&mut agent, command).await,
        Command::Trace(options) => trace::run(&mut agent, options).await,
        Command::Set(command) => set::run(&mut agent, command).await,
    }
}
