//! The load of `cargo xtask bench api`: asks a running server and prints what it saw, one line of JSON.

mod configmap;
mod connection;
mod create;
mod credentials;
mod get;
mod histogram;
mod list;
mod meter;
mod options;
mod put;
mod random;
mod raw;
mod ready;
mod received;
mod stamp;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use crate::connection::Target;
use crate::options::{Cli, Mode};

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("weft-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<Value> {
    // A thousand connections are more descriptors than a shell hands out.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let mut runtime = match cli.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(threads);
            runtime
        }
    };
    runtime.enable_all().build()?.block_on(load(cli))
}

async fn load(cli: &Cli) -> anyhow::Result<Value> {
    let (target, pid) = (|| Target::read(cli.kubeconfig()?, cli.http), cli.server_pid);
    match &cli.mode {
        Mode::Ready(options) => ready::run(cli, options).await,
        Mode::Create(options) => create::run(&target()?, options, pid).await,
        Mode::Put(options) => put::run(options, pid).await,
        Mode::Fill(options) => create::fill(&target()?, options).await,
        Mode::Get(options) => get::run(&target()?, options, pid).await,
        Mode::List(options) => list::run(&target()?, options, pid).await,
        Mode::Watch(options) => watch::run(&target()?, options, pid).await,
    }
}
