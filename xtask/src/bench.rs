//! `bench`: measures on this machine and writes what it found to docs/benchmarks, ratios of one run and the machine with them.

mod dataplane;
mod machine;
mod plot;
mod samples;

use anyhow::Result;

/// Settings of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Requests, connections, throughput and CPU through Weft, plain kernel routing and rule sets of kube-proxy's shape
    Dataplane(dataplane::Args),
}

/// Runs one of the benchmarks.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Dataplane(args) => dataplane::run(args),
    }
}
