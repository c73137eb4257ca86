//! The indexed snapshot every loop plans on: objects by kind and key, their views parsed once, and the indexes that keep
//! a plan from walking the whole cluster. It must not know where changes come from, or when.

mod index;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weft_api::key::ObjectKey;
use weft_api::kind::Kind;
use weft_api::object::Object;

use index::Index;
pub(crate) use index::SERVICE_NAME_LABEL;
pub use view::{NamespaceView, Viewed};

/// An object of the snapshot with its view.
#[derive(Debug)]
pub struct Entry {
    /// The object.
    pub object: Object,
    view: view::View,
}

impl Entry {
    /// Reads the view of an object once. An object whose view cannot be read (which validation rules out) has none.
    pub fn new(object: Object) -> Self {
        let view = view::View::read(&object);
        Self { object, view }
    }

    /// The view, if the object is of that kind.
    pub fn view<V: Viewed>(&self) -> Option<&V> {
        V::of(&self.view)
    }
}

/// One change of one object, as a watch tells it.
#[derive(Clone, Debug)]
pub struct Change {
    /// Kind.
    pub kind: &'static Kind,
    /// Namespace and name.
    pub key: ObjectKey,
    /// The object as it is now; none: it is gone.
    pub object: Option<Object>,
    /// Store revision of the commit.
    pub revision: u64,
}

impl Change {
    /// The object is there, or was written.
    pub fn put(object: Object, revision: u64) -> Self {
        Self { kind: object.kind, key: object.key(), object: Some(object), revision }
    }

    /// The object is gone.
    pub fn removed(kind: &'static Kind, key: ObjectKey, revision: u64) -> Self {
        Self { kind, key, object: None, revision }
    }
}

/// A change that is in the snapshot now, with what was there before. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Kind.
    pub kind: &'static Kind,
    /// Namespace and name.
    pub key: ObjectKey,
    /// Before the change.
    pub before: Option<Arc<Entry>>,
    /// After the change.
    pub after: Option<Arc<Entry>>,
    /// Store revision of the commit.
    pub revision: u64,
}

impl Applied {
    /// What was there before and what is there now, as far as either is.
    pub fn sides(&self) -> impl Iterator<Item = &Entry> {
        self.before.iter().chain(self.after.iter()).map(|entry| &**entry)
    }

    /// The views of both sides.
    pub fn views<V: Viewed>(&self) -> impl Iterator<Item = &V> {
        self.sides().filter_map(Entry::view::<V>)
    }
}

/// The snapshot. Bounded by what the store holds: one entry per live object.
#[derive(Debug, Default)]
pub struct World {
    objects: HashMap<&'static Kind, BTreeMap<ObjectKey, Arc<Entry>>>,
    index: Index,
    revision: u64,
}

impl World {
    /// An empty snapshot, at revision 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one change. Applying the same change again changes nothing.
    pub fn apply(&mut self, change: Change) -> Applied {
        let Change { kind, key, object, revision } = change;
        self.revision = self.revision.max(revision);
        let after = object.map(|object| Arc::new(Entry::new(object)));
        let table = self.objects.entry(kind).or_default();
        let before = match &after {
            Some(entry) => table.insert(key.clone(), Arc::clone(entry)),
            None => table.remove(&key),
        };
        if let Some(entry) = &before {
            self.index.remove(entry);
        }
        if let Some(entry) = &after {
            self.index.insert(entry);
        }
        Applied { kind, key, before, after, revision }
    }

    /// Says that every change up to `revision` was taken in, also where nothing of interest changed.
    pub fn advance(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// The newest revision that is in the snapshot.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// One object with its view.
    pub fn entry(&self, kind: &'static Kind, key: &ObjectKey) -> Option<&Arc<Entry>> {
        self.objects.get(kind)?.get(key)
    }

    /// One object.
    pub fn object(&self, kind: &'static Kind, key: &ObjectKey) -> Option<&Object> {
        Some(&self.entry(kind, key)?.object)
    }

    /// All objects of a kind, in key order.
    pub fn entries(&self, kind: &'static Kind) -> impl Iterator<Item = &Arc<Entry>> {
        self.objects.get(kind).into_iter().flat_map(BTreeMap::values)
    }

    /// All objects of a kind in a namespace, in key order.
    pub fn entries_in<'a>(
        &'a self,
        kind: &'static Kind,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Entry>> {
        self.objects
            .get(kind)
            .into_iter()
            .flat_map(move |table| table.range(ObjectKey::namespaced(namespace, "")..))
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(_, entry)| entry)
    }

    /// One object's view.
    pub fn get<V: Viewed>(&self, key: &ObjectKey) -> Option<&V> {
        self.entry(V::kind(), key)?.view()
    }

    /// All views of a kind, in key order.
    pub fn all<V: Viewed>(&self) -> impl Iterator<Item = &V> {
        self.entries(V::kind()).filter_map(|entry| entry.view())
    }

    /// All views of a kind in a namespace, in key order.
    pub fn all_in<'a, V: Viewed>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a V> {
        self.entries_in(V::kind(), namespace).filter_map(|entry| entry.view())
    }

    /// The Pods bound to a node (the empty name: the unbound ones), in key order.
    pub fn pods_on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a weft_api::view::Pod> + use<'a> {
        self.index.pods_on(node).filter_map(|key| self.get(key))
    }

    /// The objects that name this UID among their owners.
    pub fn owned_by<'a>(&'a self, uid: &str) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
        self.index.owned_by(uid).filter_map(|(kind, key)| self.entry(kind, key))
    }

    /// The objects of one kind that name this UID among their owners.
    pub fn owned<'a, V: Viewed>(&'a self, uid: &str) -> impl Iterator<Item = &'a V> + use<'a, V> {
        self.owned_by(uid).filter_map(|entry| entry.view())
    }

    /// The Pods or ReplicaSets that no controller manages.
    pub fn orphans<'a, V: Viewed>(&'a self) -> impl Iterator<Item = &'a V> + use<'a, V> {
        self.owned("")
    }

    /// The EndpointSlices whose `kubernetes.io/service-name` label names the Service.
    pub fn slices_of<'a>(&'a self, service: &ObjectKey) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
        self.index.slices_of(service).filter_map(|key| self.entry(&weft_api::kind::ENDPOINT_SLICE, key))
    }

    /// Where the object of this UID is.
    pub fn by_uid(&self, uid: &str) -> Option<(&'static Kind, &ObjectKey)> {
        self.index.by_uid(uid)
    }

    /// What the Pods bound to a node take of it.
    pub fn load_of(&self, node: &str) -> Option<&weft_scheduler::snapshot::NodeLoad> {
        self.index.load_of(node)
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: &'static Kind) -> usize {
        self.objects.get(kind).map_or(0, BTreeMap::len)
    }
}

#[cfg(test)]
mod tests;
