//! Defaults of Jobs and CronJobs, and the selector that a Job gets.

use serde_json::{Map, Value, json};

use super::{made, object, objects, pod, set};

/// Labels of a Job's Pods that carry the Job's UID; the second is of old.
pub(crate) const CONTROLLER_UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
/// Labels of a Job's Pods that carry the Job's name; the second is of old.
pub(crate) const JOB_NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

pub(crate) fn job(job: &mut Map<String, Value>) {
    if let Some(spec) = made(job, "spec") {
        let is_set = |spec: &Map<String, Value>, key: &str| spec.get(key).is_some_and(|v| !v.is_null());
        if !is_set(spec, "completions") && !is_set(spec, "parallelism") {
            set(spec, "completions", 1);
        }
        set(spec, "parallelism", 1);
        let limit = if is_set(spec, "backoffLimitPerIndex") { i32::MAX } else { 6 };
        set(spec, "backoffLimit", limit);
        set(spec, "completionMode", "NonIndexed");
        set(spec, "suspend", false);
        set(spec, "manualSelector", false);
        let judged = is_set(spec, "podFailurePolicy");
        set(spec, "podReplacementPolicy", if judged { "Failed" } else { "TerminatingOrFailed" });
        failure_policy(spec);
        template(spec);
    }
    labels_of_template(job);
}

pub(crate) fn cron_job(cron_job: &mut Map<String, Value>) {
    let Some(spec) = made(cron_job, "spec") else { return };
    set(spec, "concurrencyPolicy", "Allow");
    set(spec, "suspend", false);
    set(spec, "successfulJobsHistoryLimit", 3);
    set(spec, "failedJobsHistoryLimit", 1);
    if let Some(job) = object(spec, "jobTemplate").and_then(|template| made(template, "spec")) {
        failure_policy(job);
        template(job);
    }
}

fn template(spec: &mut Map<String, Value>) {
    if let Some(inner) = object(spec, "template").and_then(|t| made(t, "spec")) {
        pod::spec(inner);
    }
}

fn failure_policy(spec: &mut Map<String, Value>) {
    let Some(policy) = object(spec, "podFailurePolicy") else { return };
    for rule in objects(policy, "rules") {
        for condition in objects(rule, "onPodConditions") {
            set(condition, "status", "True");
        }
    }
}

/// A Job without labels has those of its Pods.
fn labels_of_template(job: &mut Map<String, Value>) {
    let labels = job.get("spec").and_then(|spec| spec.pointer("/template/metadata/labels")).cloned();
    let Some(Value::Object(labels)) = labels.filter(|l| l.as_object().is_some_and(|l| !l.is_empty())) else {
        return;
    };
    if let Some(meta) = made(job, "metadata")
        && meta.get("labels").and_then(Value::as_object).is_none_or(Map::is_empty)
    {
        meta.insert("labels".into(), labels.into());
    }
}

/// A new Job that does not select by hand selects by its UID, and its Pods carry that and its name.
pub(crate) fn select(job: &mut Map<String, Value>, old: Option<&Value>) {
    let text = |job: &Map<String, Value>, key: &str| -> Value {
        job.get("metadata").and_then(|meta| meta.get(key)).cloned().unwrap_or_default()
    };
    let (uid, name) = (text(job, "uid"), text(job, "name"));
    let by_hand = job.get("spec").and_then(|spec| spec.get("manualSelector")) == Some(&json!(true));
    if old.is_some() || by_hand || uid.is_null() {
        return;
    }
    let Some(spec) = made(job, "spec") else { return };
    let labels = made(spec, "template").and_then(|t| made(t, "metadata")).and_then(|m| made(m, "labels"));
    if let Some(labels) = labels {
        // What the author says in their place is judged with the rest.
        for key in JOB_NAME_LABELS {
            labels.entry(key).or_insert_with(|| name.clone());
        }
        for key in CONTROLLER_UID_LABELS {
            labels.entry(key).or_insert_with(|| uid.clone());
        }
    }
    if let Some(selector) = made(spec, "selector").and_then(|selector| made(selector, "matchLabels")) {
        selector.entry(CONTROLLER_UID_LABELS[0]).or_insert(uid);
    }
    labels_of_template(job);
}
