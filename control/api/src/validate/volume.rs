//! Validation of a Pod's volumes.

use std::collections::HashSet;

use serde_json::Value;

use super::{items, name, one_of, rules, text};
use crate::quantity::Quantity;
use crate::status::{Errors, FieldError};

/// The volumes of a Pod's spec at `path`.
pub(super) fn volumes(spec: &Value, path: &str, errors: &mut Errors) {
    let mut names = HashSet::new();
    for (at, volume) in items(spec, "volumes").iter().enumerate() {
        let path = format!("{path}.volumes[{at}]");
        let given = text(volume, "name");
        if given.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else {
            rules(name::dns_label(given), &format!("{path}.name"), given, errors);
            if !names.insert(given.to_owned()) {
                errors.push(FieldError::duplicate(format!("{path}.name"), given));
            }
        }
        source(volume, &path, errors);
    }
}

fn source(volume: &Value, path: &str, errors: &mut Errors) {
    let sources: Vec<&String> =
        volume.as_object().into_iter().flatten().map(|(key, _)| key).filter(|key| *key != "name").collect();
    if sources.is_empty() {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
    for second in sources.iter().skip(1) {
        let why = "may not specify more than 1 volume type";
        errors.push(FieldError::forbidden(format!("{path}.{second}"), why));
    }
    let Some((kind, source)) = sources.first().and_then(|kind| Some((kind.as_str(), volume.get(*kind)?)))
    else {
        return;
    };
    let path = format!("{path}.{kind}");
    match kind {
        "emptyDir" => {
            if let Some(limit) = source.get("sizeLimit")
                && Quantity::from_value(limit).is_ok_and(Quantity::is_negative)
            {
                let why = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(format!("{path}.sizeLimit"), limit.clone(), why));
            }
        }
        "hostPath" => host_path(source, &path, errors),
        "configMap" => required(source, &path, "name", errors),
        "secret" => required(source, &path, "secretName", errors),
        "persistentVolumeClaim" => required(source, &path, "claimName", errors),
        "projected" => projected(source, &path, errors),
        _ => {}
    }
    files(source, &path, errors);
}

/// A path of the node's.
pub(super) fn host_path(source: &Value, path: &str, errors: &mut Errors) {
    const TYPES: &[&str] =
        &["DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];
    required(source, path, "path", errors);
    if text(source, "path").split('/').any(|part| part == "..") {
        let why = "must not contain '..'";
        errors.push(FieldError::invalid(format!("{path}.path"), text(source, "path"), why));
    }
    one_of(source, path, "type", TYPES, false, errors);
}

fn projected(source: &Value, path: &str, errors: &mut Errors) {
    for (at, inner) in items(source, "sources").iter().enumerate() {
        let path = format!("{path}.sources[{at}]");
        for key in ["configMap", "secret"] {
            if let Some(inner) = inner.get(key) {
                required(inner, &format!("{path}.{key}"), "name", errors);
                files(inner, &format!("{path}.{key}"), errors);
            }
        }
        if let Some(token) = inner.get("serviceAccountToken") {
            let path = format!("{path}.serviceAccountToken");
            required(token, &path, "path", errors);
            let seconds = token.get("expirationSeconds").and_then(Value::as_i64).unwrap_or(3600);
            let seconds_path = format!("{path}.expirationSeconds");
            if seconds < 600 {
                errors.push(FieldError::invalid(
                    seconds_path,
                    seconds,
                    "may not specify a duration less than 10 minutes",
                ));
            } else if seconds > 1 << 32 {
                errors.push(FieldError::invalid(
                    seconds_path,
                    seconds,
                    "may not specify a duration larger than 2^32 seconds",
                ));
            }
        }
        if let Some(inner) = inner.get("downwardAPI") {
            files(inner, &format!("{path}.downwardAPI"), errors);
        }
    }
}

/// `items` and modes of a volume that is made of files.
fn files(source: &Value, path: &str, errors: &mut Errors) {
    let mode = |value: Option<&Value>, path: String, errors: &mut Errors| {
        if let Some(mode) = value.and_then(Value::as_i64).filter(|m| !(0..=0o777).contains(m)) {
            let why = "must be a number between 0 and 0777 (octal), both inclusive";
            errors.push(FieldError::invalid(path, mode, why));
        }
    };
    mode(source.get("defaultMode"), format!("{path}.defaultMode"), errors);
    for (at, item) in items(source, "items").iter().enumerate() {
        let path = format!("{path}.items[{at}]");
        required(item, &path, "path", errors);
        relative_path(text(item, "path"), &format!("{path}.path"), errors);
        mode(item.get("mode"), format!("{path}.mode"), errors);
    }
}

/// A path that must stay below its start.
pub(super) fn relative_path(value: &str, path: &str, errors: &mut Errors) {
    if value.starts_with('/') {
        errors.push(FieldError::invalid(path, value, "must be a relative path"));
    }
    if value.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, value, "must not contain '..'"));
    }
}

/// A text that must be there.
pub(super) fn required(source: &Value, path: &str, key: &str, errors: &mut Errors) {
    if text(source, key).is_empty() {
        errors.push(FieldError::required(format!("{path}.{key}"), ""));
    }
}
