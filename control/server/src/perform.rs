//! Carries out what the loops ask for: one match over `Action`, through the write path of everybody else.

use serde_json::{Map, Value};
use weft_api::kind::{self, Kind, Subresource};
use weft_api::patch::{self, PatchType};
use weft_api::status::Status;
use weft_controllers::action::Action;

use crate::http::subresource::bind_pod;
use crate::objects::delete::{DeleteOptions, Propagation};
use crate::objects::update::Target;
use crate::objects::{Objects, Preconditions, WriteOptions};

/// What became of a plan's actions.
pub(crate) enum Outcome {
    /// All were carried out.
    Done,
    /// The cluster is not as the plan saw it: plan again.
    Again,
    /// One was refused: plan again later.
    Refused(Status),
}

/// Carries out actions in order; after a refusal the rest is dropped, so that no event tells of what did not happen.
/// Those marked as records hold up nothing themselves.
pub(crate) async fn all(objects: &Objects, loop_name: &str, actions: Vec<(Action, bool)>) -> Outcome {
    let mut outcome = Outcome::Done;
    for (action, is_record) in actions {
        if !matches!(outcome, Outcome::Done) {
            break;
        }
        match one(objects, action).await {
            Ok(()) => {}
            Err(status) if is_record => {
                tracing::debug!(loop_name, reason = status.message, "an event was not recorded");
            }
            Err(status) if matches!(status.reason, "Conflict" | "AlreadyExists" | "NotFound") => {
                tracing::debug!(loop_name, reason = status.message, "a plan met a newer state");
                outcome = Outcome::Again;
            }
            Err(status) => outcome = Outcome::Refused(status),
        }
    }
    outcome
}

async fn one(objects: &Objects, action: Action) -> Result<(), Status> {
    let options = WriteOptions::default();
    match action {
        Action::Create { kind, object } => {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or("").to_owned();
            objects.create(kind, &namespace, map(object)?, &options).await.map(|_| ())
        }
        Action::Patch { kind, key, uid, resource_version, subresource, patch } => {
            let preconditions = Preconditions { uid: Some(uid), resource_version };
            let target = Target { kind, key: &key, subresource, preconditions };
            let bytes = serde_json::to_vec(&patch).map_err(Status::internal)?;
            objects.update(&target, &options, |current| merge(kind, current, &bytes)).await.map(|_| ())
        }
        Action::Delete { kind, key, uid, resource_version, grace_seconds } => {
            let delete = DeleteOptions {
                dry_run: false,
                grace_seconds: grace_seconds.map(i64::from),
                preconditions: Preconditions { uid: Some(uid), resource_version },
                propagation: Propagation::Background,
            };
            objects.delete(kind, &key, &delete).await.map(|_| ())
        }
        Action::Bind { pod, uid, node } => {
            let preconditions = Preconditions { uid: Some(uid), resource_version: None };
            bind_pod(objects, &pod, preconditions, &node, &options).await
        }
        // Resolved to a create or a patch before it comes here.
        Action::Record(_) => Ok(()),
    }
}

fn merge(
    kind: &'static Kind,
    current: &Map<String, Value>,
    patch: &[u8],
) -> Result<Map<String, Value>, Status> {
    map(patch::apply(PatchType::Merge, kind, &Value::Object(current.clone()), patch)?)
}

fn map(value: Value) -> Result<Map<String, Value>, Status> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Status::bad_request("the object is no JSON object")),
    }
}

/// Marks a Pod whose node says that nothing of it is left: it may go now.
///
/// # Errors
/// 409 when it is another Pod by now.
pub(crate) async fn pod_is_gone(
    objects: &Objects,
    key: &weft_api::key::ObjectKey,
    uid: &str,
) -> Result<(), Status> {
    let options = DeleteOptions {
        grace_seconds: Some(0),
        preconditions: Preconditions { uid: Some(uid.to_owned()), resource_version: None },
        ..DeleteOptions::default()
    };
    objects.delete(&kind::POD, key, &options).await.map(|_| ())
}

/// Writes a status as somebody reported it, whole, in place of the old one.
///
/// # Errors
/// 404, 409, 422.
pub(crate) async fn replace_status(
    objects: &Objects,
    kind: &'static Kind,
    key: &weft_api::key::ObjectKey,
    uid: Option<String>,
    change: impl Fn(&Value) -> Value + Send + Sync,
) -> Result<(), Status> {
    let target = Target {
        kind,
        key,
        subresource: Some(Subresource::Status),
        preconditions: Preconditions { uid, resource_version: None },
    };
    let change = |current: &Map<String, Value>| {
        let mut new = current.clone();
        let old = current.get("status").cloned().unwrap_or(Value::Null);
        new.insert("status".into(), change(&old));
        Ok(new)
    };
    objects.update(&target, &WriteOptions::default(), change).await.map(|_| ())
}
