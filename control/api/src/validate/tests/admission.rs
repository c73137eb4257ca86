//! Webhook configurations and admission policies.

use super::*;

fn webhook() -> Value {
    json!({"name": "a.b.example", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "s", "namespace": "n"}},
        "rules": [{"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["pods", "pods/log"]}]})
}

fn configured(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut hook = webhook();
    change(&mut hook);
    let made = |kind: &Kind| created(kind, json!({"webhooks": [hook.clone()]}));
    assert_eq!(made(&kind::MUTATING_WEBHOOK_CONFIGURATION), made(&kind::VALIDATING_WEBHOOK_CONFIGURATION));
    made(&kind::MUTATING_WEBHOOK_CONFIGURATION)
}

#[test]
fn webhooks() {
    let none: [&str; 0] = [];
    assert_eq!(configured(|_| {}), none);
    for (key, value, message) in [
        ("name", json!(""), "name: Required value"),
        (
            "name",
            json!("a.b"),
            "name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
        ),
        ("sideEffects", json!(""), "sideEffects: Required value: must specify one of None, NoneOnDryRun"),
        (
            "sideEffects",
            json!("Some"),
            "sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ),
        (
            "failurePolicy",
            json!("Stop"),
            "failurePolicy: Unsupported value: \"Stop\": supported values: \"Fail\", \"Ignore\"",
        ),
        (
            "matchPolicy",
            json!("Some"),
            "matchPolicy: Unsupported value: \"Some\": supported values: \"Equivalent\", \"Exact\"",
        ),
        (
            "timeoutSeconds",
            json!(31),
            "timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        ),
        (
            "admissionReviewVersions",
            json!([]),
            "admissionReviewVersions: Required value: must specify one of v1, v1beta1",
        ),
        (
            "admissionReviewVersions",
            json!(["v2"]),
            "admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ),
        (
            "admissionReviewVersions",
            json!(["v1", "v1"]),
            "admissionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
        ),
        (
            "clientConfig",
            json!({}),
            "clientConfig: Required value: exactly one of url or service is required",
        ),
        (
            "clientConfig",
            json!({"url": "http://a"}),
            "clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ),
        (
            "clientConfig",
            json!({"url": "https://a/?b"}),
            "clientConfig.url: Invalid value: \"b\": query parameters are not permitted in the URL",
        ),
        (
            "clientConfig",
            json!({"url": "https://u@a/"}),
            "clientConfig.url: Invalid value: \"u\": user information is not permitted in the URL",
        ),
        (
            "clientConfig",
            json!({"service": {"name": "s", "namespace": "n", "port": 70_000}}),
            "clientConfig.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive",
        ),
        (
            "clientConfig",
            json!({"service": {"name": "s", "namespace": "n", "path": "/a//b"}}),
            "clientConfig.service.path: Invalid value: \"/a//b\": segment[1] may not be empty",
        ),
        ("matchConditions", json!([{"name": "a"}]), "matchConditions[0].expression: Required value"),
        (
            "matchConditions",
            json!([{"name": "a", "expression": "true"}, {"name": "a", "expression": "true"}]),
            "matchConditions[1].name: Duplicate value: \"a\"",
        ),
    ] {
        assert_eq!(configured(|hook| hook[key] = value), [format!("webhooks[0].{message}")]);
    }
    let many: Vec<Value> = (0..65).map(|n| json!({"name": format!("c{n}"), "expression": "true"})).collect();
    assert_eq!(
        configured(|hook| hook["matchConditions"] = json!(many)),
        ["webhooks[0].matchConditions: Too many: 65: must have at most 64 items"]
    );
    assert_eq!(
        created(&kind::MUTATING_WEBHOOK_CONFIGURATION, json!({"webhooks": [webhook(), webhook()]})),
        ["webhooks[1].name: Duplicate value: \"a.b.example\""]
    );
}

#[test]
fn rules_of_webhooks() {
    for (key, value, message) in [
        ("operations", json!([]), "operations: Required value"),
        (
            "operations",
            json!(["*", "CREATE"]),
            "operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
        ),
        (
            "operations",
            json!(["GET"]),
            "operations[0]: Unsupported value: \"GET\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
        ),
        ("apiGroups", json!([]), "apiGroups: Required value"),
        ("apiVersions", json!([""]), "apiVersions[0]: Required value"),
        ("resources", json!([]), "resources: Required value"),
        (
            "resources",
            json!(["*/*", "pods"]),
            "resources: Invalid value: [\"*/*\",\"pods\"]: if '*/*' is present, must not specify other resources",
        ),
        (
            "resources",
            json!(["*", "pods"]),
            "resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources",
        ),
        (
            "resources",
            json!(["pods/*", "pods/log"]),
            "resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log",
        ),
        (
            "resources",
            json!(["*/log", "pods/log"]),
            "resources[1]: Invalid value: \"pods/log\": if '*/log' is present, must not specify pods/log",
        ),
        (
            "scope",
            json!("All"),
            "scope: Unsupported value: \"All\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
        ),
    ] {
        assert_eq!(
            configured(|hook| hook["rules"][0][key] = value),
            [format!("webhooks[0].rules[0].{message}")]
        );
    }
}

#[test]
fn conditions_of_webhooks_are_compiled() {
    let none: [&str; 0] = [];
    let condition = |expression: &str| {
        configured(|hook| hook["matchConditions"] = json!([{"name": "a", "expression": expression}]))
    };
    for right in [
        "request.resource.group != 'rbac.authorization.k8s.io'",
        "!(request.userInfo.username.startsWith('system:node:'))",
        "authorizer.group('').resource('pods').check('get').allowed() && object != oldObject",
        " has(namespaceObject.metadata) ",
    ] {
        assert_eq!(condition(right), none);
    }
    let path = "webhooks[0].matchConditions[0].expression: Invalid value";
    for (broken, why) in [
        (
            "request.name ==",
            "compilation failed: ERROR: <input>:1:16: Syntax error: mismatched input '<EOF>' expecting",
        ),
        ("params.a == 1", "compilation failed: ERROR: <input>:1:1: undeclared reference to 'params'"),
        ("variables.a", "compilation failed: ERROR: <input>:1:1: undeclared reference to 'variables'"),
        ("request.name + 'a' == 'b' ? 1 : 2", "must evaluate to bool but got int"),
    ] {
        let told = condition(broken);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("{path}: {broken:?}: {why}")), "{told:?}");
    }
}

#[test]
fn what_was_stored_is_not_compiled_anew() {
    let none: [&str; 0] = [];
    let with = |conditions: Value| {
        let mut hook = webhook();
        hook["matchConditions"] = conditions;
        json!({ "webhooks": [hook] })
    };
    let kind = &kind::VALIDATING_WEBHOOK_CONFIGURATION;
    let old = with(json!([{"name": "a", "expression": "what is this"}]));
    let moved = json!([{"name": "b", "expression": "true"}, {"name": "a", "expression": "what is this"}]);
    assert_eq!(updated(kind, &with(moved), &old), none);
    let told = updated(kind, &with(json!([{"name": "a", "expression": "what is that"}])), &old);
    assert!(told.len() == 1 && told[0].contains("mismatched input 'is' expecting <EOF>"), "{told:?}");

    let rule =
        json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
    let policy = |expression: &str, message: &str| {
        let validation = json!({"expression": expression, "messageExpression": message});
        json!({"spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [validation]}})
    };
    let kind = &kind::VALIDATING_ADMISSION_POLICY;
    let old = policy("object.a =", "'a' +");
    assert_eq!(updated(kind, &policy("object.a =", "'a' +"), &old), none);
    let told = updated(kind, &policy("object.b =", "'b' +"), &old);
    let paths: Vec<&str> = told.iter().map(|error| error.split(": ").next().unwrap()).collect();
    assert_eq!(paths, ["spec.validations[0].expression", "spec.validations[0].messageExpression"]);

    let policy = |expression: &str| {
        let mutation = json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}});
        json!({"spec": {"matchConstraints": {"resourceRules": [rule]}, "reinvocationPolicy": "Never", "mutations": [mutation]}})
    };
    let kind = &kind::MUTATING_ADMISSION_POLICY;
    assert_eq!(updated(kind, &policy("[JSONPatch{]"), &policy("[JSONPatch{]")), none);
    assert_eq!(updated(kind, &policy("[JSONPatch{]"), &policy("[]")).len(), 1);
}

fn policy(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let rule =
        json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
    let mut spec =
        json!({"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "true"}]});
    change(&mut spec);
    created(&kind::VALIDATING_ADMISSION_POLICY, json!({"spec": spec}))
}

#[test]
fn policies() {
    let none: [&str; 0] = [];
    assert_eq!(policy(|_| {}), none);
    for (key, value, message) in [
        ("matchConstraints", Value::Null, "matchConstraints: Required value"),
        ("matchConstraints", json!({}), "matchConstraints.resourceRules: Required value"),
        ("paramKind", json!({"kind": "A"}), "paramKind.apiVersion: Required value"),
        (
            "paramKind",
            json!({"apiVersion": "a/", "kind": "A"}),
            "paramKind.apiVersion: Invalid value: \"a/\": version must be specified",
        ),
        (
            "paramKind",
            json!({"apiVersion": "a/b/c", "kind": "A"}),
            "paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
        ),
        ("paramKind", json!({"apiVersion": "v1"}), "paramKind.kind: Required value"),
        (
            "validations",
            json!([{}]),
            "validations[0].expression: Required value: expression is not specified",
        ),
        (
            "validations",
            json!([{"expression": "true", "message": "a\nb"}]),
            "validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks",
        ),
        (
            "validations",
            json!([{"expression": "true", "reason": "No"}]),
            "validations[0].reason: Unsupported value: \"No\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
        ),
        (
            "variables",
            json!([{"name": "if", "expression": "1"}]),
            "variables[0].name: Invalid value: \"if\": name is not a valid CEL identifier",
        ),
        (
            "variables",
            json!([{"name": "a"}]),
            "variables[0].expression: Required value: expression is not specified",
        ),
        (
            "auditAnnotations",
            json!([{"key": "a", "valueExpression": "'x'"}, {"key": "a", "valueExpression": "null"}]),
            "auditAnnotations[1].key: Duplicate value: \"a\"",
        ),
        (
            "auditAnnotations",
            json!([{"key": "a"}]),
            "auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
        ),
    ] {
        assert_eq!(policy(|spec| spec[key] = value), [format!("spec.{message}")]);
    }
    assert_eq!(policy(|spec| spec["validations"] = json!([])).len(), 2);
    let named = policy(|spec| {
        spec["matchConstraints"]["resourceRules"][0]["resourceNames"] = json!(["a", "a", "b/c"]);
    });
    assert_eq!(
        named,
        [
            "spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value: \"a\"",
            "spec.matchConstraints.resourceRules[0].resourceNames[2]: Invalid value: \"b/c\": may not contain '/'",
        ]
    );
    let status = json!({"typeChecking": {"expressionWarnings": [{"warning": "w"}]}});
    assert_eq!(
        with_status(&kind::VALIDATING_ADMISSION_POLICY, &status),
        ["status.typeChecking.expressionWarnings[0].fieldRef: Required value"]
    );
}

#[test]
fn expressions_of_policies_are_compiled() {
    let none: [&str; 0] = [];
    let variables = json!([
        {"name": "limit", "expression": "object.spec.limit"},
        {"name": "twice", "expression": "variables.limit * 2"},
    ]);
    let with = |key: &str, value: Value| {
        policy(|spec| {
            spec["variables"] = variables.clone();
            spec[key] = value;
        })
    };
    assert_eq!(with("paramKind", json!({"apiVersion": "v1", "kind": "ConfigMap"})), none);
    let message = "'at most ' + string(variables.twice)";
    for right in [
        json!([{"expression": "variables.twice > 1", "messageExpression": message}]),
        json!([{"expression": "authorizer.requestResource.check('x').allowed()"}]),
    ] {
        assert_eq!(with("validations", right), none);
    }
    let undeclared = |name: &str| format!("undeclared reference to '{name}' (in container '')");
    for (key, value, path, why) in [
        (
            "validations",
            json!([{"expression": "params.a == 1"}]),
            "validations[0].expression",
            undeclared("params"),
        ),
        (
            "validations",
            json!([{"expression": "self.a == 1"}]),
            "validations[0].expression",
            undeclared("self"),
        ),
        (
            "validations",
            json!([{"expression": "true", "messageExpression": "string(authorizer)"}]),
            "validations[0].messageExpression",
            undeclared("authorizer"),
        ),
        (
            "validations",
            json!([{"expression": "variables.thrice > 1"}]),
            "validations[0].expression",
            "undefined field 'thrice'".to_owned(),
        ),
        (
            "validations",
            json!([{"expression": "Object{} == object"}]),
            "validations[0].expression",
            undeclared("Object"),
        ),
        (
            "matchConditions",
            json!([{"name": "a", "expression": "variables.limit > 1"}]),
            "matchConditions[0].expression",
            undeclared("variables"),
        ),
        (
            "variables",
            json!([{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}]),
            "variables[0].expression",
            "undefined field 'b'".to_owned(),
        ),
        (
            "auditAnnotations",
            json!([{"key": "a", "valueExpression": "object.a +"}]),
            "auditAnnotations[0].valueExpression",
            "Syntax error: mismatched input '<EOF>' expecting".to_owned(),
        ),
    ] {
        let told = with(key, value);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("spec.{path}: Invalid value: ")), "{told:?}");
        assert!(told[0].contains("compilation failed: ERROR: <input>:1:"), "{told:?}");
        assert!(told[0].contains(&why), "{told:?}");
    }
    assert_eq!(
        with("validations", json!([{"expression": "'a'", "messageExpression": "1"}])),
        [
            "spec.validations[0].expression: Invalid value: \"'a'\": must evaluate to bool but got string",
            "spec.validations[0].messageExpression: Invalid value: \"1\": must evaluate to string but got int",
        ]
    );
    assert_eq!(
        with("auditAnnotations", json!([{"key": "a", "valueExpression": "1"}])),
        [
            "spec.auditAnnotations[0].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type] but got int"
        ]
    );
}

#[test]
fn bindings_of_policies() {
    let binding = |key: &str, value: Value| {
        let mut spec = json!({"policyName": "p", "validationActions": ["Deny"]});
        spec[key] = value;
        created(&kind::VALIDATING_ADMISSION_POLICY_BINDING, json!({"spec": spec}))
    };
    assert!(binding("paramRef", json!({"name": "a", "parameterNotFoundAction": "Deny"})).is_empty());
    assert!(binding("matchResources", json!({})).is_empty());
    assert_eq!(binding("policyName", json!("")), ["spec.policyName: Required value"]);
    assert_eq!(
        binding("validationActions", json!([])),
        ["spec.validationActions: Required value: at least one validation action is required"]
    );
    assert!(
        binding("validationActions", json!(["Deny", "Warn"]))[0]
            .contains("must not contain both Deny and Warn")
    );
    assert_eq!(
        binding("validationActions", json!(["Audit", "Audit", "Log"])),
        [
            "spec.validationActions[1]: Duplicate value: \"Audit\"",
            "spec.validationActions[2]: Unsupported value: \"Log\": supported values: \"Audit\", \"Deny\", \"Warn\"",
        ]
    );
    assert_eq!(
        binding("paramRef", json!({})),
        [
            "spec.paramRef: Required value: one of name or selector must be specified",
            "spec.paramRef.parameterNotFoundAction: Required value",
        ]
    );
    assert_eq!(
        binding("paramRef", json!({"name": "a", "selector": {}, "parameterNotFoundAction": "Allow"})),
        [
            "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
            "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
        ]
    );
}

#[test]
fn mutating_policies() {
    let rule = |operation: &str| json!({"operations": [operation], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
    let policy = |key: &str, value: Value| {
        let mut spec = json!({"matchConstraints": {"resourceRules": [rule("CREATE")]}, "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}]});
        spec[key] = value;
        created(&kind::MUTATING_ADMISSION_POLICY, json!({"spec": spec}))
    };
    let none: [&str; 0] = [];
    assert_eq!(policy("reinvocationPolicy", json!("IfNeeded")), none);
    for (key, value, messages) in [
        (
            "mutations",
            json!([]),
            vec!["spec.mutations: Required value: mutations must contain at least one item"],
        ),
        ("reinvocationPolicy", json!(""), vec!["spec.reinvocationPolicy: Required value"]),
        ("mutations", json!([{}]), vec!["spec.mutations[0].patchType: Required value"]),
        (
            "mutations",
            json!([{"patchType": "JSONPatch", "applyConfiguration": {"expression": "Object{}"}}]),
            vec![
                "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when patchType is JSONPatch",
                "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
            ],
        ),
        (
            "mutations",
            json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": " "}}]),
            vec!["spec.mutations[0].jsonPatch.expression: Required value"],
        ),
        (
            "matchConstraints",
            json!({"resourceRules": [rule("DELETE")]}),
            vec![
                "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
            ],
        ),
        ("paramKind", json!({"apiVersion": "v1"}), vec!["spec.paramKind.kind: Required value"]),
        (
            "mutations",
            json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": "JSONPatch{op: 'add'}"}}]),
            vec![
                "spec.mutations[0].jsonPatch.expression: Invalid value: \"JSONPatch{op: 'add'}\": must evaluate to list but got JSONPatch",
            ],
        ),
        (
            "mutations",
            json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object.spec{}"}}]),
            vec![
                "spec.mutations[0].applyConfiguration.expression: Invalid value: \"Object.spec{}\": must evaluate to Object but got Object.spec",
            ],
        ),
    ] {
        assert_eq!(policy(key, value), messages);
    }
    let binding = |spec: Value| created(&kind::MUTATING_ADMISSION_POLICY_BINDING, json!({"spec": spec}));
    assert_eq!(binding(json!({"policyName": "p"})), none);
    assert_eq!(binding(json!({})), ["spec.policyName: Required value"]);
    let deletes = binding(json!({"policyName": "p", "matchResources": {"resourceRules": [rule("DELETE")]}}));
    assert!(
        deletes[0].starts_with("spec.matchResources.resourceRules.operations: Unsupported value: \"DELETE\"")
    );
}
