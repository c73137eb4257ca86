//! Signers of certificates: who may write an object of one does not act for it by that.

use serde_json::{Map, Value};
use weft_api::kind::{
    CERTIFICATE_SIGNING_REQUEST, CLUSTER_TRUST_BUNDLE, POD_CERTIFICATE_REQUEST, Subresource,
};
use weft_api::status::Status;

use super::route::ResourceRoute;
use super::{Api, Call};
use crate::authz::Attributes;

/// Whether who asks may do for an object's signer what a write of it does: approve requests, sign them, attest whom to
/// trust. It takes the verb on the resource `signers` of the signer's name, or of `DOMAIN/*`, as in Kubernetes.
///
/// # Errors
/// 403.
pub(super) fn check(
    api: &Api,
    call: &Call,
    route: &ResourceRoute,
    old: Option<&Map<String, Value>>,
    new: &Map<String, Value>,
) -> Result<(), Status> {
    let status = |object: &Map<String, Value>| object.get("status").cloned().unwrap_or_default();
    let signs = || old.is_none_or(|old| status(old) != status(new));
    // A request's signer is that of the stored one, whatever a write says; a bundle's cannot change.
    let (verb, object, what) = match (route.kind, route.subresource) {
        (kind, Some(Subresource::Approval)) if *kind == CERTIFICATE_SIGNING_REQUEST => {
            ("approve", old.unwrap_or(new), "approve requests with signerName")
        }
        (kind, Some(Subresource::Status))
            if (*kind == CERTIFICATE_SIGNING_REQUEST || *kind == POD_CERTIFICATE_REQUEST) && signs() =>
        {
            ("sign", old.unwrap_or(new), "sign requests with signerName")
        }
        (kind, None) if *kind == CLUSTER_TRUST_BUNDLE => ("attest", new, "attest for signerName"),
        _ => return Ok(()),
    };
    let signer = object.get("spec").and_then(|spec| spec["signerName"].as_str()).unwrap_or("");
    // A bundle may be of no signer.
    if signer.is_empty() {
        return Ok(());
    }
    let may = |name: &str| {
        let attributes = Attributes::Resource {
            verb,
            group: route.kind.group,
            resource: "signers",
            subresource: "",
            namespace: "",
            name,
        };
        api.authorizer.allows(&call.user, &attributes)
    };
    let domain = signer.split('/').next().unwrap_or("");
    if may(signer) || may(&format!("{domain}/*")) {
        return Ok(());
    }
    let why = format!("user not permitted to {what} \"{signer}\"");
    Err(Status::forbidden(route.kind, &route.key.name, &why))
}
