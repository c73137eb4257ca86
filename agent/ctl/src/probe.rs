//! `agentctl probe`: what would become of a packet, and why. Nothing is sent.

use clap::Args;
use weft_trace::Probe;

use crate::connect::Agent;
use crate::lines::{Output, encoded};
use crate::output::line;

#[derive(Args)]
pub(crate) struct Options {
    /// The Pod that would send; it runs on the node that is asked
    #[arg(long, value_name = "NAMESPACE/NAME")]
    from: String,
    /// Where to: an address, a name that the Pod could resolve in the cluster, or NAMESPACE/NAME of a Pod
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// A datagram; otherwise the start of a TCP connection
    #[arg(long)]
    udp: bool,
    /// Length of the packet with its IP header, which may not be cut
    #[arg(long, value_name = "BYTES")]
    size: Option<u32>,
    /// Output
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

pub(crate) async fn run(agent: &mut Agent, options: &Options) -> anyhow::Result<()> {
    let size = options.size.map_or_else(String::new, |bytes| format!("&size={bytes}"));
    let (from, to) = (encoded(&options.from), encoded(&options.to));
    let probe: Probe =
        agent.get(&format!("/agent/v1/probe?from={from}&to={to}&udp={}{size}", options.udp)).await?;
    match options.output {
        Output::Json => line(serde_json::to_string(&probe)?)?,
        Output::Text => line(probe)?,
    }
    Ok(())
}
