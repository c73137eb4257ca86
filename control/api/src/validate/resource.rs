//! The names of resources: what containers, quotas and limits may count.

use super::{name, rules};
use crate::status::{Errors, FieldError};

/// What containers have, beside huge pages and what is named with a domain.
const OF_CONTAINERS: &[&str] = &["cpu", "ephemeral-storage", "memory"];
/// What a quota counts in pieces.
const PIECES: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
/// What a quota sums up.
const SUMS: &[&str] = &[
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
];

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether a quota may bound it by a name without a domain.
pub(super) fn is_of_quotas(name: &str) -> bool {
    let of_requests = name.strip_prefix("requests.").unwrap_or(name);
    PIECES.contains(&name) || SUMS.contains(&name) || is_huge_page(of_requests)
}

/// Whether it is Kubernetes' own, and no device of a node's.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && self::name::qualified(&format!("requests.{name}")).is_empty()
}

/// Whether there are only whole pieces of it.
pub(super) fn is_counted(name: &str) -> bool {
    PIECES.contains(&name) || is_extended(name)
}

/// Whether limits may be above requests.
pub(super) fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// The name of any resource.
pub(super) fn any(name: &str, path: &str, errors: &mut Errors) {
    let broken = self::name::qualified(name);
    if broken.is_empty() && !name.contains('/') && name != "storage" && !is_of_quotas(name) {
        errors.push(FieldError::invalid(path, name, "must be a standard resource type or fully qualified"));
    }
    rules(broken, path, name, errors);
}

/// The name of a container's resource.
pub(super) fn of_container(name: &str, path: &str, errors: &mut Errors) {
    any(name, path, errors);
    if !name.contains('/') {
        if !OF_CONTAINERS.contains(&name) && !is_huge_page(name) {
            errors.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(FieldError::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

/// The name of a resource in a quota.
pub(super) fn of_quota(name: &str, path: &str, errors: &mut Errors) {
    any(name, path, errors);
    if !name.contains('/') && !is_of_quotas(name) {
        errors.push(FieldError::invalid(path, name, "must be a standard resource for quota"));
    }
}
