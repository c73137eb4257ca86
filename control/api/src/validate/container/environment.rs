//! Validation of a container's environment.

use serde_json::Value;

use super::super::{items, name, rules, text};
use super::Around;
use crate::status::{Errors, FieldError};

pub(super) fn environment(container: &Value, path: &str, around: &Around<'_>, errors: &mut Errors) {
    for (at, variable) in items(container, "env").iter().enumerate() {
        let path = format!("{path}.env[{at}]");
        let given = text(variable, "name");
        if given.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else {
            rules(name::env_name(given), &format!("{path}.name"), given, errors);
        }
        if let Some(source) = variable.get("valueFrom") {
            value_from(variable, source, &path, around, errors);
        }
    }
    for (at, source) in items(container, "envFrom").iter().enumerate() {
        let path = format!("{path}.envFrom[{at}]");
        let named = ["configMapRef", "secretRef"].map(|key| source.get(key).map(|r| (key, r)));
        match named {
            [None, None] => {
                let why = "must specify one of: `configMapRef` or `secretRef`";
                errors.push(FieldError::invalid(path, "", why));
            }
            [Some(_), Some(_)] => {
                errors.push(FieldError::invalid(
                    path,
                    "",
                    "may not have more than one field specified at a time",
                ));
            }
            [Some((key, reference)), None] | [None, Some((key, reference))] => {
                if text(reference, "name").is_empty() {
                    errors.push(FieldError::required(format!("{path}.{key}.name"), ""));
                }
            }
        }
    }
}

fn value_from(variable: &Value, source: &Value, path: &str, around: &Around<'_>, errors: &mut Errors) {
    const FIELDS: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    const SOURCES: &[&str] =
        &["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let path = format!("{path}.valueFrom");
    if !text(variable, "value").is_empty() {
        errors.push(FieldError::invalid(&path, "", "may not be specified when `value` is not empty"));
    }
    match SOURCES.iter().filter(|key| source.get(**key).is_some()).count() {
        0 => {
            let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            errors.push(FieldError::invalid(&path, "", why));
        }
        1 => {}
        _ => errors.push(FieldError::invalid(
            &path,
            "",
            "may not have more than one field specified at a time",
        )),
    }
    if let Some(field) = source.get("fieldRef") {
        let field_path = text(field, "fieldPath");
        let at = format!("{path}.fieldRef.fieldPath");
        let subscripted =
            field_path.starts_with("metadata.labels['") || field_path.starts_with("metadata.annotations['");
        if field_path.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if !FIELDS.contains(&field_path) && !subscripted {
            errors.push(FieldError::not_supported(at, field_path, FIELDS));
        }
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = source.get(key) {
            for part in ["name", "key"] {
                if text(reference, part).is_empty() {
                    errors.push(FieldError::required(format!("{path}.{key}.{part}"), ""));
                }
            }
        }
    }
    if let Some(reference) = source.get("resourceFieldRef")
        && text(reference, "resource").is_empty()
    {
        errors.push(FieldError::required(format!("{path}.resourceFieldRef.resource"), ""));
    }
    if let Some(file) = source.get("fileKeyRef") {
        file_key(file, &format!("{path}.fileKeyRef"), around, errors);
    }
}

/// A key of a file that another container writes.
fn file_key(file: &Value, path: &str, around: &Around<'_>, errors: &mut Errors) {
    for (key, rule) in [("key", name::env_name as fn(&str) -> Vec<String>), ("volumeName", name::dns_label)] {
        let (given, path) = (text(file, key), format!("{path}.{key}"));
        if given.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else {
            rules(rule(given), &path, given, errors);
        }
    }
    let within = format!("{path}.path");
    if text(file, "path").is_empty() {
        errors.push(FieldError::required(within, ""));
    } else if text(file, "path").split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(within, text(file, "path"), "must not contain '..'"));
    }
    let (volume, path) = (text(file, "volumeName"), format!("{path}.volumeName"));
    match around.volumes.get(volume) {
        None => errors.push(FieldError::not_found(path, volume)),
        Some(found) if found.get("emptyDir").is_none() => {
            let why = "referenced volume must be of type emptyDir";
            errors.push(FieldError::invalid(path, volume, why));
        }
        Some(_) => {}
    }
}
