//! `agentctl map`: the kernel's tables, how full they are, and their rows in words.

use clap::Args;
use serde_json::Value;
use weft_trace::rows::{RawRow, TableRow};

use crate::connect::Agent;
use crate::lines::{self, Amount, Output, encoded, size};
use crate::{output, table};

#[derive(Args)]
pub(crate) struct Options {
    /// The rows of this table; without it, all tables are listed
    name: Option<String>,
    /// Say of every table who has most of its rows; otherwise of those that are nearly full
    #[arg(long, conflicts_with = "name")]
    owners: bool,
    #[command(flatten)]
    amount: Amount,
}

const HEADER: [&str; 6] = ["TABLE", "KIND", "ROWS", "CAPACITY", "MEMORY", "WHEN FULL"];

pub(crate) async fn run(agent: &mut Agent, options: &Options) -> anyhow::Result<()> {
    match &options.name {
        Some(name) => {
            let path = options.amount.path(&format!("/agent/v1/maps/{}", encoded(name)), &[]);
            let cells = |row: RawRow| vec![fields(&row.key), fields(&row.value)];
            lines::print(agent, &path, options.amount.output, &["KEY", "VALUE"], cells).await
        }
        None => list(agent, options).await,
    }
}

async fn list(agent: &mut Agent, options: &Options) -> anyhow::Result<()> {
    let tables: Vec<TableRow> = agent.get(&format!("/agent/v1/maps?owners={}", options.owners)).await?;
    if options.amount.output == Output::Json {
        for table in &tables {
            output::line(serde_json::to_string(table)?)?;
        }
        return Ok(());
    }
    table::print(&HEADER, tables.iter().map(cells).collect())?;
    for table in tables.iter().filter(|table| !table.owners.is_empty()) {
        let full = table.percent().map_or_else(String::new, |percent| format!(" ({percent} % full)"));
        output::line(format_args!("\n{}{full}, rows by owner:", table.name))?;
        for owner in &table.owners {
            output::line(format_args!("  {:>9}  {}", owner.rows, owner.owner))?;
        }
    }
    Ok(())
}

fn cells(row: &TableRow) -> Vec<String> {
    let rows = match (row.rows, row.percent()) {
        (Some(rows), Some(percent)) => format!("{rows} ({percent} %)"),
        _ => "-".to_owned(),
    };
    let capacity = if row.rows.is_some() { row.capacity.to_string() } else { size(row.capacity) };
    vec![row.name.clone(), row.kind.clone(), rows, capacity, size(row.memory_bytes), row.when_full.clone()]
}

/// `name=value` of each field.
fn fields(value: &Value) -> String {
    let Value::Object(fields) = value else { return value.to_string() };
    let field = |(name, value): (&String, &Value)| match value {
        Value::String(text) if text.contains(' ') => format!("{name}={text:?}"),
        Value::String(text) => format!("{name}={text}"),
        Value::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            format!("{name}={}", if items.is_empty() { "-".to_owned() } else { items.join("+") })
        }
        other => format!("{name}={other}"),
    };
    let texts: Vec<String> = fields.iter().map(field).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_fields_on_a_line() {
        let row = serde_json::json!({ "address": "10.0.0.1", "flags": ["a", "b"], "none": [], "port": 80 });
        assert_eq!(fields(&row), "address=10.0.0.1 flags=a+b none=- port=80");
        assert_eq!(fields(&serde_json::json!({})), "-");
    }
}
