//! What follows an object's name: its status, its scale, a Pod's binding, a ServiceAccount's token, streams.

mod scale;
mod token;

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind::Subresource;
use weft_api::status::{FieldError, Status};
use weft_api::{decode, schema};

use super::accept::{Encoding, Wanted};
use super::answer::{self, Body};
use super::route::ResourceRoute;
use super::{Api, Call, connect, read, write};
use crate::objects::Preconditions;
use crate::objects::bind::Binding;

/// Whether a subresource is a stream, carried on to a node for as long as both sides want it.
pub(crate) fn is_stream(subresource: Subresource) -> bool {
    matches!(
        subresource,
        Subresource::Log
            | Subresource::Exec
            | Subresource::Attach
            | Subresource::PortForward
            | Subresource::Proxy
    )
}

/// Whether a subresource is a part of its object, read and written as the object itself is.
fn is_part(subresource: Subresource) -> bool {
    matches!(
        subresource,
        Subresource::Status | Subresource::Approval | Subresource::EphemeralContainers | Subresource::Resize
    )
}

/// Serves a path with a subresource.
///
/// # Errors
/// 404, 405 and what each of them refuses.
pub(crate) async fn serve(api: Arc<Api>, call: Call, route: ResourceRoute) -> Result<Response<Body>, Status> {
    let method = call.request.method().clone();
    match (route.subresource, method) {
        (Some(part), Method::GET) if is_part(part) => read::get(&api, &call, &route).await,
        (Some(part), Method::PATCH) if is_part(part) => write::patch(&api, call, &route).await,
        (Some(part), Method::PUT) if is_part(part) || part == Subresource::Finalize => {
            write::update(&api, call, &route).await
        }
        (Some(Subresource::Scale), _) => scale::serve(&api, call, &route).await,
        (Some(Subresource::Binding), Method::POST) => binding(&api, call, &route.key).await,
        (Some(Subresource::Eviction), Method::POST) => eviction(&api, call, &route).await,
        (Some(Subresource::Token), Method::POST) => token::serve(&api, call, &route).await,
        (Some(subresource), _) if is_stream(subresource) => connect::serve(api, call, route).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// Binds a Pod: by its own path, or by that of all bindings, where the name stands in the body alone.
///
/// # Errors
/// 400 for another name than that of the path, 422 for a target that is no node, 404, 409.
pub(super) async fn binding(api: &Api, mut call: Call, key: &ObjectKey) -> Result<Response<Body>, Status> {
    let encoding = Wanted::of(&call)?.encoding;
    let (options, validation) = write::options(&call)?;
    let bytes = write::body(&mut call).await?;
    let decoded = decode::any(schema::BINDING, &bytes, call.header(CONTENT_TYPE), validation)?;
    let binding = decoded.value;
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    let (meta, target) = (&binding["metadata"], &binding["target"]);
    let name = text(&meta["name"]).unwrap_or_default();
    if !key.name.is_empty() && !name.is_empty() && name != key.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let name = if key.name.is_empty() { name } else { key.name.clone() };
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    }
    if let Some(kind) = text(&target["kind"]).filter(|kind| kind != "Node") {
        errors.push(FieldError::not_supported("target.kind", kind, &["Node", "<empty>"]));
    }
    let node = text(&target["name"]).unwrap_or_default();
    if node.is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if !errors.is_empty() {
        return Err(Status::invalid_type("", "Binding", &name, &errors));
    }
    let preconditions =
        Preconditions { uid: text(&meta["uid"]), resource_version: text(&meta["resourceVersion"]) };
    let bound = Binding { node, labels: meta["labels"].clone(), annotations: meta["annotations"].clone() };
    let key = ObjectKey::namespaced(key.namespace.clone(), name);
    api.objects.bind(&key, preconditions, bound, &options).await?;
    let mut response = success(StatusCode::CREATED, encoding);
    answer::warn(&mut response, &decoded.warnings);
    Ok(response)
}

async fn eviction(api: &Api, mut call: Call, route: &ResourceRoute) -> Result<Response<Body>, Status> {
    let encoding = Wanted::of(&call)?.encoding;
    let (asked, validation) = write::options(&call)?;
    let bytes = write::body(&mut call).await?;
    let mut eviction = decode::any(schema::EVICTION, &bytes, call.header(CONTENT_TYPE), validation)?.value;
    let name = eviction["metadata"]["name"].as_str().unwrap_or("");
    if !name.is_empty() && name != route.key.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let told = match eviction["deleteOptions"].take() {
        Value::Null => json!({}),
        told => told,
    };
    let mut options = write::read_delete_options(&call, told)?;
    options.dry_run |= asked.dry_run;
    api.objects.evict(&route.key, &options).await?;
    Ok(success(StatusCode::CREATED, encoding))
}

/// It was done, and there is nothing to show.
fn success(code: StatusCode, encoding: Encoding) -> Response<Body> {
    let told = json!({ "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success", "code": code.as_u16() });
    answer::value(code, &told, encoding)
}
