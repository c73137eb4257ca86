//! `agentctl pod`: what runs on the node, as the node sees it.

use clap::Subcommand;
use serde::Deserialize;

use crate::connect::Agent;
use crate::table;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Every Pod of this node
    List,
    /// CPU and memory that the containers of this node use, as they were measured last
    Top,
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

/// What is told of the use of a Pod, and of its containers.
#[derive(Deserialize)]
struct Used {
    namespace: String,
    name: String,
    containers: Vec<Container>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    name: String,
    cpu_nanocores: u64,
    memory_bytes: u64,
}

pub(crate) async fn run(agent: &mut Agent, command: &Command) -> anyhow::Result<()> {
    match command {
        Command::List => list(agent).await,
        Command::Top => top(agent).await,
    }
}

async fn top(agent: &mut Agent) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Report {
        pods: Vec<Used>,
    }
    let mut report: Report = agent.get("/agent/v1/usage").await?;
    report.pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let rows = report.pods.into_iter().flat_map(|pod| {
        let Used { namespace, name, containers } = pod;
        containers.into_iter().map(move |container| {
            let cpu = format!("{}m", container.cpu_nanocores.div_ceil(1_000_000));
            let memory = format!("{}Mi", container.memory_bytes >> 20);
            vec![namespace.clone(), name.clone(), container.name, cpu, memory]
        })
    });
    Ok(table::print(&["NAMESPACE", "NAME", "CONTAINER", "CPU", "MEMORY"], rows.collect())?)
}

async fn list(agent: &mut Agent) -> anyhow::Result<()> {
    let rows: Vec<Row> = agent.get("/agent/v1/pods").await?;
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| vec![row.namespace, row.name, row.phase, row.ips.join(","), row.interface, row.uid])
        .collect();
    Ok(table::print(&["NAMESPACE", "NAME", "PHASE", "IP", "INTERFACE", "UID"], rows)?)
}
