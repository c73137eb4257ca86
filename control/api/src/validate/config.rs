//! Validation of ConfigMap, Secret, ServiceAccount, Namespace, Lease and Event.

use serde_json::Value;

use super::{IMMUTABLE, Rules, entries, flag, items, name, not_negative, rules, text};
use crate::status::{Errors, FieldError};

/// Bound on the data of a ConfigMap or Secret, bytes.
const DATA_BYTES_MAX: usize = 1024 * 1024;

/// A ConfigMap.
pub(crate) static CONFIG_MAP: Rules = Rules {
    create: |object, _, errors| config_map(object, errors),
    update: |new, old, _, errors| {
        config_map(new, errors);
        immutable(new, old, errors);
    },
    status: |_, _| {},
};
/// A Secret.
pub(crate) static SECRET: Rules = Rules {
    create: |object, _, errors| secret(object, errors),
    update: |new, old, _, errors| {
        secret(new, errors);
        type_stays(new, old, errors);
        immutable(new, old, errors);
    },
    status: |_, _| {},
};
/// A ServiceAccount.
pub(crate) static SERVICE_ACCOUNT: Rules = Rules {
    create: |object, _, errors| service_account(object, errors),
    update: |new, _, _, errors| service_account(new, errors),
    status: |_, _| {},
};
/// A Namespace.
pub(crate) static NAMESPACE: Rules = Rules {
    create: |object, _, errors| namespace(object, errors),
    update: |new, _, _, errors| namespace(new, errors),
    status: |_, _| {},
};
/// A Lease.
pub(crate) static LEASE: Rules = Rules {
    create: |object, _, errors| lease(object, errors),
    update: |new, _, _, errors| lease(new, errors),
    status: |_, _| {},
};
/// An Event.
pub(crate) static EVENT: Rules = Rules {
    create: |object, _, errors| event(object, errors),
    update: |new, _, _, errors| event(new, errors),
    status: |_, _| {},
};

pub(super) fn config_map(map: &Value, errors: &mut Errors) {
    let mut bytes = 0;
    for list in ["data", "binaryData"] {
        for (key, value) in entries(map, list) {
            rules(name::config_key(key), &format!("{list}[{key}]"), key, errors);
            bytes += decoded_bytes(value, list == "binaryData");
        }
    }
    for (key, _) in entries(map, "data") {
        if map.get("binaryData").is_some_and(|b| b.get(key).is_some()) {
            let why = format!("duplicate of key present in binaryData: {key}");
            errors.push(FieldError::invalid(format!("data[{key}]"), key.as_str(), why));
        }
    }
    if bytes > DATA_BYTES_MAX {
        errors.push(FieldError::too_long("", DATA_BYTES_MAX));
    }
}

fn decoded_bytes(value: &Value, base64: bool) -> usize {
    let length = value.as_str().map_or(0, str::len);
    if base64 { length / 4 * 3 } else { length }
}

pub(super) fn secret(secret: &Value, errors: &mut Errors) {
    let mut bytes = 0;
    for (key, value) in entries(secret, "data") {
        rules(name::config_key(key), &format!("data[{key}]"), key, errors);
        bytes += decoded_bytes(value, true);
    }
    if bytes > DATA_BYTES_MAX {
        errors.push(FieldError::too_long("data", DATA_BYTES_MAX));
    }
    let required: &[&str] = match text(secret, "type") {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    };
    for key in required {
        if secret.get("data").and_then(|d| d.get(*key)).is_none() {
            errors.push(FieldError::required(format!("data[{key}]"), ""));
        }
    }
    if text(secret, "type") == "kubernetes.io/service-account-token" {
        let account = secret.pointer("/metadata/annotations/kubernetes.io~1service-account.name");
        if account.and_then(Value::as_str).unwrap_or("").is_empty() {
            errors.push(FieldError::required("metadata.annotations[kubernetes.io/service-account.name]", ""));
        }
    }
}

/// Changes that a stored ConfigMap or Secret allows.
fn type_stays(new: &Value, old: &Value, errors: &mut Errors) {
    if text(new, "type") != text(old, "type") {
        errors.push(FieldError::invalid("type", text(new, "type"), IMMUTABLE));
    }
}

/// What is said to be immutable is.
fn immutable(new: &Value, old: &Value, errors: &mut Errors) {
    if !flag(old, "immutable") {
        return;
    }
    let why = "field is immutable when `immutable` is set";
    if !flag(new, "immutable") {
        errors.push(FieldError::forbidden("immutable", why));
    }
    for key in ["data", "binaryData"] {
        if !entries(new, key).eq(entries(old, key)) {
            errors.push(FieldError::forbidden(key, why));
        }
    }
}

pub(super) fn service_account(account: &Value, errors: &mut Errors) {
    for (at, secret) in items(account, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            errors.push(FieldError::required(format!("imagePullSecrets[{at}].name"), ""));
        }
    }
}

pub(super) fn namespace(namespace: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = namespace.get("spec").unwrap_or(&empty);
    for (at, finalizer) in items(spec, "finalizers").iter().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or("");
        let path = format!("spec.finalizers[{at}]");
        rules(name::qualified(finalizer), &path, finalizer, errors);
        if finalizer != "kubernetes" && !finalizer.contains('/') {
            errors.push(FieldError::invalid(
                path,
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
}

pub(super) fn lease(lease: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = lease.get("spec").unwrap_or(&empty);
    if let Some(seconds) = spec.get("leaseDurationSeconds").and_then(Value::as_i64).filter(|s| *s <= 0) {
        errors.push(FieldError::invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"));
    }
    not_negative(spec, "spec", "leaseTransitions", errors);
}

pub(super) fn event(event: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let about = event.get("involvedObject").unwrap_or(&empty);
    let (namespace, own) =
        (text(about, "namespace"), event.pointer("/metadata/namespace").and_then(Value::as_str));
    let own = own.unwrap_or("");
    // Events about cluster-scoped objects live in `default`.
    let fits =
        if namespace.is_empty() { matches!(own, "default" | "kube-system" | "") } else { namespace == own };
    if !fits {
        errors.push(FieldError::invalid(
            "involvedObject.namespace",
            namespace,
            "does not match event.namespace",
        ));
    }
}
