//! What is asked of an Event that is made by `events.k8s.io`, beside what is asked of every Event: it says who reports
//! it and when, and leaves out what only older Events have. Paths are those of the core group, as Kubernetes tells them.

use serde_json::Value;

use super::{Rules, name, rules, text};
use crate::status::{Errors, FieldError};

const TEXT_CHARS_MAX: usize = 128;
const NOTE_CHARS_MAX: usize = 1024;

/// An Event, in the words of `events.k8s.io`.
pub(crate) static EVENT: Rules =
    Rules { create: |object, _, errors| event(object, errors), update: |_, _, _, _| {}, status: |_, _| {} };

fn event(event: &Value, errors: &mut Errors) {
    let controller = text(event, "reportingController");
    if controller.is_empty() {
        errors.push(FieldError::required("reportingController", ""));
    }
    rules(name::qualified(controller), "reportingController", controller, errors);
    for key in ["reportingInstance", "action", "reason"] {
        let given = text(event, key);
        if given.is_empty() {
            errors.push(FieldError::required(key, ""));
        }
        bounded(given, key, TEXT_CHARS_MAX, errors);
    }
    bounded(text(event, "note"), "message", NOTE_CHARS_MAX, errors);
    if text(event, "eventTime").is_empty() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let type_ = text(event, "type");
    if !matches!(type_, "Normal" | "Warning") {
        errors.push(FieldError::invalid("type", "", format!("has invalid value: {type_}")));
    }
    let source = event.get("deprecatedSource").unwrap_or(&Value::Null);
    for (is_set, path) in [
        (!text(event, "deprecatedFirstTimestamp").is_empty(), "firstTimestamp"),
        (!text(event, "deprecatedLastTimestamp").is_empty(), "lastTimestamp"),
        (event.get("deprecatedCount").and_then(Value::as_i64).unwrap_or(0) != 0, "count"),
        (!text(source, "component").is_empty() || !text(source, "host").is_empty(), "source"),
    ] {
        if is_set {
            errors.push(FieldError::invalid(path, "", "needs to be unset"));
        }
    }
}

fn bounded(given: &str, path: &str, chars_max: usize, errors: &mut Errors) {
    if given.chars().count() > chars_max {
        let why = format!("can have at most {chars_max} characters");
        errors.push(FieldError::invalid(path, "", why));
    }
}
