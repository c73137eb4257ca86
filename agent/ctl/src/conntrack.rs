//! `agentctl conntrack` and `agentctl nat`: flows and translations as the node's live tables hold them.

use clap::Args;
use weft_trace::Party;
use weft_trace::rows::{FlowRow, NatRow};

use crate::connect::Agent;
use crate::lines::{self, Amount, duration, size};

#[derive(Args)]
pub(crate) struct Options {
    /// Only what has this Pod at one of its ends
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pod: Option<String>,
    /// Only what this Service has balanced
    #[arg(long, value_name = "NAMESPACE/NAME")]
    service: Option<String>,
    #[command(flatten)]
    amount: Amount,
}

impl Options {
    fn path(&self, path: &str) -> String {
        self.amount.path(path, &[("pod", &self.pod), ("service", &self.service)])
    }
}

const FLOWS: [&str; 9] =
    ["PROTOCOL", "STATE", "SOURCE", "DESTINATION", "SERVICE", "BACKEND", "IDLE", "SENT", "ANSWERED"];
const NAT: [&str; 7] =
    ["AT", "PROTOCOL", "SOURCE", "DESTINATION", "NEW SOURCE", "NEW DESTINATION", "SERVICE"];

/// Tracked flows.
pub(crate) async fn flows(agent: &mut Agent, options: &Options) -> anyhow::Result<()> {
    let path = options.path("/agent/v1/conntrack");
    lines::print(agent, &path, options.amount.output, &FLOWS, flow_cells).await
}

/// Translations.
pub(crate) async fn nat(agent: &mut Agent, options: &Options) -> anyhow::Result<()> {
    let path = options.path("/agent/v1/nat");
    lines::print(agent, &path, options.amount.output, &NAT, nat_cells).await
}

fn flow_cells(row: FlowRow) -> Vec<String> {
    vec![
        row.protocol,
        row.state,
        row.source.to_string(),
        row.destination.to_string(),
        row.service.unwrap_or_else(|| "-".to_owned()),
        or_dash(row.backend),
        duration(row.idle_ms),
        format!("{} / {}", row.packets, size(row.bytes)),
        match row.direct {
            true => "by its node".to_owned(),
            false => format!("{} / {}", row.answer_packets, size(row.answer_bytes)),
        },
    ]
}

fn nat_cells(row: NatRow) -> Vec<String> {
    let source = row.source.map(|party| party.to_string());
    let socket = row.socket.map(|cookie| format!("socket {cookie}"));
    vec![
        row.at,
        row.protocol,
        source.or(socket).unwrap_or_else(|| "-".to_owned()),
        row.destination.to_string(),
        row.translated_source.map_or_else(|| "-".to_owned(), |source| source.to_string()),
        or_dash(row.translated_destination),
        row.service.unwrap_or_else(|| "-".to_owned()),
    ]
}

fn or_dash(party: Option<Party>) -> String {
    party.map_or_else(|| "-".to_owned(), |party| party.to_string())
}
