//! Validation of a Service's addresses and families: `clusterIP`, `clusterIPs`, `ipFamilies`, `ipFamilyPolicy`. The rules are
//! those of Kubernetes' dual stack (KEP-563); what the cluster has of families is not known here.

use std::net::IpAddr;

use serde_json::Value;

use super::{items, one_of, pod, text};
use crate::status::{Errors, FieldError};

const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const POLICIES: &[&str] = &["SingleStack", "PreferDualStack", "RequireDualStack"];
const FIXED: &str = "may not change once set";

pub(super) fn service(spec: &Value, errors: &mut Errors) {
    one_of(spec, "spec", "ipFamilyPolicy", POLICIES, false, errors);
    families(spec, errors);
    if text(spec, "type") == "ExternalName" {
        let given =
            |key: &str| spec.get(key).is_some_and(|v| !v.is_null() && v != "" && v != &Value::Array(vec![]));
        for (path, is_set) in [
            ("clusterIPs", given("clusterIP") || given("clusterIPs")),
            ("ipFamilies", given("ipFamilies")),
            ("ipFamilyPolicy", given("ipFamilyPolicy")),
        ] {
            if is_set {
                let why = "may not be set for ExternalName services";
                errors.push(FieldError::forbidden(format!("spec.{path}"), why));
            }
        }
        return;
    }
    let all = items(spec, "clusterIPs");
    let whole = |why: &str| FieldError::invalid("spec.clusterIPs", Value::Array(all.to_vec()), why);
    match (text(spec, "clusterIP"), all.first()) {
        ("", Some(_)) => errors.push(whole("must be empty when `clusterIP` is not specified")),
        (one, Some(first)) if *first != one => errors.push(whole("first value must match `clusterIP`")),
        _ => {}
    }
    let addresses = addresses(spec);
    let before = errors.len();
    for (at, address) in addresses.iter().enumerate() {
        if *address != "None" {
            pod::ip(address, &format!("spec.clusterIPs[{at}]"), errors);
        } else if at > 0 || addresses.len() > 1 {
            errors.push(whole("'None' must be the first and only value"));
            // Each would show the whole list again.
            break;
        }
    }
    if addresses.len() > 2 {
        errors.push(whole("may only hold up to 2 values"));
    }
    if errors.len() > before {
        return;
    }
    let families_of: Vec<&str> = addresses.iter().filter_map(|address| family(address)).collect();
    if families_of.len() == 2 && families_of[0] == families_of[1] {
        errors.push(whole("may specify no more than one IP for each IP family"));
    }
    for (at, (is, wanted)) in families_of.iter().zip(items(spec, "ipFamilies")).enumerate() {
        if FAMILIES.contains(&wanted.as_str().unwrap_or("")) && wanted != is {
            let wanted = wanted.as_str().unwrap_or("");
            let why = format!("expected an {wanted} value as indicated by `ipFamilies[{at}]`");
            errors.push(FieldError::invalid(format!("spec.clusterIPs[{at}]"), addresses[at], why));
        }
    }
}

fn families(spec: &Value, errors: &mut Errors) {
    let all = items(spec, "ipFamilies");
    for (at, family) in all.iter().enumerate() {
        // Each is looked for among those before it.
        if errors.is_full() {
            return;
        }
        let path = format!("spec.ipFamilies[{at}]");
        if !FAMILIES.contains(&family.as_str().unwrap_or("")) {
            errors.push(FieldError::not_supported(&path, family.clone(), FAMILIES));
        }
        if all[..at].contains(family) {
            errors.push(FieldError::duplicate(path, family.clone()));
        }
    }
}

/// Changes that a stored Service allows: the first address and family stay, the second ones come and go with the policy.
pub(super) fn update(spec: &Value, before: &Value, errors: &mut Errors) {
    let external = |spec: &Value| text(spec, "type") == "ExternalName";
    let headless = |spec: &Value| addresses(spec).first() == Some(&"None");
    if external(spec) || external(before) || (headless(spec) && headless(before)) {
        return;
    }
    let single = text(spec, "ipFamilyPolicy") == "SingleStack";
    let mut stays = |field: &str, what: &str, new: &[&str], old: &[&str]| {
        let invalid = |at: usize, why: &str| {
            FieldError::invalid(format!("spec.{field}[{at}]"), Value::from(new.to_vec()), why)
        };
        if new.len() < old.len() && new.is_empty() {
            errors.push(invalid(0, &format!("primary {what} can not be unset")));
        }
        let compared = if new.len() == old.len() { new.len() } else { 1 };
        let differs = |(_, (new, old)): &(usize, (&&str, &&str))| new != old;
        if let Some((at, _)) = new.iter().zip(old).take(compared).enumerate().find(differs) {
            errors.push(invalid(at, FIXED));
        }
        if new.len() == 1 && old.len() > 1 && !single {
            let why = format!("must be set to 'SingleStack' when releasing the secondary {what}");
            errors.push(FieldError::invalid("spec.ipFamilyPolicy", text(spec, "ipFamilyPolicy"), why));
        }
    };
    stays("clusterIPs", "clusterIP", &addresses(spec), &addresses(before));
    if !headless(spec) && !headless(before) {
        let families = |spec| items(spec, "ipFamilies").iter().filter_map(Value::as_str).collect::<Vec<_>>();
        let (new, old) = (families(spec), families(before));
        stays("ipFamilies", "ipFamily", &new, &old);
    }
}

/// `clusterIPs`, or what an older client says by `clusterIP` alone.
fn addresses(spec: &Value) -> Vec<&str> {
    let all: Vec<&str> =
        items(spec, "clusterIPs").iter().map(|address| address.as_str().unwrap_or("")).collect();
    let one = text(spec, "clusterIP");
    if all.is_empty() && !one.is_empty() { vec![one] } else { all }
}

fn family(address: &str) -> Option<&'static str> {
    address.parse::<IpAddr>().ok().map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" })
}
