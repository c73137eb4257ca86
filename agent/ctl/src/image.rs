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
use crate::lines::size;
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
    Ok(table::print(&["IMAGE", "DIGEST", "SIZE"], rows)?)
}
