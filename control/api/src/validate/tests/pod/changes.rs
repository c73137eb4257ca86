//! What may change of a stored Pod.

use super::*;

#[test]
fn gates_are_only_opened() {
    let gated = |gates: &[&str]| {
        let gates: Vec<Value> = gates.iter().map(|gate| json!({"name": gate})).collect();
        json!({"spec": {"schedulingGates": gates, "nodeSelector": {"a": "b"}, "containers": [{"name": "c", "image": "i"}]}})
    };
    let old = gated(&["a.b/one", "a.b/two"]);
    assert!(updated(&kind::POD, &gated(&["a.b/two"]), &old).is_empty());
    assert!(updated(&kind::POD, &gated(&[]), &old).is_empty());
    assert_eq!(
        updated(&kind::POD, &gated(&["a.b/one", "a.b/three"]), &old),
        [
            "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a.b/three'"
        ]
    );
    // While a gate is closed, the choice of nodes may become smaller.
    let required = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}});
    let narrowed = with(
        &old,
        &[("/spec/nodeSelector", json!({"a": "b", "c": "d"})), ("/spec/affinity", required.clone())],
    );
    assert!(updated(&kind::POD, &narrowed, &old).is_empty());
    let wider = with(&old, &[("/spec/nodeSelector", json!({"c": "d"}))]);
    assert_eq!(
        updated(&kind::POD, &wider, &old),
        [
            "spec.nodeSelector: Invalid value: {\"c\":\"d\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        ]
    );
    let terms =
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let more = with(
        &narrowed,
        &[(&format!("{terms}/0/matchExpressions"), json!([{"key": "z", "operator": "Exists"}]))],
    );
    let said = updated(&kind::POD, &more, &narrowed);
    assert!(
        said.len() == 1 && said[0].ends_with("only additions are allowed (no mutations or deletions)"),
        "{said:?}"
    );
    // With none closed it stays as it is.
    let free = with(&narrowed, &[("/spec/schedulingGates", Value::Null)]);
    let moved = with(&free, &[("/spec/nodeSelector", json!({"a": "b", "c": "d", "e": "f"}))]);
    let said = updated(&kind::POD, &moved, &free);
    assert!(
        said.len() == 1 && said[0].starts_with("spec: Forbidden: pod updates may not change fields"),
        "{said:?}"
    );
}

#[test]
fn what_else_of_a_stored_pod_may_change() {
    let old = json!({"spec": {"activeDeadlineSeconds": 10, "terminationGracePeriodSeconds": 5,
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3}],
        "containers": [{"name": "c", "image": "i"}]}});
    let toleration = "/spec/tolerations/0/tolerationSeconds";
    for right in [
        ("/spec/activeDeadlineSeconds", json!(5)),
        (toleration, json!(9)),
        ("/metadata", json!({"labels": {"a": "b"}})),
    ] {
        assert_eq!(updated(&kind::POD, &with(&old, &[right]), &old), Vec::<String>::new());
    }
    for (change, said) in [
        (
            ("/spec/activeDeadlineSeconds", json!(11)),
            "spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value",
        ),
        (
            ("/spec/activeDeadlineSeconds", Value::Null),
            "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
        ),
        (
            ("/spec/tolerations", json!([])),
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ),
        (
            ("/spec/containers", json!([{"name": "c", "image": "i"}, {"name": "d", "image": "i"}])),
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        ),
        (("/spec/containers/0/image", json!("")), "spec.containers[0].image: Required value"),
        (
            ("/spec/terminationGracePeriodSeconds", json!(6)),
            "spec: Forbidden: pod updates may not change fields other than",
        ),
        (
            ("/spec/runtimeClassName", json!("kata")),
            "spec: Forbidden: pod updates may not change fields other than",
        ),
        (
            ("/spec/overhead", json!({"cpu": "1"})),
            "spec: Forbidden: pod updates may not change fields other than",
        ),
    ] {
        let told = updated(&kind::POD, &with(&old, &[change]), &old);
        assert!(told.len() == 1 && told[0].starts_with(said), "{told:?}");
    }
}
