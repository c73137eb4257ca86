//! `agentctl trace`: where flows went, and why.

use clap::{Args, ValueEnum};
use http_body_util::BodyExt;
use weft_trace::{Filter, Flow};

use crate::connect::Agent;
use crate::output::line;

/// Longest line of the stream, bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Args)]
pub(crate) struct Options {
    /// Only flows from or to this Pod
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pod: Option<String>,
    /// Only flows through this Service
    #[arg(long, value_name = "NAMESPACE/NAME")]
    service: Option<String>,
    /// Only flows of this verdict
    #[arg(long, value_parser = ["forwarded", "dropped"])]
    verdict: Option<String>,
    /// Go on with new flows as they come
    #[arg(short, long)]
    follow: bool,
    /// Output
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

pub(crate) async fn run(agent: &mut Agent, options: &Options) -> anyhow::Result<()> {
    let mut body = agent.stream(&path(options)?).await?;
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| agent.broken(source))?;
        let Some(data) = frame.data_ref() else { continue };
        rest.extend_from_slice(data);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
            anyhow::ensure!(
                rest.len() <= LINE_BYTES_MAX,
                "the agent sent a line of more than {LINE_BYTES_MAX} bytes"
            );
            continue;
        };
        let lines: Vec<u8> = rest.drain(..=end).collect();
        print(&lines, options.output)?;
    }
    Ok(())
}

fn path(options: &Options) -> anyhow::Result<String> {
    let mut filter = Filter::default();
    let mut query = vec![format!("follow={}", options.follow)];
    for (name, value) in [("pod", &options.pod), ("service", &options.service), ("verdict", &options.verdict)]
    {
        if let Some(value) = value {
            filter.set(name, value)?;
            query.push(format!("{name}={value}"));
        }
    }
    Ok(format!("/agent/v1/trace?{}", query.join("&")))
}

/// Prints whole lines.
fn print(lines: &[u8], output: Output) -> anyhow::Result<()> {
    for flow in lines.split(|byte| *byte == b'\n').filter(|flow| !flow.is_empty()) {
        match output {
            Output::Json => line(String::from_utf8_lossy(flow))?,
            Output::Text => line(serde_json::from_slice::<Flow>(flow)?)?,
        }
    }
    Ok(())
}
