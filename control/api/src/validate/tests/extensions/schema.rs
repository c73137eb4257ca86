//! The schemas of CustomResourceDefinitions, and the fields of them that selectors may name.

use super::*;

const SCHEMA: &str = "spec.versions[0].schema.openAPIV3Schema";

/// What is wrong with a schema of an object with this below `spec`; paths begin behind it.
fn of_spec(spec: &Value) -> Vec<String> {
    of_whole(json!({"type": "object", "properties": {"spec": spec}}))
        .into_iter()
        .map(|said| said.replace(&format!("{SCHEMA}.properties[spec]"), "spec"))
        .collect()
}

fn of_whole(schema: Value) -> Vec<String> {
    with(&format!("{VERSION}/schema/openAPIV3Schema"), schema)
}

#[test]
fn schemas_are_structural() {
    let none: [&str; 0] = [];
    let number_or_text = json!([{"type": "integer"}, {"type": "string"}]);
    for right in [
        json!({"type": "object", "additionalProperties": {"type": "string"}}),
        json!({"type": "array", "items": {"type": "string"}}),
        json!({"x-kubernetes-preserve-unknown-fields": true}),
        json!({"x-kubernetes-int-or-string": true, "anyOf": number_or_text}),
        json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": number_or_text}, {"pattern": "a"}]}),
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "oneOf": [{"required": ["a"]}, {"properties": {"a": {"minLength": 1}}}]}),
        json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
    ] {
        assert_eq!(of_spec(&right), none, "{right}");
    }
    for (spec, message) in [
        (json!({}), "spec.type: Required value: must not be empty for specified object fields"),
        (
            json!({"type": "array", "items": {}}),
            "spec.items.type: Required value: must not be empty for specified array items",
        ),
        (json!({"type": "array"}), "spec.items: Required value: must be specified"),
        (
            json!({"type": "object", "anyOf": [{"type": "object"}]}),
            "spec.anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            json!({"type": "object", "not": {"description": "x"}}),
            "spec.not.description: Forbidden: must be empty to be structural",
        ),
        (
            json!({"type": "object", "allOf": [{"additionalProperties": {"minLength": 1}}]}),
            "spec.allOf[0].additionalProperties: Forbidden: must be undefined to be structural",
        ),
        (
            json!({"type": "object", "x-kubernetes-int-or-string": true, "x-kubernetes-embedded-resource": true,
                "properties": {"a": {"type": "string"}}}),
            "spec.x-kubernetes-embedded-resource: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            "spec.properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ),
        (
            json!({"type": "string", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            "spec.type: Invalid value: \"string\": must be object if x-kubernetes-embedded-resource is true",
        ),
    ] {
        assert_eq!(of_spec(&spec), [message]);
    }
    for (schema, messages) in [
        (json!({}), vec![format!("{SCHEMA}.type: Required value: must not be empty at the root")]),
        (
            json!({"type": "object", "nullable": true}),
            vec![format!("{SCHEMA}.nullable: Forbidden: nullable cannot be true at the root")],
        ),
        (
            json!({"type": "object", "additionalProperties": true}),
            vec![format!("{SCHEMA}.additionalProperties: Forbidden: must not be used at the root")],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            vec![format!(
                "{SCHEMA}.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"
            )],
        ),
        (
            json!({"type": "object", "properties": {"kind": {"type": "integer"}}}),
            vec![format!("{SCHEMA}.properties[kind].type: Invalid value: \"integer\": must be string")],
        ),
        (
            json!({"type": "object", "anyOf": [{"properties": {"spec": {"properties": {"a": {"minimum": 1}}}}}]}),
            vec![format!(
                "{SCHEMA}.properties[spec]: Required value: because it is defined in {SCHEMA}.anyOf[0].properties[spec]"
            )],
        ),
        (
            json!({"type": "object", "allOf": [{"properties": {"metadata": {}}}], "properties": {"metadata": {"type": "object"}}}),
            vec![format!(
                "{SCHEMA}.allOf[0].properties[metadata]: Forbidden: must not be specified in a nested context"
            )],
        ),
    ] {
        assert_eq!(of_whole(schema), messages);
    }
    let names = json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}}}}});
    assert_eq!(of_whole(names), none);
}

#[test]
fn what_openapi_has_and_definitions_may_not() {
    for (spec, message) in [
        (
            json!({"type": "text"}),
            "spec.type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
            "spec.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}),
            "spec.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (json!({"type": "object", "$ref": "#/a"}), "spec.$ref: Forbidden: $ref is not supported"),
        (
            json!({"type": "object", "patternProperties": {"a": {"type": "string"}}}),
            "spec.patternProperties: Forbidden: patternProperties is not supported",
        ),
        (
            json!({"type": "array", "items": [{"type": "string"}]}),
            "spec.items: Forbidden: items must be a schema object and not an array",
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            "spec.x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
        ),
    ] {
        assert_eq!(of_spec(&spec), [message]);
    }
    let in_kind = json!({"type": "object", "properties": {"kind": {"type": "string", "default": "A"}}});
    assert_eq!(
        of_whole(in_kind),
        [format!("{SCHEMA}.properties[kind].default: Forbidden: must not be set in top-level kind")]
    );
    let mut object = definition();
    object["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    object["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "anyOf": [{"required": ["a"]}]});
    let said = created(&kind::CUSTOM_RESOURCE_DEFINITION, object);
    assert!(said.len() == 1 && said[0].contains("only [Description Type Format Title"), "{said:?}");
}

#[test]
fn how_lists_are_merged() {
    let list = |more: Value| {
        let mut list = json!({"type": "array", "items": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}, "b": {"type": "object"}, "c": {"type": "string"}}}});
        list.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of_spec(&list)
    };
    let map =
        |keys: Value| list(json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}));
    assert!(map(json!(["a"])).is_empty());
    for (told, message) in [
        (
            map(json!([])),
            "spec.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ),
        (
            map(json!(["a", "a"])),
            "spec.x-kubernetes-list-map-keys: Invalid value: [\"a\",\"a\"]: must not contain duplicate entries",
        ),
        (
            map(json!(["z"])),
            "spec.x-kubernetes-list-map-keys: Invalid value: [\"z\"]: entries must all be names of item properties",
        ),
        (
            map(json!(["c"])),
            "spec.items.properties[c].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ),
        (
            list(json!({"x-kubernetes-list-type": "bag"})),
            "spec.x-kubernetes-list-type: Unsupported value: \"bag\": supported values: \"atomic\", \"map\", \"set\"",
        ),
        (
            list(json!({"x-kubernetes-list-map-keys": ["a"]})),
            "spec.x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty",
        ),
        (
            list(json!({"x-kubernetes-list-type": "set"})),
            "spec.items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
        ),
        (
            of_spec(&json!({"type": "object", "x-kubernetes-list-type": "atomic"})),
            "spec.type: Invalid value: \"object\": must be array if x-kubernetes-list-type is specified",
        ),
        (
            of_spec(&json!({"type": "object", "x-kubernetes-map-type": "loose"})),
            "spec.x-kubernetes-map-type: Unsupported value: \"loose\": supported values: \"atomic\", \"granular\"",
        ),
        (
            list(json!({"x-kubernetes-list-type": "set", "items": {"type": "string", "nullable": true}})),
            "spec.items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is set",
        ),
    ] {
        assert_eq!(told, [message]);
    }
}

#[test]
fn defaults_are_values_of_their_schema() {
    let none: [&str; 0] = [];
    let field = |type_: &str, more: Value| {
        let mut field = json!({"type": type_});
        field.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of_spec(&field)
    };
    assert_eq!(field("number", json!({"default": 1})), none);
    let inner = json!({"a": {"type": "string"}});
    assert_eq!(field("object", json!({"properties": inner, "default": {"a": "b"}})), none);
    for (told, message) in [
        (
            field("integer", json!({"default": "1"})),
            "spec.default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
        ),
        (
            field("object", json!({"properties": inner, "default": {"z": 1}})),
            "spec.default: Invalid value: {\"z\":1}: must not have unknown fields",
        ),
        (
            field("object", json!({"properties": inner, "default": {"a": 1}})),
            "spec.default.a: Invalid value: \"integer\": a in body must be of type string: \"integer\"",
        ),
        (
            field("object", json!({"properties": inner, "required": ["a"], "default": {}})),
            "spec.default.a: Required value",
        ),
        (
            field("string", json!({"enum": ["x", "y"], "default": "z"})),
            "spec.default: Unsupported value: \"z\": supported values: \"x\", \"y\"",
        ),
    ] {
        assert_eq!(told, [message]);
    }
}

#[test]
fn rules_in_cel_say_something() {
    let rule = |rule: Value| {
        of_spec(
            &json!({"type": "object", "properties": {"a": {"type": "string"}}, "x-kubernetes-validations": [rule]}),
        )
    };
    assert!(
        rule(json!({"rule": "self.a != ''", "fieldPath": ".a", "reason": "FieldValueRequired"})).is_empty()
    );
    let path = "spec.x-kubernetes-validations[0]";
    for (told, message) in [
        (rule(json!({"rule": " "})), "rule: Required value: rule is not specified"),
        (
            rule(json!({"rule": "true", "message": " "})),
            "message: Invalid value: \" \": must be non-empty if specified",
        ),
        (
            rule(json!({"rule": "true &&\ntrue"})),
            "message: Required value: message must be specified if rule contains line breaks",
        ),
        (
            rule(json!({"rule": "true", "messageExpression": " "})),
            "messageExpression: Required value: messageExpression must be non-empty if specified",
        ),
        (
            rule(json!({"rule": "true", "reason": "Wrong"})),
            "reason: Unsupported value: \"Wrong\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
        ),
        (
            rule(json!({"rule": "true", "fieldPath": ".z"})),
            "fieldPath: Invalid value: \".z\": must be a valid path",
        ),
    ] {
        assert_eq!(told, [format!("{path}.{message}")]);
    }
}

#[test]
fn fields_that_selectors_may_name() {
    let none: [&str; 0] = [];
    let mut properties: serde_json::Map<String, Value> =
        (0..9).map(|n| (format!("f{n}"), json!({"type": "string"}))).collect();
    properties.insert("deep".into(), json!({"type": "object", "properties": {"a": {"type": "integer"}}}));
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties},
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}}}});
    let fields = |paths: &[&str]| {
        let mut object = definition();
        object["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema.clone();
        let fields: Vec<Value> = paths.iter().map(|path| json!({"jsonPath": path})).collect();
        object["spec"]["versions"][0]["selectableFields"] = fields.into();
        created(&kind::CUSTOM_RESOURCE_DEFINITION, object)
    };
    assert_eq!(fields(&[".spec.f0", ".spec.deep.a"]), none);
    let path = "spec.versions[0].selectableFields";
    for (paths, message) in [
        (&[""][..], "[0].jsonPath: Required value"),
        (
            &[".spec.z"],
            "[0].jsonPath: Invalid value: \".spec.z\": is an invalid path: does not refer to a valid field",
        ),
        (
            &["['spec'].f0"],
            "[0].jsonPath: Invalid value: \"['spec'].f0\": is an invalid path: array notation is not allowed",
        ),
        (
            &["spec.f0"],
            "[0].jsonPath: Invalid value: \"spec.f0\": is an invalid path: expected [ or . but got: spec",
        ),
        (
            &[".metadata.name"],
            "[0].jsonPath: Invalid value: \".metadata.name\": must not point to fields in metadata",
        ),
        (
            &[".spec.deep"],
            "[0].jsonPath: Invalid value: \".spec.deep\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
        ),
        (&[".spec.f0", ".spec.f0"], "[1].jsonPath: Duplicate value: \".spec.f0\""),
        (
            &[
                ".spec.f0", ".spec.f1", ".spec.f2", ".spec.f3", ".spec.f4", ".spec.f5", ".spec.f6",
                ".spec.f7", ".spec.f8",
            ],
            ": Too many: 9: must have at most 8 items",
        ),
    ] {
        assert_eq!(fields(paths), [format!("{path}{message}")]);
    }
}

#[test]
fn hostile_schemas_are_answered_shortly() {
    let name = "x".repeat(200_000);
    let children: serde_json::Map<String, Value> = (0..2000).map(|at| (at.to_string(), json!({}))).collect();
    let typed: serde_json::Map<String, Value> =
        (0..2000).map(|at| (at.to_string(), json!({"type": "string"}))).collect();
    let values: Vec<String> = (0..900).map(|at| format!("{at}{}", "y".repeat(1000))).collect();
    let enums: serde_json::Map<String, Value> = (0..2000)
        .map(|at| (at.to_string(), json!({"type": "string", "enum": values[..3], "default": "z"})))
        .collect();
    for hostile in [
        json!({"type": "object", "properties": {&name: {"type": "object", "properties": children}}}),
        json!({"type": "object", "allOf": [{"properties": {&name: {"properties": typed}}}]}),
        json!({"type": "object", "properties": {&name: {"type": "object", "properties": enums}}}),
        json!({"type": "string", "enum": values, "default": "z"}),
    ] {
        let told = of_spec(&hostile);
        let bytes: usize = told.iter().map(String::len).sum();
        let about: String = hostile.to_string().chars().take(80).collect();
        assert!(
            (1..300).contains(&told.len()) && bytes < 200_000,
            "{} errors of {bytes} bytes: {about}",
            told.len()
        );
        assert!(told.iter().all(|error| error.len() < 5000));
    }
    // What cannot be seen from outside: many values are told by the first, each by its beginning.
    let told = of_spec(&json!({"type": "string", "enum": values, "default": "z"}));
    assert_eq!(told.len(), 1);
    assert!(told[0].len() < 3500 && told[0].contains("\"…\""), "{}", told[0]);
}
