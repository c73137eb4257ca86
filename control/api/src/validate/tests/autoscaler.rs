//! HorizontalPodAutoscalers.

use serde_json::json;

use super::*;

fn autoscaler() -> Value {
    json!({"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 5}})
}

fn scaled(changes: &[(&str, Value)]) -> Vec<String> {
    created(&kind::HORIZONTAL_POD_AUTOSCALER, with(&autoscaler(), changes))
}

#[test]
fn bounds_and_target() {
    assert_eq!(scaled(&[]), Vec::<String>::new());
    for (change, said) in [
        (
            ("/spec/minReplicas", json!(0)),
            "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
        ),
        (
            ("/spec/minReplicas", json!(6)),
            "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`",
        ),
        (("/spec/scaleTargetRef/name", json!("")), "spec.scaleTargetRef.name: Required value"),
        (
            ("/spec/scaleTargetRef/kind", json!("a/b")),
            "spec.scaleTargetRef.kind: Invalid value: \"a/b\": may not contain '/'",
        ),
    ] {
        // Down to zero something must be measured that does not run in the Pods.
        let said_of_zero = "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas";
        let told = scaled(std::slice::from_ref(&change));
        let rest: Vec<&String> = told.iter().filter(|told| *told != said_of_zero).collect();
        assert_eq!(rest, [said]);
        assert_eq!(told.len() == 2, change.1 == 0);
    }
    assert_eq!(
        scaled(&[("/spec/maxReplicas", json!(0)), ("/spec/minReplicas", json!(1))]),
        [
            "spec.maxReplicas: Invalid value: 0: must be greater than 0",
            "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        ]
    );
}

#[test]
fn metrics() {
    let path = "spec.metrics[0]";
    let measured = |metric: Value| scaled(&[("/spec/metrics", json!([metric]))]);
    let average = json!({"type": "AverageValue", "averageValue": "10"});
    for right in [
        json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": average}}),
        json!({"type": "External", "external": {"metric": {"name": "m"}, "target": {"type": "Value", "value": "10"}}}),
        json!({"type": "Object", "object": {"metric": {"name": "m"}, "describedObject": {"kind": "K", "name": "n"}, "target": average}}),
        json!({"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c", "target": average}}),
    ] {
        assert_eq!(measured(right), Vec::<String>::new());
    }
    for (metric, said) in [
        (
            json!({"type": "Resource"}),
            ".resource: Required value: must populate information for the given metric source",
        ),
        (
            json!({"type": "Guess"}),
            ".type: Unsupported value: \"Guess\": supported values: \"ContainerResource\", \"External\", \"Object\", \"Pods\", \"Resource\"",
        ),
        (
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}),
            ".resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
        ),
        (
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 0}}}),
            ".resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
        ),
        (
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 5, "averageValue": "1"}}}),
            ".resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization",
        ),
        (
            json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "0"}}}),
            ".pods.target.averageValue: Invalid value: \"0\": must be positive",
        ),
        (
            json!({"type": "Pods", "pods": {"metric": {}, "target": average}}),
            ".pods.metric.name: Required value: must specify a metric name",
        ),
        (
            json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "Most", "averageValue": "1"}}}),
            ".pods.target.type: Invalid value: \"Most\": must be either Utilization, Value, or AverageValue",
        ),
        (
            json!({"type": "Pods", "pods": {"metric": {"name": "m"}, "target": average}, "resource": {"name": "cpu"}}),
            ".resource: Forbidden: must populate the given metric source only",
        ),
        (
            json!({"type": "ContainerResource", "containerResource": {"name": "memory", "target": average}}),
            ".containerResource.container: Required value: must specify a container",
        ),
    ] {
        assert_eq!(measured(metric), [format!("{path}{said}")]);
    }
}

#[test]
fn behavior() {
    let path = "spec.behavior.scaleDown";
    let behaved = |rules: Value| scaled(&[("/spec/behavior", json!({ "scaleDown": rules }))]);
    assert!(behaved(json!({})).is_empty(), "defaulted");
    for (rules, said) in [
        (
            json!({"stabilizationWindowSeconds": 3601}),
            ".stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
        ),
        (
            json!({"selectPolicy": "Median"}),
            ".selectPolicy: Unsupported value: \"Median\": supported values: \"Disabled\", \"Max\", \"Min\"",
        ),
        (json!({"policies": []}), ".policies: Required value: must specify at least one Policy"),
        (
            json!({"policies": [{"type": "Nodes", "value": 1, "periodSeconds": 1}]}),
            ".policies[0].type: Unsupported value: \"Nodes\": supported values: \"Percent\", \"Pods\"",
        ),
        (
            json!({"policies": [{"type": "Pods", "value": 0, "periodSeconds": 1}]}),
            ".policies[0].value: Invalid value: 0: must be greater than zero",
        ),
        (
            json!({"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1801}]}),
            ".policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
        ),
    ] {
        assert_eq!(behaved(rules), [format!("{path}{said}")]);
    }
    assert_eq!(
        with_status(&kind::HORIZONTAL_POD_AUTOSCALER, &json!({"desiredReplicas": -1})),
        ["status.desiredReplicas: Invalid value: -1: must be greater than or equal to 0"]
    );
}
