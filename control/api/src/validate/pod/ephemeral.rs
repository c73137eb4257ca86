//! Ephemeral containers: what `kubectl debug` adds to a Pod that runs.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::super::{container, items, name, rules, text};
use crate::status::{Errors, FieldError};

/// What only containers with a life of their own may have.
const FORBIDDEN: &[&str] = &[
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
];
const LIST: &str = "spec.ephemeralContainers";

/// What is wrong with a Pod's ephemeral containers, as a change of `old`: each stays as it is, and others may come.
pub(in super::super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (spec, before) = (&new["spec"], &old["spec"]);
    let around = container::Around::new(spec);
    let targets: HashSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| items(spec, list))
        .map(|container| text(container, "name"))
        .collect();
    let mut names = targets.clone();
    let mut now_by_name = HashMap::new();
    for (at, added) in items(spec, "ephemeralContainers").iter().enumerate() {
        let path = format!("{LIST}[{at}]");
        let given = text(added, "name");
        now_by_name.entry(given).or_insert(added);
        if given.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else {
            rules(name::dns_label(given), &format!("{path}.name"), given, errors);
            if !names.insert(given) {
                errors.push(FieldError::duplicate(format!("{path}.name"), given));
            }
        }
        container::container(added, &path, &around, errors);
        container::image_of_pod(added, &path, errors);
        let target = text(added, "targetContainerName");
        if !target.is_empty() && !targets.contains(target) {
            errors.push(FieldError::not_found(format!("{path}.targetContainerName"), target));
        }
        for field in FORBIDDEN {
            let set = added.get(*field).is_some_and(|value| {
                !value.is_null()
                    && !value.as_object().is_some_and(serde_json::Map::is_empty)
                    && !value.as_array().is_some_and(Vec::is_empty)
            });
            if set {
                let why = "cannot be set for an Ephemeral Container";
                errors.push(FieldError::forbidden(format!("{path}.{field}"), why));
            }
        }
        for (n, mount) in items(added, "volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !text(mount, field).is_empty() {
                    let why = "cannot be set for an Ephemeral Container";
                    errors.push(FieldError::forbidden(format!("{path}.volumeMounts[{n}].{field}"), why));
                }
            }
        }
    }
    for kept in items(before, "ephemeralContainers") {
        let name = text(kept, "name");
        let may_not = match now_by_name.get(name) {
            None => "removed",
            Some(now) if *now != kept => "changed",
            Some(_) => continue,
        };
        let why = format!("existing ephemeral containers \"{name}\" may not be {may_not}");
        errors.push(FieldError::forbidden(LIST, why));
    }
}
