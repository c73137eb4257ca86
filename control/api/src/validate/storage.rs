//! Validation of StorageClasses, VolumeAttributesClasses and VolumeAttachments.

use std::collections::HashSet;

use serde_json::Value;

use super::{IMMUTABLE, Rules, csi, entries, items, name, one_of_root, rules, text};
use crate::status::{Errors, FieldError};

/// Bounds on the parameters of a class: how many, and all bytes together.
const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
/// Bounds on what an attacher says of a volume, bytes.
const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: usize = 1024;

/// A StorageClass.
pub(crate) static CLASS: Rules = Rules {
    create: |object, _, errors| class(object, errors),
    update: |new, old, _, errors| {
        stays(new, old, "provisioner", errors);
        stays(new, old, "parameters", errors);
        for key in ["reclaimPolicy", "volumeBindingMode"] {
            if text(new, key) != text(old, key) {
                errors.push(FieldError::invalid(key, text(new, key), IMMUTABLE));
            }
        }
        topologies(new, errors);
    },
    status: |_, _| {},
};
/// A VolumeAttributesClass.
pub(crate) static ATTRIBUTES_CLASS: Rules = Rules {
    create: |object, _, errors| attributes_class(object, errors),
    update: |new, old, _, errors| {
        stays(new, old, "driverName", errors);
        stays(new, old, "parameters", errors);
        attributes_class(new, errors);
    },
    status: |_, _| {},
};
/// A VolumeAttachment.
pub(crate) static ATTACHMENT: Rules = Rules {
    create: |object, _, errors| {
        attachment(object, errors);
        attachment_status(object, errors);
    },
    update: |new, old, _, errors| {
        attachment(new, errors);
        let spec = |object: &Value| object.get("spec").cloned().unwrap_or_default();
        if spec(new) != spec(old) {
            errors.push(FieldError::invalid("spec", spec(new), IMMUTABLE));
        }
    },
    status: attachment_status,
};

fn stays(new: &Value, old: &Value, key: &str, errors: &mut Errors) {
    let value = |object: &Value| object.get(key).filter(|v| !v.is_null()).cloned();
    if value(new) != value(old) {
        errors.push(FieldError::forbidden(key, format!("updates to {key} are forbidden.")));
    }
}

fn class(class: &Value, errors: &mut Errors) {
    provisioner(class, "provisioner", errors);
    parameters(class, errors);
    one_of_root(class, "reclaimPolicy", &["Delete", "Retain"], errors);
    one_of_root(class, "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], errors);
    topologies(class, errors);
}

fn attributes_class(class: &Value, errors: &mut Errors) {
    provisioner(class, "driverName", errors);
    if entries(class, "parameters").next().is_none() {
        errors.push(FieldError::required("parameters", "must contain at least one parameter"));
    }
    parameters(class, errors);
}

fn provisioner(class: &Value, key: &str, errors: &mut Errors) {
    let given = text(class, key);
    if given.is_empty() {
        errors.push(FieldError::required(key, ""));
    } else {
        rules(name::qualified(&given.to_lowercase()), key, given, errors);
    }
}

fn parameters(class: &Value, errors: &mut Errors) {
    let (mut count, mut bytes) = (0, 0);
    for (key, value) in entries(class, "parameters") {
        if key.is_empty() {
            errors.push(FieldError::invalid("parameters", key.as_str(), "field can not be empty."));
        }
        count += 1;
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if count > PARAMETERS_MAX {
        errors.push(FieldError::too_long("parameters", PARAMETERS_MAX));
    } else if bytes > PARAMETERS_BYTES_MAX {
        errors.push(FieldError::too_long("parameters", PARAMETERS_BYTES_MAX));
    }
}

fn topologies(class: &Value, errors: &mut Errors) {
    let terms = items(class, "allowedTopologies");
    let mut known = HashSet::new();
    for (at, term) in terms.iter().enumerate() {
        let path = format!("allowedTopologies[{at}].matchLabelExpressions");
        let mut keys = HashSet::new();
        for (at, expression) in items(term, "matchLabelExpressions").iter().enumerate() {
            let (path, key) = (format!("{path}[{at}]"), text(expression, "key"));
            let values = items(expression, "values");
            if values.is_empty() {
                errors.push(FieldError::required(format!("{path}.values"), ""));
            }
            let mut seen = HashSet::new();
            for (at, value) in values.iter().enumerate().filter(|(_, value)| !seen.insert(*value)) {
                errors.push(FieldError::duplicate(format!("{path}.values[{at}]"), value.clone()));
            }
            rules(name::qualified(key), &format!("{path}.key"), key, errors);
            if !keys.insert(key) {
                errors.push(FieldError::duplicate(format!("{path}.key"), key));
            }
        }
        if !known.insert(term) {
            errors.push(FieldError::duplicate(path, ""));
        }
    }
}

fn attachment(attachment: &Value, errors: &mut Errors) {
    let spec = attachment.get("spec").unwrap_or(&Value::Null);
    csi::driver_name(text(spec, "attacher"), "spec.attacher", errors);
    let source = spec.get("source").unwrap_or(&Value::Null);
    let given = |key: &str| source.get(key).filter(|v| !v.is_null());
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (given("inlineVolumeSpec"), given("persistentVolumeName").and_then(Value::as_str)) {
        (None, None) => errors.push(FieldError::required("spec.source", one)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden("spec.source", one)),
        (None, Some("")) => {
            let why = "must specify non empty persistentVolumeName";
            errors.push(FieldError::required("spec.source.persistentVolumeName", why));
        }
        (None, Some(volume)) => {
            rules(name::dns_subdomain(volume), "spec.source.persistentVolumeName", volume, errors);
        }
        (Some(_), None) => {}
    }
    let node = text(spec, "nodeName");
    rules(name::dns_subdomain(node), "spec.nodeName", node, errors);
}

fn attachment_status(attachment: &Value, errors: &mut Errors) {
    let Some(status) = attachment.get("status") else { return };
    let bytes: usize = entries(status, "attachmentMetadata")
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > METADATA_BYTES_MAX {
        errors.push(FieldError::too_long("status.attachmentMetadata", METADATA_BYTES_MAX));
    }
    for key in ["attachError", "detachError"] {
        let Some(error) = status.get(key) else { continue };
        if text(error, "message").len() > MESSAGE_BYTES_MAX {
            errors.push(FieldError::too_long(format!("status.{key}.message"), MESSAGE_BYTES_MAX));
        }
        if let Some(code) = error.get("errorCode").and_then(Value::as_i64).filter(|code| *code < 0) {
            let why = "must be between 0 and 2147483647, inclusive";
            errors.push(FieldError::invalid(format!("status.{key}.errorCode"), code, why));
        }
    }
}
