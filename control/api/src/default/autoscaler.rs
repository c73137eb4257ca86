//! Defaults of HorizontalPodAutoscalers.

use serde_json::{Map, Value, json};

use super::{made, object, set, zeros};
use crate::kind::drop_annotations;

/// The share of its requested CPU that a Pod is to use, per cent.
const CPU_PERCENT: i64 = 80;

pub(crate) fn autoscaler(autoscaler: &mut Map<String, Value>) {
    // What they say stands in fields.
    drop_annotations(autoscaler);
    zeros(autoscaler, "status", &["desiredReplicas"]);
    let Some(spec) = made(autoscaler, "spec") else { return };
    set(spec, "minReplicas", 1);
    if spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        let target = json!({ "type": "Utilization", "averageUtilization": CPU_PERCENT });
        let metric = json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } });
        spec.insert("metrics".into(), json!([metric]));
    }
    let Some(behavior) = object(spec, "behavior") else { return };
    let percent = json!({ "type": "Percent", "value": 100, "periodSeconds": 15 });
    if let Some(up) = made(behavior, "scaleUp") {
        set(up, "stabilizationWindowSeconds", 0);
        set(up, "selectPolicy", "Max");
        set(up, "policies", json!([{ "type": "Pods", "value": 4, "periodSeconds": 15 }, percent.clone()]));
    }
    if let Some(down) = made(behavior, "scaleDown") {
        set(down, "selectPolicy", "Max");
        set(down, "policies", json!([percent]));
    }
}
