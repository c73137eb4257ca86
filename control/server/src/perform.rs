//! Carries out what the loops ask for: one match over `Action`, through the write path of everybody else.

use serde_json::{Map, Value};
use weft_api::decode::{self, FieldValidation};
use weft_api::kind::Kind;
use weft_api::patch::{self, PatchType};
use weft_api::status::Status;
use weft_controllers::action::{Action, Event};
use weft_controllers::record;

use crate::clock;
use crate::keys;
use crate::loops::Snapshot;
use crate::objects::bind::Binding;
use crate::objects::delete::{DeleteOptions, Propagation};
use crate::objects::update::Target;
use crate::objects::{Objects, Preconditions, WriteOptions, into_map};

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
            objects.create(kind, namespace, tidy(kind, object.clone())?, &options).await.map(|_| ())
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
                propagation: Some(if *foreground {
                    Propagation::Foreground
                } else {
                    Propagation::Background
                }),
            };
            objects.delete(kind, key, &delete).await.map(|_| ())
        }
        Action::Bind { pod, uid, node } => {
            let binding = Binding { node: node.clone(), ..Binding::default() };
            objects.bind(pod, exactly(uid, None), binding, &options).await
        }
        Action::MakeKey { node, generation, secret, drop } => {
            keys::make(objects, node, *generation, secret.as_ref(), drop).await
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
    tidy(kind, patch::apply(PatchType::Merge, kind, &Value::Object(current.clone()), patch)?)
}

/// As what a client sends is tidied: an empty list of owners, say, is none.
fn tidy(kind: &'static Kind, mut object: Value) -> Result<Map<String, Value>, Status> {
    decode::check(kind.schema, &mut object, FieldValidation::Ignore)?;
    into_map(object)
}
