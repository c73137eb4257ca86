//! `weft-agent`: the node's agent. Parses, assembles, runs, drains.

mod addresses;
mod agent;
mod api;
mod assemble;
mod cipher;
mod config;
mod disk;
mod dns;
mod flow_event;
mod flows;
mod health_check;
mod identity;
mod ipam;
mod join;
mod keep;
mod knowledge;
mod link;
mod log;
mod machine;
mod memory;
mod network;
mod node_status;
mod observe;
mod outbox;
mod outward;
mod probe;
mod remove;
mod resolve;
mod round;
mod socket;
mod translate;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code for a configuration that is not valid (sysexits' EX_USAGE).
const EXIT_USAGE: u8 = 64;

/// Runs this node's Pods and connects them.
#[derive(Parser)]
#[command(name = "weft-agent", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent; ends at SIGTERM, and leaves Pods and connections as they are
    Run(Box<config::Raw>),
    /// End the Pods of a node whose agent was stopped, and take its programs and devices out of the kernel
    Remove(remove::Raw),
    /// Ask the socket hooks as a Pod would; `agentctl probe` has the agent start this
    #[command(hide = true)]
    AskSocket(probe::AskSocket),
    /// Write a container's log; the shim starts this
    #[command(hide = true, trailing_var_arg = true)]
    LogWriter(log::Writer),
    /// Encrypt what nodes send each other; the agent starts this
    #[command(hide = true)]
    Cipher(cipher::Raw),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::LogWriter(writer) => weft_runtime::log_writer_main(writer.arguments.into_iter()),
        Command::Cipher(raw) => cipher::main(raw),
        Command::AskSocket(arguments) => probe::ask_socket(&arguments),
        Command::Remove(raw) => remove::main(&raw),
        Command::Run(raw) => match configure(*raw) {
            Ok(config) => run(config),
            Err(error) => {
                eprintln!("weft-agent: {}", api::answer::chain(&*error));
                ExitCode::from(EXIT_USAGE)
            }
        },
    }
}

fn configure(raw: config::Raw) -> Result<config::Config, Box<dyn std::error::Error>> {
    let host_name = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    let machine = config::Machine { host_name, program: std::env::current_exe()? };
    Ok(raw.validate(&machine)?)
}

#[tokio::main]
async fn run(config: config::Config) -> ExitCode {
    log::to_stderr(config.log_json, "info");
    match assemble::run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
