//! `agentctl`: what an operator types on a node or from afar. Parses, connects, runs one subcommand.

mod command;
mod connect;
mod conntrack;
mod image;
mod kubeconfig;
mod lines;
mod map;
mod output;
mod pod;
mod probe;
mod service;
mod set;
mod status;
mod table;
mod trace;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser};

/// Look into a Weft node: what it serves, what it runs, where its packets go and why.
#[derive(Parser)]
#[command(name = "agentctl", version, max_term_width = 120)]
struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: command::Command,
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match command::run(&cli.target, &cli.command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Without standard error there is nobody to tell; the exit code still does.
            let _unheard = writeln!(std::io::stderr(), "agentctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
