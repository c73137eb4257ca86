//! Validation of StatefulSets.

use serde_json::{Value, json};

use super::{Rules, amount, claim, items, name, not_negative, one_of, rules, same, text, workload};
use crate::status::{Errors, FieldError};

/// What an update may change of the spec.
const CHANGEABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// A StatefulSet.
pub(crate) static RULES: Rules = Rules {
    create: |object, _, errors| stateful_set(object, errors),
    update: |new, old, _, errors| {
        stateful_set(new, errors);
        update(new, old, errors);
    },
    status,
};

fn stateful_set(set: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = set.get("spec").unwrap_or(&empty);
    match text(spec, "podManagementPolicy") {
        "OrderedReady" | "Parallel" => {}
        "" => errors.push(FieldError::required("spec.podManagementPolicy", "")),
        other => {
            let why = "must be 'OrderedReady' or 'Parallel'";
            errors.push(FieldError::invalid("spec.podManagementPolicy", other, why));
        }
    }
    strategy(spec.get("updateStrategy").unwrap_or(&empty), errors);
    if let Some(policy) = spec.get("persistentVolumeClaimRetentionPolicy").filter(|p| !p.is_null()) {
        for key in ["whenDeleted", "whenScaled"] {
            let path = "spec.persistentVolumeClaimRetentionPolicy";
            one_of(policy, path, key, &["Retain", "Delete"], true, errors);
        }
    }
    for key in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        not_negative(spec, "spec", key, errors);
    }
    not_negative(spec.get("ordinals").unwrap_or(&empty), "spec.ordinals", "start", errors);
    let service = text(spec, "serviceName");
    if !service.is_empty() {
        rules(name::dns_label(service), "spec.serviceName", service, errors);
    }
    let template = spec.get("template").unwrap_or(&empty);
    if let Some(selector) = workload::selector(spec, "statefulset", errors) {
        workload::matched(&selector, template, errors);
    }
    let claims = items(spec, "volumeClaimTemplates");
    workload::template(&with_claims(template, claims), "spec.template", errors);
    workload::for_ever(template, "StatefulSet", errors);
    for (at, template) in claims.iter().enumerate() {
        let path = format!("spec.volumeClaimTemplates[{at}]");
        let name = template.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.metadata.name"), ""));
        }
        claim::spec(template.get("spec").unwrap_or(&empty), &format!("{path}.spec"), errors);
    }
}

/// The template with a volume for each claim template: containers mount them by name. What is of the template keeps its place.
fn with_claims(template: &Value, claims: &[Value]) -> Value {
    let mut template = template.clone();
    let own: Vec<String> = template
        .pointer("/spec/volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|volume| text(volume, "name").to_owned())
        .collect();
    let further = claims
        .iter()
        .filter_map(|claim| claim.pointer("/metadata/name").and_then(Value::as_str))
        .filter(|name| !name.is_empty() && !own.iter().any(|own| own == name))
        .map(|name| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } }));
    let further: Vec<Value> = further.collect();
    if !further.is_empty()
        && let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut)
        && let Some(volumes) = spec.entry("volumes").or_insert_with(|| json!([])).as_array_mut()
    {
        volumes.extend(further);
    }
    template
}

fn strategy(strategy: &Value, errors: &mut Errors) {
    let path = "spec.updateStrategy";
    let rolling = strategy.get("rollingUpdate").filter(|r| !r.is_null());
    match (text(strategy, "type"), rolling) {
        ("OnDelete" | "RollingUpdate", None) => {}
        ("", _) => errors.push(FieldError::required(path, "")),
        ("OnDelete", Some(rolling)) => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid(format!("{path}.rollingUpdate"), rolling.clone(), why));
        }
        ("RollingUpdate", Some(rolling)) => {
            let path = format!("{path}.rollingUpdate");
            not_negative(rolling, &path, "partition", errors);
            if amount::share(rolling, &path, "maxUnavailable", errors) == Some(0) {
                let value = rolling["maxUnavailable"].clone();
                errors.push(FieldError::invalid(format!("{path}.maxUnavailable"), value, "cannot be 0"));
            }
        }
        _ => {
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(FieldError::invalid(path, strategy.clone(), why));
        }
    }
}

fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let fixed = |set: &Value| {
        let mut spec = set.get("spec").cloned().unwrap_or_default();
        if let Some(spec) = spec.as_object_mut() {
            spec.retain(|key, _| !CHANGEABLE.contains(&key.as_str()));
        }
        spec
    };
    if !same(&fixed(new), &fixed(old)) {
        errors.push(FieldError::forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ));
    }
}

fn status(set: &Value, errors: &mut Errors) {
    const PARTS: &[&str] = &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    let empty = Value::Null;
    let status = set.get("status").unwrap_or(&empty);
    for key in ["replicas", "observedGeneration", "collisionCount"].iter().chain(PARTS) {
        not_negative(status, "status", key, errors);
    }
    let count = |key: &str| status.get(key).and_then(Value::as_i64).unwrap_or(0);
    for key in PARTS {
        if count(key) > count("replicas") {
            let why = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(format!("status.{key}"), count(key), why));
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let why = "cannot be greater than status.readyReplicas";
        errors.push(FieldError::invalid("status.availableReplicas", count("availableReplicas"), why));
    }
}
