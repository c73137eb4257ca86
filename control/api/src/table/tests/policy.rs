//! Rows of volumes, claims, quotas, limits, priorities, budgets and autoscalers.

use serde_json::json;

use super::*;

#[test]
fn volumes() {
    let object = json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "n", "name": "c"}, "storageClassName": "gold",
        "volumeMode": "Block"}, "status": {"phase": "Bound"}});
    assert_eq!(
        cells(&kind::PERSISTENT_VOLUME, object.clone()),
        ["x", "1Gi", "RWO,RWX", "Retain", "Bound", "n/c", "gold", "<unset>", "", "5m", "Block"]
    );
    let mut going = object;
    going["metadata"] = json!({"deletionTimestamp": "2024-01-01T00:00:30Z",
        "annotations": {"volume.beta.kubernetes.io/storage-class": "old"}});
    let going = cells(&kind::PERSISTENT_VOLUME, going);
    assert_eq!((&going[4], &going[6]), (&json!("Terminating"), &json!("old")));
}

#[test]
fn claims() {
    let mut object = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "gold", "volumeMode": "Filesystem"}, "status": {"phase": "Pending"}});
    assert_eq!(
        cells(&kind::PERSISTENT_VOLUME_CLAIM, object.clone()),
        ["x", "Pending", "", "", "", "gold", "<unset>", "5m", "Filesystem"]
    );
    object["spec"]["volumeName"] = "v".into();
    object["status"] =
        json!({"phase": "Bound", "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOncePod"]});
    assert_eq!(cells(&kind::PERSISTENT_VOLUME_CLAIM, object)[1..5], ["Bound", "v", "2Gi", "RWOP"]);
}

#[test]
fn quotas_and_limits() {
    let quota = json!({"status": {"hard": {"limits.cpu": "4", "pods": "10", "requests.cpu": "2"}, "used": {"limits.cpu": "1", "pods": "3"}}});
    assert_eq!(
        cells(&kind::RESOURCE_QUOTA, quota),
        ["x", "pods: 3/10, requests.cpu: 0/2", "limits.cpu: 1/4", "5m"]
    );
    assert_eq!(cells(&kind::LIMIT_RANGE, json!({})), ["x", "2024-01-01T00:00:00Z"]);
    assert_eq!(columns(&kind::LIMIT_RANGE)[1]["type"], "date");
}

#[test]
fn budgets_and_classes() {
    let budget = json!({"spec": {"maxUnavailable": 1}, "status": {"disruptionsAllowed": 2}});
    assert_eq!(
        cells(&kind::POD_DISRUPTION_BUDGET, budget),
        [json!("x"), json!("N/A"), json!("1"), json!(2), json!("5m")]
    );
    assert_eq!(cells(&kind::POD_DISRUPTION_BUDGET, json!({"spec": {"minAvailable": "50%"}}))[1], "50%");
    let class = json!({"value": 7, "globalDefault": true, "preemptionPolicy": "Never"});
    assert_eq!(
        cells(&kind::PRIORITY_CLASS, class),
        [json!("x"), json!(7), json!(true), json!("5m"), json!("Never")]
    );
}

#[test]
fn autoscalers() {
    let scaled = |metrics: Value, current: Value| {
        let spec = json!({"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "minReplicas": 2, "maxReplicas": 9, "metrics": metrics});
        let status = json!({"currentReplicas": 4, "currentMetrics": current});
        cells(&kind::HORIZONTAL_POD_AUTOSCALER, json!({"spec": spec, "status": status}))
    };
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
    let used =
        json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12}}});
    assert_eq!(
        scaled(json!([cpu]), json!([used])),
        [
            json!("x"),
            json!("Deployment/web"),
            json!("cpu: 12%/80%"),
            json!("2"),
            json!(9),
            json!(4),
            json!("5m")
        ]
    );
    assert_eq!(scaled(json!([cpu]), json!([]))[2], "cpu: <unknown>/80%");
    assert_eq!(scaled(json!([]), json!([]))[2], "<none>");
    let pods = json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"averageValue": "10"}}});
    let outside =
        json!({"type": "External", "external": {"metric": {"name": "m"}, "target": {"averageValue": "5"}}});
    let object = json!({"type": "Object", "object": {"metric": {"name": "m"}, "target": {"value": "3"}}});
    let seen = json!([{"pods": {"current": {"averageValue": "7"}}}, {"external": {"current": {"averageValue": "2"}}}]);
    assert_eq!(scaled(json!([pods, outside]), seen.clone())[2], "7/10, 2/5 (avg)");
    assert_eq!(scaled(json!([object, pods, outside]), json!([]))[2], "<unknown>/3, <unknown>/10 + 1 more...");
    let memory = json!({"type": "ContainerResource", "containerResource": {"name": "memory", "target": {"averageValue": "1Gi"}}});
    assert_eq!(scaled(json!([memory]), json!([]))[2], "memory: <unknown>/1Gi");
}
