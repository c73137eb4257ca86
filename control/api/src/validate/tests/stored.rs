//! Objects that were stored before a rule was known.

use super::*;

/// What is wrong with a change of `old`, which is as it was stored.
fn changed(kind: &Kind, old: &Value, changes: &[(&str, Value)]) -> Vec<String> {
    let mut old = old.clone();
    old["metadata"]["name"] = "x".into();
    let mut new = with(&old, changes);
    crate::default::apply(kind, &mut new);
    told(&update(kind, &new, &old, &Limits::default()))
}

const NONE: [&str; 0] = [];

/// Things that are wrong with objects of each kind, and a change of something else.
fn stored_wrong() -> Vec<(&'static Kind, Value, (&'static str, Value))> {
    let labels = json!({"a": "b"});
    let template =
        |container: Value| json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let workload = || json!({"selector": {"matchLabels": labels}, "template": template(json!({"name": "C", "image": "i"}))});
    let hook = |name: &str, selector: Value| {
        json!({"name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "objectSelector": selector,
            "clientConfig": {"url": "https://a"}})
    };
    let replicas = || ("/spec/replicas", json!(7));
    let rolling = || json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 3}});
    let with_name = |mut spec: Value, name: &str| {
        spec["serviceName"] = name.into();
        json!({ "spec": spec })
    };
    vec![
        (
            &kind::POD,
            json!({"spec": {"containers": [{"name": "C", "image": "i"}]}}),
            ("/spec/containers/0/image", json!("j")),
        ),
        (&kind::DEPLOYMENT, json!({ "spec": workload() }), replicas()),
        (&kind::REPLICA_SET, json!({ "spec": workload() }), replicas()),
        (&kind::STATEFUL_SET, with_name(workload(), "s"), replicas()),
        (&kind::DAEMON_SET, json!({ "spec": workload() }), ("/spec/updateStrategy", rolling())),
        (
            &kind::REPLICATION_CONTROLLER,
            json!({"spec": {"selector": labels, "template": template(json!({"name": "C", "image": "i"}))}}),
            replicas(),
        ),
        (
            &kind::JOB,
            json!({"spec": {"parallelism": 1, "completions": 1, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "C", "image": "i"}]}}}}),
            ("/spec/parallelism", json!(2)),
        ),
        (
            &kind::CRON_JOB,
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "C", "image": "i"}]}}}}}}),
            ("/spec/schedule", json!("1 * * * *")),
        ),
        (
            &kind::SERVICE,
            json!({"spec": {"selector": {"a b": "c"}, "ports": [{"port": 1}]}}),
            ("/spec/ports/0/port", json!(2)),
        ),
        (
            &kind::PERSISTENT_VOLUME,
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["Often"],
                "hostPath": {"path": "/a"}}}),
            ("/spec/persistentVolumeReclaimPolicy", json!("Delete")),
        ),
        (
            &kind::PERSISTENT_VOLUME_CLAIM,
            json!({"spec": {"accessModes": ["Often"], "resources": {"requests": {"storage": "1Gi"}}}}),
            ("/spec/volumeName", json!("v")),
        ),
        (
            &kind::VALIDATING_WEBHOOK_CONFIGURATION,
            json!({"webhooks": [hook("a.b.c", json!({"matchLabels": {"a b": "c"}})), hook("d.e.f", json!({}))]}),
            ("/webhooks/1/timeoutSeconds", json!(3)),
        ),
        (
            &kind::RESOURCE_QUOTA,
            json!({"spec": {"hard": {"pods": "-1", "services": "1"}}}),
            ("/spec/hard/services", json!("2")),
        ),
        (
            &kind::NETWORK_POLICY,
            json!({"spec": {"podSelector": {"matchLabels": {"a b": "c"}}}}),
            ("/spec/policyTypes", json!(["Ingress", "Egress"])),
        ),
    ]
}

#[test]
fn what_is_stored_and_does_not_change_is_no_matter() {
    for (kind, old, other) in stored_wrong() {
        let refused = created(kind, old.clone());
        assert!(!refused.is_empty(), "{kind}: nothing is wrong with it");
        for change in
            [("/metadata/labels", json!({"a": "b"})), ("/metadata/finalizers", json!(["a.b/c"])), other]
        {
            let about = change.0;
            assert_eq!(changed(kind, &old, &[change]), NONE, "{kind} {about}");
        }
        let told = changed(kind, &old, &[("/metadata/labels", json!({"a": "b c"}))]);
        assert!(told.len() == 1 && told[0].starts_with("metadata.labels: "), "{kind}: {told:?}");
    }
}

/// Nothing and an empty thing are not the same to every rule.
#[test]
fn what_is_empty_is_a_change() {
    let pod = json!({"spec": {"containers": [{"name": "a", "image": "i", "env": [{"name": "A"}]}]}});
    let told = changed(&kind::POD, &pod, &[("/spec/containers/0/env/0/valueFrom", json!({}))]);
    assert!(told.iter().any(|error| error.starts_with("spec.containers[0].env[0].valueFrom")), "{told:?}");
    let peer = |peer: Value| json!([{"from": [peer]}]);
    let policy = json!({"spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": peer(json!({"podSelector": {}}))}});
    assert_eq!(created(&kind::NETWORK_POLICY, policy.clone()), NONE);
    assert!(!changed(&kind::NETWORK_POLICY, &policy, &[("/spec/ingress", peer(json!({})))]).is_empty());
}

/// Whoever takes off its finalizer does not answer for an annotation of before.
#[test]
fn an_annotation_of_before_a_rule_is_no_matter() {
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    let mut old = json!({"spec": {"containers": [{"name": "a", "image": "i"}]}});
    old["metadata"]["annotations"] = json!({COST: "much"});
    assert_eq!(changed(&kind::POD, &old, &[("/metadata/finalizers", json!([]))]), NONE);
    assert_eq!(changed(&kind::POD, &old, &[("/metadata/annotations", json!({COST: "more"}))]).len(), 1);
}

#[test]
fn what_changes_is_judged() {
    let container = |name: &str, image: &str| json!({"name": name, "image": image});
    let old = json!({"spec": {"containers": [container("A", "i"), container("b", "")]}});
    let image = |at: usize, value: &str| {
        changed(&kind::POD, &old, &[(&format!("/spec/containers/{at}/image"), value.into())])
    };
    assert_eq!(image(0, "j"), NONE);
    assert_eq!(image(1, "j"), NONE);
    assert_eq!(image(0, ""), ["spec.containers[0].image: Required value"]);
    assert!(image(1, " j")[0].starts_with("spec.containers[1].image: Invalid value"));
    let told = changed(&kind::POD, &old, &[("/spec/containers/0/name", "B".into())]);
    assert!(told[0].starts_with("spec.containers[0].name: Invalid value: \"B\""), "{told:?}");
    assert!(told[1].starts_with("spec: Forbidden: pod updates may not change fields"), "{told:?}");
}

#[test]
fn templates_are_judged_by_what_changed_in_them() {
    let container = |name: &str| json!({"name": name, "image": "i"});
    let workload = |containers: Value| {
        json!({"spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}}}})
    };
    let old = workload(json!([container("A"), container("b"), container("C"), container("b")]));
    let containers = |containers: Value| {
        changed(&kind::DEPLOYMENT, &old, &[("/spec/template/spec/containers", containers)])
    };
    // An item is the same one where others before it are gone, and it is only one.
    assert_eq!(containers(json!([container("C")])), NONE);
    assert_eq!(containers(json!([container("C"), container("A"), container("d")])), NONE);
    assert_eq!(containers(json!([container("b"), container("b")])), NONE);
    let path = "spec.template.spec.containers";
    assert_eq!(
        containers(json!([container("b"), container("b"), container("b")])),
        [format!("{path}[2].name: Duplicate value: \"b\"")]
    );
    for name in ["A", "C"] {
        let told = containers(json!([container(name), container(name)]));
        assert_eq!(told.len(), 2, "what was there once excuses one: {told:?}");
    }
    let mut other = container("A");
    other["image"] = "j".into();
    assert_eq!(containers(json!([other])), NONE, "its name is at the same place");
    let told = containers(json!([container("b"), other]));
    assert!(
        told.len() == 1 && told[0].starts_with(&format!("{path}[1].name: Invalid value: \"A\"")),
        "{told:?}"
    );
}

#[test]
fn a_change_is_never_excused_by_what_was_stored() {
    let (kind, old, _) = stored_wrong().swap_remove(1);
    let told = changed(kind, &old, &[("/spec/selector", json!({"matchLabels": {"a": "c"}}))]);
    assert!(told.iter().any(|told| told.ends_with("field is immutable")), "{told:?}");
    let (kind, old, _) = stored_wrong().swap_remove(0);
    let told = changed(kind, &old, &[("/spec/nodeName", json!("n"))]);
    assert!(told.len() == 1 && told[0].starts_with("spec: Forbidden: "), "{told:?}");
}

#[test]
fn definitions_of_before_a_rule() {
    let version = |name: &str, type_: &str| json!({"name": name, "served": true, "storage": name == "v1", "schema": {"openAPIV3Schema": {"type": type_}}});
    let old = json!({"metadata": {"finalizers": ["a.b/c"]},
        "spec": {"group": "a.k8s.io", "scope": "Namespaced", "names": {"plural": "xs", "kind": "X"},
            "versions": [version("v1", "string"), version("v2", "object")]},
        "status": {"storedVersions": ["v1"]}});
    let changed = |old: &Value, changes: &[(&str, Value)]| {
        let named = |object: &Value| {
            let mut object = object.clone();
            object["metadata"]["name"] = "xs.a.k8s.io".into();
            crate::default::apply(&kind::CUSTOM_RESOURCE_DEFINITION, &mut object);
            object
        };
        let (new, old) = (named(&with(old, changes)), named(old));
        told(&update(&kind::CUSTOM_RESOURCE_DEFINITION, &new, &old, &Limits::default()))
    };
    // Its finalizer goes, although its schema is of no object and nobody has said that its group may be used.
    assert_eq!(changed(&old, &[("/metadata/finalizers", Value::Null)]), NONE);
    let served = ("/spec/versions/1/served", json!(false));
    assert_eq!(changed(&old, std::slice::from_ref(&served)), NONE);
    let told = changed(&old, &[("/spec/versions/1/schema/openAPIV3Schema/type", json!("string"))]);
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("spec.versions[1].schema.openAPIV3Schema.type"), "{told:?}");
    // Where objects are stored in a version that is not there, also where nothing changes.
    let lost = with(&old, &[("/status/storedVersions", json!(["v0"]))]);
    for change in [("/metadata/finalizers", Value::Null), served] {
        let told = changed(&lost, &[change]);
        assert!(told.len() == 1 && told[0].starts_with("status.storedVersions[0]: "), "{told:?}");
    }
    let annotation = "/metadata/annotations";
    let said = |what: &str| json!({"api-approved.kubernetes.io": what});
    for (before, now, wrong) in
        [("unapproved", "", 1), ("", "unapproved", 0), ("https://a", "maybe", 1), ("maybe", "perhaps", 0)]
    {
        let before = with(&old, &[(annotation, said(before))]);
        assert_eq!(changed(&before, &[(annotation, said(now))]).len(), wrong, "{before} {now}");
    }
}

#[test]
fn however_much_is_wrong_it_may_stay_and_metadata_is_judged() {
    let containers: Vec<Value> = (0..500).map(|at| json!({"name": format!("C{at}"), "image": "i"})).collect();
    let old = json!({"spec": {"containers": containers}});
    assert_eq!(changed(&kind::POD, &old, &[("/metadata/labels", json!({"a": "b"}))]), NONE);
    let cost = json!({"controller.kubernetes.io/pod-deletion-cost": "much"});
    let told = changed(&kind::POD, &old, &[("/metadata/annotations", cost)]);
    assert!(told.len() == 1 && told[0].ends_with("must be a 32bit integer"), "{told:?}");
    // Which of so many are new is not known.
    assert!(changed(&kind::POD, &old, &[("/spec/containers/0/image", json!("j"))]).len() > 100);
}

#[test]
fn what_older_versions_left_out_is_no_change() {
    let old = json!({"spec": {"containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(changed(&kind::POD, &old, &[("/metadata/labels", json!({"a": "b"}))]), NONE);
    assert_eq!(changed(&kind::POD, &old, &[("/spec/containers/0/image", json!("j"))]), NONE);
    assert!(!changed(&kind::POD, &old, &[("/spec/dnsPolicy", json!("Default"))]).is_empty());
}

#[test]
fn a_status_keeps_what_it_has() {
    let old = json!({"metadata": {"name": "x"}, "status": {"phase": "Resting", "podIPs": [{"ip": "a"}]}});
    let status = |changes: &[(&str, Value)]| told(&update_status(&kind::POD, &with(&old, changes), &old));
    assert_eq!(status(&[("/status/message", json!("m"))]), NONE);
    assert_eq!(status(&[("/status/phase", json!("Sleeping"))]).len(), 1);
    assert!(status(&[("/status/podIPs", json!([{"ip": "b"}]))])[0].starts_with("status.podIPs[0].ip"));
    let old = json!({"metadata": {"name": "x"}, "status": {"collisionCount": 2, "readyReplicas": -1}});
    let lower = with(&old, &[("/status/collisionCount", json!(1))]);
    assert_eq!(
        told(&update_status(&kind::DEPLOYMENT, &lower, &old)),
        ["status.collisionCount: Invalid value: 1: cannot be decremented"]
    );
}
