//! `autoscaling/v1`: HorizontalPodAutoscalers in the words of the first version. It has a field for the use of CPU alone;
//! all else that the stored version says stands in annotations, as Kubernetes writes them.

use serde_json::{Map, Value, json};

use super::super::Dialect;
use crate::decode::{self, FieldValidation};

pub(super) static DIALECT: Dialect = Dialect {
    stored: &super::super::HORIZONTAL_POD_AUTOSCALER,
    into_stored,
    from_stored,
    field: |path| path.to_owned(),
};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// Annotations that only this version has: there is a field for each in the stored one.
const ANNOTATIONS: [&str; 4] = [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR];
/// Where the definitions of the stored version are.
const STORED: &str = "io.k8s.api.autoscaling.v2";

/// What a field of a metric's source is called here, and where it is in the stored version.
type Names = [(&'static str, &'static [(&'static str, &'static str)])];

const SOURCES: &Names = &[
    (
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("targetValue", "target.value"),
            ("averageValue", "target.averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
    (
        "resource",
        &[
            ("name", "name"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", "name"),
            ("container", "container"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("targetValue", "target.value"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
];

const STATUSES: &Names = &[
    (
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("currentValue", "current.value"),
            ("averageValue", "current.averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name"),
            ("selector", "metric.selector"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "resource",
        &[
            ("name", "name"),
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", "name"),
            ("container", "container"),
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("currentValue", "current.value"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
];

/// The two sides of a metric.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    /// What it is to be.
    Goal,
    /// What it is.
    Current,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    FromStored,
    IntoStored,
}

fn from_stored(autoscaler: &mut Map<String, Value>) {
    drop_annotations(autoscaler);
    let mut notes = Vec::new();
    if let Some(spec) = part(autoscaler, "spec") {
        let metrics = taken(spec, "metrics");
        let share = |metric: &Value| {
            let share = metric.pointer("/resource/target/averageUtilization")?;
            is_cpu(metric).then(|| share.clone())
        };
        // The field has room for one; a second of the same is kept with the others, where Kubernetes drops it.
        let told = metrics.iter().position(|metric| share(metric).is_some());
        if let Some(share) = told.and_then(|told| share(&metrics[told])) {
            spec.insert("targetCPUUtilizationPercentage".into(), share);
        }
        let others = metrics.iter().enumerate().filter(|(index, _)| Some(*index) != told);
        let others = others.map(|(_, metric)| renamed(metric, Side::Goal, Way::FromStored));
        notes.push((METRICS, others.collect()));
        if let Some(behavior) = spec.remove("behavior") {
            notes.push((BEHAVIOR, with_names(behavior, &capital)));
        }
    }
    if let Some(status) = part(autoscaler, "status") {
        let metrics = taken(status, "currentMetrics");
        let cpu = metrics.iter().find(|metric| is_cpu(metric));
        if let Some(share) = cpu.and_then(|metric| metric.pointer("/resource/current/averageUtilization")) {
            status.insert("currentCPUUtilizationPercentage".into(), share.clone());
        }
        let metrics = metrics.iter().map(|metric| renamed(metric, Side::Current, Way::FromStored));
        notes.push((CURRENT_METRICS, metrics.collect()));
        notes.push((CONDITIONS, taken(status, "conditions").into()));
        // Always told in this version.
        for key in ["currentReplicas", "desiredReplicas"] {
            status.entry(key).or_insert_with(|| 0.into());
        }
    }
    notes.retain(|(_, value)| !value.as_array().is_some_and(Vec::is_empty));
    if let Some(annotations) = (!notes.is_empty()).then(|| annotations(autoscaler)).flatten() {
        for (key, value) in notes {
            annotations.insert(key.to_owned(), value.to_string().into());
        }
    }
}

fn into_stored(autoscaler: &mut Map<String, Value>) {
    let notes = drop_annotations(autoscaler);
    let note = |key: &str| notes.iter().find(|(noted, _)| *noted == key).map(|(_, text)| text.as_str());
    let list = |key: &str, side: Option<Side>, type_: &str| list_of(note(key)?, side, type_);
    let behavior = note(BEHAVIOR).and_then(behavior_of);
    if let Some(spec) = part(autoscaler, "spec") {
        let mut metrics = list(METRICS, Some(Side::Goal), "MetricSpec").unwrap_or_default();
        if let Some(share) = spec.remove("targetCPUUtilizationPercentage").filter(|share| !share.is_null()) {
            let target = json!({"type": "Utilization", "averageUtilization": share});
            metrics.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        if !metrics.is_empty() {
            spec.insert("metrics".into(), metrics.into());
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior".into(), behavior);
        }
    }
    let current = list(CURRENT_METRICS, Some(Side::Current), "MetricStatus");
    let conditions = list(CONDITIONS, None, "HorizontalPodAutoscalerCondition");
    if current.is_some() || conditions.is_some() {
        autoscaler.entry("status").or_insert_with(|| json!({}));
    }
    let Some(status) = part(autoscaler, "status") else { return };
    let share = status.remove("currentCPUUtilizationPercentage").filter(|share| !share.is_null());
    let cpu = share.map(|share| {
        vec![json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": share}}})]
    });
    // The annotation says more than the field.
    for (key, items) in [("currentMetrics", current.or(cpu)), ("conditions", conditions)] {
        if let Some(items) = items.filter(|items| !items.is_empty()) {
            status.insert(key.into(), items.into());
        }
    }
    if status.get("currentReplicas").and_then(Value::as_i64) == Some(0) {
        status.remove("currentReplicas");
    }
}

/// Takes this version's annotations away.
pub(crate) fn drop_annotations(autoscaler: &mut Map<String, Value>) -> Vec<(&'static str, String)> {
    let Some(metadata) = part(autoscaler, "metadata") else { return Vec::new() };
    let Some(annotations) = part(metadata, "annotations") else { return Vec::new() };
    let text = |value: Value| value.as_str().map(ToOwned::to_owned);
    let dropped: Vec<_> =
        ANNOTATIONS.iter().filter_map(|key| Some((*key, text(annotations.remove(*key)?)?))).collect();
    if annotations.is_empty() && !dropped.is_empty() {
        metadata.remove("annotations");
    }
    dropped
}

fn annotations(autoscaler: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    let metadata = autoscaler.entry("metadata").or_insert_with(|| json!({})).as_object_mut()?;
    metadata.entry("annotations").or_insert_with(|| json!({})).as_object_mut()
}

fn part<'a>(object: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    object.get_mut(key)?.as_object_mut()
}

fn taken(object: &mut Map<String, Value>, key: &str) -> Vec<Value> {
    match object.remove(key) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

/// A metric by the other version's names.
fn renamed(metric: &Value, side: Side, way: Way) -> Value {
    let names = if side == Side::Goal { SOURCES } else { STATUSES };
    let mut out = json!({ "type": metric["type"] });
    for (source, fields) in names {
        let Some(given) = metric.get(source).filter(|given| given.is_object()) else { continue };
        let mut renamed = json!({});
        for (here, stored) in *fields {
            let (from, to) = match way {
                Way::FromStored => (stored, here),
                Way::IntoStored => (here, stored),
            };
            let value = from.split('.').try_fold(given, |value, key| value.get(key));
            if let Some(value) = value.filter(|value| !value.is_null()) {
                let place = to.split('.').fold(&mut renamed, |place, key| &mut place[key]);
                *place = value.clone();
            }
        }
        if way == Way::IntoStored {
            complete(&mut renamed, source, side);
        }
        out[*source] = renamed;
    }
    out
}

/// What this version leaves open: the type of a goal is told by the number that is given.
fn complete(source: &mut Value, name: &str, side: Side) {
    if side == Side::Current {
        if source["current"].is_null() {
            source["current"] = json!({});
        }
        return;
    }
    let target = &mut source["target"];
    // A number that is always there in Go.
    if name == "object" && target["value"] == "0" && !target["averageValue"].is_null() {
        target["value"] = Value::Null;
    }
    let is_set = |key: &str| target.get(key).is_some_and(|value| !value.is_null());
    let type_ = match name {
        "object" if !is_set("averageValue") => "Value",
        "external" if is_set("value") => "Value",
        "resource" | "containerResource" if is_set("averageUtilization") => "Utilization",
        _ => "AverageValue",
    };
    target["type"] = type_.into();
}

/// The items of an annotation as they are stored; none if it is not what it should be.
fn list_of(text: &str, side: Option<Side>, type_: &str) -> Option<Vec<Value>> {
    let items: Vec<Value> = serde_json::from_str(text).ok()?;
    items
        .into_iter()
        .map(|item| {
            item.as_object()?;
            let mut item = side.map_or_else(|| item.clone(), |side| renamed(&item, side, Way::IntoStored));
            decode::check(&format!("{STORED}.{type_}"), &mut item, FieldValidation::Ignore).ok()?;
            Some(item)
        })
        .collect()
}

/// Kubernetes writes its own Go struct there, whose names begin with capitals; by hand they are written as in the API.
fn behavior_of(text: &str) -> Option<Value> {
    let mut behavior = with_names(serde_json::from_str(text).ok()?, &small);
    let type_ = format!("{STORED}.HorizontalPodAutoscalerBehavior");
    decode::check(&type_, &mut behavior, FieldValidation::Ignore).ok()?;
    Some(behavior)
}

fn with_names(value: Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::Object(object) => {
            let entries = object.into_iter().map(|(key, value)| (change(&key), with_names(value, change)));
            Value::Object(entries.collect())
        }
        Value::Array(items) => items.into_iter().map(|item| with_names(item, change)).collect(),
        other => other,
    }
}

fn capital(name: &str) -> String {
    let (first, rest) = name.split_at_checked(1).unwrap_or(("", name));
    first.to_ascii_uppercase() + rest
}

fn small(name: &str) -> String {
    let (first, rest) = name.split_at_checked(1).unwrap_or(("", name));
    first.to_ascii_lowercase() + rest
}

#[cfg(test)]
mod tests;
