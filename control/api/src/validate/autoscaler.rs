//! Validation of HorizontalPodAutoscalers.

use serde_json::Value;

use super::{Rules, amount, items, name, not_negative, one_of, resource, rules, text};
use crate::status::{Errors, FieldError};

const WINDOW_SECONDS_MAX: i64 = 3_600;
const PERIOD_SECONDS_MAX: i64 = 1_800;
/// Where a number to scale by comes from: the type, and the field that goes with it.
const SOURCES: &[(&str, &str)] = &[
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

/// A HorizontalPodAutoscaler.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| autoscaler(object, 1, errors),
    update: |new, old, _, errors| {
        let was_zero = old.pointer("/spec/minReplicas").and_then(Value::as_i64) == Some(0);
        autoscaler(new, if was_zero { 0 } else { 1 }, errors);
    },
    status: |autoscaler, errors| {
        let empty = Value::Null;
        let status = autoscaler.get("status").unwrap_or(&empty);
        for key in ["currentReplicas", "desiredReplicas"] {
            not_negative(status, "status", key, errors);
        }
    },
};

fn autoscaler(autoscaler: &Value, least: i64, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = autoscaler.get("spec").unwrap_or(&empty);
    let min = spec.get("minReplicas").and_then(Value::as_i64);
    let max = spec.get("maxReplicas").and_then(Value::as_i64).unwrap_or(0);
    if let Some(min) = min.filter(|min| *min < least) {
        let why = format!("must be greater than or equal to {least}");
        errors.push(FieldError::invalid("spec.minReplicas", min, why));
    }
    if max < 1 {
        errors.push(FieldError::invalid("spec.maxReplicas", max, "must be greater than 0"));
    }
    if min.is_some_and(|min| max < min) {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid("spec.maxReplicas", max, why));
    }
    reference(spec.get("scaleTargetRef").unwrap_or(&empty), "spec.scaleTargetRef", errors);
    let metrics = items(spec, "metrics");
    for (at, metric) in metrics.iter().enumerate() {
        self::metric(metric, &format!("spec.metrics[{at}]"), errors);
    }
    if min == Some(0) && !metrics.iter().any(|m| matches!(text(m, "type"), "Object" | "External")) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden("spec.metrics", why));
    }
    let behavior = spec.get("behavior").unwrap_or(&empty);
    for key in ["scaleUp", "scaleDown"] {
        if let Some(scaling) = behavior.get(key).filter(|s| !s.is_null()) {
            self::scaling(scaling, &format!("spec.behavior.{key}"), errors);
        }
    }
}

fn reference(reference: &Value, path: &str, errors: &mut Errors) {
    for key in ["kind", "name"] {
        let (path, value) = (format!("{path}.{key}"), text(reference, key));
        if value.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else {
            rules(name::path_segment(value), &path, value, errors);
        }
    }
}

fn metric(metric: &Value, path: &str, errors: &mut Errors) {
    let types: Vec<&str> = SOURCES.iter().map(|(type_, _)| *type_).collect();
    let type_ = text(metric, "type");
    let wanted = SOURCES.iter().find(|(known, _)| *known == type_).map(|(_, field)| *field);
    if type_.is_empty() {
        let why = "must specify a metric source type";
        errors.push(FieldError::required(format!("{path}.type"), why));
    } else if wanted.is_none() {
        errors.push(FieldError::not_supported(format!("{path}.type"), type_, &types));
    }
    let is_set = |field: &str| metric.get(field).is_some_and(|source| !source.is_null());
    let given: Vec<&str> = SOURCES.iter().map(|(_, field)| *field).filter(|field| is_set(field)).collect();
    if let Some(first) = given.first() {
        source(&metric[*first], first, &format!("{path}.{first}"), errors);
    }
    if let Some(wanted) = wanted.filter(|wanted| !is_set(wanted)) {
        let why = "must populate information for the given metric source";
        errors.push(FieldError::required(format!("{path}.{wanted}"), why));
    }
    if given.len() != 1 {
        for other in given.iter().filter(|field| Some(**field) != wanted) {
            let why = "must populate the given metric source only";
            errors.push(FieldError::forbidden(format!("{path}.{other}"), why));
        }
    }
}

fn source(source: &Value, field: &str, path: &str, errors: &mut Errors) {
    let empty = Value::Null;
    match field {
        "resource" | "containerResource" => {
            let resource = text(source, "name");
            if resource.is_empty() {
                let why = "must specify a resource name";
                errors.push(FieldError::required(format!("{path}.name"), why));
            } else if field == "containerResource" {
                resource::of_container(resource, &format!("{path}.name"), errors);
            }
            if field == "containerResource" {
                container(text(source, "container"), &format!("{path}.container"), errors);
            }
        }
        _ => {
            if field == "object" {
                let described = source.get("describedObject").unwrap_or(&empty);
                reference(described, &format!("{path}.describedObject"), errors);
            }
            let name = source.pointer("/metric/name").and_then(Value::as_str).unwrap_or("");
            let path = format!("{path}.metric.name");
            if name.is_empty() {
                errors.push(FieldError::required(path, "must specify a metric name"));
            } else {
                rules(self::name::path_segment(name), &path, name, errors);
            }
        }
    }
    let target = source.get("target").unwrap_or(&empty);
    self::target(target, &format!("{path}.target"), errors);
    goal(target, field, &format!("{path}.target"), errors);
}

fn container(name: &str, path: &str, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(FieldError::required(path, "must specify a container"));
    } else {
        rules(self::name::dns_label(name), path, name, errors);
    }
}

/// The numbers of a target.
fn target(target: &Value, path: &str, errors: &mut Errors) {
    let type_ = text(target, "type");
    if type_.is_empty() {
        errors.push(FieldError::required(format!("{path}.type"), "must specify a metric target type"));
    }
    if !matches!(type_, "Utilization" | "Value" | "AverageValue") {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(format!("{path}.type"), type_, why));
    }
    for key in ["value", "averageValue"] {
        let given = target.get(key);
        if amount::quantity(given).is_some_and(|q| q.is_negative() || q.is_zero()) {
            let value = target[key].clone();
            errors.push(FieldError::invalid(format!("{path}.{key}"), value, "must be positive"));
        }
    }
    if let Some(share) = target.get("averageUtilization").and_then(Value::as_i64).filter(|share| *share < 1) {
        let path = format!("{path}.averageUtilization");
        errors.push(FieldError::invalid(path, share, "must be greater than 0"));
    }
}

/// Each source has one of the numbers that mean something for it.
fn goal(target: &Value, field: &str, path: &str, errors: &mut Errors) {
    let is_set = |key: &str| target.get(key).is_some_and(|value| !value.is_null());
    let (one, other, missing, both) = match field {
        "object" => ("averageValue", "value", "must set either a target value or averageValue", None),
        "external" => (
            "averageValue",
            "value",
            "must set either a target value for metric or a per-pod target",
            Some("may not set both a target value for metric and a per-pod target"),
        ),
        "pods" => ("averageValue", "averageValue", "must specify a positive target averageValue", None),
        _ => (
            "averageUtilization",
            "averageValue",
            "must set either a target raw value or a target utilization",
            Some("may not set both a target raw value and a target utilization"),
        ),
    };
    if !is_set(one) && !is_set(other) {
        errors.push(FieldError::required(format!("{path}.{one}"), missing));
    }
    if let Some(why) = both.filter(|_| is_set(one) && is_set(other)) {
        errors.push(FieldError::forbidden(format!("{path}.{other}"), why));
    }
}

fn scaling(scaling: &Value, path: &str, errors: &mut Errors) {
    let window = scaling.get("stabilizationWindowSeconds").and_then(Value::as_i64);
    let window_path = format!("{path}.stabilizationWindowSeconds");
    match window {
        Some(seconds) if seconds < 0 => {
            errors.push(FieldError::invalid(window_path, seconds, "must be greater than or equal to zero"));
        }
        Some(seconds) if seconds > WINDOW_SECONDS_MAX => {
            let why = format!("must be less than or equal to {WINDOW_SECONDS_MAX}");
            errors.push(FieldError::invalid(window_path, seconds, why));
        }
        _ => {}
    }
    one_of(scaling, path, "selectPolicy", &["Disabled", "Max", "Min"], false, errors);
    if amount::quantity(scaling.get("tolerance")).is_some_and(crate::quantity::Quantity::is_negative) {
        let why = "must be greater or equal to 0";
        errors.push(FieldError::invalid(format!("{path}.tolerance"), scaling["tolerance"].clone(), why));
    }
    let policies = items(scaling, "policies");
    if policies.is_empty() {
        let why = "must specify at least one Policy";
        errors.push(FieldError::required(format!("{path}.policies"), why));
    }
    for (at, policy) in policies.iter().enumerate() {
        let path = format!("{path}.policies[{at}]");
        let type_ = text(policy, "type");
        if !matches!(type_, "Pods" | "Percent") {
            errors.push(FieldError::not_supported(format!("{path}.type"), type_, &["Percent", "Pods"]));
        }
        for key in ["value", "periodSeconds"] {
            let number = policy.get(key).and_then(Value::as_i64).unwrap_or(0);
            let path = format!("{path}.{key}");
            if number <= 0 {
                errors.push(FieldError::invalid(path, number, "must be greater than zero"));
            } else if key == "periodSeconds" && number > PERIOD_SECONDS_MAX {
                let why = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
                errors.push(FieldError::invalid(path, number, why));
            }
        }
    }
}
