//! Columns of Deployments and ReplicaSets.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, Column, NAME, NONE, Printer, age_of, at, count, list, name, number, or, printer, text, wide,
};

const CONTAINERS: Column = wide("Containers", "Names of each container in the template.");
const IMAGES: Column = wide("Images", "Images referenced by each container in the template.");
const SELECTOR: Column = wide("Selector", "The label selector of the pods.");

pub(crate) static DEPLOYMENT: Printer = printer(
    &[
        NAME,
        text("Ready", "Number of the pod with ready state."),
        number("Up-to-date", "Pods that have the desired template spec."),
        number("Available", "Pods that have been ready for at least minReadySeconds."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    deployment,
);

fn deployment(deployment: &Value, now: Timestamp) -> Vec<Value> {
    let [containers, images, selector] = template(deployment);
    let wanted = deployment.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    vec![
        name(deployment),
        format!("{}/{wanted}", count(deployment, "/status/readyReplicas")).into(),
        count(deployment, "/status/updatedReplicas").into(),
        count(deployment, "/status/availableReplicas").into(),
        age_of(deployment, now),
        containers,
        images,
        selector,
    ]
}

pub(crate) static REPLICA_SET: Printer = printer(
    &[
        NAME,
        number("Desired", "Number of desired pods."),
        number("Current", "The most recently observed number of pods."),
        number("Ready", "The number of pods with a Ready condition."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    replica_set,
);

fn replica_set(set: &Value, now: Timestamp) -> Vec<Value> {
    let [containers, images, selector] = template(set);
    vec![
        name(set),
        set.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1).into(),
        count(set, "/status/replicas").into(),
        count(set, "/status/readyReplicas").into(),
        age_of(set, now),
        containers,
        images,
        selector,
    ]
}

fn template(workload: &Value) -> [Value; 3] {
    let containers = list(workload, "/spec/template/spec/containers");
    let joined = |pointer: &str| -> Value {
        containers.iter().map(|c| at(c, pointer)).collect::<Vec<_>>().join(",").into()
    };
    let selector = super::selector(workload.pointer("/spec/selector"));
    [joined("/name"), joined("/image"), or(&selector, NONE)]
}
