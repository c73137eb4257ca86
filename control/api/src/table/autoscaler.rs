//! Columns of HorizontalPodAutoscalers.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, NAME, NONE, Printer, UNKNOWN, UNSET, age_of, at, count, list, name, printer, text};

/// How many metrics a cell shows.
const METRICS_SHOWN_MAX: usize = 2;

pub(crate) static PRINTER: Printer = printer(
    &[
        NAME,
        text("Reference", "What is scaled."),
        text("Targets", "What is measured, and what it is to be."),
        text("MinPods", "The lower limit of pods."),
        text("MaxPods", "The upper limit of pods."),
        text("Replicas", "The number of pods that were last seen."),
        AGE,
    ],
    autoscaler,
);

fn autoscaler(autoscaler: &Value, now: Timestamp) -> Vec<Value> {
    let least = autoscaler.pointer("/spec/minReplicas").and_then(Value::as_i64);
    let target = |key: &str| at(autoscaler, &format!("/spec/scaleTargetRef/{key}")).to_owned();
    vec![
        name(autoscaler),
        format!("{}/{}", target("kind"), target("name")).into(),
        metrics(list(autoscaler, "/spec/metrics"), list(autoscaler, "/status/currentMetrics")).into(),
        least.map_or_else(|| UNSET.to_owned(), |n| n.to_string()).into(),
        count(autoscaler, "/spec/maxReplicas").into(),
        count(autoscaler, "/status/currentReplicas").into(),
        age_of(autoscaler, now),
    ]
}

fn metrics(specs: &[Value], statuses: &[Value]) -> String {
    if specs.is_empty() {
        return NONE.to_owned();
    }
    let shown: Vec<String> = specs
        .iter()
        .take(METRICS_SHOWN_MAX)
        .enumerate()
        .map(|(at, spec)| metric(spec, statuses.get(at).unwrap_or(&Value::Null)))
        .collect();
    match specs.len().saturating_sub(METRICS_SHOWN_MAX) {
        0 => shown.join(", "),
        more => format!("{} + {more} more...", shown.join(", ")),
    }
}

/// What a metric is and what it is to be: `cpu: 12%/80%`.
fn metric(spec: &Value, status: &Value) -> String {
    let (field, is_resource) = match at(spec, "/type") {
        "ContainerResource" => ("containerResource", true),
        "Resource" => ("resource", true),
        "External" => ("external", false),
        "Object" => ("object", false),
        "Pods" => ("pods", false),
        _ => return "<unknown type>".to_owned(),
    };
    let target = |key: &str| spec.pointer(&format!("/{field}/target/{key}")).filter(|v| !v.is_null());
    let current = |key: &str| status.pointer(&format!("/{field}/current/{key}")).filter(|v| !v.is_null());
    let text = |value: Option<&Value>, unit: &str, none: &str| match value {
        Some(Value::String(text)) => format!("{text}{unit}"),
        Some(other) => format!("{other}{unit}"),
        None => none.to_owned(),
    };
    let average = target("averageValue");
    if is_resource {
        let name = at(spec, &format!("/{field}/name"));
        return match average {
            Some(_) => {
                format!("{name}: {}/{}", text(current("averageValue"), "", UNKNOWN), text(average, "", ""))
            }
            None => {
                let goal = text(target("averageUtilization"), "%", "<auto>");
                format!("{name}: {}/{goal}", text(current("averageUtilization"), "%", UNKNOWN))
            }
        };
    }
    match average {
        Some(_) => {
            let mark = if field == "pods" { "" } else { " (avg)" };
            format!("{}/{}{mark}", text(current("averageValue"), "", UNKNOWN), text(average, "", ""))
        }
        None => format!("{}/{}", text(current("value"), "", UNKNOWN), text(target("value"), "", "0")),
    }
}
