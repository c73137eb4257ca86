//! Answers that come a JSON object a line, and how they are printed.

use clap::{Args, ValueEnum};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use weft_trace::rows::Tail;

use crate::connect::Agent;
use crate::output::line;
use crate::table::Table;

/// Longest line of an answer, bytes.
const LINE_BYTES_MAX: usize = 1 << 20;

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

/// How much of a table is wanted.
#[derive(Args)]
pub(crate) struct Amount {
    /// At most so many rows; 0 for all of them
    #[arg(long, default_value_t = 1_000, value_name = "ROWS")]
    limit: u64,
    /// Output: a table, or one JSON object a line
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: Output,
}

impl Amount {
    /// The path with what is set of these parameters.
    pub(crate) fn path(&self, path: &str, parameters: &[(&str, &Option<String>)]) -> String {
        let set = parameters.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?)));
        let set: String = set.map(|(name, value)| format!("&{name}={}", encoded(value))).collect();
        format!("{path}?limit={}{set}", self.limit)
    }
}

/// A parameter's value as it stands in a URL.
pub(crate) fn encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte);
    value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Gives every line of an answer.
pub(crate) async fn each(
    agent: &mut Agent,
    path: &str,
    mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut body = agent.stream(path).await?;
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
        lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).try_for_each(&mut take)?;
    }
    Ok(())
}

/// Prints rows as they come, and in the end how many were left off.
pub(crate) async fn print<T: DeserializeOwned>(
    agent: &mut Agent,
    path: &str,
    output: Output,
    header: &'static [&'static str],
    cells: impl Fn(T) -> Vec<String>,
) -> anyhow::Result<()> {
    let mut table = Table::new(header);
    let mut left_off = 0;
    each(agent, path, |text| {
        if let Ok(tail) = serde_json::from_slice::<Tail>(text) {
            left_off = tail.left_off;
            return Ok(());
        }
        match output {
            Output::Json => line(String::from_utf8_lossy(text))?,
            Output::Text => table.row(cells(serde_json::from_slice(text)?))?,
        }
        Ok(())
    })
    .await?;
    if output == Output::Text {
        table.end()?;
    }
    if left_off > 0 {
        let text = format!("{left_off} more are left off: --limit 0 shows all");
        match output {
            Output::Text => line(text)?,
            // Standard output is for programs then. Who does not read the other hears nothing.
            Output::Json => drop(std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{text}\n"))),
        }
    }
    Ok(())
}

/// Milliseconds for people.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..120_000 => format!("{}s", ms / 1_000),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        _ => format!("{}h", ms / 3_600_000),
    }
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(size(512), "512 B");
        assert_eq!(size(3 << 20), "3.0 MiB");
        assert_eq!(duration(17), "17ms");
        assert_eq!(duration(61_000), "61s");
        assert_eq!(duration(8_000_000), "2h");
    }

    #[test]
    fn parameters_are_written_as_urls_have_them() {
        let amount = Amount { limit: 5, output: Output::Text };
        let (pod, none) = (Some("a/b c&d".to_owned()), None);
        assert_eq!(amount.path("/x", &[("pod", &pod), ("service", &none)]), "/x?limit=5&pod=a/b%20c%26d");
    }
}
