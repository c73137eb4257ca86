//! Which families a Service has: what its author asks for, what it had, and what the cluster has. The rules are those of
//! Kubernetes' dual stack (KEP-563).
//!
//! **A Service gains or loses a family only when its author says so**, never because the cluster changed.

use std::net::IpAddr;

use serde_json::{Value, json};
use weft_api::status::FieldError;
use weft_api::validate;
use weft_api::view::Service;

use super::{family_name, remove, text};
use crate::settings::Settings;

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const SINGLE: &str = "SingleStack";
const REQUIRE: &str = "RequireDualStack";

/// Writes addresses as they are compared: `FD00:96:0::9` is `fd00:96::9`.
pub(super) fn canonicalize(spec: &mut Value) {
    let canonical = |value: &mut Value| {
        if let Some(address) = value.as_str().and_then(|text| text.parse::<IpAddr>().ok()) {
            *value = json!(address);
        }
    };
    if let Some(fields) = spec.as_object_mut() {
        fields.get_mut("clusterIP").into_iter().for_each(canonical);
        let all = fields.get_mut("clusterIPs").and_then(Value::as_array_mut);
        all.into_iter().flatten().for_each(canonical);
    }
}

/// Keeps of the old Service what the new one is silent about. Clients that know only some of the fields change only those:
/// the others follow.
pub(super) fn carry_over(spec: &mut Value, old: &Service) {
    let held = held(old);
    let mut one = text(&spec["clusterIP"]).to_owned();
    let mut all = texts(&spec["clusterIPs"]);
    if one.is_empty() && (all.is_empty() || all == held) {
        one.clone_from(&old.spec.cluster_ip);
    }
    if one == old.spec.cluster_ip && all.is_empty() {
        all.clone_from(&held);
    } else if one != old.spec.cluster_ip && all == held {
        all = vec![one.clone()];
    }
    let policy = match text(&spec["ipFamilyPolicy"]) {
        "" => old.spec.ip_family_policy.clone(),
        policy => policy.to_owned(),
    };
    let mut families = texts(&spec["ipFamilies"]);
    if families.is_empty() {
        families.clone_from(&old.spec.ip_families);
    }
    if policy == SINGLE && old.spec.ip_family_policy != SINGLE {
        // Who takes the policy back alone means the second family.
        if all == held {
            all.truncate(1);
        }
        if families == old.spec.ip_families {
            families.truncate(1);
        }
    }
    put(spec, "clusterIP", (!one.is_empty()).then(|| json!(one)));
    put(spec, "clusterIPs", (!all.is_empty()).then(|| json!(all)));
    put(spec, "ipFamilies", (!families.is_empty()).then(|| json!(families)));
    put(spec, "ipFamilyPolicy", (!policy.is_empty()).then(|| json!(policy)));
}

/// Whether a Service asks for exactly what it has: then it keeps it, whatever ranges the cluster has by now.
pub(super) fn is_unchanged(spec: &Value, old: &Service) -> bool {
    let old = &old.spec;
    let complete = !old.cluster_ips.is_empty() && !old.ip_families.is_empty();
    complete
        && text(&spec["ipFamilyPolicy"]) == old.ip_family_policy
        && text(&spec["clusterIP"]) == old.cluster_ip
        && texts(&spec["clusterIPs"]) == old.cluster_ips
        && texts(&spec["ipFamilies"]) == old.ip_families
}

/// Decides policy and families, and writes them.
///
/// # Errors
/// What is asked for contradicts itself, changes what may not change, or is not to be had in this cluster.
pub(super) fn settle(
    service: &mut Value,
    old: Option<&Service>,
    settings: &Settings,
) -> Result<(), Vec<FieldError>> {
    let spec = &mut service["spec"];
    let one = text(&spec["clusterIP"]).to_owned();
    if texts(&spec["clusterIPs"]).is_empty() && !one.is_empty() {
        spec["clusterIPs"] = json!([one]);
    }
    // A headless Service without a selector has whatever endpoints somebody writes, of any family.
    let free = one == "None" && spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    if text(&spec["ipFamilyPolicy"]).is_empty() {
        spec["ipFamilyPolicy"] = json!(if free { REQUIRE } else { SINGLE });
    }
    let errors = validate::service_families(service, old.map(as_value).as_ref());
    if !errors.is_empty() {
        return Err(errors);
    }
    let families = families(&service["spec"], free, settings)?;
    service["spec"]["ipFamilies"] = json!(families);
    Ok(())
}

fn families(spec: &Value, free: bool, settings: &Settings) -> Result<Vec<String>, Vec<FieldError>> {
    let policy = text(&spec["ipFamilyPolicy"]);
    let configured: Vec<&str> = settings.service_cidrs.iter().map(family_name).collect();
    let (addresses, mut families) = (texts(&spec["clusterIPs"]), texts(&spec["ipFamilies"]));
    let mut errors = Vec::new();
    for (count, what) in [(addresses.len(), "clusterIPs"), (families.len(), "ipFamilies")] {
        if policy == SINGLE && count > 1 {
            let why =
                format!("must be RequireDualStack or PreferDualStack when multiple {what} are specified");
            errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, why));
        }
    }
    // A requested address names its family.
    for (at, address) in addresses.iter().enumerate().skip(families.len()) {
        let Ok(address) = address.parse::<IpAddr>() else { continue };
        let family = if address.is_ipv4() { FAMILIES[0] } else { FAMILIES[1] };
        if !configured.contains(&family) {
            let why = format!("may not use {family} on a cluster which is not configured for it");
            errors.push(FieldError::invalid(format!("spec.clusterIPs[{at}]"), json!(addresses), why));
        }
        families.push(family.to_owned());
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let primary = || configured.first().map(|family| (*family).to_owned());
    if !free {
        if policy == REQUIRE && configured.len() < 2 {
            let why = "this cluster is not configured for dual-stack services";
            errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, why));
        }
        let missing =
            families.iter().enumerate().filter(|(_, family)| !configured.contains(&family.as_str()));
        errors.extend(missing.map(|(at, family)| {
            FieldError::invalid(
                format!("spec.ipFamilies[{at}]"),
                family.as_str(),
                "not configured on this cluster",
            )
        }));
        if !errors.is_empty() {
            return Err(errors);
        }
    }
    if families.is_empty() {
        families.extend(primary());
    }
    if policy != SINGLE && families.len() == 1 {
        let other = FAMILIES.into_iter().find(|family| families[0] != *family);
        families.extend(other.filter(|family| free || configured.contains(family)).map(str::to_owned));
    }
    Ok(families)
}

/// The addresses a Service holds; one that an older version stored says it by `clusterIP` alone.
fn held(service: &Service) -> Vec<String> {
    let spec = &service.spec;
    match &spec.cluster_ips[..] {
        [] if !spec.cluster_ip.is_empty() => vec![spec.cluster_ip.clone()],
        all => all.to_vec(),
    }
}

/// A stored Service as far as validation asks for it.
fn as_value(service: &Service) -> Value {
    let spec = &service.spec;
    json!({ "spec": { "type": spec.type_, "clusterIP": spec.cluster_ip, "clusterIPs": held(service),
        "ipFamilies": spec.ip_families } })
}

fn put(spec: &mut Value, field: &str, value: Option<Value>) {
    match value {
        Some(value) => spec[field] = value,
        None => remove(spec, field),
    }
}

/// The texts of a list; none of what is no list.
pub(super) fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|entry| text(entry).to_owned()).collect()
}

#[cfg(test)]
mod tests;
