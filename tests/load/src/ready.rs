//! `ready`: asks /readyz until the server says yes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::connection::Target;
use crate::options::{Cli, Ready};

const PAUSE: Duration = Duration::from_millis(20);

/// How long it took; the server writes its kubeconfig meanwhile.
pub(crate) async fn run(cli: &Cli, options: &Ready) -> Result<Value> {
    let began = Instant::now();
    loop {
        let Err(error) = once(cli).await else {
            return Ok(json!({ "ready_ms": began.elapsed().as_secs_f64() * 1e3 }));
        };
        if began.elapsed().as_secs() >= options.seconds {
            return Err(error).with_context(|| format!("waited {} s for the server", options.seconds));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn once(cli: &Cli) -> Result<()> {
    let mut lane = Target::read(cli.kubeconfig()?, cli.http)?.connect().await?;
    lane.ask(Method::GET, "/readyz", Bytes::new(), StatusCode::OK).await?;
    Ok(())
}
