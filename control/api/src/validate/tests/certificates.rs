//! Requests for certificates, and bundles of those that are trusted.

use super::*;

const SIGNER: &str = "kubernetes.io/kube-apiserver-client";

#[test]
fn requests() {
    let with = |key: &str, value: Value| {
        let mut spec = json!({"signerName": SIGNER, "usages": ["client auth"]});
        spec[key] = value;
        created(&kind::CERTIFICATE_SIGNING_REQUEST, json!({"spec": spec, "metadata": {"name": "A:b"}}))
    };
    assert!(with("expirationSeconds", json!(600)).is_empty());
    for (key, value, message) in [
        ("usages", json!([]), "spec.usages: Required value"),
        ("usages", json!(["any", "any"]), "spec.usages[1]: Duplicate value: \"any\""),
        ("signerName", json!(""), "spec.signerName: Required value"),
        (
            "signerName",
            json!("a"),
            "spec.signerName: Invalid value: \"a\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
        (
            "signerName",
            json!("a/b"),
            "spec.signerName: Invalid value: \"a\": should be a domain with at least two segments separated by dots",
        ),
        (
            "signerName",
            json!("kubernetes.io/legacy-unknown"),
            "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via this API version",
        ),
        (
            "expirationSeconds",
            json!(599),
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
        ),
    ] {
        assert_eq!(with(key, value), [message]);
    }
    assert!(
        with("usages", json!(["flying"]))[0].starts_with("spec.usages[0]: Unsupported value: \"flying\"")
    );
    let label = &with("signerName", json!("A.b/c"))[0];
    assert!(
        label.starts_with("spec.signerName: Invalid value: \"A.b\": validating label \"A\": a lowercase"),
        "{label}"
    );
}

fn with(conditions: Value, certificate: &str) -> Value {
    let mut status = json!({"certificate": certificate});
    status["conditions"] = conditions;
    json!({"status": status})
}

fn decided(type_: &str, reason: &str) -> Value {
    json!({"type": type_, "status": "True", "reason": reason})
}

#[test]
fn approval_decides_and_status_signs() {
    let kind = &kind::CERTIFICATE_SIGNING_REQUEST;
    let approve = |new: &Value, old: &Value| told(&update_approval(kind, new, old));
    let status = |new: &Value, old: &Value| told(&update_status(kind, new, old));
    let (open, approved) = (with(json!([]), ""), with(json!([decided("Approved", "a")]), ""));
    let issued = with(json!([decided("Approved", "a")]), "YQ==");
    assert!(approve(&approved, &open).is_empty());
    assert_eq!(
        status(&approved, &open),
        ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""]
    );
    let because = with(json!([decided("Approved", "b")]), "");
    assert!(approve(&because, &approved).is_empty());
    assert_eq!(
        status(&because, &approved),
        ["status.conditions: Forbidden: updates may not modify a condition of type \"Approved\""]
    );
    let removed = ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""];
    assert_eq!(approve(&open, &approved), removed);
    assert_eq!(status(&open, &approved), removed);
    assert!(status(&issued, &approved).is_empty());
    assert_eq!(
        approve(&issued, &approved),
        ["status.certificate: Forbidden: updates may not set certificate content"]
    );
    let other = with(json!([decided("Approved", "a")]), "Yg==");
    assert_eq!(
        status(&other, &issued),
        ["status.certificate: Forbidden: updates may not modify existing certificate content"]
    );
    let failed = with(json!([decided("Approved", "a"), decided("Failed", "f")]), "");
    assert!(status(&failed, &approved).is_empty());
    assert_eq!(status(&approved, &failed).len(), 1);
}

#[test]
fn conditions_of_requests() {
    let kind = &kind::CERTIFICATE_SIGNING_REQUEST;
    let approve =
        |conditions: Value| told(&update_approval(kind, &with(conditions, ""), &with(json!([]), "")));
    assert_eq!(
        approve(json!([decided("Approved", ""), decided("Denied", "")])),
        [
            "status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"
        ]
    );
    assert_eq!(
        approve(json!([{"type": "Denied", "status": "False"}])),
        ["status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\""]
    );
    assert_eq!(
        approve(
            json!([{"status": "True"}, {"type": "Other", "status": "False"}, {"type": "Other", "status": "True"}])
        ),
        [
            "status.conditions[0].type: Required value",
            "status.conditions[2].type: Duplicate value: \"Other\""
        ]
    );
}

#[test]
fn bundles_are_named_for_their_signer() {
    let with = |name: &str, signer: &str| {
        let mut spec = json!({"trustBundle": "x"});
        if !signer.is_empty() {
            spec["signerName"] = signer.into();
        }
        created(&kind::CLUSTER_TRUST_BUNDLE, json!({"metadata": {"name": name}, "spec": spec}))
    };
    assert!(with("a.b", "").is_empty() && with("a.b:c:one", "a.b/c").is_empty());
    for (name, signer, message) in [
        (
            "a:b",
            "",
            "metadata.name: Invalid value: \"a:b\": ClusterTrustBundle without signer name must not have \":\" in its name",
        ),
        (
            "one",
            "a.b/c",
            "metadata.name: Invalid value: \"one\": ClusterTrustBundle for signerName a.b/c must be named with prefix a.b:c:",
        ),
        (
            "a:one",
            "a",
            "spec.signerName: Invalid value: \"a\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
    ] {
        assert_eq!(with(name, signer), [message]);
    }
    let bundle = |signer: &str| json!({"metadata": {"name": "a.b:c:one"}, "spec": {"signerName": signer, "trustBundle": "x"}});
    let changed = update(&kind::CLUSTER_TRUST_BUNDLE, &bundle("a.b/d"), &bundle("a.b/c"), &Limits::default());
    assert_eq!(
        told(&changed).last().unwrap(),
        "spec.signerName: Invalid value: \"a.b/d\": field is immutable"
    );
}

fn pod_request(key: &str, value: Value) -> Value {
    let mut spec = json!({"signerName": "a.b/c", "podName": "p", "podUID": "1", "serviceAccountName": "s",
        "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "stubPKCS10Request": "YQ=="});
    spec[key] = value;
    json!({"spec": spec})
}

#[test]
fn requests_of_pods() {
    let kind = &kind::POD_CERTIFICATE_REQUEST;
    assert!(created(kind, pod_request("maxExpirationSeconds", json!(7_862_400))).is_empty());
    for (key, value, message) in [
        ("podUID", json!(""), "spec.podUID: Invalid value: \"\": must not be empty"),
        ("nodeUID", json!("x".repeat(129)), "spec.nodeUID: Too long: may not be more than 128 bytes"),
        (
            "maxExpirationSeconds",
            json!(3599),
            "spec.maxExpirationSeconds: Invalid value: 3599: must be in the range [3600, 7862400]",
        ),
        (
            "unverifiedUserAnnotations",
            json!({"a": "b"}),
            "spec.unverifiedUserAnnotations: Invalid value: \"a\": must be a domain-prefixed key (such as example.com/foo)",
        ),
    ] {
        assert_eq!(created(kind, pod_request(key, value)), [message]);
    }
    let mut own = pod_request("maxExpirationSeconds", json!(86_401));
    own["spec"]["signerName"] = "kubernetes.io/kube-apiserver-client-pod".into();
    assert_eq!(
        created(kind, own),
        ["spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]"]
    );
    let changed = updated(kind, &pod_request("podName", json!("q")), &pod_request("podName", json!("p")));
    assert!(changed.len() == 1 && changed[0].ends_with("field is immutable"), "{changed:?}");
}

#[test]
fn requests_of_pods_end_once() {
    let end = |type_: &str, more: Value| {
        let mut status = json!({"conditions": [{"type": type_, "status": "True"}]});
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"status": status})
    };
    let told = |new: &Value, old: &Value| told(&update_status(&kind::POD_CERTIFICATE_REQUEST, new, old));
    let fresh = json!({"status": {}});
    let times = json!({"certificateChain": "x", "notBefore": "t", "notAfter": "t", "beginRefreshAt": "t"});
    assert!(told(&end("Denied", json!({})), &fresh).is_empty());
    assert!(told(&end("Issued", times.clone()), &fresh).is_empty());
    for (new, old, message) in [
        (
            end("Denied", json!({"certificateChain": "x"})),
            fresh.clone(),
            "status: Invalid value: non-condition status fields must be empty when denying or failing the PodCertificateRequest",
        ),
        (
            end("Failed", json!({})),
            end("Denied", json!({})),
            "status: Invalid value: immutable after PodCertificateRequest is issued, denied, or failed",
        ),
        (
            json!({"status": {"certificateChain": "x"}}),
            fresh.clone(),
            "status: Invalid value: status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"",
        ),
        (
            end("Approved", json!({})),
            fresh.clone(),
            "status.conditions.[0].type: Unsupported value: \"Approved\": supported values: \"Denied\", \"Failed\", \"Issued\"",
        ),
        (
            json!({"status": {"conditions": [{"type": "Denied", "status": "True"}, {"type": "Failed", "status": "True"}]}}),
            fresh.clone(),
            "status.conditions.[1].type: Invalid value: \"Failed\": There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"",
        ),
    ] {
        assert_eq!(told(&new, &old), [message]);
    }
    let bare =
        told(&end("Issued", json!({"certificateChain": "x", "notBefore": "t", "notAfter": "t"})), &fresh);
    assert_eq!(
        bare,
        [
            "status.beginRefreshAt: Required value: must be present and in the range [notbefore+10min, notafter-10min]"
        ]
    );
}
