//! Webhook configurations, admission policies and CustomResourceDefinitions.

use super::*;

#[test]
fn admission() {
    let webhooks = cells(&kind::MUTATING_WEBHOOK_CONFIGURATION, json!({"webhooks": [{}, {}]}));
    assert_eq!(webhooks, [json!("x"), json!(2), json!("5m")]);
    let spec = json!({"validations": [{}], "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}});
    let policy = cells(&kind::VALIDATING_ADMISSION_POLICY, json!({"spec": spec}));
    assert_eq!(policy, [json!("x"), json!(1), json!("v1/ConfigMap"), json!("5m")]);
    assert_eq!(cells(&kind::VALIDATING_ADMISSION_POLICY, json!({}))[2], "<unset>");
    let binding = |reference: Value| {
        let spec = json!({"policyName": "p", "paramRef": reference});
        cells(&kind::VALIDATING_ADMISSION_POLICY_BINDING, json!({"spec": spec}))
    };
    assert_eq!(binding(json!({"name": "a"})), ["x", "p", "*/a", "5m"]);
    assert_eq!(binding(json!({"name": "a", "namespace": "n"}))[2], "n/a");
    assert_eq!(binding(json!({"selector": {"matchLabels": {"a": "b"}}}))[2], "a=b");
    assert_eq!(binding(Value::Null)[2], "<unset>");
    assert_eq!(cells(&kind::CUSTOM_RESOURCE_DEFINITION, json!({})), ["x", "2024-01-01T00:00:00Z"]);
}

#[test]
fn mutating_policies() {
    let spec = json!({"mutations": [{}, {}], "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "policyName": "p"});
    let policy = cells(&kind::MUTATING_ADMISSION_POLICY, json!({"spec": spec}));
    assert_eq!(policy, [json!("x"), json!(2), json!("v1/ConfigMap"), json!("5m")]);
    let binding = cells(&kind::MUTATING_ADMISSION_POLICY_BINDING, json!({"spec": spec}));
    assert_eq!(binding, ["x", "p", "<unset>", "5m"]);
}
