//! Roles and bindings.

use super::*;

#[test]
fn roles_and_bindings() {
    assert_eq!(cells(&kind::ROLE, json!({})), ["x", "2024-01-01T00:00:00Z"]);
    assert_eq!(columns(&kind::CLUSTER_ROLE)[1]["name"], "Created At");
    let subjects = json!([{"kind": "User", "name": "u"}, {"kind": "User", "name": "v"}, {"kind": "Group", "name": "g"},
        {"kind": "ServiceAccount", "namespace": "n", "name": "a"}]);
    assert_eq!(
        cells(&kind::ROLE_BINDING, json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": subjects})),
        ["x", "Role/r", "5m", "u, v", "g", "n/a"]
    );
}
