//! Defaults of volumes, claims, limits, priorities and autoscalers.

use serde_json::json;

use super::*;

#[test]
fn volumes_and_claims() {
    let volume = defaulted(&kind::PERSISTENT_VOLUME, json!({"spec": {"hostPath": {"path": "/p"}}}));
    assert_eq!(
        volume,
        json!({"spec": {"hostPath": {"path": "/p", "type": ""}, "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"},
            "status": {"phase": "Pending"}})
    );
    let claim = defaulted(&kind::PERSISTENT_VOLUME_CLAIM, json!({"spec": {}}));
    assert_eq!(claim, json!({"spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}));
}

#[test]
fn the_two_sources_of_a_claim_are_one() {
    let sources = |spec: Value| {
        let claim = defaulted(&kind::PERSISTENT_VOLUME_CLAIM, json!({ "spec": spec }));
        (claim["spec"]["dataSource"].clone(), claim["spec"]["dataSourceRef"].clone())
    };
    let clone = json!({"kind": "PersistentVolumeClaim", "name": "c"});
    assert_eq!(sources(json!({ "dataSource": clone })), (clone.clone(), clone.clone()));
    assert_eq!(sources(json!({ "dataSourceRef": clone })), (clone.clone(), clone));
    let elsewhere = json!({"kind": "PersistentVolumeClaim", "name": "c", "namespace": "n"});
    assert_eq!(sources(json!({ "dataSourceRef": elsewhere })), (Value::Null, elsewhere));
    let image = json!({"apiGroup": "a.b", "kind": "Image", "name": "i"});
    assert_eq!(sources(json!({ "dataSource": image })), (Value::Null, Value::Null), "not a kind of old");
    assert_eq!(sources(json!({ "dataSourceRef": image })), (Value::Null, image));
}

#[test]
fn limits() {
    let limited = |limit: Value| {
        defaulted(&kind::LIMIT_RANGE, json!({"spec": {"limits": [limit]}}))["spec"]["limits"][0].clone()
    };
    let limit = limited(
        json!({"type": "Container", "max": {"cpu": "2", "memory": "1Gi"}, "min": {"cpu": "1", "ephemeral-storage": "1Mi"},
        "default": {"memory": "512Mi"}}),
    );
    assert_eq!(limit["default"], json!({"cpu": "2", "memory": "512Mi"}));
    assert_eq!(limit["defaultRequest"], json!({"cpu": "2", "memory": "512Mi", "ephemeral-storage": "1Mi"}));
    let pod = json!({"type": "Pod", "max": {"cpu": "2"}});
    assert_eq!(limited(pod.clone()), pod);
}

#[test]
fn budgets_and_classes() {
    let budget = defaulted(&kind::POD_DISRUPTION_BUDGET, json!({"spec": {"minAvailable": 1}}));
    assert_eq!(
        budget["status"],
        json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0})
    );
    let class = defaulted(&kind::PRIORITY_CLASS, json!({"value": 5}));
    assert_eq!(class["preemptionPolicy"], "PreemptLowerPriority");
}

#[test]
fn autoscaler() {
    let scaled = |spec: Value| defaulted(&kind::HORIZONTAL_POD_AUTOSCALER, json!({ "spec": spec }));
    let plain = scaled(json!({"maxReplicas": 3}));
    assert_eq!(plain["spec"]["minReplicas"], 1);
    assert_eq!(
        plain["spec"]["metrics"],
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}])
    );
    assert!(plain["spec"].get("behavior").is_none());
    assert_eq!(plain["status"]["desiredReplicas"], 0);
    let behavior =
        scaled(json!({"behavior": {"scaleDown": {"selectPolicy": "Min"}}}))["spec"]["behavior"].clone();
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    assert_eq!(
        behavior,
        json!({"scaleDown": {"selectPolicy": "Min", "policies": [percent]}, "scaleUp": {"selectPolicy": "Max",
            "stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]}})
    );
}
