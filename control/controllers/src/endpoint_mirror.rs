//! Endpoints that somebody wrote for a Service without a selector, as EndpointSlices: nodes and DNS read only those.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::object::Object;
use weft_api::view::network::{EndpointPort, ObjectReference};
use weft_api::view::{EndpointSlice, Service};

use crate::action::{Action, controller_reference};
use crate::kubernetes_service::API;
use crate::pod_facts::mix;
use crate::table::{Context, Loop, LoopKey, Plan, no_start};
use crate::world::{Applied, SERVICE_NAME_LABEL, World};

/// Most endpoints in one slice, as Kubernetes has it.
const ENDPOINTS_MAX: usize = 100;
/// Most addresses of one subset that are mirrored, as Kubernetes has it.
const ADDRESSES_MAX: usize = 1000;
const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";
/// The label of Endpoints that are not to be mirrored.
pub(crate) const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints with this annotation were a lock of leader election.
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

pub(crate) const LOOP: Loop = Loop {
    name: "endpoint-mirror",
    watches: &[&kind::SERVICE, &kind::ENDPOINTS, &kind::ENDPOINT_SLICE],
    start: no_start,
    keys,
    plan,
};

fn keys(change: &Applied, _: &World) -> Vec<LoopKey> {
    if change.kind != &kind::ENDPOINT_SLICE {
        return vec![LoopKey::new(&kind::ENDPOINTS, change.key.clone())];
    }
    let ours = change.sides().filter(|entry| is_mirror(&entry.object));
    let names = ours.filter_map(|entry| entry.object.meta.labels.get(SERVICE_NAME_LABEL));
    let mut keys: Vec<LoopKey> = names
        .map(|name| {
            LoopKey::new(&kind::ENDPOINTS, ObjectKey::namespaced(change.key.namespace.clone(), name.clone()))
        })
        .collect();
    keys.dedup();
    keys
}

fn is_mirror(slice: &Object) -> bool {
    slice.meta.labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Endpoints {
    subsets: Vec<Subset>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Subset {
    addresses: Vec<Address>,
    not_ready_addresses: Vec<Address>,
    ports: Vec<EndpointPort>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Address {
    ip: String,
    hostname: Option<String>,
    node_name: Option<String>,
    target_ref: Option<ObjectReference>,
}

fn plan(key: &LoopKey, world: &World, _: &Context) -> Plan {
    let mut existing: BTreeMap<String, &Object> = world
        .slices_of(&key.key)
        .map(|entry| &entry.object)
        .filter(|object| is_mirror(object) && !object.meta.is_terminating())
        .map(|object| (object.meta.name.clone(), object))
        .collect();
    let mut actions = Vec::new();
    if let Some(endpoints) = mirrored(&key.key, world) {
        for (name, slice) in slices(endpoints) {
            match existing.remove(&name) {
                None => actions.push(Action::Create { kind: &kind::ENDPOINT_SLICE, object: slice }),
                Some(old) => {
                    if !is_same(old, &slice) {
                        let patch = json!({ "endpoints": slice["endpoints"], "ports": slice["ports"] });
                        actions.push(Action::patch(&kind::ENDPOINT_SLICE, &old.meta, patch));
                    }
                }
            }
        }
    }
    actions.extend(existing.values().map(|object| Action::delete(&kind::ENDPOINT_SLICE, &object.meta)));
    Plan::actions(actions)
}

/// The Endpoints, if they are to be mirrored: their Service is there, and nobody makes slices for it.
fn mirrored<'a>(key: &ObjectKey, world: &'a World) -> Option<&'a Object> {
    let service = world.get::<Service>(key)?;
    let endpoints = world.object(&kind::ENDPOINTS, key)?;
    let meta = &endpoints.meta;
    let skipped = meta.labels.get(SKIP_LABEL).is_some_and(|skip| skip == "true")
        || meta.annotations.contains_key(LEADER_ANNOTATION)
        || (key.namespace.as_str(), key.name.as_str()) == API;
    (service.spec.selector.is_empty() && !meta.is_terminating() && !skipped).then_some(endpoints)
}

/// The slices by name: one for each list of ports and family, or more where the endpoints do not fit.
fn slices(object: &Object) -> Vec<(String, Value)> {
    let endpoints: Endpoints = object.view().unwrap_or_default();
    let mut groups: BTreeMap<(&str, String), (Value, Vec<Value>)> = BTreeMap::new();
    for subset in &endpoints.subsets {
        let ports = json!(subset.ports);
        let ready = subset.addresses.iter().map(|address| (address, true));
        let all = ready.chain(subset.not_ready_addresses.iter().map(|address| (address, false)));
        for (address, ready) in all.take(ADDRESSES_MAX) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else { continue };
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let group = groups.entry((family, ports.to_string()));
            group.or_insert_with(|| (ports.clone(), Vec::new())).1.push(endpoint(address, ready));
        }
    }
    let mut slices = Vec::new();
    for ((family, text), (ports, endpoints)) in groups {
        let hash = text.bytes().chain(family.bytes()).fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        for (i, chunk) in endpoints.chunks(ENDPOINTS_MAX).enumerate() {
            let name = format!("{}-{:08x}-{i}", object.meta.name, hash >> 32);
            let mut labels = object.meta.labels.clone();
            labels.insert(SERVICE_NAME_LABEL.to_owned(), object.meta.name.clone());
            labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": { "name": name, "namespace": object.meta.namespace, "labels": labels,
                    "ownerReferences": [controller_reference(&kind::ENDPOINTS, &object.meta)] },
                "addressType": family,
                "endpoints": chunk,
                "ports": ports,
            });
            slices.push((name, slice));
        }
    }
    slices
}

fn endpoint(address: &Address, ready: bool) -> Value {
    let mut value = json!({ "addresses": [address.ip], "conditions": { "ready": ready } });
    if let Some(hostname) = address.hostname.as_ref().filter(|name| !name.is_empty()) {
        value["hostname"] = json!(hostname);
    }
    if let Some(node) = &address.node_name {
        value["nodeName"] = json!(node);
    }
    if let Some(target) = &address.target_ref {
        value["targetRef"] = json!(target);
    }
    value
}

fn is_same(old: &Object, wanted: &Value) -> bool {
    let (Ok(old), Ok(wanted)) =
        (old.view::<EndpointSlice>(), serde_json::from_value::<EndpointSlice>(wanted.clone()))
    else {
        return false;
    };
    old.endpoints == wanted.endpoints && old.ports == wanted.ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::testing::{context, merge, now, object as make, perform, world};
    use crate::world::Change;

    fn service(spec: Value) -> Object {
        make(json!({ "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "db", "namespace": "default" }, "spec": spec }))
    }

    fn endpoints(metadata: Value, subsets: Value) -> Object {
        let mut value = json!({ "apiVersion": "v1", "kind": "Endpoints",
            "metadata": { "name": "db", "namespace": "default" }, "subsets": subsets });
        merge(&mut value["metadata"], &metadata);
        make(value)
    }

    fn settle(world: &mut World) {
        let key = LoopKey::new(&kind::ENDPOINTS, ObjectKey::namespaced("default", "db"));
        let settings = Settings::default();
        let made = plan(&key, world, &context(&settings, 0));
        perform(world, &made.actions, now(0));
        assert_eq!(plan(&key, world, &context(&settings, 0)), Plan::none(), "settled");
    }

    fn mirrors(world: &World) -> Vec<&EndpointSlice> {
        world.all::<EndpointSlice>().collect()
    }

    fn many(count: usize) -> Value {
        let addresses: Vec<Value> = (0..count).map(|i| json!({ "ip": format!("192.0.2.{i}") })).collect();
        json!([{ "addresses": addresses, "ports": [{ "port": 5432, "protocol": "TCP" }] }])
    }

    #[test]
    fn what_was_written_by_hand_becomes_slices_and_follows_every_change() {
        let subsets = json!([
            { "addresses": [{ "ip": "192.0.2.1", "nodeName": "n1" }, { "ip": "2001:db8::1" }],
              "notReadyAddresses": [{ "ip": "192.0.2.2" }],
              "ports": [{ "name": "sql", "port": 5432, "protocol": "TCP" }] },
        ]);
        let mut world =
            world(&[service(json!({ "ports": [{ "port": 5432 }] })), endpoints(json!({}), subsets)]);
        settle(&mut world);
        let made = mirrors(&world);
        assert_eq!(made.len(), 2, "one a family");
        let v4 = made.iter().find(|slice| slice.address_type == "IPv4").unwrap();
        assert_eq!(v4.metadata.labels[SERVICE_NAME_LABEL], "db");
        let ready: Vec<_> =
            v4.endpoints.iter().map(|e| (e.addresses[0].as_str(), e.conditions.ready)).collect();
        assert_eq!(ready, [("192.0.2.1", Some(true)), ("192.0.2.2", Some(false))]);
        assert_eq!((v4.ports[0].name.as_str(), v4.ports[0].port), ("sql", 5432));

        let _ = world.apply(Change::put(endpoints(json!({}), many(150)), 50));
        settle(&mut world);
        let mut counts: Vec<usize> = mirrors(&world).iter().map(|slice| slice.endpoints.len()).collect();
        counts.sort_unstable();
        assert_eq!(counts, [50, 100]);
        let _ = world.apply(Change::put(endpoints(json!({}), many(1)), 60));
        settle(&mut world);
        assert_eq!(mirrors(&world).len(), 1);

        let _ = world.apply(Change::removed(&kind::SERVICE, ObjectKey::namespaced("default", "db"), 70));
        settle(&mut world);
        assert!(mirrors(&world).is_empty());
    }

    #[test]
    fn what_has_slices_already_is_not_mirrored() {
        let selected = service(json!({ "selector": { "app": "db" }, "ports": [{ "port": 1 }] }));
        let free = || service(json!({ "ports": [{ "port": 1 }] }));
        let skip = json!({ "labels": { (SKIP_LABEL): "true" } });
        let lock = json!({ "annotations": { (LEADER_ANNOTATION): "{}" } });
        for (service, metadata) in [(selected, json!({})), (free(), skip), (free(), lock)] {
            let mut world = world(&[service, endpoints(metadata, many(1))]);
            settle(&mut world);
            assert!(mirrors(&world).is_empty());
        }
    }
}
