//! Deleting an object: at once, after a grace period, or when its finalizers are done.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind};
use weft_api::status::Status;

use super::{Objects, Preconditions, Refused, TRIES_MAX, metadata, value_of};
use crate::cache::Cached;
use crate::clock;

/// Finalizers by which an owner waits for its dependents, and lets go of them.
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What becomes of an owner's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They go after their owner.
    Background,
    /// The owner goes after them.
    Foreground,
    /// They stay, without the owner.
    Orphan,
}

/// How an object is to be deleted.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    /// Seconds; unset: the object's own.
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) preconditions: Preconditions,
    /// Unset: as the object has it by its finalizers, or as its kind has always had it.
    pub(crate) propagation: Option<Propagation>,
}

/// What became of a delete.
pub(crate) enum Deleted {
    /// It is gone; as it last was.
    Gone(Arc<Cached>),
    /// It is on its way out.
    Terminating(Arc<Cached>),
}

impl Objects {
    /// Deletes an object.
    ///
    /// # Errors
    /// 404, 409 for preconditions.
    pub(crate) async fn delete(
        &self,
        kind: &'static Kind,
        key: &ObjectKey,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        for _ in 0..TRIES_MAX {
            let cached = self.get(kind, key)?;
            options.preconditions.check(&cached)?;
            let current = value_of(&cached)?;
            let mut new = current.clone();
            mark(kind, &mut new, options)?;
            if metadata::may_go(kind, &new) {
                if options.dry_run {
                    return Ok(Deleted::Gone(cached));
                }
                match self.remove(&cached).await {
                    Ok(()) => return Ok(Deleted::Gone(cached)),
                    Err(Refused::Status(status)) => return Err(status),
                    Err(Refused::Conflict(_)) => continue,
                }
            }
            if new == current {
                return Ok(Deleted::Terminating(cached));
            }
            if options.dry_run {
                return Self::pretend(kind, &new, Some(cached.revision)).map(Deleted::Terminating);
            }
            match self.put(kind, key, &new, Vec::new(), Some(cached.revision), Vec::new()).await {
                Ok(cached) => return Ok(Deleted::Terminating(cached)),
                Err(Refused::Status(status)) => return Err(status),
                Err(Refused::Conflict(_)) => {}
            }
        }
        Err(Status::conflict(kind, &key.name))
    }
}

/// Writes into the object that it is to go, and when.
fn mark(kind: &'static Kind, object: &mut Map<String, Value>, options: &DeleteOptions) -> Result<(), Status> {
    let grace_seconds = grace(kind, object, options);
    if *kind == kind::NAMESPACE {
        object.insert("status".into(), json!({ "phase": "Terminating" }));
    }
    let meta = metadata::metadata_mut(object)?;
    let terminating = meta.get("deletionTimestamp").is_some_and(|t| !t.is_null());
    let left = meta.get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    let finalizers = meta.get("finalizers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let unsaid = || (!terminating).then(|| by_default(kind, finalizers)).flatten();
    if let Some(propagation) = options.propagation.or_else(unsaid) {
        depend(meta, propagation);
    }
    // A second delete may shorten the time that is left, never lengthen it.
    if terminating && grace_seconds >= left {
        return Ok(());
    }
    let grace = u64::try_from(grace_seconds).unwrap_or(0);
    let at = clock::now() + Duration::from_secs(grace);
    meta.insert("deletionTimestamp".into(), clock::seconds(at).into());
    meta.insert("deletionGracePeriodSeconds".into(), grace_seconds.into());
    if !terminating && kind.has_generation {
        metadata::bump_generation(object);
    }
    Ok(())
}

/// Writes down what becomes of the dependents, in place of what was said before.
fn depend(meta: &mut Map<String, Value>, propagation: Propagation) {
    let finalizer = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    let before = meta.get("finalizers").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let others = before.iter().filter(|other| *other != FOREGROUND && *other != ORPHAN).cloned();
    let all: Vec<Value> = others.chain(finalizer.map(Value::from)).collect();
    if all != before {
        meta.insert("finalizers".into(), all.into());
    }
}

/// What becomes of the dependents of an object where nobody says it: clients of before there was a choice expect that the Pods
/// of Jobs and ReplicationControllers stay (`DefaultGarbageCollectionPolicy` in Kubernetes' registry). What its finalizers say
/// already goes before that; of others nothing is written.
fn by_default(kind: &Kind, finalizers: &[Value]) -> Option<Propagation> {
    let says = finalizers.iter().any(|finalizer| finalizer == FOREGROUND || finalizer == ORPHAN);
    let stay = *kind == kind::JOB || *kind == kind::REPLICATION_CONTROLLER;
    (!says && stay).then_some(Propagation::Orphan)
}

/// Seconds a Pod has to end; everything else goes at once.
fn grace(kind: &Kind, object: &Map<String, Value>, options: &DeleteOptions) -> i64 {
    if *kind != kind::POD {
        return 0;
    }
    let at = |pointer: &[&str]| {
        pointer.iter().try_fold(None, |v: Option<&Value>, name| match v {
            None => object.get(*name).map(Some),
            Some(v) => v.get(*name).map(Some),
        })
    };
    let at = |pointer: &[&str]| at(pointer).flatten();
    // Nobody runs it, so nobody would say that it has ended.
    if at(&["spec", "nodeName"]).and_then(Value::as_str).unwrap_or("").is_empty() {
        return 0;
    }
    let finished = matches!(at(&["status", "phase"]).and_then(Value::as_str), Some("Succeeded" | "Failed"));
    if finished && options.grace_seconds.is_none() {
        return 0;
    }
    options
        .grace_seconds
        .or_else(|| at(&["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64))
        .unwrap_or(30)
        .max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: &str, phase: &str) -> Map<String, Value> {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": node, "terminationGracePeriodSeconds": 7},
            "status": {"phase": phase}});
        pod.as_object().unwrap().clone()
    }

    fn marked(mut object: Map<String, Value>, options: &DeleteOptions) -> Map<String, Value> {
        mark(&kind::POD, &mut object, options).unwrap();
        object
    }

    #[test]
    fn pods_wait_for_their_node_if_they_have_one() {
        let own = DeleteOptions::default();
        assert!(metadata::may_go(&kind::POD, &marked(pod("", "Pending"), &own)));
        assert!(metadata::may_go(&kind::POD, &marked(pod("n", "Failed"), &own)));
        let waits = marked(pod("n", "Running"), &own);
        assert!(!metadata::may_go(&kind::POD, &waits));
        assert_eq!(waits["metadata"]["deletionGracePeriodSeconds"], 7);
        let longer = DeleteOptions { grace_seconds: Some(60), ..own.clone() };
        assert_eq!(marked(waits.clone(), &longer), waits);
        let forced = DeleteOptions { grace_seconds: Some(0), ..own };
        assert!(metadata::may_go(&kind::POD, &marked(waits, &forced)));
    }

    #[test]
    fn foreground_waits_by_a_finalizer() {
        let options =
            DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
        let object = marked(pod("", "Pending"), &options);
        assert_eq!(object["metadata"]["finalizers"], json!(["foregroundDeletion"]));
        assert!(!metadata::may_go(&kind::POD, &object));
    }

    #[test]
    fn a_second_deletion_says_anew_what_becomes_of_the_dependents() {
        let options = |propagation| DeleteOptions { propagation, ..DeleteOptions::default() };
        let object = json!({ "metadata": { "name": "a" } });
        let mut object = object.as_object().unwrap().clone();
        let mut finalizers = |propagation| {
            mark(&kind::JOB, &mut object, &options(propagation)).unwrap();
            object["metadata"]["finalizers"].clone()
        };
        assert_eq!(finalizers(None), json!([ORPHAN]));
        assert_eq!(finalizers(Some(Propagation::Foreground)), json!([FOREGROUND]));
        assert_eq!(finalizers(None), json!([FOREGROUND]));
        assert_eq!(finalizers(Some(Propagation::Background)), json!([]));
        assert_eq!(finalizers(None), json!([]), "what was said stays");
    }

    #[test]
    fn jobs_and_replication_controllers_leave_their_pods_unless_somebody_says_otherwise() {
        let finalizers = |kind: &'static Kind, own: Value, propagation: Option<Propagation>| {
            let object = json!({ "metadata": { "name": "a", "finalizers": own } });
            let mut object = object.as_object().unwrap().clone();
            mark(kind, &mut object, &DeleteOptions { propagation, ..DeleteOptions::default() }).unwrap();
            object["metadata"]["finalizers"].clone()
        };
        for kind in [&kind::JOB, &kind::REPLICATION_CONTROLLER] {
            assert_eq!(finalizers(kind, json!([]), None), json!([ORPHAN]), "{kind}");
            assert_eq!(finalizers(kind, json!(["a.b/c"]), None), json!(["a.b/c", ORPHAN]), "{kind}");
            assert_eq!(finalizers(kind, json!([FOREGROUND]), None), json!([FOREGROUND]), "{kind}");
            assert_eq!(finalizers(kind, json!([]), Some(Propagation::Background)), json!([]), "{kind}");
            // Whoever says it now is heard, whatever was said before.
            let (own, foreground) = (json!(["a.b/c", ORPHAN]), Some(Propagation::Foreground));
            assert_eq!(finalizers(kind, own.clone(), Some(Propagation::Background)), json!(["a.b/c"]));
            assert_eq!(finalizers(kind, own, foreground), json!(["a.b/c", FOREGROUND]));
        }
        for kind in [&kind::REPLICA_SET, &kind::CRON_JOB, &kind::DEPLOYMENT] {
            assert_eq!(finalizers(kind, json!([]), None), json!([]), "{kind}");
        }
    }
}
