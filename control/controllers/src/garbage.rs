//! Garbage: what belongs to an owner goes with it. Background deletion, and the two finalizers of the other ways:
//! `foregroundDeletion` (the owner waits for its dependents) and `orphan` (the dependents stay).

use std::collections::HashSet;

use serde_json::json;
use weft_api::kind;
use weft_api::meta::{ObjectMeta, OwnerReference};
use weft_api::object::Object;

use crate::action::Action;
use crate::table::{Context, Loop, LoopKey, Plan, no_start};
use crate::world::{Applied, World};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

pub(crate) const LOOP: Loop = Loop { name: "garbage", watches: kind::KINDS, start: no_start, keys, plan };

fn keys(change: &Applied, world: &World) -> Vec<LoopKey> {
    let mut keys = Vec::new();
    if let Some(after) = &change.after {
        let meta = &after.object.meta;
        let waits = meta.is_terminating() && meta.finalizers.iter().any(|f| f == FOREGROUND || f == ORPHAN);
        if !meta.owner_references.is_empty() || waits {
            keys.push(LoopKey::new(change.kind, change.key.clone()));
        }
    }
    // The object under this name may be another one now: its dependents lost their owner all the same.
    if let Some(before) = &change.before {
        let uid = &before.object.meta.uid;
        if change.after.as_ref().is_none_or(|after| after.object.meta.uid != *uid) {
            keys.extend(world.owned_by(uid).map(|entry| LoopKey::new(entry.object.kind, entry.object.key())));
        }
        // And an owner that waits for it may be done: it is gone, no longer this owner's, or no longer in its way.
        let still = change.after.as_ref().filter(|after| after.object.meta.uid == *uid);
        let owned = still.map_or(&[][..], |after| &after.object.meta.owner_references);
        let held: HashSet<_> = owned.iter().map(|owner| (&owner.uid, owner.block_owner_deletion)).collect();
        for owner in &before.object.meta.owner_references {
            if !held.contains(&(&owner.uid, true))
                && !held.contains(&(&owner.uid, owner.block_owner_deletion))
            {
                keys.extend(world.by_uid(&owner.uid).map(|(kind, key)| LoopKey::new(kind, key.clone())));
            }
        }
    }
    keys
}

fn plan(key: &LoopKey, world: &World, _: &Context) -> Plan {
    let Some(object) = world.object(key.kind, &key.key) else { return Plan::none() };
    let meta = &object.meta;
    if meta.is_terminating() {
        return dependents(key, meta, world);
    }
    if meta.owner_references.is_empty() {
        return Plan::none();
    }
    let lost = meta.owner_references.iter().filter(|owner| is_lost(owner, meta, world)).count();
    if lost == meta.owner_references.len() {
        return Plan::actions(vec![Action::delete(key.kind, meta)]);
    }
    if lost > 0 {
        let mut owners = meta.owner_references.clone();
        owners.retain(|owner| !is_lost(owner, meta, world));
        return Plan::actions(vec![Action::patch(
            key.kind,
            meta,
            json!({ "metadata": { "ownerReferences": owners } }),
        )]);
    }
    Plan::none()
}

/// Whether an owner is gone for sure. Of a kind that is not served here nothing is known, so it counts as there.
fn is_lost(owner: &OwnerReference, meta: &ObjectMeta, world: &World) -> bool {
    let Some(kind) = kind::by_api_version(&owner.api_version, &owner.kind) else { return false };
    match world.by_uid(&owner.uid) {
        // An owner lives in the same namespace or in none.
        Some((found, at)) => found != kind || !(at.namespace.is_empty() || at.namespace == meta.namespace),
        None => true,
    }
}

/// What a terminating owner does to its dependents before it goes.
fn dependents(key: &LoopKey, meta: &ObjectMeta, world: &World) -> Plan {
    let has = |finalizer: &str| meta.finalizers.iter().any(|name| name == finalizer);
    let (finalizer, orphans) = match (has(ORPHAN), has(FOREGROUND)) {
        (true, _) => (ORPHAN, true),
        (false, true) => (FOREGROUND, false),
        (false, false) => return Plan::none(),
    };
    let mut actions = Vec::new();
    let mut left = false;
    for entry in world.owned_by(&meta.uid) {
        let dependent = &entry.object;
        if orphans {
            let mut owners = dependent.meta.owner_references.clone();
            owners.retain(|owner| owner.uid != meta.uid);
            let patch = json!({ "metadata": { "ownerReferences": owners } });
            actions.push(Action::patch(dependent.kind, &dependent.meta, patch));
            left = true;
            continue;
        }
        let blocks = blocks_owner(dependent, meta);
        left |= blocks;
        if !dependent.meta.is_terminating() {
            let mut delete = Action::delete(dependent.kind, &dependent.meta);
            if let Action::Delete { foreground, .. } = &mut delete {
                // The owner waits for all that is below it, not for the first row of it.
                *foreground = blocks
                    && world.owned_by(&dependent.meta.uid).any(|e| blocks_owner(&e.object, &dependent.meta));
            }
            actions.push(delete);
        }
    }
    if !left {
        let rest: Vec<&String> = meta.finalizers.iter().filter(|name| *name != finalizer).collect();
        actions.push(Action::patch(key.kind, meta, json!({ "metadata": { "finalizers": rest } })));
    }
    Plan::actions(actions)
}

/// Whether a foreground delete of the owner waits for the dependent.
fn blocks_owner(dependent: &Object, owner: &ObjectMeta) -> bool {
    dependent.meta.owner_references.iter().any(|o| o.uid == owner.uid && o.block_owner_deletion)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use weft_api::key::ObjectKey;

    use super::*;
    use crate::settings::Settings;
    use crate::testing::{context, merge, object, world};
    use crate::world::Change;

    fn set(fields: Value) -> Object {
        let mut value = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": { "name": "rs", "namespace": "default" } });
        merge(&mut value, &fields);
        object(value)
    }

    fn pod(owners: &[&str]) -> Object {
        let owners: Vec<Value> = owners
            .iter()
            .map(|uid| json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": uid, "blockOwnerDeletion": true }))
            .collect();
        object(json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "p", "namespace": "default", "ownerReferences": owners } }))
    }

    fn run(world: &World, kind: &'static kind::Kind, name: &str) -> Plan {
        plan(
            &LoopKey::new(kind, ObjectKey::namespaced("default", name)),
            world,
            &context(&Settings::default(), 0),
        )
    }

    #[test]
    fn dependents_go_when_their_last_owner_is_gone() {
        let mut world = world(&[set(json!({})), pod(&["uid-rs"])]);
        assert_eq!(run(&world, &kind::POD, "p"), Plan::none());
        let gone =
            world.apply(Change::removed(&kind::REPLICA_SET, ObjectKey::namespaced("default", "rs"), 9));
        assert_eq!(keys(&gone, &world).len(), 1);
        assert!(matches!(&run(&world, &kind::POD, "p").actions[..], [Action::Delete { .. }]));
    }

    #[test]
    fn an_owner_of_the_same_name_but_another_uid_is_no_owner() {
        let mut world = world(&[set(json!({})), pod(&["uid-rs"])]);
        let again = world.apply(Change::put(set(json!({ "metadata": { "uid": "second" } })), 9));
        assert_eq!(keys(&again, &world).len(), 1);
        assert!(matches!(&run(&world, &kind::POD, "p").actions[..], [Action::Delete { .. }]));
    }

    #[test]
    fn one_owner_left_keeps_the_object_and_unknown_kinds_are_believed() {
        let both = world(&[set(json!({})), pod(&["uid-rs", "gone"])]);
        let plan = run(&both, &kind::POD, "p");
        assert!(matches!(&plan.actions[..], [Action::Patch { patch, .. }]
            if patch["metadata"]["ownerReferences"].as_array().unwrap().len() == 1));
        let foreign = object(
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": "default",
            "ownerReferences": [{ "apiVersion": "example.org/v1", "kind": "Thing", "name": "t", "uid": "t" }] } }),
        );
        assert_eq!(run(&world(&[foreign]), &kind::POD, "p"), Plan::none());
    }

    #[test]
    fn a_foreground_delete_waits_for_the_dependents() {
        let going = json!({ "metadata": { "deletionTimestamp": "2027-01-15T08:00:00Z", "finalizers": [FOREGROUND, "other"] } });
        let mut world = world(&[set(going), pod(&["uid-rs"])]);
        assert!(matches!(&run(&world, &kind::REPLICA_SET, "rs").actions[..], [Action::Delete { .. }]));
        let gone = world.apply(Change::removed(&kind::POD, ObjectKey::namespaced("default", "p"), 9));
        assert!(keys(&gone, &world).iter().any(|key| key.kind == &kind::REPLICA_SET));
        let plan = run(&world, &kind::REPLICA_SET, "rs");
        assert!(
            matches!(&plan.actions[..], [Action::Patch { patch, .. }] if patch["metadata"]["finalizers"] == json!(["other"]))
        );
    }

    #[test]
    fn an_owner_hears_what_is_no_longer_in_its_way() {
        let mut world = world(&[set(json!({})), pod(&["uid-rs"])]);
        let heard = |world: &mut World, pod: Object| {
            let change = world.apply(Change::put(pod, 9));
            keys(&change, world).iter().any(|key| key.kind == &kind::REPLICA_SET)
        };
        assert!(!heard(&mut world, pod(&["uid-rs"])));
        let owner = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "uid-rs",
            "blockOwnerDeletion": false });
        let free = json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "p", "namespace": "default", "ownerReferences": [owner] } });
        assert!(heard(&mut world, object(free.clone())));
        assert!(!heard(&mut world, object(free)));
        assert!(!heard(&mut world, pod(&["uid-rs"])), "it blocks again");
        assert!(heard(&mut world, pod(&[])));
    }

    /// Compared each with each, they would hold up every loop for minutes.
    #[test]
    fn many_owners_are_looked_up() {
        let owners: Vec<String> = (0..30_000).map(|at| format!("{}-{at}", "u".repeat(60))).collect();
        let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
        let mut world = world(&[pod(&owners)]);
        let again = world.apply(Change::put(pod(&owners), 9));
        assert_eq!(keys(&again, &world).len(), 1);
        let others: Vec<String> = owners.iter().map(|owner| format!("{owner}x")).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        let changed = world.apply(Change::put(pod(&others), 10));
        assert_eq!(keys(&changed, &world).len(), 1, "nobody here was one of them");
    }

    #[test]
    fn a_foreground_delete_goes_down_to_the_last_row() {
        let deployment = object(
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d",
            "namespace": "default", "deletionTimestamp": "2027-01-15T08:00:00Z", "finalizers": [FOREGROUND] } }),
        );
        let owner = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "uid-d",
            "blockOwnerDeletion": true });
        let owned = set(json!({ "metadata": { "ownerReferences": [owner] } }));
        let with_pod = world(&[deployment.clone(), owned.clone(), pod(&["uid-rs"])]);
        let waits = |world: &World| match &run(world, &kind::DEPLOYMENT, "d").actions[..] {
            [Action::Delete { foreground, .. }] => *foreground,
            other => panic!("{other:?}"),
        };
        assert!(waits(&with_pod), "its Pod goes before the ReplicaSet");
        assert!(!waits(&world(&[deployment, owned])));
    }

    #[test]
    fn an_orphaning_delete_lets_the_dependents_live() {
        let going =
            json!({ "metadata": { "deletionTimestamp": "2027-01-15T08:00:00Z", "finalizers": [ORPHAN] } });
        let mut world = world(&[set(going), pod(&["uid-rs"])]);
        let plan = run(&world, &kind::REPLICA_SET, "rs");
        assert!(matches!(&plan.actions[..], [Action::Patch { kind, .. }] if *kind == &kind::POD));
        crate::testing::perform(&mut world, &plan.actions, crate::testing::now(0));
        assert!(matches!(&run(&world, &kind::REPLICA_SET, "rs").actions[..], [Action::Patch { patch, .. }]
            if patch["metadata"]["finalizers"] == json!([])));
    }

    #[test]
    fn an_owner_hears_of_each_dependent_that_it_loses() {
        let mut world = world(&[set(json!({})), pod(&["uid-rs"])]);
        let owner = LoopKey::new(&kind::REPLICA_SET, ObjectKey::namespaced("default", "rs"));
        let same = world.apply(Change::put(pod(&["uid-rs"]), 8));
        assert!(!keys(&same, &world).contains(&owner));
        let let_go = world.apply(Change::put(pod(&[]), 9));
        assert!(keys(&let_go, &world).contains(&owner));
    }
}
