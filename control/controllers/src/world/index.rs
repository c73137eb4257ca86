//! The snapshot's indexes, kept in step with it one entry at a time.

use std::collections::{BTreeSet, HashMap};

use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind};
use weft_api::view::Pod;
use weft_scheduler::snapshot::NodeLoad;

use super::Entry;

/// The label of an EndpointSlice that names its Service.
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Orders kinds within an index row.
type KindName = (&'static str, &'static str);

#[derive(Debug, Default)]
pub(super) struct Index {
    pods_by_node: HashMap<String, BTreeSet<ObjectKey>>,
    by_owner: HashMap<String, BTreeSet<(KindName, ObjectKey)>>,
    slices_by_service: HashMap<ObjectKey, BTreeSet<ObjectKey>>,
    by_uid: HashMap<String, (&'static Kind, ObjectKey)>,
    load: HashMap<String, NodeLoad>,
}

impl Index {
    pub(super) fn insert(&mut self, entry: &Entry) {
        let object = &entry.object;
        let key = object.key();
        if !object.meta.uid.is_empty() {
            self.by_uid.insert(object.meta.uid.clone(), (object.kind, key.clone()));
        }
        for owner in &object.meta.owner_references {
            self.by_owner.entry(owner.uid.clone()).or_default().insert((kind_name(object.kind), key.clone()));
        }
        if is_orphan(entry) {
            self.by_owner.entry(String::new()).or_default().insert((kind_name(object.kind), key.clone()));
        }
        if let Some(service) = service_of(entry) {
            self.slices_by_service.entry(service).or_default().insert(key.clone());
        }
        if let Some(pod) = entry.view::<Pod>() {
            if takes_room(pod) {
                self.load.entry(pod.spec.node_name.clone()).or_default().add(pod);
            }
            self.pods_by_node.entry(pod.spec.node_name.clone()).or_default().insert(key);
        }
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        let object = &entry.object;
        let key = object.key();
        self.by_uid.remove(&object.meta.uid);
        for owner in &object.meta.owner_references {
            remove_from(&mut self.by_owner, &owner.uid, &(kind_name(object.kind), key.clone()));
        }
        if is_orphan(entry) {
            remove_from(&mut self.by_owner, &String::new(), &(kind_name(object.kind), key.clone()));
        }
        if let Some(service) = service_of(entry) {
            remove_from(&mut self.slices_by_service, &service, &key);
        }
        if let Some(pod) = entry.view::<Pod>() {
            let node = &pod.spec.node_name;
            if takes_room(pod)
                && let Some(load) = self.load.get_mut(node)
            {
                load.remove(pod);
                if load.is_empty() {
                    self.load.remove(node);
                }
            }
            remove_from(&mut self.pods_by_node, node, &key);
        }
    }

    pub(super) fn pods_on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a ObjectKey> + use<'a> {
        self.pods_by_node.get(node).into_iter().flatten()
    }

    pub(super) fn owned_by<'a>(
        &'a self,
        uid: &str,
    ) -> impl Iterator<Item = (&'static Kind, &'a ObjectKey)> + use<'a> {
        self.by_owner.get(uid).into_iter().flatten().filter_map(|((group, name), key)| {
            let kind = kind::by_name(group, name)?;
            Some((kind, key))
        })
    }

    pub(super) fn slices_of<'a>(
        &'a self,
        service: &ObjectKey,
    ) -> impl Iterator<Item = &'a ObjectKey> + use<'a> {
        self.slices_by_service.get(service).into_iter().flatten()
    }

    pub(super) fn by_uid(&self, uid: &str) -> Option<(&'static Kind, &ObjectKey)> {
        self.by_uid.get(uid).map(|(kind, key)| (*kind, key))
    }

    pub(super) fn load_of(&self, node: &str) -> Option<&NodeLoad> {
        self.load.get(node)
    }
}

fn kind_name(kind: &'static Kind) -> KindName {
    (kind.group, kind.kind)
}

/// Whether the Pod holds resources of its node: bound and not ended.
fn takes_room(pod: &Pod) -> bool {
    !pod.spec.node_name.is_empty() && !pod.status.is_finished()
}

/// Whether a controller might adopt the object: such ones stand in `by_owner` under the empty UID.
fn is_orphan(entry: &Entry) -> bool {
    let kind = entry.object.kind;
    (kind == &kind::POD || kind == &kind::REPLICA_SET) && entry.object.meta.controller().is_none()
}

fn service_of(entry: &Entry) -> Option<ObjectKey> {
    if entry.object.kind != &kind::ENDPOINT_SLICE {
        return None;
    }
    let name = entry.object.meta.labels.get(SERVICE_NAME_LABEL)?;
    Some(ObjectKey::namespaced(entry.object.meta.namespace.clone(), name.clone()))
}

/// Takes a value out of a row, and the row out of the index when it was the last.
fn remove_from<K: std::hash::Hash + Eq, V: Ord>(rows: &mut HashMap<K, BTreeSet<V>>, row: &K, value: &V) {
    if let Some(values) = rows.get_mut(row) {
        values.remove(value);
        if values.is_empty() {
            rows.remove(row);
        }
    }
}
