//! `agentctl pod`: what runs on the node, as the node sees it.

use clap::Subcommand;
use serde::Deserialize;

use crate::connect::Agent;
use crate::table;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Every Pod of this node
    List,
}

#[derive(Deserialize)]
struct Row {
    namespace: String,
    name: String,
    phase: String,
    ips: Vec<String>,
    interface: String,
    uid: String,
}

pub(crate) async fn run(agent: &mut Agent, command: &Command) -> anyhow::Result<()> {
    let Command::List = command;
    let rows: Vec<Row> = agent.get("/agent/v1/pods").await?;
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| vec![row.namespace, row.name, row.phase, row.ips.join(","), row.interface, row.uid])
        .collect();
    Ok(table::print(&["NAMESPACE", "NAME", "PHASE", "IP", "INTERFACE", "UID"], rows)?)
}
