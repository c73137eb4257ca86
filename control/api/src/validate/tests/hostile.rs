//! Lists so long that, compared each with each, they would keep the server busy for minutes.

use super::*;

const MANY: usize = 30_000;

fn many<T>(one: impl Fn(usize) -> T) -> Vec<T> {
    (0..MANY).map(one).collect()
}

fn changed(kind: &Kind, new: &Value, old: &Value) -> Vec<String> {
    told(&update(kind, new, old, &Limits::default()))
}

/// A definition whose one schema has a list of these items by default.
fn definition(items: &Value, default: &[Value]) -> Value {
    let list = json!({"type": "array", "items": items, "default": default});
    let schema = json!({"type": "object", "properties": {"list": list}});
    json!({"metadata": {"name": "xs.a.example"}, "spec": {"group": "a.example", "scope": "Cluster",
        "names": {"plural": "xs", "kind": "X"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

#[test]
fn defaults_of_definitions() {
    let crd = &kind::CUSTOM_RESOURCE_DEFINITION;
    let long = "x".repeat(1000);
    let values: Vec<String> = (0..999).map(|at| format!("{long}{at}")).collect();
    let last = Value::from(values[998].clone());
    let right = definition(&json!({"type": "string", "enum": values}), &vec![last; 10 * MANY]);
    assert!(created(crd, right).is_empty());
    let item = |required: Vec<&str>| json!({"type": "object", "required": required, "properties": {"a": {"type": "integer"}}});
    assert!(created(crd, definition(&item(vec!["a"; MANY]), &vec![json!({"a": 1}); MANY])).is_empty());
    let told = created(crd, definition(&item(vec!["a", "b", "a", "b"]), &[json!({"a": 1})]));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].ends_with("default[0].b: Required value"), "{told:?}");
}

#[test]
fn stored_versions_of_definitions() {
    let mut new = definition(&json!({"type": "string"}), &[]);
    let version = new["spec"]["versions"][0].clone();
    let versions =
        many(|at| with(&version, &[("/name", format!("v{at}").into()), ("/storage", json!(at == 0))]));
    new["spec"]["versions"] = versions.into();
    crate::default::apply(&kind::CUSTOM_RESOURCE_DEFINITION, &mut new);
    let old = new.clone();
    new["status"]["storedVersions"] = many(|at| format!("v{at}")).into();
    assert!(changed(&kind::CUSTOM_RESOURCE_DEFINITION, &new, &old).is_empty());
    new["status"]["storedVersions"] = many(|at| format!("w{at}")).into();
    assert_eq!(changed(&kind::CUSTOM_RESOURCE_DEFINITION, &new, &old).len(), 129);
}

#[test]
fn drivers_of_nodes_and_topologies_of_classes() {
    let node = |id: &str| {
        let drivers =
            many(|at| json!({"name": format!("d{at}.example"), "nodeID": id, "allocatable": {"count": at}}));
        json!({"metadata": {"name": "x"}, "spec": {"drivers": drivers}})
    };
    let counted = with(&node("a"), &[("/spec/drivers/0/allocatable", json!({"count": 7}))]);
    assert!(changed(&kind::CSI_NODE, &counted, &node("a")).is_empty());
    assert_eq!(changed(&kind::CSI_NODE, &node("b"), &node("a")).len(), 129);
    let term = |at: usize| json!({"matchLabelExpressions": [{"key": "a.example/zone", "values": [format!("z{at}")]}]});
    let class = |terms: Vec<Value>| {
        created(&kind::STORAGE_CLASS, json!({"provisioner": "a", "allowedTopologies": terms}))
    };
    assert!(class(many(term)).is_empty());
    assert_eq!(class(vec![term(1), term(2), term(1)]).len(), 1);
}

#[test]
fn variables_of_policies() {
    let variables = many(
        |at| json!({"name": format!("v{at:05}"), "expression": format!("variables.v{:05}", at.saturating_sub(1))}),
    );
    let policy = |name: usize| {
        let validation = json!({"expression": format!("variables.v{name:05} == 1")});
        let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
        let spec = json!({"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]}, "variables": variables,
            "validations": [validation]});
        created(&kind::VALIDATING_ADMISSION_POLICY, json!({"metadata": {"name": "x"}, "spec": spec}))
    };
    // The first speaks of itself.
    assert_eq!(policy(MANY - 1).len(), 1);
    assert_eq!(policy(MANY).len(), 2);
}

#[test]
fn scopes_of_quotas() {
    let hard: serde_json::Map<String, Value> =
        (0..MANY).map(|at| (format!("requests.a.example/r{at}"), json!("1"))).collect();
    let expressions = many(|_| json!({"scopeName": "PriorityClass", "operator": "Exists"}));
    let quota = |hard: Value, expressions: Vec<Value>, scopes: Vec<&str>| {
        let selector = json!({ "matchExpressions": expressions });
        created(
            &kind::RESOURCE_QUOTA,
            json!({"spec": {"hard": hard, "scopes": scopes, "scopeSelector": selector}}),
        )
    };
    let none: [&str; 0] = [];
    assert_eq!(quota(hard.clone().into(), expressions, vec!["PriorityClass"; MANY]), none);
    let wrong = many(|at| json!({"scopeName": format!("S{at}"), "operator": "Exists"}));
    assert_eq!(quota(hard.into(), wrong, Vec::new()).len(), 129);
    let services = many(|_| json!({"scopeName": "BestEffort", "operator": "Exists"}));
    let told = quota(json!({"services": "1"}), services, Vec::new());
    assert!(told.len() > 100 && told.iter().map(String::len).sum::<usize>() < 200_000);
}

#[test]
fn families_and_addresses_of_services() {
    let service = |key: &str, values: Vec<&str>| {
        created(
            &kind::SERVICE,
            json!({"spec": {"ports": [{"port": 1}], "clusterIP": values[0], key: values}}),
        )
    };
    let told = service("ipFamilies", vec!["IPv4"; 10 * MANY]);
    assert_eq!(told.len(), 129, "each but the first");
    let told = service("clusterIPs", vec!["10.0.0.1"; 10 * MANY]);
    assert!(!told.is_empty() && told.iter().map(String::len).sum::<usize>() < 200_000, "{}", told.len());
    let none = service("clusterIPs", vec!["None"; 10 * MANY]);
    assert!(!none.is_empty() && none.iter().map(String::len).sum::<usize>() < 200_000, "{}", none.len());
}
