//! EndpointSlices: the Pods behind each Service, at most 100 to a slice, moved between slices as little as can be.

mod topology;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::view::network::{EndpointConditions, EndpointHints, EndpointPort, Hint, ObjectReference};
use weft_api::view::{Endpoint, EndpointSlice, Node, Service};

use crate::action::{Action, Event, controller_reference};
use crate::backends::{self, Backend, instead};
use crate::pod_facts::{is_controlled_by, mix, suffix, time_of};
use crate::table::{Context, Loop, LoopKey, Plan, no_start};
use crate::world::{Applied, Entry, SERVICE_NAME_LABEL, World};

/// Most endpoints in one slice.
const ENDPOINTS_MAX: usize = 100;
const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const COMPONENT: &str = "endpoint-slice-controller";
/// A Service may come before its Pods: only after so long is an empty one worth a word, milliseconds.
const EMPTY_PATIENCE_MS: i64 = 15_000;

pub(crate) const LOOP: Loop = Loop {
    name: "endpoint-slice",
    watches: &[&kind::SERVICE, &kind::POD, &kind::ENDPOINT_SLICE, &kind::NODE],
    start: no_start,
    keys,
    plan,
};

fn keys(change: &Applied, world: &World) -> Vec<LoopKey> {
    if change.kind == &kind::NODE {
        let zone = |entry: Option<&Node>| entry.map(|node| node.zone().to_owned()).unwrap_or_default();
        let before = zone(change.before.as_ref().and_then(|entry| entry.view()));
        let after = zone(change.after.as_ref().and_then(|entry| entry.view()));
        let mut keys = Vec::new();
        if before != after {
            keys = backends::services_of_node(&change.key.name, world);
        }
        if share(change.before.as_ref()) != share(change.after.as_ref()) {
            let asking = world.all::<Service>().filter(|service| topology::is_asked(service));
            keys.extend(asking.map(|it| backends::service_key(&it.metadata.namespace, &it.metadata.name)));
        }
        return keys;
    }
    if change.kind != &kind::ENDPOINT_SLICE {
        return backends::services_of(change, world);
    }
    let ours = change.sides().filter(|entry| {
        let labels = &entry.object.meta.labels;
        labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY)
    });
    let mut keys: Vec<LoopKey> = ours
        .filter_map(|entry| entry.object.meta.labels.get(SERVICE_NAME_LABEL))
        .map(|name| backends::service_key(&change.key.namespace, name))
        .collect();
    keys.dedup();
    keys
}

fn share(entry: Option<&Arc<Entry>>) -> Option<(&str, u64)> {
    entry.and_then(|entry| entry.view()).and_then(topology::share)
}

/// What the slices of one group have in common.
type Group = (&'static str, Vec<(String, String, u16, Option<String>)>);

fn plan(key: &LoopKey, world: &World, context: &Context) -> Plan {
    let mut actions = Vec::new();
    let slices: Vec<&EndpointSlice> = world
        .slices_of(&key.key)
        .filter_map(|entry| entry.view::<EndpointSlice>())
        .filter(|slice| slice.metadata.labels.get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY))
        .filter(|slice| !slice.metadata.is_terminating())
        .collect();
    let service =
        world.get::<Service>(&key.key).filter(|s| backends::is_managed(s) && !s.metadata.is_terminating());
    let Some(service) = service else {
        actions.extend(slices.iter().map(|slice| Action::delete(&kind::ENDPOINT_SLICE, &slice.metadata)));
        return Plan::actions(actions);
    };
    let backends = backends::of(service, world);
    let mut groups: BTreeMap<Group, BTreeMap<IpAddr, Endpoint>> = BTreeMap::new();
    for backend in &backends {
        groups
            .entry(group_of(backend))
            .or_default()
            .insert(backend.address, endpoint(backend, service, world));
    }
    if topology::is_asked(service) {
        let zones = topology::zones(world);
        groups.values_mut().for_each(|endpoints| topology::hint(endpoints, zones.as_ref()));
    }
    for family in backends::families(service) {
        if !groups.keys().any(|group| group.0 == family) {
            // An empty slice says that the Service was looked at.
            groups.insert((family, Vec::new()), BTreeMap::new());
        }
    }
    let mut used = HashSet::new();
    for (i, (group, endpoints)) in groups.into_iter().enumerate() {
        let random = mix(context.random.wrapping_add(i as u64));
        fill(service, &group, endpoints, &slices, &mut used, random, &mut actions);
    }
    let unused = slices.iter().filter(|slice| !used.contains(slice.metadata.name.as_str()));
    actions.extend(unused.map(|slice| Action::delete(&kind::ENDPOINT_SLICE, &slice.metadata)));
    let mut plan = Plan::actions(actions);
    if backends.is_empty() {
        say_empty(service, world, context, &mut plan);
    }
    plan
}

fn group_of(backend: &Backend) -> Group {
    let family = if backend.address.is_ipv4() { "IPv4" } else { "IPv6" };
    (family, backend.ports.iter().map(port_row).collect())
}

fn port_row(port: &EndpointPort) -> (String, String, u16, Option<String>) {
    (port.name.clone(), port.protocol.clone(), port.port, port.app_protocol.clone())
}

fn endpoint(backend: &Backend, service: &Service, world: &World) -> Endpoint {
    let meta = &backend.pod.metadata;
    let node_name = Some(&backend.pod.spec.node_name).filter(|node| !node.is_empty());
    let node = node_name.and_then(|name| world.get::<Node>(&ObjectKey::cluster(name)));
    let zone = node.map(Node::zone).filter(|zone| !zone.is_empty());
    Endpoint {
        addresses: vec![backend.address.to_string()],
        conditions: EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        },
        hostname: backend.hostname.clone(),
        node_name: node_name.cloned(),
        zone: zone.map(str::to_owned),
        hints: if topology::is_asked(service) {
            None
        } else {
            hints(&service.spec.traffic_distribution, node_name.map(String::as_str), zone)
        },
        target_ref: Some(ObjectReference {
            kind: "Pod".to_owned(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            ..ObjectReference::default()
        }),
    }
}

/// Who should use an endpoint, by the Service's `trafficDistribution`: who is in its zone, or on its node. With nodes the zone is
/// named too, for those that know zones only (KEP-3015).
fn hints(distribution: &str, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let one = |name: Option<&str>| name.map(|name| Hint { name: name.to_owned() }).into_iter().collect();
    let hints = match distribution {
        "PreferClose" | "PreferSameZone" => EndpointHints { for_zones: one(zone), for_nodes: Vec::new() },
        "PreferSameNode" => EndpointHints { for_zones: one(zone), for_nodes: one(node) },
        _ => return None,
    };
    Some(hints).filter(|hints| *hints != EndpointHints::default())
}

/// Brings the slices of one group to these endpoints: each stays where it is, the others fill the room there is, and
/// what is left over gets new slices.
fn fill<'a>(
    service: &Service,
    group: &Group,
    mut wanted: BTreeMap<IpAddr, Endpoint>,
    slices: &[&'a EndpointSlice],
    used: &mut HashSet<&'a str>,
    random: u64,
    actions: &mut Vec<Action>,
) {
    let placeholder = wanted.is_empty();
    let mine = slices.iter().filter(|slice| {
        slice.address_type == group.0
            && slice.ports.iter().map(port_row).eq(group.1.iter().cloned())
            && is_controlled_by(&slice.metadata, &service.metadata.uid)
    });
    let mut kept: Vec<(&EndpointSlice, Vec<Endpoint>)> = Vec::new();
    for slice in mine {
        let stay =
            slice.endpoints.iter().filter_map(|old| wanted.remove(&old.addresses.first()?.parse().ok()?));
        kept.push((slice, stay.collect()));
    }
    let mut rest = wanted.into_values();
    for (_, endpoints) in &mut kept {
        let room = ENDPOINTS_MAX.saturating_sub(endpoints.len());
        endpoints.extend(rest.by_ref().take(room));
    }
    let mut placeholders = usize::from(placeholder);
    for (slice, endpoints) in kept {
        if endpoints.is_empty() {
            if placeholders == 0 {
                continue;
            }
            placeholders -= 1;
        }
        used.insert(slice.metadata.name.as_str());
        let labels = labels(service);
        if slice.endpoints != endpoints || slice.metadata.labels != labels {
            let patch = json!({ "metadata": { "labels": instead(&slice.metadata, &labels) }, "endpoints": endpoints });
            actions.push(Action::patch(&kind::ENDPOINT_SLICE, &slice.metadata, patch));
        }
    }
    let rest: Vec<Endpoint> = rest.collect();
    let mut batches: Vec<&[Endpoint]> = rest.chunks(ENDPOINTS_MAX).collect();
    if placeholders > 0 {
        batches.push(&[]);
    }
    for (i, endpoints) in batches.into_iter().enumerate() {
        let names = (0..8)
            .map(|n| format!("{}-{}", service.metadata.name, suffix(mix(random ^ i as u64).wrapping_add(n))));
        let mut free = names.filter(|name| slices.iter().all(|slice| slice.metadata.name != *name));
        let Some(name) = free.next() else { continue };
        actions.push(Action::Create {
            kind: &kind::ENDPOINT_SLICE,
            object: slice(service, &name, group, endpoints),
        });
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), service.metadata.name.clone());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    if service.spec.cluster_ip == "None" {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels
}

fn slice(service: &Service, name: &str, group: &Group, endpoints: &[Endpoint]) -> Value {
    let ports: Vec<EndpointPort> = group
        .1
        .iter()
        .cloned()
        .map(|(name, protocol, port, app_protocol)| EndpointPort { name, protocol, port, app_protocol })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "generateName": format!("{}-", service.metadata.name),
            "namespace": service.metadata.namespace,
            "labels": labels(service),
            "ownerReferences": [controller_reference(&kind::SERVICE, &service.metadata)],
        },
        "addressType": group.0,
        "endpoints": endpoints,
        "ports": ports,
    })
}

/// A selector that matches no Pod at all is most often a mistake: say so where the user looks, after a while.
fn say_empty(service: &Service, world: &World, context: &Context, plan: &mut Plan) {
    let pods = world.all_in::<weft_api::view::Pod>(&service.metadata.namespace);
    let mut matching =
        pods.filter(|pod| service.spec.selector.iter().all(|(k, v)| pod.metadata.labels.get(k) == Some(v)));
    if matching.next().is_some() {
        return;
    }
    let created = time_of(service.metadata.creation_timestamp.as_deref()).unwrap_or(context.now);
    let age_ms = context.now.as_millisecond().saturating_sub(created.as_millisecond());
    if age_ms < EMPTY_PATIENCE_MS {
        plan.requeue(u64::try_from(EMPTY_PATIENCE_MS - age_ms).unwrap_or(0));
        return;
    }
    let message = format!(
        "no Pod in the namespace has the labels of the selector {}",
        backends::selector_text(service)
    );
    let about = (&kind::SERVICE, &service.metadata);
    plan.actions.push(Action::Record(Event::warning(about, COMPONENT, "NoEndpoints", message)));
}

#[cfg(test)]
mod tests;
