//! `get`: reads of single objects, at random.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::configmap::{filled, path};
use crate::connection::Target;
use crate::create::{joined, line};
use crate::histogram::Histogram;
use crate::meter::Meter;
use crate::options::Get;
use crate::random::Random;

/// As many as the time allows.
pub(crate) async fn run(target: &Target, options: &Get, server_pid: Option<u32>) -> Result<Value> {
    ensure!(options.objects > 0, "nothing to read");
    let lanes = target.lanes(options.connections, options.streams).await?;
    let meter = Meter::start(server_pid)?;
    let until = Instant::now() + Duration::from_secs_f64(options.seconds);
    let mut running = JoinSet::new();
    for (number, mut lane) in lanes.into_iter().enumerate() {
        let (path, objects) = (path(&options.namespace), options.objects);
        running.spawn(async move {
            let (mut times, mut random) = (Histogram::default(), Random::new(number as u64));
            let mut began = Instant::now();
            while began < until {
                let one = format!("{path}/{}", filled(random.below(objects)));
                lane.ask(Method::GET, &one, Bytes::new(), StatusCode::OK).await?;
                let now = Instant::now();
                times.record(now - began);
                began = now;
            }
            Ok(times)
        });
    }
    let times = joined(running).await?;
    Ok(line(&times, &meter.stop()?))
}
