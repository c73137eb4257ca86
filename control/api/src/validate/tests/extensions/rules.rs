//! What definitions say in CEL and in regular expressions: compiled, refused where it stands, and let through where it stood.

use super::*;

const SPEC: &str = "spec.versions[0].schema.openAPIV3Schema.properties[spec]";

/// A definition whose objects have this below `spec`, as the server has prepared it.
fn of(spec: &Value) -> Value {
    let mut object = definition();
    object["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "properties": {"spec": spec}});
    object
}

/// What is wrong with it; paths begin behind `spec`.
fn made(spec: &Value) -> Vec<String> {
    shorter(created(&kind::CUSTOM_RESOURCE_DEFINITION, of(spec)))
}

fn changed(new: &Value, old: &Value) -> Vec<String> {
    let prepared = |spec: &Value| {
        let (kind, mut object) = (&kind::CUSTOM_RESOURCE_DEFINITION, of(spec));
        object["status"] = json!({"storedVersions": ["v1"]});
        crate::default::apply(kind, &mut object);
        object
    };
    let (new, old) = (prepared(new), prepared(old));
    shorter(told(&update(&kind::CUSTOM_RESOURCE_DEFINITION, &new, &old, &Limits::default())))
}

fn shorter(told: Vec<String>) -> Vec<String> {
    told.into_iter().map(|said| said.replace(SPEC, "spec")).collect()
}

fn with_rule(rule: &Value) -> Value {
    json!({"type": "object", "properties": {"a": {"type": "string"}}, "x-kubernetes-validations": [rule]})
}

#[test]
fn rules_are_compiled() {
    let none: [&str; 0] = [];
    for right in [
        json!({"rule": "self.a == oldSelf.a"}),
        json!({"rule": "has(self.a) && self.a != ''", "messageExpression": "'not ' + self.a"}),
        json!({"rule": "oldSelf.hasValue() || self.a == ''", "optionalOldSelf": true}),
    ] {
        assert_eq!(made(&with_rule(&right)), none, "{right}");
    }
    let rule = |rule: &str| json!({ "rule": rule });
    let of_message = |message: &str| json!({"rule": "true", "messageExpression": message});
    for (rule, key, why) in [
        (rule("self.a ="), "rule", "compilation failed: ERROR: <input>:1:8: Syntax error: token recognition"),
        (
            rule("object.a == 1"),
            "rule",
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'object'",
        ),
        (rule("foo(self)"), "rule", "compilation failed: ERROR: <input>:1:4: undeclared reference to 'foo'"),
        (
            rule("self.a.matches('[')"),
            "rule",
            "compilation failed: ERROR: <input>:1:16: invalid matches argument",
        ),
        (
            rule("self.a.find('[') == ''"),
            "rule",
            "program instantiation failed: error parsing regexp: missing closing ]: `[`",
        ),
        (rule("'a'"), "rule", "cel expression must evaluate to a bool"),
        (
            of_message("self."),
            "messageExpression",
            "messageExpression compilation failed: ERROR: <input>:1:6: Syntax error",
        ),
        (of_message("self.a.size()"), "messageExpression", "messageExpression must evaluate to a string"),
    ] {
        let told = made(&with_rule(&rule));
        let expected = format!("spec.x-kubernetes-validations[0].{key}: Invalid value: {rule}: {why}");
        assert!(told.len() == 1 && told[0].starts_with(&expected), "{told:?}");
    }
    // The message of a rule that is none is not looked at, and no rule where the schema is wrong, or one below it.
    assert_eq!(made(&with_rule(&json!({"rule": "self.", "messageExpression": "self."}))).len(), 1);
    let mut wrong = with_rule(&rule("self."));
    wrong["properties"]["a"]["uniqueItems"] = true.into();
    assert_eq!(made(&wrong).len(), 1);
    // The rules of others are, and come last.
    let beside = json!({"type": "object", "properties": {"a": with_rule(&rule("self.")), "b": {"type": "string", "uniqueItems": true}}});
    let told = made(&beside);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("spec.properties[b].uniqueItems: Forbidden"), "{told:?}");
    assert!(told[1].starts_with("spec.properties[a].x-kubernetes-validations[0].rule: Invalid"), "{told:?}");
}

#[test]
fn what_was_before_is_known_of_some_only() {
    let none: [&str; 0] = [];
    let list = |type_: Value| {
        let item = with_rule(&json!({"rule": "self.a == oldSelf.a"}));
        let mut list = json!({"type": "array", "items": item});
        if type_ == "map" {
            list["x-kubernetes-list-map-keys"] = json!(["a"]);
            list["items"]["required"] = json!(["a"]);
        }
        if !type_.is_null() {
            list["x-kubernetes-list-type"] = type_;
        }
        list
    };
    assert_eq!(made(&list(json!("map"))), none);
    for type_ in [Value::Null, json!("atomic")] {
        assert_eq!(
            made(&list(type_)),
            [
                "spec.items.x-kubernetes-validations[0].rule: Invalid value: \"self.a == oldSelf.a\": oldSelf cannot be used on the uncorrelatable portion of the schema within spec"
            ]
        );
    }
    assert_eq!(
        made(&with_rule(&json!({"rule": "self.a == ''", "optionalOldSelf": false}))),
        [
            "spec.x-kubernetes-validations[0].optionalOldSelf: Invalid value: false: may not be set if oldSelf is not used in rule"
        ]
    );
}

#[test]
fn patterns_are_compiled() {
    let none: [&str; 0] = [];
    let with = |pattern: &str| json!({"type": "string", "pattern": pattern});
    assert_eq!(made(&with(r"^(?i)[a-z\d]{1,63}$")), none);
    let why = "must be a valid regular expression, but isn't: error parsing regexp:";
    assert_eq!(
        made(&with("a++")),
        [format!("spec.pattern: Invalid value: \"a++\": {why} invalid nested repetition operator: `++`")]
    );
    assert_eq!(
        made(&with("(?!a)b")),
        [format!("spec.pattern: Invalid value: \"(?!a)b\": {why} invalid or unsupported Perl syntax: `(?!`")]
    );
    let nested = json!({"type": "object", "properties": {"a": {"type": "array", "items": with("(")}},
        "anyOf": [{"properties": {"a": {"items": {"pattern": ")"}}}}], "additionalProperties": null});
    assert_eq!(
        made(&nested),
        [
            format!(
                "spec.anyOf[0].properties[a].items.pattern: Invalid value: \")\": {why} unexpected ): `)`"
            ),
            format!("spec.properties[a].items.pattern: Invalid value: \"(\": {why} missing closing ): `(`"),
        ]
    );
}

#[test]
fn what_was_stored_is_let_through() {
    let none: [&str; 0] = [];
    let with_pattern = |pattern: &str| json!({"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}});
    let old = with_pattern("(?!a)");
    assert_eq!((made(&old).len(), changed(&old, &old).len()), (1, 0));
    assert!(
        changed(&with_pattern("(?!b)"), &old)[0].starts_with("spec.properties[a].pattern: Invalid value")
    );

    let old = json!({"type": "object", "properties": {"a": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": "self.a <> 1"}, {"rule": "true", "messageExpression": "'a' +"}]});
    assert_eq!(made(&old).len(), 2);
    assert_eq!(changed(&old, &old), none);
    let with = |pointer: &str, text: &str| {
        let mut new = old.clone();
        *new.pointer_mut(pointer).unwrap() = text.into();
        changed(&new, &old)
    };
    for (pointer, text, path) in [
        ("/x-kubernetes-validations/0/rule", "self.a <> 2", "spec.x-kubernetes-validations[0].rule"),
        (
            "/x-kubernetes-validations/1/messageExpression",
            "'b' +",
            "spec.x-kubernetes-validations[1].messageExpression",
        ),
    ] {
        let told = with(pointer, text);
        assert!(told.len() == 1 && told[0].starts_with(&format!("{path}: Invalid value")), "{told:?}");
    }
    assert_eq!(with("/x-kubernetes-validations/0/rule", "self.a != ''"), none);
}

/// What is let through hides nothing behind it.
#[test]
fn a_pattern_of_before_keeps_no_rule_from_being_read() {
    let with = |rule: &str, default: Value| {
        let field = json!({"type": "string", "pattern": "(?!a)", "default": default});
        json!({"type": "object", "properties": {"a": field}, "x-kubernetes-validations": [{"rule": rule}]})
    };
    let old = with("true", Value::Null);
    assert_eq!(changed(&old, &old).len(), 0);
    assert!(changed(&with("self.", Value::Null), &old)[0].contains("rule: Invalid value"));
    assert!(changed(&with("true", json!(1)), &old)[0].contains("default: Invalid value"));
}

#[test]
fn many_hostile_rules_are_answered_shortly() {
    let rules: Vec<Value> =
        (0..2_000).map(|at| json!({"rule": format!("{}{at}", "(".repeat(500))})).collect();
    let mut spec = with_rule(&json!({"rule": "true"}));
    spec["x-kubernetes-validations"] = json!(rules);
    let told = made(&spec);
    let bytes: usize = told.iter().map(String::len).sum();
    assert!((1..300).contains(&told.len()) && bytes < 300_000, "{} errors, {bytes} bytes", told.len());
}
