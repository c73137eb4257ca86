//! What one node must know, kept up change by change: the resources of [`weft_link::message`] for every node.
//!
//! Services, peers and addresses go to all nodes; Pods, and what they refer to, to their own. **For every node, the full
//! list (shared and own) and the sum of the deltas are the same**; a change that alters no resource causes no delta.

mod refer;
mod shape;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind};
use weft_api::object::Object;
use weft_api::view::{Node, Pod};
use weft_link::Item;
use weft_link::message::Resource;

use crate::node_key;
use crate::world::{Applied, World};
use refer::Reference;

/// Who a delta is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Every node.
    All,
    /// The node of this name.
    Node(String),
}

/// One step of a node's view. Its bytes are encoded once, for however many nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// The resource is there, or changed.
    Put(Item),
    /// The resource of this name is gone.
    Remove(String),
    /// The resource of this name is there, but larger than a message may be: it is left out, as if it were gone.
    TooLarge(String),
}

impl Delta {
    fn of(resource: Resource) -> Self {
        let name = resource.name.clone();
        Item::new(resource).map_or(Self::TooLarge(name), Self::Put)
    }

    fn item(&self) -> Option<&Item> {
        match self {
            Self::Put(item) => Some(item),
            Self::Remove(_) | Self::TooLarge(_) => None,
        }
    }
}

/// The views of all nodes. What several nodes share is kept once.
#[derive(Clone, Debug, Default)]
pub struct NodeViews {
    /// Services, peers and addresses by resource name.
    shared: BTreeMap<String, Item>,
    /// The objects that Pods refer to.
    referred: HashMap<Reference, Referred>,
    /// Pods by address: two for a moment, when an address is given anew before the old Pod's object is gone.
    holders: HashMap<Vec<u8>, BTreeSet<ObjectKey>>,
}

/// An object that Pods refer to.
#[derive(Clone, Debug, Default)]
struct Referred {
    /// How many Pods of each node do.
    nodes: BTreeMap<String, u32>,
    /// The object, if it is there and fits.
    item: Option<Item>,
}

impl NodeViews {
    /// No nodes, no objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one change that `world` has already, and answers what it means for whom.
    pub fn apply(&mut self, change: &Applied, world: &World) -> Vec<(Target, Delta)> {
        let mut deltas = Vec::new();
        if change.before.is_none() && change.after.is_none() {
            return deltas;
        }
        if change.kind == &kind::SERVICE {
            self.service(&change.key, world, &mut deltas);
        } else if change.kind == &kind::ENDPOINT_SLICE {
            let services: BTreeSet<ObjectKey> =
                change.sides().filter_map(|e| shape::service_of(&e.object)).collect();
            for key in services {
                self.service(&key, world, &mut deltas);
            }
        } else if change.kind == &kind::NODE {
            self.node(change, world, &mut deltas);
        } else if change.kind == &kind::POD {
            self.pod(change, world, &mut deltas);
        } else if refer::KINDS.contains(&change.kind) {
            if let Some(node) = node_key::node_of(change.kind, &change.key) {
                // The public half to all, the private one to whom it is.
                self.peer(node, world, &mut deltas);
                let object = change.after.as_ref().map(|entry| &entry.object);
                deltas.push((Target::Node(node.to_owned()), object_delta(change.kind, &change.key, object)));
            }
            let reference = Reference { kind: change.kind, key: change.key.clone() };
            if let Some(referred) = self.referred.get_mut(&reference) {
                let object = change.after.as_ref().map(|entry| &entry.object);
                let delta = object_delta(change.kind, &change.key, object);
                referred.item = delta.item().cloned();
                deltas.extend(referred.nodes.keys().map(|node| (Target::Node(node.clone()), delta.clone())));
            }
        }
        deltas
    }

    /// What all nodes must know.
    pub fn shared(&self) -> impl Iterator<Item = Item> {
        self.shared.values().cloned()
    }

    /// What only this node must know.
    pub fn own(&self, node: &str, world: &World) -> Vec<Item> {
        let mut items = Vec::new();
        items.extend(world.object(&kind::NODE, &ObjectKey::cluster(node)).and_then(object_item));
        let keys = node_key::secret_key(node);
        items.extend(world.object(&kind::SECRET, &keys).and_then(object_item));
        let mut references = BTreeSet::new();
        for pod in world.pods_on(node) {
            let key = crate::action::key_of(&pod.metadata);
            items.extend(world.object(&kind::POD, &key).and_then(object_item));
            references.extend(refer::references(pod));
        }
        items.extend(references.iter().filter_map(|reference| self.referred_item(reference, world)));
        items
    }

    fn referred_item(&self, reference: &Reference, world: &World) -> Option<Item> {
        let kept = self.referred.get(reference).and_then(|referred| referred.item.clone());
        kept.or_else(|| object_item(world.object(reference.kind, &reference.key)?))
    }

    fn service(&mut self, key: &ObjectKey, world: &World, deltas: &mut Vec<(Target, Delta)>) {
        let resource = world.entry(&kind::SERVICE, key).and_then(|entry| shape::service(entry, world));
        self.share(&shape::service_name(key), resource, deltas);
    }

    /// A node as the others see it.
    fn peer(&mut self, node: &str, world: &World, deltas: &mut Vec<(Target, Delta)>) {
        let resource = world.get::<Node>(&ObjectKey::cluster(node)).map(|node| shape::peer(node, world));
        self.share(&shape::peer_name(node), resource, deltas);
    }

    fn node(&mut self, change: &Applied, world: &World, deltas: &mut Vec<(Target, Delta)>) {
        self.peer(&change.key.name, world, deltas);
        let object = change.after.as_ref().map(|entry| &entry.object);
        let same = match (&change.before, object) {
            (Some(before), Some(after)) => before.object.json == after.json,
            (before, after) => before.is_none() && after.is_none(),
        };
        if !same {
            deltas.push((
                Target::Node(change.key.name.clone()),
                object_delta(change.kind, &change.key, object),
            ));
        }
    }

    fn pod(&mut self, change: &Applied, world: &World, deltas: &mut Vec<(Target, Delta)>) {
        let before = change.before.as_ref().and_then(|entry| entry.view::<Pod>());
        let after = change.after.as_ref().and_then(|entry| entry.view::<Pod>());
        let node_before = before.map(|pod| pod.spec.node_name.as_str()).filter(|node| !node.is_empty());
        let node_after = after.map(|pod| pod.spec.node_name.as_str()).filter(|node| !node.is_empty());

        // What the Pod refers to is there before the Pod, and goes after it.
        let mut unused = Vec::new();
        if let (Some(pod), Some(node)) = (after, node_after) {
            for reference in refer::references(pod) {
                let item = self.refer(reference, node, world);
                deltas.extend(item.map(|item| (Target::Node(node.to_owned()), Delta::Put(item))));
            }
        }
        if let (Some(pod), Some(node)) = (before, node_before) {
            for reference in refer::references(pod) {
                if self.forget(&reference, node) && world.object(reference.kind, &reference.key).is_some() {
                    let name = shape::object_name(reference.kind, &reference.key);
                    unused.push((Target::Node(node.to_owned()), Delta::Remove(name)));
                }
            }
        }
        self.addresses(before, after, &change.key, world, deltas);
        if let Some(node) = node_after {
            let object = change.after.as_ref().map(|entry| &entry.object);
            deltas.push((Target::Node(node.to_owned()), object_delta(change.kind, &change.key, object)));
        }
        if let Some(node) = node_before.filter(|node| Some(*node) != node_after) {
            let name = shape::object_name(change.kind, &change.key);
            deltas.push((Target::Node(node.to_owned()), Delta::Remove(name)));
        }
        deltas.extend(unused);
    }

    /// One more Pod of the node refers to the object; the object, if this is the first and it is there.
    fn refer(&mut self, reference: Reference, node: &str, world: &World) -> Option<Item> {
        let item = self.referred_item(&reference, world);
        let referred = self.referred.entry(reference).or_default();
        referred.item = item;
        let count = referred.nodes.entry(node.to_owned()).or_default();
        *count += 1;
        if *count == 1 { referred.item.clone() } else { None }
    }

    /// One Pod of the node refers to the object no more; whether it was the last.
    fn forget(&mut self, reference: &Reference, node: &str) -> bool {
        let Some(referred) = self.referred.get_mut(reference) else { return false };
        let Some(count) = referred.nodes.get_mut(node) else { return false };
        *count = count.saturating_sub(1);
        let last = *count == 0;
        if last {
            referred.nodes.remove(node);
            if referred.nodes.is_empty() {
                self.referred.remove(reference);
            }
        }
        last
    }

    fn addresses(
        &mut self,
        before: Option<&Pod>,
        after: Option<&Pod>,
        key: &ObjectKey,
        world: &World,
        deltas: &mut Vec<(Target, Delta)>,
    ) {
        let old: BTreeSet<Vec<u8>> = before.map(shape::pod_addresses).unwrap_or_default();
        let new: BTreeSet<Vec<u8>> = after.map(shape::pod_addresses).unwrap_or_default();
        for address in &new {
            self.holders.entry(address.clone()).or_default().insert(key.clone());
        }
        for address in old.difference(&new) {
            if let Some(holders) = self.holders.get_mut(address) {
                holders.remove(key);
                if holders.is_empty() {
                    self.holders.remove(address);
                }
            }
        }
        for address in old.union(&new) {
            let holders = self.holders.get(address).into_iter().flatten();
            let pods = holders.filter_map(|holder| world.get::<Pod>(holder));
            // Of two, the one that stays.
            let holder = pods.min_by_key(|pod| pod.metadata.is_terminating());
            let resource = holder.map(|pod| shape::address(address, pod));
            self.share(&shape::address_name(address), resource, deltas);
        }
    }

    /// Sets or removes a resource that all nodes have, and says so if it changed.
    fn share(&mut self, name: &str, resource: Option<Resource>, deltas: &mut Vec<(Target, Delta)>) {
        match resource.map(Delta::of) {
            Some(Delta::Put(item)) if self.shared.get(name) == Some(&item) => {}
            Some(Delta::Put(item)) => {
                self.shared.insert(name.to_owned(), item.clone());
                deltas.push((Target::All, Delta::Put(item)));
            }
            Some(left_out) => {
                self.shared.remove(name);
                deltas.push((Target::All, left_out));
            }
            None if self.shared.remove(name).is_some() => {
                deltas.push((Target::All, Delta::Remove(name.to_owned())));
            }
            None => {}
        }
    }
}

fn object_delta(kind: &'static Kind, key: &ObjectKey, object: Option<&Object>) -> Delta {
    object.map_or_else(
        || Delta::Remove(shape::object_name(kind, key)),
        |object| Delta::of(shape::object(object)),
    )
}

/// An object as it is sent; none when it does not fit, which its delta has said.
fn object_item(object: &Object) -> Option<Item> {
    Item::new(shape::object(object)).ok()
}

#[cfg(test)]
mod tests;
