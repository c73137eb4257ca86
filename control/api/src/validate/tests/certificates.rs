//! CertificateSigningRequests.

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
