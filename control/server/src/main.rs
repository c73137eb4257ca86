//! weft-control: the control plane. Parse, assemble, run, drain.

mod admin;
mod admit;
mod assemble;
mod authn;
mod authz;
mod backup;
mod cache;
mod clock;
mod config;
mod http;
mod keys;
mod loops;
mod nodes;
mod objects;
mod perform;
mod pki;
mod renew;
mod stop;
mod store_id;
mod token;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use config::{Cli, Command, RestoreArgs, TokenCommand};

/// The settings are wrong (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(EXIT_USAGE),
            };
        }
    };
    let result = match cli.command {
        Command::Serve(raw) => match raw.validate() {
            Ok(config) => start(config),
            Err(error) => return usage(&error),
        },
        Command::Backup(args) => block_on(backup::take(&args)),
        Command::Restore(args) => {
            let RestoreArgs { file, serve } = *args;
            match serve.validate() {
                Ok(config) => block_on(async move { backup::restore(&file, &config).await }),
                Err(error) => return usage(&error),
            }
        }
        Command::Token { command: TokenCommand::Create(create) } => match token::plan(&create) {
            Ok(plan) => block_on(token::create(plan)).map(|token| println!("{token}")),
            Err(error) => return usage(&error),
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage(error: &dyn std::error::Error) -> ExitCode {
    eprint!("weft-control: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
    ExitCode::from(EXIT_USAGE)
}

fn start(config: config::Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WEFT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if config.log_json {
        lines.json().init();
    } else {
        lines.with_ansi(false).init();
    }
    block_on(assemble::run(config))
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}
