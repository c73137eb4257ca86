//! Defaults of PodDisruptionBudgets, PriorityClasses and LimitRanges.

use serde_json::{Map, Value};

use super::{made, object, objects, set, zeros};

pub(crate) fn disruption_budget(budget: &mut Map<String, Value>) {
    let told = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
    zeros(budget, "status", &told);
}

pub(crate) fn priority_class(class: &mut Map<String, Value>) {
    set(class, "preemptionPolicy", "PreemptLowerPriority");
}

pub(crate) fn limit_range(range: &mut Map<String, Value>) {
    let Some(spec) = object(range, "spec") else { return };
    for limit in objects(spec, "limits") {
        if limit.get("type").and_then(Value::as_str) != Some("Container") {
            continue;
        }
        // A limit is at most the most; a request is the limit, or else the least.
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let Some(amounts) = limit.get(from).and_then(Value::as_object).cloned() else { continue };
            let Some(defaults) = made(limit, to).filter(|_| !amounts.is_empty()) else { continue };
            for (name, amount) in amounts {
                defaults.entry(name).or_insert(amount);
            }
        }
    }
}
