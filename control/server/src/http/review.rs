//! Questions of a user about itself: who am I, may I?

use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use weft_api::kind;
use weft_api::status::Status;

use super::answer::{self, Body};
use super::route::Review;
use super::{Api, Call, write};
use crate::authn::User;
use crate::authz::{self, Attributes};

/// Answers a review.
///
/// # Errors
/// 405 for anything but POST, 400 for bodies that cannot be read.
pub(crate) async fn serve(_api: &Api, mut call: Call, review: Review) -> Result<Response<Body>, Status> {
    if call.request.method() != Method::POST {
        return Err(Status::method_not_allowed());
    }
    let bytes = write::body(&mut call).await?;
    let asked = read(&call, &bytes, review)?;
    let user = &call.user;
    let answer = match review {
        Review::Subject => json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "SelfSubjectReview",
            "metadata": { "creationTimestamp": crate::clock::seconds(crate::clock::now()) },
            "status": { "userInfo": user_info(user) },
        }),
        Review::Access => {
            let (allowed, denied_why) = access(user, &asked["spec"]);
            let mut status = json!({ "allowed": allowed });
            if !allowed {
                status["reason"] = denied_why.into();
            }
            json!({
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "metadata": {},
                "spec": asked["spec"],
                "status": status,
            })
        }
        Review::Rules => json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "metadata": {},
            "spec": asked["spec"],
            "status": rules(user),
        }),
    };
    Ok(answer::json(StatusCode::CREATED, &answer))
}

fn read(call: &Call, bytes: &[u8], review: Review) -> Result<Value, Status> {
    let name = match review {
        Review::Subject => "io.k8s.api.authentication.v1.SelfSubjectReview",
        Review::Access => "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
        Review::Rules => "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
    };
    let content_type = call.header(http::header::CONTENT_TYPE);
    if weft_api::schema::definition(name).is_some() {
        let validation = weft_api::decode::FieldValidation::Ignore;
        return Ok(weft_api::decode::any(name, bytes, content_type, validation)?.value);
    }
    serde_json::from_slice(bytes).map_err(|e| Status::bad_request(e.to_string()))
}

pub(super) fn user_info(user: &User) -> Value {
    let mut info = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.clone().into();
    }
    if !user.extra.is_empty() {
        let extra: Map<String, Value> = user.extra.iter().map(|(k, v)| (k.clone(), json!([v]))).collect();
        info["extra"] = Value::Object(extra);
    }
    info
}

/// Verbs the table knows; anything else is asked of masters only.
const VERBS: &[&str] = &["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

fn access(user: &User, spec: &Value) -> (bool, &'static str) {
    const NO_RULE: &str = "no rule allows it";
    let verb = |v: &Value| VERBS.iter().copied().find(|known| v["verb"] == **known);
    let resource = &spec["resourceAttributes"];
    if resource.is_object() {
        let text = |field: &str| resource[field].as_str().unwrap_or("");
        let found = kind::by_plural(text("group"), text("resource"));
        let allowed = match (verb(resource), found) {
            (Some(verb), Some(kind)) => authz::allows(
                user,
                &Attributes::Resource {
                    verb,
                    kind,
                    subresource: text("subresource"),
                    namespace: text("namespace"),
                    name: text("name"),
                },
            ),
            // Kinds and verbs that are not served: whoever may do everything may do these too.
            _ => user.is_in("system:masters"),
        };
        return (allowed, NO_RULE);
    }
    let path = &spec["nonResourceAttributes"];
    let asked = path["path"].as_str().unwrap_or("");
    (authz::allows(user, &Attributes::Path { verb: verb(path).unwrap_or("other"), path: asked }), NO_RULE)
}

fn rules(user: &User) -> Value {
    if user.is_in("system:masters") {
        return json!({
            "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            "incomplete": false,
        });
    }
    json!({
        "resourceRules": [
            { "verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"] },
            { "verbs": ["create"], "apiGroups": ["authorization.k8s.io"],
              "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"] },
        ],
        "nonResourceRules": [{ "verbs": ["get"],
            "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*",
                "/readyz", "/version"] }],
        "incomplete": user.node().is_some(),
    })
}
