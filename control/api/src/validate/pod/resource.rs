//! What containers, and a Pod as a whole, may have of a node.

use std::collections::HashMap;

use serde_json::Value;

use super::super::container::Around;
use super::super::{amount, entries, items, resource, text};
use super::claim;
use crate::quantity::Quantity;
use crate::status::{Errors, FieldError};

const HUGE: &str = "hugepages-";

/// The resources of a container at `path`, in a Pod with this spec.
pub(in super::super) fn of_container(
    container: &Value,
    around: &Around<'_>,
    path: &str,
    errors: &mut Errors,
) {
    let resources = container.get("resources").unwrap_or(&Value::Null);
    requirements(resources, path, resource::of_container, errors);
    claim::of_container(items(resources, "claims"), around, path, errors);
}

/// Requests and limits at `path`, of resources whose names are judged by `named`.
pub(in super::super) fn requirements(
    resources: &Value,
    path: &str,
    named: fn(&str, &str, &mut Errors),
    errors: &mut Errors,
) {
    let limits_path = format!("{path}.limits");
    for list in ["limits", "requests"] {
        for (name, value) in entries(resources, list) {
            let at = format!("{path}.{list}[{name}]");
            named(name, &at, errors);
            match Quantity::from_value(value) {
                Ok(_) => amount::of_resource(name, value, &at, errors),
                Err(error) => errors.push(FieldError::invalid(&at, value.clone(), error)),
            }
            huge(name, value, &at, errors);
        }
    }
    for (name, value) in entries(resources, "requests") {
        let may_be_more = resource::may_be_overcommitted(name);
        let limit = resources.get("limits").and_then(|limits| limits.get(name));
        let Some(limit) = amount::quantity(limit) else {
            if !may_be_more {
                let why = "Limit must be set for non overcommitable resources";
                errors.push(FieldError::required(&limits_path, why));
            }
            continue;
        };
        let Some(request) = amount::quantity(Some(value)) else { continue };
        let why = match may_be_more {
            false if request != limit => format!("must be equal to {name} limit of {limit}"),
            true if request > limit => format!("must be less than or equal to {name} limit of {limit}"),
            _ => continue,
        };
        errors.push(FieldError::invalid(format!("{path}.requests"), value.clone(), why));
    }
    let any = |of: fn(&str) -> bool| {
        ["limits", "requests"].iter().any(|list| entries(resources, list).any(|(name, _)| of(name)))
    };
    if any(|name| name.starts_with(HUGE)) && !any(|name| matches!(name, "cpu" | "memory")) {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
}

/// Huge pages are had whole.
fn huge(name: &str, value: &Value, path: &str, errors: &mut Errors) {
    let page = name.strip_prefix(HUGE).and_then(|size| Quantity::parse(size).ok());
    let (Some(page), Ok(wanted)) = (page, Quantity::from_value(value)) else { return };
    let (page, bytes) = (page.units_ceil(), wanted.units_ceil());
    if page <= 0 || bytes < 0 || bytes % page != 0 {
        let why = format!("{wanted} is not positive integer multiple of {name}");
        errors.push(FieldError::invalid(path, value.clone(), why));
    }
}

/// The resources of a Pod's spec at `path`, which its containers share.
pub(super) fn of_pod(spec: &Value, path: &str, errors: &mut Errors) {
    let Some(resources) = spec.get("resources").filter(|resources| !resources.is_null()) else { return };
    let path = format!("{path}.resources");
    if resources.get("claims").is_some_and(|claims| !claims.is_null()) {
        let why = "claims may not be set for Resources at pod-level";
        errors.push(FieldError::forbidden(format!("{path}.claims"), why));
    }
    requirements(resources, &path, named, errors);
    for part in ["requests", "limits"] {
        let sums = sums(spec, part);
        for (name, value) in entries(resources, part) {
            // Of limits only those of huge pages add up: they are what is requested.
            if part == "limits" && !name.starts_with(HUGE) {
                continue;
            }
            let (Some(own), Some(sum)) = (amount::quantity(Some(value)), sums.get(name.as_str())) else {
                continue;
            };
            if *sum > own {
                let why = format!("must be greater than or equal to aggregate container {part} of {sum}");
                errors.push(FieldError::invalid(format!("{path}.{part}[{name}]"), value.clone(), why));
            }
        }
    }
    for (at, container) in items(spec, "containers").iter().enumerate() {
        let limits = container.get("resources").unwrap_or(&Value::Null);
        for (name, value) in entries(limits, "limits") {
            let own = amount::quantity(resources.get("limits").and_then(|limits| limits.get(name)));
            let (Some(own), Some(limit)) = (own, amount::quantity(Some(value))) else { continue };
            if limit > own {
                let why = format!("must be less than or equal to pod limits of {own}");
                let path = format!("{path}.containers[{at}][{name}].limits");
                errors.push(FieldError::invalid(path, value.clone(), why));
            }
        }
    }
}

fn named(name: &str, path: &str, errors: &mut Errors) {
    let before = errors.len();
    resource::any(name, path, errors);
    if errors.len() == before && !matches!(name, "cpu" | "memory") && !name.starts_with(HUGE) {
        errors.push(FieldError::not_supported(path, name, &["cpu", "memory"]));
    }
}

/// What all containers have of each resource: the containers together with those that start before them and stay, or
/// at one time before.
fn sums<'a>(spec: &'a Value, part: &str) -> HashMap<&'a str, Quantity> {
    let zero = Quantity::zero();
    let mut all: HashMap<&str, [Quantity; 3]> = HashMap::new();
    let of = |container: &'a Value| {
        let amounts = container.get("resources").and_then(|resources| resources.get(part)?.as_object());
        amounts.into_iter().flatten().filter_map(|(name, value)| Some((name, amount::quantity(Some(value))?)))
    };
    let add = |sum: &mut Quantity, own| *sum = sum.checked_add(own).unwrap_or(*sum);
    for container in items(spec, "containers") {
        for (name, own) in of(container) {
            add(&mut all.entry(name).or_insert([zero; 3])[0], own);
        }
    }
    for container in items(spec, "initContainers") {
        for (name, own) in of(container) {
            let [together, staying, most] = all.entry(name).or_insert([zero; 3]);
            let mut at_once = *staying;
            add(&mut at_once, own);
            *most = (*most).max(at_once);
            if text(container, "restartPolicy") == "Always" {
                add(together, own);
                *staying = at_once;
            }
        }
    }
    all.into_iter().map(|(name, [together, _, most])| (name, together.max(most))).collect()
}
