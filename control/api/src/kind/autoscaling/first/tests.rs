//! Both versions say the same, there and back.

use serde_json::{Value, json};

use super::super::super::FIRST_HORIZONTAL_POD_AUTOSCALER as FIRST;
use super::*;

fn stored(spec: &Value, status: &Value) -> Value {
    let mut object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 3},
        "status": {"desiredReplicas": 0}});
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    object["status"].as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    object
}

fn first(stored: &Value) -> Value {
    let mut object = stored.as_object().unwrap().clone();
    FIRST.from_stored(&mut object);
    object.into()
}

fn back(first: &Value) -> Value {
    let mut object = first.as_object().unwrap().clone();
    FIRST.into_stored(&mut object);
    object.into()
}

fn note(object: &Value, name: &str) -> Value {
    let text = object["metadata"]["annotations"][format!("autoscaling.alpha.kubernetes.io/{name}")].as_str();
    text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

fn cpu(share: i64) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": share}}})
}

#[test]
fn the_use_of_cpu_has_a_field() {
    let full = stored(&json!({"metrics": [cpu(60)]}), &json!({}));
    let seen = first(&full);
    assert_eq!(
        seen,
        json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 3,
                "targetCPUUtilizationPercentage": 60}, "status": {"currentReplicas": 0, "desiredReplicas": 0}})
    );
    assert_eq!(back(&seen), full);
    // Nothing is made up of what is left out: an apply configuration owns what it says.
    let bare = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "spec": {"maxReplicas": 2}});
    assert_eq!(
        back(&bare),
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": {"maxReplicas": 2}})
    );
}

#[test]
fn every_metric_comes_back_and_stands_in_an_annotation_meanwhile() {
    let selector = json!({"matchLabels": {"a": "b"}});
    let described = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "i"});
    let metric = json!({"name": "hits", "selector": selector});
    for (metric, wanted) in [
        (
            json!({"type": "Object", "object": {"describedObject": described, "metric": metric, "target": {"type": "Value", "value": "10k"}}}),
            json!({"type": "Object", "object": {"target": described, "metricName": "hits", "selector": selector, "targetValue": "10k"}}),
        ),
        (
            json!({"type": "Object", "object": {"describedObject": described, "metric": metric, "target": {"type": "AverageValue", "averageValue": "2"}}}),
            json!({"type": "Object", "object": {"target": described, "metricName": "hits", "selector": selector, "averageValue": "2"}}),
        ),
        (
            json!({"type": "Pods", "pods": {"metric": metric, "target": {"type": "AverageValue", "averageValue": "30"}}}),
            json!({"type": "Pods", "pods": {"metricName": "hits", "selector": selector, "targetAverageValue": "30"}}),
        ),
        (
            json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 70}}}),
            json!({"type": "Resource", "resource": {"name": "memory", "targetAverageUtilization": 70}}),
        ),
        (
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "500m"}}}),
            json!({"type": "Resource", "resource": {"name": "cpu", "targetAverageValue": "500m"}}),
        ),
        (
            json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                "target": {"type": "Utilization", "averageUtilization": 5}}}),
            json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "targetAverageUtilization": 5}}),
        ),
        (
            json!({"type": "External", "external": {"metric": metric, "target": {"type": "Value", "value": "1"}}}),
            json!({"type": "External", "external": {"metricName": "hits", "metricSelector": selector, "targetValue": "1"}}),
        ),
        (
            json!({"type": "External", "external": {"metric": metric, "target": {"type": "AverageValue", "averageValue": "1"}}}),
            json!({"type": "External", "external": {"metricName": "hits", "metricSelector": selector, "targetAverageValue": "1"}}),
        ),
    ] {
        let full = stored(&json!({"metrics": [metric]}), &json!({}));
        let seen = first(&full);
        assert_eq!((note(&seen, "metrics"), seen["spec"].get("metrics")), (json!([wanted]), None));
        assert_eq!(back(&seen), full);
        // The field's metric stands behind those of the annotation.
        let both = first(&stored(&json!({"metrics": [cpu(40), metric]}), &json!({})));
        assert_eq!(back(&both), stored(&json!({"metrics": [metric, cpu(40)]}), &json!({})));
    }
}

/// Kubernetes drops the second, and whoever annotates by this version takes it from the store.
#[test]
fn what_the_field_has_no_room_for_is_kept() {
    let value = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "1"}}});
    let full = stored(&json!({"metrics": [value, cpu(50), cpu(60)]}), &json!({}));
    let seen = first(&full);
    assert_eq!(seen["spec"]["targetCPUUtilizationPercentage"], 50);
    assert_eq!(note(&seen, "metrics").as_array().unwrap().len(), 2);
    // The one of the field comes last.
    assert_eq!(back(&seen)["spec"]["metrics"], json!([value, cpu(60), cpu(50)]));
}

#[test]
fn behavior_and_status_come_back() {
    let rules = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "tolerance": "100m",
        "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]});
    let condition = json!({"type": "AbleToScale", "status": "True", "lastTransitionTime": "2024-01-02T03:04:05Z", "reason": "R", "message": "m"});
    let metric = json!({"name": "hits"});
    let current = json!([
        {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12, "averageValue": "6m"}}},
        {"type": "Pods", "pods": {"metric": metric, "current": {"averageValue": "0"}}},
        {"type": "Object", "object": {"describedObject": {"kind": "Ingress", "name": "i"}, "metric": metric, "current": {"value": "5", "averageValue": "1"}}},
        {"type": "External", "external": {"metric": metric, "current": {"value": "7"}}},
        {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "current": {"averageValue": "1"}}},
    ]);
    let status = json!({"currentReplicas": 2, "desiredReplicas": 3, "currentMetrics": current, "conditions": [condition]});
    let full =
        stored(&json!({"metrics": [cpu(60)], "behavior": {"scaleUp": rules, "scaleDown": rules}}), &status);
    let seen = first(&full);
    assert_eq!(
        seen["status"],
        json!({"currentReplicas": 2, "desiredReplicas": 3, "currentCPUUtilizationPercentage": 12})
    );
    assert_eq!(
        note(&seen, "behavior")["ScaleUp"],
        json!({"StabilizationWindowSeconds": 0, "SelectPolicy": "Max", "Tolerance": "100m",
            "Policies": [{"Type": "Pods", "Value": 4, "PeriodSeconds": 15}]})
    );
    assert_eq!(
        note(&seen, "current-metrics")[0],
        json!({"type": "Resource", "resource": {"name": "cpu", "currentAverageUtilization": 12, "currentAverageValue": "6m"}})
    );
    assert_eq!(note(&seen, "conditions"), json!([condition]));
    assert_eq!(back(&seen), full);
    // Without the annotation the field counts.
    let mut plain = seen;
    plain["metadata"]["annotations"] = json!({"own": "stays"});
    let read = back(&plain);
    let share =
        json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 12}}}]);
    assert_eq!(
        (&read["status"]["currentMetrics"], &read["metadata"]["annotations"]),
        (&share, &json!({"own": "stays"}))
    );
}

#[test]
fn annotations_are_read_as_they_come_and_dropped_if_they_say_nothing() {
    let with = |name: &str, text: &str| {
        let mut object = first(&stored(&json!({}), &json!({})));
        object["metadata"]["annotations"] = json!({format!("autoscaling.alpha.kubernetes.io/{name}"): text});
        back(&object)
    };
    // By hand, in the API's own names; and as Go writes what is not there.
    let wanted = json!({"scaleUp": {"stabilizationWindowSeconds": 30}});
    for text in [
        r#"{"scaleUp":{"stabilizationWindowSeconds":30}}"#,
        r#"{"ScaleUp":{"StabilizationWindowSeconds":30,"SelectPolicy":null,"Policies":null},"ScaleDown":null}"#,
    ] {
        let read = with("behavior", text);
        assert_eq!(
            (&read["spec"]["behavior"], read["metadata"].get("annotations")),
            (&wanted, None),
            "{text}"
        );
    }
    let go = r#"[{"type":"Object","object":{"target":{"kind":"Ingress","name":"i"},"metricName":"m","targetValue":"0","averageValue":"2"}}]"#;
    let target = json!({"type": "AverageValue", "averageValue": "2"});
    assert_eq!(with("metrics", go)["spec"]["metrics"][0]["object"]["target"], target);
    for (name, text) in [
        ("metrics", "{"),
        ("metrics", r#"[{"type":5}]"#),
        ("metrics", r#"["Pods"]"#),
        ("metrics", r#"[{"type":"Pods","pods":{"metricName":7}}]"#),
        ("current-metrics", r#"{"type":"Pods"}"#),
        ("conditions", r#"[{"lastTransitionTime":"now"}]"#),
        ("behavior", r#"{"scaleUp":7}"#),
        ("behavior", "[]"),
    ] {
        assert_eq!(with(name, text), back(&first(&stored(&json!({}), &json!({})))), "{name}: {text}");
    }
    // What the stored version has of them is nobody's word.
    let mut full = stored(&json!({"metrics": [cpu(60)]}), &json!({}));
    full["metadata"]["annotations"] = json!({METRICS: "[]", "own": "stays"});
    assert_eq!(first(&full)["metadata"]["annotations"], json!({"own": "stays"}));
}
