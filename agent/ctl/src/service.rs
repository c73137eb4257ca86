//! `agentctl service`: Services as the node's live tables hold them.

use clap::Subcommand;
use weft_trace::rows::ServiceRow;

use crate::connect::Agent;
use crate::lines::{self, Amount};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Every Service port of the live tables, with its backends
    List {
        /// Only this Service
        #[arg(long, value_name = "NAMESPACE/NAME")]
        service: Option<String>,
        #[command(flatten)]
        amount: Amount,
    },
}

const HEADER: [&str; 6] = ["SERVICE", "KIND", "PROTOCOL", "FRONTEND", "POLICY", "BACKENDS"];

pub(crate) async fn run(agent: &mut Agent, command: &Command) -> anyhow::Result<()> {
    let Command::List { service, amount } = command;
    let path = amount.path("/agent/v1/services", &[("service", service)]);
    lines::print(agent, &path, amount.output, &HEADER, cells).await
}

fn cells(row: ServiceRow) -> Vec<String> {
    let mut policy = Vec::new();
    if row.local {
        policy.push("Local".to_owned());
    }
    if row.inside {
        policy.push("from inside".to_owned());
    }
    if row.affinity_seconds != 0 {
        policy.push(format!("affinity {}s", row.affinity_seconds));
    }
    let backends: Vec<String> = row.backends.iter().map(ToString::to_string).collect();
    let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
    vec![
        or(row.service, "<unknown>"),
        row.kind,
        row.protocol,
        row.frontend,
        or(policy.join(", "), "-"),
        or(backends.join(", "), "<none>"),
    ]
}
