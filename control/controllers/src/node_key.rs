//! Keys of the nodes' encryption: a pair for every node and generation, in a Secret of the node's in `kube-system`.
//!
//! A generation is the whole cluster's: nodes speak by keys of one generation. When the newest has lived its time, or is older
//! than the time in a Node's annotation [`ROTATE_ANNOTATION`], one node gets a pair of the next, and then all do. **Each keeps
//! the generation before the newest, until the next comes**: whoever hears of a key late is still heard. The public halves go
//! to all nodes, a Secret to its own alone ([`crate::node_view`]).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind::{self, Kind};
use weft_api::meta::ObjectMeta;
use weft_api::view::Node;

use crate::action::Action;
use crate::table::{Context, Loop, LoopKey, Plan, no_start};
use crate::world::{Applied, World};

/// Where the Secrets are.
const NAMESPACE: &str = "kube-system";
/// How their names begin; the node's follows.
const PREFIX: &str = "weft-node-key-";
/// Their type.
const SECRET_TYPE: &str = "weft.io/node-key";
/// On a Secret: its newest generation, and when that was made (RFC 3339). All nodes' are compared, which is to read no Secret.
const GENERATION_ANNOTATION: &str = "weft.io/key-generation";
const MADE_ANNOTATION: &str = "weft.io/key-made";
/// On any Node: keys made before this time (RFC 3339) are to be replaced in the whole cluster.
pub const ROTATE_ANNOTATION: &str = "weft.io/rotate-keys";
/// A generation is the newest for so long at least, seconds: the one before it goes with the next, and nodes need time to change over.
const LIFE_SECONDS_MIN: i64 = 15;
/// Length of a key, bytes.
const KEY_BYTES: usize = 32;

pub(crate) const LOOP: Loop =
    Loop { name: "node-key", watches: &[&kind::NODE, &kind::SECRET], start: no_start, keys, plan };

/// A key pair.
pub struct Made {
    /// The private half.
    pub private: [u8; KEY_BYTES],
    /// The public half.
    pub public: [u8; KEY_BYTES],
}

/// What of a generation all may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number, from 1 on.
    pub number: u64,
    /// The public key.
    pub public: [u8; KEY_BYTES],
}

/// The newest generation of a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Newest {
    number: u64,
    made: Timestamp,
}

/// The Secret of a node.
pub fn secret_key(node: &str) -> ObjectKey {
    ObjectKey::namespaced(NAMESPACE, format!("{PREFIX}{node}"))
}

/// The node whose keys an object is; none for other objects.
pub fn node_of<'a>(kind: &Kind, key: &'a ObjectKey) -> Option<&'a str> {
    if kind != &kind::SECRET || key.namespace != NAMESPACE {
        return None;
    }
    key.name.strip_prefix(PREFIX)
}

fn name(generation: u64, what: &str) -> String {
    format!("{generation}.{what}")
}

/// The Secret, or the patch of the one that is there, with a new pair in it.
pub fn secret(node: &str, generation: u64, pair: &Made, drop: &[String], now: Timestamp) -> Value {
    let mut data: Map<String, Value> = drop.iter().map(|name| (name.clone(), Value::Null)).collect();
    data.insert(name(generation, "private"), STANDARD.encode(pair.private).into());
    data.insert(name(generation, "public"), STANDARD.encode(pair.public).into());
    let key = secret_key(node);
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "annotations": {
                GENERATION_ANNOTATION: generation.to_string(),
                MADE_ANNOTATION: crate::record::seconds(now),
            },
        },
        "data": data,
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Secret {
    metadata: ObjectMeta,
    data: std::collections::BTreeMap<String, String>,
}

/// A node's generations, newest first; what cannot be read is passed over.
pub fn generations(node: &str, world: &World) -> Vec<Generation> {
    let Some(object) = world.object(&kind::SECRET, &secret_key(node)) else { return Vec::new() };
    let secret: Secret = object.view().unwrap_or_default();
    let mut found: Vec<Generation> =
        secret.data.keys().filter_map(|name| generation(name, &secret)).collect();
    found.sort_by_key(|generation| std::cmp::Reverse(generation.number));
    found
}

fn generation(public: &str, secret: &Secret) -> Option<Generation> {
    let number = public.strip_suffix(".public")?.parse().ok()?;
    // Without the other half it is none.
    secret.data.get(&name(number, "private"))?;
    let decoded = |what: &str| STANDARD.decode(secret.data.get(&name(number, what))?).ok();
    Some(Generation { number, public: decoded("public")?.try_into().ok()? })
}

fn newest(secret: &ObjectMeta) -> Option<Newest> {
    let annotation = |name| secret.annotations.get(name);
    Some(Newest {
        number: annotation(GENERATION_ANNOTATION)?.parse().ok()?,
        made: annotation(MADE_ANNOTATION)?.parse().ok()?,
    })
}

/// The newest generation of each node that has one.
fn all_newest(world: &World) -> impl Iterator<Item = (&str, Newest)> {
    world.all::<Node>().filter_map(|node| {
        let name = node.metadata.name.as_str();
        Some((name, newest(&world.object(&kind::SECRET, &secret_key(name))?.meta)?))
    })
}

fn keys(change: &Applied, world: &World) -> Vec<LoopKey> {
    let of = |node: &str| LoopKey::new(&kind::NODE, ObjectKey::cluster(node));
    if change.kind == &kind::NODE {
        return vec![of(&change.key.name)];
    }
    let Some(node) = node_of(change.kind, &change.key) else { return Vec::new() };
    let newest = change.after.as_ref().and_then(|entry| newest(&entry.object.meta));
    let is_first = |newest: Newest| {
        !all_newest(world).any(|(other, held)| other != node && held.number >= newest.number)
    };
    match newest {
        // The first of a new generation: all others want it, too.
        Some(newest) if is_first(newest) => world.all::<Node>().map(|node| of(&node.metadata.name)).collect(),
        _ => vec![of(node)],
    }
}

fn plan(key: &LoopKey, world: &World, context: &Context) -> Plan {
    if !context.settings.encryption {
        return Plan::none();
    }
    let node = &key.key.name;
    let object = world.object(&kind::SECRET, &secret_key(node));
    let Some(view) = world.get::<Node>(&key.key) else {
        let left = object.map(|object| Action::delete(&kind::SECRET, &object.meta));
        return Plan::actions(left.into_iter().collect());
    };
    if view.metadata.is_terminating() {
        return Plan::none();
    }
    let newest_of_all = all_newest(world)
        .map(|(_, newest)| newest)
        .max_by_key(|newest| (newest.number, std::cmp::Reverse(newest.made)));
    let (wanted, due_ms) = match newest_of_all {
        None => (1, None),
        Some(newest) => match due_seconds(&newest, view, context) {
            ..=0 => (newest.number.saturating_add(1), None),
            left => (newest.number, u64::try_from(left * 1_000).ok()),
        },
    };
    let mut plan = Plan::none();
    let noted = object.and_then(|object| newest(&object.meta)).map(|newest| newest.number);
    // What is noted, and is there.
    let held = generations(node, world).first().map(|own| own.number).filter(|own| noted == Some(*own));
    if held.is_none_or(|held| held < wanted) {
        let kept = wanted.saturating_sub(1);
        let secret: Secret = object.and_then(|object| object.view().ok()).unwrap_or_default();
        let number = |name: &str| name.split_once('.').and_then(|(number, _)| number.parse::<u64>().ok());
        let drop = secret.data.keys().filter(|name| number(name).is_none_or(|number| number < kept));
        plan.actions.push(Action::MakeKey {
            node: node.clone(),
            generation: wanted,
            drop: drop.cloned().collect(),
            secret: object.map(|_| (secret.metadata.uid, secret.metadata.resource_version)),
        });
    }
    if let Some(ms) = due_ms {
        plan.requeue(ms);
    }
    plan
}

/// Seconds until the newest generation is to be followed by another.
fn due_seconds(newest: &Newest, node: &Node, context: &Context) -> i64 {
    let age = context.now.as_second() - newest.made.as_second();
    let life = i64::from(context.settings.key_life_seconds);
    let asked =
        node.metadata.annotations.get(ROTATE_ANNOTATION).and_then(|text| text.parse::<Timestamp>().ok());
    // A time that is still to come is no wish for now.
    let asked = asked.is_some_and(|asked| asked > newest.made && asked <= context.now);
    let left = if asked { 0 } else { life - age };
    left.max(LIFE_SECONDS_MIN - age)
}

#[cfg(test)]
mod tests;
