//! Validation of PriorityClasses.

use serde_json::Value;

use super::{Rules, fixed, flag, text};
use crate::status::{Errors, FieldError};

/// The highest priority that a user may give.
const PRIORITY_MAX: i64 = 1_000_000_000;
/// Classes of the system's own.
const SYSTEM_PREFIX: &str = "system-";
/// Their names and priorities.
pub(super) const SYSTEM_CLASSES: &[(&str, i64)] =
    &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// Whether a PriorityClass of this name is the system's own.
pub(super) fn is_system_class(name: &str) -> bool {
    SYSTEM_CLASSES.iter().any(|(known, _)| *known == name)
}

/// A PriorityClass.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| class(object, errors),
    update: |new, old, _, errors| {
        if new.get("value") != old.get("value") {
            errors.push(FieldError::forbidden("value", "may not be changed in an update."));
        }
        fixed(new, old, "", "preemptionPolicy", errors);
    },
    status: |_, _| {},
};

fn class(class: &Value, errors: &mut Errors) {
    let name = class.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("");
    let value = class.get("value").and_then(Value::as_i64).unwrap_or(0);
    if name.starts_with(SYSTEM_PREFIX) {
        let why = match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, known)) if *known != value => {
                Some(format!("value of {name} PriorityClass must be {known}"))
            }
            Some(_) if flag(class, "globalDefault") => {
                Some(format!("globalDefault of {name} PriorityClass must be false"))
            }
            Some(_) => None,
        };
        if let Some(why) = why {
            let why = format!(
                "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {why}"
            );
            errors.push(FieldError::forbidden("metadata.name", why));
        }
    } else if value > PRIORITY_MAX {
        let why = format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}");
        errors.push(FieldError::forbidden("value", why));
    }
    let policy = text(class, "preemptionPolicy");
    if !matches!(policy, "" | "PreemptLowerPriority" | "Never") {
        let valid = &["PreemptLowerPriority", "Never"];
        errors.push(FieldError::not_supported("preemptionPolicy", policy, valid));
    }
}
