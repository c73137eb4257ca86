//! Devices that a Pod claims: `spec.resourceClaims`, and which of them a container has.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::container::Around;
use super::super::{items, name, rules, text};
use crate::status::{Errors, FieldError};

/// The claims of a Pod's spec at `path`.
pub(super) fn claims(spec: &Value, path: &str, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for (at, claim) in items(spec, "resourceClaims").iter().enumerate() {
        let path = format!("{path}.resourceClaims[{at}]");
        let given = text(claim, "name");
        let name_path = format!("{path}.name");
        if given.is_empty() {
            errors.push(FieldError::required(name_path, ""));
        } else if names.insert(given) {
            rules(name::dns_label(given), &name_path, given, errors);
        } else {
            errors.push(FieldError::duplicate(name_path, given));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let [of_claim, of_template] = sources.map(|key| claim.get(key).and_then(Value::as_str));
        let why = match (of_claim, of_template) {
            (Some(_), Some(_)) => {
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            }
            (None, None) => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            _ => "",
        };
        if !why.is_empty() {
            errors.push(FieldError::invalid(&path, claim.clone(), why));
        }
        for (key, source) in sources.iter().zip([of_claim, of_template]) {
            if let Some(source) = source {
                rules(name::dns_subdomain(source), &format!("{path}.{key}"), source, errors);
            }
        }
    }
}

/// The claims of a container's resources at `path`; each must be one of the Pod's.
pub(in super::super) fn of_container(claims: &[Value], around: &Around<'_>, path: &str, errors: &mut Errors) {
    let known = &around.claims;
    let mut shown = None;
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (at, claim) in claims.iter().enumerate() {
        if errors.is_full() {
            return;
        }
        let path = format!("{path}.claims[{at}]");
        let (given, request) = (text(claim, "name"), text(claim, "request"));
        if given.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        if seen.contains(given) {
            // All requests of that claim are there already.
            errors.push(FieldError::duplicate(&path, given));
        } else {
            let mut key = given.to_owned();
            if !request.is_empty() {
                rules(name::dns_label(request), &format!("{path}.request"), request, errors);
                key = format!("{given}/{request}");
            }
            let within = format!("{given}/");
            let next = seen.range(within.clone()..).next();
            let overlaps = request.is_empty() && next.is_some_and(|other| other.starts_with(&within));
            if seen.contains(&key) || overlaps {
                errors.push(FieldError::duplicate(&path, key.as_str()));
            }
            seen.insert(key);
        }
        if !known.contains(given) {
            let mut why = "must be one of the names in pod.spec.resourceClaims".to_owned();
            if known.is_empty() {
                why += " which is empty";
            } else {
                why = format!("{why}: {}", shown.get_or_insert_with(|| names(known)));
            }
            errors.push(FieldError::not_found_because(path, given, why));
        }
    }
}

/// Names in one text, as many as are of use to somebody.
fn names(known: &BTreeSet<&str>) -> String {
    const BYTES_MAX: usize = 1024;
    let mut text = String::new();
    for name in known {
        if !text.is_empty() {
            text += ", ";
        }
        text += &name[..name.floor_char_boundary(BYTES_MAX)];
        if text.len() > BYTES_MAX {
            text.truncate(text.floor_char_boundary(BYTES_MAX));
            return text + "…";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_cut() {
        let all: Vec<String> = (0..10_000).map(|at| format!("claim-{at:05}")).collect();
        let all: BTreeSet<&str> = all.iter().map(String::as_str).collect();
        let text = names(&all);
        assert!(text.starts_with("claim-00000, claim-00001, ") && text.ends_with('…'), "{text}");
        assert!(text.len() < 1100, "{}", text.len());
        let long = "a".repeat(100_000);
        assert!(names(&BTreeSet::from([long.as_str()])).len() < 1100);
        assert_eq!(names(&BTreeSet::from(["b", "a"])), "a, b");
    }
}
