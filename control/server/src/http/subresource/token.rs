//! `serviceaccounts/NAME/token`: a token for a ServiceAccount, bound to an object or not.

use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind};
use weft_api::status::{FieldError, Status};
use weft_api::view::Pod;
use weft_api::{decode, schema};

use super::super::accept::Wanted;
use super::super::answer::{self, Body};
use super::super::route::ResourceRoute;
use super::super::{Api, Call, write};
use crate::authn::account::{self, Bound, LIFE_SECONDS_MAX, LIFE_SECONDS_MIN};
use crate::clock;

/// Seconds a token lasts when nobody says.
const TOKEN_LIFE_SECONDS: u64 = 3_600;

/// Makes a token.
///
/// # Errors
/// 404 for the account or what the token is to be bound to, 409 for another UID of that, 422, 400.
pub(super) async fn serve(
    api: &Api,
    mut call: Call,
    route: &ResourceRoute,
) -> Result<Response<Body>, Status> {
    let encoding = Wanted::of(&call)?.encoding;
    let bytes = write::body(&mut call).await?;
    let (_, validation) = write::options(&call)?;
    let mut request =
        decode::any(schema::TOKEN_REQUEST, &bytes, call.header(CONTENT_TYPE), validation)?.value;
    let account = api.objects.get(route.kind, &route.key)?;
    let spec = &request["spec"];
    let life_seconds = life(&spec["expirationSeconds"])
        .map_err(|error| Status::invalid_type("authentication.k8s.io", "TokenRequest", "", &[error]))?;
    let audiences = spec["audiences"]
        .as_array()
        .map(|a| a.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect())
        .unwrap_or_default();
    let wanted = account::Wanted {
        namespace: route.key.namespace.clone(),
        account: route.key.name.clone(),
        account_uid: account.object.meta.uid.clone(),
        audiences,
        life_seconds,
        bound: bound(api, route, &spec["boundObjectRef"])?,
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

/// How long the token is to last, seconds.
fn life(asked: &Value) -> Result<u64, FieldError> {
    let Some(seconds) = asked.as_i64() else { return Ok(TOKEN_LIFE_SECONDS) };
    let why = match u64::try_from(seconds) {
        Ok(LIFE_SECONDS_MIN..=LIFE_SECONDS_MAX) => return Ok(seconds.unsigned_abs()),
        Ok(seconds) if seconds > LIFE_SECONDS_MAX => "may not specify a duration larger than 2^32 seconds",
        _ => "may not specify a duration less than 10 minutes",
    };
    Err(FieldError::invalid("spec.expirationSeconds", seconds, why))
}

/// What the token ends with, beside its account.
fn bound(api: &Api, route: &ResourceRoute, reference: &Value) -> Result<Option<Bound>, Status> {
    if reference.is_null() {
        return Ok(None);
    }
    let text = |field: &str| reference[field].as_str().unwrap_or("");
    let (name, account) = (text("name"), &route.key.name);
    let found = |kind: &'static Kind, namespace: &str| {
        let found = api.objects.get(kind, &ObjectKey::namespaced(namespace, name))?;
        let uid = &found.object.meta.uid;
        if !text("uid").is_empty() && text("uid") != uid {
            let why = format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have \
                 been deleted and then recreated",
                text("uid")
            );
            return Err(Status::conflict_because(kind, name, &why));
        }
        Ok((account::Reference::new(name, uid), found))
    };
    let namespace = route.key.namespace.as_str();
    match (text("apiVersion"), text("kind")) {
        ("v1" | "", "Pod") => {
            let (pod, found) = found(&kind::POD, namespace)?;
            let spec = found.object.view::<Pod>().map_err(Status::internal)?.spec;
            if spec.service_account_name != *account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
                )));
            }
            // Where it runs, if it does and the node is there.
            let node = api.objects.cache.get(&kind::NODE, &ObjectKey::cluster(&spec.node_name));
            let node = node.map(|node| account::Reference::new(&spec.node_name, &node.object.meta.uid));
            Ok(Some(Bound::Pod { pod, node }))
        }
        ("v1" | "", "Secret") => Ok(Some(Bound::Secret(found(&kind::SECRET, namespace)?.0))),
        ("v1" | "", "Node") => Ok(Some(Bound::Node(found(&kind::NODE, "")?.0))),
        (version, kind) => Err(Status::bad_request(format!(
            "cannot bind token for serviceaccount \"{account}\" to type {version}, Kind={kind}"
        ))),
    }
}
