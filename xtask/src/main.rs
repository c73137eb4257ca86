//! The project's own commands: one file per subcommand, and this list of them.

mod bench;
mod build_ebpf;
mod command;
mod down;
mod exec;
mod fuzz;
mod image;
mod kernels;
mod kill;
mod lint;
mod package;
mod powercut;
mod schema;
mod setup;
mod start;
mod test;
mod up;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what this machine lacks to build, run and test; does nothing where nothing is missing
    Setup(setup::Args),
    /// Build the eBPF object
    BuildEbpf(build_ebpf::Args),
    /// Start a cluster on this machine, each node in namespaces of its own
    Up(up::Args),
    /// Remove a cluster that `up` started, and every trace of it
    Down(down::Args),
    /// Run a command as a process of a node, or as the outside client
    Exec(exec::Args),
    /// End the daemon of a node or the control plane at once, as a crash would
    Kill(kill::Args),
    /// Start the daemon of a node or the control plane again
    Start(start::Args),
    /// Write the demo image as a docker archive
    Image(image::Args),
    /// Run every test, on a fresh machine too
    Test(test::Args),
    /// Run the dataplane's tests and a Pod on Debian's 6.1 kernel, in an emulator (takes an hour)
    Kernels(kernels::Args),
    /// Cut the power of a machine with a control plane, and let its disk be read-only and full, in an emulator (takes minutes)
    Powercut(powercut::Args),
    /// Run cargo-fuzz on what reads what clients send (ten minutes a target)
    Fuzz(fuzz::Args),
    /// Measure on this machine and write the report to docs/benchmarks
    Bench(bench::Args),
    /// Check format, clippy, who imports whom, and the house rules a machine can check
    Lint(lint::Args),
    /// Build the .deb packages
    Package(package::Args),
    /// Write the API crate's table of Kubernetes types from the published schemas
    Schema(schema::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::BuildEbpf(args) => build_ebpf::run(&args),
        Command::Up(args) => up::run(&args),
        Command::Down(args) => down::run(&args),
        Command::Exec(args) => exec::run(&args),
        Command::Kill(args) => kill::run(&args),
        Command::Start(args) => start::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Kernels(args) => kernels::run(&args),
        Command::Powercut(args) => powercut::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Package(args) => package::run(&args),
        Command::Schema(args) => schema::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
