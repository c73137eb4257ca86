//! Columns of Nodes, Namespaces, ConfigMaps, Secrets, ServiceAccounts, Events, Leases, requests for certificates and
//! ComponentStatuses.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, Column, NAME, NONE, Printer, UNKNOWN, age_of, at, count, list, name, number, or, printer, since,
    text, wide,
};
use crate::time::human_seconds;

pub(crate) static NODE: Printer = printer(
    &[
        NAME,
        text("Status", "The status of the node."),
        text("Roles", "The roles of the node."),
        AGE,
        text("Version", "Version of the node's agent."),
        wide("Internal-IP", "Address of the node within the cluster."),
        wide("External-IP", "Address of the node outside the cluster."),
        wide("OS-Image", "Operating system of the node."),
        wide("Kernel-Version", "Kernel of the node."),
        wide("Container-Runtime", "Container runtime of the node."),
    ],
    node,
);

fn node(node: &Value, now: Timestamp) -> Vec<Value> {
    let ready = list(node, "/status/conditions").iter().find(|c| at(c, "/type") == "Ready");
    let mut status = match ready.map(|c| at(c, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles: Vec<&str> = node
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    let address = |type_: &str| {
        let found = list(node, "/status/addresses").iter().find(|a| at(a, "/type") == type_);
        or(found.map_or("", |a| at(a, "/address")), NONE)
    };
    vec![
        name(node),
        status.into(),
        or(&roles.join(","), NONE),
        age_of(node, now),
        at(node, "/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        or(at(node, "/status/nodeInfo/osImage"), UNKNOWN),
        or(at(node, "/status/nodeInfo/kernelVersion"), UNKNOWN),
        or(at(node, "/status/nodeInfo/containerRuntimeVersion"), UNKNOWN),
    ]
}

pub(crate) static NAMESPACE: Printer =
    printer(&[NAME, text("Status", "The status of the namespace"), AGE], namespace);

fn namespace(namespace: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(namespace), at(namespace, "/status/phase").into(), age_of(namespace, now)]
}

fn keys(object: &Value, pointer: &str) -> usize {
    object.pointer(pointer).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

pub(crate) static CONFIG_MAP: Printer = printer(&[NAME, number("Data", "Number of keys."), AGE], config_map);

fn config_map(map: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(map), (keys(map, "/data") + keys(map, "/binaryData")).into(), age_of(map, now)]
}

pub(crate) static SECRET: Printer =
    printer(&[NAME, text("Type", "What the data is for."), number("Data", "Number of keys."), AGE], secret);

fn secret(secret: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(secret), at(secret, "/type").into(), keys(secret, "/data").into(), age_of(secret, now)]
}

pub(crate) static SERVICE_ACCOUNT: Printer =
    printer(&[NAME, number("Secrets", "Number of Secrets."), AGE], service_account);

fn service_account(account: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(account), list(account, "/secrets").len().into(), age_of(account, now)]
}

pub(crate) static LEASE: Printer = printer(&[NAME, text("Holder", "Who holds the lease."), AGE], lease);

fn lease(lease: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(lease), at(lease, "/spec/holderIdentity").into(), age_of(lease, now)]
}

pub(crate) static CERTIFICATE_SIGNING_REQUEST: Printer = printer(
    &[
        NAME,
        AGE,
        text("SignerName", "Who is asked to sign."),
        text("Requestor", "Who asks."),
        text("RequestedDuration", "How long the certificate is to be valid."),
        text("Condition", "What has become of it."),
    ],
    request,
);

fn request(request: &Value, now: Timestamp) -> Vec<Value> {
    let conditions = list(request, "/status/conditions");
    let is = |type_: &str| conditions.iter().any(|c| at(c, "/type") == type_);
    let mut state = match () {
        () if is("Denied") => "Denied",
        () if is("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if is("Failed") {
        state.push_str(",Failed");
    }
    if !at(request, "/status/certificate").is_empty() {
        state.push_str(",Issued");
    }
    let life = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64).map(human_seconds);
    vec![
        name(request),
        age_of(request, now),
        or(at(request, "/spec/signerName"), NONE),
        at(request, "/spec/username").into(),
        or(&life.unwrap_or_default(), NONE),
        state.into(),
    ]
}

pub(crate) static CLUSTER_TRUST_BUNDLE: Printer =
    printer(&[NAME, text("SignerName", "Whose certificates it is about.")], |bundle, _| {
        vec![name(bundle), or(at(bundle, "/spec/signerName"), NONE)]
    });

pub(crate) static POD_CERTIFICATE_REQUEST: Printer = printer(
    &[
        NAME,
        text("PodName", "The Pod that the certificate is for."),
        text("ServiceAccountName", "Who the Pod is."),
        text("NodeName", "The node that the Pod runs on."),
        text("SignerName", "Who is asked to sign."),
        text("State", "What has become of it."),
    ],
    |request, _| {
        let decided = |c: &&Value| matches!(at(c, "/type"), "Issued" | "Denied" | "Failed");
        let state = list(request, "/status/conditions").iter().find(decided).map_or("", |c| at(c, "/type"));
        vec![
            name(request),
            at(request, "/spec/podName").into(),
            at(request, "/spec/serviceAccountName").into(),
            at(request, "/spec/nodeName").into(),
            at(request, "/spec/signerName").into(),
            or(state, "Pending"),
        ]
    },
);

pub(crate) static EVENT: Printer = printer(
    &[
        text("Last Seen", "When it last happened."),
        text("Type", "Normal or Warning."),
        text("Reason", "Short, machine-readable."),
        text("Object", "What it is about."),
        wide("Subobject", "Which part of it."),
        wide("Source", "Who reports it."),
        text("Message", "For people."),
        wide("First Seen", "When it first happened."),
        Column { name: "Count", type_: "integer", priority: 1, description: "How often it happened." },
        wide("Name", "Name must be unique within a namespace."),
    ],
    event,
);

fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let first_of = |pointers: &[&str]| -> String {
        let time = pointers.iter().map(|p| at(event, p)).find(|t| !t.is_empty()).unwrap_or("");
        since(time, now)
    };
    let last = first_of(&["/series/lastObservedTime", "/lastTimestamp", "/eventTime"]);
    let first = first_of(&["/firstTimestamp", "/eventTime"]);
    let source = match (at(event, "/source/component"), at(event, "/source/host")) {
        ("", _) => at(event, "/reportingComponent").to_owned(),
        (component, "") => component.to_owned(),
        (component, host) => format!("{component}, {host}"),
    };
    let about = match (at(event, "/involvedObject/kind").to_lowercase(), at(event, "/involvedObject/name")) {
        (kind, "") => kind,
        (kind, name) => format!("{kind}/{name}"),
    };
    let times = match count(event, "/series/count") {
        0 => count(event, "/count").max(1),
        series => series,
    };
    vec![
        last.into(),
        at(event, "/type").into(),
        at(event, "/reason").into(),
        about.into(),
        at(event, "/involvedObject/fieldPath").into(),
        source.into(),
        at(event, "/message").trim().into(),
        first.into(),
        times.into(),
        name(event),
    ]
}

pub(crate) static COMPONENT_STATUS: Printer = printer(
    &[
        NAME,
        text("Status", "Whether the component is healthy."),
        text("Message", "What it says of itself."),
        text("Error", "What is wrong with it."),
    ],
    component_status,
);

fn component_status(component: &Value, _: Timestamp) -> Vec<Value> {
    let healthy = list(component, "/conditions").iter().find(|c| at(c, "/type") == "Healthy");
    let status = match healthy.map(|c| at(c, "/status")) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    let said = |pointer| healthy.map_or("", |c| at(c, pointer)).into();
    vec![name(component), status.into(), said("/message"), said("/error")]
}
