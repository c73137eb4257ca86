//! Validation of what a container has of its Pod's volumes: mounts and block devices.

use std::collections::HashSet;

use serde_json::Value;

use super::super::{flag, items, one_of, text, volume};
use super::Around;
use crate::status::{Errors, FieldError};

/// The mounts of a container at `path`. Where Kubernetes names the list and not the mount, so does this.
pub(super) fn mounts(container: &Value, path: &str, around: &Around<'_>, errors: &mut Errors) {
    let mut paths = HashSet::new();
    let all = format!("{path}.volumeMounts");
    let devices = |key: &str| -> HashSet<&str> {
        items(container, "volumeDevices").iter().map(|device| text(device, key)).collect()
    };
    let (device_names, device_paths) = (devices("name"), devices("devicePath"));
    for (at, mount) in items(container, "volumeMounts").iter().enumerate() {
        let path = format!("{all}[{at}]");
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !around.volumes.contains_key(name) {
            errors.push(FieldError::not_found(format!("{path}.name"), name));
        }
        if target.is_empty() {
            errors.push(FieldError::required(format!("{path}.mountPath"), ""));
        } else if !paths.insert(target) {
            errors.push(FieldError::invalid(format!("{path}.mountPath"), target, "must be unique"));
        }
        if device_names.contains(name) {
            let why = "must not already exist in volumeDevices";
            errors.push(FieldError::invalid(format!("{path}.name"), name, why));
        }
        if device_paths.contains(target) {
            let why = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(format!("{path}.mountPath"), target, why));
        }
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        volume::relative_path(sub, &format!("{all}.subPath"), errors);
        if !sub.is_empty() && !expression.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(format!("{path}.subPathExpr"), expression, why));
        }
        volume::relative_path(expression, &format!("{all}.subPathExpr"), errors);
        propagation(container, mount, &all, errors);
    }
}

fn propagation(container: &Value, mount: &Value, path: &str, errors: &mut Errors) {
    let modes = ["Bidirectional", "HostToContainer", "None"];
    one_of(mount, path, "mountPropagation", &modes, false, errors);
    let mode = text(mount, "mountPropagation");
    let privileged = container.get("securityContext").is_some_and(|context| flag(context, "privileged"));
    if mode == "Bidirectional" && !privileged {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(FieldError::forbidden(format!("{path}.mountPropagation"), why));
    }
    one_of(mount, path, "recursiveReadOnly", &["Disabled", "Enabled", "IfPossible"], false, errors);
    if matches!(text(mount, "recursiveReadOnly"), "Enabled" | "IfPossible") {
        let mut wrong = |why: &str| {
            errors.push(FieldError::forbidden(format!("{path}.recursiveReadOnly"), why));
        };
        if !flag(mount, "readOnly") {
            wrong("may only be specified when readOnly is true");
        }
        if !matches!(mode, "" | "None") {
            wrong("may only be specified when mountPropagation is None or not specified");
        }
    }
}

/// The block devices of a container at `path`.
pub(super) fn devices(container: &Value, path: &str, around: &Around<'_>, errors: &mut Errors) {
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    let mounts = |key: &str| -> HashSet<&str> {
        items(container, "volumeMounts").iter().map(|mount| text(mount, key)).collect()
    };
    let (mount_names, mount_paths) = (mounts("name"), mounts("mountPath"));
    for (at, device) in items(container, "volumeDevices").iter().enumerate() {
        let path = format!("{path}.volumeDevices[{at}]");
        let (name, target) = (text(device, "name"), text(device, "devicePath"));
        let (name_path, target_path) = (format!("{path}.name"), format!("{path}.devicePath"));
        if name.is_empty() {
            errors.push(FieldError::required(&name_path, ""));
        } else if !names.insert(name) {
            errors.push(FieldError::invalid(&name_path, name, "must be unique"));
        }
        match around.volumes.get(name) {
            None => errors.push(FieldError::not_found(&name_path, name)),
            Some(volume) => {
                let fits = ["persistentVolumeClaim", "ephemeral"].iter().any(|s| volume.get(*s).is_some());
                if !fits {
                    let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                    errors.push(FieldError::invalid(&name_path, name, why));
                }
            }
        }
        if target.is_empty() {
            errors.push(FieldError::required(&target_path, ""));
        } else if !paths.insert(target) {
            errors.push(FieldError::invalid(&target_path, target, "must be unique"));
        }
        if target.split('/').any(|part| part == "..") {
            let why = "can not contain backsteps ('..')";
            errors.push(FieldError::invalid(&target_path, target, why));
        }
        if mount_names.contains(name) {
            let why = "must not already exist in volumeMounts";
            errors.push(FieldError::invalid(name_path, name, why));
        }
        if mount_paths.contains(target) {
            let why = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(target_path, target, why));
        }
    }
}
