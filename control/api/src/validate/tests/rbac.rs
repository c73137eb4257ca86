//! Roles and bindings.

use super::*;

#[test]
fn roles() {
    let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
    let role = |kind: &Kind, rule: &Value| created(kind, json!({"rules": [rule]}));
    assert!(role(&kind::ROLE, &rule).is_empty() && created(&kind::ROLE, json!({})).is_empty());
    let urls = json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]});
    assert!(role(&kind::CLUSTER_ROLE, &urls).is_empty());
    assert_eq!(
        role(&kind::ROLE, &urls),
        [
            "rules[0].nonResourceURLs: Invalid value: [\"/metrics\"]: namespaced rules cannot apply to non-resource URLs"
        ]
    );
    let both = json!({"verbs": ["get"], "resources": ["pods"], "nonResourceURLs": ["/metrics"]});
    assert!(
        role(&kind::CLUSTER_ROLE, &both)[0]
            .ends_with("cannot apply to both regular resources and non-resource URLs")
    );
    assert_eq!(
        role(&kind::ROLE, &json!({})),
        [
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ]
    );
    let named = |name: &str| created(&kind::CLUSTER_ROLE, json!({"metadata": {"name": name}}));
    assert!(named("system:node:A_b").is_empty());
    assert_eq!(named("a/b"), ["metadata.name: Invalid value: \"a/b\": may not contain '/'"]);
    let aggregated = |selectors: Value| {
        created(&kind::CLUSTER_ROLE, json!({"aggregationRule": {"clusterRoleSelectors": selectors}}))
    };
    assert!(aggregated(json!([{"matchLabels": {"a": "b"}}])).is_empty());
    assert_eq!(
        aggregated(json!([])),
        [
            "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"
        ]
    );
    assert!(
        aggregated(json!([{"matchExpressions": [{"key": "a", "operator": "Is"}]}]))[0].starts_with(
            "aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator: Invalid value"
        )
    );
}

#[test]
fn bindings() {
    let role = json!({"kind": "ClusterRole", "name": "view"});
    let with = |kind: &Kind, subject: Value| created(kind, json!({"roleRef": role, "subjects": [subject]}));
    let account = json!({"kind": "ServiceAccount", "name": "a"});
    assert!(with(&kind::ROLE_BINDING, account.clone()).is_empty());
    assert_eq!(with(&kind::CLUSTER_ROLE_BINDING, account), ["subjects[0].namespace: Required value"]);
    assert!(with(&kind::CLUSTER_ROLE_BINDING, json!({"kind": "User", "name": "A b"})).is_empty());
    for (subject, messages) in [
        (
            json!({"kind": "Group"}),
            vec![
                "subjects[0].name: Required value",
                "subjects[0].name: Invalid value: \"\": group name cannot be empty",
            ],
        ),
        (
            json!({"kind": "Node", "name": "n"}),
            vec![
                "subjects[0].kind: Unsupported value: \"Node\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
            ],
        ),
        (
            json!({"kind": "User", "name": "u", "apiGroup": "apps"}),
            vec![
                "subjects[0].apiGroup: Unsupported value: \"apps\": supported values: \"rbac.authorization.k8s.io\"",
            ],
        ),
        (
            json!({"kind": "ServiceAccount", "name": "u", "apiGroup": "apps"}),
            vec!["subjects[0].apiGroup: Unsupported value: \"apps\": supported values: \"\""],
        ),
    ] {
        assert_eq!(with(&kind::ROLE_BINDING, subject), messages);
    }
    assert!(
        with(&kind::ROLE_BINDING, json!({"kind": "ServiceAccount", "name": "A"}))[0]
            .contains("RFC 1123 subdomain")
    );
}

#[test]
fn what_a_binding_gives_stays() {
    let binding = |role: Value| json!({"roleRef": role});
    let role = |kind: &str, name: &str| binding(json!({"kind": kind, "name": name}));
    assert_eq!(
        created(&kind::CLUSTER_ROLE_BINDING, role("Role", "")),
        [
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            "roleRef.name: Required value",
        ]
    );
    let other = binding(json!({"kind": "Role", "name": "a", "apiGroup": "b"}));
    assert!(created(&kind::ROLE_BINDING, other)[0].starts_with("roleRef.apiGroup: Unsupported value: \"b\""));
    for kind in [&kind::ROLE_BINDING, &kind::CLUSTER_ROLE_BINDING] {
        let changed = updated(kind, &role("ClusterRole", "a"), &role("ClusterRole", "b"));
        assert_eq!(changed.len(), 1);
        assert!(
            changed[0].starts_with("roleRef: Invalid value: ")
                && changed[0].ends_with(": cannot change roleRef")
        );
        assert!(updated(kind, &role("ClusterRole", "a"), &role("ClusterRole", "a")).is_empty());
    }
}
