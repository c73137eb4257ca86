//! CertificateSigningRequests: what of them takes cryptography to judge, and what the server fills in.

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use weft_api::kind::{CERTIFICATE_SIGNING_REQUEST, Subresource};
use weft_api::status::{FieldError, Status};
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use crate::clock;

/// The signer of certificates that this server takes from clients.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// Who may do everything.
const MASTERS: &str = "system:masters";

/// The bytes of a field that is base64 in JSON.
fn bytes(object: &Value, pointer: &str) -> Vec<u8> {
    let text = object.pointer(pointer).and_then(Value::as_str).unwrap_or("");
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
}

/// Reads a PEM request and hands it on; why it is none otherwise.
fn read<T>(pem: &[u8], then: impl FnOnce(&X509CertificationRequest<'_>) -> T) -> Result<T, String> {
    let first = Pem::iter_from_buffer(pem).next().and_then(Result::ok);
    let block = first.filter(|block| block.label == "CERTIFICATE REQUEST");
    let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    match X509CertificationRequest::from_der(&block.contents) {
        Ok(([], request)) => Ok(then(&request)),
        Ok(_) => Err("asn1: syntax error: trailing data".to_owned()),
        Err(error) => Err(format!("x509: malformed certificate request: {error}")),
    }
}

/// What is wrong with the request within a new object: it must be one, and signed by the key that it is about.
pub(super) fn judge(object: &Value) -> Vec<FieldError> {
    let verified = read(&bytes(object, "/spec/request"), |request| {
        request.verify_signature().map_err(|error| format!("x509: the signature cannot be verified: {error}"))
    });
    let why = verified.and_then(|verified| verified).err();
    let shown = object.pointer("/spec/request").cloned().unwrap_or_default();
    why.into_iter().map(|why| FieldError::invalid("spec.request", shown.clone(), why)).collect()
}

/// What is wrong with a certificate that a signer brings.
pub(super) fn judge_certificate(new: &Value, old: &Value) -> Vec<FieldError> {
    let (pem, before) = (bytes(new, "/status/certificate"), bytes(old, "/status/certificate"));
    if pem.is_empty() || pem == before {
        return Vec::new();
    }
    let why = certificates(&pem).err();
    why.into_iter().map(|why| FieldError::invalid("status.certificate", "<certificate data>", why)).collect()
}

fn certificates(pem: &[u8]) -> Result<(), String> {
    let mut count = 0;
    for block in Pem::iter_from_buffer(pem) {
        let block = block.map_err(|error| format!("a PEM block is broken or has headers: {error}"))?;
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        let mut left = block.contents.as_slice();
        while !left.is_empty() {
            let (behind, _) = X509Certificate::from_der(left)
                .map_err(|error| format!("x509: malformed certificate: {error}"))?;
            (left, count) = (behind, count + 1);
        }
    }
    if count == 0 { Err("must contain at least one CERTIFICATE PEM block".to_owned()) } else { Ok(()) }
}

/// Nobody becomes a master by asking.
///
/// # Errors
/// 403.
pub(super) fn refuse_masters(object: &Value) -> Result<(), Status> {
    if object["spec"]["signerName"] != CLIENT_SIGNER {
        return Ok(());
    }
    let asks = read(&bytes(object, "/spec/request"), |request| {
        let subject = &request.certification_request_info.subject;
        subject.iter_organization().any(|organization| organization.as_str() == Ok(MASTERS))
    });
    if asks != Ok(true) {
        return Ok(());
    }
    let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    Err(Status::forbidden(&CERTIFICATE_SIGNING_REQUEST, name, &why))
}

/// What a change leaves as it is: the request for ever, its approval but for those who approve, its certificate but for
/// the signer.
pub(super) fn keep(part: Option<Subresource>, old: &Value, new: &mut Value, now: Timestamp) {
    match part {
        Some(Subresource::Approval) => {
            if let Some(certificate) = old.pointer("/status/certificate") {
                new["status"]["certificate"] = certificate.clone();
            } else if let Some(status) = new["status"].as_object_mut() {
                status.remove("certificate");
            }
            times(old, new, now);
        }
        Some(Subresource::Status) => {
            for type_ in ["Approved", "Denied"] {
                keep_conditions(type_, old, new);
            }
            times(old, new, now);
        }
        _ => new["spec"] = old["spec"].clone(),
    }
}

fn conditions(object: &Value) -> &[Value] {
    object.pointer("/status/conditions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn conditions_mut(object: &mut Value) -> impl Iterator<Item = &mut Value> {
    object.pointer_mut("/status/conditions").and_then(Value::as_array_mut).into_iter().flatten()
}

/// Who signs may hand back an older approval; one that is gone or new is for validation to refuse.
fn keep_conditions(type_: &str, old: &Value, new: &mut Value) {
    let before: Vec<&Value> = conditions(old).iter().filter(|c| c["type"] == type_).collect();
    if conditions(new).iter().filter(|c| c["type"] == type_).count() != before.len() {
        return;
    }
    for (now, before) in conditions_mut(new).filter(|c| c["type"] == type_).zip(before) {
        *now = before.clone();
    }
}

/// Conditions without times get them: of the last change now, and of the transition as before if there was none.
fn times(old: &Value, new: &mut Value, now: Timestamp) {
    let now = json!(clock::seconds(now));
    for condition in conditions_mut(new) {
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.clone();
        }
        if condition["lastTransitionTime"].is_null() {
            let same = |c: &&Value| c["type"] == condition["type"] && c["status"] == condition["status"];
            let before = conditions(old).iter().find(same).map(|c| c["lastTransitionTime"].clone());
            condition["lastTransitionTime"] = before.filter(|t| !t.is_null()).unwrap_or_else(|| now.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(organization: &str) -> Value {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
        let request = parameters.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap();
        with(request.pem().unwrap().as_bytes())
    }

    fn with(request: &[u8]) -> Value {
        let request = base64::engine::general_purpose::STANDARD.encode(request);
        json!({ "spec": { "request": request, "signerName": CLIENT_SIGNER }, "metadata": { "name": "a" } })
    }

    fn told(object: &Value) -> String {
        judge(object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_request_is_signed_by_its_own_key() {
        let good = asked("a");
        assert_eq!(told(&good), "");
        assert!(told(&with(b"x")).ends_with("PEM block type must be CERTIFICATE REQUEST"));
        let pem = bytes(&good, "/spec/request");
        let text = String::from_utf8(pem).unwrap();
        let other = text.replace("CERTIFICATE REQUEST", "CERTIFICATE");
        assert!(told(&with(other.as_bytes())).ends_with("PEM block type must be CERTIFICATE REQUEST"));
        let mut block = Pem::iter_from_buffer(text.as_bytes()).next().unwrap().unwrap().contents;
        // The last byte is of the signature.
        *block.last_mut().unwrap() ^= 1;
        let encoded = base64::engine::general_purpose::STANDARD.encode(&block);
        let forged =
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{encoded}\n-----END CERTIFICATE REQUEST-----\n");
        assert!(told(&with(forged.as_bytes())).contains("the signature cannot be verified"));
    }

    #[test]
    fn nobody_becomes_a_master_by_asking() {
        assert!(refuse_masters(&asked("system:nodes")).is_ok());
        let refused = refuse_masters(&asked(MASTERS)).unwrap_err();
        assert_eq!(refused.code, 403);
        assert!(refused.message.ends_with("with system:masters group is not allowed"));
        let mut elsewhere = asked(MASTERS);
        elsewhere["spec"]["signerName"] = "example.com/signer".into();
        assert!(refuse_masters(&elsewhere).is_ok());
    }

    #[test]
    fn a_signer_brings_certificates() {
        let key = rcgen::KeyPair::generate().unwrap();
        let good = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        let status = |pem: &str| {
            let certificate = base64::engine::general_purpose::STANDARD.encode(pem);
            json!({ "status": { "certificate": certificate } })
        };
        let told = |pem: &str| judge_certificate(&status(pem), &json!({})).first().map(ToString::to_string);
        assert_eq!(told(&good), None);
        let path = "status.certificate: Invalid value: \"<certificate data>\": ";
        assert_eq!(told("x"), Some(format!("{path}must contain at least one CERTIFICATE PEM block")));
        assert_eq!(
            told(&key.serialize_pem()),
            Some(format!("{path}only CERTIFICATE PEM blocks are allowed, found \"PRIVATE KEY\""))
        );
        assert_eq!(judge_certificate(&status("x"), &status("x")), []);
        let broken = "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n";
        let refused = told(&format!("{good}{broken}")).unwrap();
        assert!(refused.contains("a PEM block is broken or has headers"), "{refused}");
        let der = Pem::iter_from_buffer(good.as_bytes()).next().unwrap().unwrap().contents;
        let longer = base64::engine::general_purpose::STANDARD.encode([der.as_slice(), &[0]].concat());
        let refused = told(&broken.replace('*', &longer)).unwrap();
        assert!(refused.contains("x509: malformed certificate"), "{refused}");
    }

    #[test]
    fn conditions_get_their_times_and_approvals_stay() {
        let now = "2024-01-02T00:00:00Z".parse().unwrap();
        let condition =
            |type_: &str, reason: &str| json!({ "type": type_, "status": "True", "reason": reason });
        let mut before = condition("Approved", "a");
        before["lastTransitionTime"] = "2024-01-01T00:00:00Z".into();
        let old = json!({ "spec": { "a": 1 }, "status": { "conditions": [before], "certificate": "YQ==" } });
        let changed = json!({ "spec": { "a": 2 }, "status": { "conditions": [condition("Approved", "b"),
            condition("Failed", "f")], "certificate": "Yg==" } });
        let mut approved = changed.clone();
        keep(Some(Subresource::Approval), &old, &mut approved, now);
        assert_eq!(approved["status"]["certificate"], "YQ==");
        let [first, second] = conditions(&approved) else { panic!("{approved}") };
        assert_eq!(
            (&first["reason"], &first["lastTransitionTime"]),
            (&json!("b"), &json!("2024-01-01T00:00:00Z"))
        );
        assert_eq!(first["lastUpdateTime"], "2024-01-02T00:00:00Z");
        assert_eq!(second["lastTransitionTime"], "2024-01-02T00:00:00Z");
        let mut signed = changed.clone();
        keep(Some(Subresource::Status), &old, &mut signed, now);
        assert_eq!(conditions(&signed)[0]["reason"], "a");
        assert_eq!(signed["status"]["certificate"], "Yg==");
        let mut spec = changed;
        keep(None, &old, &mut spec, now);
        assert_eq!(spec["spec"], json!({ "a": 1 }));
    }
}
