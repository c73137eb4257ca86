//! Requests and limits as cgroup numbers.

use serde_json::{Value, json};
use weft_api::quantity::{Quantity, QuantityError};
use weft_api::view::pod::{Container, Pod};

use crate::pod::status::qos;

/// Length of a CPU accounting period, microseconds.
const CPU_PERIOD_US: i64 = 100_000;
/// Least quota the kernel takes, microseconds.
const CPU_QUOTA_MIN_US: i64 = 1_000;
/// Most processes of a container.
const PIDS_MAX: i64 = 32_768;

/// A quantity that is none.
#[derive(Debug, thiserror::Error)]
#[error("container {container}: {resource} is no quantity")]
pub(crate) struct ResourceError {
    container: String,
    resource: String,
    #[source]
    source: QuantityError,
}

fn quantity(container: &Container, side: &str, name: &str) -> Result<Option<Quantity>, ResourceError> {
    let map = if side == "limits" { &container.resources.limits } else { &container.resources.requests };
    let read = |value| {
        Quantity::from_value(value).map_err(|source| ResourceError {
            container: container.name.clone(),
            resource: format!("{side}.{name}"),
            source,
        })
    };
    map.get(name).map(read).transpose()
}

/// `linux.resources` without devices.
pub(crate) fn resources(container: &Container) -> Result<Value, ResourceError> {
    let request = quantity(container, "requests", "cpu")?.or(quantity(container, "limits", "cpu")?);
    let shares = request.map_or(2, |q| (q.milli_ceil() * 1024 / 1000).clamp(2, 262_144));
    let mut cpu = json!({ "shares": shares });
    if let Some(limit) = quantity(container, "limits", "cpu")?.filter(|q| !q.is_zero()) {
        cpu["period"] = json!(CPU_PERIOD_US);
        cpu["quota"] = json!((limit.milli_ceil() * CPU_PERIOD_US / 1000).max(CPU_QUOTA_MIN_US));
    }
    let mut resources = json!({ "cpu": cpu, "pids": { "limit": PIDS_MAX } });
    if let Some(limit) = quantity(container, "limits", "memory")?.filter(|q| !q.is_zero()) {
        resources["memory"] = json!({ "limit": limit.units_ceil() });
    }
    Ok(resources)
}

/// How soon the kernel should choose the container when memory ends (the kubelet's rule).
pub(crate) fn oom_score_adj(pod: &Pod, container: &Container) -> i32 {
    match qos(pod) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request =
                quantity(container, "requests", "memory").ok().flatten().map_or(0, Quantity::units_ceil);
            let share =
                1000 - i64::try_from(i128::from(request) * 1000 / i128::from(memory_bytes())).unwrap_or(1000);
            i32::try_from(share.clamp(3, 999)).unwrap_or(999)
        }
    }
}

fn memory_bytes() -> i64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = info
        .lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<i64>().ok());
    kib.map_or(i64::MAX, |k| k.saturating_mul(1024)).max(1)
}

/// A request or limit as `resourceFieldRef` gives it: a whole number of `divisor`s, rounded up.
pub(crate) fn field(
    container: &Container,
    resource: &str,
    divisor: &Value,
) -> Result<Option<i64>, ResourceError> {
    let Some((side, name)) = resource.split_once('.') else { return Ok(None) };
    let divisor = match divisor {
        Value::Null => None,
        Value::String(text) if text.is_empty() || text == "0" => None,
        other => Quantity::from_value(other).ok().filter(|q| !q.is_zero()),
    };
    let Some(found) = quantity(container, side, name)? else { return Ok(None) };
    let divisor_milli = i128::from(divisor.map_or(1000, Quantity::milli_ceil)).max(1);
    // Bytes may be too many to count in thousandths.
    let milli =
        if name == "cpu" { i128::from(found.milli_ceil()) } else { i128::from(found.units_ceil()) * 1000 };
    Ok(i64::try_from((milli + divisor_milli - 1) / divisor_milli).ok())
}
