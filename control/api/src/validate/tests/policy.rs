//! PodDisruptionBudgets, PriorityClasses, ResourceQuotas and LimitRanges.

use serde_json::json;

use super::*;

#[test]
fn disruption_budgets() {
    let kind = &kind::POD_DISRUPTION_BUDGET;
    let with_spec = |spec: Value| created(kind, json!({ "spec": spec }));
    assert!(with_spec(json!({"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}})).is_empty());
    for (spec, said) in [
        (
            json!({"minAvailable": 1, "maxUnavailable": 1}),
            "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set",
        ),
        (
            json!({"minAvailable": -1}),
            "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            json!({"maxUnavailable": "101%"}),
            "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ),
        (
            json!({"unhealthyPodEvictionPolicy": "Never"}),
            "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
        ),
        (
            json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}),
            "spec.selector.matchExpressions[0].operator: Invalid value: \"Like\": not a valid selector operator",
        ),
    ] {
        assert_eq!(with_spec(spec), [said]);
    }
    assert!(with_spec(json!({"minAvailable": "half"}))[0].contains("a valid percent string must be"));
    assert_eq!(
        with_status(kind, &json!({"disruptionsAllowed": -1})),
        ["status.disruptionsAllowed: Invalid value: -1: must be greater than or equal to 0"]
    );
}

#[test]
fn priority_classes() {
    let kind = &kind::PRIORITY_CLASS;
    let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
    assert!(created(kind, class("high", 1_000_000_000)).is_empty());
    assert!(created(kind, class("system-node-critical", 2_000_001_000)).is_empty());
    assert_eq!(
        created(kind, class("high", 1_000_000_001)),
        ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
    );
    let reserved = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: ";
    assert_eq!(
        created(kind, class("system-mine", 1)),
        [format!("{reserved}system-mine is not a known system priority class")]
    );
    assert_eq!(
        created(kind, class("system-cluster-critical", 1)),
        [format!("{reserved}value of system-cluster-critical PriorityClass must be 2000000000")]
    );
    let mut default = class("system-cluster-critical", 2_000_000_000);
    default["globalDefault"] = true.into();
    assert_eq!(
        created(kind, default),
        [format!("{reserved}globalDefault of system-cluster-critical PriorityClass must be false")]
    );
    assert_eq!(
        created(kind, json!({"value": 1, "preemptionPolicy": "Always"})),
        [
            "preemptionPolicy: Unsupported value: \"Always\": supported values: \"Never\", \"PreemptLowerPriority\""
        ]
    );
    let prepare = |value: Value| {
        let mut object = json!({"metadata": {"name": "x"}, "value": 1});
        object.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        crate::default::apply(kind, &mut object);
        object
    };
    let changed =
        |value: Value| told(&update(kind, &prepare(value), &prepare(json!({})), &Limits::default()));
    assert!(changed(json!({"description": "d"})).is_empty());
    assert_eq!(changed(json!({"value": 2})), ["value: Forbidden: may not be changed in an update."]);
    assert_eq!(
        changed(json!({"preemptionPolicy": "Never"})),
        ["preemptionPolicy: Invalid value: \"Never\": field is immutable"]
    );
    assert!(is_system_class("system-node-critical") && !is_system_class("system-mine"));
}

#[test]
fn quotas() {
    let kind = &kind::RESOURCE_QUOTA;
    let with_spec = |spec: Value| created(kind, json!({ "spec": spec }));
    let hard = json!({"pods": "10", "requests.cpu": "1500m", "limits.memory": "1Gi", "count/deployments.apps": "5",
        "requests.nvidia.com/gpu": 4, "gold.storageclass.storage.k8s.io/requests.storage": "1Ti", "hugepages-2Mi": "4Mi",
        "requests.hugepages-2Mi": "4Mi"});
    assert_eq!(with_spec(json!({ "hard": hard })), Vec::<String>::new());
    for (spec, said) in [
        (
            json!({"hard": {"pods": "-1"}}),
            "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (json!({"hard": {"pods": "500m"}}), "spec.hard[pods]: Invalid value: \"500m\": must be an integer"),
        (
            json!({"hard": {"count/a.b": "0.5"}}),
            "spec.hard[count/a.b]: Invalid value: \"0.5\": must be an integer",
        ),
        (
            json!({"hard": {"storage": "1"}}),
            "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
        ),
        (json!({"scopes": ["Sometimes"]}), "spec.scopes: Invalid value: [\"Sometimes\"]: unsupported scope"),
        (
            json!({"scopes": ["BestEffort"], "hard": {"cpu": "1"}}),
            "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
        ),
        (
            json!({"scopes": ["Terminating"], "hard": {"services": "1"}}),
            "spec.scopes: Invalid value: [\"Terminating\"]: unsupported scope applied to resource",
        ),
        (
            json!({"scopes": ["Terminating", "NotTerminating"]}),
            "spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes",
        ),
        (
            json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
            "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
        (
            json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists", "values": ["a"]}]}}),
            "spec.scopeSelector.matchExpressions.values: Invalid value: [\"a\"]: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
        ),
    ] {
        assert_eq!(with_spec(spec), [said]);
    }
    let terminating = json!({"scopeSelector": {"matchExpressions": [{"scopeName": "Terminating", "operator": "DoesNotExist"}]}});
    assert!(with_spec(terminating)[0].contains("must be 'Exist' when scope is any of"));
    assert_eq!(
        with_spec(json!({"hard": {"gpus": "1"}})),
        [
            "spec.hard[gpus]: Invalid value: \"gpus\": must be a standard resource type or fully qualified",
            "spec.hard[gpus]: Invalid value: \"gpus\": must be a standard resource for quota",
        ]
    );
    let quota = |scopes: Value| json!({"spec": {"scopes": scopes, "hard": {"pods": "1"}}});
    assert!(
        updated(
            kind,
            &quota(json!(["PriorityClass", "Terminating"])),
            &quota(json!(["Terminating", "PriorityClass"]))
        )
        .is_empty()
    );
    assert_eq!(
        updated(kind, &quota(json!(["Terminating"])), &quota(json!(["NotTerminating"]))),
        ["spec.scopes: Invalid value: [\"Terminating\"]: field is immutable"]
    );
    assert_eq!(
        with_status(kind, &json!({"used": {"pods": "-1"}})),
        ["status.used[pods]: Invalid value: \"-1\": must be greater than or equal to 0"]
    );
}

#[test]
fn limit_ranges() {
    let kind = &kind::LIMIT_RANGE;
    let limited = |limit: Value| created(kind, json!({"spec": {"limits": [limit]}}));
    assert!(
        limited(json!({"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "1"}, "default": {"cpu": "500m"},
            "defaultRequest": {"cpu": "200m"}, "maxLimitRequestRatio": {"cpu": "10"}}))
        .is_empty()
    );
    assert!(limited(json!({"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}})).is_empty());
    for (limit, said) in [
        (
            json!({"type": "Node", "max": {"cpu": "1"}}),
            ".type: Invalid value: \"Node\": must be a standard limit type or fully qualified",
        ),
        (
            json!({"type": "Pod", "max": {"cpu": "1"}, "default": {"cpu": "1"}}),
            ".default: Forbidden: may not be specified when `type` is 'Pod'",
        ),
        (
            json!({"type": "Container", "max": {"storage": "1"}, "default": {}, "defaultRequest": {"cpu": "1"}}),
            ".max[storage]: Invalid value: \"storage\": must be a standard resource for containers",
        ),
        (
            json!({"type": "PersistentVolumeClaim"}),
            ".limits: Required value: either minimum or maximum storage value is required, but neither was provided",
        ),
        (
            json!({"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}}),
            ".min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
        ),
        (
            json!({"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}}),
            ".default[cpu]: Invalid value: \"1\": default value 2 is greater than max value 1",
        ),
        (
            json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}}),
            ".defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit value 1",
        ),
        (
            json!({"type": "Container", "min": {"cpu": "1"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m"}}),
            ".defaultRequest[cpu]: Invalid value: \"500m\": min value 1 is greater than default request value 500m",
        ),
        (
            json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}}),
            ".maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
        ),
        (
            json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "4"}, "min": {"cpu": "1"}, "max": {"cpu": "2"}}),
            ".maxLimitRequestRatio[cpu]: Invalid value: \"4\": ratio 4 is greater than max/min = 2.000000",
        ),
        (
            json!({"type": "Container", "default": {"nvidia.com/gpu": "2"}, "defaultRequest": {"nvidia.com/gpu": "1"}}),
            ".defaultRequest[nvidia.com/gpu]: Invalid value: \"1\": default value 2 must equal to defaultRequest value 1 in nvidia.com/gpu",
        ),
    ] {
        let mut told = limited(limit);
        // What the defaults make of a wrong bound is wrong as well.
        told.truncate(1);
        assert_eq!(told, [format!("spec.limits[0]{said}")]);
    }
    let twice = json!({"spec": {"limits": [{"type": "Pod"}, {"type": "Pod"}]}});
    assert_eq!(created(kind, twice), ["spec.limits[1].type: Duplicate value: \"Pod\""]);
}
