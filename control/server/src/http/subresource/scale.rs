//! `NAME/scale`: how many of a kind that keeps replicas there are to be, in the words of `autoscaling/v1`.
//!
//! What is written is the object's own `spec.replicas`, and who wrote it is noted there, as a manager with the subresource
//! `scale`; of the object's managers a Scale shows none.

use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use weft_api::decode::FieldValidation;
use weft_api::kind::{self, Kind, Subresource};
use weft_api::patch::apply::Manager;
use weft_api::patch::{self, PatchType};
use weft_api::selector::Selector;
use weft_api::status::{FieldError, Status};
use weft_api::view::LabelSelector;
use weft_api::{decode, schema};

use super::super::accept::Wanted;
use super::super::answer::{self, Body};
use super::super::route::ResourceRoute;
use super::super::{Api, Call, write};
use crate::clock;
use crate::objects::{Writer, into_map, value_of};

/// The names of a Scale.
const SCALE: (&str, &str) = ("autoscaling/v1", "Scale");

/// GET, PUT and PATCH.
///
/// # Errors
/// 404, 405, 400; 409 for another version or UID, or for what another manager owns; 422.
pub(super) async fn serve(
    api: &Api,
    mut call: Call,
    route: &ResourceRoute,
) -> Result<Response<Body>, Status> {
    let encoding = Wanted::of(&call)?.encoding;
    let method = call.request.method().clone();
    let current = api.objects.get(route.kind, &route.key)?;
    if method == Method::GET {
        let scale = scale_of(route.kind, &value_of(&current)?)?;
        return Ok(answer::value(StatusCode::OK, &scale, encoding));
    }
    if method != Method::PUT && method != Method::PATCH {
        return Err(Status::method_not_allowed());
    }
    let (mut options, validation) = write::options(&call)?;
    let bytes = write::body(&mut call).await?;
    let mut sent = if method == Method::PUT {
        Sent::whole(&call, &bytes, validation)?
    } else {
        match PatchType::from_content_type(call.header(CONTENT_TYPE).unwrap_or("")) {
            Some(PatchType::Apply) => Sent::configuration(&bytes, validation)?,
            _ => Sent::Patch { type_: write::patch_type(&call)?, bytes: bytes.to_vec(), validation },
        }
    };
    if let Sent::Whole(scale, _) | Sent::Configuration(scale, _) = &mut sent {
        write::identify(route, SCALE, scale)?;
    }
    let name = call.query.get("fieldManager").unwrap_or("");
    let manager = Manager { name, subresource: Subresource::Scale.as_str(), time: clock::now() };
    if matches!(sent, Sent::Configuration(..)) {
        options.writer = Writer::Applier;
    }
    let force = call.query.flag("force");
    let mut warnings = Vec::new();
    let change = |current: &Map<String, Value>| {
        let (scale, told) = sent.scale(route.kind, current)?;
        warnings = told;
        let replicas = scale["spec"]["replicas"].as_i64();
        if replicas.is_some_and(|replicas| replicas < 0) {
            let error = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            return Err(Status::invalid_type("autoscaling", "Scale", &route.key.name, &[error]));
        }
        let mut new = current.clone();
        for field in ["uid", "resourceVersion"] {
            if let Some(text) = scale["metadata"][field].as_str().filter(|text| !text.is_empty()) {
                new["metadata"][field] = text.into();
            }
        }
        if matches!(sent, Sent::Configuration(..)) {
            return patch::apply::scale(route.kind, &Value::Object(new), replicas, manager, force)
                .and_then(into_map);
        }
        new["spec"]["replicas"] = replicas.unwrap_or(0).into();
        Ok(new)
    };
    let cached = api.objects.update(&write::target(route), &options, change).await?;
    let scale = scale_of(route.kind, &value_of(&cached)?)?;
    let mut response = answer::value(StatusCode::OK, &scale, encoding);
    answer::warn(&mut response, &warnings);
    Ok(response)
}

/// What a client says of a Scale, and what it is warned of.
enum Sent {
    Whole(Value, Vec<String>),
    Configuration(Value, Vec<String>),
    Patch { type_: PatchType, bytes: Vec<u8>, validation: FieldValidation },
}

impl Sent {
    fn whole(call: &Call, bytes: &[u8], validation: FieldValidation) -> Result<Self, Status> {
        let decoded = decode::any(schema::SCALE, bytes, call.header(CONTENT_TYPE), validation)?;
        Ok(Self::Whole(decoded.value, decoded.warnings))
    }

    fn configuration(bytes: &[u8], validation: FieldValidation) -> Result<Self, Status> {
        let mut scale = decode::yaml(bytes)?;
        let warnings = decode::configuration(schema::SCALE, &mut scale, validation)?;
        Ok(Self::Configuration(scale, warnings))
    }

    /// The Scale as it is to be, of an object that is so.
    fn scale(
        &self,
        kind: &'static Kind,
        current: &Map<String, Value>,
    ) -> Result<(Value, Vec<String>), Status> {
        match self {
            Self::Whole(scale, warnings) | Self::Configuration(scale, warnings) => {
                Ok((scale.clone(), warnings.clone()))
            }
            Self::Patch { type_, bytes, validation } => {
                let mut scale = patch::apply_any(*type_, schema::SCALE, &scale_of(kind, current)?, bytes)?;
                let warnings = decode::check(schema::SCALE, &mut scale, *validation)?;
                Ok((scale, warnings))
            }
        }
    }
}

fn scale_of(kind: &'static Kind, object: &Map<String, Value>) -> Result<Value, Status> {
    let at =
        |part: &str, field: &str| object.get(part).and_then(|part| part.get(field)).unwrap_or(&Value::Null);
    let selector = at("spec", "selector").clone();
    let selector = if *kind == kind::REPLICATION_CONTROLLER {
        // Its selector is the labels themselves.
        Selector::from_map(&serde_json::from_value(selector).map_err(Status::internal)?).to_string()
    } else {
        let selector: LabelSelector = serde_json::from_value(selector).map_err(Status::internal)?;
        Selector::from_label_selector(&selector).map(|s| s.to_string()).unwrap_or_default()
    };
    let meta: Map<String, Value> = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"]
        .map(|field| (field.to_owned(), at("metadata", field).clone()))
        .into_iter()
        .collect();
    Ok(json!({
        "apiVersion": SCALE.0,
        "kind": SCALE.1,
        "metadata": meta,
        "spec": { "replicas": at("spec", "replicas").as_i64().unwrap_or(0) },
        "status": { "replicas": at("status", "replicas").as_i64().unwrap_or(0), "selector": selector },
    }))
}
