//! Validation of RuntimeClasses.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{IMMUTABLE, Rules, items, meta, name, pod, resource, rules, text};
use crate::status::{Errors, FieldError};

/// A RuntimeClass.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| class(object, errors),
    update: |new, old, _, errors| {
        if text(new, "handler") != text(old, "handler") {
            errors.push(FieldError::invalid("handler", text(new, "handler"), IMMUTABLE));
        }
    },
    status: |_, _| {},
};

fn class(class: &Value, errors: &mut Errors) {
    let handler = text(class, "handler");
    rules(name::dns_label(handler), "handler", handler, errors);
    if let Some(fixed) = class.pointer("/overhead/podFixed") {
        pod::resource::requirements(&json!({ "limits": fixed }), "overhead", resource::of_container, errors);
    }
    let Some(scheduling) = class.get("scheduling").filter(|s| !s.is_null()) else { return };
    meta::labels(scheduling, "scheduling.nodeSelector", "nodeSelector", errors);
    pod::tolerations(scheduling, "scheduling", errors);
    let tolerations = items(scheduling, "tolerations");
    let mut seen = HashSet::new();
    for (at, twice) in tolerations.iter().enumerate().filter(|(_, toleration)| !seen.insert(*toleration)) {
        errors.push(FieldError::duplicate(format!("scheduling.tolerations[{at}]"), twice.clone()));
    }
}
