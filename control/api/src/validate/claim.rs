//! Validation of PersistentVolumeClaims.

use serde_json::Value;

use super::selector::label_selector;
use super::{Rules, amount, items, name, one_of, rules, same, text};
use crate::status::{Errors, FieldError};

/// How a volume may be mounted.
const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// What a volume shows of itself.
pub(super) const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

/// A PersistentVolumeClaim.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| claim(object, errors),
    update: |new, old, _, errors| {
        claim(new, errors);
        update(new, old, errors);
    },
    status: |_, _| {},
};

fn claim(claim: &Value, errors: &mut Errors) {
    spec(claim.get("spec").unwrap_or(&Value::Null), "spec", errors);
}

/// A claim's spec at `path`.
pub(super) fn spec(spec: &Value, path: &str, errors: &mut Errors) {
    if items(spec, "accessModes").is_empty() {
        let why = "at least 1 access mode is required";
        errors.push(FieldError::required(format!("{path}.accessModes"), why));
    }
    if let Some(selector) = spec.get("selector").filter(|s| !s.is_null()) {
        label_selector(selector, &format!("{path}.selector"), errors);
    }
    access_modes(spec, path, errors);
    let size_path = format!("{path}.resources[storage]");
    match spec.pointer("/resources/requests/storage") {
        None => errors.push(FieldError::required(size_path, "")),
        Some(size) => amount::positive(size, &size_path, errors),
    }
    for key in ["storageClassName", "volumeAttributesClassName"] {
        let class = text(spec, key);
        if !class.is_empty() {
            rules(name::dns_subdomain(class), &format!("{path}.{key}"), class, errors);
        }
    }
    one_of(spec, path, "volumeMode", VOLUME_MODES, false, errors);
    sources(spec, path, errors);
}

/// Ways to mount; the one that is for a single Pod goes with no other.
pub(super) fn access_modes(spec: &Value, path: &str, errors: &mut Errors) {
    let path = format!("{path}.accessModes");
    let modes: Vec<&str> = items(spec, "accessModes").iter().filter_map(Value::as_str).collect();
    for mode in &modes {
        if !ACCESS_MODES.contains(mode) {
            errors.push(FieldError::not_supported(&path, *mode, ACCESS_MODES));
        }
    }
    let single = |mode: &&str| *mode == "ReadWriteOncePod";
    if modes.iter().any(single) && modes.iter().any(|mode| !single(mode) && ACCESS_MODES.contains(mode)) {
        errors.push(FieldError::forbidden(path, "may not use ReadWriteOncePod with other access modes"));
    }
}

/// What the volume is filled from: two fields, the older of which has no namespace.
fn sources(spec: &Value, path: &str, errors: &mut Errors) {
    let of = |key: &str| spec.get(key).filter(|s| !s.is_null());
    for key in ["dataSource", "dataSourceRef"] {
        let Some(source) = of(key) else { continue };
        let path = format!("{path}.{key}");
        for key in ["name", "kind"] {
            if text(source, key).is_empty() {
                errors.push(FieldError::required(format!("{path}.{key}"), ""));
            }
        }
        let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(&path, kind, why));
        }
        if !group.is_empty() {
            rules(name::dns_subdomain(group), &format!("{path}.apiGroup"), group, errors);
        }
        let namespace = text(source, "namespace");
        if !namespace.is_empty() {
            rules(name::dns_label(namespace), &format!("{path}.namespace"), namespace, errors);
        }
    }
    let (Some(old), Some(new)) = (of("dataSource"), of("dataSourceRef")) else { return };
    let differ = ["apiGroup", "kind", "name"].iter().any(|key| text(old, key) != text(new, key));
    let why = if !text(new, "namespace").is_empty() {
        "may not be specified when dataSourceRef.namespace is specified"
    } else if differ {
        "must match dataSourceRef"
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, format!("{path}.dataSource"), why));
}

/// A claim stays what it is; a bound one may ask for more, and for other attributes.
fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let size = |claim: &Value| amount::quantity(claim.pointer("/spec/resources/requests/storage"));
    let mut rest = new.get("spec").cloned().unwrap_or_default();
    let mut before = old.get("spec").cloned().unwrap_or_default();
    if text(&before, "volumeName").is_empty() {
        before["volumeName"] = rest["volumeName"].clone();
    }
    if before["storageClassName"].is_null() && may_get_class(new, old) {
        rest["storageClassName"] = Value::Null;
    }
    if new.pointer("/status/phase").is_some_and(|phase| phase == "Bound")
        && let Some(now) = rest.pointer_mut("/resources/requests/storage")
        && let Some(was) = before.pointer("/resources/requests/storage")
    {
        *now = was.clone();
    }
    rest["volumeAttributesClassName"] = before["volumeAttributesClassName"].clone();
    if !same(&rest, &before) {
        errors.push(FieldError::forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ));
    }
    if let (Some(now), Some(was)) = (size(new), size(old))
        && now < was
        && amount::quantity(old.pointer("/status/capacity/storage")).is_some_and(|given| now <= given)
    {
        let why = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden("spec.resources.requests.storage", why));
    }
    attributes_class(new, old, errors);
}

/// A claim without a class may get one, by its annotation of old if it has that.
fn may_get_class(new: &Value, old: &Value) -> bool {
    let annotation = old.pointer("/metadata/annotations/volume.beta.kubernetes.io~1storage-class");
    let class = &new["spec"]["storageClassName"];
    !class.is_null() && annotation.is_none_or(|annotation| annotation == class)
}

/// A class of attributes may become another one, never none.
pub(super) fn attributes_class(new: &Value, old: &Value, errors: &mut Errors) {
    let (now, was) = (&new["spec"]["volumeAttributesClassName"], &old["spec"]["volumeAttributesClassName"]);
    if was.is_null() || now == was {
        return;
    }
    let why = match now.as_str() {
        None => "update from non-nil value to nil is forbidden",
        Some("") => "update from non-nil value to an empty string is forbidden",
        Some(_) => return,
    };
    errors.push(FieldError::forbidden("spec.volumeAttributesClassName", why));
}
