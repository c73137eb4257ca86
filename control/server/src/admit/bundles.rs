//! Certificates that are asked for by Pods or trusted by them: what of them takes cryptography to judge.

use std::collections::HashMap;

use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use weft_api::status::FieldError;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

const CHAIN: &str = "status.certificateChain";
/// How far a certificate's begin may be from now, and its renewal at least from its ends.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
const REFRESH: SignedDuration = SignedDuration::from_mins(10);
const LIFE_SECONDS_MIN: i64 = 3600;

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// What is wrong with a bundle of those that are trusted: certificates of authorities, each once, and nothing else.
pub(super) fn judge(bundle: &Value) -> Vec<FieldError> {
    let path = "spec.trustBundle";
    let omitted = |why: String| FieldError::invalid(path, "<value omitted>", why);
    let (mut errors, mut seen) = (Vec::new(), HashMap::<Vec<u8>, Vec<usize>>::new());
    let blocks = Pem::iter_from_buffer(text(bundle, "/spec/trustBundle").as_bytes());
    for (at, block) in blocks.enumerate() {
        // Whoever reads the bundle may skip such a block, or end at it.
        let Ok(block) = block else {
            errors.push(omitted(format!("entry {at} is broken or has PEM block headers")));
            continue;
        };
        let why = match certificate(&block) {
            _ if block.label != "CERTIFICATE" => format!("has bad block type: {}", block.label),
            None => "does not parse as X.509".to_owned(),
            Some(certificate) if !certificate.is_ca() => "does not have the CA bit set".to_owned(),
            Some(_) => {
                seen.entry(block.contents).or_default().push(at);
                continue;
            }
        };
        errors.push(omitted(format!("entry {at} {why}")));
    }
    if !errors.is_empty() {
        return errors;
    }
    if seen.is_empty() {
        errors.push(omitted("at least one trust anchor must be provided".to_owned()));
    }
    for places in seen.values().filter(|places| places.len() > 1) {
        let places: Vec<String> = places.iter().map(ToString::to_string).collect();
        errors.push(omitted(format!("duplicate trust anchor (indices [{}])", places.join(" "))));
    }
    errors
}

/// The certificate that a block is, with nothing behind it.
fn certificate(block: &Pem) -> Option<X509Certificate<'_>> {
    match X509Certificate::from_der(&block.contents) {
        Ok(([], certificate)) => Some(certificate),
        _ => None,
    }
}

/// Reads the request within a Pod's request, and hands it on; why it is none otherwise.
fn requested<T>(object: &Value, then: impl FnOnce(&X509CertificationRequest<'_>) -> T) -> Result<T, String> {
    let base64 = base64::engine::general_purpose::STANDARD;
    let der = base64.decode(text(object, "/spec/stubPKCS10Request")).unwrap_or_default();
    match X509CertificationRequest::from_der(&der) {
        Ok(([], request)) => Ok(then(&request)),
        _ => Err("must be a valid DER-serialized PKCS#10 certificate signing request".to_owned()),
    }
}

/// What is wrong with a Pod's request: it must be signed by the key that it is about.
pub(super) fn judge_request(object: &Value) -> Vec<FieldError> {
    let verified = requested(object, |request| {
        request.verify_signature().map_err(|_| "could not verify the request's signature".to_owned())
    });
    let why = verified.and_then(|verified| verified).err();
    why.map(|why| FieldError::invalid_whole("spec.stubPKCS10Request", why)).into_iter().collect()
}

/// What is wrong with the certificates that a signer brings to a Pod's request.
pub(super) fn judge_chain(new: &Value, old: &Value, now: Timestamp) -> Vec<FieldError> {
    let chain = text(new, "/status/certificateChain");
    if chain.is_empty() || chain == text(old, "/status/certificateChain") {
        return Vec::new();
    }
    let refused = |why: &str| vec![FieldError::invalid(CHAIN, chain, why)];
    let Ok(blocks) = Pem::iter_from_buffer(chain.as_bytes()).collect::<Result<Vec<Pem>, _>>() else {
        return refused("issued certificate chain has a block that is broken or has PEM block headers");
    };
    let Some((leaf, rest)) = blocks.split_first() else {
        return refused("issued certificate chain must contain at least one certificate");
    };
    if blocks.iter().any(|block| block.label != "CERTIFICATE") {
        return refused("issued certificate chain must consist entirely of CERTIFICATE PEM blocks");
    }
    let Some(leaf) = certificate(leaf) else {
        return refused("leaf certificate does not parse as valid X.509");
    };
    if rest.iter().any(|block| certificate(block).is_none()) {
        return refused("intermediate certificate does not parse as valid X.509");
    }
    let own_key =
        requested(old, |request| request.certification_request_info.subject_pki.raw == leaf.public_key().raw);
    if own_key != Ok(true) {
        return refused("leaf certificate was not issued to the requested public key");
    }
    times(new, &leaf, now).into_iter().collect()
}

/// The times that stand beside a certificate are its own, and are asked for.
fn times(object: &Value, leaf: &X509Certificate<'_>, now: Timestamp) -> Option<FieldError> {
    let given = |key: &str| text(object, &format!("/status/{key}")).parse::<Timestamp>().ok();
    let wrong = |key: &str, why: &str| {
        let path = format!("status.{key}");
        Some(FieldError::invalid(path, text(object, &format!("/status/{key}")), why))
    };
    let (begin, end) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
    // What is missing is told by the kind's own rules.
    let (not_before, not_after, refresh) =
        (given("notBefore")?, given("notAfter")?, given("beginRefreshAt")?);
    if not_before.as_second() != begin {
        return wrong("notBefore", "must be set to the NotBefore time encoded in the leaf certificate");
    }
    if now.duration_since(not_before).abs() >= SKEW {
        return wrong("notBefore", "must be set to within 5 minutes of kube-apiserver's current time");
    }
    if not_after.as_second() != end {
        return wrong("notAfter", "must be set to the NotAfter time encoded in the leaf certificate");
    }
    let life = end - begin;
    let life_max = object.pointer("/spec/maxExpirationSeconds").and_then(Value::as_i64).unwrap_or(i64::MAX);
    if life < LIFE_SECONDS_MIN {
        let why = "leaf certificate lifetime must be >= 1 hour";
        return Some(FieldError::invalid(CHAIN, life, why));
    }
    if life > life_max {
        let why = format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({life_max})");
        return Some(FieldError::invalid(CHAIN, life, why));
    }
    if refresh.duration_since(not_before) < REFRESH {
        return wrong("beginRefreshAt", "must be at least 10 minutes after status.notBefore");
    }
    if not_after.duration_since(refresh) < REFRESH {
        return wrong("beginRefreshAt", "must be at least 10 minutes before status.notAfter");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn authority() -> Vec<u8> {
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn pem(headers: &str, text: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{headers}{text}\n-----END CERTIFICATE-----\n")
    }

    /// Blocks that no certificate is, and why; and a good one.
    fn bad() -> ([(String, &'static str); 4], String) {
        let der = authority();
        let base64 = |der: &[u8]| base64::engine::general_purpose::STANDARD.encode(der);
        let (text, longer) = (base64(&der), base64(&[der.as_slice(), &[0]].concat()));
        let broken = "broken or has PEM block headers";
        let bad = [
            (pem("", "*"), broken),
            (pem("A: b\n\n", &text), broken),
            (pem("", &text).replace("-----END CERTIFICATE-----\n", ""), broken),
            (pem("", &longer), "not parse as"),
        ];
        (bad, pem("", &text))
    }

    #[test]
    fn a_bundle_is_of_whole_certificates_alone() {
        let (bad, good) = bad();
        let told = |bundle: String| {
            let errors = judge(&json!({ "spec": { "trustBundle": bundle } }));
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(format!("who\n{good}and more\n")), [""; 0], "what stands around them is nobody's");
        for (bad, why) in bad {
            let told = told(format!("{good}{bad}"));
            assert!(told.len() == 1 && told[0].contains("entry 1") && told[0].contains(why), "{told:?}");
        }
    }

    #[test]
    fn a_chain_is_of_whole_certificates_alone() {
        let (bad, good) = bad();
        for (bad, why) in bad {
            for chain in [format!("{good}{bad}"), bad] {
                let new = json!({ "status": { "certificateChain": chain } });
                let told = judge_chain(&new, &json!({}), Timestamp::UNIX_EPOCH);
                let why = if why == "not parse as" { "does not parse as valid X.509" } else { why };
                assert!(told.len() == 1 && told[0].to_string().ends_with(why), "{chain}: {told:?}");
            }
        }
    }
}
