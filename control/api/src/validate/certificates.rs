//! Validation of CertificateSigningRequests, but for what takes cryptography to judge.

use std::collections::HashSet;

use base64::Engine as _;
use serde_json::Value;

use super::{Rules, items, name, one_of, rules, text};
use crate::kind::Subresource;
use crate::status::{Errors, FieldError};

/// Shortest life that may be asked for, seconds.
const LIFE_SECONDS_MIN: i64 = 600;
/// Longest domain of a signer, bytes.
const DOMAIN_BYTES_MAX: usize = 253;
/// Longest name of a signer: its domain and, behind a slash, a subdomain of a label.
const SIGNER_BYTES_MAX: usize = DOMAIN_BYTES_MAX + 1 + 253 + 1 + 63;
/// Who signed before signers had names.
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const USAGES: &[&str] = &[
    "signing",
    "digital signature",
    "content commitment",
    "key encipherment",
    "key agreement",
    "data encipherment",
    "cert sign",
    "crl sign",
    "encipher only",
    "decipher only",
    "any",
    "server auth",
    "client auth",
    "code signing",
    "email protection",
    "s/mime",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "timestamping",
    "ocsp signing",
    "microsoft sgc",
    "netscape sgc",
];
/// Conditions that are either there or not, and never go.
const DECISIONS: &[&str] = &["Approved", "Denied", "Failed"];

/// A CertificateSigningRequest.
pub(crate) static REQUEST: Rules = Rules {
    create: |object, _, errors| request(object, errors),
    // The request stays as it is, and so does its status but by the two parts.
    update: |_, _, _, _| {},
    status: conditions,
};

fn request(request: &Value, errors: &mut Errors) {
    let spec = request.get("spec").unwrap_or(&Value::Null);
    let usages = items(spec, "usages");
    if usages.is_empty() {
        errors.push(FieldError::required("spec.usages", ""));
    }
    let mut seen = HashSet::new();
    for (at, usage) in usages.iter().enumerate() {
        let (path, usage) = (format!("spec.usages[{at}]"), usage.as_str().unwrap_or(""));
        if !USAGES.contains(&usage) {
            errors.push(FieldError::not_supported(&path, usage, USAGES));
        }
        if !seen.insert(usage) {
            errors.push(FieldError::duplicate(path, usage));
        }
    }
    if text(spec, "signerName") == LEGACY_SIGNER {
        let why = "the legacy signerName is not allowed via this API version";
        errors.push(FieldError::invalid("spec.signerName", LEGACY_SIGNER, why));
    } else {
        signer(text(spec, "signerName"), errors);
    }
    let life = spec.get("expirationSeconds").and_then(Value::as_i64);
    if let Some(seconds) = life.filter(|seconds| *seconds < LIFE_SECONDS_MIN) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid("spec.expirationSeconds", seconds, why));
    }
}

/// The name of who signs.
pub(super) fn signer(signer: &str, errors: &mut Errors) {
    let path = "spec.signerName";
    if signer.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let Some((domain, rest)) = signer.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(FieldError::invalid(path, signer, why));
        return;
    };
    if domain.len() > DOMAIN_BYTES_MAX {
        errors.push(FieldError::too_long(path, DOMAIN_BYTES_MAX));
    }
    let told = |label: &str, broken: Vec<String>| {
        broken.into_iter().map(|rule| format!("validating label \"{label}\": {rule}")).collect::<Vec<_>>()
    };
    for label in domain.split('.') {
        rules(told(label, name::dns_label(label)), path, domain, errors);
    }
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, why));
    }
    for label in rest.split('.') {
        rules(told(label, name::dns_subdomain(label)), path, rest, errors);
    }
    if signer.len() > SIGNER_BYTES_MAX {
        errors.push(FieldError::too_long(path, SIGNER_BYTES_MAX));
    }
}

fn conditions(request: &Value, errors: &mut Errors) {
    let status = request.get("status").unwrap_or(&Value::Null);
    let (mut seen, mut decision) = (HashSet::new(), "");
    for (at, condition) in items(status, "conditions").iter().enumerate() {
        let path = format!("status.conditions[{at}]");
        let type_ = text(condition, "type");
        if type_.is_empty() {
            errors.push(FieldError::required(format!("{path}.type"), ""));
        }
        let valid: &[&str] =
            if DECISIONS.contains(&type_) { &["True"] } else { &["True", "False", "Unknown"] };
        one_of(condition, &path, "status", valid, true, errors);
        if matches!(type_, "Approved" | "Denied") {
            if !decision.is_empty() && decision != type_ {
                let why = "Approved and Denied conditions are mutually exclusive";
                errors.push(FieldError::invalid(format!("{path}.type"), type_, why));
            }
            decision = type_;
        }
        if !seen.insert(type_) {
            errors.push(FieldError::duplicate(format!("{path}.type"), type_));
        }
    }
}

/// What is asked of a change of the status: `approval` decides, `status` brings the certificate, and neither takes
/// back what is decided.
pub(crate) fn part(part: Subresource, new: &Value, old: &Value, errors: &mut Errors) {
    if part == Subresource::Approval {
        conditions(new, errors);
    }
    let of = |object: &Value, type_: &str| -> Vec<Value> {
        let all = object.get("status").map_or(&[][..], |status| items(status, "conditions"));
        all.iter().filter(|condition| text(condition, "type") == type_).cloned().collect()
    };
    let mut refused = |why: String| errors.push(FieldError::forbidden("status.conditions", why));
    for type_ in DECISIONS {
        let (now, before) = (of(new, type_), of(old, type_));
        if now.len() < before.len() {
            refused(format!("updates may not remove a condition of type \"{type_}\""));
        } else if part != Subresource::Approval && *type_ != "Failed" && now != before {
            let what = if now.len() > before.len() { "add" } else { "modify" };
            refused(format!("updates may not {what} a condition of type \"{type_}\""));
        }
    }
    let certificate = |object: &Value| {
        let text = object.pointer("/status/certificate").and_then(Value::as_str).unwrap_or("");
        base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
    };
    let before = certificate(old);
    if certificate(new) != before {
        let why = match part {
            Subresource::Status if before.is_empty() => return,
            Subresource::Status => "updates may not modify existing certificate content",
            _ => "updates may not set certificate content",
        };
        errors.push(FieldError::forbidden("status.certificate", why));
    }
}
