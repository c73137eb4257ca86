//! `agentctl image`: the node's image store.

use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::Context;
use bytes::Bytes;
use clap::Subcommand;
use futures_util::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use crate::connect::Agent;
use crate::{output, table};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Load the images of an OCI or docker archive ("-" reads standard input)
    Load {
        /// Archive, as `docker save` or `skopeo copy … oci-archive:` write it
        file: PathBuf,
    },
    /// Every image of this node
    List,
}

#[derive(Deserialize)]
struct Loaded {
    images: Vec<String>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    digest: String,
    bytes: u64,
}

pub(crate) async fn run(agent: &mut Agent, command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Load { file } => load(agent, file).await,
        Command::List => list(agent).await,
    }
}

async fn load(agent: &mut Agent, file: &PathBuf) -> anyhow::Result<()> {
    let input: Box<dyn tokio::io::AsyncRead + Send + Sync + Unpin> = if file.as_os_str() == "-" {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().context("standard input is closed")?;
        Box::new(tokio::fs::File::from_std(stdin.into()))
    } else {
        let file =
            tokio::fs::File::open(file).await.with_context(|| format!("opening {}", file.display()))?;
        Box::new(file)
    };
    let frames = ReaderStream::with_capacity(input, 256 << 10).map(|chunk| chunk.map(Frame::<Bytes>::data));
    let loaded: Loaded = agent.post("/agent/v1/images", StreamBody::new(frames)).await?;
    for image in loaded.images {
        output::line(format_args!("loaded {image}"))?;
    }
    Ok(())
}

async fn list(agent: &mut Agent) -> anyhow::Result<()> {
    let rows: Vec<Row> = agent.get("/agent/v1/images").await?;
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|row| vec![row.name, row.digest, size(row.bytes)]).collect();
    Ok(table::print(&["IMAGE", "DIGEST", "SIZE"], &rows)?)
}

fn size(bytes: u64) -> String {
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
    #[test]
    fn sizes_have_units() {
        assert_eq!(super::size(512), "512 B");
        assert_eq!(super::size(3 << 20), "3.0 MiB");
    }
}
