//! `agentctl service`: Services as the node's maps hold them.

use clap::Subcommand;
use serde::Deserialize;

use crate::connect::Agent;
use crate::table;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Every Service port of the live maps, with its backends
    List,
}

#[derive(Deserialize)]
struct Row {
    service: String,
    frontend: String,
    protocol: String,
    kind: String,
    backends: Vec<String>,
}

pub(crate) async fn run(agent: &mut Agent, command: &Command) -> anyhow::Result<()> {
    let Command::List = command;
    let rows: Vec<Row> = agent.get("/agent/v1/services").await?;
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            let backends = if row.backends.is_empty() { "<none>".to_owned() } else { row.backends.join(",") };
            vec![row.service, row.kind, row.protocol, row.frontend, backends]
        })
        .collect();
    Ok(table::print(&["SERVICE", "KIND", "PROTOCOL", "FRONTEND", "BACKENDS"], &rows)?)
}
