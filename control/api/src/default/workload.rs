//! Defaults of Deployment and ReplicaSet.

use serde_json::{Map, Value};

use super::{made, object, pod, set};

pub(crate) fn deployment(deployment: &mut Map<String, Value>) {
    let Some(spec) = made(deployment, "spec") else { return };
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
    if let Some(strategy) = made(spec, "strategy") {
        set(strategy, "type", "RollingUpdate");
        if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate")
            && let Some(rolling) = made(strategy, "rollingUpdate")
        {
            set(rolling, "maxUnavailable", "25%");
            set(rolling, "maxSurge", "25%");
        }
    }
    template(spec);
}

pub(crate) fn replica_set(set_: &mut Map<String, Value>) {
    let Some(spec) = made(set_, "spec") else { return };
    set(spec, "replicas", 1);
    template(spec);
}

fn template(spec: &mut Map<String, Value>) {
    if let Some(inner) = object(spec, "template").and_then(|t| made(t, "spec")) {
        pod::spec(inner);
    }
}
