//! Resizing: other CPU and memory for a Pod that runs.

use serde_json::Value;

use super::super::container::Around;
use super::super::{items, text};
use super::resource;
use crate::quantity::Quantity;
use crate::status::{Errors, FieldError};

/// Resources that can change while a container runs.
const RESIZABLE: &[&str] = &["cpu", "memory"];

/// What is wrong with a Pod's resources, as a change of `old` that has the same containers.
pub(in super::super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let mut changed = false;
    let around = Around::new(&new["spec"]);
    for list in ["containers", "initContainers"] {
        let pairs = items(&new["spec"], list).iter().zip(items(&old["spec"], list));
        for (at, (now, was)) in pairs.enumerate() {
            let path = format!("spec.{list}[{at}].resources");
            resource::of_container(now, &around, &path, errors);
            if now.get("resources") == was.get("resources") {
                continue;
            }
            changed = true;
            if list == "initContainers" && text(was, "restartPolicy") != "Always" {
                let why = "resources of non-sidecar init containers are immutable";
                errors.push(FieldError::forbidden(path.clone(), why));
            }
            for part in ["requests", "limits"] {
                amounts(now, was, part, &format!("{path}.{part}"), errors);
            }
        }
    }
    let (now, was) = (class(&new["spec"]), class(&old["spec"]));
    if now != was {
        let why = format!("Pod QOS Class may not change as a result of resizing ({was} to {now})");
        errors.push(FieldError::invalid("spec", now, why));
    }
    if changed && matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        errors.push(FieldError::forbidden("spec", "a Pod that has ended cannot be resized"));
    }
}

fn amounts(now: &Value, was: &Value, part: &str, path: &str, errors: &mut Errors) {
    let of = |container: &Value| container["resources"][part].as_object().cloned().unwrap_or_default();
    let (now, was) = (of(now), of(was));
    for name in was.keys().chain(now.keys().filter(|name| !was.contains_key(*name))) {
        let same = match (quantity(now.get(name)), quantity(was.get(name))) {
            (None, None) => true,
            (Some(now), Some(was)) => now == was,
            _ => false,
        };
        if same {
            continue;
        }
        if !RESIZABLE.contains(&name.as_str()) {
            let why = "only cpu and memory resources are mutable";
            errors.push(FieldError::forbidden(format!("{path}.{name}"), why));
        } else if !now.contains_key(name) {
            errors.push(FieldError::forbidden(path, format!("{part} may not be removed: {name}")));
        }
    }
}

fn quantity(value: Option<&Value>) -> Option<Quantity> {
    Quantity::from_value(value?).ok()
}

/// The quality of service that a Pod's resources ask for: `Guaranteed`, `Burstable` or `BestEffort`.
fn class(spec: &Value) -> &'static str {
    let (mut any, mut guaranteed) = (false, true);
    for container in ["containers", "initContainers"].iter().flat_map(|list| items(spec, list)) {
        for name in RESIZABLE {
            let of = |part: &str| quantity(container["resources"][part].get(*name)).filter(|q| !q.is_zero());
            let (request, limit) = (of("requests"), of("limits"));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
