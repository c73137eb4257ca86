//! Bindings.

use super::*;

#[test]
fn groups_of_roles_and_subjects() {
    let subjects = json!([{"kind": "User"}, {"kind": "Group"}, {"kind": "ServiceAccount"}, {"kind": "User", "apiGroup": "a"}]);
    for kind in [&kind::ROLE_BINDING, &kind::CLUSTER_ROLE_BINDING] {
        let binding = defaulted(kind, json!({"roleRef": {}, "subjects": subjects}));
        assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
        assert_eq!(binding["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
        assert_eq!(binding["subjects"][1]["apiGroup"], "rbac.authorization.k8s.io");
        assert!(binding["subjects"][2].get("apiGroup").is_none());
        assert_eq!(binding["subjects"][3]["apiGroup"], "a");
    }
}
