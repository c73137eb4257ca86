//! `create` and `fill`: new ConfigMaps, for a time or up to a number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::configmap::{Template, ensure_namespace, filled, path};
use crate::connection::{Lane, Target};
use crate::histogram::Histogram;
use crate::meter::{Cost, Meter};
use crate::options::{Create, Fill};
use crate::random::Random;

/// Distinct names for as long as the time lasts.
pub(crate) async fn run(target: &Target, options: &Create, server_pid: Option<u32>) -> Result<Value> {
    let mut lanes = target.lanes(options.connections, 1).await?;
    ensure_namespace(&mut lanes[0], &options.namespace).await?;
    let all = Arc::new(All::new(&options.namespace, options.bytes));
    let meter = Meter::start(server_pid)?;
    let until = Instant::now() + Duration::from_secs_f64(options.seconds);
    let mut running = JoinSet::new();
    for lane in lanes {
        let (all, prefix) = (all.clone(), options.prefix.clone());
        running.spawn(async move {
            all.create(lane, |number| (Instant::now() < until).then(|| format!("{prefix}-{number}"))).await
        });
    }
    let times = joined(running).await?;
    Ok(line(&times, &meter.stop()?))
}

/// So many objects, from 0 on.
pub(crate) async fn fill(target: &Target, options: &Fill) -> Result<Value> {
    let mut lanes = target.lanes(options.connections, 1).await?;
    ensure_namespace(&mut lanes[0], &options.namespace).await?;
    let all = Arc::new(All::new(&options.namespace, options.bytes));
    let meter = Meter::start(None)?;
    let mut running = JoinSet::new();
    for lane in lanes {
        let (all, objects) = (all.clone(), options.objects);
        running.spawn(
            async move { all.create(lane, |number| (number < objects).then(|| filled(number))).await },
        );
    }
    let times = joined(running).await?;
    Ok(line(&times, &meter.stop()?))
}

/// What the lanes share.
struct All {
    path: String,
    template: Template,
    next: AtomicU64,
}

impl All {
    fn new(namespace: &str, bytes: usize) -> Self {
        let template = Template::new(bytes, &mut Random::new(bytes as u64));
        Self { path: path(namespace), template, next: AtomicU64::new(0) }
    }

    /// One after the other, until there is no further name.
    async fn create(&self, mut lane: Lane, name: impl Fn(u64) -> Option<String>) -> Result<Histogram> {
        let mut times = Histogram::default();
        while let Some(name) = name(self.next.fetch_add(1, Ordering::Relaxed)) {
            let began = Instant::now();
            self.template.create(&mut lane, &self.path, &name).await?;
            times.record(began.elapsed());
        }
        Ok(times)
    }
}

/// Everybody's times.
pub(crate) async fn joined(mut running: JoinSet<Result<Histogram>>) -> Result<Histogram> {
    let mut times = Histogram::default();
    while let Some(done) = running.join_next().await {
        times.add(&done??);
    }
    Ok(times)
}

/// Requests of one sort, as JSON.
pub(crate) fn line(times: &Histogram, cost: &Cost) -> Value {
    json!({
        "requests": times.count(),
        "per_second": times.count() as f64 / cost.seconds,
        "p50_ms": times.percentile_ms(0.5),
        "p99_ms": times.percentile_ms(0.99),
        "most_ms": times.most_ms(),
        "seconds": cost.seconds,
        "server_cpu_seconds": cost.server_cpu_seconds,
        "load_cpu_seconds": cost.load_cpu_seconds,
    })
}
