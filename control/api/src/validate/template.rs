//! Validation of what is kept to make objects from: ControllerRevisions and PodTemplates.

use serde_json::Value;

use super::{IMMUTABLE, Rules, workload};
use crate::status::{Errors, FieldError};

/// A ControllerRevision.
pub(crate) static REVISION: Rules = Rules {
    create: |object, _, errors| revision(object, errors),
    update: |new, old, _, errors| {
        revision(new, errors);
        if new.get("data") != old.get("data") {
            let data = new.get("data").cloned().unwrap_or_default();
            errors.push(FieldError::invalid("data", data, IMMUTABLE));
        }
    },
    status: |_, _| {},
};
/// A PodTemplate.
pub(crate) static POD_TEMPLATE: Rules = Rules {
    create: |object, _, errors| pod_template(object, errors),
    update: |new, _, _, errors| pod_template(new, errors),
    status: |_, _| {},
};

fn revision(revision: &Value, errors: &mut Errors) {
    if revision.get("data").is_none_or(Value::is_null) {
        errors.push(FieldError::required("data", "data is mandatory"));
    }
    if let Some(number) = revision.get("revision").and_then(Value::as_i64).filter(|n| *n < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("revision", number, why));
    }
}

fn pod_template(template: &Value, errors: &mut Errors) {
    workload::template(template.get("template").unwrap_or(&Value::Null), "template", errors);
}
