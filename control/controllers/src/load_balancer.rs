//! LoadBalancer Services: an address of the configured pool for each, and the node that announces it. It must not know how
//! an address is announced.
//!
//! **An announcer stays** while it is healthy: which node it becomes is decided by hashing, but no other node's coming or
//! going moves an address. Where no node would do, the last one stays.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::{Value, json};
use weft_api::key::ObjectKey;
use weft_api::kind;
use weft_api::view::network::LoadBalancerIngress;
use weft_api::view::{EndpointSlice, Node, Service};

use crate::action::{Action, Event, key_of};
use crate::backends::families;
use crate::pod_facts::mix;
use crate::settings::Settings;
use crate::table::{Context, Loop, LoopKey, Plan, no_start};
use crate::world::{Applied, World};

/// The class of this load balancer, for Services that name one.
pub(crate) const CLASS: &str = "weft.io/announce";
/// The annotation of a Service that names the node which announces its addresses.
pub(crate) const ANNOUNCED_BY: &str = "weft.io/announced-by";
/// The label of a node that is to announce nothing.
const EXCLUDED_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const COMPONENT: &str = "load-balancer-controller";
/// How often a Service that found no address is tried again, milliseconds.
const RETRY_MS: u64 = 60_000;

pub(crate) const LOOP: Loop = Loop {
    name: "load-balancer",
    watches: &[&kind::SERVICE, &kind::NODE, &kind::ENDPOINT_SLICE],
    start: no_start,
    keys,
    plan,
};

/// Whether the Service is one this loop gives addresses to.
pub(crate) fn is_ours(service: &Service) -> bool {
    let class = service.spec.load_balancer_class.as_deref();
    service.spec.type_ == "LoadBalancer" && class.is_none_or(|class| class == CLASS)
}

fn keys(change: &Applied, world: &World) -> Vec<LoopKey> {
    let key = |key: ObjectKey| LoopKey::new(&kind::SERVICE, key);
    let all = |wanted: fn(&Service) -> bool| {
        let services = world.all::<Service>().filter(|service| is_ours(service) && wanted(service));
        services.map(|service| key(key_of(&service.metadata))).collect::<Vec<_>>()
    };
    if change.kind == &kind::SERVICE {
        let addresses = |entry: Option<&Service>| entry.map(addresses_of).unwrap_or_default();
        let before = addresses(change.before.as_ref().and_then(|entry| entry.view::<Service>()));
        let after = addresses(change.after.as_ref().and_then(|entry| entry.view::<Service>()));
        let mut keys = vec![key(change.key.clone())];
        if before.iter().any(|address| !after.contains(address)) {
            // What one gave back is what another may wait for.
            keys.extend(all(|service| addresses_of(service).len() < families(service).len()));
        }
        return keys;
    }
    if change.kind == &kind::NODE {
        let healthy = |entry: Option<&Node>| entry.map(may_announce);
        let before = healthy(change.before.as_ref().and_then(|entry| entry.view::<Node>()));
        let after = healthy(change.after.as_ref().and_then(|entry| entry.view::<Node>()));
        return if before == after { Vec::new() } else { all(|_| true) };
    }
    let services = change.sides().filter_map(|entry| {
        let name = entry.object.meta.labels.get(crate::world::SERVICE_NAME_LABEL)?;
        let found = ObjectKey::namespaced(change.key.namespace.clone(), name.clone());
        world
            .get::<Service>(&found)
            .filter(|service| is_ours(service) && is_local(service))
            .map(|_| key(found))
    });
    let mut keys: Vec<LoopKey> = services.collect();
    keys.dedup();
    keys
}

fn plan(key: &LoopKey, world: &World, context: &Context) -> Plan {
    let Some(service) = world.get::<Service>(&key.key) else { return Plan::none() };
    let mut plan = Plan::none();
    let ingress = &service.status.load_balancer.ingress;
    if !is_ours(service) {
        // Another load balancer's addresses are its own affair.
        if service.spec.type_ != "LoadBalancer" && !ingress.is_empty() {
            plan.actions.push(give(service, &[]));
        }
        announce(service, None, &mut plan);
        return plan;
    }
    let held = addresses_of(service);
    let (addresses, problem) = match choose(service, &held, world, context.settings) {
        Ok(Choice { addresses, problem }) => (addresses, problem),
        Err(problem) => (Vec::new(), Some(problem)),
    };
    if let Some(problem) = problem {
        plan.actions.push(Action::Record(problem.event(service)));
        plan.requeue(RETRY_MS);
    }
    let wanted = entries(&addresses);
    if *ingress != wanted {
        plan.actions.insert(0, give(service, &wanted));
        if !addresses.is_empty() {
            plan.actions.push(said(service, "IPAllocated", format!("Assigned IP {}", words(&addresses))));
        }
    }
    let node = if addresses.is_empty() { None } else { announcer(service, world) };
    announce(service, node, &mut plan);
    plan
}

/// What a Service is to have.
struct Choice {
    addresses: Vec<IpAddr>,
    /// Why the second family is missing.
    problem: Option<Problem>,
}

/// Why a Service stays without an address, or without one of a family.
#[derive(Debug, PartialEq)]
enum Problem {
    NoPool,
    NoPoolOfFamily(&'static str),
    NotInPool(String),
    OtherFamily(IpAddr, String),
    Taken(IpAddr, ObjectKey),
    Exhausted(String),
}

impl Problem {
    fn event(&self, service: &Service) -> Event {
        let (reason, message) = match self {
            Self::NoPool => (
                "NoAddressPool",
                "no addresses are set aside for LoadBalancer Services: start weft-control with \
                 --load-balancer-pool CIDR or FIRST-LAST"
                    .to_owned(),
            ),
            Self::NoPoolOfFamily(family) => (
                "NoAddressPool",
                format!("no range of --load-balancer-pool has {family} addresses, which the Service wants"),
            ),
            Self::NotInPool(asked) => (
                "AllocationFailed",
                format!("spec.loadBalancerIP {asked} is no address of --load-balancer-pool"),
            ),
            Self::OtherFamily(address, families) => (
                "AllocationFailed",
                format!("spec.loadBalancerIP {address} is of no family of the Service, which has {families}"),
            ),
            Self::Taken(address, owner) => {
                ("AllocationFailed", format!("spec.loadBalancerIP {address} is Service {owner}'s"))
            }
            Self::Exhausted(pool) => (
                "AllocationFailed",
                format!(
                    "every address of --load-balancer-pool {pool} is taken; add a range or remove a Service"
                ),
            ),
        };
        Event::warning((&kind::SERVICE, &service.metadata), COMPONENT, reason, message)
    }
}

/// The addresses the Service is to have: what it holds, as far as it may keep it, and free ones of the pool. A second
/// family is given where the pool has it; that it has not is a problem only to a Service that requires both.
fn choose(service: &Service, held: &[IpAddr], world: &World, settings: &Settings) -> Result<Choice, Problem> {
    let pool = &settings.load_balancer_pool;
    if pool.is_empty() {
        return Err(Problem::NoPool);
    }
    let taken = taken(service, world);
    let asked = match service.spec.load_balancer_ip.as_str() {
        "" => None,
        text => {
            let address = text.parse::<IpAddr>().ok().filter(|a| pool.iter().any(|range| range.contains(*a)));
            Some(address.ok_or_else(|| Problem::NotInPool(text.to_owned()))?)
        }
    };
    let names = families(service);
    let families: Vec<bool> = names.iter().map(|family| *family == "IPv4").collect();
    if let Some(address) = asked.filter(|address| !families.contains(&address.is_ipv4())) {
        return Err(Problem::OtherFamily(address, names.join(", ")));
    }
    if let Some(address) = asked
        && let Some(owner) = taken.get(&address)
    {
        return Err(Problem::Taken(address, owner.clone()));
    }
    let required = service.spec.ip_family_policy == "RequireDualStack";
    let mut chosen = Choice { addresses: Vec::new(), problem: None };
    for (i, v4) in families.into_iter().enumerate() {
        let of_family = || pool.iter().filter(move |range| range.is_ipv4() == v4);
        if of_family().next().is_none() {
            let problem = Problem::NoPoolOfFamily(names[i]);
            if i == 0 {
                return Err(problem);
            }
            chosen.problem = Some(problem).filter(|_| required);
            continue;
        }
        let asked = asked.filter(|address| address.is_ipv4() == v4);
        let kept = held.iter().copied().find(|address| {
            of_family().any(|range| range.contains(*address)) && !taken.contains_key(address)
        });
        let free = || of_family().flat_map(|range| range.addresses()).find(|a| !taken.contains_key(a));
        match asked.or(kept).or_else(free) {
            Some(address) => chosen.addresses.push(address),
            None => {
                let ranges: Vec<String> = of_family().map(ToString::to_string).collect();
                let problem = Problem::Exhausted(ranges.join(", "));
                if i == 0 {
                    return Err(problem);
                }
                chosen.problem = Some(problem);
            }
        }
    }
    Ok(chosen)
}

/// What others hold. Of two with the same address (a restored backup, a hand's edit) the elder keeps it. An address that
/// somebody has as an external one is not given either.
fn taken(service: &Service, world: &World) -> HashMap<IpAddr, ObjectKey> {
    let age = |service: &Service| (service.metadata.creation_timestamp.clone(), key_of(&service.metadata));
    let own = age(service);
    let mut taken = HashMap::new();
    for other in world.all::<Service>().filter(|other| other.metadata.uid != service.metadata.uid) {
        let key = key_of(&other.metadata);
        let external = other.spec.external_ips.iter().filter_map(|ip| ip.parse().ok());
        taken.extend(external.map(|ip: IpAddr| (ip, key.clone())));
        let held = addresses_of(other);
        let mine = addresses_of(service);
        let held = held.into_iter().filter(|address| !mine.contains(address) || age(other) < own);
        taken.extend(held.map(|address| (address, key.clone())));
    }
    taken
}

/// The addresses a LoadBalancer Service has by its status.
fn addresses_of(service: &Service) -> Vec<IpAddr> {
    if service.spec.type_ != "LoadBalancer" {
        return Vec::new();
    }
    service.status.load_balancer.ingress.iter().filter_map(|entry| entry.ip.parse().ok()).collect()
}

fn entries(addresses: &[IpAddr]) -> Vec<LoadBalancerIngress> {
    let entry = |address: &IpAddr| LoadBalancerIngress {
        ip: address.to_string(),
        hostname: String::new(),
        ip_mode: "VIP".to_owned(),
    };
    addresses.iter().map(entry).collect()
}

fn give(service: &Service, ingress: &[LoadBalancerIngress]) -> Action {
    let ingress = if ingress.is_empty() { Value::Null } else { json!(ingress) };
    Action::status(&kind::SERVICE, &service.metadata, json!({ "loadBalancer": { "ingress": ingress } }))
}

fn words(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn said(service: &Service, reason: &str, message: String) -> Action {
    Action::Record(Event::normal((&kind::SERVICE, &service.metadata), COMPONENT, reason, message))
}

/// Writes who announces, if that changes. Without a revision: one annotation is replaced, nothing else is touched, and the
/// status of the same plan has been written just before.
fn announce(service: &Service, node: Option<&str>, plan: &mut Plan) {
    let now = service.metadata.annotations.get(ANNOUNCED_BY).map(String::as_str);
    if now == node {
        return;
    }
    plan.actions.push(Action::Patch {
        kind: &kind::SERVICE,
        key: key_of(&service.metadata),
        uid: service.metadata.uid.clone(),
        resource_version: None,
        subresource: None,
        patch: json!({ "metadata": { "annotations": { (ANNOUNCED_BY): node } } }),
    });
    if let Some(node) = node {
        plan.actions.push(said(service, "NodeAssigned", format!("announcing from node {node:?}")));
    }
}

/// The node that announces the Service's addresses: the one that does while it can, else the one that the hash says.
fn announcer<'a>(service: &'a Service, world: &'a World) -> Option<&'a str> {
    let now = service.metadata.annotations.get(ANNOUNCED_BY).map(String::as_str);
    let serving = is_local(service).then(|| serving_nodes(service, world));
    let fit = |node: &Node| {
        let name = node.metadata.name.as_str();
        may_announce(node) && serving.as_ref().is_none_or(|nodes| nodes.contains(&name))
    };
    if let Some(now) = now
        && world.get::<Node>(&ObjectKey::cluster(now)).is_some_and(fit)
    {
        return Some(now);
    }
    let fitting = world.all::<Node>().filter(|node| fit(node)).map(|node| node.metadata.name.as_str());
    // Rendezvous hashing: a node that goes moves its own addresses only.
    let chosen = fitting.max_by_key(|node| weight(&service.metadata.uid, node));
    chosen.or_else(|| now.filter(|now| world.get::<Node>(&ObjectKey::cluster(*now)).is_some()))
}

/// A number for a pair, the same for ever (FNV-1a, spread).
fn weight(uid: &str, node: &str) -> u64 {
    let bytes = uid.bytes().chain([0]).chain(node.bytes());
    mix(bytes
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)))
}

fn is_local(service: &Service) -> bool {
    service.spec.external_traffic_policy == "Local"
}

/// Whether a node is healthy, and may stand for the cluster towards its network.
fn may_announce(node: &Node) -> bool {
    let ready = node.status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
    ready && !node.metadata.is_terminating() && !node.metadata.labels.contains_key(EXCLUDED_LABEL)
}

/// The nodes with endpoints that take connections: ready ones, or where there are none at all, those that terminate but
/// still serve.
fn serving_nodes<'a>(service: &Service, world: &'a World) -> Vec<&'a str> {
    let key = key_of(&service.metadata);
    let endpoints = || {
        let slices = world.slices_of(&key).filter_map(|entry| entry.view::<EndpointSlice>());
        slices.flat_map(|slice| &slice.endpoints)
    };
    let publish = service.spec.publish_not_ready_addresses;
    let on = |takes: &dyn Fn(bool, bool, bool) -> bool| -> Vec<&'a str> {
        let found = endpoints().filter(|endpoint| {
            let conditions = &endpoint.conditions;
            let ready = conditions.ready.unwrap_or(true);
            takes(ready, conditions.serving.unwrap_or(ready), conditions.terminating.unwrap_or(false))
        });
        found.filter_map(|endpoint| endpoint.node_name.as_deref()).collect()
    };
    let ready = on(&|ready, _, terminating| (ready || publish) && !terminating);
    if ready.is_empty() { on(&|_, serving, terminating| serving && terminating) } else { ready }
}

#[cfg(test)]
mod tests;
