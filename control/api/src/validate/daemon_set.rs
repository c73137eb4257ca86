//! Validation of DaemonSets.

use serde_json::Value;

use super::{Rules, amount, not_negative, text, workload};
use crate::status::{Errors, FieldError};

/// A DaemonSet.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| daemon_set(object, errors),
    update: |new, old, _, errors| {
        workload::update(new, old, errors);
        daemon_set(new, errors);
    },
    status,
};

fn daemon_set(set: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = set.get("spec").unwrap_or(&empty);
    workload::workload(spec, "daemonset", "DaemonSet", errors);
    not_negative(spec, "spec", "minReadySeconds", errors);
    strategy(spec.get("updateStrategy").unwrap_or(&empty), errors);
    not_negative(spec, "spec", "revisionHistoryLimit", errors);
}

fn strategy(strategy: &Value, errors: &mut Errors) {
    let path = "spec.updateStrategy";
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => match strategy.get("rollingUpdate").filter(|r| !r.is_null()) {
            None => errors.push(FieldError::required(format!("{path}.rollingUpdate"), "")),
            Some(rolling) => self::rolling(rolling, &format!("{path}.rollingUpdate"), errors),
        },
        _ => {
            errors.push(FieldError::not_supported(path, strategy.clone(), &["RollingUpdate", "OnDelete"]));
        }
    }
}

/// Of the old Pod going first and the new one coming first, one is chosen.
fn rolling(rolling: &Value, path: &str, errors: &mut Errors) {
    let unavailable = amount::share(rolling, path, "maxUnavailable", errors).unwrap_or(0);
    let surge = amount::share(rolling, path, "maxSurge", errors).unwrap_or(0);
    if unavailable != 0 && surge != 0 {
        let why = "may not be set when maxUnavailable is non-zero";
        errors.push(FieldError::invalid(format!("{path}.maxSurge"), rolling["maxSurge"].clone(), why));
    }
    if unavailable == 0 && surge == 0 {
        let why = "cannot be 0 when maxSurge is 0";
        errors.push(FieldError::required(format!("{path}.maxUnavailable"), why));
    }
}

fn status(set: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let status = set.get("status").unwrap_or(&empty);
    for key in [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ] {
        not_negative(status, "status", key, errors);
    }
}
