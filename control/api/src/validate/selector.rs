//! Validation of label selectors within objects.

use serde_json::Value;

use super::{items, meta, name, rules, text};
use crate::status::FieldError;

/// The label selector at `path`; nothing is asked of one that is not there.
pub(super) fn labels(selector: Option<&Value>, path: &str, errors: &mut Vec<FieldError>) {
    let Some(selector) = selector else { return };
    meta::labels(selector, &format!("{path}.matchLabels"), "matchLabels", errors);
    for (at, expression) in items(selector, "matchExpressions").iter().enumerate() {
        let path = format!("{path}.matchExpressions[{at}]");
        let values = items(expression, "values");
        match text(expression, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(format!("{path}.values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(format!("{path}.values"), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let why = "not a valid selector operator";
                errors.push(FieldError::invalid(format!("{path}.operator"), other, why));
            }
        }
        let key = text(expression, "key");
        rules(name::qualified(key), &format!("{path}.key"), key, errors);
        for (at, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or("");
            rules(name::label_value(value), &format!("{path}.values[{at}]"), value, errors);
        }
    }
}
