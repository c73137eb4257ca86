//! `bench`: measures on this machine and writes what it found to docs/benchmarks, ratios of one run and the machine with them.

mod api;
mod dataplane;
mod machine;
mod memory;
mod packet;
mod plot;
mod programming;
mod report;
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
    /// Creates, reads, lists and watches of a durable API server on this machine's disk, and its memory
    Api(api::Args),
    /// Requests, connections, throughput and CPU through Weft, plain kernel routing and rule sets of kube-proxy's shape
    Dataplane(dataplane::Args),
    /// Nanoseconds of one packet in each program and station, by test run and under load
    Packet(packet::Args),
    /// Time from an EndpointSlice's write at the API to the row in the last kernel, and of a whole table into an empty one
    Programming(programming::Args),
}

/// Runs one of the benchmarks.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Api(args) => api::run(args),
        What::Dataplane(args) => dataplane::run(args),
        What::Packet(args) => packet::run(args),
        What::Programming(args) => programming::run(args),
    }
}
