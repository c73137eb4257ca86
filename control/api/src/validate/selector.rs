//! Validation of label selectors.

use serde_json::Value;

use super::{items, meta, name, rules, text};
use crate::selector::Selector;
use crate::status::{Errors, FieldError};
use crate::view::LabelSelector;

/// A label selector at `path`: what it selects, if nothing is wrong with it.
pub(super) fn label_selector(selector: &Value, path: &str, errors: &mut Errors) -> Option<Selector> {
    let before = errors.len();
    meta::labels(selector, &format!("{path}.matchLabels"), "matchLabels", errors);
    for (at, expression) in items(selector, "matchExpressions").iter().enumerate() {
        requirement(expression, &format!("{path}.matchExpressions[{at}]"), errors);
    }
    if errors.len() > before {
        return None;
    }
    let read: LabelSelector = serde_json::from_value(selector.clone()).ok()?;
    Selector::from_label_selector(&read).ok()
}

/// The same; nothing is asked of one that is not there.
pub(super) fn labels(selector: Option<&Value>, path: &str, errors: &mut Errors) {
    if let Some(selector) = selector {
        label_selector(selector, path, errors);
    }
}

fn requirement(expression: &Value, path: &str, errors: &mut Errors) {
    let key = text(expression, "key");
    rules(name::qualified(key), &format!("{path}.key"), key, errors);
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
    for (at, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or("");
        rules(name::label_value(value), &format!("{path}.values[{at}]"), value, errors);
    }
}
