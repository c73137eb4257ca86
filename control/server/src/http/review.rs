//! Questions: who am I, whose token is this, may I, may somebody else?

use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use weft_api::key::ObjectKey;
use weft_api::review;
use weft_api::status::{FieldError, Status};

use super::accept::Wanted;
use super::answer::{self, Body};
use super::route::ReviewRoute;
use super::{Api, Call, subresource, write};
use crate::authn::User;
use crate::authz::{Attributes, Rule};

/// Answers a review.
///
/// # Errors
/// 403 for who may not ask this, 405 for anything but POST, 400 for bodies that cannot be read, 422 for a question that is none.
pub(crate) async fn serve(api: &Api, mut call: Call, route: &ReviewRoute) -> Result<Response<Body>, Status> {
    if call.request.method() != Method::POST {
        return Err(Status::method_not_allowed());
    }
    let asks = Attributes::Resource {
        verb: "create",
        group: route.review.group,
        resource: route.review.plural,
        subresource: "",
        namespace: &route.namespace,
        name: "",
    };
    api.authorizer.authorize(&call.user, &asks)?;
    if *route.review == review::BINDING {
        return subresource::binding(api, call, &ObjectKey::namespaced(route.namespace.clone(), "")).await;
    }
    let encoding = Wanted::of(&call)?.encoding;
    let (_, validation) = write::options(&call)?;
    let bytes = write::body(&mut call).await?;
    let content_type = call.header(http::header::CONTENT_TYPE);
    let decoded = weft_api::decode::any(route.review.schema, &bytes, content_type, validation)?;
    let mut asked = decoded.value;
    let status = answer(api, &call.user, route, &asked)?;
    // What is asked again has to show, but not the token.
    if *route.review == review::TOKEN {
        asked["spec"]["token"] = Value::Null;
    }
    let mut metadata = asked["metadata"].take();
    if !metadata.is_object() {
        metadata = json!({});
    }
    let mut answer = json!({
        "apiVersion": route.review.api_version(),
        "kind": route.review.kind,
        "metadata": metadata,
        "status": status,
    });
    if *route.review == review::SELF_SUBJECT {
        answer["metadata"]["creationTimestamp"] = crate::clock::seconds(crate::clock::now()).into();
    } else {
        answer["spec"] = asked["spec"].take();
    }
    let mut response = answer::value(StatusCode::CREATED, &answer, encoding);
    answer::warn(&mut response, &decoded.warnings);
    Ok(response)
}

fn answer(api: &Api, user: &User, route: &ReviewRoute, asked: &Value) -> Result<Value, Status> {
    let spec = &asked["spec"];
    let review = route.review;
    let invalid = |error| Err(Status::invalid_type(review.group, review.kind, "", &[error]));
    if *review == review::SELF_SUBJECT {
        return Ok(json!({ "userInfo": user_info(user) }));
    }
    if *review == review::SELF_SUBJECT_RULES {
        return match text(spec, "namespace") {
            "" => Err(Status::bad_request("no namespace on request")),
            namespace => Ok(rules(api, user, namespace)),
        };
    }
    if *review == review::TOKEN {
        return match text(spec, "token") {
            "" => Err(Status::bad_request("token is required for TokenReview in authentication")),
            token => Ok(whose(api, token, &texts(spec, "audiences"))),
        };
    }
    if spec["resourceAttributes"].is_object() == spec["nonResourceAttributes"].is_object() {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        return invalid(FieldError::invalid(
            "spec.resourceAttributes",
            spec["resourceAttributes"].clone(),
            why,
        ));
    }
    if *review == review::SELF_SUBJECT_ACCESS {
        return Ok(access(api, user, spec));
    }
    let groups = texts(spec, "groups");
    if text(spec, "user").is_empty() && groups.is_empty() {
        return invalid(FieldError::invalid(
            "spec.user",
            "",
            "at least one of user or group must be specified",
        ));
    }
    if *review == review::LOCAL_SUBJECT_ACCESS {
        if spec["nonResourceAttributes"].is_object() {
            let why = "disallowed on this kind of request";
            return invalid(FieldError::invalid("spec.nonResourceAttributes", Value::Null, why));
        }
        let named = text(&spec["resourceAttributes"], "namespace");
        if named != route.namespace {
            let why = "must match metadata.namespace";
            return invalid(FieldError::invalid("spec.resourceAttributes.namespace", named, why));
        }
    }
    let somebody = User { name: text(spec, "user").to_owned(), groups, ..User::default() };
    Ok(access(api, &somebody, spec))
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or("")
}

fn texts(object: &Value, key: &str) -> Vec<String> {
    let items = object[key].as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
}

pub(super) fn user_info(user: &User) -> Value {
    let mut info = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.clone().into();
    }
    if !user.extra.is_empty() {
        let mut extra = Map::new();
        for (key, value) in &user.extra {
            if let Some(values) = extra.entry(key).or_insert_with(|| json!([])).as_array_mut() {
                values.push(value.clone().into());
            }
        }
        info["extra"] = Value::Object(extra);
    }
    info
}

/// Whose a token is, for these audiences; for the API server's own when none is named.
fn whose(api: &Api, token: &str, audiences: &[String]) -> Value {
    match api.accounts.check_for(token, audiences, &api.objects.cache) {
        Some((user, audiences)) => {
            json!({ "authenticated": true, "user": user_info(&user), "audiences": audiences })
        }
        None => json!({ "user": {}, "error": "the token is not good, or not for these audiences" }),
    }
}

fn access(api: &Api, user: &User, spec: &Value) -> Value {
    let resource = &spec["resourceAttributes"];
    let attributes = if resource.is_object() {
        Attributes::Resource {
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
        }
    } else {
        let path = &spec["nonResourceAttributes"];
        Attributes::Path { verb: text(path, "verb"), path: text(path, "path") }
    };
    if api.authorizer.allows(user, &attributes) {
        json!({ "allowed": true })
    } else {
        json!({ "allowed": false, "reason": "no rule allows it" })
    }
}

fn rules(api: &Api, user: &User, namespace: &str) -> Value {
    let everywhere = api.authorizer.rules(user, "").filter(|rule| !rule.paths.is_empty());
    let paths: Vec<&Rule> = everywhere.collect();
    let here = api.authorizer.rules(user, namespace).filter(|rule| rule.paths.is_empty());
    let resources: Vec<&Rule> = here.collect();
    // What a node may depends on its name, and no rule can say that.
    json!({ "resourceRules": resources, "nonResourceRules": paths, "incomplete": user.node().is_some() })
}
