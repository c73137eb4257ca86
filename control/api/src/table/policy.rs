//! Columns of PodDisruptionBudgets, PriorityClasses and ResourceQuotas.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, NAME, Printer, age_of, at, boolean, count, name, number, printer, text};

pub(crate) static DISRUPTION_BUDGET: Printer = printer(
    &[
        NAME,
        text("Min Available", "The minimum number of pods that must be available."),
        text("Max Unavailable", "The maximum number of pods that may be unavailable."),
        number("Allowed Disruptions", "Calculated number of pods that may be disrupted at this time."),
        AGE,
    ],
    disruption_budget,
);

fn disruption_budget(budget: &Value, now: Timestamp) -> Vec<Value> {
    let amount = |pointer: &str| -> Value { budget.pointer(pointer).map_or("N/A".into(), shown) };
    vec![
        name(budget),
        amount("/spec/minAvailable"),
        amount("/spec/maxUnavailable"),
        count(budget, "/status/disruptionsAllowed").into(),
        age_of(budget, now),
    ]
}

/// A number or text, as text.
fn shown(value: &Value) -> Value {
    match value {
        Value::String(text) => text.as_str().into(),
        Value::Null => "N/A".into(),
        other => other.to_string().into(),
    }
}

pub(crate) static PRIORITY_CLASS: Printer = printer(
    &[
        NAME,
        number("Value", "The priority of pods that name the class."),
        boolean("Global-Default", "Whether pods that name no class are of this one."),
        AGE,
        text("PreemptionPolicy", "Whether such pods take the place of others."),
    ],
    priority_class,
);

fn priority_class(class: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(class),
        count(class, "/value").into(),
        class.get("globalDefault").and_then(Value::as_bool).unwrap_or(false).into(),
        age_of(class, now),
        at(class, "/preemptionPolicy").into(),
    ]
}

pub(crate) static RESOURCE_QUOTA: Printer = printer(
    &[
        NAME,
        text("Request", "What is requested, of how much."),
        text("Limit", "What is limited, of how much."),
        AGE,
    ],
    resource_quota,
);

fn resource_quota(quota: &Value, now: Timestamp) -> Vec<Value> {
    let hard = quota.pointer("/status/hard").and_then(Value::as_object);
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in hard.into_iter().flatten() {
        let used = quota["status"]["used"].get(resource);
        let text = |amount: Option<&Value>| match amount {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => "0".to_owned(),
        };
        let cell = if resource.starts_with("limits.") { &mut limits } else { &mut requests };
        cell.push(format!("{resource}: {}/{}", text(used), text(Some(hard))));
    }
    vec![name(quota), requests.join(", ").into(), limits.join(", ").into(), age_of(quota, now)]
}
