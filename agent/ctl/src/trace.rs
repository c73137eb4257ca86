//! `agentctl trace`: where flows went, and why.

use clap::Args;
use weft_trace::{Filter, Flow};

use crate::connect::Agent;
use crate::lines::{self, Output};
use crate::output::line;

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
    lines::each(agent, &path(options)?, |flow| {
        match options.output {
            Output::Json => line(String::from_utf8_lossy(flow))?,
            Output::Text => line(serde_json::from_slice::<Flow>(flow)?)?,
        }
        Ok(())
    })
    .await
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
