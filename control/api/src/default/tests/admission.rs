//! Webhooks, admission policies and CustomResourceDefinitions.

use super::*;

#[test]
fn webhooks() {
    let webhooks = json!([{"clientConfig": {"service": {}}, "rules": [{}]}]);
    let common = json!({"clientConfig": {"service": {"port": 443}}, "rules": [{"scope": "*"}], "failurePolicy": "Fail",
        "matchPolicy": "Equivalent", "timeoutSeconds": 10, "namespaceSelector": {}, "objectSelector": {}});
    let validating = defaulted(&kind::VALIDATING_WEBHOOK_CONFIGURATION, json!({"webhooks": webhooks}));
    assert_eq!(validating["webhooks"][0], common);
    let mutating = defaulted(&kind::MUTATING_WEBHOOK_CONFIGURATION, json!({"webhooks": webhooks}));
    assert_eq!(mutating["webhooks"][0]["reinvocationPolicy"], "Never");
}

#[test]
fn policies() {
    let resources = json!({"resourceRules": [{}], "excludeResourceRules": [{"scope": "Cluster"}]});
    let spec = json!({"matchConstraints": resources, "matchResources": resources});
    let full = json!({"resourceRules": [{"scope": "*"}], "excludeResourceRules": [{"scope": "Cluster"}],
        "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}});
    let mutating = defaulted(&kind::MUTATING_ADMISSION_POLICY, json!({"spec": spec}));
    assert_eq!(
        (&mutating["spec"]["failurePolicy"], &mutating["spec"]["matchConstraints"]),
        (&json!("Fail"), &full)
    );
    let bound = defaulted(&kind::MUTATING_ADMISSION_POLICY_BINDING, json!({"spec": spec}));
    assert_eq!(bound["spec"]["matchResources"], full);
    let policy = defaulted(&kind::VALIDATING_ADMISSION_POLICY, json!({"spec": spec}));
    assert_eq!(
        (&policy["spec"]["failurePolicy"], &policy["spec"]["matchConstraints"]),
        (&json!("Fail"), &full)
    );
    let binding = defaulted(&kind::VALIDATING_ADMISSION_POLICY_BINDING, json!({"spec": spec}));
    assert_eq!(binding["spec"]["matchResources"], full);
    assert!(binding["spec"].get("failurePolicy").is_none());
}

#[test]
fn definitions() {
    let versions = json!([{"name": "v1"}, {"name": "v2", "storage": true}]);
    let definition = |status: Value| {
        let spec = json!({"names": {"kind": "CronTab"}, "versions": versions});
        defaulted(&kind::CUSTOM_RESOURCE_DEFINITION, json!({"spec": spec, "status": status}))
    };
    let fresh = definition(Value::Null);
    assert_eq!(
        fresh["spec"]["names"],
        json!({"kind": "CronTab", "singular": "crontab", "listKind": "CronTabList"})
    );
    assert_eq!(fresh["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(fresh["status"]["storedVersions"], json!(["v2"]));
    let older = definition(json!({"storedVersions": ["v1"]}));
    assert_eq!(older["status"]["storedVersions"], json!(["v1", "v2"]));
    assert_eq!(defaulted(&kind::CUSTOM_RESOURCE_DEFINITION, older.clone()), older);
}
