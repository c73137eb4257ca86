//! Defaults of what makes Pods from a template and keeps them: Deployments, the sets, ReplicationControllers.

use serde_json::{Map, Value};

use super::{made, object, objects, pod, set, volume, zeros};

/// The annotation of a DaemonSet that counts the changes of its template.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) fn deployment(deployment: &mut Map<String, Value>) {
    let Some(spec) = made(deployment, "spec") else { return };
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    set(spec, "progressDeadlineSeconds", 600);
    if let Some(strategy) = made(spec, "strategy") {
        set(strategy, "type", "RollingUpdate");
        if is_rolling(strategy)
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

pub(crate) fn stateful_set(set_: &mut Map<String, Value>) {
    zeros(set_, "status", &["replicas", "availableReplicas"]);
    let Some(spec) = made(set_, "spec") else { return };
    set(spec, "replicas", 1);
    set(spec, "podManagementPolicy", "OrderedReady");
    set(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = made(spec, "updateStrategy") {
        set(strategy, "type", "RollingUpdate");
        if is_rolling(strategy)
            && let Some(rolling) = made(strategy, "rollingUpdate")
        {
            set(rolling, "partition", 0);
        }
    }
    if let Some(policy) = made(spec, "persistentVolumeClaimRetentionPolicy") {
        set(policy, "whenDeleted", "Retain");
        set(policy, "whenScaled", "Retain");
    }
    for claim in objects(spec, "volumeClaimTemplates") {
        set(claim, "apiVersion", "v1");
        set(claim, "kind", "PersistentVolumeClaim");
        volume::claim(claim);
    }
    template(spec);
}

pub(crate) fn daemon_set(set_: &mut Map<String, Value>) {
    let told = ["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"];
    zeros(set_, "status", &told);
    let Some(spec) = made(set_, "spec") else { return };
    set(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = made(spec, "updateStrategy") {
        set(strategy, "type", "RollingUpdate");
        if is_rolling(strategy)
            && let Some(rolling) = made(strategy, "rollingUpdate")
        {
            set(rolling, "maxUnavailable", 1);
            set(rolling, "maxSurge", 0);
        }
    }
    template(spec);
}

pub(crate) fn replication_controller(controller: &mut Map<String, Value>) {
    zeros(controller, "status", &["replicas"]);
    let Some(spec) = made(controller, "spec") else { return };
    set(spec, "replicas", 1);
    template(spec);
    let labels = spec.get("template").and_then(|template| template.pointer("/metadata/labels")).cloned();
    let Some(labels) = labels.filter(|labels| labels.is_object()) else { return };
    let is_empty = |object: &Map<String, Value>, key: &str| {
        object.get(key).and_then(Value::as_object).is_none_or(Map::is_empty)
    };
    if is_empty(spec, "selector") {
        spec.insert("selector".into(), labels.clone());
    }
    if let Some(meta) = made(controller, "metadata").filter(|meta| is_empty(meta, "labels")) {
        meta.insert("labels".into(), labels);
    }
}

pub(crate) fn pod_template(template: &mut Map<String, Value>) {
    self::template(template);
}

/// Counts the changes of a DaemonSet's template, where clients of old look for it.
pub(crate) fn template_generation(set_: &mut Map<String, Value>, old: Option<&Value>) {
    let template = |spec: Option<&Value>| spec.and_then(|spec| spec.get("template")).cloned();
    let counted = old.and_then(|old| old.get("metadata")?.get("annotations")?.get(TEMPLATE_GENERATION));
    let counted = counted.and_then(Value::as_str).and_then(|text| text.parse::<i64>().ok());
    let changed = old.is_some_and(|old| template(old.get("spec")) != template(set_.get("spec")));
    let now = match counted {
        Some(number) if changed => number.saturating_add(1),
        Some(number) => number,
        None => 1,
    };
    if let Some(annotations) = made(set_, "metadata").and_then(|meta| made(meta, "annotations")) {
        annotations.insert(TEMPLATE_GENERATION.into(), now.to_string().into());
    }
}

fn is_rolling(strategy: &Map<String, Value>) -> bool {
    strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate")
}

fn template(spec: &mut Map<String, Value>) {
    if let Some(inner) = object(spec, "template").and_then(|t| made(t, "spec")) {
        pod::spec(inner);
    }
}
