//! Validation of PodCertificateRequests, but for what takes cryptography to judge.

use serde_json::Value;

use super::{IMMUTABLE, Rules, certificates, conditions, entries, items, name, rules, same, text};
use crate::kind::Subresource;
use crate::status::{Errors, FieldError};

/// Lives that may be asked for, seconds: of any signer, and of Kubernetes' own.
const LIFE_SECONDS_MIN: i64 = 3600;
const LIFE_SECONDS_MAX: i64 = 91 * 86_400;
const OWN_LIFE_SECONDS_MAX: i64 = 86_400;
const UID_BYTES_MAX: usize = 128;
const REQUEST_BYTES_MAX: usize = 10 * 1024;
const CHAIN_BYTES_MAX: usize = 65_536;
/// What becomes of a request, once.
const ENDS: &[&str] = &["Issued", "Denied", "Failed"];

/// A PodCertificateRequest.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| request(object, errors),
    update: |new, old, _, errors| {
        if !same(&new["spec"], &old["spec"]) {
            errors.push(FieldError::invalid("spec", new["spec"].clone(), IMMUTABLE));
        }
    },
    status: |_, _| {},
};

fn request(request: &Value, errors: &mut Errors) {
    let spec = request.get("spec").unwrap_or(&Value::Null);
    let signer = text(spec, "signerName");
    certificates::signer(signer, errors);
    for (key, _) in entries(spec, "unverifiedUserAnnotations") {
        let path = "spec.unverifiedUserAnnotations";
        rules(name::qualified(&key.to_lowercase()), path, key, errors);
        if !key.contains('/') {
            errors.push(FieldError::invalid(
                path,
                key.as_str(),
                "must be a domain-prefixed key (such as example.com/foo)",
            ));
        }
    }
    for subject in ["pod", "serviceAccount", "node"] {
        let (own, uid) = (format!("{subject}Name"), format!("{subject}UID"));
        let given = text(spec, &own);
        rules(name::dns_subdomain(given), &format!("spec.{own}"), given, errors);
        let (given, path) = (text(spec, &uid), format!("spec.{uid}"));
        if given.is_empty() {
            errors.push(FieldError::invalid(path, "", "must not be empty"));
        } else if given.len() > UID_BYTES_MAX {
            errors.push(FieldError::too_long(path, UID_BYTES_MAX));
        }
    }
    let path = "spec.maxExpirationSeconds";
    match spec.get("maxExpirationSeconds").and_then(Value::as_i64) {
        None => errors.push(FieldError::required(path, "must be set")),
        Some(seconds) => {
            let is_own = signer
                .split_once('/')
                .is_some_and(|(domain, _)| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io"));
            let max = if is_own { OWN_LIFE_SECONDS_MAX } else { LIFE_SECONDS_MAX };
            if !(LIFE_SECONDS_MIN..=max).contains(&seconds) {
                let why = format!("must be in the range [{LIFE_SECONDS_MIN}, {max}]");
                errors.push(FieldError::invalid(path, seconds, why));
            }
        }
    }
    // Base64: four for three.
    if text(spec, "stubPKCS10Request").len() / 4 * 3 > REQUEST_BYTES_MAX {
        errors.push(FieldError::too_long("spec.stubPKCS10Request", REQUEST_BYTES_MAX));
    }
}

/// What is asked of a change of the status: it ends the request, one way, and then stays.
pub(crate) fn part(part: Subresource, new: &Value, old: &Value, errors: &mut Errors) {
    if part != Subresource::Status {
        return;
    }
    let empty = Value::Null;
    let (status, before) = (new.get("status").unwrap_or(&empty), old.get("status").unwrap_or(&empty));
    let begin = errors.len();
    let mut known = 0;
    for (at, condition) in items(status, "conditions").iter().enumerate() {
        let (type_, path) = (text(condition, "type"), format!("status.conditions.[{at}]"));
        if !ENDS.contains(&type_) {
            errors.push(FieldError::not_supported(format!("{path}.type"), type_, ENDS));
            continue;
        }
        known += 1;
        if known > 1 {
            let why = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.push(FieldError::invalid(format!("{path}.type"), type_, why));
        }
        if text(condition, "status") != "True" {
            let given = text(condition, "status");
            errors.push(FieldError::not_supported(format!("{path}.status"), given, &["True"]));
        }
    }
    conditions(status, errors);
    if errors.len() > begin {
        return;
    }
    let end = |status: &Value| items(status, "conditions").first().map(|c| text(c, "type").to_owned());
    let stays = match (end(before).as_deref(), end(status).as_deref()) {
        (Some(_), _) if !same(status, before) => {
            "immutable after PodCertificateRequest is issued, denied, or failed"
        }
        (None, Some("Denied" | "Failed")) => {
            let others = status.as_object().into_iter().flatten().filter(|(key, _)| *key != "conditions");
            if others.into_iter().all(|(_, value)| value.is_null() || value == "") {
                return;
            }
            "non-condition status fields must be empty when denying or failing the PodCertificateRequest"
        }
        (None, Some(_)) => return issued(status, errors),
        (None, None) if !same(status, before) => {
            "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\""
        }
        _ => return,
    };
    errors.push(FieldError::invalid_whole("status", stays));
}

/// A certificate comes with its times.
fn issued(status: &Value, errors: &mut Errors) {
    let chain = text(status, "certificateChain");
    if chain.len() > CHAIN_BYTES_MAX {
        errors.push(FieldError::too_long("status.certificateChain", CHAIN_BYTES_MAX));
    }
    let consistent = "must be present and consistent with the issued certificate";
    for (key, why) in [
        ("notBefore", consistent),
        ("notAfter", consistent),
        ("beginRefreshAt", "must be present and in the range [notbefore+10min, notafter-10min]"),
    ] {
        if text(status, key).is_empty() {
            errors.push(FieldError::required(format!("status.{key}"), why));
        }
    }
}
