//! Admission: what the cluster adds to an object or refuses of it, beyond what its kind says by itself.

mod account;
mod bundles;
mod certificates;

use std::time::Duration;

use serde_json::{Value, json};
use weft_api::kind::{self, Kind, Subresource};
use weft_api::status::{FieldError, Status};

use crate::clock;
use crate::objects::Objects;

/// Changes a new object as the cluster wants it. Of what is about to be made by a loop, clients wait for some `patience`;
/// a loop has none: it comes again, and others wait behind it.
///
/// # Errors
/// 403 with the reason.
pub(crate) async fn on_create(
    objects: &Objects,
    kind: &'static Kind,
    object: &mut Value,
    patience: Duration,
) -> Result<(), Status> {
    if *kind == kind::POD {
        account::admit(objects, object, patience).await?;
        if object["status"].is_null() {
            object["status"] = json!({});
        }
        if object["status"]["phase"].is_null() {
            object["status"]["phase"] = "Pending".into();
        }
        if object["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            let gated = json!({ "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates" });
            object["status"]["conditions"] = json!([gated]);
        }
    }
    if *kind == kind::CERTIFICATE_SIGNING_REQUEST {
        certificates::refuse_masters(object)?;
    }
    if *kind == kind::NAMESPACE {
        if object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            object["spec"]["finalizers"] = json!(["kubernetes"]);
        }
        object["status"] = json!({ "phase": "Active" });
        let name = object["metadata"]["name"].clone();
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    }
    Ok(())
}

/// Refuses changes that no client may make.
///
/// # Errors
/// 403 with the reason.
pub(crate) fn on_update(
    kind: &'static Kind,
    subresource: Option<Subresource>,
    old: &Value,
    new: &mut Value,
) -> Result<(), Status> {
    if *kind == kind::NAMESPACE && subresource != Some(Subresource::Finalize) {
        // A Namespace's finalizers change by their own subresource only.
        if let Some(finalizers) = old["spec"].get("finalizers") {
            new["spec"]["finalizers"] = finalizers.clone();
        }
    }
    if *kind == kind::CERTIFICATE_SIGNING_REQUEST {
        certificates::keep(subresource, old, new, clock::now());
    }
    Ok(())
}

/// What is wrong with a new object that its own rules do not see.
pub(crate) fn judge_new(kind: &Kind, object: &Value) -> Vec<FieldError> {
    match kind {
        kind if *kind == kind::CERTIFICATE_SIGNING_REQUEST => certificates::judge(object),
        kind if *kind == kind::CLUSTER_TRUST_BUNDLE => bundles::judge(object),
        kind if *kind == kind::POD_CERTIFICATE_REQUEST => bundles::judge_request(object),
        _ => Vec::new(),
    }
}

/// As [`judge_new`], of a change.
pub(crate) fn judge_change(kind: &Kind, new: &Value, old: &Value) -> Vec<FieldError> {
    match kind {
        kind if *kind == kind::CERTIFICATE_SIGNING_REQUEST => certificates::judge_certificate(new, old),
        kind if *kind == kind::CLUSTER_TRUST_BUNDLE
            && new["spec"]["trustBundle"] != old["spec"]["trustBundle"] =>
        {
            bundles::judge(new)
        }
        kind if *kind == kind::POD_CERTIFICATE_REQUEST => bundles::judge_chain(new, old, clock::now()),
        _ => Vec::new(),
    }
}
