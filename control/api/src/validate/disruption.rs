//! Validation of PodDisruptionBudgets.

use serde_json::Value;

use super::selector::label_selector;
use super::{Rules, amount, conditions, not_negative, one_of};
use crate::status::{Errors, FieldError};

/// A PodDisruptionBudget.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| budget(object, errors),
    update: |new, _, _, errors| budget(new, errors),
    status: |budget, errors| {
        let empty = Value::Null;
        let status = budget.get("status").unwrap_or(&empty);
        conditions(status, errors);
        for key in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            not_negative(status, "status", key, errors);
        }
    },
};

fn budget(budget: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = budget.get("spec").unwrap_or(&empty);
    let is_set = |key: &str| spec.get(key).is_some_and(|value| !value.is_null());
    if is_set("minAvailable") && is_set("maxUnavailable") {
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid("spec", spec.clone(), why));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        amount::share(spec, "spec", key, errors);
    }
    if let Some(selector) = spec.get("selector").filter(|s| !s.is_null()) {
        label_selector(selector, "spec.selector", errors);
    }
    let policies = &["AlwaysAllow", "IfHealthyBudget"];
    one_of(spec, "spec", "unhealthyPodEvictionPolicy", policies, false, errors);
}
