//! Validation of a Job's status: what its conditions and counts say together.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value;

use super::super::{flag, items, not_negative, text};
use super::{indexes, is_indexed};
use crate::status::{Errors, FieldError};

/// The status of a Job as whoever runs it writes it.
pub(super) fn status(job: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let status = job.get("status").unwrap_or(&empty);
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(status, "status", key, errors);
    }
    uncounted(status, errors);
    conditions(job, status, errors);
    times(status, errors);
    finished(status, errors);
    indexes(job, status, errors);
    let count = |key: &str| status.get(key).and_then(Value::as_i64).unwrap_or(0);
    if count("ready") > count("active") {
        let why = "cannot set more ready pods than active";
        errors.push(FieldError::invalid("status.ready", count("ready"), why));
    }
}

/// A Job's status goes forward: what ended stays ended, and what was counted stays counted.
pub(super) fn change(new: &Value, old: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let (status, was) = (new.get("status").unwrap_or(&empty), old.get("status").unwrap_or(&empty));
    for type_ in ["Failed", "Complete", "FailureTarget"] {
        if holds(was, type_) && !holds(status, type_) {
            let why = format!("cannot disable the terminal {type_}=True condition");
            errors.push(FieldError::invalid_whole("status.conditions", why));
        }
    }
    for key in ["failed", "succeeded"] {
        let count = |status: &Value| status.get(key).and_then(Value::as_i64).unwrap_or(0);
        if count(status) < count(was) {
            let why = format!("cannot decrease the {key} counter");
            errors.push(FieldError::invalid(format!("status.{key}"), count(status), why));
        }
    }
    let (now, before) = (text(status, "completionTime"), text(was, "completionTime"));
    if !now.is_empty() && !before.is_empty() && now != before {
        errors.push(FieldError::invalid("status.completionTime", now, "completionTime cannot be mutated"));
    }
    let (now, before) = (text(status, "startTime"), text(was, "startTime"));
    if !before.is_empty() && now != before && !flag(&new["spec"], "suspend") {
        let why = "startTime cannot be removed for unsuspended job";
        errors.push(FieldError::required("status.startTime", why));
    }
    if holds(was, "SuccessCriteriaMet") && !holds(status, "SuccessCriteriaMet") {
        let why = "cannot disable the SuccessCriteriaMet=True condition";
        errors.push(FieldError::invalid_whole("status.conditions", why));
    }
}

fn holds(status: &Value, type_: &str) -> bool {
    items(status, "conditions").iter().any(|c| text(c, "type") == type_ && text(c, "status") == "True")
}

fn is_finished(status: &Value) -> bool {
    holds(status, "Complete") || holds(status, "Failed")
}

fn uncounted(status: &Value, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for list in ["succeeded", "failed"] {
        for (at, uid) in items(&status["uncountedTerminatedPods"], list).iter().enumerate() {
            let path = format!("status.uncountedTerminatedPods.{list}[{at}]");
            let uid = uid.as_str().unwrap_or("");
            if uid.is_empty() {
                errors.push(FieldError::invalid(path, uid, "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(FieldError::duplicate(path, uid));
            }
        }
    }
}

fn conditions(job: &Value, status: &Value, errors: &mut Errors) {
    let mut never = |wrong: bool, why: &str| {
        if wrong {
            errors.push(FieldError::invalid_whole("status.conditions", why));
        }
    };
    let [complete, failed, failing, succeeding] =
        ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"].map(|type_| holds(status, type_));
    never(complete && failed, "cannot set Complete=True and Failed=true conditions");
    never(complete && failing, "cannot set Complete=True and FailureTarget=true conditions");
    never(failed && !failing, "cannot set Failed=True condition without the FailureTarget=true condition");
    never(
        complete && !succeeding,
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    never(succeeding && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    never(succeeding && failing, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    never(
        complete && !succeeding && !job["spec"]["successPolicy"].is_null(),
        "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
    );
}

fn times(status: &Value, errors: &mut Errors) {
    let time = |key: &str| status.get(key).and_then(Value::as_str).filter(|time| !time.is_empty());
    let path = "status.completionTime";
    match (time("completionTime"), holds(status, "Complete")) {
        (Some(at), false) => {
            let why = "cannot set completionTime when there is no Complete=True condition";
            errors.push(FieldError::invalid(path, at, why));
        }
        (None, true) => {
            errors.push(FieldError::required(path, "completionTime is required for Complete jobs"));
        }
        _ => {}
    }
    let read = |key: &str| time(key).and_then(|time| time.parse::<Timestamp>().ok());
    if let (Some(start), Some(end)) = (read("startTime"), read("completionTime"))
        && end < start
    {
        let why = "completionTime cannot be set before startTime";
        errors.push(FieldError::invalid(path, text(status, "completionTime"), why));
    }
    if time("startTime").is_none() && is_finished(status) {
        errors.push(FieldError::required("status.startTime", "startTime is required for finished job"));
    }
}

/// Of a Job that is at its end nothing is under way.
fn finished(status: &Value, errors: &mut Errors) {
    if !is_finished(status) {
        return;
    }
    for key in ["active", "terminating"] {
        if let Some(count) = status.get(key).and_then(Value::as_i64).filter(|count| *count > 0) {
            let why = format!("{key}>0 is invalid for finished job");
            errors.push(FieldError::invalid(format!("status.{key}"), count, why));
        }
    }
    let uncounted = &status["uncountedTerminatedPods"];
    if !items(uncounted, "succeeded").is_empty() || !items(uncounted, "failed").is_empty() {
        let why = "uncountedTerminatedPods needs to be empty for finished job";
        errors.push(FieldError::invalid("status.uncountedTerminatedPods", uncounted.clone(), why));
    }
}

fn indexes(job: &Value, status: &Value, errors: &mut Errors) {
    let (completed, failed) = (text(status, "completedIndexes"), text(status, "failedIndexes"));
    let mut wrong = |key: &str, why: String| {
        errors.push(FieldError::invalid(format!("status.{key}"), text(status, key), why));
    };
    if let Some(completions) = job["spec"]["completions"].as_i64() {
        for key in ["completedIndexes", "failedIndexes"] {
            if let Err(why) = indexes::count(text(status, key), completions) {
                wrong(key, format!("error parsing {key}: {why}"));
            }
        }
        if let Some(index) = indexes::overlap(completed, failed, completions) {
            wrong("failedIndexes", format!("failedIndexes and completedIndexes overlap at index: {index}"));
        }
    }
    if !completed.is_empty() && !is_indexed(&job["spec"]) {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        wrong("completedIndexes", why.into());
    }
    if !status["failedIndexes"].is_null() && job["spec"]["backoffLimitPerIndex"].is_null() {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        wrong("failedIndexes", why.into());
    }
}
