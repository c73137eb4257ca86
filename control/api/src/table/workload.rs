//! Columns of Deployments, the sets, ReplicationControllers, ControllerRevisions and PodTemplates.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, Column, NAME, NONE, Printer, age_of, at, count, labels, list, name, number, or, printer, text, wide,
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

/// Of what keeps a number of Pods.
const REPLICAS: &[Column] = &[
    NAME,
    number("Desired", "Number of desired pods."),
    number("Current", "The most recently observed number of pods."),
    number("Ready", "The number of pods with a Ready condition."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) static REPLICA_SET: Printer = printer(REPLICAS, replica_set);

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

pub(crate) static REPLICATION_CONTROLLER: Printer = printer(REPLICAS, |controller, now| {
    let mut cells = replica_set(controller, now);
    // Its selector is the labels alone.
    cells.pop();
    cells.push(labels(controller.pointer("/spec/selector")));
    cells
});

pub(crate) static STATEFUL_SET: Printer = printer(
    &[NAME, text("Ready", "Number of the pod with ready state"), AGE, CONTAINERS, IMAGES],
    stateful_set,
);

fn stateful_set(set: &Value, now: Timestamp) -> Vec<Value> {
    let [containers, images, _] = template(set);
    let wanted = set.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    vec![
        name(set),
        format!("{}/{wanted}", count(set, "/status/readyReplicas")).into(),
        age_of(set, now),
        containers,
        images,
    ]
}

pub(crate) static DAEMON_SET: Printer = printer(
    &[
        NAME,
        number("Desired", "Nodes that should be running the daemon pod."),
        number("Current", "Nodes that are running at least one daemon pod and are supposed to."),
        number("Ready", "Nodes that should be running the daemon pod and have one with a Ready condition."),
        number("Up-to-date", "Nodes that are running updated daemon pod."),
        number("Available", "Nodes that should be running the daemon pod and have one available."),
        text("Node Selector", "Which nodes the pods are for."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    daemon_set,
);

fn daemon_set(set: &Value, now: Timestamp) -> Vec<Value> {
    let [containers, images, selector] = template(set);
    vec![
        name(set),
        count(set, "/status/desiredNumberScheduled").into(),
        count(set, "/status/currentNumberScheduled").into(),
        count(set, "/status/numberReady").into(),
        count(set, "/status/updatedNumberScheduled").into(),
        count(set, "/status/numberAvailable").into(),
        labels(set.pointer("/spec/template/spec/nodeSelector")),
        age_of(set, now),
        containers,
        images,
        selector,
    ]
}

pub(crate) static CONTROLLER_REVISION: Printer = printer(
    &[
        NAME,
        text("Controller", "Controller of the object"),
        number("Revision", "The number of the state within its controller's history."),
        AGE,
    ],
    controller_revision,
);

fn controller_revision(revision: &Value, now: Timestamp) -> Vec<Value> {
    let owners = list(revision, "/metadata/ownerReferences");
    let controller = owners.iter().find(|owner| owner["controller"] == true).map(|owner| {
        let kind = at(owner, "/kind").to_lowercase();
        match at(owner, "/apiVersion").split_once('/') {
            Some((group, _)) => format!("{kind}.{group}/{}", at(owner, "/name")),
            None => format!("{kind}/{}", at(owner, "/name")),
        }
    });
    vec![
        name(revision),
        or(&controller.unwrap_or_default(), NONE),
        count(revision, "/revision").into(),
        age_of(revision, now),
    ]
}

pub(crate) static POD_TEMPLATE: Printer = printer(
    &[
        NAME,
        text("Containers", "Names of each container in the template."),
        text("Images", "Images referenced by each container in the template."),
        text("Pod Labels", "The labels for the pod template."),
    ],
    |template, _| {
        let [containers, images] = containers(list(template, "/template/spec/containers"));
        vec![name(template), containers, images, labels(template.pointer("/template/metadata/labels"))]
    },
);

fn template(workload: &Value) -> [Value; 3] {
    let [names, images] = containers(list(workload, "/spec/template/spec/containers"));
    [names, images, selector(workload.pointer("/spec/selector"))]
}

/// Names and images of containers.
pub(super) fn containers(containers: &[Value]) -> [Value; 2] {
    ["/name", "/image"]
        .map(|pointer| containers.iter().map(|c| at(c, pointer)).collect::<Vec<_>>().join(",").into())
}

/// A label selector as text.
pub(super) fn selector(selector: Option<&Value>) -> Value {
    or(&super::selector(selector), NONE)
}
