//! Validation of ClusterTrustBundles, but for the certificates within, which take cryptography to judge.

use serde_json::Value;

use super::{IMMUTABLE, Rules, certificates, name, rules, text};
use crate::status::{Errors, FieldError};

/// Most that a bundle may hold, bytes.
const BUNDLE_BYTES_MAX: usize = 1024 * 1024;

/// A ClusterTrustBundle.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| bundle(object, errors),
    update: |new, old, _, errors| {
        bundle(new, errors);
        let signer = |object: &Value| object.pointer("/spec/signerName").cloned().unwrap_or("".into());
        if signer(new) != signer(old) {
            errors.push(FieldError::invalid("spec.signerName", signer(new), IMMUTABLE));
        }
    },
    status: |_, _| {},
};

fn bundle(bundle: &Value, errors: &mut Errors) {
    let spec = bundle.get("spec").unwrap_or(&Value::Null);
    let own = bundle.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("");
    let signer = text(spec, "signerName");
    if !own.is_empty() {
        rules(name_rules(own, signer), "metadata.name", own, errors);
    }
    if !signer.is_empty() {
        certificates::signer(signer, errors);
    }
    if text(spec, "trustBundle").len() > BUNDLE_BYTES_MAX {
        errors.push(FieldError::too_long("spec.trustBundle", BUNDLE_BYTES_MAX));
    }
}

/// A signer's bundles begin with its name.
fn name_rules(own: &str, signer: &str) -> Vec<String> {
    if signer.is_empty() {
        if own.contains(':') {
            return vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()];
        }
        return name::dns_subdomain(own);
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match own.strip_prefix(&prefix) {
        Some(rest) => name::dns_subdomain(rest),
        None => {
            vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")]
        }
    }
}
