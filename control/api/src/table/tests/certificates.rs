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
