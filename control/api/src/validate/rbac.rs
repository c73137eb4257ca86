//! Validation of Roles and bindings.

use serde_json::Value;

use super::{Rules, items, name, not_empty, rules, selector, text};
use crate::status::{Errors, FieldError};

const GROUP: &str = "rbac.authorization.k8s.io";

/// A Role.
pub(crate) static ROLE: Rules = Rules {
    create: |object, _, errors| role(object, true, errors),
    update: |new, _, _, errors| role(new, true, errors),
    status: |_, _| {},
};
/// A ClusterRole.
pub(crate) static CLUSTER_ROLE: Rules = Rules {
    create: |object, _, errors| cluster_role(object, errors),
    update: |new, _, _, errors| cluster_role(new, errors),
    status: |_, _| {},
};
/// A RoleBinding.
pub(crate) static ROLE_BINDING: Rules = Rules {
    create: |object, _, errors| binding(object, true, errors),
    update: |new, old, _, errors| {
        binding(new, true, errors);
        role_stays(new, old, errors);
    },
    status: |_, _| {},
};
/// A ClusterRoleBinding.
pub(crate) static CLUSTER_ROLE_BINDING: Rules = Rules {
    create: |object, _, errors| binding(object, false, errors),
    update: |new, old, _, errors| {
        binding(new, false, errors);
        role_stays(new, old, errors);
    },
    status: |_, _| {},
};

fn role(role: &Value, namespaced: bool, errors: &mut Errors) {
    for (at, rule) in items(role, "rules").iter().enumerate() {
        policy_rule(rule, namespaced, &format!("rules[{at}]"), errors);
    }
}

fn cluster_role(object: &Value, errors: &mut Errors) {
    role(object, false, errors);
    let Some(rule) = object.get("aggregationRule").filter(|r| !r.is_null()) else { return };
    let (selectors, path) = (items(rule, "clusterRoleSelectors"), "aggregationRule.clusterRoleSelectors");
    if selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(FieldError::required(path, why));
    }
    for (at, selector) in selectors.iter().enumerate() {
        selector::labels(Some(selector), &format!("{path}[{at}]"), errors);
    }
}

fn policy_rule(rule: &Value, namespaced: bool, path: &str, errors: &mut Errors) {
    let count = |key: &str| items(rule, key).len();
    if count("verbs") == 0 {
        errors.push(FieldError::required(format!("{path}.verbs"), "verbs must contain at least one value"));
    }
    let urls = items(rule, "nonResourceURLs");
    if !urls.is_empty() {
        let mut wrong = |why: &str| {
            errors.push(FieldError::invalid(format!("{path}.nonResourceURLs"), urls.to_vec(), why));
        };
        if namespaced {
            wrong("namespaced rules cannot apply to non-resource URLs");
        }
        if count("apiGroups") + count("resources") + count("resourceNames") > 0 {
            wrong("rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    let mut missing = |key: &str, why: &str| errors.push(FieldError::required(format!("{path}.{key}"), why));
    if count("apiGroups") == 0 {
        missing("apiGroups", "resource rules must supply at least one api group");
    }
    if count("resources") == 0 {
        missing("resources", "resource rules must supply at least one resource");
    }
}

fn binding(binding: &Value, namespaced: bool, errors: &mut Errors) {
    let role = binding.get("roleRef").unwrap_or(&Value::Null);
    let group = text(role, "apiGroup");
    if group != GROUP {
        errors.push(FieldError::not_supported("roleRef.apiGroup", group, &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    let kind = text(role, "kind");
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported("roleRef.kind", kind, kinds));
    }
    not_empty(role, "roleRef", "name", errors);
    rules(name::path_segment(text(role, "name")), "roleRef.name", text(role, "name"), errors);
    for (at, subject) in items(binding, "subjects").iter().enumerate() {
        self::subject(subject, namespaced, &format!("subjects[{at}]"), errors);
    }
}

fn subject(subject: &Value, namespaced: bool, path: &str, errors: &mut Errors) {
    let (given, group) = (text(subject, "name"), text(subject, "apiGroup"));
    not_empty(subject, path, "name", errors);
    let group_must_be = |wanted: &str, errors: &mut Errors| {
        if group != wanted {
            errors.push(FieldError::not_supported(format!("{path}.apiGroup"), group, &[wanted]));
        }
    };
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !given.is_empty() {
                rules(name::dns_subdomain(given), &format!("{path}.name"), given, errors);
            }
            group_must_be("", errors);
            if !namespaced {
                not_empty(subject, path, "namespace", errors);
            }
        }
        kind @ ("User" | "Group") => {
            if given.is_empty() {
                let why = format!("{} name cannot be empty", kind.to_lowercase());
                errors.push(FieldError::invalid(format!("{path}.name"), given, why));
            }
            group_must_be(GROUP, errors);
        }
        other => {
            let valid = &["ServiceAccount", "User", "Group"];
            errors.push(FieldError::not_supported(format!("{path}.kind"), other, valid));
        }
    }
}

/// Whom a binding is for may change, not what it gives.
fn role_stays(new: &Value, old: &Value, errors: &mut Errors) {
    let role = |binding: &Value| binding.get("roleRef").cloned().unwrap_or_default();
    if role(new) != role(old) {
        errors.push(FieldError::invalid("roleRef", role(new), "cannot change roleRef"));
    }
}
