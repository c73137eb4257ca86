//! `agentctl status`: whether this node is well.

use clap::Args;
use serde_json::Value;

use crate::connect::Agent;
use crate::output;

#[derive(Args)]
pub(crate) struct Options {
    /// Output: text or json
    #[arg(short, long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

/// Prints the agent's status, a line a field; nested fields with dots.
pub(crate) async fn run(agent: &mut Agent, options: &Options) -> anyhow::Result<()> {
    let status: Value = agent.get("/agent/v1/status").await?;
    if options.output == "json" {
        return Ok(output::line(serde_json::to_string_pretty(&status)?)?);
    }
    let mut rows = Vec::new();
    flatten("", &status, &mut rows);
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        output::line(format_args!("{name:<width$}  {value}"))?;
    }
    Ok(())
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                flatten(&name, value, rows);
            }
        }
        Value::String(text) => rows.push((name.to_owned(), text.clone())),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for item in items {
                let mut fields = item.as_object().cloned().unwrap_or_default();
                // The first field that is text names the item.
                let label = fields
                    .iter()
                    .find_map(|(field, value)| Some((field.clone(), value.as_str()?.to_owned())));
                let (field, label) = label.unwrap_or_default();
                fields.remove(&field);
                flatten(&format!("{name}.{label}"), &Value::Object(fields), rows);
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                .collect();
            rows.push((name.to_owned(), items.join(", ")));
        }
        Value::Null => rows.push((name.to_owned(), "-".to_owned())),
        other => rows.push((name.to_owned(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nested_fields_get_dotted_names() {
        let mut rows = Vec::new();
        super::flatten("", &serde_json::json!({"link": {"connected": true}, "cidrs": ["a", "b"]}), &mut rows);
        rows.sort();
        assert_eq!(rows, [("cidrs".into(), "a, b".into()), ("link.connected".into(), "true".into())]);
    }

    #[test]
    fn items_of_a_list_are_named_by_their_text() {
        let mut rows = Vec::new();
        let tables = serde_json::json!({ "tables": [{ "table": "services", "rows": 7 }, { "table": "nodes", "rows": 2 }] });
        super::flatten("", &tables, &mut rows);
        assert_eq!(
            rows,
            [("tables.services.rows".into(), "7".into()), ("tables.nodes.rows".into(), "2".into())]
        );
    }
}
