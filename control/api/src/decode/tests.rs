//! What bodies are read as, and the words of each refusal.

use serde_json::json;

use super::*;
use crate::kind;

fn read(kind: &Kind, value: &Value, validation: FieldValidation) -> Result<Decoded, Status> {
    body(kind, value.to_string().as_bytes(), Some("application/json"), validation)
}

#[test]
fn unknown_fields_are_refused_warned_about_or_dropped() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"foo": 1, "template": {"spec": {"containers": [{"name": "c", "bar": 2}]}}}});
    let refused = read(&kind::DEPLOYMENT, &deployment, FieldValidation::Strict).unwrap_err();
    assert_eq!(refused.code, 400);
    assert_eq!(
        refused.message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \
         \"spec.foo\", unknown field \"spec.template.spec.containers[0].bar\""
    );
    let warned = read(&kind::DEPLOYMENT, &deployment, FieldValidation::Warn).unwrap();
    assert_eq!(warned.warnings[0], "unknown field \"spec.foo\"");
    assert_eq!(warned.value["spec"], json!({"template": {"spec": {"containers": [{"name": "c"}]}}}));
    assert!(read(&kind::DEPLOYMENT, &deployment, FieldValidation::Ignore).unwrap().warnings.is_empty());
}

#[test]
fn double_fields_are_told() {
    let text = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","name":"b"},"data":{"k":"1","k":"2"}}"#;
    let refused = body(&kind::CONFIG_MAP, text, None, FieldValidation::Strict).unwrap_err();
    assert!(
        refused.message.ends_with(
            "strict decoding error: duplicate field \"metadata.name\", duplicate field \"data.k\""
        )
    );
    let read = body(&kind::CONFIG_MAP, text, None, FieldValidation::Warn).unwrap();
    assert_eq!(read.value["data"]["k"], "2");
    assert_eq!(read.warnings.len(), 2);
}

#[test]
fn wrong_types_name_the_field() {
    for (spec, message) in [
        (
            json!({"replicas": "three"}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"paused": 1}),
            "json: cannot unmarshal number 1 into Go struct field DeploymentSpec.spec.paused of type bool",
        ),
        (
            json!({"replicas": 1.5}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"template": {"spec": {"containers": {}}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            json!({"template": []}),
            "json: cannot unmarshal array into Go struct field PodTemplateSpec.spec.template of type v1.PodTemplateSpec",
        ),
        (
            json!({"template": {"metadata": {"labels": {"a": 1}}}}),
            "json: cannot unmarshal number 1 into Go struct field ObjectMeta.spec.template.metadata.labels.a of type string",
        ),
    ] {
        let deployment = json!({"kind": "Deployment", "spec": spec});
        let refused = read(&kind::DEPLOYMENT, &deployment, FieldValidation::Ignore).unwrap_err();
        assert_eq!(
            refused.message,
            format!("Deployment in version \"v1\" cannot be handled as a Deployment: {message}")
        );
    }
}

#[test]
fn kind_and_version_must_fit() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod"});
    assert!(
        read(&kind::DEPLOYMENT, &pod, FieldValidation::Warn)
            .unwrap_err()
            .message
            .starts_with("Pod in version \"v1\" cannot be handled as a Deployment")
    );
    let old = json!({"apiVersion": "extensions/v1beta1", "kind": "Deployment"});
    assert_eq!(
        read(&kind::DEPLOYMENT, &old, FieldValidation::Warn).unwrap_err().message,
        "the API version in the data (extensions/v1beta1) does not match the expected API version (apps/v1)"
    );
    let bare = read(&kind::POD, &json!({}), FieldValidation::Warn).unwrap();
    assert_eq!(bare.value, json!({"apiVersion": "v1", "kind": "Pod"}));
    assert!(
        body(&kind::POD, b"{", None, FieldValidation::Warn).unwrap_err().message.contains("json parse error")
    );
    assert_eq!(body(&kind::POD, b"a: b", Some("text/plain"), FieldValidation::Warn).unwrap_err().code, 415);
}

#[test]
fn nulls_go_and_values_get_their_spelling() {
    let pod = json!({"kind": "Pod", "metadata": {"creationTimestamp": null, "name": "p"}, "spec": {"containers": [
        {"name": "c", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}, "requests": null}, "command": [null]}]},
        "status": {"startTime": "2024-01-02T03:04:05+01:00"}});
    let read = read(&kind::POD, &pod, FieldValidation::Strict).unwrap().value;
    assert_eq!(read["metadata"], json!({"name": "p"}));
    assert_eq!(
        read["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m", "memory": "1Gi"}})
    );
    assert_eq!(read["spec"]["containers"][0]["command"], json!([""]));
    assert_eq!(read["status"]["startTime"], "2024-01-02T02:04:05Z");
}

#[test]
fn malformed_values_are_refused() {
    let secret = json!({"kind": "Secret", "data": {"k": "***"}});
    assert!(
        read(&kind::SECRET, &secret, FieldValidation::Warn).unwrap_err().message.contains("illegal base64")
    );
    let pod = json!({"kind": "Pod", "spec": {"containers": [{"resources": {"limits": {"cpu": "1x"}}}]}});
    assert!(
        read(&kind::POD, &pod, FieldValidation::Warn).unwrap_err().message.contains("resources.limits.cpu")
    );
    let lease = json!({"kind": "Lease", "spec": {"renewTime": "yesterday"}});
    assert!(
        read(&kind::LEASE, &lease, FieldValidation::Warn)
            .unwrap_err()
            .message
            .contains("parsing time \"yesterday\"")
    );
}

#[test]
fn options_come_under_any_version() {
    let options = json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
        "propagationPolicy": "Background"});
    let read =
        any(schema::DELETE_OPTIONS, options.to_string().as_bytes(), None, FieldValidation::Strict).unwrap();
    assert_eq!(read.value["gracePeriodSeconds"], 0);
}

proptest::proptest! {
    /// Whatever a client sends, it gets an answer; and what was tidied once stays as it is.
    #[test]
    fn any_text_is_read_or_refused(text in r#"\{("(kind|metadata|spec|status|x)":(null|1|-2.5|"Pod"|\[\{\}\]|\{"name":"a"\}),?){0,4}\}"#) {
        if let Ok(read) = body(&kind::POD, text.as_bytes(), None, FieldValidation::Warn) {
            let again = body(&kind::POD, read.value.to_string().as_bytes(), None, FieldValidation::Strict).unwrap();
            proptest::prop_assert_eq!(again.value, read.value);
        }
    }
}
