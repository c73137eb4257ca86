//! The three measurements: a cluster is filled, endpoints change, an agent starts empty. Each prints its samples as JSON.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::api::Api;
use crate::flags::Flags;
use crate::objects;
use crate::tables::{self, Seen, Tables};

/// Connections that fill the cluster at once.
const FILLERS: usize = 4;
/// How long one change may take before the bench gives up.
const CHANGE_MAX: Duration = Duration::from_secs(10);
/// How long all Services may take.
const ALL_MAX: Duration = Duration::from_secs(120);
/// Pause between two looks at the tables: with three kernels to look at, a small part of one CPU.
const LOOK_EVERY: Duration = Duration::from_micros(100);
/// Pause between two changes.
const CHANGE_EVERY: Duration = Duration::from_millis(3);
/// Changes that do not count.
const WARM: usize = 20;

/// Makes the Services from one number to another, each with its slice.
pub(crate) fn fill(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let credentials = flags.credentials()?;
    let (from, to) = (flags.number("--from")?, flags.number("--to")?);
    let began = Instant::now();
    thread::scope(|scope| {
        let fillers: Vec<_> = (0..FILLERS)
            .map(|filler| {
                let credentials = &credentials;
                scope.spawn(move || -> Result<(), String> {
                    let mut api = Api::connect(credentials).map_err(|error| error.to_string())?;
                    for service in (from + filler..to).step_by(FILLERS) {
                        for (path, object) in [objects::service(service), objects::slice(service)] {
                            api.ask("POST", &path, "application/json", &object)
                                .map_err(|error| format!("{path}: {error}"))?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        fillers.into_iter().try_for_each(|filler| filler.join().map_err(|_| "a filler is lost".to_owned())?)
    })?;
    println!("{}", json!({ "objects": 2 * (to - from), "seconds": began.elapsed().as_secs_f64() }));
    Ok(())
}

/// Changes one endpoint of one Service after the other, and waits each time until the last kernel has it.
pub(crate) fn change(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let (services, samples) = (flags.number("--services")?, flags.number("--samples")?);
    let run = flags.number("--run")?;
    let mut api = Api::connect(&flags.credentials()?)?;
    let kernels: Vec<Tables> =
        flags.directories()?.iter().map(|d| Tables::open(d)).collect::<Result<_, _>>()?;
    for kernel in &kernels {
        until(ALL_MAX, "all Services", || Ok(kernel.has_all(services)?.then_some(())))?;
    }
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for sample in 0..WARM + samples {
        // A stride that meets Services far from each other.
        let service = sample * 7_919 % services;
        let wanted = objects::changed_address(run, sample);
        let (path, patch) = objects::change(service, wanted);
        thread::sleep(CHANGE_EVERY);
        let began = Instant::now();
        api.send("PATCH", &path, "application/merge-patch+json", &patch)?;
        let mut at: Vec<Option<f64>> = vec![None; kernels.len()];
        until(CHANGE_MAX, &format!("the change of Service {service}"), || {
            for (kernel, at) in kernels.iter().zip(&mut at).filter(|(_, at)| at.is_none()) {
                if kernel.leads_to(service, wanted)? {
                    *at = Some(began.elapsed().as_secs_f64() * 1e3);
                }
            }
            Ok(at.iter().all(Option::is_some).then_some(()))
        })?;
        api.answer()?;
        if sample >= WARM {
            let at: Vec<f64> = at.into_iter().flatten().collect();
            first.push(at.iter().copied().fold(f64::INFINITY, f64::min));
            last.push(at.iter().copied().fold(0.0, f64::max));
        }
    }
    println!("{}", json!({ "services": services, "first_ms": first, "last_ms": last }));
    Ok(())
}

/// Waits until the tables of one node, which may not be there yet, hold all Services; tells when each step was done on the clock
/// that all processes share.
pub(crate) fn wait(flags: &Flags) -> Result<(), Box<dyn Error>> {
    let services = flags.number("--services")?;
    let directory = flags.directories()?.into_iter().next().ok_or("no directory")?;
    println!("ready");
    let tables = until(ALL_MAX, "the tables", || Ok(Tables::open(&directory).ok()))?;
    let tables_ns = now_ns()?;
    until(ALL_MAX, "the first Service", || Ok((tables.seen(services)? != Seen::Nothing).then_some(())))?;
    let first_ns = now_ns()?;
    until(ALL_MAX, "all Services", || Ok(tables.has_all(services)?.then_some(())))?;
    let all_ns = now_ns()?;
    let bytes = tables::memory_bytes(&directory)?;
    println!(
        "{}",
        json!({ "tables_ns": tables_ns, "first_ns": first_ns, "all_ns": all_ns, "map_bytes": bytes })
    );
    Ok(())
}

fn now_ns() -> Result<u64, Box<dyn Error>> {
    Ok(u64::try_from(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos())?)
}

/// Looks again and again until there is an answer.
fn until<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    let began = Instant::now();
    loop {
        if let Some(answer) = look()? {
            return Ok(answer);
        }
        if began.elapsed() > limit {
            return Err(format!("waited {} s for {what}", limit.as_secs()).into());
        }
        thread::sleep(LOOK_EVERY);
    }
}
