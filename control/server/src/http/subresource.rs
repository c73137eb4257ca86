//! What follows an object's name: its status, its scale, a Pod's binding, a ServiceAccount's token, streams.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Subresource};
use weft_api::selector::Selector;
use weft_api::status::{FieldError, Status};
use weft_api::view::LabelSelector;
use weft_api::{decode, patch, schema};

use super::accept::{Encoding, Wanted};
use super::answer::{self, Body};
use super::route::ResourceRoute;
use super::{Api, Call, connect, read, write};
use crate::authn::account::{LIFE_SECONDS_MIN, Wanted as WantedToken};
use crate::cache::Cached;
use crate::clock;
use crate::objects::Preconditions;
use crate::objects::bind::Binding;
use crate::objects::update::Target;

/// Seconds a token lasts when nobody says.
const TOKEN_LIFE_SECONDS: u64 = 3_600;

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
        (Some(Subresource::Scale), _) => scale(&api, call, &route).await,
        (Some(Subresource::Binding), Method::POST) => binding(&api, call, &route.key).await,
        (Some(Subresource::Eviction), Method::POST) => eviction(&api, call, &route).await,
        (Some(Subresource::Token), Method::POST) => token(&api, call, &route).await,
        (Some(subresource), _) if is_stream(subresource) => connect::serve(api, call, route).await,
        _ => Err(Status::method_not_allowed()),
    }
}

async fn scale(api: &Api, mut call: Call, route: &ResourceRoute) -> Result<Response<Body>, Status> {
    let encoding = Wanted::of(&call)?.encoding;
    let current = api.objects.get(route.kind, &route.key)?;
    let method = call.request.method().clone();
    if method == Method::GET {
        return Ok(answer::value(StatusCode::OK, &scale_of(&current)?, encoding));
    }
    let (options, validation) = write::options(&call)?;
    let bytes = write::body(&mut call).await?;
    let wanted = if method == Method::PUT {
        decode::any(schema::SCALE, &bytes, call.header(CONTENT_TYPE), validation)?.value
    } else if method == Method::PATCH {
        let type_ = write::patch_type(&call)?;
        let mut patched = patch::apply_any(type_, schema::SCALE, &scale_of(&current)?, &bytes)?;
        decode::check(schema::SCALE, &mut patched, validation)?;
        patched
    } else {
        return Err(Status::method_not_allowed());
    };
    let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::invalid_type("autoscaling", "Scale", &route.key.name, &[error]));
    }
    let text =
        |field: &str| wanted["metadata"][field].as_str().filter(|t| !t.is_empty()).map(ToOwned::to_owned);
    let named = if method == Method::PUT { text("resourceVersion") } else { None };
    let target = Target { subresource: None, ..write::target(route) };
    let cached = api
        .objects
        .update(&target, &options, |current| {
            let mut new = current.clone();
            if let Some(version) = &named {
                new["metadata"]["resourceVersion"] = version.clone().into();
            }
            new["spec"]["replicas"] = replicas.into();
            Ok(new)
        })
        .await?;
    Ok(answer::value(StatusCode::OK, &scale_of(&cached)?, encoding))
}

fn scale_of(cached: &Cached) -> Result<Value, Status> {
    let object: Value = cached.object.view().map_err(Status::internal)?;
    let selector = object["spec"]["selector"].clone();
    let selector = if *cached.object.kind == kind::REPLICATION_CONTROLLER {
        // Its selector is the labels themselves.
        Selector::from_map(&serde_json::from_value(selector).map_err(Status::internal)?).to_string()
    } else {
        let selector: LabelSelector = serde_json::from_value(selector).map_err(Status::internal)?;
        Selector::from_label_selector(&selector).map(|s| s.to_string()).unwrap_or_default()
    };
    let meta = &cached.object.meta;
    Ok(json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": { "name": meta.name, "namespace": meta.namespace, "uid": meta.uid,
            "resourceVersion": meta.resource_version, "creationTimestamp": meta.creation_timestamp },
        "spec": { "replicas": object["spec"]["replicas"].as_i64().unwrap_or(0) },
        "status": { "replicas": object["status"]["replicas"].as_i64().unwrap_or(0), "selector": selector },
    }))
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

async fn token(api: &Api, mut call: Call, route: &ResourceRoute) -> Result<Response<Body>, Status> {
    let encoding = Wanted::of(&call)?.encoding;
    let bytes = write::body(&mut call).await?;
    let (_, validation) = write::options(&call)?;
    let mut request =
        decode::any(schema::TOKEN_REQUEST, &bytes, call.header(CONTENT_TYPE), validation)?.value;
    let account = api.objects.get(route.kind, &route.key)?;
    let spec = &request["spec"];
    let life_seconds = spec["expirationSeconds"].as_u64().unwrap_or(TOKEN_LIFE_SECONDS);
    if life_seconds < LIFE_SECONDS_MIN {
        let error = FieldError::invalid(
            "spec.expirationSeconds",
            life_seconds,
            "may not specify a duration less than 10 minutes",
        );
        return Err(Status::invalid_type("authentication.k8s.io", "TokenRequest", "", &[error]));
    }
    let bound = &spec["boundObjectRef"];
    let pod = match bound["kind"].as_str() {
        Some("Pod") => {
            let name = bound["name"].as_str().unwrap_or("");
            let key = weft_api::key::ObjectKey::namespaced(&route.key.namespace, name);
            let pod = api.objects.get(&kind::POD, &key)?;
            let uid = bound["uid"].as_str().filter(|u| !u.is_empty());
            Preconditions { uid: uid.map(ToOwned::to_owned), resource_version: None }.check(&pod)?;
            Some((name.to_owned(), pod.object.meta.uid.clone()))
        }
        Some(other) => {
            let why = format!("cannot bind token to object of type {other}");
            return Err(Status::bad_request(why));
        }
        None => None,
    };
    let audiences = spec["audiences"]
        .as_array()
        .map(|a| a.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect())
        .unwrap_or_default();
    let wanted = WantedToken {
        namespace: route.key.namespace.clone(),
        account: route.key.name.clone(),
        account_uid: account.object.meta.uid.clone(),
        pod,
        node: None,
        audiences,
        life_seconds,
    };
    let token = api.accounts.issue(&wanted, clock::now()).map_err(Status::internal)?;
    let expires = i64::try_from(token.expires_unix_seconds)
        .ok()
        .and_then(|s| jiff::Timestamp::from_second(s).ok())
        .map(clock::seconds);
    request["metadata"]["name"] = route.key.name.clone().into();
    request["metadata"]["namespace"] = route.key.namespace.clone().into();
    request["status"] = json!({ "token": token.text, "expirationTimestamp": expires });
    Ok(answer::value(StatusCode::CREATED, &request, encoding))
}
