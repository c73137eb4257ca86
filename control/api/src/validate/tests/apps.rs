//! StatefulSets, DaemonSets, ControllerRevisions, ReplicationControllers and PodTemplates.

use serde_json::json;

use super::*;

fn set() -> Value {
    json!({"spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[test]
fn stateful_sets() {
    let kind = &kind::STATEFUL_SET;
    assert_eq!(created(kind, set()), Vec::<String>::new());
    let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}}]);
    let mounts = json!([{"name": "data", "mountPath": "/data"}]);
    let with_claims = with(
        &set(),
        &[
            ("/spec/volumeClaimTemplates", claims),
            ("/spec/template/spec/containers/0/volumeMounts", mounts.clone()),
        ],
    );
    assert_eq!(created(kind, with_claims.clone()), Vec::<String>::new(), "claims are volumes");
    for (changes, said) in [
        (
            ("/spec/podManagementPolicy", json!("Any")),
            "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            ("/spec/updateStrategy", json!({"type": "Recreate"})),
            "spec.updateStrategy: Invalid value: {\"type\":\"Recreate\"}: must be 'RollingUpdate' or 'OnDelete'",
        ),
        (
            ("/spec/updateStrategy", json!({"type": "OnDelete", "rollingUpdate": {"partition": 1}})),
            "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
        ),
        (
            ("/spec/updateStrategy", json!({"rollingUpdate": {"partition": -1}})),
            "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            ("/spec/updateStrategy", json!({"rollingUpdate": {"maxUnavailable": 0}})),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
        ),
        (
            ("/spec/persistentVolumeClaimRetentionPolicy", json!({"whenScaled": "Forget"})),
            "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Forget\": supported values: \"Delete\", \"Retain\"",
        ),
        (
            ("/spec/ordinals", json!({"start": -1})),
            "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            ("/spec/selector", json!({})),
            "spec.selector: Invalid value: {}: empty selector is invalid for statefulset",
        ),
        (
            ("/spec/template/metadata/labels", json!({"a": "c"})),
            "spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`",
        ),
        (
            ("/spec/template/spec/activeDeadlineSeconds", json!(5)),
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
        ),
        (
            ("/spec/template/spec/restartPolicy", json!("Never")),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            ("/spec/template/spec/containers/0/volumeMounts", mounts),
            "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\"",
        ),
    ] {
        assert_eq!(created(kind, with(&set(), &[changes])), [said]);
    }
    assert_eq!(
        created(kind, with(&with_claims, &[("/spec/volumeClaimTemplates/0/spec/accessModes", json!([]))])),
        ["spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required"]
    );
    let long = with(&set(), &[("/spec/serviceName", json!("a.b"))]);
    assert!(
        created(kind, long)[0]
            .starts_with("spec.serviceName: Invalid value: \"a.b\": a lowercase RFC 1123 label")
    );
    let mut dotted = set();
    dotted["metadata"]["name"] = "a.b".into();
    assert!(
        created(kind, dotted)[0]
            .starts_with("metadata.name: Invalid value: \"a.b\": a lowercase RFC 1123 label")
    );
}

#[test]
fn a_stateful_set_stays_what_it_is() {
    let old = set();
    for (pointer, value) in [
        ("/spec/replicas", json!(5)),
        ("/spec/minReadySeconds", json!(5)),
        ("/spec/ordinals", json!({"start": 3})),
        ("/spec/revisionHistoryLimit", json!(5)),
        ("/spec/updateStrategy", json!({"type": "OnDelete"})),
        ("/spec/persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Delete"})),
        ("/spec/template/spec/containers/0/image", json!("j")),
        // Nothing is as good as nothing said.
        ("/spec/volumeClaimTemplates", json!([])),
    ] {
        let new = with(&old, &[(pointer, value)]);
        assert_eq!(updated(&kind::STATEFUL_SET, &new, &old), Vec::<String>::new(), "{pointer}");
    }
    for (pointer, value) in
        [("/spec/serviceName", json!("other")), ("/spec/podManagementPolicy", json!("Parallel"))]
    {
        assert_eq!(
            updated(&kind::STATEFUL_SET, &with(&old, &[(pointer, value)]), &old),
            [
                "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
            ],
            "{pointer}"
        );
    }
}

#[test]
fn counts_of_a_status_fit_each_other() {
    let status = |status: Value| with_status(&kind::STATEFUL_SET, &status);
    assert!(status(json!({"replicas": 2, "readyReplicas": 2, "availableReplicas": 1})).is_empty());
    assert_eq!(
        status(json!({"replicas": 1, "currentReplicas": 2})),
        ["status.currentReplicas: Invalid value: 2: cannot be greater than status.replicas"]
    );
    assert_eq!(
        status(json!({"replicas": 2, "readyReplicas": 1, "availableReplicas": 2})),
        ["status.availableReplicas: Invalid value: 2: cannot be greater than status.readyReplicas"]
    );
    assert_eq!(
        with_status(&kind::DEPLOYMENT, &json!({"replicas": 2, "readyReplicas": 1, "availableReplicas": 2})),
        ["status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas"]
    );
    assert_eq!(
        with_status(&kind::DAEMON_SET, &json!({"numberReady": -1})),
        ["status.numberReady: Invalid value: -1: must be greater than or equal to 0"]
    );
}

#[test]
fn collisions_are_not_forgotten() {
    let with_count = |count: i64| json!({"status": {"collisionCount": count}});
    for kind in [&kind::DEPLOYMENT, &kind::STATEFUL_SET, &kind::DAEMON_SET] {
        let said = |new: &Value| told(&update_status(kind, new, &with_count(2)));
        assert!(said(&with_count(3)).is_empty());
        assert_eq!(
            said(&with_count(1)),
            ["status.collisionCount: Invalid value: 1: cannot be decremented"],
            "{kind}"
        );
        assert_eq!(
            said(&json!({})),
            ["status.collisionCount: Invalid value: 0: cannot be decremented"],
            "{kind}"
        );
    }
}

#[test]
fn daemon_sets() {
    let kind = &kind::DAEMON_SET;
    assert_eq!(created(kind, set()), Vec::<String>::new());
    for (change, said) in [
        (
            ("/spec/updateStrategy", json!({"type": "Recreate"})),
            "spec.updateStrategy: Unsupported value: {\"type\":\"Recreate\"}: supported values: \"OnDelete\", \"RollingUpdate\"",
        ),
        (
            ("/spec/updateStrategy", json!({"rollingUpdate": {"maxSurge": "10%"}})),
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: \"10%\": may not be set when maxUnavailable is non-zero",
        ),
        (
            ("/spec/updateStrategy", json!({"rollingUpdate": {"maxUnavailable": 0}})),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
        ),
        (
            ("/spec/updateStrategy", json!({"rollingUpdate": {"maxUnavailable": "101%"}})),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
        (
            ("/spec/selector", json!({})),
            "spec.selector: Invalid value: {}: empty selector is invalid for daemonset",
        ),
        (
            ("/spec/template/spec/activeDeadlineSeconds", json!(5)),
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported",
        ),
        (
            ("/spec/revisionHistoryLimit", json!(-1)),
            "spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
        ),
    ] {
        assert_eq!(created(kind, with(&set(), &[change])), [said]);
    }
    let both = json!({"a": "b", "c": "d"});
    let other = with(
        &set(),
        &[("/spec/selector/matchLabels", both.clone()), ("/spec/template/metadata/labels", both)],
    );
    assert_eq!(
        updated(kind, &other, &set()),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\",\"c\":\"d\"}}: field is immutable"]
    );
}

#[test]
fn selectors_are_read_to_their_values() {
    let expression = json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]});
    let said = created(&kind::DAEMON_SET, with(&set(), &[("/spec/selector", expression)]));
    assert!(
        said[0].starts_with(
            "spec.selector.matchExpressions[0].values[0]: Invalid value: \"b c\": a valid label"
        )
    );
}

#[test]
fn controller_revisions() {
    let kind = &kind::CONTROLLER_REVISION;
    let revision = json!({"data": {"spec": {"a": 1}}, "revision": 3});
    assert!(created(kind, revision.clone()).is_empty());
    assert_eq!(created(kind, json!({"revision": 1})), ["data: Required value: data is mandatory"]);
    assert_eq!(
        created(kind, with(&revision, &[("/revision", json!(-1))])),
        ["revision: Invalid value: -1: must be greater than or equal to 0"]
    );
    assert!(updated(kind, &with(&revision, &[("/revision", json!(4))]), &revision).is_empty());
    assert_eq!(
        updated(kind, &with(&revision, &[("/data/spec/a", json!(2))]), &revision),
        ["data: Invalid value: {\"spec\":{\"a\":2}}: field is immutable"]
    );
}

#[test]
fn replication_controllers() {
    let kind = &kind::REPLICATION_CONTROLLER;
    let controller = with(&set(), &[("/spec/selector", json!({"a": "b"}))]);
    assert!(created(kind, controller.clone()).is_empty());
    assert!(created(kind, with(&controller, &[("/spec/selector", Value::Null)])).is_empty(), "defaulted");
    assert_eq!(
        created(kind, with(&controller, &[("/spec/selector", json!({"a": "c"}))])),
        [
            "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`"
        ]
    );
    assert_eq!(
        created(kind, json!({"spec": {}})),
        ["spec.selector: Required value", "spec.template: Required value"]
    );
    // Its selector may change, unlike that of its successors.
    let both = json!({"a": "b", "c": "d"});
    let other =
        with(&controller, &[("/spec/selector", both.clone()), ("/spec/template/metadata/labels", both)]);
    assert!(updated(kind, &other, &controller).is_empty());
}

#[test]
fn pod_templates() {
    let kind = &kind::POD_TEMPLATE;
    let template =
        json!({"template": {"metadata": {}, "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    assert!(created(kind, template.clone()).is_empty());
    assert_eq!(
        created(kind, with(&template, &[("/template/spec/containers", json!([]))])),
        ["template.spec.containers: Required value"]
    );
    let ephemeral = json!([{"name": "d", "image": "i"}]);
    assert_eq!(
        created(kind, with(&template, &[("/template/spec/ephemeralContainers", ephemeral)])),
        ["template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template"]
    );
}
