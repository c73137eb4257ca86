//! Security contexts: of a Pod, of a container, and what both have.

use std::collections::HashSet;

use serde_json::Value;

use super::super::{flag, items, one_of, text, volume};
use super::SECONDS_MAX;
use crate::status::{Errors, FieldError};

/// Longest name of a sysctl, bytes.
const SYSCTL_BYTES_MAX: usize = 253;
const ID_RULE: &str = "must be between 0 and 2147483647, inclusive";

/// What Pods and containers have.
fn common(context: &Value, path: &str, errors: &mut Errors) {
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(id) =
            context.get(key).and_then(Value::as_i64).filter(|id| !(0..=SECONDS_MAX).contains(id))
        {
            errors.push(FieldError::invalid(format!("{path}.{key}"), id, ID_RULE));
        }
    }
    if let Some(profile) = context.get("seccompProfile").filter(|p| !p.is_null()) {
        seccomp(profile, &format!("{path}.seccompProfile"), errors);
    }
    if let Some(profile) = context.get("appArmorProfile").filter(|p| !p.is_null()) {
        app_armor(profile, &format!("{path}.appArmorProfile"), errors);
    }
}

/// The context of a Pod's spec at `path`.
pub(super) fn of_pod(spec: &Value, path: &str, errors: &mut Errors) {
    let Some(context) = spec.get("securityContext").filter(|c| !c.is_null()) else { return };
    let path = format!("{path}.securityContext");
    common(context, &path, errors);
    for (at, group) in items(context, "supplementalGroups").iter().enumerate() {
        if !group.as_i64().is_some_and(|id| (0..=SECONDS_MAX).contains(&id)) {
            errors.push(FieldError::invalid(
                format!("{path}.supplementalGroups[{at}]"),
                group.clone(),
                ID_RULE,
            ));
        }
    }
    if flag(spec, "hostPID") && flag(spec, "shareProcessNamespace") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(format!("{path}.shareProcessNamespace"), true, why));
    }
    sysctls(context, &path, errors);
    for (key, valid) in [
        ("fsGroupChangePolicy", ["Always", "OnRootMismatch"]),
        ("supplementalGroupsPolicy", ["Merge", "Strict"]),
        ("seLinuxChangePolicy", ["MountOption", "Recursive"]),
    ] {
        one_of(context, &path, key, &valid, false, errors);
    }
}

fn sysctls(context: &Value, path: &str, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (at, sysctl) in items(context, "sysctls").iter().enumerate() {
        let path = format!("{path}.sysctls[{at}].name");
        let given = text(sysctl, "name");
        if given.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else if !is_sysctl(given) {
            let rule = "must have at most 253 characters and match regex \
                        ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.push(FieldError::invalid(path, given, rule));
        } else if !seen.insert(given) {
            errors.push(FieldError::duplicate(path, given));
        }
    }
}

fn is_sysctl(text: &str) -> bool {
    let is_end = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= SYSCTL_BYTES_MAX
        && text.split(['.', '/']).map(str::as_bytes).all(|part| {
            is_end(part.first())
                && is_end(part.last())
                && part.iter().all(|c| is_end(Some(c)) || matches!(c, b'-' | b'_'))
        })
}

fn seccomp(profile: &Value, path: &str, errors: &mut Errors) {
    let (type_, at) = (text(profile, "type"), format!("{path}.type"));
    match type_ {
        "Localhost" | "RuntimeDefault" | "Unconfined" => {}
        "" => errors.push(FieldError::required(at, "type is required when seccompProfile is set")),
        other => {
            let valid = ["Localhost", "RuntimeDefault", "Unconfined"];
            errors.push(FieldError::not_supported(at, other, &valid));
        }
    }
    let file = profile.get("localhostProfile").and_then(Value::as_str);
    let path = format!("{path}.localhostProfile");
    match (type_ == "Localhost", file) {
        (true, None) => {
            errors.push(FieldError::required(path, "must be set when seccomp type is Localhost"));
        }
        (true, Some(file)) => volume::relative_path(file, &path, errors),
        (false, Some(_)) => {
            let why = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid(path, profile.clone(), why));
        }
        (false, None) => {}
    }
}

fn app_armor(profile: &Value, path: &str, errors: &mut Errors) {
    const PROFILE_BYTES_MAX: usize = 4095;
    let name = profile.get("localhostProfile").and_then(Value::as_str);
    let at = format!("{path}.localhostProfile");
    let missing = "must be set when AppArmor type is Localhost";
    match text(profile, "type") {
        "Localhost" => match name {
            None => errors.push(FieldError::required(at, missing)),
            Some(name) => {
                if name.trim() != name {
                    errors.push(FieldError::invalid(&at, name, "must not be padded with whitespace"));
                } else if name.is_empty() {
                    errors.push(FieldError::required(&at, missing));
                }
                if name.len() > PROFILE_BYTES_MAX {
                    errors.push(FieldError::too_long(at, PROFILE_BYTES_MAX));
                }
            }
        },
        "RuntimeDefault" | "Unconfined" => {
            if let Some(name) = name {
                let why = "can only be set when AppArmor type is Localhost";
                errors.push(FieldError::invalid(at, name, why));
            }
        }
        "" => {
            let why = "type is required when appArmorProfile is set";
            errors.push(FieldError::required(format!("{path}.type"), why));
        }
        other => {
            let valid = ["Localhost", "RuntimeDefault", "Unconfined"];
            errors.push(FieldError::not_supported(format!("{path}.type"), other, &valid));
        }
    }
}

/// The context of a container at `path`, in a Pod with this spec.
pub(in super::super) fn of_container(container: &Value, spec: &Value, path: &str, errors: &mut Errors) {
    let Some(context) = container.get("securityContext").filter(|c| !c.is_null()) else { return };
    let path = format!("{path}.securityContext");
    common(context, &path, errors);
    if let Some(mount) = context.get("procMount").and_then(Value::as_str) {
        let path = format!("{path}.procMount");
        if !matches!(mount, "Default" | "Unmasked") {
            errors.push(FieldError::not_supported(&path, mount, &["Default", "Unmasked"]));
        }
        let of_host = spec.get("hostUsers").and_then(Value::as_bool).unwrap_or(true);
        if of_host && mount == "Unmasked" {
            let why = "`hostUsers` must be false to use `Unmasked`";
            errors.push(FieldError::invalid(path, mount, why));
        }
    }
    if context.get("allowPrivilegeEscalation") != Some(&Value::Bool(false)) {
        return;
    }
    let mut wrong = |with: &str| {
        let why = format!("cannot set `allowPrivilegeEscalation` to false and {with}");
        errors.push(FieldError::invalid(&path, context.clone(), why));
    };
    if flag(context, "privileged") {
        wrong("`privileged` to true");
    }
    let added = context.get("capabilities").map_or(&[][..], |all| items(all, "add"));
    if added.iter().any(|capability| capability == "CAP_SYS_ADMIN") {
        wrong("`capabilities.Add` CAP_SYS_ADMIN");
    }
}
