//! CustomResourceDefinitions.

mod rules;
mod schema;

use super::*;

fn definition() -> Value {
    json!({"metadata": {"name": "crontabs.stable.example.com"}, "spec": {"group": "stable.example.com", "scope": "Namespaced",
        "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"]},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
}

fn with(pointer: &str, value: Value) -> Vec<String> {
    let mut object = definition();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[key] = value;
    created(&kind::CUSTOM_RESOURCE_DEFINITION, object)
}

const VERSION: &str = "/spec/versions/0";

#[test]
fn definitions() {
    let none: [&str; 0] = [];
    assert_eq!(created(&kind::CUSTOM_RESOURCE_DEFINITION, definition()), none);
    for (pointer, value, message) in [
        (
            "/metadata/name",
            json!("a"),
            "metadata.name: Invalid value: \"a\": must be spec.names.plural+\".\"+spec.group",
        ),
        (
            "/spec/scope",
            json!("All"),
            "spec.scope: Unsupported value: \"All\": supported values: \"Cluster\", \"Namespaced\"",
        ),
        (
            "/spec/names/listKind",
            json!("CronTab"),
            "spec.names.listKind: Invalid value: \"CronTab\": kind and listKind may not be the same",
        ),
        ("/spec/versions/0/schema", Value::Null, "spec.versions[0].schema.openAPIV3Schema: Required value"),
        (
            "/spec/versions/0/schema/openAPIV3Schema",
            json!({"type": "string"}),
            "spec.versions[0].schema.openAPIV3Schema.type: Invalid value: \"string\": must be object at the root",
        ),
        (
            "/spec/versions/0/deprecationWarning",
            json!("old"),
            "spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions",
        ),
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "a", "type": "int", "jsonPath": ".a"}]),
            "spec.versions[0].additionalPrinterColumns[0].type: Invalid value: \"int\": must be one of boolean,date,integer,number,string",
        ),
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "a", "type": "integer", "jsonPath": "a"}]),
            "spec.versions[0].additionalPrinterColumns[0].JSONPath: Invalid value: \"a\": must be a simple json path starting with .",
        ),
        (
            "/spec/versions/0/subresources",
            json!({"scale": {"specReplicasPath": ".status.a", "statusReplicasPath": ".status.b"}}),
            "spec.versions[0].subresources.scale.specReplicasPath: Invalid value: \".status.a\": should be a json path under .spec",
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"]}}),
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
        ),
        (
            "/spec/conversion",
            json!({"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}}),
            "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook",
        ),
    ] {
        assert_eq!(with(pointer, value), [message], "{pointer}");
    }
    assert_eq!(with("/spec/names/kind", json!("")).len(), 3, "the other names come of the kind");
    assert!(
        with("/spec/names/shortNames", json!(["A"]))[0]
            .starts_with("spec.names.shortNames[0]: Invalid value: \"A\"")
    );
    assert!(
        with("/spec/names/singular", json!("A"))[0]
            .starts_with("spec.names.singular: Invalid value: \"A\": a DNS-1035")
    );
    assert!(
        with(&format!("{VERSION}/name"), json!("1"))[0]
            .starts_with("spec.versions[0].name: Invalid value: \"1\"")
    );
    let hook = json!({"clientConfig": {"url": "https://a"}, "conversionReviewVersions": ["v1"]});
    assert_eq!(with("/spec/conversion", json!({"strategy": "Webhook", "webhook": hook})), none);
}

#[test]
fn versions_and_groups() {
    let version = definition()["spec"]["versions"][0].clone();
    let twice = with("/spec/versions", json!([version, version]));
    assert!(twice[0].ends_with("must contain unique version names"), "{twice:?}");
    assert!(twice[1].ends_with("must have exactly one version marked as storage version"), "{twice:?}");
    let grouped = |group: &str, approved: &str| {
        let mut object = definition();
        object["spec"]["group"] = group.into();
        object["metadata"]["name"] = format!("crontabs.{group}").into();
        object["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": approved});
        created(&kind::CUSTOM_RESOURCE_DEFINITION, object)
    };
    assert_eq!(
        grouped("a", ""),
        ["spec.group: Invalid value: \"a\": should be a domain with at least one dot"]
    );
    assert!(grouped("a.k8s.io", "")[0].starts_with(
        "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have"
    ));
    assert!(
        grouped("a.k8s.io", "yes")[0].contains("with either a URL or a reason starting with \"unapproved\"")
    );
    for fine in ["https://github.com/kubernetes/kubernetes/pull/1", "unapproved, a test"] {
        assert!(grouped("a.k8s.io", fine).is_empty(), "{fine}");
    }
    assert!(grouped("ak8s.io", "").is_empty());
}

#[test]
fn what_custom_resources_are_stored_by_stays() {
    let prepare = |mut object: Value| {
        crate::default::apply(&kind::CUSTOM_RESOURCE_DEFINITION, &mut object);
        object
    };
    let old = prepare(definition());
    let update = |new: Value, old: &Value| {
        told(&update(&kind::CUSTOM_RESOURCE_DEFINITION, &new, old, &Limits::default()))
    };
    assert!(update(old.clone(), &old).is_empty());
    let mut scope = old.clone();
    scope["spec"]["scope"] = "Cluster".into();
    assert!(update(scope.clone(), &old).is_empty());
    let mut established = old.clone();
    established["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    assert_eq!(update(scope, &established), ["spec.scope: Invalid value: \"Cluster\": field is immutable"]);
    let mut plural = old.clone();
    plural["spec"]["names"]["plural"] = "tabs".into();
    assert!(
        update(plural, &old)
            .contains(&"spec.names.plural: Invalid value: \"tabs\": field is immutable".to_owned())
    );
    let mut newer = old.clone();
    newer["spec"]["versions"][0]["name"] = "v2".into();
    let gone = update(prepare(newer), &old);
    assert!(
        gone[0].starts_with("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions;"),
        "{gone:?}"
    );
    let status = json!({"acceptedNames": {"plural": "A"}});
    assert!(
        with_status(&kind::CUSTOM_RESOURCE_DEFINITION, &status)[0]
            .starts_with("status.acceptedNames.plural: Invalid value: \"A\"")
    );
}
