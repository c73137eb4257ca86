//! MutatingAdmissionPolicies and their bindings.

use serde_json::Value;

use super::super::cel::{self, Scope, Type};
use super::super::{Rules, items, one_of, text, webhook};
use crate::status::{Errors, FieldError};

/// What a policy may change; there is nothing to change in what goes.
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];

/// A MutatingAdmissionPolicy.
pub(crate) static MUTATING: Rules = Rules {
    create: |object, _, errors| policy(object, errors),
    update: |new, _, _, errors| policy(new, errors),
    status: |_, _| {},
};
/// A MutatingAdmissionPolicyBinding.
pub(crate) static MUTATING_BINDING: Rules = Rules {
    create: |object, _, errors| binding(object, errors),
    update: |new, _, _, errors| binding(new, errors),
    status: |_, _| {},
};

fn policy(policy: &Value, errors: &mut Errors) {
    let spec = policy.get("spec").unwrap_or(&Value::Null);
    super::common(spec, errors);
    operations(spec, "matchConstraints", errors);
    let mutations = items(spec, "mutations");
    if mutations.is_empty() {
        errors.push(FieldError::required("spec.mutations", "mutations must contain at least one item"));
    }
    let names = super::composed(spec);
    let scope = Scope { variables: super::variables(spec), composed: Some(&names), patches: true };
    for (at, mutation) in mutations.iter().enumerate() {
        self::mutation(mutation, &format!("spec.mutations[{at}]"), &scope, errors);
    }
    one_of(spec, "spec", "reinvocationPolicy", &["IfNeeded", "Never"], true, errors);
}

fn binding(binding: &Value, errors: &mut Errors) {
    let spec = binding.get("spec").unwrap_or(&Value::Null);
    super::bound(spec, errors);
    operations(spec, "matchResources", errors);
}

fn operations(spec: &Value, key: &str, errors: &mut Errors) {
    let rules = spec.get(key).map_or(&[][..], |matched| items(matched, "resourceRules"));
    for operation in rules.iter().flat_map(|rule| items(rule, "operations")) {
        let operation = operation.as_str().unwrap_or("");
        if !OPERATIONS.contains(&operation) {
            let path = format!("spec.{key}.resourceRules.operations");
            errors.push(FieldError::not_supported(path, operation, OPERATIONS));
        }
    }
}

/// One change: an expression of the one form or of the other.
fn mutation(mutation: &Value, path: &str, scope: &Scope<'_>, errors: &mut Errors) {
    let forms = [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];
    let type_ = text(mutation, "patchType");
    one_of(mutation, path, "patchType", &forms.map(|(type_, _)| type_), true, errors);
    if !forms.iter().any(|(known, _)| *known == type_) {
        return;
    }
    for (own, key) in forms {
        let (form, path) = (mutation.get(key).filter(|form| !form.is_null()), format!("{path}.{key}"));
        match form {
            None if own == type_ => {
                let why = format!("must be specified when patchType is {type_}");
                errors.push(FieldError::required(path, &why));
            }
            Some(form) if own == type_ => {
                webhook::expression(form, &path, "expression", "", errors);
                let wanted = if key == "jsonPatch" { Type::List } else { Type::Message("Object") };
                let path = format!("{path}.expression");
                cel::judge(text(form, "expression"), &path, scope, &[wanted], errors);
            }
            Some(_) => {
                let why = format!("must not be specified when patchType is {type_}");
                errors.push(FieldError::invalid(path, format!("{{{key}}}"), why));
            }
            None => {}
        }
    }
}
