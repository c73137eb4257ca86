//! Defaults of RoleBindings and ClusterRoleBindings.

use serde_json::{Map, Value};

use super::{object, objects, set};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The group of the role, and of subjects that are no objects.
pub(crate) fn binding(binding: &mut Map<String, Value>) {
    if let Some(role) = object(binding, "roleRef") {
        set(role, "apiGroup", GROUP);
    }
    for subject in objects(binding, "subjects") {
        if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            set(subject, "apiGroup", GROUP);
        }
    }
}
