//! Validation of probes and hooks: what is done, and how often.

use serde_json::Value;

use super::super::{items, not_negative, one_of, port_or_name, text};
use crate::status::{Errors, FieldError};

const HANDLERS: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// The probes of a container at `path`, in a Pod with this spec.
pub(super) fn probes(container: &Value, path: &str, spec: &Value, errors: &mut Errors) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        probe(container, path, key, spec, errors);
    }
}

fn probe(container: &Value, path: &str, key: &str, spec: &Value, errors: &mut Errors) {
    let Some(probe) = container.get(key) else { return };
    let path = format!("{path}.{key}");
    handler(probe, &path, spec, errors);
    for number in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        not_negative(probe, &path, number, errors);
    }
    let successes = probe.get("successThreshold").and_then(Value::as_i64).unwrap_or(1);
    if key != "readinessProbe" && successes != 1 {
        errors.push(FieldError::invalid(format!("{path}.successThreshold"), successes, "must be 1"));
    }
    if key == "readinessProbe"
        && let Some(grace) = probe.get("terminationGracePeriodSeconds").filter(|grace| !grace.is_null())
    {
        let path = format!("{path}.terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(path, grace.clone(), "must not be set for readinessProbes"));
    }
    if let Some(grace) =
        probe.get("terminationGracePeriodSeconds").and_then(Value::as_i64).filter(|g| *g <= 0)
    {
        let path = format!("{path}.terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(path, grace, "must be greater than 0"));
    }
}

/// What is done, at `path`: exactly one thing.
pub(super) fn handler(handler: &Value, path: &str, spec: &Value, errors: &mut Errors) {
    let given: Vec<&str> = HANDLERS.iter().copied().filter(|key| handler.get(*key).is_some()).collect();
    if given.is_empty() {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
    for second in given.iter().skip(1) {
        let why = "may not specify more than 1 handler type";
        errors.push(FieldError::forbidden(format!("{path}.{second}"), why));
    }
    let Some((first, action)) = given.first().and_then(|key| Some((*key, handler.get(*key)?))) else {
        return;
    };
    let path = format!("{path}.{first}");
    match first {
        "exec" if items(action, "command").is_empty() => {
            errors.push(FieldError::required(format!("{path}.command"), ""));
        }
        "httpGet" => {
            if text(action, "path").is_empty() {
                errors.push(FieldError::required(format!("{path}.path"), ""));
            }
            port_or_name(&action["port"], &format!("{path}.port"), errors);
            one_of(action, &path, "scheme", &["HTTP", "HTTPS"], false, errors);
        }
        "tcpSocket" | "grpc" => port_or_name(&action["port"], &format!("{path}.port"), errors),
        "sleep" => sleep(action, &path, spec, errors),
        _ => {}
    }
}

/// A sleep ends within the time that the Pod has to end.
fn sleep(action: &Value, path: &str, spec: &Value, errors: &mut Errors) {
    let seconds = action.get("seconds").and_then(Value::as_i64).unwrap_or(0);
    if let Some(grace) = spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64)
        && !(0..=grace).contains(&seconds)
    {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(FieldError::invalid(path, seconds, why));
    }
}
