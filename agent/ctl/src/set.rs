//! `agentctl set`: settings of the running agent.

use bytes::Bytes;
use clap::{Subcommand, ValueEnum};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::connect::Agent;
use crate::output;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Balance at connect time; off leaves it all to the per-packet path
    SocketLb {
        /// On or off
        state: Switch,
    },
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

pub(crate) async fn run(agent: &mut Agent, command: &Command) -> anyhow::Result<()> {
    let Command::SocketLb { state } = command;
    let settings = json!({ "socketLb": *state == Switch::On });
    let _: Value = agent.post("/agent/v1/settings", Full::new(Bytes::from(settings.to_string()))).await?;
    let now = if *state == Switch::On { "on" } else { "off" };
    Ok(output::line(format_args!("socket load balancing is {now}"))?)
}
