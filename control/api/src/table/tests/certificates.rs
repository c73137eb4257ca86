//! CertificateSigningRequests.

use super::*;

#[test]
fn requests() {
    let kind = &kind::CERTIFICATE_SIGNING_REQUEST;
    let spec = json!({"signerName": "a.b/c", "username": "u", "expirationSeconds": 86_400});
    let conditions = json!([{"type": "Approved"}, {"type": "Failed"}]);
    let request = json!({"spec": spec, "status": {"conditions": conditions, "certificate": "YQ=="}});
    assert_eq!(cells(kind, request), ["x", "5m", "a.b/c", "u", "24h", "Approved,Failed,Issued"]);
    assert_eq!(cells(kind, json!({}))[2..], ["<none>", "", "<none>", "Pending"]);
    assert_eq!(cells(kind, json!({"status": {"conditions": [{"type": "Denied"}]}}))[5], "Denied");
}

#[test]
fn bundles_and_requests_of_pods() {
    let kind = &kind::CLUSTER_TRUST_BUNDLE;
    assert_eq!(cells(kind, json!({"spec": {"signerName": "a.b/c"}})), ["x", "a.b/c"]);
    assert_eq!(cells(kind, json!({})), ["x", "<none>"]);
    let kind = &kind::POD_CERTIFICATE_REQUEST;
    let spec = json!({"signerName": "a.b/c", "podName": "p", "serviceAccountName": "s", "nodeName": "n"});
    assert_eq!(cells(kind, json!({"spec": spec})), ["x", "p", "s", "n", "a.b/c", "Pending"]);
    assert_eq!(cells(kind, json!({"status": {"conditions": [{"type": "Denied"}]}}))[5], "Denied");
}
