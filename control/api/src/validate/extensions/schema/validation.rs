//! Rules in CEL: `x-kubernetes-validations`. They are compiled here; what they say is judged where custom resources are served.

use serde_json::Value;

use super::super::super::cel::{self, Broken, Scope, Type};
use super::super::super::{items, text};
use super::{Place, path};
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

/// What a rule may speak of: what it is about, and what that was before.
const SCOPE: Scope<'_> = Scope::of(&["self", "oldSelf"]);

/// Compiles the rules of a schema that is right.
pub(super) fn compile(schema: &Value, path: &str, place: Place<'_>, errors: &mut Errors) {
    for (at, rule) in items(schema, "x-kubernetes-validations").iter().enumerate() {
        if errors.is_full() {
            return;
        }
        let path = format!("{path}.x-kubernetes-validations[{at}]");
        let (expression, of_message) = (text(rule, "rule"), text(rule, "messageExpression"));
        if !self::expression(expression, rule, &path, place, errors) || of_message.is_empty() {
            continue;
        }
        let why = match cel::compile(of_message, &SCOPE, &[Type::Text]) {
            Ok(_) => continue,
            Err(Broken::Compilation(why)) => format!("messageExpression compilation failed: {why}"),
            Err(Broken::Program(why)) => format!("messageExpression instantiation failed: {why}"),
            Err(Broken::Result(_)) => "messageExpression must evaluate to a string".to_owned(),
        };
        errors.push(FieldError::invalid(format!("{path}.messageExpression"), rule.clone(), why));
    }
}

/// Compiles the expression of a rule; whether it is one.
fn expression(expression: &str, rule: &Value, path: &str, place: Place<'_>, errors: &mut Errors) -> bool {
    let rule_path = format!("{path}.rule");
    let why = match cel::compile(expression, &SCOPE, &[Type::Bool]) {
        Ok(compiled) => {
            let optional = rule.get("optionalOldSelf").filter(|optional| !optional.is_null());
            match (compiled.uses("oldSelf"), place.unmatched, optional) {
                (true, Some(around), _) => {
                    let why = format!(
                        "oldSelf cannot be used on the uncorrelatable portion of the schema within {around}"
                    );
                    errors.push(FieldError::invalid(rule_path, expression, why));
                }
                (false, _, Some(optional)) => {
                    let why = "may not be set if oldSelf is not used in rule";
                    errors.push(FieldError::invalid(
                        format!("{path}.optionalOldSelf"),
                        optional.clone(),
                        why,
                    ));
                }
                _ => {}
            }
            return true;
        }
        Err(Broken::Compilation(why)) => format!("compilation failed: {why}"),
        Err(Broken::Program(why)) => format!("program instantiation failed: {why}"),
        Err(Broken::Result(_)) => "cel expression must evaluate to a bool".to_owned(),
    };
    errors.push(FieldError::invalid(rule_path, rule.clone(), why));
    false
}
