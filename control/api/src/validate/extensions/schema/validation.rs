//! Rules in CEL: `x-kubernetes-validations`. What they say is judged where custom resources are served.

use serde_json::Value;

use super::super::super::{items, text};
use super::path;
use crate::status::{Errors, FieldError};

const REASONS: &[&str] =
    &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

pub(super) fn rules(schema: &Value, path: &str, errors: &mut Errors) {
    for (at, rule) in items(schema, "x-kubernetes-validations").iter().enumerate() {
        self::rule(rule, schema, &format!("{path}.x-kubernetes-validations[{at}]"), errors);
    }
}

fn has_lines(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

fn rule(rule: &Value, schema: &Value, path: &str, errors: &mut Errors) {
    let (expression, message) = (text(rule, "rule").trim(), text(rule, "message"));
    let at = |key: &str| format!("{path}.{key}");
    if expression.is_empty() {
        errors.push(FieldError::required(at("rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.push(FieldError::invalid(at("message"), message, "must be non-empty if specified"));
    } else if has_lines(message.trim()) {
        errors.push(FieldError::invalid(at("message"), message, "must not contain line breaks"));
    } else if has_lines(expression) && message.is_empty() {
        let why = "message must be specified if rule contains line breaks";
        errors.push(FieldError::required(at("message"), why));
    }
    let of_message = text(rule, "messageExpression");
    if !of_message.is_empty() && of_message.trim().is_empty() {
        let why = "messageExpression must be non-empty if specified";
        errors.push(FieldError::required(at("messageExpression"), why));
    }
    let reason = text(rule, "reason");
    if !reason.is_empty() && !REASONS.contains(&reason) {
        errors.push(FieldError::not_supported(at("reason"), reason, REASONS));
    }
    let field = text(rule, "fieldPath");
    if field.is_empty() {
        return;
    }
    let mut wrong = |why: &str| errors.push(FieldError::invalid(at("fieldPath"), field, why));
    if field.trim().is_empty() {
        wrong("must be non-empty if specified");
    }
    if has_lines(field) {
        wrong("must not contain line breaks");
    }
    if path::find(field, schema, true).is_err() {
        wrong("must be a valid path");
    }
}
