//! Carries out what the loops ask for: one match over `Action`, through the write path of everybody else.

use serde_json::{Map, Value};
use weft_api::kind::{self, Kind, Subresource};
use weft_api::patch::{self, PatchType};
use weft_api::status::Status;
use weft_controllers::action::{Action, Event};
use weft_controllers::record;

use crate::clock;
use crate::http::subresource::bind_pod;
use crate::loops::Snapshot;
use crate::objects::delete::{DeleteOptions, Propagation};
use crate::objects::update::Target;
use crate::objects::{Objects, Preconditions, WriteOptions};

/// What became of a plan's actions.
pub(crate) enum Outcome {
    /// All were carried out.
    Done,
    /// The cluster is not as the plan saw it: plan again.
    Again(Status),
    /// One was refused: plan again later.
    Refused(Status),
}

/// Carries out actions in order; after a refusal the rest is dropped, so that no event tells of what did not happen.
/// A create that is refused is told to the owner of what was to be. Those marked as records hold up nothing themselves.
pub(crate) async fn all(
    objects: &Objects,
    snapshot: &Snapshot,
    loop_name: &str,
    actions: Vec<(Action, bool)>,
) -> Outcome {
    for (action, is_record) in actions {
        let Err(status) = one(objects, &action).await else { continue };
        if is_record {
            tracing::debug!(loop_name, reason = status.message, "an event was not recorded");
        } else if matches!(status.reason, "Conflict" | "AlreadyExists" | "NotFound") {
            return Outcome::Again(status);
        } else {
            if let Some(event) = action.refusal(&status.message) {
                record(objects, snapshot, &event).await;
            }
            return Outcome::Refused(status);
        }
    }
    Outcome::Done
}

/// Tells the user something. Whoever says it goes on whether it could be told or not.
pub(crate) async fn record(objects: &Objects, snapshot: &Snapshot, event: &Event) {
    let action = record::resolve(event, &snapshot.read(), clock::now());
    let Some(action) = action else { return };
    if let Err(status) = one(objects, &action).await {
        tracing::debug!(reason = status.message, event = event.reason, "an event was not recorded");
    }
}

async fn one(objects: &Objects, action: &Action) -> Result<(), Status> {
    let options = WriteOptions::default();
    let exactly = |uid: &String, resource_version: Option<&String>| Preconditions {
        uid: Some(uid.clone()),
        resource_version: resource_version.cloned(),
    };
    match action {
        Action::Create { kind, object } => {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or("");
            objects.create(kind, namespace, map(object.clone())?, &options).await.map(|_| ())
        }
        Action::Patch { kind, key, uid, resource_version, subresource, patch } => {
            let preconditions = exactly(uid, resource_version.as_ref());
            let target = Target { kind, key, subresource: *subresource, preconditions };
            let bytes = serde_json::to_vec(patch).map_err(Status::internal)?;
            objects.update(&target, &options, |current| merge(kind, current, &bytes)).await.map(|_| ())
        }
        Action::Delete { kind, key, uid, resource_version, grace_seconds, foreground } => {
            let delete = DeleteOptions {
                dry_run: false,
                grace_seconds: grace_seconds.map(i64::from),
                preconditions: exactly(uid, resource_version.as_ref()),
                propagation: if *foreground { Propagation::Foreground } else { Propagation::Background },
            };
            objects.delete(kind, key, &delete).await.map(|_| ())
        }
        Action::Bind { pod, uid, node } => bind_pod(objects, pod, exactly(uid, None), node, &options).await,
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
