//! Defaults of the sets, and what the server says of them.

use serde_json::json;

use super::*;

#[test]
fn stateful_set() {
    let set = defaulted(
        &kind::STATEFUL_SET,
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c"}]}}, "volumeClaimTemplates": [{"metadata": {"name": "d"}}]}}),
    );
    let spec = &set["spec"];
    for (key, value) in [
        ("replicas", json!(1)),
        ("podManagementPolicy", json!("OrderedReady")),
        ("revisionHistoryLimit", json!(10)),
        ("updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})),
        ("persistentVolumeClaimRetentionPolicy", json!({"whenDeleted": "Retain", "whenScaled": "Retain"})),
        (
            "volumeClaimTemplates",
            json!([{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "d"},
                "spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}]),
        ),
    ] {
        assert_eq!(spec[key], value, "{key}");
    }
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
    assert_eq!(set["status"], json!({"replicas": 0, "availableReplicas": 0}));
    let by_hand = defaulted(&kind::STATEFUL_SET, json!({"spec": {"updateStrategy": {"type": "OnDelete"}}}));
    assert_eq!(by_hand["spec"]["updateStrategy"], json!({"type": "OnDelete"}));
}

#[test]
fn daemon_set() {
    let set = defaulted(&kind::DAEMON_SET, json!({"spec": {"template": {}}}));
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
    );
    assert_eq!(set["spec"]["revisionHistoryLimit"], 10);
    assert_eq!(
        set["status"],
        json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0})
    );
}

#[test]
fn a_daemon_sets_templates_are_counted() {
    let count =
        |set: &Value| set["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone();
    let mut set = json!({"metadata": {"name": "d"}, "spec": {"template": {"a": 1}}});
    prepare(&kind::DAEMON_SET, &mut set, None);
    assert_eq!(count(&set), "1");
    let old = set.clone();
    set["spec"]["minReadySeconds"] = 5.into();
    // Nobody else counts.
    set["metadata"]["annotations"] = json!({"deprecated.daemonset.template.generation": "9"});
    prepare(&kind::DAEMON_SET, &mut set, Some(&old));
    assert_eq!(count(&set), "1");
    set["spec"]["template"]["a"] = 2.into();
    prepare(&kind::DAEMON_SET, &mut set, Some(&old));
    assert_eq!(count(&set), "2");
}

#[test]
fn replication_controller() {
    let controller = defaulted(
        &kind::REPLICATION_CONTROLLER,
        json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}),
    );
    assert_eq!(controller["spec"]["selector"], json!({"a": "b"}));
    assert_eq!(controller["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(controller["spec"]["replicas"], 1);
    let said = json!({"metadata": {"labels": {"c": "d"}}, "spec": {"selector": {"e": "f"}, "template": {"metadata": {"labels": {"a": "b"}}}}});
    let said = defaulted(&kind::REPLICATION_CONTROLLER, said);
    assert_eq!(said["spec"]["selector"], json!({"e": "f"}));
    assert_eq!(said["metadata"]["labels"], json!({"c": "d"}));
}

#[test]
fn pod_template() {
    let template =
        defaulted(&kind::POD_TEMPLATE, json!({"template": {"spec": {"containers": [{"name": "c"}]}}}));
    assert_eq!(template["template"]["spec"]["dnsPolicy"], "ClusterFirst");
}
