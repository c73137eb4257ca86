//! POST, PUT, PATCH and DELETE of objects.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Map, Value};
use weft_api::decode::{self, FieldValidation};
use weft_api::key::ObjectKey;
use weft_api::patch::apply::Manager;
use weft_api::patch::{self, PatchType, writer};
use weft_api::status::Status;
use weft_api::{kind, schema};

use super::accept::Wanted;
use super::answer::{self, Body};
use super::route::ResourceRoute;
use super::select::Selection;
use super::{Api, Call, collection, dialect, read, requester, signers};
use crate::authz::Attributes;
use crate::cache::Cached;
use crate::clock;
use crate::objects::delete::{DeleteOptions, Deleted, Propagation};
use crate::objects::update::Target;
use crate::objects::{Preconditions, WriteOptions, Writer, into_map, metadata};

/// Longest request body, bytes.
pub(crate) const BODY_BYTES_MAX: usize = 3 << 20;
/// A body that is too long is read to its end and dropped up to here, bytes; beyond, the connection is cut.
const DRAIN_BYTES_MAX: usize = 16 << 20;
/// How often a write that may make an object is tried when others make and remove it meanwhile.
const TRIES_MAX: usize = 8;
/// How long a request's body may take.
const BODY_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// A request's whole body.
///
/// # Errors
/// 413 if it is too long, 504 if it does not come in time, 400 if it ends before its end.
pub(crate) async fn body(call: &mut Call) -> Result<Bytes, Status> {
    let told = call.header(CONTENT_LENGTH).and_then(|l| l.parse::<usize>().ok());
    whole(told, call.request.body_mut()).await
}

async fn whole<B>(told: Option<usize>, body: &mut B) -> Result<Bytes, Status>
where
    B: hyper::body::Body + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if told.is_some_and(|l| l > DRAIN_BYTES_MAX) {
        return Err(Status::request_too_large(BODY_BYTES_MAX));
    }
    let limited = Limited::new(&mut *body, BODY_BYTES_MAX);
    let collected = tokio::time::timeout(BODY_TIME_MAX, limited.collect()).await;
    match collected {
        Err(_) => Err(Status::timeout("the request's body did not arrive in time", 1)),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            // A client that is still writing would miss the answer.
            let rest = Limited::new(body, DRAIN_BYTES_MAX);
            let _ = tokio::time::timeout(BODY_TIME_MAX, drain(rest)).await;
            Err(Status::request_too_large(BODY_BYTES_MAX))
        }
        Ok(Err(error)) => Err(Status::bad_request(format!("the request's body cannot be read: {error}"))),
    }
}

async fn drain<B>(mut body: Limited<B>)
where
    B: hyper::body::Body + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    while let Some(Ok(_)) = body.frame().await {}
}

/// How the request wants its write done.
///
/// # Errors
/// 422 for a manager's name that cannot be, 400 for other values that are none.
pub(crate) fn options(call: &Call) -> Result<(WriteOptions, FieldValidation), Status> {
    let validation = FieldValidation::parse(call.query.get("fieldValidation"))?;
    let named = call.query.get("fieldManager");
    if let Some(error) = named.and_then(|name| writer::check(name, "fieldManager")) {
        let options = match *call.request.method() {
            Method::POST => "CreateOptions",
            Method::PUT => "UpdateOptions",
            _ => "PatchOptions",
        };
        return Err(Status::invalid_type("meta.k8s.io", options, "", &[error]));
    }
    let writer = Writer::Client(writer::of_client(named, call.header(USER_AGENT)));
    Ok((WriteOptions { dry_run: call.query.dry_run()?, writer, served: None }, validation))
}

/// A whole object as a client sends it, and how it wants it written and shown.
struct Sent {
    object: Map<String, Value>,
    options: WriteOptions,
    wanted: Wanted,
    warnings: Vec<String>,
}

impl Sent {
    async fn read(call: &mut Call, route: &ResourceRoute) -> Result<Self, Status> {
        let wanted = Wanted::of(call)?;
        let (mut options, validation) = options(call)?;
        options.served = Some(route.served);
        let bytes = body(call).await?;
        let decoded = decode::body(route.served, &bytes, call.header(CONTENT_TYPE), validation)?;
        Ok(Self { object: into_map(decoded.value)?, options, wanted, warnings: decoded.warnings })
    }
}

/// What the answer to a write tells beside the object.
#[derive(Clone, Copy)]
struct Told<'a> {
    /// Of what was sent.
    warnings: &'a [String],
    /// The template that a changed workload had.
    template: Option<&'a Value>,
}

/// The answer to a write.
fn written(
    code: StatusCode,
    route: &ResourceRoute,
    cached: &Cached,
    wanted: Wanted,
    call: &Call,
    told: Told<'_>,
) -> Result<Response<Body>, Status> {
    let mut response = read::object(code, route.served, cached, wanted, call)?;
    answer::warn(&mut response, told.warnings);
    // As in Kubernetes: who writes a part has nothing to do with the rest.
    if route.subresource.is_none() {
        let is_new = code == StatusCode::CREATED;
        answer::warn(&mut response, &weft_api::warn::of(&cached.object, is_new, told.template));
    }
    Ok(response)
}

/// POST.
pub(crate) async fn create(
    api: &Api,
    mut call: Call,
    route: &ResourceRoute,
) -> Result<Response<Body>, Status> {
    let Sent { mut object, options, wanted, warnings } = Sent::read(&mut call, route).await?;
    requester::write(route.kind, &call.user, &mut object);
    let object = as_made(route, object)?;
    signers::check(api, &call, route, None, &object)?;
    let cached = api.objects.create(route.kind, &route.key.namespace, object, &options).await?;
    let told = Told { warnings: &warnings, template: None };
    written(StatusCode::CREATED, route, &cached, wanted, &call, told)
}

/// A new object as it is stored, if its dialect allows it.
///
/// # Errors
/// 422.
fn as_made(route: &ResourceRoute, object: Map<String, Value>) -> Result<Map<String, Value>, Status> {
    let object = Value::Object(object);
    let errors = weft_api::validate::create_dialect(route.served, &object);
    if !errors.is_empty() {
        let name = object["metadata"]["name"].as_str().unwrap_or("");
        return Err(Status::invalid(route.served, name, &errors));
    }
    Ok(dialect::stored(route.served, into_map(object)?))
}

/// PUT; an object that is not there is made if its kind allows it, and 404 otherwise.
pub(crate) async fn update(
    api: &Api,
    mut call: Call,
    route: &ResourceRoute,
) -> Result<Response<Body>, Status> {
    let Sent { object, options, wanted, warnings } = Sent::read(&mut call, route).await?;
    let makes = route.kind.create_on_update && route.subresource.is_none();
    let new = dialect::stored(route.served, object.clone());
    let mut template = None;
    for _ in 0..TRIES_MAX {
        let change = |current: &Map<String, Value>| {
            template = weft_api::warn::template(route.kind, current);
            signers::check(api, &call, route, Some(current), &new)?;
            Ok(new.clone())
        };
        match api.objects.update(&target(route), &options, change).await {
            Err(status) if makes && status.code == 404 => {}
            result => {
                let cached = result?;
                let told = Told { warnings: &warnings, template: template.as_ref() };
                return written(StatusCode::OK, route, &cached, wanted, &call, told);
            }
        }
        may_create(api, &call, route)?;
        let made = as_made(route, as_new(route, object.clone())?)?;
        signers::check(api, &call, route, None, &made)?;
        match api.objects.create(route.kind, &route.key.namespace, made, &options).await {
            // Somebody else made it in the meantime.
            Err(status) if status.reason == "AlreadyExists" => {}
            result => {
                let cached = result?;
                let told = Told { warnings: &warnings, template: None };
                return written(StatusCode::CREATED, route, &cached, wanted, &call, told);
            }
        }
    }
    Err(Status::conflict(route.kind, &route.key.name))
}

/// Who may change an object may not make one by that.
///
/// # Errors
/// 403.
fn may_create(api: &Api, call: &Call, route: &ResourceRoute) -> Result<(), Status> {
    let attributes = Attributes::Resource {
        verb: "create",
        group: route.served.group,
        resource: route.served.plural,
        subresource: "",
        namespace: &route.key.namespace,
        name: &route.key.name,
    };
    api.authorizer.authorize(&call.user, &attributes)
}

/// A PUT's object as one that is made: it has the name of its URL, and the version it names is of one that is gone.
///
/// # Errors
/// 400 for another name, 409 for the UID of an object that is gone.
fn as_new(route: &ResourceRoute, mut object: Map<String, Value>) -> Result<Map<String, Value>, Status> {
    let (kind, name) = (route.kind, &route.key.name);
    let meta = metadata::metadata_mut(&mut object)?;
    let text = |key: &str| meta.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let (own, uid) = (text("name"), text("uid"));
    if !own.is_empty() && own != *name {
        return Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        )));
    }
    if !uid.is_empty() {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: ");
        return Err(Status::conflict_because(kind, name, &why));
    }
    meta.insert("name".into(), name.clone().into());
    meta.remove("resourceVersion");
    Ok(object)
}

/// PATCH.
pub(crate) async fn patch(
    api: &Api,
    mut call: Call,
    route: &ResourceRoute,
) -> Result<Response<Body>, Status> {
    let wanted = Wanted::of(&call)?;
    let (mut options, validation) = options(&call)?;
    options.served = Some(route.served);
    let bytes = body(&mut call).await?;
    if PatchType::from_content_type(call.header(CONTENT_TYPE).unwrap_or("")) == Some(PatchType::Apply) {
        return server_side_apply(api, &call, route, &bytes, options, validation).await;
    }
    let type_ = patch_type(&call)?;
    let (mut warnings, mut template) = (Vec::new(), None);
    let served = route.served;
    let cached = api
        .objects
        .update(&target(route), &options, |current| {
            template = weft_api::warn::template(route.kind, current);
            let seen = Value::Object(dialect::seen(served, current));
            let mut patched = patch::apply(type_, served, &seen, &bytes)?;
            warnings = decode::check(served.schema, &mut patched, validation)?;
            let new = dialect::stored(served, into_map(patched)?);
            signers::check(api, &call, route, Some(current), &new)?;
            Ok(new)
        })
        .await?;
    let told = Told { warnings: &warnings, template: template.as_ref() };
    written(StatusCode::OK, route, &cached, wanted, &call, told)
}

/// PATCH with an apply configuration: makes the object if it is not there.
async fn server_side_apply(
    api: &Api,
    call: &Call,
    route: &ResourceRoute,
    bytes: &[u8],
    mut options: WriteOptions,
    validation: FieldValidation,
) -> Result<Response<Body>, Status> {
    let wanted = Wanted::of(call)?;
    let mut config = decode::yaml(bytes)?;
    let kind = route.kind;
    let warnings = decode::configuration(route.served.schema, &mut config, validation)?;
    identify(route, (&route.served.api_version(), route.served.kind), &mut config)?;
    options.writer = Writer::Applier;
    // Without a name of its own an applier is refused.
    let name = call.query.get("fieldManager").unwrap_or("");
    let force = call.query.flag("force");
    let apply = |current: Option<&Value>| {
        let subresource = route.subresource.map_or("", kind::Subresource::as_str);
        let manager = Manager { name, subresource, time: clock::now() };
        let mut applied = patch::apply::apply(route.served, current, &config, manager, force)?;
        decode::check(kind.schema, &mut applied, FieldValidation::Ignore)?;
        into_map(applied)
    };
    let mut template = None;
    for _ in 0..TRIES_MAX {
        let exists = api.objects.cache.get(kind, &route.key).is_some();
        let (code, result) = if exists || route.subresource.is_some() {
            let change = |current: &Map<String, Value>| {
                template = weft_api::warn::template(kind, current);
                let new = apply(Some(&Value::Object(current.clone())))?;
                signers::check(api, call, route, Some(current), &new)?;
                Ok(new)
            };
            (StatusCode::OK, api.objects.update(&target(route), &options, change).await)
        } else {
            may_create(api, call, route)?;
            let mut object = apply(None)?;
            signers::check(api, call, route, None, &object)?;
            requester::write(kind, &call.user, &mut object);
            (StatusCode::CREATED, api.objects.create(kind, &route.key.namespace, object, &options).await)
        };
        match result {
            Ok(cached) => {
                let told = Told { warnings: &warnings, template: template.as_ref() };
                return written(code, route, &cached, wanted, call, told);
            }
            // Somebody else made it in the meantime, or removed it: then it is applied to what is there now.
            Err(status) if code == StatusCode::CREATED && status.reason == "AlreadyExists" => {}
            Err(status) if exists && status.code == 404 && route.subresource.is_none() => {}
            Err(status) => return Err(status),
        }
    }
    Err(Status::conflict(kind, &route.key.name))
}

/// What is applied, or put to a subresource of another type, must be of that type and of the object that its URL names;
/// a name it leaves out is filled in.
///
/// # Errors
/// 400 in Kubernetes' words.
pub(super) fn identify(route: &ResourceRoute, type_: (&str, &str), config: &mut Value) -> Result<(), Status> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let (version, kind) = (text(&config["apiVersion"]), text(&config["kind"]));
    if (version.as_str(), kind.as_str()) != type_ {
        let slash = if version.contains('/') { "" } else { "/" };
        return Err(Status::bad_request(format!("invalid object type: {slash}{version}, Kind={kind}")));
    }
    let key = &route.key;
    let name = text(&config["metadata"]["name"]);
    if !name.is_empty() && name != key.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            key.name
        )));
    }
    let namespace = text(&config["metadata"]["namespace"]);
    if !key.namespace.is_empty() && !namespace.is_empty() && namespace != key.namespace {
        return Err(Status::bad_request(format!(
            "the namespace of the object ({namespace}) does not match the namespace on the request ({})",
            key.namespace
        )));
    }
    config["metadata"]["name"] = key.name.clone().into();
    Ok(())
}

/// The patch type of a request.
///
/// # Errors
/// 415.
pub(crate) fn patch_type(call: &Call) -> Result<PatchType, Status> {
    match PatchType::from_content_type(call.header(CONTENT_TYPE).unwrap_or("")) {
        Some(PatchType::Apply) | None => Err(Status::unsupported_media_type(patch::MEDIA_TYPES)),
        Some(type_) => Ok(type_),
    }
}

pub(crate) fn target(route: &ResourceRoute) -> Target<'_> {
    Target {
        kind: route.kind,
        key: &route.key,
        subresource: route.subresource,
        preconditions: Preconditions::default(),
    }
}

/// What a DELETE's body may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DeleteBody {
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    preconditions: Option<PreconditionsBody>,
    dry_run: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PreconditionsBody {
    uid: Option<String>,
    resource_version: Option<String>,
}

async fn delete_options(call: &mut Call) -> Result<DeleteOptions, Status> {
    let bytes = body(call).await?;
    if bytes.is_empty() {
        return read_delete_options(call, Value::Object(Map::new()));
    }
    let decoded =
        decode::any(schema::DELETE_OPTIONS, &bytes, call.header(CONTENT_TYPE), FieldValidation::Ignore)?;
    read_delete_options(call, decoded.value)
}

/// How a delete is wanted, by a DeleteOptions object and, where that says nothing, by the URL.
///
/// # Errors
/// 400, or 422 for a way with dependents that there is not.
pub(crate) fn read_delete_options(call: &Call, told: Value) -> Result<DeleteOptions, Status> {
    let told: DeleteBody = serde_json::from_value(told).map_err(|e| Status::bad_request(e.to_string()))?;
    let policy = told.propagation_policy.as_deref().or_else(|| call.query.get("propagationPolicy"));
    let propagation = match (policy, told.orphan_dependents) {
        (None, None) => None,
        (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
        (Some("Foreground"), _) => Some(Propagation::Foreground),
        (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
        (Some(other), _) => {
            let error = weft_api::status::FieldError::not_supported(
                "propagationPolicy",
                other,
                &["Background", "Foreground", "Orphan"],
            );
            return Err(Status::invalid_type("meta.k8s.io", "DeleteOptions", "", &[error]));
        }
    };
    let preconditions = told.preconditions.unwrap_or_default();
    Ok(DeleteOptions {
        dry_run: call.query.dry_run()? || told.dry_run.iter().any(|d| d == "All"),
        grace_seconds: match told.grace_period_seconds {
            Some(seconds) => Some(seconds),
            None => call.query.number("gracePeriodSeconds")?,
        },
        preconditions: Preconditions {
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
        },
        propagation,
    })
}

/// DELETE of one object.
pub(crate) async fn delete(
    api: &Api,
    mut call: Call,
    route: &ResourceRoute,
) -> Result<Response<Body>, Status> {
    let wanted = Wanted::of(&call)?;
    let options = delete_options(&mut call).await?;
    if *route.kind == kind::NAMESPACE
        && matches!(route.key.name.as_str(), "default" | "kube-system" | "kube-public")
    {
        return Err(Status::forbidden(route.kind, &route.key.name, "this namespace may not be deleted"));
    }
    if *route.kind == kind::PRIORITY_CLASS && weft_api::validate::is_system_class(&route.key.name) {
        let why = "this is a system priority class and cannot be deleted";
        return Err(Status::forbidden(route.kind, &route.key.name, why));
    }
    match api.objects.delete(route.kind, &route.key, &options).await? {
        Deleted::Terminating(cached) => read::object(StatusCode::OK, route.served, &cached, wanted, &call),
        // Pods are answered themselves: clients show what was deleted.
        Deleted::Gone(cached) if *route.kind == kind::POD => {
            read::object(StatusCode::OK, route.served, &cached, wanted, &call)
        }
        Deleted::Gone(cached) => {
            let meta = &cached.object.meta;
            let told = Status::deleted(route.kind, &meta.name, &meta.uid);
            Ok(answer::value(StatusCode::OK, &told, wanted.encoding))
        }
    }
}

/// DELETE of a collection, or of the page of it that `limit` and `continue` say: each object by itself, in key order. As in
/// Kubernetes with its default of one worker it ends at the first that fails.
pub(crate) async fn delete_collection(
    api: &Api,
    mut call: Call,
    route: &ResourceRoute,
) -> Result<Response<Body>, Status> {
    let wanted = Wanted::of(&call)?;
    let options = delete_options(&mut call).await?;
    let selection = Selection::of(route.served, &call.query)?;
    let listed = read::listed(api, &call, route, &selection).await?;
    let mut deleted = Vec::new();
    for cached in &listed.objects {
        let key: ObjectKey = cached.object.key();
        // Refused one by one; of a collection they are just not meant.
        if *route.kind == kind::PRIORITY_CLASS && weft_api::validate::is_system_class(&key.name) {
            continue;
        }
        match api.objects.delete(route.kind, &key, &options).await {
            Ok(Deleted::Gone(cached) | Deleted::Terminating(cached)) => deleted.push(cached),
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    collection::of(route.served, deleted, listed.meta(), wanted, &call.query).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use std::convert::Infallible;
    use std::time::Duration;

    /// A body of pieces, each so long after the one before.
    fn pieces(
        pause: Duration,
        count: usize,
        bytes: usize,
    ) -> impl hyper::body::Body<Data = Bytes, Error = Infallible> + Unpin {
        Box::pin(StreamBody::new(stream::unfold(0, move |sent| async move {
            if sent == count {
                return None;
            }
            tokio::time::sleep(pause).await;
            Some((Ok(Frame::data(Bytes::from(vec![b' '; bytes]))), sent + 1))
        })))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_in_time_is_504_however_it_trickles() {
        let within = whole(None, &mut pieces(Duration::from_secs(5), 11, 100)).await;
        assert_eq!(within.map(|bytes| bytes.len()), Ok(1_100));
        for pause in [Duration::from_secs(1), Duration::from_secs(3_600)] {
            let began = tokio::time::Instant::now();
            let late = whole(None, &mut pieces(pause, 1_000, 1)).await.unwrap_err();
            assert_eq!((late.code, late.reason), (504, "Timeout"));
            assert_eq!(began.elapsed(), BODY_TIME_MAX);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_too_long_is_413_soon_however_long_it_goes_on() {
        let began = tokio::time::Instant::now();
        let long = whole(None, &mut pieces(Duration::from_millis(1), 1_000_000, 64 << 10)).await.unwrap_err();
        assert_eq!(long.code, 413);
        assert!(began.elapsed() < Duration::from_secs(1), "what is beyond all measure is not read");
        let told = whole(Some(DRAIN_BYTES_MAX + 1), &mut pieces(Duration::from_secs(1), 1, 1)).await;
        assert_eq!(told.unwrap_err().code, 413);
        let slow = whole(None, &mut pieces(Duration::from_secs(3_600), 2, BODY_BYTES_MAX + 1)).await;
        assert_eq!(slow.unwrap_err().code, 504);
    }
}
